/* csrc/aggregate/mix_avx512.c -- a line is one register. */
#include "mix_kernels.h"
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

/* A copy of the pass by value: its fields stay in registers, where the compiler could not prove that a store through
 * dst leaves *p alone. */
INLINE void move(const cg_mix_pass p, size_t i, const size_t lines) {
    if (p.in) {
        const float *x = p.x + i * p.ldx;
        float *in = p.in + i * p.width;
        for (size_t v = 0; v < lines; v++) _mm512_store_ps(in + 16 * v, _mm512_loadu_ps(x + 16 * v));
        const size_t a = i + p.ahead;
        const float *next = a < p.n ? p.x + a * p.ldx : p.beyond ? p.beyond + (a - p.n) * p.ldx : x;
        for (size_t v = 0; v < lines; v++) _mm_prefetch((const char *)(next + 16 * v), _MM_HINT_T0);
    }
    if (p.out) {
        const float *out = p.out + i * p.width;
        float *y = p.y + i * p.ldy;
        if (p.stream)
            for (size_t v = 0; v < lines; v++) _mm512_stream_ps(y + 16 * v, _mm512_load_ps(out + 16 * v));
        else
            for (size_t v = 0; v < lines; v++) _mm512_storeu_ps(y + 16 * v, _mm512_load_ps(out + 16 * v));
    }
}

INLINE void rows(const cg_mix_pass p, const size_t lines, const int moving) {
    const char *const src = (const char *)p.src;
    const cg_mix_edge *e = p.edges;
    size_t mover = p.first, wait = p.wait;
    for (size_t i = 0; i < p.n; i++) {
        const cg_mix_edge *const end = p.edges + p.start[i + 1];
        __m512 sum[CG_MIX_LINES];
        for (size_t v = 0; v < lines; v++) sum[v] = _mm512_setzero_ps();
        for (; e < end; e++) {
            const float *const s = (const float *)(src + e->from);
            const __m512 w = _mm512_set1_ps(e->weight);
            for (size_t v = 0; v < lines; v++) sum[v] = _mm512_fmadd_ps(w, _mm512_load_ps(s + 16 * v), sum[v]);
        }
        float *const d = p.dst + i * p.width;
        for (size_t v = 0; v < lines; v++) _mm512_store_ps(d + 16 * v, sum[v]);
        if (moving && --wait == 0) {
            move(p, mover++, lines);
            wait = p.pace;
        }
    }
}

void cg_mix_pass_avx512(const cg_mix_pass *p, size_t lines) {
    const int moving = p->in || p->out;
    if (lines == 4)
        moving ? rows(*p, 4, 1) : rows(*p, 4, 0);
    else if (lines == 2)
        moving ? rows(*p, 2, 1) : rows(*p, 2, 0);
    else
        moving ? rows(*p, 1, 1) : rows(*p, 1, 0);
    if (p->out && p->stream) _mm_sfence();
}
