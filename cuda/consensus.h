/* cuda/consensus.h -- how far apart the models are, and their weighted average, on a device. */
#ifndef CG_CUDA_CONSENSUS_H
#define CG_CUDA_CONSENSUS_H
#include "consensus_index.h"
#include "device.h"
#include "nonfinite_index.h"
#ifdef __cplusplus
extern "C" {
#endif

/* csrc/aggregate/consensus.h on a device. mean: p float64, with the CPU's bits. sum_sq: one float64; it differs from
 * the CPU's by at most (k + p) eps64 relative and is the same from run to run. part: ceil(p / CG_CONSENSUS_COLUMNS)
 * float64 of work space. rows: k row numbers, checked by the caller, or NULL: all n. k >= 1. Floor: a read
 * of 4 k p bytes, or two of them where k > CG_CONSENSUS_ROWS. */
int cg_cuda_consensus_f32(int device, void *stream, size_t p, const float *x, size_t ldx, size_t k, const int64_t *rows,
                          double *mean, double *part, double *sum_sq, cg_err *err);

/* out[c] = sum_i weights[i] x_rows[i][c]: p float32, the bits of a mixing row with these entries. weights: k float32.
 * Floor: a read of 4 k p bytes. */
int cg_cuda_average_f32(int device, void *stream, size_t p, const float *x, size_t ldx, size_t k, const int64_t *rows,
                        const float *weights, float *out, cg_err *err);

/* *out = i p + c of the first value that is not finite, in the order of the rows that count and then of columns, or
 * CG_NOWHERE. part: k ceil(p / CG_SEEK_PIECE) values of work space. Floor: a read of 4 k p bytes. */
int cg_cuda_find_nonfinite_f32(int device, void *stream, size_t p, const float *x, size_t ldx, size_t k,
                               const int64_t *rows, uint64_t *part, uint64_t *out, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
