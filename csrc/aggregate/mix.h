/* csrc/aggregate/mix.h -- sparse gossip over a fleet of models: X <- W X, several rounds in one pass over memory.
 *
 * Idea: columns of X do not depend on each other. The first round reads a strip of columns of all rows where it lies,
 * later ones find it in cache, and the last one writes it back: the traffic is 8 n p bytes whatever the number of
 * rounds (SkipTrain's synchronization rounds: Dhasade et al., "Energy-aware decentralized learning with intermittent
 * model training", 2024). While one strip is computed, the next is prefetched row by row, so arithmetic and memory
 * overlap. */
#ifndef CG_MIX_H
#define CG_MIX_H
#include "../base/err.h"
#include "csr.h"
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

/* Y = W[rounds - 1] ... W[1] W[0] X, with a matrix of its own for every round and block of columns.
 *
 * x: (n, p) in rows ldx elements apart, ldx >= p; y: the same with ldy. Columns from p on are neither read nor written.
 * y may be x itself with ldy == ldx (in place); it may not overlap x otherwise, nor the matrices (CG_EALIAS).
 * col_start: blocks + 1 values that do not decrease, from 0 to p: block b is columns [col_start[b], col_start[b + 1]).
 * table: [round * blocks + block], rounds >= 1; every matrix has n rows. They are checked (CG_EVALUE: indptr from 0 and
 * not decreasing, indices in [0, n)) and copied first: after any error y is unchanged.
 *
 * y[i] is the sum over the entries of row i in their order, one FMA each (base: multiply, then add) in float32, from
 * 0; a row without entries gives zeros. An entry of weight 0 is left out: it costs nothing and carries no NaN. k fused
 * rounds give the bits of k calls, and neither the number of threads nor the cut into blocks changes any.
 * Error of one round: at most k eps sum_j |w_ij x_j| for k entries in the row (2 k eps on base).
 * Floor: 8 n p bytes of memory traffic, or 2 nnz p rounds flops. Memory: 128 KiB a thread up to n = 1024, else 128 n
 * bytes, and 8 bytes an entry. n <= 2^24 (CG_EVALUE). */
int cg_mix_f32(size_t n, size_t p, const float *x, size_t ldx, float *y, size_t ldy, size_t rounds, size_t blocks,
               const size_t *col_start, const cg_csr *const *table, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
