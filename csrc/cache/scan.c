#include "scan.h"
#include "../base/isa.h"
#include "scan_kernels.h"

static cg_scan_fn *const scan_of[CG_ISA_COUNT][2] = {
    [CG_ISA_BASE] = {cg_scan_l2_base, cg_scan_ip_base},
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = {cg_scan_l2_avx2, cg_scan_ip_avx2},
    [CG_ISA_AVX512] = {cg_scan_l2_avx512, cg_scan_ip_avx512},
#endif
};

#define FAR 1e18f /* its square fits a float32, and so does a chunk of them */

size_t cg_scan_padded(size_t dim) { return (dim + CG_CHUNK - 1) / CG_CHUNK * CG_CHUNK; }

static size_t lane_at(size_t dpad, size_t row) { return row / CG_LANES * dpad * CG_LANES + row % CG_LANES; }

void cg_scan_put(float *keys, size_t dpad, size_t row, const float *from) {
    float *const to = keys + lane_at(dpad, row);
    for (size_t j = 0; j < dpad; j++) to[j * CG_LANES] = from[j];
}

void cg_scan_get(const float *keys, size_t dim, size_t dpad, size_t row, float *to) {
    const float *const from = keys + lane_at(dpad, row);
    for (size_t j = 0; j < dim; j++) to[j] = from[j * CG_LANES];
}

void cg_scan_far(float *keys, size_t dpad, size_t row) {
    float *const to = keys + lane_at(dpad, row);
    for (size_t j = 0; j < CG_CHUNK; j++) to[j * CG_LANES] = FAR;
}

size_t cg_scan_next(int ip, const float *keys, size_t dpad, size_t group, size_t end, const float *q, float bound,
                    float total[CG_LANES]) {
    return scan_of[cg_isa()][ip != 0](keys, dpad, group, end, q, bound, total);
}
