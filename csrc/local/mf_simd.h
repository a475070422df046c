/* csrc/local/mf_simd.h -- the matrix factorization kernels, once for all vector widths. Include after simd_avx2.h or
 * simd_avx512.h. Formulas as in mf_base.c, with FMA; the last vector of a factor row is masked: the row behind it may
 * be another thread's. */
#ifndef CG_MF_SIMD_H
#define CG_MF_SIMD_H
#include "mf_kernels.h"

/* p . q of n factors; with copies (not NULL) of both in whole vectors, zeros behind them. Two sums: a chain of FMAs is
 * what a long dot product waits for. */
SIMD_INLINE float dot(size_t n, const float *p, const float *q, float *p_copy, float *q_copy) {
    vf even = v_zero(), odd = v_zero();
    size_t k = 0;
    for (; k + SIMD_WIDTH <= n; k += SIMD_WIDTH) {
        const vf a = v_load(p + k), b = v_load(q + k), sum = v_fma(a, b, even);
        even = odd;
        odd = sum;
        if (p_copy) v_store(p_copy + k, a), v_store(q_copy + k, b);
    }
    if (k < n) {
        const vf a = v_load_n(p + k, n - k, 0.0f), b = v_load_n(q + k, n - k, 0.0f);
        even = v_fma(a, b, even);
        if (p_copy) v_store(p_copy + k, a), v_store(q_copy + k, b);
    }
    return v_sum(v_add(even, odd));
}

SIMD_INLINE float error_of(const cg_mf *net, const float *w, float scale, const int32_t *pair, float rating,
                           float *p_copy, float *q_copy) {
    const float *const items = w + net->users * net->factors, *const bias = items + net->items * net->factors;
    const size_t u = (size_t)pair[0], i = (size_t)pair[1];
    const float pq = dot(net->factors, w + u * net->factors, items + i * net->factors, p_copy, q_copy);
    float out = __builtin_fmaf(scale, scale * pq, net->mean);
    if (net->biases) out = __builtin_fmaf(scale, bias[u] + bias[net->users + i], out);
    return out - rating;
}

static double forward(const cg_mf *net, const float *w, float scale, const cg_mf_batch *batch) {
    double sum = 0.0;
    float *copy = batch->copy;
    for (size_t b = 0; b < batch->m; b++, copy += 2 * batch->wide) {
        const float e = error_of(net, w, scale, batch->pair + 2 * b, batch->rating[b], copy, copy + batch->wide);
        batch->error[b] = e;
        sum += (double)e * (double)e;
    }
    return sum;
}

/* w -= by x for n factors; x in whole vectors. */
SIMD_INLINE void take(size_t n, float *w, float by, const float *x) {
    const vf c = v_set1(by);
    size_t k = 0;
    for (; k + SIMD_WIDTH <= n; k += SIMD_WIDTH) v_store(w + k, v_fnma(c, v_load(x + k), v_load(w + k)));
    if (k < n) v_store_n(w + k, n - k, v_fnma(c, v_load(x + k), v_load_n(w + k, n - k, 0.0f)));
}

static void update(const cg_mf *net, float *w, float step, float bias_step, const cg_mf_batch *batch) {
    const float *copy = batch->copy;
    float *const items = w + net->users * net->factors, *const bias = items + net->items * net->factors;
    for (size_t b = 0; b < batch->m; b++, copy += 2 * batch->wide) {
        const size_t u = (size_t)batch->pair[2 * b], i = (size_t)batch->pair[2 * b + 1];
        take(net->factors, w + u * net->factors, step * batch->error[b], copy + batch->wide);
        take(net->factors, items + i * net->factors, step * batch->error[b], copy);
        if (!net->biases) continue;
        bias[u] = __builtin_fmaf(-bias_step, batch->error[b], bias[u]);
        bias[net->users + i] = __builtin_fmaf(-bias_step, batch->error[b], bias[net->users + i]);
    }
}

static double squares(const cg_mf *net, const float *w, size_t m, const int32_t *pair, const float *rating) {
    double sum = 0.0;
    for (size_t b = 0; b < m; b++) {
        const double e = (double)error_of(net, w, 1.0f, pair + 2 * b, rating[b], NULL, NULL);
        sum += e * e;
    }
    return sum;
}

const cg_mf_kernels SIMD(cg_mf) = {forward, update, squares};
#endif
