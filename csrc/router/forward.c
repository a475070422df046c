#include "forward.h"
#include "../base/buf.h"
#include "../base/gemm.h"
#include "../base/pool.h"
#include "../base/vmath.h"
#include "network_kernels.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK = 32, /* queries in a block, the unit of work of a thread: 0.2 ms of first layer */
    ROWS = 48   /* (query, source) rows through the second layer at once: full tiles, in the first-level cache */
};

struct cg_router {
    size_t encoders, sources, h1, h2, wide1, wide2, groups;
    size_t *dim;        /* (encoders) */
    size_t *encoder;    /* (sources) */
    size_t *group;      /* (encoders) encoders of one width share weights and a product */
    size_t *column;     /* (sources) place among the dot products: sources by encoder */
    size_t *first, *of; /* (encoders) the first column of an encoder, and how many */
    float **wq;         /* (groups) panels of Wq's first dim columns */
    float **centroids;  /* (encoders) panels of the centroids of its sources; NULL without the dot feature */
    float *shift;       /* (sources, h1) */
    float *cross;       /* (h1) or NULL */
    float *w2, *gain1, *bias1, *b2, *gain2, *bias2, *w3, b3;
};

/* ---- the packed weights ---- */

size_t cg_router_tail(size_t h1, size_t h2) { return 2 * h1 + h1 * h2 + 4 * h2 + 1; }

static void *taken(size_t count, size_t item, int *short_of) {
    void *const p = cg_buf_alloc(count * item);
    if (!p) *short_of = 1;
    return p;
}

static float *copied(const float *from, size_t n, int *short_of) {
    float *const p = taken(n, sizeof *p, short_of);
    if (p) memcpy(p, from, n * sizeof *p);
    return p;
}

static float *packed(size_t n, size_t k, const float *b, size_t ldb, int *short_of) {
    float *const p = taken(cg_gemm_packed_size(n, k), sizeof *p, short_of);
    if (p) cg_gemm_pack(n, k, b, ldb, p);
    return p;
}

/* A number of floats that may be below `least` or does not fit. */
static int check(size_t value, size_t least, const char *name, cg_err *err) {
    if (value >= least && value <= CG_ROUTER_WIDEST) return CG_OK;
    return cg_fail(err, CG_EVALUE, "%s: expected %zu to %zu, got %zu", name, least, CG_ROUTER_WIDEST, value);
}

static int check_parts(const cg_router_parts *p, cg_err *err) {
    int rc = check(p->encoders, 1, "encoders", err);
    if (!rc) rc = check(p->sources, 1, "sources", err);
    if (!rc) rc = check(p->hidden1, 1, "hidden1", err);
    if (!rc) rc = check(p->hidden2, 1, "hidden2", err);
    for (size_t e = 0; e < p->encoders && !rc; e++)
        if (p->dims[e] < 0 || p->dims[e] > (int64_t)CG_ROUTER_WIDEST)
            rc = cg_fail(err, CG_EVALUE, "dims[%zu]: expected 0 to %zu, got %lld", e, CG_ROUTER_WIDEST,
                         (long long)p->dims[e]);
    for (size_t s = 0; s < p->sources && !rc; s++)
        if (p->encoder[s] < 0 || (uint64_t)p->encoder[s] >= p->encoders)
            rc = cg_fail(err, CG_EVALUE, "encoder[%zu]: expected 0 to %zu, got %lld", s, p->encoders - 1,
                         (long long)p->encoder[s]);
    return rc;
}

/* Widths, groups of equal ones and the columns of the dot products. */
static void arrange(cg_router *r, const cg_router_parts *p) {
    size_t column = 0;
    for (size_t s = 0; s < r->sources; s++) r->encoder[s] = (size_t)p->encoder[s];
    for (size_t e = 0; e < r->encoders; e++) {
        r->dim[e] = (size_t)p->dims[e];
        r->group[e] = r->groups;
        for (size_t o = 0; o < e; o++)
            if (r->dim[o] == r->dim[e]) r->group[e] = r->group[o];
        r->groups += r->group[e] == r->groups;
        r->first[e] = column;
        for (size_t s = 0; s < r->sources; s++)
            if (r->encoder[s] == e) r->column[s] = column++;
        r->of[e] = column - r->first[e];
    }
}

static void copy_weights(cg_router *r, const cg_router_parts *p, int *short_of) {
    const size_t h1 = r->h1, h2 = r->h2;
    size_t d = 0;
    for (size_t e = 0; e < r->encoders; e++) d = r->dim[e] > d ? r->dim[e] : d;
    for (size_t e = 0; e < r->encoders; e++)
        if (!r->wq[r->group[e]]) r->wq[r->group[e]] = packed(h1, r->dim[e], p->wq, d, short_of);
    if (p->cross) {
        r->cross = copied(p->cross, h1, short_of);
        float *const rows = taken(r->sources * (d ? d : 1), sizeof *rows, short_of);
        for (size_t e = 0; rows && e < r->encoders; e++) {
            for (size_t s = 0; s < r->sources; s++)
                if (r->encoder[s] == e)
                    memcpy(rows + (r->column[s] - r->first[e]) * d, p->centroids + s * d, d * sizeof *rows);
            r->centroids[e] = packed(r->of[e], r->dim[e], rows, d, short_of);
        }
        cg_buf_free(rows);
    }
    r->shift = copied(p->shift, r->sources * h1, short_of);
    const float *t = p->tail;
    r->gain1 = copied(t, h1, short_of);
    r->bias1 = copied(t += h1, h1, short_of);
    r->w2 = packed(h2, h1, t += h1, h1, short_of);
    r->b2 = copied(t += h1 * h2, h2, short_of);
    r->gain2 = copied(t += h2, h2, short_of);
    r->bias2 = copied(t += h2, h2, short_of);
    r->w3 = copied(t += h2, h2, short_of);
    r->b3 = t[h2];
}

cg_router *cg_router_new(const cg_router_parts *p, cg_err *err) {
    if (check_parts(p, err)) return NULL;
    cg_router *const r = calloc(1, sizeof *r);
    int short_of = !r;
    if (r) {
        r->encoders = p->encoders;
        r->sources = p->sources;
        r->h1 = p->hidden1;
        r->h2 = p->hidden2;
        r->wide1 = (r->h1 + CG_PANEL - 1) / CG_PANEL * CG_PANEL;
        r->wide2 = (r->h2 + CG_PANEL - 1) / CG_PANEL * CG_PANEL;
        size_t *const index = calloc(4 * r->encoders + 2 * r->sources, sizeof *index);
        r->dim = index;
        r->wq = calloc(r->encoders, sizeof *r->wq);
        r->centroids = calloc(r->encoders, sizeof *r->centroids);
        short_of = !index || !r->wq || !r->centroids;
        if (!short_of) {
            r->group = index + r->encoders;
            r->first = r->group + r->encoders;
            r->of = r->first + r->encoders;
            r->encoder = r->of + r->encoders;
            r->column = r->encoder + r->sources;
            arrange(r, p);
            copy_weights(r, p, &short_of);
        }
    }
    if (!short_of) return r;
    cg_router_free(r);
    cg_fail(err, CG_ENOMEM, "no memory for the router's weights");
    return NULL;
}

void cg_router_free(cg_router *r) {
    if (!r) return;
    for (size_t e = 0; e < r->encoders; e++) {
        if (r->wq) cg_buf_free(r->wq[e]);
        if (r->centroids) cg_buf_free(r->centroids[e]);
    }
    float *const all[] = {r->shift, r->cross, r->w2, r->gain1, r->bias1, r->b2, r->gain2, r->bias2, r->w3};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) cg_buf_free(all[i]);
    free(r->dim);
    free(r->wq);
    free(r->centroids);
    free(r);
}

size_t cg_router_encoders(const cg_router *r) { return r->encoders; }
size_t cg_router_sources(const cg_router *r) { return r->sources; }
size_t cg_router_dim(const cg_router *r, size_t encoder) { return r->dim[encoder]; }

/* ---- forward ---- */

typedef struct forward_job {
    const cg_router *r;
    size_t batch;
    const float *const *queries;
    float *p;
} forward_job;

/* A thread's own room for a block: products of the first layer, rows of the second, dot products. */
typedef struct room {
    float *z1, *h1, *z2, *dots;
    const float **from;
    float **to;
} room;

static size_t lay(const cg_router *r, size_t queries, char *memory, room *out) {
    const size_t rows = queries * r->sources < ROWS ? queries * r->sources : ROWS;
    const size_t pointers = queries * r->encoders > rows ? queries * r->encoders : rows;
    const size_t bytes[] = {queries * r->encoders * r->wide1 * sizeof(float),
                            rows * r->wide1 * sizeof(float),
                            rows * r->wide2 * sizeof(float),
                            r->cross ? queries * r->sources * sizeof(float) : 0,
                            pointers * sizeof(float *),
                            pointers * sizeof(float *)};
    char *at[6];
    size_t used = 0;
    for (size_t i = 0; i < 6; i++) {
        at[i] = memory ? memory + used : NULL;
        used += (bytes[i] + CG_LINE - 1) / CG_LINE * CG_LINE;
    }
    *out = (room){(float *)(void *)at[0], (float *)(void *)at[1], (float *)(void *)at[2],
                  (float *)(void *)at[3], (void *)at[4],          (void *)at[5]};
    return used;
}

/* z1 of every query and encoder, one product a width; the dot products. */
static void first_layer(const forward_job *j, size_t begin, size_t n, const room *w) {
    const cg_router *const r = j->r;
    for (size_t g = 0; g < r->groups; g++) {
        size_t m = 0, k = 0;
        for (size_t e = 0; e < r->encoders; e++) {
            if (r->group[e] != g) continue;
            k = r->dim[e];
            for (size_t b = 0; b < n; b++, m++) {
                w->from[m] = j->queries[e] + (begin + b) * k;
                w->to[m] = w->z1 + (e * n + b) * r->wide1;
            }
        }
        cg_gemm_rows_f32(m, r->wide1, k, w->from, r->wq[g], NULL, CG_ACT_NONE, w->to);
    }
    if (!r->cross) return;
    for (size_t e = 0; e < r->encoders; e++)
        cg_gemm_f32(n, r->of[e], r->dim[e], j->queries[e] + begin * r->dim[e], r->dim[e], r->centroids[e], NULL,
                    CG_ACT_NONE, w->dots + r->first[e], r->sources);
}

static void forward_block(void *ctx, size_t begin, size_t end, void *scratch) {
    const forward_job *const j = ctx;
    const cg_router *const r = j->r;
    const cg_router_kernels *const run = cg_router_kernels_now();
    const size_t n = end - begin, N = r->sources;
    float *const p = j->p + begin * N;
    room w;
    lay(r, n, scratch, &w);
    first_layer(j, begin, n, &w);
    for (size_t first = 0; first < n * N; first += ROWS) {
        const size_t m = n * N - first < ROWS ? n * N - first : ROWS;
        for (size_t i = 0; i < m; i++) {
            const size_t b = (first + i) / N, s = (first + i) % N;
            w.from[i] = w.h1 + i * r->wide1;
            w.to[i] = w.z2 + i * r->wide2;
            run->norm(r->h1, w.z1 + (r->encoder[s] * n + b) * r->wide1, r->shift + s * r->h1,
                      r->cross ? w.dots[b * N + r->column[s]] : 0.0f, r->cross, r->gain1, r->bias1, NULL,
                      w.h1 + i * r->wide1);
        }
        cg_gemm_rows_f32(m, r->wide2, r->h1, w.from, r->w2, NULL, CG_ACT_NONE, w.to);
        for (size_t i = 0; i < m; i++) {
            run->norm(r->h2, w.to[i], r->b2, 0.0f, NULL, r->gain2, r->bias2, NULL, w.to[i]);
            p[first + i] = -(run->dot(r->h2, w.to[i], r->w3) + r->b3);
        }
    }
    cg_exp_f32(n * N, p, p);
    for (size_t i = 0; i < n * N; i++) p[i] = 1.0f / (1.0f + p[i]);
}

/* All exponent bits set: NaN or infinity. Whole numbers, so that the compiler can do four at a time. */
static int all_finite(const float *x, size_t n) {
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & 0x7F800000u) == 0x7F800000u;
    }
    return !bad;
}

int cg_router_forward(const cg_router *r, size_t batch, const float *const *queries, float *p, cg_err *err) {
    for (size_t e = 0; e < r->encoders; e++)
        if (!all_finite(queries[e], batch * r->dim[e]))
            return cg_fail(err, CG_EVALUE, "queries[%zu]: expected finite values", e);
    if (batch == 0) return CG_OK;
    forward_job j = {r, batch, queries, p};
    room w;
    return cg_parallel_for(batch, BLOCK, lay(r, batch < BLOCK ? batch : BLOCK, NULL, &w), forward_block, &j, err);
}

/* ---- selection ---- */

static int before(float a, float b) { return a > b || (isnan(b) && !isnan(a)); }

/* How many come before s. */
static size_t rank_of(size_t N, const float *p, size_t s) {
    size_t rank = 0;
    for (size_t t = 0; t < N; t++) rank += before(p[t], p[s]) || (t < s && !before(p[s], p[t]));
    return rank;
}

void cg_router_choose(size_t batch, size_t N, const float *p, const cg_router_policy *policy, uint8_t *mask) {
    for (size_t b = 0; b < batch; b++, p += N, mask += N) {
        size_t chosen = 0;
        for (size_t s = 0; s < N; s++) chosen += mask[s] = p[s] > policy->threshold[s];
        const int empty = chosen == 0 && policy->least == 0;
        if (policy->least == 0 && chosen <= policy->most && !(empty && policy->empty != CG_ROUTER_NONE)) continue;
        const size_t fill = !empty ? policy->least : policy->empty == CG_ROUTER_TOP1 ? 1 : policy->most;
        for (size_t s = 0; s < N; s++) {
            const size_t rank = rank_of(N, p, s);
            mask[s] = (mask[s] || rank < fill) && rank < policy->most;
        }
    }
}
