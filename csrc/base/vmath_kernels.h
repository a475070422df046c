/* csrc/base/vmath_kernels.h -- the rows of vmath.c's tables, and the constants all of them share. */
#ifndef CG_VMATH_KERNELS_H
#define CG_VMATH_KERNELS_H
#include <stddef.h>

typedef void cg_vmath_fn(size_t n, const float *x, float *y);
cg_vmath_fn cg_exp_f32_base, cg_exp_f32_avx2, cg_exp_f32_avx512;
cg_vmath_fn cg_tanh_f32_base, cg_tanh_f32_avx2, cg_tanh_f32_avx512;

#define CG_EXP_LEAST -104.0f /* exp is 0 from here down ... */
#define CG_EXP_MOST 89.0f    /* ... and inf from here up */
#define CG_LOG2_E 0x1.715476p+0f
#define CG_LN2_HIGH 0x1.63p-1f /* few bits: n * CG_LN2_HIGH is exact */
#define CG_LN2_LOW -0x1.bd0106p-13f
#define CG_EXP_P0 1.9875691500e-4f
#define CG_EXP_P1 1.3981999507e-3f
#define CG_EXP_P2 8.3334519073e-3f
#define CG_EXP_P3 4.1665795894e-2f
#define CG_EXP_P4 1.6666665459e-1f
#define CG_EXP_P5 5.0000001201e-1f
#define CG_TANH_SMALL 0.625f
#define CG_TANH_P0 -5.70498872745e-3f
#define CG_TANH_P1 2.06390887954e-2f
#define CG_TANH_P2 -5.37397155531e-2f
#define CG_TANH_P3 1.33314422036e-1f
#define CG_TANH_P4 -3.33332819422e-1f
#endif
