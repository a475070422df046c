/* csrc/base/vmath_simd.h -- exp and tanh of one vector. Include after simd_avx2.h or simd_avx512.h. */
#ifndef CG_VMATH_SIMD_H
#define CG_VMATH_SIMD_H
#include "vmath_kernels.h"

SIMD_INLINE vf v_exp(vf x) {
    x = v_max(v_set1(CG_EXP_LEAST), v_min(v_set1(CG_EXP_MOST), x));
    const vf n = v_round(v_mul(x, v_set1(CG_LOG2_E)));
    const vf r = v_fnma(n, v_set1(CG_LN2_LOW), v_fnma(n, v_set1(CG_LN2_HIGH), x));
    vf p = v_fma(v_set1(CG_EXP_P0), r, v_set1(CG_EXP_P1));
    p = v_fma(p, r, v_set1(CG_EXP_P2));
    p = v_fma(p, r, v_set1(CG_EXP_P3));
    p = v_fma(p, r, v_set1(CG_EXP_P4));
    p = v_fma(p, r, v_set1(CG_EXP_P5));
    return v_scale2(v_add(v_fma(p, v_mul(r, r), r), v_set1(1.0f)), n);
}

SIMD_INLINE vf v_tanh(vf x) {
    const vf a = v_abs(x), one = v_set1(1.0f), z = v_mul(x, x);
    const vf large = v_sub(one, v_div(v_set1(2.0f), v_add(v_exp(v_add(a, a)), one)));
    vf p = v_fma(v_set1(CG_TANH_P0), z, v_set1(CG_TANH_P1));
    p = v_fma(p, z, v_set1(CG_TANH_P2));
    p = v_fma(p, z, v_set1(CG_TANH_P3));
    p = v_fma(p, z, v_set1(CG_TANH_P4));
    const vf small = v_fma(v_mul(p, z), x, x);
    return v_choose(v_less(a, v_set1(CG_TANH_SMALL)), small, v_with_sign(large, x));
}
#endif
