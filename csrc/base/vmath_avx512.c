#include "simd_avx512.h"
#include "vmath_simd.h"

void cg_exp_f32_avx512(size_t n, const float *x, float *y) {
    for (; n >= SIMD_WIDTH; n -= SIMD_WIDTH, x += SIMD_WIDTH, y += SIMD_WIDTH) v_store(y, v_exp(v_load(x)));
    if (n) v_store_n(y, n, v_exp(v_load_n(x, n, 0.0f)));
}

void cg_tanh_f32_avx512(size_t n, const float *x, float *y) {
    for (; n >= SIMD_WIDTH; n -= SIMD_WIDTH, x += SIMD_WIDTH, y += SIMD_WIDTH) v_store(y, v_tanh(v_load(x)));
    if (n) v_store_n(y, n, v_tanh(v_load_n(x, n, 0.0f)));
}
