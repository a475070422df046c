/* csrc/base/simd_avx2.h -- what a float vector is under AVX2 + FMA. For *_avx2.c files only.
 *
 * A kernel that needs nothing exotic is written once, in a <name>_simd.h of its family, in the words defined here, and
 * included by its _avx2.c and its _avx512.c. Everything is static inline: no copy built with wide flags can reach code
 * that runs on other processors. */
#ifndef CG_SIMD_AVX2_H
#define CG_SIMD_AVX2_H
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define SIMD(name) name##_avx2
#define SIMD_INLINE static inline __attribute__((always_inline, unused))
enum { SIMD_WIDTH = 8, SIMD_REGISTERS = 16 };
typedef __m256 vf;
typedef __m256 vmask; /* all bits of a lane set or clear */

SIMD_INLINE vf v_load(const float *p) { return _mm256_loadu_ps(p); }
SIMD_INLINE void v_store(float *p, vf v) { _mm256_storeu_ps(p, v); }
SIMD_INLINE vf v_set1(float x) { return _mm256_set1_ps(x); }
SIMD_INLINE vf v_zero(void) { return _mm256_setzero_ps(); }
SIMD_INLINE vf v_add(vf a, vf b) { return _mm256_add_ps(a, b); }
SIMD_INLINE vf v_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
SIMD_INLINE vf v_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
SIMD_INLINE vf v_div(vf a, vf b) { return _mm256_div_ps(a, b); }
SIMD_INLINE vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }   /* a b + c */
SIMD_INLINE vf v_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); } /* c - a b */
/* Where either is NaN the result is b: v_max(zero, x) and v_min(limit, x) let a NaN in x through. */
SIMD_INLINE vf v_max(vf a, vf b) { return _mm256_max_ps(a, b); }
SIMD_INLINE vf v_min(vf a, vf b) { return _mm256_min_ps(a, b); }
SIMD_INLINE vf v_round(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
SIMD_INLINE vf v_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
SIMD_INLINE vf v_with_sign(vf a, vf sign) { /* |a| given, the sign of `sign` */
    return _mm256_or_ps(a, _mm256_and_ps(_mm256_set1_ps(-0.0f), sign));
}
SIMD_INLINE vmask v_less(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
SIMD_INLINE vf v_choose(vmask m, vf yes, vf no) { return _mm256_blendv_ps(no, yes, m); }
/* x where a is positive or NaN, else 0: the derivative of ReLU, which must not hide a NaN. */
SIMD_INLINE vf v_where_positive(vf a, vf x) {
    return _mm256_and_ps(x, _mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_NLE_UQ));
}
/* a 2^n, |n| <= 160, in two steps, so that the result may be subnormal or overflow to infinity. NaN in n: NaN in a. */
SIMD_INLINE vf v_scale2(vf a, vf n) {
    const __m256i i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1), bias = _mm256_set1_epi32(127);
    const __m256i one = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    const __m256i two = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(i, half), bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(a, _mm256_castsi256_ps(one)), _mm256_castsi256_ps(two));
}
/* The first n lanes, n <= SIMD_WIDTH; memory beyond them is not touched. */
SIMD_INLINE __m256i simd_lanes(size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
SIMD_INLINE vf v_load_n(const float *p, size_t n, float rest) {
    const __m256i m = simd_lanes(n);
    return _mm256_blendv_ps(_mm256_set1_ps(rest), _mm256_maskload_ps(p, m), _mm256_castsi256_ps(m));
}
SIMD_INLINE void v_store_n(float *p, size_t n, vf v) { _mm256_maskstore_ps(p, simd_lanes(n), v); }
SIMD_INLINE float v_sum(vf a) {
    const __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 y = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}
SIMD_INLINE float v_maximum(vf a) {
    const __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 y = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}
#endif
