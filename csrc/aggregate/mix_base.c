/* csrc/aggregate/mix_base.c -- the reference: multiply, then add. The compiler makes vectors of the inner loops. */
#include "mix_kernels.h"
#include <string.h>

static void move(const cg_mix_pass *p, size_t i, size_t bytes) {
    if (p->in) {
        const size_t a = i + p->ahead;
        memcpy(p->in + i * p->width, p->x + i * p->ldx, bytes);
        if (a < p->n) {
            __builtin_prefetch(p->x + a * p->ldx);
        } else if (p->beyond) {
            __builtin_prefetch(p->beyond + (a - p->n) * p->ldx);
        }
    }
    if (p->out) memcpy(p->y + i * p->ldy, p->out + i * p->width, bytes);
}

void cg_mix_pass_base(const cg_mix_pass *p, size_t lines) {
    size_t mover = p->first, wait = p->wait;
    for (size_t i = 0; i < p->n; i++) {
        for (size_t v = 0; v < lines; v++) {
            float sum[CG_MIX_LINE] = {0};
            for (uint32_t e = p->start[i]; e < p->start[i + 1]; e++) {
                const float *s = p->src + p->edges[e].from / sizeof(float) + CG_MIX_LINE * v;
                const float w = p->edges[e].weight;
                for (size_t c = 0; c < CG_MIX_LINE; c++) sum[c] += w * s[c];
            }
            memcpy(p->dst + i * p->width + CG_MIX_LINE * v, sum, sizeof sum);
        }
        if (--wait == 0) {
            move(p, mover++, lines * CG_MIX_LINE * sizeof(float));
            wait = p->pace;
        }
    }
}
