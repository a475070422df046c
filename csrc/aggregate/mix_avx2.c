/* csrc/aggregate/mix_avx2.c -- a line is two registers. */
#include "mix_kernels.h"
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

/* A copy of the pass by value: its fields stay in registers, where the compiler could not prove that a store through
 * dst leaves *p alone. */
INLINE void rows(const cg_mix_pass p, const size_t halves) {
    const cg_mix_edge *e = p.edges;
    const float *next = p.next ? p.next + p.first * p.next_ld : NULL;
    size_t wait = p.wait;
    for (size_t i = 0; i < p.n; i++) {
        const cg_mix_edge *const end = p.edges + p.start[i + 1];
        __m256 sum[2 * CG_MIX_LINES];
        for (size_t v = 0; v < halves; v++) sum[v] = _mm256_setzero_ps();
        for (; e < end; e++) {
            const float *const s = p.src + e->from * p.src_ld;
            const __m256 w = _mm256_set1_ps(e->weight);
            for (size_t v = 0; v < halves; v++) sum[v] = _mm256_fmadd_ps(w, _mm256_loadu_ps(s + 8 * v), sum[v]);
        }
        if (next && --wait == 0) {
            for (size_t v = 0; v < halves; v += 2) _mm_prefetch((const char *)(next + 8 * v), _MM_HINT_T1);
            next += p.next_ld;
            wait = p.pace;
        }
        float *const d = p.dst + i * p.dst_ld;
        if (p.stream)
            for (size_t v = 0; v < halves; v++) _mm256_stream_ps(d + 8 * v, sum[v]);
        else
            for (size_t v = 0; v < halves; v++) _mm256_storeu_ps(d + 8 * v, sum[v]);
    }
}

void cg_mix_pass_avx2(const cg_mix_pass *p, size_t lines) {
    if (lines == 4)
        rows(*p, 8);
    else if (lines == 2)
        rows(*p, 4);
    else
        rows(*p, 2);
    if (p->stream) _mm_sfence();
}
