/* csrc/aggregate/consensus_avx2.c */
#include "consensus_kernels.h"
#include <immintrin.h>
#include <math.h>

static inline __m256d wide(const float *x) { return _mm256_cvtps_pd(_mm_loadu_ps(x)); }

void cg_add_row_avx2(size_t n, const float *x, const float *ahead, double *sum) {
    size_t c = 0;
    for (; c + 16 <= n; c += 16) {
        _mm_prefetch((const char *)(ahead + c), _MM_HINT_T0);
        for (size_t v = c; v < c + 16; v += 4)
            _mm256_storeu_pd(sum + v, _mm256_add_pd(_mm256_loadu_pd(sum + v), wide(x + v)));
    }
    for (; c < n; c++) sum[c] += (double)x[c];
}

double cg_distance_avx2(size_t n, const float *x, const double *mean) {
    __m256d s[4];
    size_t c = 0;
    for (int v = 0; v < 4; v++) s[v] = _mm256_setzero_pd();
    for (; c + 16 <= n; c += 16)
        for (size_t v = 0; v < 4; v++) {
            const __m256d d = _mm256_sub_pd(wide(x + c + 4 * v), _mm256_loadu_pd(mean + c + 4 * v));
            s[v] = _mm256_fmadd_pd(d, d, s[v]);
        }
    double part[4], total;
    _mm256_storeu_pd(part, _mm256_add_pd(_mm256_add_pd(s[0], s[1]), _mm256_add_pd(s[2], s[3])));
    total = (part[0] + part[1]) + (part[2] + part[3]);
    for (; c < n; c++) {
        const double d = (double)x[c] - mean[c];
        total = fma(d, d, total);
    }
    return total;
}

int cg_nonfinite_avx2(size_t n, const float *x) {
    const __m256i ones = _mm256_set1_epi32(0x7F800000); /* exponent all ones: Inf or NaN */
    __m256i found = _mm256_setzero_si256();
    size_t c = 0;
    for (; c + 8 <= n; c += 8) {
        const __m256i e = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(const void *)(x + c)), ones);
        found = _mm256_or_si256(found, _mm256_cmpeq_epi32(e, ones));
    }
    int any = !_mm256_testz_si256(found, found);
    for (; c < n; c++) any |= !isfinite(x[c]);
    return any;
}
