/* csrc/router/network_base.c -- the reference: short enough to check by eye. */
#include "../base/gemm.h"
#include "network_kernels.h"
#include <math.h>

static float norm(size_t n, const float *z, const float *shift, float c, const float *cross, const float *gain,
                  const float *bias, float *hat, float *h) {
    float sum = 0.0f, square = 0.0f;
    for (size_t i = 0; i < n; i++) {
        h[i] = z[i] + shift[i];
        if (cross) h[i] += c * cross[i];
        sum += h[i];
    }
    const float mean = sum / (float)n;
    for (size_t i = 0; i < n; i++) square += (h[i] - mean) * (h[i] - mean);
    const float r = 1.0f / sqrtf(square / (float)n + CG_ROUTER_EPS);
    for (size_t i = 0; i < n; i++) {
        const float x = (h[i] - mean) * r, y = gain[i] * x + bias[i];
        if (hat) hat[i] = x;
        h[i] = y < 0.0f ? 0.0f : y; /* NaN is not below 0 and stays */
    }
    return r;
}

static void norm_back(size_t n, float scale, const float *h, const float *gain, float r, float *hat, float *dy,
                      float *dz) {
    float first = 0.0f, second = 0.0f;
    for (size_t i = 0; i < n; i++) {
        dy[i] = h[i] <= 0.0f ? 0.0f : dy[i] * scale; /* a NaN keeps its gradient */
        first += dy[i] * gain[i];
        second += dy[i] * gain[i] * hat[i];
    }
    first /= (float)n;
    second /= (float)n;
    for (size_t i = 0; i < n; i++) {
        dz[i] = r * (dy[i] * gain[i] - first - hat[i] * second);
        hat[i] *= dy[i];
    }
}

static void gradient(size_t in, size_t m, const float *const *x, const float *dz, size_t ldz, float *g) {
    for (size_t i = 0; i < in; i++, g += CG_PANEL) {
        for (size_t j = 0; j < CG_PANEL; j++) g[j] = 0.0f;
        for (size_t b = 0; b < m; b++)
            for (size_t j = 0; j < CG_PANEL; j++) g[j] += x[b][i] * dz[b * ldz + j];
    }
}

static double squares(size_t n, const float *g) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)g[i] * (double)g[i];
    return sum;
}

static float dot(size_t n, const float *a, const float *b) {
    float sum = 0.0f;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static void adam(size_t n, const cg_router_step *s, const float *g, float *w, float *m, float *v) {
    for (size_t i = 0; i < n; i++) {
        const float d = s->scale * g[i] + s->decay * w[i];
        m[i] = s->beta1 * m[i] + (1.0f - s->beta1) * d;
        v[i] = s->beta2 * v[i] + (1.0f - s->beta2) * d * d;
        w[i] -= s->rate * m[i] / (sqrtf(v[i]) * s->root + s->eps);
    }
}

const cg_router_kernels cg_router_base = {norm, norm_back, gradient, squares, dot, adam};
