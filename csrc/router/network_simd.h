/* csrc/router/network_simd.h -- the kernels of network_base.c, once for all vector widths. Include after simd_avx2.h or
 * simd_avx512.h, with v_sqrt defined and MAX_ROWS inputs a tile of the gradient. */
#ifndef CG_ROUTER_NETWORK_SIMD_H
#define CG_ROUTER_NETWORK_SIMD_H
#include "../base/gemm.h"
#include "network_kernels.h"
#include <math.h>

enum { VECS = CG_PANEL / SIMD_WIDTH };

/* for each vector of n floats: `lanes` valid ones from i */
#define FOR_LANES(n)                                                                                                   \
    for (size_t i = 0, lanes; lanes = (n) - i < SIMD_WIDTH ? (n) - i : SIMD_WIDTH, i < (n); i += SIMD_WIDTH)

SIMD_INLINE vf get(const float *p, size_t lanes) { return lanes == SIMD_WIDTH ? v_load(p) : v_load_n(p, lanes, 0.0f); }
SIMD_INLINE void put(float *p, size_t lanes, vf v) {
    if (lanes == SIMD_WIDTH)
        v_store(p, v);
    else
        v_store_n(p, lanes, v);
}

static float norm(size_t n, const float *z, const float *shift, float c, const float *cross, const float *gain,
                  const float *bias, float *hat, float *h) {
    vf sum = v_zero(), square = v_zero();
    FOR_LANES(n) {
        vf y = v_add(get(z + i, lanes), get(shift + i, lanes));
        if (cross) y = v_fma(v_set1(c), get(cross + i, lanes), y);
        put(h + i, lanes, y);
        sum = v_add(sum, y);
    }
    const float average = v_sum(sum) / (float)n;
    const vf mean = v_set1(average);
    FOR_LANES(n) {
        const vf d = lanes == SIMD_WIDTH ? v_sub(v_load(h + i), mean) : v_sub(v_load_n(h + i, lanes, average), mean);
        square = v_fma(d, d, square);
    }
    const float r = 1.0f / sqrtf(v_sum(square) / (float)n + CG_ROUTER_EPS);
    FOR_LANES(n) {
        const vf x = v_mul(v_sub(get(h + i, lanes), mean), v_set1(r));
        if (hat) put(hat + i, lanes, x);
        put(h + i, lanes, v_max(v_zero(), v_fma(get(gain + i, lanes), x, get(bias + i, lanes))));
    }
    return r;
}

static void norm_back(size_t n, float scale, const float *h, const float *gain, float r, float *hat, float *dy,
                      float *dz) {
    vf first = v_zero(), second = v_zero();
    FOR_LANES(n) {
        const vf d = v_where_positive(get(h + i, lanes), v_mul(get(dy + i, lanes), v_set1(scale)));
        const vf a = v_mul(d, get(gain + i, lanes));
        put(dy + i, lanes, d);
        first = v_add(first, a);
        second = v_fma(a, get(hat + i, lanes), second);
    }
    const vf one = v_set1(v_sum(first) / (float)n), two = v_set1(v_sum(second) / (float)n);
    FOR_LANES(n) {
        const vf d = get(dy + i, lanes), x = get(hat + i, lanes);
        const vf a = v_sub(v_mul(d, get(gain + i, lanes)), one);
        put(dz + i, lanes, v_mul(v_set1(r), v_fnma(x, two, a)));
        put(hat + i, lanes, v_mul(x, d));
    }
}

/* R inputs x one panel of the gradient, all in registers: R broadcasts from a line of a sample, one panel of dz. */
SIMD_INLINE void gradient_tile(const size_t R, size_t m, const float *const *x, size_t at, const float *dz, size_t ldz,
                               float *g) {
    vf sum[MAX_ROWS * VECS];
#pragma GCC unroll 32
    for (size_t q = 0; q < R * VECS; q++) sum[q] = v_zero();
    for (size_t b = 0; b < m; b++, dz += ldz) {
        const float *const row = x[b] + at;
        vf d[VECS];
#pragma GCC unroll 2
        for (size_t q = 0; q < VECS; q++) d[q] = v_load(dz + q * SIMD_WIDTH);
#pragma GCC unroll 32
        for (size_t r = 0; r < R; r++)
#pragma GCC unroll 2
            for (size_t q = 0; q < VECS; q++) sum[r * VECS + q] = v_fma(v_set1(row[r]), d[q], sum[r * VECS + q]);
    }
#pragma GCC unroll 32
    for (size_t q = 0; q < R * VECS; q++) v_store(g + q * SIMD_WIDTH, sum[q]);
}

static void gradient(size_t in, size_t m, const float *const *x, const float *dz, size_t ldz, float *g) {
    size_t i = 0;
    for (; i + MAX_ROWS <= in; i += MAX_ROWS) gradient_tile(MAX_ROWS, m, x, i, dz, ldz, g + i * CG_PANEL);
    for (; i + 4 <= in; i += 4) gradient_tile(4, m, x, i, dz, ldz, g + i * CG_PANEL);
    for (; i < in; i++) gradient_tile(1, m, x, i, dz, ldz, g + i * CG_PANEL);
}

static double squares(size_t n, const float *g) {
    vf sum[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    double total = 0.0;
    FOR_LANES(n) {
        const vf x = get(g + i, lanes);
        vf *const s = sum + i / SIMD_WIDTH % 4;
        *s = v_fma(x, x, *s);
    }
    for (size_t q = 0; q < 4; q++) total += (double)v_sum(sum[q]);
    return total;
}

static float dot(size_t n, const float *a, const float *b) {
    vf sum = v_zero();
    FOR_LANES(n) { sum = v_fma(get(a + i, lanes), get(b + i, lanes), sum); }
    return v_sum(sum);
}

static void adam(size_t n, const cg_router_step *s, const float *g, float *w, float *m, float *v) {
    const vf scale = v_set1(s->scale), decay = v_set1(s->decay), rate = v_set1(s->rate), root = v_set1(s->root);
    const vf b1 = v_set1(s->beta1), b2 = v_set1(s->beta2), eps = v_set1(s->eps);
    const vf c1 = v_set1(1.0f - s->beta1), c2 = v_set1(1.0f - s->beta2);
    FOR_LANES(n) {
        const vf x = get(w + i, lanes), d = v_fma(decay, x, v_mul(scale, get(g + i, lanes)));
        const vf one = v_fma(b1, get(m + i, lanes), v_mul(c1, d));
        const vf two = v_fma(b2, get(v + i, lanes), v_mul(c2, v_mul(d, d)));
        put(m + i, lanes, one);
        put(v + i, lanes, two);
        put(w + i, lanes, v_fnma(rate, v_div(one, v_fma(v_sqrt(two), root, eps)), x));
    }
}

const cg_router_kernels SIMD(cg_router) = {norm, norm_back, gradient, squares, dot, adam};
#endif
