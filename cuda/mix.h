/* cuda/mix.h -- sparse gossip on a device: Y = W[rounds - 1] ... W[0] X, a matrix for every round and column block.
 *
 * Bits: those of csrc/aggregate's kernels with FMA. Floor: 8 n p bytes of memory traffic where a tile of all rows fits
 * in shared memory (one round: n up to about 6,700 on sm_90, 4,700 on sm_80; more rounds: 3,600 and 2,600), else 8 n p
 * bytes a round. */
#ifndef CG_CUDA_MIX_H
#define CG_CUDA_MIX_H
#include "device.h"
#include "mix_index.h"
#ifdef __cplusplus
extern "C" {
#endif

/* Columns of a tile on this device: *fused 1 where all rounds are one launch, else one launch each. rounds >= 1. The
 * plan's first_tile counts tiles of *width columns. */
int cg_cuda_mix_tile(int device, size_t n, size_t rounds, size_t *width, int *fused, cg_err *err);

/* x, y: (n, p) floats, rows ldx, ldy apart. `tiles`: plan->first_tile[blocks]. fused: y may be x with ldy == ldx, work
 * is not used. Else: y and x do not overlap, and from two rounds on work is (n, ldy) floats overlapping neither. */
int cg_cuda_mix_f32(int device, void *stream, const cg_mix_plan *plan, size_t tiles, size_t width, int fused,
                    const float *x, size_t ldx, float *y, size_t ldy, float *work, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
