/* csrc/router/search_base.c -- the reference. */
#include "search_kernels.h"

enum { LANES = 16 }; /* partial sums: keeps the error small, and compilers find the vector in it */

void cg_scores_base(int l2, size_t rows, size_t d, const float *x, size_t ldx, const float *q, float *out) {
    for (size_t i = 0; i < rows; i++, x += ldx) {
        float part[LANES] = {0}, total = 0.0f;
        for (size_t j = 0; j < d; j++) {
            const float a = l2 ? x[j] - q[j] : x[j];
            part[j % LANES] += a * (l2 ? a : q[j]);
        }
        for (size_t l = 0; l < LANES; l++) total += part[l];
        out[i] = total;
    }
}

uint64_t cg_candidates_base(const float *product, const float *length, const float *limit, float slack, float shift,
                            float scale) {
    uint64_t out = 0;
    for (size_t j = 0; j < CG_GROUP; j++)
        if (!(product[j] + slack * length[j] + shift < scale * limit[j])) out |= UINT64_C(1) << j;
    return out;
}
