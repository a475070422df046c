/* csrc/base/floors_base.c -- vectors of four through the compiler's portable extension: SSE2, NEON or scalar code. */
#include "floors_kernels.h"
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

typedef float v4 __attribute__((vector_size(16)));

float cg_floor_fma_base(size_t turns) {
    v4 a[CG_FLOOR_CHAINS], t = {0};
    const v4 m = {0.999f, 0.998f, 0.997f, 0.996f}, c = {1e-3f, 2e-3f, 3e-3f, 4e-3f};
    for (int i = 0; i < CG_FLOOR_CHAINS; i++) a[i] = c;
    for (; turns; turns--)
        for (int i = 0; i < CG_FLOOR_CHAINS; i++) a[i] = a[i] * m + c;
    for (int i = 0; i < CG_FLOOR_CHAINS; i++) t += a[i];
    return t[0] + t[1] + t[2] + t[3];
}

void cg_floor_stream_base(size_t n, const float *src, float *dst) {
    size_t i = 0;
#if defined(__SSE2__)
    for (; i < n && ((uintptr_t)(dst + i) & 63); i++) dst[i] = src[i];
    for (; i + 16 <= n; i += 16)
        for (size_t k = 0; k < 16; k += 4) _mm_stream_ps(dst + i + k, _mm_loadu_ps(src + i + k));
    _mm_sfence();
#endif
    memcpy(dst + i, src + i, (n - i) * sizeof(float));
}

float cg_floor_read_base(size_t n, const float *src) {
    v4 a[8] = {{0}}, t = {0}, x;
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        for (size_t k = 0; k < 8; k++) {
            memcpy(&x, src + i + 4 * k, sizeof x);
            a[k] += x;
        }
    for (size_t k = 0; k < 8; k++) t += a[k];
    float s = t[0] + t[1] + t[2] + t[3];
    for (; i < n; i++) s += src[i];
    return s;
}
