/* csrc/router/search_kernels.h -- the rows of search.c's tables. */
#ifndef CG_SEARCH_KERNELS_H
#define CG_SEARCH_KERNELS_H
#include <stddef.h>
#include <stdint.h>

enum { CG_GROUP = 64 }; /* queries in a packed product: a bit each in a word */

/* out[i] = x_i . q, or |x_i - q|^2 with l2 != 0; x: (rows, d), ldx apart. A row's result depends on the row alone. */
typedef void cg_scores_fn(int l2, size_t rows, size_t d, const float *x, size_t ldx, const float *q, float *out);
cg_scores_fn cg_scores_base, cg_scores_avx2, cg_scores_avx512;

/* Bit j clear where product[j] + slack * length[j] + shift < scale * limit[j], j < CG_GROUP: query j has no use for
 * the row. Set where either side is NaN. */
typedef uint64_t cg_candidates_fn(const float *product, const float *length, const float *limit, float slack,
                                  float shift, float scale);
cg_candidates_fn cg_candidates_base, cg_candidates_avx2, cg_candidates_avx512;
#endif
