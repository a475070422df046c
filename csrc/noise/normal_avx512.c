#include "../base/simd_avx512.h"

typedef __m512i vi; /* sixteen 32-bit integers */

SIMD_INLINE vi i_set1(uint32_t x) { return _mm512_set1_epi32((int)x); }
SIMD_INLINE vi i_from(uint32_t x) {
    return _mm512_add_epi32(i_set1(x), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}
SIMD_INLINE vi i_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
SIMD_INLINE vi i_xor(vi a, vi b) { return _mm512_xor_si512(a, b); }
SIMD_INLINE vi i_and(vi a, vi b) { return _mm512_and_si512(a, b); }
SIMD_INLINE vi i_or(vi a, vi b) { return _mm512_or_si512(a, b); }
SIMD_INLINE vi i_shift_left(vi a, unsigned n) { return _mm512_slli_epi32(a, n); }
SIMD_INLINE vi i_shift_signed(vi a, unsigned n) { return _mm512_srai_epi32(a, n); }
SIMD_INLINE vf i_to_float(vi a) { return _mm512_cvtepi32_ps(a); }
SIMD_INLINE vi i_of_bits(vf a) { return _mm512_castps_si512(a); }
SIMD_INLINE vf v_of_bits(vi a) { return _mm512_castsi512_ps(a); }
SIMD_INLINE vf v_flip(vf a, vi bits) { return _mm512_xor_ps(a, _mm512_castsi512_ps(bits)); }
SIMD_INLINE vf v_sqrt(vf a) { return _mm512_sqrt_ps(a); }
SIMD_INLINE vmask i_sign(vi a) { return _mm512_movepi32_mask(a); }
SIMD_INLINE void i_multiply(vi a, vi b, vi *high, vi *low) {
    const vi even = _mm512_mul_epu32(a, b);
    const vi odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32));
    *low = _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
    *high = _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
}
/* Lane b of n[i] to out[4 b + i]. */
SIMD_INLINE void store_blocks(float *out, const vf n[4]) {
    const vf a = _mm512_unpacklo_ps(n[0], n[1]), b = _mm512_unpackhi_ps(n[0], n[1]);
    const vf c = _mm512_unpacklo_ps(n[2], n[3]), d = _mm512_unpackhi_ps(n[2], n[3]);
    const vf p = _mm512_shuffle_ps(a, c, 0x44), q = _mm512_shuffle_ps(a, c, 0xEE); /* blocks 0, 4, 8, 12; 1, 5, ... */
    const vf r = _mm512_shuffle_ps(b, d, 0x44), s = _mm512_shuffle_ps(b, d, 0xEE);
    const vf pq = _mm512_shuffle_f32x4(p, q, 0x44), rs = _mm512_shuffle_f32x4(r, s, 0x44); /* 0, 4, 1, 5; 2, 6, 3, 7 */
    const vf tu = _mm512_shuffle_f32x4(p, q, 0xEE), vw = _mm512_shuffle_f32x4(r, s, 0xEE);
    v_store(out, _mm512_shuffle_f32x4(pq, rs, 0x88));
    v_store(out + 16, _mm512_shuffle_f32x4(pq, rs, 0xDD));
    v_store(out + 32, _mm512_shuffle_f32x4(tu, vw, 0x88));
    v_store(out + 48, _mm512_shuffle_f32x4(tu, vw, 0xDD));
}

#include "normal_simd.h"
