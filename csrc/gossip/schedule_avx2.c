/* csrc/gossip/schedule_avx2.c -- eight nodes' Philox blocks side by side, one lane each. */
#include "schedule_kernels.h"
#include <immintrin.h>

/* CG_FOR_COIN: philox.h is not included here, nor anything else with code in it. */
#define FOR_COIN 1u

/* Word 0 of Philox4x32-10 at {0, node, round, FOR_COIN} for four nodes, in the low words of the 64-bit lanes: there the
 * multiplication finds its operands and leaves its low word, and what is in the high words does not matter. */
static inline __m256i coins4(uint64_t seed, __m256i node, uint32_t round) {
    const __m256i m0 = _mm256_set1_epi32((int)0xD2511F53u), m1 = _mm256_set1_epi32((int)0xCD9E8D57u);
    __m256i c0 = _mm256_setzero_si256(), c1 = node, c2 = _mm256_set1_epi32((int)round);
    __m256i c3 = _mm256_set1_epi32((int)FOR_COIN);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int r = 0; r < 10; r++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        const __m256i p0 = _mm256_mul_epu32(c0, m0), p1 = _mm256_mul_epu32(c2, m1);
        c0 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), c1), _mm256_set1_epi32((int)k0));
        c2 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), c3), _mm256_set1_epi32((int)k1));
        c1 = p1;
        c3 = p0;
    }
    return c0;
}

static inline __m256i coins(uint64_t seed, __m256i node, uint32_t round) {
    const __m256i even = coins4(seed, node, round), odd = coins4(seed, _mm256_srli_epi64(node, 32), round);
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
}

void cg_slot_avx2(uint64_t seed, uint32_t first_node, uint32_t round, const uint32_t *last, uint32_t *left,
                  uint8_t *action) {
    const __m256i zero = _mm256_setzero_si256(), ones = _mm256_set1_epi32(-1);
    for (uint32_t i = 0; i < CG_SLOT_NODES; i += 8) {
        const __m256i t = _mm256_loadu_si256((const __m256i *)(last + i));
        const __m256i rest = _mm256_loadu_si256((const __m256i *)(left + i));
        __m256i train = _mm256_xor_si256(_mm256_cmpeq_epi32(rest, zero), ones);
        if (!_mm256_testc_si256(_mm256_cmpeq_epi32(t, ones), train)) { /* some able node is not sure to train */
            const __m256i node =
                _mm256_add_epi32(_mm256_set1_epi32((int)(first_node + i)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
            const __m256i coin = coins(seed, node, round);
            train = _mm256_and_si256(train, _mm256_cmpeq_epi32(_mm256_max_epu32(coin, t), t));
        }
        _mm256_storeu_si256((__m256i *)(left + i), _mm256_add_epi32(rest, train)); /* train is -1 */
        const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(train), _mm256_extracti128_si256(train, 1));
        const __m128i bytes = _mm_and_si128(_mm_packs_epi16(words, words), _mm_set1_epi8(1));
        _mm_storel_epi64((__m128i *)(action + i), bytes);
    }
}

double cg_round_energy_avx2(size_t n, const uint8_t *action, const double *e) {
    __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd(); /* lanes 0-3 and 4-7 */
    const __m256i zero = _mm256_setzero_si256();
    double lane[8];
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m128i bytes = _mm_loadl_epi64((const __m128i *)(action + i));
        const __m256i first = _mm256_cvtepu8_epi64(bytes), second = _mm256_cvtepu8_epi64(_mm_srli_si128(bytes, 4));
        const __m256d rest0 = _mm256_castsi256_pd(_mm256_cmpeq_epi64(first, zero));
        const __m256d rest1 = _mm256_castsi256_pd(_mm256_cmpeq_epi64(second, zero));
        low = _mm256_add_pd(low, _mm256_andnot_pd(rest0, _mm256_loadu_pd(e + i)));
        high = _mm256_add_pd(high, _mm256_andnot_pd(rest1, _mm256_loadu_pd(e + i + 4)));
    }
    _mm256_storeu_pd(lane, low);
    _mm256_storeu_pd(lane + 4, high);
    for (; i < n; i++) lane[i % 8] += action[i] ? e[i] : 0.0;
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}
