/* csrc/gossip/csr.h -- what makes three arrays a graph or a mixing matrix: the checks, each naming the bad entry.
 *
 * CSR: row i holds columns indices[indptr[i] ... indptr[i+1]-1], ascending, no column twice. indptr: (n+1,) from 0 to
 * nnz. A graph is the open neighbourhood of every node (no self loops), a mixing matrix the closed one with weights.
 * All functions are O(n + nnz), read their arguments only, and fail with CG_EVALUE (content) or CG_ENOMEM. */
#ifndef CG_GOSSIP_CSR_H
#define CG_GOSSIP_CSR_H
#include "../base/err.h"
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

/* Row sums and symmetric pairs may be off by this much: float32 rounding of a thousand weights stays far below it. */
#define CG_MIXING_TOLERANCE 1e-6

enum { CG_CHECK_SUMS = 1, CG_CHECK_SYMMETRY = 2 };

/* The structure alone. After it every index is safe to follow. n, nnz <= INT32_MAX. */
int cg_csr_check(size_t n, size_t nnz, const int32_t *indptr, const int32_t *indices, cg_err *err);
/* An undirected graph: cg_csr_check, no self loop, and j in row i whenever i is in row j. */
int cg_graph_check(size_t n, size_t nnz, const int32_t *indptr, const int32_t *indices, cg_err *err);
/* A mixing matrix: cg_csr_check, finite weights (any sign), and with the flags of `what`: every row sums to 1, w_ij =
 * w_ji (a missing entry is 0), both within CG_MIXING_TOLERANCE. The error tells the worst row or entry and its value.
 */
int cg_mixing_check(size_t n, size_t nnz, const int32_t *indptr, const int32_t *indices, const float *weights, int what,
                    cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
