/* cuda/nearest_index.h -- the nearest key of every query, exactly: a product as filter, direct distances to decide.
 *
 * f = ||q||^2 + ||k||^2 - 2 q.k is fast and inexact: it differs from the direct distance D = sum (q - k)^2 by at most
 * e = CG_NEAREST_SLACK(dim) (||q||^2 + ||k||^2) + FLT_MIN, all roundings of both taken together. For every query and
 * tile of 128 keys the filter notes lo = min (f - e) and hi = min (f + e). The nearest key's D is at most the least hi,
 * so it can only be in tiles whose lo is at most that; their keys are measured directly, in the order of csrc/cache
 * (scan.h), with the CPU's bits. One or two tiles, mostly; any number of near ties is right. Where f is not finite (a
 * norm overflows, a key holds a NaN) lo is -inf: such a tile is measured. A distance that
 * is not finite never wins; of equals the lower index does. */
#ifndef CG_CUDA_NEAREST_INDEX_H
#define CG_CUDA_NEAREST_INDEX_H
#include "gemm_index.h"
#include "reduce_index.h"

enum { CG_NEAREST_THREADS = 128 }; /* of the kernels other than the filter: as many as keys in a tile */

/* 2^-23 (dim + 32): of f, (dim / 2 + 4) 2^-23 (products and norms, (||q|| + ||k||)^2 <= 2 (||q||^2 + ||k||^2)); of D,
 * at most (dim / 8 + 12) 2^-23, since D <= 2 (||q||^2 + ||k||^2); the rest for rounding f +- e itself. */
#define CG_NEAREST_SLACK(dim) ((float)((dim) + 32) * 0x1p-23f)

typedef struct cg_nearest {
    size_t batch, keys, dim, ldq, ldk, tiles; /* tiles: of keys */
    const float *q, *k;                       /* (batch, dim), (keys, dim) */
    const float *qq, *kk;                     /* squared norms */
    float *lo, *hi;                           /* (tiles, batch) */
} cg_nearest;

/* Squared norm of row `row`, summed in float64 by one block. room: a double a thread. */
CG_BODY void cg_norm_body(const float *x, size_t ld, size_t dim, float *out, size_t row, uint32_t threads,
                          double *room) {
    CG_BLOCK();
    CG_EACH_THREAD(t, threads) {
        room[t] = 0.0;
        for (CG_STRIDE(j, t, threads, dim)) room[t] += (double)x[row * ld + j] * (double)x[row * ld + j];
    }
    CG_BARRIER();
    CG_REDUCE_SUM(room, threads)
    CG_EACH_THREAD(t, threads) {
        if (t == 0) out[row] = (float)room[0];
    }
}

typedef union cg_filter_room {
    cg_gemm_room gemm;
    float bound[2][CG_GEMM_SIDE][CG_GEMM_TILE]; /* lo and hi of a thread's keys, for every query of the tile */
} cg_filter_room;

CG_BODY void cg_filter_body(const cg_nearest *n, size_t tile, cg_filter_room *room) {
    const size_t down = cg_div_up(n->batch, CG_GEMM_TILE);
    const size_t query0 = tile % down * CG_GEMM_TILE, key0 = tile / down * CG_GEMM_TILE;
    const float slack = CG_NEAREST_SLACK(n->dim);
    const cg_gemm g = {n->batch, n->keys, n->dim, n->ldq, n->ldk, n->q, n->k};
    CG_THREADS_OWN(cg_gemm_sums, sums, CG_GEMM_THREADS);
    CG_BLOCK();
    cg_gemm_tile(&g, query0, key0, &room->gemm, sums);
    CG_EACH_THREAD(t, CG_GEMM_THREADS) {
        CG_UNROLL(8)
        for (uint32_t i = 0; i < CG_GEMM_OWN; i++) {
            const uint32_t place = cg_gemm_place(t / CG_GEMM_SIDE, i);
            const float qq = query0 + place < n->batch ? n->qq[query0 + place] : 0.0f;
            float lo = INFINITY, hi = INFINITY;
            CG_UNROLL(8)
            for (uint32_t j = 0; j < CG_GEMM_OWN; j++) {
                const size_t key = key0 + cg_gemm_place(t % CG_GEMM_SIDE, j);
                if (key >= n->keys) continue;
                const float both = qq + n->kk[key], f = both - 2.0f * CG_OWN(sums, t).v[i][j];
                const float e = slack * both + FLT_MIN;
                if (!(fabsf(f) <= FLT_MAX)) {
                    lo = -INFINITY;
                } else {
                    lo = fminf(lo, f - e);
                    hi = fminf(hi, f + e);
                }
            }
            room->bound[0][t % CG_GEMM_SIDE][place] = lo;
            room->bound[1][t % CG_GEMM_SIDE][place] = hi;
        }
    }
    CG_BARRIER();
    CG_EACH_THREAD(t, CG_GEMM_THREADS) {
        const uint32_t which = t / CG_GEMM_TILE, place = t % CG_GEMM_TILE;
        float least = INFINITY;
        for (uint32_t s = 0; s < CG_GEMM_SIDE; s++) least = fminf(least, room->bound[which][s][place]);
        if (query0 + place < n->batch)
            (which == 0 ? n->lo : n->hi)[key0 / CG_GEMM_TILE * n->batch + query0 + place] = least;
    }
}

/* The direct distance, in the order that csrc/cache/scan.h states. */
CG_BODY float cg_direct_distance(const float *q, const float *k, size_t dim) {
    float total = 0.0f;
    for (size_t at = 0; at < dim; at += 16) {
        float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        CG_UNROLL(16)
        for (uint32_t j = 0; j < 16; j++) {
            const float d = at + j < dim ? q[at + j] - k[at + j] : 0.0f;
            part[j % 4] = fmaf(d, d, part[j % 4]);
        }
        total += (part[0] + part[1]) + (part[2] + part[3]);
    }
    return total;
}

typedef struct cg_best {
    float distance; /* squared; infinity: none yet */
    int64_t index;  /* -1: none yet */
} cg_best;

/* Whether a comes before b: nearer, or as near with a lower index. */
CG_BODY int cg_best_before(cg_best a, cg_best b) {
    if (a.index < 0 || b.index < 0) return a.index >= 0;
    return a.distance < b.distance || (a.distance == b.distance && a.index < b.index);
}

typedef struct cg_decide_room {
    float least[CG_NEAREST_THREADS];
    cg_best best[CG_NEAREST_THREADS];
} cg_decide_room;

/* Query `query`, one block: the least squared distance that is at most `bound`. */
CG_BODY void cg_decide_body(const cg_nearest *n, float bound, int64_t *index, float *distance, size_t query,
                            uint32_t threads, cg_decide_room *room) {
    CG_BLOCK();
    CG_EACH_THREAD(t, threads) {
        float least = INFINITY;
        for (CG_STRIDE(i, t, threads, n->tiles)) least = fminf(least, n->hi[i * n->batch + query]);
        room->least[t] = least;
    }
    CG_BARRIER();
    for (uint32_t half = threads / 2; half > 0; half /= 2) {
        CG_EACH_THREAD(t, threads) {
            if (t < half) room->least[t] = fminf(room->least[t], room->least[t + half]);
        }
        CG_BARRIER();
    }
    CG_EACH_THREAD(t, threads) {
        const float cut = fminf(room->least[0], bound);
        const int hopeless = n->qq[query] != n->qq[query]; /* the query holds a NaN */
        cg_best best = {INFINITY, -1};
        for (size_t tile = 0; tile < n->tiles && !hopeless; tile++) {
            const size_t key = tile * CG_GEMM_TILE + t;
            if (n->lo[tile * n->batch + query] > cut || key >= n->keys) continue;
            const cg_best this_one = {cg_direct_distance(n->q + query * n->ldq, n->k + key * n->ldk, n->dim),
                                      (int64_t)key};
            if (this_one.distance <= bound && this_one.distance <= FLT_MAX && cg_best_before(this_one, best))
                best = this_one;
        }
        room->best[t] = best;
    }
    CG_BARRIER();
    for (uint32_t half = threads / 2; half > 0; half /= 2) {
        CG_EACH_THREAD(t, threads) {
            if (t < half && cg_best_before(room->best[t + half], room->best[t])) room->best[t] = room->best[t + half];
        }
        CG_BARRIER();
    }
    CG_EACH_THREAD(t, threads) {
        if (t == 0) {
            index[query] = room->best[0].index;
            distance[query] = sqrtf(room->best[0].distance);
        }
    }
}
#endif
