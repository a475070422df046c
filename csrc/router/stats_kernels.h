/* csrc/router/stats_kernels.h -- the rows of stats.c's table. */
#ifndef CG_STATS_KERNELS_H
#define CG_STATS_KERNELS_H
#include <stddef.h>

/* cg_stats_rows for one block, on the calling thread; a row that is not finite gets such a norm. */
typedef void cg_stats_fn(size_t n, size_t d, const float *x, size_t ldx, double *sum, double *unit, float *norms);
cg_stats_fn cg_stats_base, cg_stats_avx2, cg_stats_avx512;
#endif
