/* csrc/aggregate/consensus_kernels.h -- the inner loops behind consensus.h, over a piece of one row. */
#ifndef CG_CONSENSUS_KERNELS_H
#define CG_CONSENSUS_KERNELS_H
#include <stddef.h>

/* sum[c] += (float64)x[c], 0 <= c < n. `ahead`: a piece of the same length to prefetch. */
typedef void cg_add_row_fn(size_t n, const float *x, const float *ahead, double *sum);
/* sum_c (x[c] - mean[c])^2 */
typedef double cg_distance_fn(size_t n, const float *x, const double *mean);
/* Is a NaN or an infinity among x[0 ... n-1]? */
typedef int cg_nonfinite_fn(size_t n, const float *x);

cg_add_row_fn cg_add_row_base, cg_add_row_avx2, cg_add_row_avx512;
cg_distance_fn cg_distance_base, cg_distance_avx2, cg_distance_avx512;
cg_nonfinite_fn cg_nonfinite_base, cg_nonfinite_avx2, cg_nonfinite_avx512;
#endif
