/* csrc/aggregate/mix_avx2.c -- a line is two registers. */
#include "mix_kernels.h"
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

/* A copy of the pass by value: its fields stay in registers, where the compiler could not prove that a store through
 * dst leaves *p alone. */
INLINE void move(const cg_mix_pass p, size_t i, const size_t halves) {
    if (p.in) {
        const float *x = p.x + i * p.ldx;
        float *in = p.in + i * p.width;
        for (size_t v = 0; v < halves; v++) _mm256_store_ps(in + 8 * v, _mm256_loadu_ps(x + 8 * v));
        const size_t a = i + p.ahead;
        const float *next = a < p.n ? p.x + a * p.ldx : p.beyond ? p.beyond + (a - p.n) * p.ldx : x;
        for (size_t v = 0; v < halves; v += 2) _mm_prefetch((const char *)(next + 8 * v), _MM_HINT_T0);
    }
    if (p.out) {
        const float *out = p.out + i * p.width;
        float *y = p.y + i * p.ldy;
        if (p.stream)
            for (size_t v = 0; v < halves; v++) _mm256_stream_ps(y + 8 * v, _mm256_load_ps(out + 8 * v));
        else
            for (size_t v = 0; v < halves; v++) _mm256_storeu_ps(y + 8 * v, _mm256_load_ps(out + 8 * v));
    }
}

INLINE void rows(const cg_mix_pass p, const size_t halves, const int moving) {
    const char *const src = (const char *)p.src;
    const cg_mix_edge *e = p.edges;
    size_t mover = p.first, wait = p.wait;
    for (size_t i = 0; i < p.n; i++) {
        const cg_mix_edge *const end = p.edges + p.start[i + 1];
        __m256 sum[2 * CG_MIX_LINES];
        for (size_t v = 0; v < halves; v++) sum[v] = _mm256_setzero_ps();
        for (; e < end; e++) {
            const float *const s = (const float *)(src + e->from);
            const __m256 w = _mm256_set1_ps(e->weight);
            for (size_t v = 0; v < halves; v++) sum[v] = _mm256_fmadd_ps(w, _mm256_load_ps(s + 8 * v), sum[v]);
        }
        float *const d = p.dst + i * p.width;
        for (size_t v = 0; v < halves; v++) _mm256_store_ps(d + 8 * v, sum[v]);
        if (moving && --wait == 0) {
            move(p, mover++, halves);
            wait = p.pace;
        }
    }
}

void cg_mix_pass_avx2(const cg_mix_pass *p, size_t lines) {
    const int moving = p->in || p->out;
    if (lines == 4)
        moving ? rows(*p, 8, 1) : rows(*p, 8, 0);
    else if (lines == 2)
        moving ? rows(*p, 4, 1) : rows(*p, 4, 0);
    else
        moving ? rows(*p, 2, 1) : rows(*p, 2, 0);
    if (p->out && p->stream) _mm_sfence();
}
