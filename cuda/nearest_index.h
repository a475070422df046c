/* cuda/nearest_index.h -- the nearest key of every query, exactly: a product as filter, direct distances to decide.
 *
 * f = ||q||^2 + ||k||^2 - 2 q.k, its product on tensor cores, is fast and inexact: it differs from the direct distance
 * D = sum (q - k)^2 by at most e = CG_NEAREST_SLACK(dim) (||q||^2 + ||k||^2) + CG_NEAREST_TINY(dim), all roundings of
 * both taken together. For every query and group of 32 keys the filter notes lo = min f - e and hi = min f + e, with
 * the largest ||k|| of the group in e. The nearest key's D is at most the least hi, so it can only be in groups whose
 * lo is at most that; their keys are measured directly, in the order of csrc/cache (scan.h), with the CPU's bits. One
 * or two groups, mostly; any number of near ties is right. Where a norm is huge or not a number (the query's, or one of
 * the group's) lo is -inf and hi inf: such a group is measured. A distance that is not finite never wins; of equals the
 * lower index does. */
#ifndef CG_CUDA_NEAREST_INDEX_H
#define CG_CUDA_NEAREST_INDEX_H
#include "reduce_index.h"
#include "tensor_index.h"

enum {
    CG_NEAREST_THREADS = 128, /* of the kernels other than the filter */
    CG_NEAREST_GROUP = 32,    /* keys that share a bound */
    CG_NEAREST_CHUNKS = 64,   /* chunks of 16 columns that are measured at a time */
    CG_FILTER_GROUPS = CG_TENSOR_TILE / CG_NEAREST_GROUP,
    CG_FILTER_PITCH = CG_TENSOR_TILE + 8 /* floats from one lane's bounds to the next: banks differ */
};

/* The product's error twice, (dim / 2 + 4) 2^-23 for the norms and sums of f, at most (dim / 8 + 12) 2^-23 for D, which
 * is at most 2 (||q||^2 + ||k||^2), and some for rounding f +- e itself. */
#define CG_NEAREST_SLACK(dim) (CG_TENSOR_SLACK(dim) + (float)((dim) + 32) * 0x1p-23f)
/* What underflows: products, and operands that are cut to zero. */
#define CG_NEAREST_TINY(dim) ((float)((dim) + 1) * 4.0f * FLT_MIN)

/* Squared norms up to here leave room for all that is added to them. */
#define CG_NEAREST_HUGE 0x1p120f

typedef struct cg_nearest {
    size_t batch, keys, dim, ldq, ldk;
    const float *q, *k;   /* (batch, dim), (keys, dim) */
    const float *qq, *kk; /* squared norms */
    float *lo, *hi;       /* (batch, groups) */
} cg_nearest;

CG_BOTH size_t cg_nearest_groups(const cg_nearest *n) { return cg_div_up(n->keys, CG_NEAREST_GROUP); }

/* The filter's product. */
CG_BOTH cg_gemm cg_nearest_product(const cg_nearest *n) {
    const cg_gemm g = {n->batch, n->keys, n->dim, n->ldq, n->ldk, n->q, n->k};
    return g;
}
CG_BOTH int cg_nearest_wide(const cg_nearest *n) {
    const cg_gemm g = cg_nearest_product(n);
    return cg_gemm_wide(&g);
}

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
    cg_tensor_room product;
    struct {
        float least[CG_FILTER_GROUPS][4][CG_FILTER_PITCH]; /* of ||k||^2 - 2 q.k, of a lane's keys, for every query */
        float norm[CG_FILTER_GROUPS][4];                   /* the largest of a lane's keys; infinity: unbounded */
    } bound;
} cg_filter_room;

/* wide: cg_nearest_wide(n), as a constant. */
CG_BODY void cg_filter_body(const cg_nearest *n, int wide, size_t tile, cg_filter_room *room) {
    const size_t down = cg_div_up(n->batch, CG_TENSOR_TILE), groups = cg_nearest_groups(n);
    const size_t query0 = tile % down * CG_TENSOR_TILE, key0 = tile / down * CG_TENSOR_TILE;
    const float slack = CG_NEAREST_SLACK(n->dim), tiny = CG_NEAREST_TINY(n->dim);
    const cg_gemm g = cg_nearest_product(n);
    CG_THREADS_OWN(cg_tensor_own, own, CG_TENSOR_THREADS);
    CG_BLOCK();
    cg_tensor_tile(&g, wide, query0, key0, &room->product, own);
    CG_EACH_THREAD(t, CG_TENSOR_THREADS) {
        CG_UNROLL(4)
        for (uint32_t first = 0; first < CG_TENSOR_ALONG; first += CG_NEAREST_GROUP / 8) {
            const uint32_t group = cg_tensor_col(t, first, 0) / CG_NEAREST_GROUP;
            float kk[CG_NEAREST_GROUP / 8][2], norm = 0.0f; /* a key that is not there or has no bound never is least */
            CG_UNROLL(8)
            for (uint32_t j = 0; j < CG_NEAREST_GROUP / 8; j++) {
                CG_UNROLL(2)
                for (uint32_t e = 0; e < 2; e++) {
                    const size_t key = key0 + cg_tensor_col(t, first + j, e);
                    const float square = key < n->keys ? n->kk[key] : 0.0f;
                    const int bounded = square <= CG_NEAREST_HUGE;
                    kk[j][e] = key < n->keys && bounded ? square : INFINITY;
                    norm = fmaxf(norm, bounded ? square : INFINITY);
                }
            }
            if (t % (32 * CG_TENSOR_WARPS_DOWN) < 4)
                room->bound.norm[group][t % 4] = norm; /* of a warp of these keys */
            CG_UNROLL(16)
            for (uint32_t i = 0; i < 2 * CG_TENSOR_DOWN; i++) {
                float least = INFINITY;
                CG_UNROLL(8)
                for (uint32_t j = 0; j < CG_NEAREST_GROUP / 8; j++) {
                    CG_UNROLL(2)
                    for (uint32_t e = 0; e < 2; e++)
                        least =
                            fminf(least, fmaf(-2.0f, CG_OWN(own, t).sum[i / 2][first + j][i % 2 * 2 + e], kk[j][e]));
                }
                room->bound.least[group][t % 4][cg_tensor_row(t, i / 2, i % 2 * 2)] = least;
            }
        }
    }
    CG_BARRIER();
    CG_EACH_THREAD(t, CG_TENSOR_THREADS) {
        for (uint32_t item = t; item < CG_FILTER_GROUPS * CG_TENSOR_TILE; item += CG_TENSOR_THREADS) {
            const uint32_t group = item % CG_FILTER_GROUPS, row = item / CG_FILTER_GROUPS;
            const size_t query = query0 + row, at = key0 / CG_NEAREST_GROUP + group;
            if (query >= n->batch || at >= groups) continue;
            const float qq = n->qq[query];
            float least = INFINITY, norm = qq <= CG_NEAREST_HUGE ? 0.0f : INFINITY;
            CG_UNROLL(4)
            for (uint32_t lane = 0; lane < 4; lane++) {
                least = fminf(least, room->bound.least[group][lane][row]);
                norm = fmaxf(norm, room->bound.norm[group][lane]);
            }
            const float f = qq + least, e = slack * (qq + norm) + tiny;
            n->lo[query * groups + at] = norm <= CG_NEAREST_HUGE ? f - e : -INFINITY;
            n->hi[query * groups + at] = norm <= CG_NEAREST_HUGE ? f + e : INFINITY;
        }
    }
}

/* The direct distance of up to 16 columns, in the order that csrc/cache/scan.h states: the sum over all such chunks, in
 * order, is the distance. */
CG_BODY float cg_direct_chunk(const float *q, const float *k, size_t columns) {
    float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    CG_UNROLL(16)
    for (uint32_t j = 0; j < 16; j++) {
        const float d = j < columns ? q[j] - k[j] : 0.0f;
        part[j % 4] = fmaf(d, d, part[j % 4]);
    }
    return (part[0] + part[1]) + (part[2] + part[3]);
}

/* The same for columns that are quads. */
CG_BODY float cg_direct_quads(const cg_quad *q, const cg_quad *k, size_t quads) {
    float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    CG_UNROLL(4)
    for (uint32_t i = 0; i < 4; i++) {
        if (i >= quads) continue;
        const cg_quad x = q[i], y = k[i];
        CG_UNROLL(4)
        for (uint32_t j = 0; j < 4; j++) {
            const float d = x.v[j] - y.v[j];
            part[j] = fmaf(d, d, part[j]);
        }
    }
    return (part[0] + part[1]) + (part[2] + part[3]);
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

typedef struct CG_ALIGNED(16) cg_flags { /* of 16 groups: which to measure */
    uint32_t any[4];
} cg_flags;

typedef struct cg_decide_room {
    union {
        cg_flags flags[CG_NEAREST_THREADS / 16];
        uint8_t flag[CG_NEAREST_THREADS];
    } u;
    float least[CG_NEAREST_THREADS];
    float chunk[CG_NEAREST_GROUP][CG_NEAREST_CHUNKS + 1];
    cg_best best[CG_NEAREST_GROUP];
} cg_decide_room;

/* Measures the keys of a group: all threads a chunk of a key at a time, then a thread a key adds them up. best: what
 * each of the first threads found. */
CG_BODY void cg_decide_group(const cg_nearest *n, float bound, size_t query, size_t group, uint32_t threads,
                             cg_decide_room *room) {
    const float *const q = n->q + query * n->ldq;
    const size_t key0 = group * CG_NEAREST_GROUP, chunks = cg_div_up(n->dim, 16);
    const int wide = cg_nearest_wide(n);
    CG_THREADS_OWN(float, total, CG_NEAREST_THREADS);
    CG_EACH_THREAD(t, threads) CG_OWN(total, t) = 0.0f;
    CG_NO_BARRIER();
    for (size_t first = 0; first < chunks; first += CG_NEAREST_CHUNKS) {
        const uint32_t some = (uint32_t)(chunks - first < CG_NEAREST_CHUNKS ? chunks - first : CG_NEAREST_CHUNKS);
        CG_EACH_THREAD(t, threads) {
            CG_UNROLL(4)
            for (uint32_t item = t; item < CG_NEAREST_GROUP * some; item += threads) {
                const size_t key = key0 + item / some, at = 16 * (first + item % some);
                if (key >= n->keys) continue;
                const float *const k = n->k + key * n->ldk + at;
                room->chunk[item / some][item % some] =
                    wide ? cg_direct_quads((const cg_quad *)(q + at), (const cg_quad *)k, (n->dim - at) / 4)
                         : cg_direct_chunk(q + at, k, n->dim - at);
            }
        }
        CG_BARRIER();
        CG_EACH_THREAD(t, threads) {
            if (t < CG_NEAREST_GROUP && key0 + t < n->keys)
                for (uint32_t c = 0; c < some; c++) CG_OWN(total, t) += room->chunk[t][c];
        }
        CG_BARRIER();
    }
    CG_EACH_THREAD(t, threads) {
        if (t < CG_NEAREST_GROUP && key0 + t < n->keys) {
            const cg_best this_one = {CG_OWN(total, t), (int64_t)(key0 + t)};
            if (this_one.distance <= bound && this_one.distance <= FLT_MAX && cg_best_before(this_one, room->best[t]))
                room->best[t] = this_one;
        }
    }
    CG_NO_BARRIER();
}

/* Query `query`, one block: the least squared distance that is at most `bound`. */
CG_BODY void cg_decide_body(const cg_nearest *n, float bound, int64_t *index, float *distance, size_t query,
                            uint32_t threads, cg_decide_room *room) {
    const size_t groups = cg_nearest_groups(n);
    const float *const lo = n->lo + query * groups, *const hi = n->hi + query * groups;
    const cg_best none = {INFINITY, -1};
    CG_BLOCK();
    CG_EACH_THREAD(t, threads) {
        float least = INFINITY;
        for (CG_STRIDE(i, t, threads, groups)) least = fminf(least, hi[i]);
        room->least[t] = least;
        if (t < CG_NEAREST_GROUP) room->best[t] = none;
    }
    CG_BARRIER();
    for (uint32_t half = threads / 2; half > 0; half /= 2) {
        CG_EACH_THREAD(t, threads) {
            if (t < half) room->least[t] = fminf(room->least[t], room->least[t + half]);
        }
        CG_BARRIER();
    }
    const float cut = fminf(room->least[0], bound);
    const int hopeless = n->qq[query] != n->qq[query]; /* the query holds a NaN */
    for (size_t first = 0; first < groups && !hopeless; first += threads) {
        CG_EACH_THREAD(t, threads) room->u.flag[t] = first + t < groups && lo[first + t] <= cut;
        CG_BARRIER();
        for (uint32_t at = 0; at < threads; at++) {
            if (at % 16 == 0) {
                const cg_flags f = room->u.flags[at / 16];
                if (!(f.any[0] | f.any[1] | f.any[2] | f.any[3])) {
                    at += 15;
                    continue;
                }
            }
            if (room->u.flag[at]) cg_decide_group(n, bound, query, first + at, threads, room);
        }
        CG_BARRIER();
    }
    for (uint32_t half = CG_NEAREST_GROUP / 2; half > 0; half /= 2) {
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
