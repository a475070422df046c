/* csrc/router/search.h -- exact search in a matrix of vectors: inner product, squared L2 or cosine.
 *
 * Few queries: one pass over the rows, a product a row and query. Many: the packed product (base/gemm.h) of blocks of
 * rows with up to 64 queries only sorts out rows that cannot be among the best, by a bound on the rounding of both
 * ways; the rest, some k log(n / k) a query, get the same product as a query that comes alone. So a score is a function
 * of its row and its query: not of the batch, the number of threads, or the row's place, and searching parts of a
 * matrix and merging gives the bits of searching the whole.
 *
 * Floor: 4 n d bytes a batch at the memory's speed, or 2 n d b flops. Error of a product: at most
 * (d / 4W + W + 4) eps sum |x_i q_i|, W the vector width; squared L2 is a sum of squared differences, with no
 * cancellation. */
#ifndef CG_SEARCH_H
#define CG_SEARCH_H
#include "../base/err.h"
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef enum cg_search_metric {
    CG_SEARCH_IP,     /* x . q, larger is better */
    CG_SEARCH_L2,     /* |x - q|^2, smaller is better */
    CG_SEARCH_COSINE, /* x . q / |x|, larger is better: the cosine for q of unit length; 0 for a zero row */
    CG_SEARCH_METRICS
} cg_search_metric;

/* The best k rows of x for every query, best first, of equal scores the lower row.
 * x: (n, d), rows ldx apart. norms: (n,), |x_i| as cg_stats_rows gives them. q: (b, d), rows ldq apart.
 * scores, rows: (b, k); where there is no more (k > n), the worst infinity and -1. A NaN score and the worst infinity
 * are never returned. Fails with CG_ENOMEM, CG_EVALUE for an unknown metric. */
int cg_search_flat(cg_search_metric metric, size_t n, size_t d, const float *x, size_t ldx, const float *norms,
                   size_t b, const float *q, size_t ldq, size_t k, float *scores, int64_t *rows, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
