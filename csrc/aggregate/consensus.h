/* csrc/aggregate/consensus.h -- what is asked of a fleet every round: how far apart are the models, is one broken?
 *
 * Both read X once; the floor is a streaming read of 4 n p bytes. */
#ifndef CG_CONSENSUS_H
#define CG_CONSENSUS_H
#include "../base/err.h"
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

/* The mean of the rows and their squared distance to it: mean[c] = 1/k sum_i x_i[c], *sum_sq = sum_i ||x_i - mean||^2.
 *
 * x: (n, p) in rows ldx elements apart, ldx >= p. rows: the k rows that count, each in [0, n) (CG_EVALUE), a row that
 * stands twice counts twice; NULL: all, k is then ignored. No row at all is CG_EVALUE. mean: p values, no overlap with
 * x. Float64 throughout; two steps over a tile of columns in cache, never a difference of large sums. NaN and Inf give
 * what arithmetic gives. The same bits for any number of threads; error at most k eps64 relative in the mean, and
 * (k + p) eps64 in sum_sq. */
int cg_consensus_f32(size_t n, size_t p, const float *x, size_t ldx, size_t k, const int64_t *rows, double *mean,
                     double *sum_sq, cg_err *err);

/* The first NaN or infinity, in the order of the given rows and then of columns: *row (the row of x) and *col, or both
 * -1 when every value is finite. Arguments as above; no row is no finding. */
int cg_find_nonfinite_f32(size_t n, size_t p, const float *x, size_t ldx, size_t k, const int64_t *rows, int64_t *row,
                          int64_t *col, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
