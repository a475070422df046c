#include "vmath_kernels.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

static float power_of_two(int n) { /* -126 <= n <= 127 */
    const uint32_t bits = (uint32_t)(n + 127) << 23;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static float exp_one(float x) {
    if (isnan(x)) return x;
    x = x < CG_EXP_LEAST ? CG_EXP_LEAST : x > CG_EXP_MOST ? CG_EXP_MOST : x;
    const float n = rintf(x * CG_LOG2_E);
    const float r = (x - n * CG_LN2_HIGH) - n * CG_LN2_LOW;
    float p = CG_EXP_P0 * r + CG_EXP_P1;
    p = p * r + CG_EXP_P2;
    p = p * r + CG_EXP_P3;
    p = p * r + CG_EXP_P4;
    p = p * r + CG_EXP_P5;
    const int whole = (int)n, half = whole >> 1; /* two steps: the result may be subnormal or infinite */
    return (p * (r * r) + r + 1.0f) * power_of_two(half) * power_of_two(whole - half);
}

static float tanh_one(float x) {
    const float a = fabsf(x), z = x * x;
    if (!(a < CG_TANH_SMALL)) return copysignf(1.0f - 2.0f / (exp_one(a + a) + 1.0f), x);
    float p = CG_TANH_P0 * z + CG_TANH_P1;
    p = p * z + CG_TANH_P2;
    p = p * z + CG_TANH_P3;
    p = p * z + CG_TANH_P4;
    return (p * z) * x + x;
}

void cg_exp_f32_base(size_t n, const float *x, float *y) {
    for (size_t i = 0; i < n; i++) y[i] = exp_one(x[i]);
}

void cg_tanh_f32_base(size_t n, const float *x, float *y) {
    for (size_t i = 0; i < n; i++) y[i] = tanh_one(x[i]);
}
