/* csrc/noise/normal_simd.h -- normal_core.h for a vector of Philox blocks: the same operations, lane by lane. Include
 * after simd_avx2.h or simd_avx512.h and the words for integers of the including file. */
#ifndef CG_NORMAL_SIMD_H
#define CG_NORMAL_SIMD_H
#include "normal_core.h"
#include "normal_kernels.h"

/* Lanes of the four words of Philox4x32-10 (base/philox.c), in place. */
SIMD_INLINE void philox_rounds(vi w[4], const uint32_t key[2]) {
    const vi m0 = i_set1(0xD2511F53u), m1 = i_set1(0xCD9E8D57u);
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        vi high0, low0, high1, low1;
        i_multiply(w[0], m0, &high0, &low0);
        i_multiply(w[2], m1, &high1, &low1);
        w[0] = i_xor(i_xor(high1, w[1]), i_set1(k0));
        w[2] = i_xor(i_xor(high0, w[3]), i_set1(k1));
        w[1] = low1;
        w[3] = low0;
    }
}

SIMD_INLINE vf normal_radius(vi r0) {
    const vf w = v_fma(i_to_float(r0), v_set1(0x1p-32f), v_set1(0x1p-33f));
    const vf u = v_add(w, v_choose(v_less(w, v_zero()), v_set1(1.0f), v_zero()));
    const vi e = i_shift_signed(i_sub(i_of_bits(u), i_set1(CG_SQRT_HALF_BITS)), 23);
    const vf n = i_to_float(e), m = v_of_bits(i_sub(i_of_bits(u), i_shift_left(e, 23)));
    const vf f = v_choose(v_less(n, v_zero()), v_add(m, v_set1(-1.0f)), w); /* e is never above 0 */
    const vf z = v_mul(f, f);
    vf p = v_fma(v_set1(CG_LOG_P0), f, v_set1(CG_LOG_P1));
    p = v_fma(p, f, v_set1(CG_LOG_P2));
    p = v_fma(p, f, v_set1(CG_LOG_P3));
    p = v_fma(p, f, v_set1(CG_LOG_P4));
    p = v_fma(p, f, v_set1(CG_LOG_P5));
    p = v_fma(p, f, v_set1(CG_LOG_P6));
    p = v_fma(p, f, v_set1(CG_LOG_P7));
    p = v_fma(p, f, v_set1(CG_LOG_P8));
    p = v_fma(v_mul(p, f), z, v_mul(n, v_set1(CG_LN2_LO)));
    p = v_fma(v_set1(-0.5f), z, p);
    p = v_fma(n, v_set1(CG_LN2_HI), v_add(f, p));
    return v_sqrt(v_mul(v_set1(-2.0f), p));
}

SIMD_INLINE void normal_pair(vi r0, vi r1, vf *even, vf *odd) {
    const vf radius = normal_radius(r0);
    const vf x = v_mul(i_to_float(i_or(i_shift_left(r1, 2), i_set1(2))), v_set1(CG_QUARTER_TURN)), z = v_mul(x, x);
    vf s = v_fma(v_set1(CG_SIN_P0), z, v_set1(CG_SIN_P1));
    s = v_fma(s, z, v_set1(CG_SIN_P2));
    s = v_fma(v_mul(s, z), x, x);
    vf c = v_fma(v_set1(CG_COS_P0), z, v_set1(CG_COS_P1));
    c = v_fma(c, z, v_set1(CG_COS_P2));
    c = v_fma(v_mul(c, z), z, v_fma(v_set1(-0.5f), z, v_set1(1.0f)));
    const vi doubled = i_shift_left(r1, 1), sign = i_set1(0x80000000u);
    const vmask swap = i_sign(doubled);
    *even = v_mul(radius, v_flip(v_choose(swap, s, c), i_and(i_xor(r1, doubled), sign)));
    *odd = v_mul(radius, v_flip(v_choose(swap, c, s), i_and(r1, sign)));
}

void SIMD(cg_normal_f32)(const uint32_t counter[4], const uint32_t key[2], size_t blocks, float *out) {
    enum { VALUES = 4 * SIMD_WIDTH };
    float rest[VALUES];
    for (size_t b = 0; b < blocks; b += SIMD_WIDTH) {
        vi w[4] = {i_from(counter[0] + (uint32_t)b), i_set1(counter[1]), i_set1(counter[2]), i_set1(counter[3])};
        philox_rounds(w, key);
        vf n[4];
        normal_pair(w[0], w[1], n, n + 1);
        normal_pair(w[2], w[3], n + 2, n + 3);
        const int whole = blocks - b >= SIMD_WIDTH;
        store_blocks(whole ? out + 4 * b : rest, n);
        if (!whole) memcpy(out + 4 * b, rest, 4 * (blocks - b) * sizeof(float));
    }
}
#endif
