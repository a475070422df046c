/* cuda/router_index.h -- what stands between the products of the router's forward pass (csrc/router/forward.h).
 *
 * One block a row. Row r is query r / group and source r % group of the encoder at hand. */
#ifndef CG_CUDA_ROUTER_INDEX_H
#define CG_CUDA_ROUTER_INDEX_H
#include "reduce_index.h"

enum { CG_ROUTER_THREADS = 128 };
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

/* out = ReLU(LayerNorm(z + shift + dot cross)) for one row. A thread only reads what it wrote itself, and sums. */
CG_BODY void cg_router_layer_body(const cg_router_layer *k, size_t row, uint32_t threads, float *room) {
    const float *const z = k->z + row / k->group * k->ldz, *const shift = k->shift + row % k->group * k->width;
    float *const out = k->out + row * k->width;
    const float count = (float)k->width;
    CG_THREADS_OWN(float, mean, CG_ROUTER_THREADS);
    CG_BLOCK();
    CG_EACH_THREAD(t, threads) {
        room[t] = 0.0f;
        for (CG_STRIDE(i, t, threads, k->width)) {
            out[i] = z[i] + shift[i] + (k->cross ? k->dots[row] * k->cross[i] : 0.0f);
            room[t] += out[i];
        }
    }
    CG_BARRIER();
    CG_REDUCE_SUM(room, threads)
    CG_EACH_THREAD(t, threads) CG_OWN(mean, t) = room[0] / count;
    CG_BARRIER(); /* everyone has the sum: the room is free */
    CG_EACH_THREAD(t, threads) {
        room[t] = 0.0f;
        for (CG_STRIDE(i, t, threads, k->width)) {
            const float d = out[i] - CG_OWN(mean, t);
            room[t] = fmaf(d, d, room[t]);
        }
    }
    CG_BARRIER();
    CG_REDUCE_SUM(room, threads)
    CG_EACH_THREAD(t, threads) {
        const float r = 1.0f / sqrtf(room[0] / count + CG_ROUTER_NORM_EPS);
        for (CG_STRIDE(i, t, threads, k->width)) {
            const float y = fmaf(k->gain[i], (out[i] - CG_OWN(mean, t)) * r, k->bias[i]);
            out[i] = y < 0.0f ? 0.0f : y; /* NaN is not below 0 and stays */
        }
    }
}

/* p[query sources + column[source]] = sigmoid(h . w + b) for one row of h (rows, width). */
CG_BODY void cg_router_head_body(size_t width, size_t group, const float *h, const float *w, float b, size_t sources,
                                 const int32_t *column, float *p, size_t row, uint32_t threads, float *room) {
    CG_BLOCK();
    CG_EACH_THREAD(t, threads) {
        room[t] = 0.0f;
        for (CG_STRIDE(i, t, threads, width)) room[t] = fmaf(h[row * width + i], w[i], room[t]);
    }
    CG_BARRIER();
    CG_REDUCE_SUM(room, threads)
    CG_EACH_THREAD(t, threads) {
        if (t == 0) p[row / group * sources + (size_t)column[row % group]] = 1.0f / (1.0f + expf(-(room[0] + b)));
    }
}
#endif
