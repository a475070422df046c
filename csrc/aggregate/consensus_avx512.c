/* csrc/aggregate/consensus_avx512.c */
#include "consensus_kernels.h"
#include <immintrin.h>

static inline __m512d wide(const float *x) { return _mm512_cvtps_pd(_mm256_loadu_ps(x)); }

void cg_add_row_avx512(size_t n, const float *x, const float *ahead, double *sum) {
    size_t c = 0;
    for (; c + 16 <= n; c += 16) {
        _mm_prefetch((const char *)(ahead + c), _MM_HINT_T0);
        _mm512_storeu_pd(sum + c, _mm512_add_pd(_mm512_loadu_pd(sum + c), wide(x + c)));
        _mm512_storeu_pd(sum + c + 8, _mm512_add_pd(_mm512_loadu_pd(sum + c + 8), wide(x + c + 8)));
    }
    for (; c < n; c++) sum[c] += (double)x[c];
}

double cg_distance_avx512(size_t n, const float *x, const double *mean) {
    __m512d s[4];
    size_t c = 0;
    for (int v = 0; v < 4; v++) s[v] = _mm512_setzero_pd();
    for (; c + 32 <= n; c += 32)
        for (size_t v = 0; v < 4; v++) {
            const __m512d d = _mm512_sub_pd(wide(x + c + 8 * v), _mm512_loadu_pd(mean + c + 8 * v));
            s[v] = _mm512_fmadd_pd(d, d, s[v]);
        }
    double total = _mm512_reduce_add_pd(_mm512_add_pd(_mm512_add_pd(s[0], s[1]), _mm512_add_pd(s[2], s[3])));
    for (; c < n; c++) {
        const double d = (double)x[c] - mean[c];
        total = __builtin_fma(d, d, total);
    }
    return total;
}

int cg_nonfinite_avx512(size_t n, const float *x) {
    enum { QUIET_NAN = 0x01, PLUS_INF = 0x08, MINUS_INF = 0x10, SIGNALLING_NAN = 0x80 };
    enum { NONFINITE = QUIET_NAN | PLUS_INF | MINUS_INF | SIGNALLING_NAN };
    __mmask16 found = 0;
    size_t c = 0;
    for (; c + 16 <= n; c += 16) found |= _mm512_fpclass_ps_mask(_mm512_loadu_ps(x + c), NONFINITE);
    if (c < n) {
        const __mmask16 rest = (__mmask16)((1u << (n - c)) - 1u);
        found |= _mm512_fpclass_ps_mask(_mm512_maskz_loadu_ps(rest, x + c), NONFINITE);
    }
    return found != 0;
}
