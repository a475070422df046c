/* csrc/noise/normal_core.h -- two random words to two normals: the arithmetic, for gcc, clang and nvcc alike.
 *
 * Box and Muller, "A note on the generation of random normal deviates" (1958): u = (r0 + 1/2) 2^-32, radius
 * sqrt(-2 ln u), angle 2 pi (r1 + 1/2 quantum) / 2^32 less an eighth of a turn. Every operation is an integer operation
 * or a correctly rounded one in a fixed order (fused multiply-adds are explicit, no operand is ever subnormal), so
 * every machine computes the same bits. All 32 bits of u count, at both ends: the tail reaches 6.76 (u = 2^-33), and
 * radii near 0 are as fine as u near 1. Coefficients of Moshier's Cephes (logf, sinf, cosf).
 *
 * The includer compiles with -ffp-contract=off on the CPU; on a device the intrinsics forbid contraction. */
#ifndef CG_NORMAL_CORE_H
#define CG_NORMAL_CORE_H
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__)
#define CG_NORMAL_FN static __device__ __forceinline__
#else
#define CG_NORMAL_FN static inline __attribute__((always_inline, unused))
#endif
#if defined(__CUDA_ARCH__)
#define CG_FMA(a, b, c) __fmaf_rn(a, b, c)
#define CG_MUL(a, b) __fmul_rn(a, b)
#define CG_ADD(a, b) __fadd_rn(a, b)
#define CG_SQRT(a) __fsqrt_rn(a)
#else
#if FLT_EVAL_METHOD != 0
#error "float must be computed as float, not wider"
#endif
#define CG_FMA(a, b, c) fmaf(a, b, c) /* IEEE 754's: rounded once, in software where the processor has none */
#define CG_MUL(a, b) ((a) * (b))
#define CG_ADD(a, b) ((a) + (b))
#define CG_SQRT(a) sqrtf(a)
#endif

#define CG_SQRT_HALF_BITS 0x3F3504F3u /* sqrt(1/2): a mantissa is taken from [sqrt(1/2), sqrt(2)) */
#define CG_LN2_HI 0.693359375f        /* few bits: e * CG_LN2_HI is exact */
#define CG_LN2_LO -2.12194440e-4f
#define CG_LOG_P0 7.0376836292e-2f
#define CG_LOG_P1 -1.1514610310e-1f
#define CG_LOG_P2 1.1676998740e-1f
#define CG_LOG_P3 -1.2420140846e-1f
#define CG_LOG_P4 1.4249322787e-1f
#define CG_LOG_P5 -1.6668057665e-1f
#define CG_LOG_P6 2.0000714765e-1f
#define CG_LOG_P7 -2.4999993993e-1f
#define CG_LOG_P8 3.3333331174e-1f
#define CG_QUARTER_TURN 0x1.921fb6p-32f /* (pi / 2) 2^-32 */
#define CG_SIN_P0 -1.9515295891e-4f
#define CG_SIN_P1 8.3321608736e-3f
#define CG_SIN_P2 -1.6666654611e-1f
#define CG_COS_P0 2.443315711809948e-5f
#define CG_COS_P1 -1.388731625493765e-3f
#define CG_COS_P2 4.166664568298827e-2f

CG_NORMAL_FN uint32_t cg_bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

CG_NORMAL_FN float cg_float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* sqrt(-2 ln((r0 + 1/2) 2^-32)). */
CG_NORMAL_FN float cg_normal_radius(uint32_t r0) {
    /* u below 1/2, u - 1 above: near both ends the relative error stays that of a float. Never 0. */
    const float w = CG_FMA((float)(int32_t)r0, 0x1p-32f, 0x1p-33f);
    const float u = CG_ADD(w, w < 0.0f ? 1.0f : 0.0f);
    const int32_t e = (int32_t)(cg_bits_of(u) - CG_SQRT_HALF_BITS) >> 23; /* u = 2^e (1 + f) */
    const float f = e == 0 ? w : CG_ADD(cg_float_of(cg_bits_of(u) - ((uint32_t)e << 23)), -1.0f);
    const float z = CG_MUL(f, f), n = (float)e;
    float p = CG_FMA(CG_LOG_P0, f, CG_LOG_P1);
    p = CG_FMA(p, f, CG_LOG_P2);
    p = CG_FMA(p, f, CG_LOG_P3);
    p = CG_FMA(p, f, CG_LOG_P4);
    p = CG_FMA(p, f, CG_LOG_P5);
    p = CG_FMA(p, f, CG_LOG_P6);
    p = CG_FMA(p, f, CG_LOG_P7);
    p = CG_FMA(p, f, CG_LOG_P8);
    p = CG_FMA(CG_MUL(p, f), z, CG_MUL(n, CG_LN2_LO));
    p = CG_FMA(-0.5f, z, p);
    p = CG_FMA(n, CG_LN2_HI, CG_ADD(f, p)); /* ln u */
    return CG_SQRT(CG_MUL(-2.0f, p));
}

/* The normals 2k and 2k + 1 of an address from its words r0 = 2k and r1 = 2k + 1. */
CG_NORMAL_FN void cg_normal_pair(uint32_t r0, uint32_t r1, float *even, float *odd) {
    const float radius = cg_normal_radius(r0);
    /* r1: two bits of quadrant, then the place in it, from -1/8 to 1/8 of a turn, centred (the | 2) and never 0. */
    const float x = CG_MUL((float)(int32_t)(r1 << 2 | 2u), CG_QUARTER_TURN), z = CG_MUL(x, x);
    float s = CG_FMA(CG_SIN_P0, z, CG_SIN_P1);
    s = CG_FMA(s, z, CG_SIN_P2);
    s = CG_FMA(CG_MUL(s, z), x, x);
    float c = CG_FMA(CG_COS_P0, z, CG_COS_P1);
    c = CG_FMA(c, z, CG_COS_P2);
    c = CG_FMA(CG_MUL(c, z), z, CG_FMA(-0.5f, z, 1.0f));
    /* Quadrants 0 to 3: (c, s), (-s, c), (-c, -s), (s, -c). */
    const int swap = (r1 & 0x40000000u) != 0;
    const uint32_t minus_even = (r1 ^ r1 << 1) & 0x80000000u, minus_odd = r1 & 0x80000000u;
    *even = CG_MUL(radius, cg_float_of(cg_bits_of(swap ? s : c) ^ minus_even));
    *odd = CG_MUL(radius, cg_float_of(cg_bits_of(swap ? c : s) ^ minus_odd));
}

/* The normals 4b ... 4b + 3 from the words of Philox block b. */
CG_NORMAL_FN void cg_normal_block(const uint32_t words[4], float out[4]) {
    cg_normal_pair(words[0], words[1], out, out + 1);
    cg_normal_pair(words[2], words[3], out + 2, out + 3);
}
#endif
