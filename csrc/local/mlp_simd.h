/* csrc/local/mlp_simd.h -- the training kernels, once for all vector widths. Include after simd_avx2.h or
 * simd_avx512.h. Formulas as in mlp_base.c, with FMA. */
#ifndef CG_MLP_SIMD_H
#define CG_MLP_SIMD_H
#include "../base/gemm.h"
#include "../base/vmath_simd.h"
#include "mlp_kernels.h"
#include <math.h>

enum { VECS = CG_PANEL / SIMD_WIDTH };

SIMD_INLINE vf stepped(const cg_sgd *s, vf w, vf g, vf *v) {
    if (s->weight_decay != 0.0f) g = v_fma(v_set1(s->weight_decay), w, g);
    if (s->momentum != 0.0f) {
        *v = v_fma(v_set1(s->momentum), *v, g);
        g = s->nesterov ? v_fma(v_set1(s->momentum), *v, g) : *v;
    }
    return v_fnma(v_set1(s->lr), g, w);
}

/* R inputs x P panels of the gradient, all in registers: R broadcasts from one cache line of a sample, P panels of dz.
 */
SIMD_INLINE void update_tile(const size_t R, const size_t P, size_t in, size_t i, size_t m, const float *const *x,
                             const float *dz, size_t ldz, const cg_sgd *sgd, float *w, float *v) {
    vf sum[MAX_TILE];
    const size_t V = P * VECS;
#pragma GCC unroll 32
    for (size_t q = 0; q < R * V; q++) sum[q] = v_zero();
    for (size_t b = 0; b < m; b++, dz += ldz) {
        const float *row = x[b] + i;
        vf d[MAX_TILE];
#pragma GCC unroll 32
        for (size_t q = 0; q < V; q++) d[q] = v_load(dz + q * SIMD_WIDTH);
#pragma GCC unroll 32
        for (size_t r = 0; r < R; r++) {
            const vf a = v_set1(row[r]);
#pragma GCC unroll 32
            for (size_t q = 0; q < V; q++) sum[r * V + q] = v_fma(a, d[q], sum[r * V + q]);
        }
    }
#pragma GCC unroll 32
    for (size_t r = 0; r < R; r++) {
#pragma GCC unroll 32
        for (size_t q = 0; q < V; q++) {
            const size_t at = (q / VECS * in + i + r) * CG_PANEL + q % VECS * SIMD_WIDTH;
            vf g = sum[r * V + q];
            if (sgd) {
                vf speed = v ? v_load(v + at) : v_zero();
                g = stepped(sgd, v_load(w + at), g, &speed);
                if (v) v_store(v + at, speed);
            }
            v_store(w + at, g);
        }
    }
}

typedef void update_tile_fn(size_t in, size_t i, size_t m, const float *const *x, const float *dz, size_t ldz,
                            const cg_sgd *sgd, float *w, float *v);
#define UPDATE_TILE(R, P)                                                                                              \
    static void update_##R##x##P(size_t in, size_t i, size_t m, const float *const *x, const float *dz, size_t ldz,    \
                                 const cg_sgd *sgd, float *w, float *v) {                                              \
        update_tile(R, P, in, i, m, x, dz, ldz, sgd, w, v);                                                            \
    }

/* Inputs outside, panels inside: the tile's columns of the samples are read from memory once. */
SIMD_INLINE void update_all(update_tile_fn *const tiles[][MAX_PANELS], size_t in, size_t panels, size_t m,
                            const float *const *x, const float *dz, size_t ldz, const cg_sgd *sgd, float *w, float *v) {
    const size_t count = (in + MAX_ROWS - 1) / MAX_ROWS, rows = in / count, larger = in % count;
    for (size_t q = 0, i = 0; q < count; q++) {
        const size_t r = rows + (q < larger);
        for (size_t p = 0; p < panels;) {
            const size_t wide = panels - p < MAX_PANELS ? 1 : MAX_PANELS, at = p * in * CG_PANEL;
            tiles[r][wide - 1](in, i, m, x, dz + p * CG_PANEL, ldz, sgd, w + at, v ? v + at : NULL);
            p += wide;
        }
        i += r;
    }
}

static double softmax(size_t m, size_t classes, float *z, size_t ld, const int64_t *label, float scale, size_t *hits) {
    double loss = 0.0, product = 1.0; /* sum of log(s) = log of the product: one logarithm for many rows */
    for (size_t b = 0; b < m; b++, z += ld) {
        vf most = v_set1(-INFINITY), total = v_zero();
        for (size_t j = 0; j < classes; j += SIMD_WIDTH)
            most = v_max(most, v_load_n(z + j, classes - j < SIMD_WIDTH ? classes - j : SIMD_WIDTH, -INFINITY));
        const float top = v_maximum(most), own = z[label[b]];
        int first = own == top;
        for (int64_t j = 0; first && j < label[b]; j++) first = z[j] != top;
        for (size_t j = 0; j < classes; j += SIMD_WIDTH) {
            const size_t lanes = classes - j < SIMD_WIDTH ? classes - j : SIMD_WIDTH;
            const vf e = v_exp(v_sub(v_load_n(z + j, lanes, -INFINITY), v_set1(top)));
            total = v_add(total, e);
            v_store_n(z + j, lanes, e);
        }
        const float sum = v_sum(total);
        *hits += first && sum == sum;
        const vf share = v_set1(scale / sum);
        for (size_t j = 0; j < classes; j += SIMD_WIDTH) {
            const size_t lanes = classes - j < SIMD_WIDTH ? classes - j : SIMD_WIDTH;
            v_store_n(z + j, lanes, v_mul(v_load_n(z + j, lanes, 0.0f), share));
        }
        z[label[b]] -= scale;
        loss += (double)top - (double)own;
        product *= (double)sum;
        if (!(product < 1e250)) {
            loss += log(product);
            product = 1.0;
        }
    }
    return loss + log(product);
}

static void derivative(size_t n, int is_tanh, const float *y, float *d) {
    for (size_t i = 0; i < n; i += SIMD_WIDTH) {
        const vf a = v_load(y + i), g = v_load(d + i);
        v_store(d + i, is_tanh ? v_mul(g, v_fnma(a, a, v_set1(1.0f))) : v_where_positive(a, g));
    }
}

static void sgd_step(size_t n, const cg_sgd *sgd, const float *g, float *w, float *v) {
    for (size_t i = 0; i < n; i += SIMD_WIDTH) {
        const size_t lanes = n - i < SIMD_WIDTH ? n - i : SIMD_WIDTH;
        vf speed = v ? v_load_n(v + i, lanes, 0.0f) : v_zero();
        v_store_n(w + i, lanes, stepped(sgd, v_load_n(w + i, lanes, 0.0f), v_load_n(g + i, lanes, 0.0f), &speed));
        if (v) v_store_n(v + i, lanes, speed);
    }
}
#endif
