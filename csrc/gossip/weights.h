/* csrc/gossip/weights.h -- Metropolis-Hastings mixing weights (SkipTrain, section 2.1; Xiao and Boyd, "Fast linear
 * iterations for distributed averaging", 2004).
 *
 * w_ij = 1 / (1 + max(degree_i, degree_j)) for an edge, w_ii = 1 - sum_j w_ij: symmetric, doubly stochastic on any
 * graph, because an edge looks at the degrees of both its ends. */
#ifndef CG_GOSSIP_WEIGHTS_H
#define CG_GOSSIP_WEIGHTS_H
#include "../base/err.h"
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

/* indptr (n+1,), indices (nnz,): an undirected graph, checked by cg_graph_check. Out, overlapping nothing: w_indptr
 * (n+1,), w_indices (nnz+n,) ascending with the diagonal, weights (nnz+n,). The diagonal is 1 minus the float64 sum of
 * the rounded float32 weights beside it, so a row's sum is 1 to the rounding of its diagonal alone (6e-8); a node
 * without neighbours keeps 1. Fails if nnz + n > INT32_MAX. O(n + nnz). */
int cg_metropolis_weights(size_t n, size_t nnz, const int32_t *indptr, const int32_t *indices, int32_t *w_indptr,
                          int32_t *w_indices, float *weights, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
