/* csrc/cache/lsh_base.c */
#include "lsh_kernels.h"

void cg_project_base(size_t count, size_t dpad, const float *planes, const float *q, float part[4][CG_LSH_LANES]) {
    for (size_t p = 0; p < count; p++) {
        for (size_t l = 0; l < CG_LSH_LANES; l++) part[p][l] = 0.0f;
        for (size_t j = 0; j < dpad; j += CG_LSH_LANES)
            for (size_t l = 0; l < CG_LSH_LANES; l++) part[p][l] += planes[p * dpad + j + l] * q[j + l];
    }
}
