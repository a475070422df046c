/* csrc/cache/lsh_simd.h -- projections, once for all vector widths: no FMA, so that all give the same bits. Include
 * after simd_avx2.h or simd_avx512.h. */
#ifndef CG_LSH_SIMD_H
#define CG_LSH_SIMD_H
#include "lsh_kernels.h"

enum { VECS = CG_LSH_LANES / SIMD_WIDTH };

SIMD_INLINE void project(const size_t count, size_t dpad, const float *planes, const float *q,
                         float part[4][CG_LSH_LANES]) {
    vf sum[4][VECS];
#pragma GCC unroll 4
    for (size_t p = 0; p < count; p++)
        for (size_t v = 0; v < VECS; v++) sum[p][v] = v_zero();
    for (size_t j = 0; j < dpad; j += CG_LSH_LANES)
#pragma GCC unroll 2
        for (size_t v = 0; v < VECS; v++) {
            const vf x = v_load(q + j + v * SIMD_WIDTH);
#pragma GCC unroll 4
            for (size_t p = 0; p < count; p++)
                sum[p][v] = v_add(sum[p][v], v_mul(v_load(planes + p * dpad + j + v * SIMD_WIDTH), x));
        }
#pragma GCC unroll 4
    for (size_t p = 0; p < count; p++)
        for (size_t v = 0; v < VECS; v++) v_store(part[p] + v * SIMD_WIDTH, sum[p][v]);
}

void SIMD(cg_project)(size_t count, size_t dpad, const float *planes, const float *q, float part[4][CG_LSH_LANES]) {
    if (count == 4)
        project(4, dpad, planes, q, part);
    else
        for (size_t p = 0; p < count; p++) project(1, dpad, planes + p * dpad, q, part + p);
}
#endif
