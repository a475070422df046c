/* csrc/aggregate/mix_base.c -- the reference: multiply, then add. The compiler makes vectors of the inner loops. */
#include "mix_kernels.h"
#include <string.h>

void cg_mix_pass_base(const cg_mix_pass *p, size_t lines) {
    const float *next = p->next ? p->next + p->first * p->next_ld : NULL;
    size_t wait = p->wait;
    for (size_t i = 0; i < p->n; i++) {
        for (size_t v = 0; v < lines; v++) {
            float sum[CG_MIX_LINE] = {0};
            for (uint32_t e = p->start[i]; e < p->start[i + 1]; e++) {
                const float *s = p->src + p->edges[e].from * p->src_ld + CG_MIX_LINE * v;
                const float w = p->edges[e].weight;
                for (size_t c = 0; c < CG_MIX_LINE; c++) sum[c] += w * s[c];
            }
            memcpy(p->dst + i * p->dst_ld + CG_MIX_LINE * v, sum, sizeof sum);
        }
        if (next && --wait == 0) {
            __builtin_prefetch(next);
            next += p->next_ld;
            wait = p->pace;
        }
    }
}
