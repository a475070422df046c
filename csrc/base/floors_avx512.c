/* csrc/base/floors_avx512.c -- the floors with AVX-512. */
#include "floors_kernels.h"
#include <immintrin.h>
#include <stdint.h>

float cg_floor_fma_avx512(size_t turns) {
    __m512 a[CG_FLOOR_CHAINS];
    const __m512 m = _mm512_set1_ps(0.999f), c = _mm512_set1_ps(1e-3f);
    for (int i = 0; i < CG_FLOOR_CHAINS; i++) a[i] = c;
    for (; turns; turns--)
        for (int i = 0; i < CG_FLOOR_CHAINS; i++) a[i] = _mm512_fmadd_ps(a[i], m, c);
    for (int i = 1; i < CG_FLOOR_CHAINS; i++) a[0] = _mm512_add_ps(a[0], a[i]);
    return _mm512_reduce_add_ps(a[0]);
}

void cg_floor_stream_avx512(size_t n, const float *src, float *dst) {
    size_t i = 0;
    for (; i < n && ((uintptr_t)(dst + i) & 63); i++) dst[i] = src[i];
    for (; i + 16 <= n; i += 16) _mm512_stream_ps(dst + i, _mm512_loadu_ps(src + i));
    _mm_sfence();
    for (; i < n; i++) dst[i] = src[i];
}

float cg_floor_read_avx512(size_t n, const float *src) {
    __m512 a[8];
    size_t i = 0;
    for (int k = 0; k < 8; k++) a[k] = _mm512_setzero_ps();
    for (; i + 128 <= n; i += 128)
        for (size_t k = 0; k < 8; k++) a[k] = _mm512_add_ps(a[k], _mm512_loadu_ps(src + i + 16 * k));
    for (int k = 1; k < 8; k++) a[0] = _mm512_add_ps(a[0], a[k]);
    float s = _mm512_reduce_add_ps(a[0]);
    for (; i < n; i++) s += src[i];
    return s;
}
