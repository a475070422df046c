#include "mf_kernels.h"
#include <string.h>

static const float *user_of(const cg_mf *net, const float *w, int32_t u) { return w + (size_t)u * net->factors; }
static const float *item_of(const cg_mf *net, const float *w, int32_t i) {
    return w + (net->users + (size_t)i) * net->factors;
}

static float error_of(const cg_mf *net, const float *w, float scale, const int32_t *pair, float rating) {
    const float *const p = user_of(net, w, pair[0]), *const q = item_of(net, w, pair[1]);
    const float *const bias = w + (net->users + net->items) * net->factors;
    float dot = 0.0f;
    for (size_t k = 0; k < net->factors; k++) dot += p[k] * q[k];
    float out = net->mean + scale * (scale * dot);
    if (net->biases) out += scale * (bias[pair[0]] + bias[net->users + (size_t)pair[1]]);
    return out - rating;
}

static double forward(const cg_mf *net, const float *w, float scale, const cg_mf_batch *batch) {
    double sum = 0.0;
    float *copy = batch->copy;
    for (size_t b = 0; b < batch->m; b++, copy += 2 * batch->wide) {
        const int32_t *const pair = batch->pair + 2 * b;
        const float e = error_of(net, w, scale, pair, batch->rating[b]);
        memcpy(copy, user_of(net, w, pair[0]), net->factors * sizeof *copy);
        memcpy(copy + batch->wide, item_of(net, w, pair[1]), net->factors * sizeof *copy);
        batch->error[b] = e;
        sum += (double)e * (double)e;
    }
    return sum;
}

static void update(const cg_mf *net, float *w, float step, float bias_step, const cg_mf_batch *batch) {
    const float *copy = batch->copy;
    float *const items = w + net->users * net->factors, *const bias = items + net->items * net->factors;
    for (size_t b = 0; b < batch->m; b++, copy += 2 * batch->wide) {
        const size_t u = (size_t)batch->pair[2 * b], i = (size_t)batch->pair[2 * b + 1];
        float *const p = w + u * net->factors, *const q = items + i * net->factors;
        const float by = step * batch->error[b];
        for (size_t k = 0; k < net->factors; k++) p[k] -= by * copy[batch->wide + k];
        for (size_t k = 0; k < net->factors; k++) q[k] -= by * copy[k];
        if (!net->biases) continue;
        bias[u] -= bias_step * batch->error[b];
        bias[net->users + i] -= bias_step * batch->error[b];
    }
}

static double squares(const cg_mf *net, const float *w, size_t m, const int32_t *pair, const float *rating) {
    double sum = 0.0;
    for (size_t b = 0; b < m; b++) {
        const double e = (double)error_of(net, w, 1.0f, pair + 2 * b, rating[b]);
        sum += e * e;
    }
    return sum;
}

const cg_mf_kernels cg_mf_base = {forward, update, squares};
