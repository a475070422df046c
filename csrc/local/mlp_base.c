#include "../base/gemm.h"
#include "../base/vmath_kernels.h"
#include "mlp_kernels.h"
#include <math.h>

static float stepped(const cg_sgd *s, float w, float g, float *v) {
    if (s->weight_decay != 0.0f) g += s->weight_decay * w;
    if (v) { /* given where there is momentum */
        *v = s->momentum * *v + g;
        g = s->nesterov ? g + s->momentum * *v : *v;
    }
    return w - s->lr * g;
}

static void update(size_t in, size_t panels, size_t m, const float *const *x, const float *dz, size_t ldz,
                   const cg_sgd *sgd, float *w, float *v) {
    for (size_t p = 0; p < panels; p++, dz += CG_PANEL) {
        for (size_t i = 0; i < in; i++, w += CG_PANEL) {
            float g[CG_PANEL] = {0};
            for (size_t b = 0; b < m; b++)
                for (size_t j = 0; j < CG_PANEL; j++) g[j] += x[b][i] * dz[b * ldz + j];
            for (size_t j = 0; j < CG_PANEL; j++) w[j] = sgd ? stepped(sgd, w[j], g[j], v ? v + j : NULL) : g[j];
            if (v) v += CG_PANEL;
        }
    }
}

static double softmax(size_t m, size_t classes, float *z, size_t ld, const int64_t *label, float scale, size_t *hits) {
    double loss = 0.0, product = 1.0; /* sum of log(s) = log of the product: one logarithm for many rows */
    for (size_t b = 0; b < m; b++, z += ld) {
        const size_t y = (size_t)label[b];
        size_t best = 0;
        for (size_t j = 1; j < classes; j++)
            if (z[j] > z[best]) best = j;
        const float top = z[best], own = z[y];
        float sum = 0.0f;
        for (size_t j = 0; j < classes; j++) z[j] -= top;
        cg_exp_f32_base(classes, z, z);
        for (size_t j = 0; j < classes; j++) sum += z[j];
        *hits += best == y && !isnan(sum);
        const float share = scale / sum;
        for (size_t j = 0; j < classes; j++) z[j] *= share;
        z[y] -= scale;
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
    for (size_t i = 0; i < n; i++) {
        if (is_tanh)
            d[i] *= 1.0f - y[i] * y[i];
        else if (y[i] <= 0.0f) /* NaN is not, and keeps its gradient */
            d[i] = 0.0f;
    }
}

static void sgd_step(size_t n, const cg_sgd *sgd, const float *g, float *w, float *v) {
    for (size_t i = 0; i < n; i++) w[i] = stepped(sgd, w[i], g[i], v ? v + i : NULL);
}

const cg_mlp_kernels cg_mlp_base = {update, softmax, derivative, sgd_step};
