#include "vmath.h"
#include "isa.h"
#include "vmath_kernels.h"

static cg_vmath_fn *const exp_f32[CG_ISA_COUNT] = {
    [CG_ISA_BASE] = cg_exp_f32_base,
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = cg_exp_f32_avx2,
    [CG_ISA_AVX512] = cg_exp_f32_avx512,
#endif
};
static cg_vmath_fn *const tanh_f32[CG_ISA_COUNT] = {
    [CG_ISA_BASE] = cg_tanh_f32_base,
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = cg_tanh_f32_avx2,
    [CG_ISA_AVX512] = cg_tanh_f32_avx512,
#endif
};

void cg_exp_f32(size_t n, const float *x, float *y) { exp_f32[cg_isa()](n, x, y); }
void cg_tanh_f32(size_t n, const float *x, float *y) { tanh_f32[cg_isa()](n, x, y); }
