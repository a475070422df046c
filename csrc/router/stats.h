/* csrc/router/stats.h -- what a router needs to know of a source's vectors: sums for the centroid and the density.
 *
 * One pass in float64. The centroid is sum / n. The density, the mean cosine of the vectors to the centroid, needs no
 * second pass: mean(x / |x| . c / |c|) = mean(x / |x|) . c / |c|. Floor: 4 n d bytes at the memory's speed. */
#ifndef CG_STATS_H
#define CG_STATS_H
#include "../base/err.h"
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

/* Adds the sum of the rows of x to `sum`, that of the rows at unit length (a zero row adds nothing) to `unit`, (d,)
 * each, and writes |x_i| to norms (n,). x: (n, d), rows ldx apart. The same bits for any number of threads and every
 * instruction set. Fails with CG_EVALUE at the first row with a NaN or an infinity, CG_ENOMEM; sum and unit are then
 * unchanged. */
int cg_stats_rows(size_t n, size_t d, const float *x, size_t ldx, double *sum, double *unit, float *norms, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
