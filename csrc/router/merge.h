/* csrc/router/merge.h -- the best results of all sources, from each source's own best.
 *
 * Exact: if every source gives its own best k, the merged k_out <= k are those of a search in the union, which is never
 * built. Which sources the winners come from are the labels a router learns from. Source: "Efficient Federated Search
 * for Retrieval-Augmented Generation" (EuroMLSys 2025, arXiv 2502.19280). */
#ifndef CG_MERGE_H
#define CG_MERGE_H
#include "../base/err.h"
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

/* scores, ids: (sources, batch, k). An id below 0 is no result, nor is a NaN score; a list that is not in order is put
 * in order. larger: whether larger scores are better.
 * merged, source, id: (batch, k_out); where there is no more, the worst infinity, -1 and -1. counts: (batch, sources),
 * results of each source among them. Outputs overlap nothing.
 * Order: score, then source, then id; the same bits for any number of threads. O(S k + k_out log S) a query; floor:
 * 12 S B k bytes read. Fails with CG_EVALUE (more than 2^31 - 1 sources), CG_ENOMEM. */
int cg_merge_topk(size_t sources, size_t batch, size_t k, const float *scores, const int64_t *ids, int larger,
                  size_t k_out, float *merged, int32_t *source, int64_t *id, int32_t *counts, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
