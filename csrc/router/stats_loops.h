/* csrc/router/stats_loops.h -- the kernel in plain C, for stats_{base,avx2,avx512}.c: compilers vectorise it for each.
 * No sum is reordered and nothing is fused, so all give the same bits. */
#ifndef CG_STATS_LOOPS_H
#define CG_STATS_LOOPS_H
#include "stats_kernels.h"
#include <math.h>

#define INLINE static inline __attribute__((always_inline))
enum { LANES = 16, ROWS = 4 }; /* rows at once: the sums are loaded and stored once for them */

INLINE double square_of(size_t d, const float *x) {
    double part[LANES] = {0}, total = 0.0;
    size_t j = 0;
    for (; j + LANES <= d; j += LANES)
#pragma GCC unroll 16
        for (size_t l = 0; l < LANES; l++) part[l] += (double)x[j + l] * (double)x[j + l];
    for (; j < d; j++) total += (double)x[j] * (double)x[j];
    for (size_t l = 0; l < LANES; l++) total += part[l];
    return total;
}

INLINE void add_rows(const size_t rows, size_t d, const float *x, size_t ldx, double *restrict sum,
                     double *restrict unit, float *norms) {
    double scale[ROWS];
    for (size_t r = 0; r < rows; r++) {
        const double norm = sqrt(square_of(d, x + r * ldx));
        norms[r] = (float)norm;
        scale[r] = norm > 0.0 ? 1.0 / norm : 0.0;
    }
    for (size_t j = 0; j < d; j++) {
        double s = 0.0, u = 0.0;
        for (size_t r = 0; r < rows; r++) {
            const double v = (double)x[r * ldx + j];
            s += v;
            u += v * scale[r];
        }
        sum[j] += s;
        unit[j] += u;
    }
}

INLINE void add_block(size_t n, size_t d, const float *x, size_t ldx, double *sum, double *unit, float *norms) {
    size_t i = 0;
    for (; i + ROWS <= n; i += ROWS) add_rows(ROWS, d, x + i * ldx, ldx, sum, unit, norms + i);
    for (; i < n; i++) add_rows(1, d, x + i * ldx, ldx, sum, unit, norms + i);
}
#endif
