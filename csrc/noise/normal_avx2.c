#include "../base/simd_avx2.h"

typedef __m256i vi; /* eight 32-bit integers */

SIMD_INLINE vi i_set1(uint32_t x) { return _mm256_set1_epi32((int)x); }
SIMD_INLINE vi i_from(uint32_t x) { return _mm256_add_epi32(i_set1(x), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
SIMD_INLINE vi i_sub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
SIMD_INLINE vi i_xor(vi a, vi b) { return _mm256_xor_si256(a, b); }
SIMD_INLINE vi i_and(vi a, vi b) { return _mm256_and_si256(a, b); }
SIMD_INLINE vi i_or(vi a, vi b) { return _mm256_or_si256(a, b); }
SIMD_INLINE vi i_shift_left(vi a, int n) { return _mm256_slli_epi32(a, n); }
SIMD_INLINE vi i_shift_signed(vi a, int n) { return _mm256_srai_epi32(a, n); }
SIMD_INLINE vf i_to_float(vi a) { return _mm256_cvtepi32_ps(a); }
SIMD_INLINE vi i_of_bits(vf a) { return _mm256_castps_si256(a); }
SIMD_INLINE vf v_of_bits(vi a) { return _mm256_castsi256_ps(a); }
SIMD_INLINE vf v_flip(vf a, vi bits) { return _mm256_xor_ps(a, _mm256_castsi256_ps(bits)); }
SIMD_INLINE vf v_sqrt(vf a) { return _mm256_sqrt_ps(a); }
SIMD_INLINE vmask i_sign(vi a) { return _mm256_castsi256_ps(a); } /* v_choose looks at sign bits only */
/* 64-bit products of unsigned lanes, halves apart. */
SIMD_INLINE void i_multiply(vi a, vi b, vi *high, vi *low) {
    const vi even = _mm256_mul_epu32(a, b);
    const vi odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
    *low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
    *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
}
/* Lane b of n[i] to out[4 b + i]. */
SIMD_INLINE void store_blocks(float *out, const vf n[4]) {
    const vf a = _mm256_unpacklo_ps(n[0], n[1]), b = _mm256_unpackhi_ps(n[0], n[1]);
    const vf c = _mm256_unpacklo_ps(n[2], n[3]), d = _mm256_unpackhi_ps(n[2], n[3]);
    const vf p = _mm256_shuffle_ps(a, c, 0x44), q = _mm256_shuffle_ps(a, c, 0xEE); /* blocks 0 and 4, 1 and 5 */
    const vf r = _mm256_shuffle_ps(b, d, 0x44), s = _mm256_shuffle_ps(b, d, 0xEE); /* blocks 2 and 6, 3 and 7 */
    v_store(out, _mm256_permute2f128_ps(p, q, 0x20));
    v_store(out + 8, _mm256_permute2f128_ps(r, s, 0x20));
    v_store(out + 16, _mm256_permute2f128_ps(p, q, 0x31));
    v_store(out + 24, _mm256_permute2f128_ps(r, s, 0x31));
}

#include "normal_simd.h"
