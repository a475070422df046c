/* cuda/router_index.h -- what stands between the products of the router's forward pass (csrc/router/forward.h).
 *
 * A warp a row: its sums meet in 32 floats of shared memory. Row r is query r / group and source r % group of the
 * encoder at hand. */
#ifndef CG_CUDA_ROUTER_INDEX_H
#define CG_CUDA_ROUTER_INDEX_H
#include "shim.h"

enum { CG_ROUTER_THREADS = 128, CG_ROUTER_ROWS = CG_ROUTER_THREADS / 32 /* of a block */ };
#define CG_ROUTER_NORM_EPS 1e-5f /* CG_ROUTER_EPS of csrc/router/network.h */

typedef struct cg_router_layer {
    size_t width, group, ldz;
    const float *z;           /* (queries, width), rows ldz apart: the product */
    const float *shift;       /* (group, width): added to it */
    const float *dots;        /* (rows), NULL without the dot feature ... */
    const float *cross;       /* ... times (width) */
    const float *gain, *bias; /* (width) of LayerNorm */
    float *out;               /* (rows, width); may be z where group is 1 and ldz the width */
} cg_router_layer;

/* What is normalised. */
CG_BODY float cg_router_value(const cg_router_layer *k, size_t row, size_t i) {
    const float x = k->z[row / k->group * k->ldz + i] + k->shift[row % k->group * k->width + i];
    return k->cross ? x + k->dots[row] * k->cross[i] : x;
}

/* The sum of a warp's 32 floats, by every thread the same. */
CG_BODY float cg_router_sum(const float *of) {
    float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    CG_UNROLL(8)
    for (uint32_t i = 0; i < 8; i++) {
        CG_UNROLL(4)
        for (uint32_t j = 0; j < 4; j++) part[j] += of[4 * i + j];
    }
    return (part[0] + part[1]) + (part[2] + part[3]);
}

/* out = ReLU(LayerNorm(z + shift + dot cross)) for CG_ROUTER_ROWS rows. room: two floats a thread. What is normalised
 * is made anew for each pass: it comes from the caches, and nothing is written before the last. */
CG_BODY void cg_router_layer_body(const cg_router_layer *k, size_t rows, size_t block, float *room) {
    const size_t row0 = block * CG_ROUTER_ROWS;
    float *const squares = room + CG_ROUTER_THREADS;
    const float count = (float)k->width;
    CG_THREADS_OWN(float, mean, CG_ROUTER_THREADS);
    CG_BLOCK();
    CG_EACH_THREAD(t, CG_ROUTER_THREADS) {
        const size_t row = row0 + t / 32;
        float sum = 0.0f;
        for (CG_STRIDE(i, t % 32, 32, row < rows ? k->width : 0)) sum += cg_router_value(k, row, i);
        room[t] = sum;
    }
    CG_WARP_BARRIER();
    CG_EACH_THREAD(t, CG_ROUTER_THREADS) {
        const size_t row = row0 + t / 32;
        const float m = cg_router_sum(room + t / 32 * 32) / count;
        float sum = 0.0f;
        for (CG_STRIDE(i, t % 32, 32, row < rows ? k->width : 0)) {
            const float d = cg_router_value(k, row, i) - m;
            sum = fmaf(d, d, sum);
        }
        CG_OWN(mean, t) = m;
        squares[t] = sum;
    }
    CG_WARP_BARRIER();
    CG_EACH_THREAD(t, CG_ROUTER_THREADS) {
        const size_t row = row0 + t / 32;
        const float r = 1.0f / sqrtf(cg_router_sum(squares + t / 32 * 32) / count + CG_ROUTER_NORM_EPS);
        for (CG_STRIDE(i, t % 32, 32, row < rows ? k->width : 0)) {
            const float y = fmaf(k->gain[i], (cg_router_value(k, row, i) - CG_OWN(mean, t)) * r, k->bias[i]);
            k->out[row * k->width + i] = y < 0.0f ? 0.0f : y; /* NaN is not below 0 and stays */
        }
    }
}

/* The output layer's: p[query sources + column[source]] = sigmoid(h . w + b) for every row of h. */
typedef struct cg_router_head {
    size_t width, group, sources;
    const float *h, *w, *b; /* (rows, width), (width), one */
    const int32_t *column;  /* (group) */
    float *p;
} cg_router_head;

/* CG_ROUTER_ROWS rows. room: a float a thread. */
CG_BODY void cg_router_head_body(const cg_router_head *k, size_t rows, size_t block, float *room) {
    const size_t row0 = block * CG_ROUTER_ROWS;
    CG_BLOCK();
    CG_EACH_THREAD(t, CG_ROUTER_THREADS) {
        const size_t row = row0 + t / 32;
        float sum = 0.0f;
        for (CG_STRIDE(i, t % 32, 32, row < rows ? k->width : 0)) sum = fmaf(k->h[row * k->width + i], k->w[i], sum);
        room[t] = sum;
    }
    CG_WARP_BARRIER();
    CG_EACH_THREAD(t, CG_ROUTER_THREADS) {
        const size_t row = row0 + t / 32;
        if (t % 32 == 0 && row < rows)
            k->p[row / k->group * k->sources + (size_t)k->column[row % k->group]] =
                1.0f / (1.0f + expf(-(cg_router_sum(room + t) + *k->b)));
    }
}
#endif
