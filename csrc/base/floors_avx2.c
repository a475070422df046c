/* csrc/base/floors_avx2.c -- the floors with AVX2 and FMA. */
#include "floors_kernels.h"
#include <immintrin.h>
#include <stdint.h>

static float sum8(__m256 v) {
    float s[8], t = 0.0f;
    _mm256_storeu_ps(s, v);
    for (int i = 0; i < 8; i++) t += s[i];
    return t;
}

float cg_floor_fma_avx2(size_t turns) {
    __m256 a[CG_FLOOR_CHAINS];
    const __m256 m = _mm256_set1_ps(0.999f), c = _mm256_set1_ps(1e-3f);
    for (int i = 0; i < CG_FLOOR_CHAINS; i++) a[i] = c;
    for (; turns; turns--)
        for (int i = 0; i < CG_FLOOR_CHAINS; i++) a[i] = _mm256_fmadd_ps(a[i], m, c);
    for (int i = 1; i < CG_FLOOR_CHAINS; i++) a[0] = _mm256_add_ps(a[0], a[i]);
    return sum8(a[0]);
}

void cg_floor_stream_avx2(size_t n, const float *src, float *dst) {
    size_t i = 0;
    for (; i < n && ((uintptr_t)(dst + i) & 63); i++) dst[i] = src[i];
    for (; i + 16 <= n; i += 16) {
        _mm256_stream_ps(dst + i, _mm256_loadu_ps(src + i));
        _mm256_stream_ps(dst + i + 8, _mm256_loadu_ps(src + i + 8));
    }
    _mm_sfence();
    for (; i < n; i++) dst[i] = src[i];
}

float cg_floor_read_avx2(size_t n, const float *src) {
    __m256 a[8];
    size_t i = 0;
    for (int k = 0; k < 8; k++) a[k] = _mm256_setzero_ps();
    for (; i + 64 <= n; i += 64)
        for (size_t k = 0; k < 8; k++) a[k] = _mm256_add_ps(a[k], _mm256_loadu_ps(src + i + 8 * k));
    for (int k = 1; k < 8; k++) a[0] = _mm256_add_ps(a[0], a[k]);
    float s = sum8(a[0]);
    for (; i < n; i++) s += src[i];
    return s;
}
