/* csrc/gossip/graph.h -- random regular graphs and connected components. */
#ifndef CG_GOSSIP_GRAPH_H
#define CG_GOSSIP_GRAPH_H
#include "../base/err.h"
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

/* A random simple graph in which each of n nodes has `degree` neighbours; not necessarily connected.
 * nbr: (n, degree), row i = the neighbours of i, ascending. Addressed by (seed; CG_FOR_TOPOLOGY, 0, round): the same
 * bits everywhere. Fails (CG_EVALUE) for n < 1, degree >= n, odd n * degree, n * degree > INT32_MAX.
 * Exactly uniform for degree (or n - 1 - degree) <= 3; above, uniform in the limit of large n (Steger and Wormald,
 * "Generating random regular graphs quickly", Combin. Probab. Comput. 8, 1999; on 6 nodes the same rule is off by 3 %).
 * O(n * degree) expected for sparse graphs; graphs with more than half of all edges come from their complement. */
int cg_regular_graph(size_t n, size_t degree, uint64_t seed, uint32_t round, int32_t *nbr, cg_err *err);

/* label[i] = number of the connected component of node i; components are numbered by their smallest node. *count: how
 * many there are. The graph is checked by cg_graph_check. label: (n,), overlaps no input. O(n + nnz). */
int cg_components(size_t n, size_t nnz, const int32_t *indptr, const int32_t *indices, int32_t *label, size_t *count,
                  cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
