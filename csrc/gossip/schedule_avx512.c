/* csrc/gossip/schedule_avx512.c -- sixteen nodes' Philox blocks side by side, one lane each. */
#include "schedule_kernels.h"
#include <immintrin.h>

/* CG_FOR_COIN: philox.h is not included here, nor anything else with code in it. */
#define FOR_COIN 1u

/* a ^ b ^ c */
static inline __m512i xor3(__m512i a, __m512i b, __m512i c) { return _mm512_ternarylogic_epi32(a, b, c, 0x96); }

/* Word 0 of Philox4x32-10 at {0, node, round, FOR_COIN} for eight nodes, in the low words of the 64-bit lanes: there
 * the multiplication finds its operands and leaves its low word, and what is in the high words does not matter. */
static inline __m512i coins8(uint64_t seed, __m512i node, uint32_t round) {
    const __m512i m0 = _mm512_set1_epi32((int)0xD2511F53u), m1 = _mm512_set1_epi32((int)0xCD9E8D57u);
    __m512i c0 = _mm512_setzero_si512(), c1 = node, c2 = _mm512_set1_epi32((int)round);
    __m512i c3 = _mm512_set1_epi32((int)FOR_COIN);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int r = 0; r < 10; r++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        const __m512i p0 = _mm512_mul_epu32(c0, m0), p1 = _mm512_mul_epu32(c2, m1);
        c0 = xor3(_mm512_srli_epi64(p1, 32), c1, _mm512_set1_epi32((int)k0));
        c2 = xor3(_mm512_srli_epi64(p0, 32), c3, _mm512_set1_epi32((int)k1));
        c1 = p1;
        c3 = p0;
    }
    return c0;
}

static inline __m512i coins(uint64_t seed, __m512i node, uint32_t round) {
    const __m512i even = coins8(seed, node, round), odd = coins8(seed, _mm512_srli_epi64(node, 32), round);
    return _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
}

void cg_slot_avx512(uint64_t seed, uint32_t first_node, uint32_t round, const uint32_t *last, uint32_t *left,
                    uint8_t *action) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (uint32_t i = 0; i < CG_SLOT_NODES; i += 16) {
        const __m512i t = _mm512_loadu_si512(last + i), rest = _mm512_loadu_si512(left + i);
        __mmask16 train = _mm512_test_epi32_mask(rest, rest);
        if (_mm512_mask_cmpneq_epi32_mask(train, t, _mm512_set1_epi32(-1))) { /* some able node is not sure to train */
            const __m512i node = _mm512_add_epi32(_mm512_set1_epi32((int)(first_node + i)), lane);
            train = _mm512_mask_cmple_epu32_mask(train, coins(seed, node, round), t);
        }
        _mm512_storeu_si512(left + i, _mm512_mask_sub_epi32(rest, train, rest, _mm512_set1_epi32(1)));
        _mm_storeu_si128((__m128i *)(action + i), _mm_maskz_set1_epi8(train, 1));
    }
}

double cg_round_energy_avx512(size_t n, const uint8_t *action, const double *e) {
    __m512d sum = _mm512_setzero_pd();
    double lane[8];
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m128i bytes = _mm_loadl_epi64((const __m128i *)(action + i));
        const __mmask8 trained = (__mmask8)_mm_test_epi8_mask(bytes, bytes);
        sum = _mm512_mask_add_pd(sum, trained, sum, _mm512_loadu_pd(e + i));
    }
    _mm512_storeu_pd(lane, sum);
    for (; i < n; i++) lane[i % 8] += action[i] ? e[i] : 0.0;
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}
