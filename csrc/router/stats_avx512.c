/* csrc/router/stats_avx512.c */
#include "stats_loops.h"

void cg_stats_avx512(size_t n, size_t d, const float *x, size_t ldx, double *sum, double *unit, float *norms) {
    add_block(n, d, x, ldx, sum, unit, norms);
}
