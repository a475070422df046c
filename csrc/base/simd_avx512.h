/* csrc/base/simd_avx512.h -- what a float vector is under AVX-512 (F, BW, DQ, VL). For *_avx512.c files only; the same
 * words as simd_avx2.h, see there. */
#ifndef CG_SIMD_AVX512_H
#define CG_SIMD_AVX512_H
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define SIMD(name) name##_avx512
#define SIMD_INLINE static inline __attribute__((always_inline, unused))
enum { SIMD_WIDTH = 16, SIMD_REGISTERS = 32 };
typedef __m512 vf;
typedef __mmask16 vmask;

SIMD_INLINE vf v_load(const float *p) { return _mm512_loadu_ps(p); }
SIMD_INLINE void v_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
SIMD_INLINE vf v_set1(float x) { return _mm512_set1_ps(x); }
SIMD_INLINE vf v_zero(void) { return _mm512_setzero_ps(); }
SIMD_INLINE vf v_add(vf a, vf b) { return _mm512_add_ps(a, b); }
SIMD_INLINE vf v_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
SIMD_INLINE vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
SIMD_INLINE vf v_div(vf a, vf b) { return _mm512_div_ps(a, b); }
SIMD_INLINE vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
SIMD_INLINE vf v_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
SIMD_INLINE vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
SIMD_INLINE vf v_min(vf a, vf b) { return _mm512_min_ps(a, b); }
SIMD_INLINE vf v_round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
SIMD_INLINE vf v_abs(vf a) { return _mm512_abs_ps(a); }
SIMD_INLINE vf v_with_sign(vf a, vf sign) { return _mm512_or_ps(a, _mm512_and_ps(_mm512_set1_ps(-0.0f), sign)); }
SIMD_INLINE vmask v_less(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
SIMD_INLINE vf v_choose(vmask m, vf yes, vf no) { return _mm512_mask_blend_ps(m, no, yes); }
SIMD_INLINE vf v_where_positive(vf a, vf x) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NLE_UQ), x);
}
SIMD_INLINE vf v_scale2(vf a, vf n) { return _mm512_scalef_ps(a, n); }
SIMD_INLINE __mmask16 simd_lanes(size_t n) { return (__mmask16)((1u << n) - 1u); }
SIMD_INLINE vf v_load_n(const float *p, size_t n, float rest) {
    return _mm512_mask_loadu_ps(_mm512_set1_ps(rest), simd_lanes(n), p);
}
SIMD_INLINE void v_store_n(float *p, size_t n, vf v) { _mm512_mask_storeu_ps(p, simd_lanes(n), v); }
SIMD_INLINE float v_sum(vf a) { return _mm512_reduce_add_ps(a); }
SIMD_INLINE float v_maximum(vf a) { return _mm512_reduce_max_ps(a); }
#endif
