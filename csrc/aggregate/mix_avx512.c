/* csrc/aggregate/mix_avx512.c -- a line is one register. */
#include "mix_kernels.h"
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

/* A copy of the pass by value: its fields stay in registers, where the compiler could not prove that a store through
 * dst leaves *p alone. */
INLINE void rows(const cg_mix_pass p, const size_t lines) {
    const cg_mix_edge *e = p.edges;
    const float *next = p.next ? p.next + p.first * p.next_ld : NULL;
    size_t wait = p.wait;
    for (size_t i = 0; i < p.n; i++) {
        const cg_mix_edge *const end = p.edges + p.start[i + 1];
        __m512 sum[CG_MIX_LINES];
        for (size_t v = 0; v < lines; v++) sum[v] = _mm512_setzero_ps();
        for (; e < end; e++) {
            const float *const s = p.src + e->from * p.src_ld;
            const __m512 w = _mm512_set1_ps(e->weight);
            for (size_t v = 0; v < lines; v++) sum[v] = _mm512_fmadd_ps(w, _mm512_loadu_ps(s + 16 * v), sum[v]);
        }
        if (next && --wait == 0) {
            for (size_t v = 0; v < lines; v++) _mm_prefetch((const char *)(next + 16 * v), _MM_HINT_T1);
            next += p.next_ld;
            wait = p.pace;
        }
        float *const d = p.dst + i * p.dst_ld;
        if (p.stream)
            for (size_t v = 0; v < lines; v++) _mm512_stream_ps(d + 16 * v, sum[v]);
        else
            for (size_t v = 0; v < lines; v++) _mm512_storeu_ps(d + 16 * v, sum[v]);
    }
}

void cg_mix_pass_avx512(const cg_mix_pass *p, size_t lines) {
    if (lines == 4)
        rows(*p, 4);
    else if (lines == 2)
        rows(*p, 2);
    else
        rows(*p, 1);
    if (p->stream) _mm_sfence();
}
