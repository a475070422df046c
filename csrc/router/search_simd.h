/* csrc/router/search_simd.h -- the scores and the sieve, once for all vector widths. Include after simd_avx2.h or
 * simd_avx512.h and after a function bits(mask): its lanes as bits. */
#ifndef CG_SEARCH_SIMD_H
#define CG_SEARCH_SIMD_H
#include "search_kernels.h"

enum { CHAINS = 4 }; /* an FMA takes four cycles */

SIMD_INLINE vf add_part(const int l2, vf x, vf q, vf sum) {
    const vf a = l2 ? v_sub(x, q) : x;
    return v_fma(a, l2 ? a : q, sum);
}

SIMD_INLINE float score(const int l2, size_t d, const float *x, const float *q) {
    vf part[CHAINS];
    for (size_t c = 0; c < CHAINS; c++) part[c] = v_zero();
    size_t j = 0;
    for (; j + CHAINS * SIMD_WIDTH <= d; j += CHAINS * SIMD_WIDTH)
#pragma GCC unroll 4
        for (size_t c = 0; c < CHAINS; c++)
            part[c] = add_part(l2, v_load(x + j + c * SIMD_WIDTH), v_load(q + j + c * SIMD_WIDTH), part[c]);
#pragma GCC unroll 4
    for (size_t c = 0; c < CHAINS; c++, j += SIMD_WIDTH) {
        if (j >= d) break;
        const size_t n = d - j < SIMD_WIDTH ? d - j : SIMD_WIDTH;
        part[c] = add_part(l2, v_load_n(x + j, n, 0.0f), v_load_n(q + j, n, 0.0f), part[c]);
    }
    return v_sum(v_add(v_add(part[0], part[1]), v_add(part[2], part[3])));
}

void SIMD(cg_scores)(int l2, size_t rows, size_t d, const float *x, size_t ldx, const float *q, float *out) {
    if (l2)
        for (size_t i = 0; i < rows; i++) out[i] = score(1, d, x + i * ldx, q);
    else
        for (size_t i = 0; i < rows; i++) out[i] = score(0, d, x + i * ldx, q);
}

uint64_t SIMD(cg_candidates)(const float *product, const float *length, const float *limit, float slack, float shift,
                             float scale) {
    const vf r = v_set1(slack), a = v_set1(shift), w = v_set1(scale);
    uint64_t below = 0;
#pragma GCC unroll 8
    for (size_t j = 0; j < CG_GROUP; j += SIMD_WIDTH) {
        const vf most = v_add(v_fma(r, v_load(length + j), v_load(product + j)), a);
        below |= (uint64_t)bits(v_less(most, v_mul(w, v_load(limit + j)))) << j;
    }
    return ~below;
}
#endif
