#include "search.h"
#include "../base/buf.h"
#include "../base/gemm.h"
#include "../base/isa.h"
#include "../base/pool.h"
#include "merge_hits.h"
#include "search_kernels.h"
#include <float.h>
#include <math.h>

static const struct kernels {
    cg_scores_fn *scores;
    cg_candidates_fn *candidates;
} kernels[CG_ISA_COUNT] = {
    [CG_ISA_BASE] = {cg_scores_base, cg_candidates_base},
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = {cg_scores_avx2, cg_candidates_avx2},
    [CG_ISA_AVX512] = {cg_scores_avx512, cg_candidates_avx512},
#endif
};

enum {
    FEW = 8,      /* queries below which a pass of single products is cheaper than the packed product */
    BLOCK = 96,   /* rows of x that are scored before the scores are looked at */
    LEAST = 1024, /* rows that are worth a thread */
};
#define ROUND (FLT_EPSILON / 2.0f)

typedef struct search {
    cg_search_metric metric;
    size_t n, d, ldx, b, ldq, k; /* k <= n */
    const float *x, *norms, *q;
    struct kernels use;
    size_t ranges;       /* the rows are cut into so many */
    const float *panels; /* packed queries, `panel` floats for each group */
    size_t panel;
    cg_hit *hits;  /* (ranges, b, k) */
    size_t *sizes; /* (ranges, b) */
    float slack;   /* the packed and the single product of x and q are not further apart than slack |x| |q| */
} search;

/* The queries of one group as one range of rows sees them. */
typedef struct group {
    const search *s;
    size_t first, queries;
    cg_hit *hits; /* (queries, k) */
    size_t *sizes;
    float worst[CG_GROUP]; /* keys must be above it: the k-th best so far */
    float length[CG_GROUP], limit[CG_GROUP];
} group;

/* Scores of rows in a row, as keys in their place. */
static void to_keys(const search *s, size_t row, size_t rows, float *scores) {
    const float *const norms = s->norms + row;
    if (s->metric == CG_SEARCH_L2)
        for (size_t i = 0; i < rows; i++) scores[i] = -scores[i];
    if (s->metric == CG_SEARCH_COSINE)
        for (size_t i = 0; i < rows; i++) scores[i] = norms[i] > 0.0f ? scores[i] / norms[i] : 0.0f * scores[i];
}

/* What the packed product, or for cosine the product over |x|, must at least be to get above worst[j].
 * L2: |x - q|^2 < -worst is  x . q - |x|^2 / 2 > (|q|^2 + worst) / 2; the rest is the rounding of these sums. */
static void set_limit(group *g, size_t j) {
    const float worst = g->worst[j], square = g->length[j] * g->length[j];
    g->limit[j] = g->s->metric == CG_SEARCH_L2 ? (0.5f - 16.0f * ROUND) * square + (0.5f + g->s->slack) * worst : worst;
}

static void offer(group *g, size_t j, size_t row, float key) {
    if (!(key > g->worst[j])) return; /* equal: an earlier row has it. NaN: never */
    const size_t k = g->s->k;
    cg_hit *const heap = g->hits + j * k;
    cg_hits_push(heap, &g->sizes[j], k, (cg_hit){key, 0, (int64_t)row});
    if (g->sizes[j] < k) return;
    g->worst[j] = heap[0].key;
    set_limit(g, j);
}

static void search_few(group *g, size_t begin, size_t end) {
    const search *const s = g->s;
    float scores[BLOCK];
    for (size_t row = begin; row < end; row += BLOCK) {
        const size_t rows = end - row < BLOCK ? end - row : BLOCK;
        for (size_t j = 0; j < g->queries; j++) {
            s->use.scores(s->metric == CG_SEARCH_L2, rows, s->d, s->x + row * s->ldx, s->ldx,
                          s->q + (g->first + j) * s->ldq, scores);
            to_keys(s, row, rows, scores);
            for (size_t i = 0; i < rows; i++) offer(g, j, row + i, scores[i]);
        }
    }
}

static void look_at(group *g, size_t row, const float *products, uint64_t these) {
    const search *const s = g->s;
    const float norm = s->norms[row], square = norm * norm;
    const float shift = s->metric == CG_SEARCH_L2 ? -(0.5f - 16.0f * ROUND) * square : 0.0f;
    const float scale = s->metric == CG_SEARCH_COSINE ? norm : 1.0f;
    uint64_t left = these & s->use.candidates(products, g->length, g->limit, s->slack * norm, shift, scale);
    for (; left; left &= left - 1) {
        const size_t j = (size_t)__builtin_ctzll(left);
        float key;
        s->use.scores(s->metric == CG_SEARCH_L2, 1, s->d, s->x + row * s->ldx, s->ldx, s->q + (g->first + j) * s->ldq,
                      &key);
        to_keys(s, row, 1, &key);
        offer(g, j, row, key);
    }
}

static void search_many(group *g, size_t begin, size_t end, float *products) {
    const search *const s = g->s;
    const float *const panels = s->panels + g->first / CG_GROUP * s->panel;
    const uint64_t these = ~UINT64_C(0) >> (CG_GROUP - g->queries);
    for (size_t row = begin; row < end; row += BLOCK) {
        const size_t rows = end - row < BLOCK ? end - row : BLOCK;
        cg_gemm_f32(rows, g->queries, s->d, s->x + row * s->ldx, s->ldx, panels, NULL, CG_ACT_NONE, products, CG_GROUP);
        for (size_t i = 0; i < rows; i++) look_at(g, row + i, products + i * CG_GROUP, these);
    }
}

static float length_of(const search *s, size_t query) {
    double square = 0.0;
    const float *const q = s->q + query * s->ldq;
    for (size_t j = 0; j < s->d; j++) square += (double)q[j] * (double)q[j];
    return (float)sqrt(square);
}

static int by_packed(const search *s, size_t queries) { return s->panels && queries >= FEW; }

/* One group of queries against one range of rows; the tasks of a group follow each other. */
static void search_part(void *ctx, size_t begin, size_t end, void *scratch) {
    const search *const s = ctx;
    for (size_t task = begin; task < end; task++) {
        const size_t range = task % s->ranges, first = task / s->ranges * CG_GROUP;
        const size_t from = s->n / s->ranges * range, to = range + 1 == s->ranges ? s->n : from + s->n / s->ranges;
        group g = {.s = s,
                   .first = first,
                   .queries = s->b - first < CG_GROUP ? s->b - first : CG_GROUP,
                   .hits = s->hits + (range * s->b + first) * s->k,
                   .sizes = s->sizes + range * s->b + first};
        const int packed = by_packed(s, g.queries);
        for (size_t j = 0; j < g.queries; j++) {
            g.sizes[j] = 0;
            g.worst[j] = -INFINITY;
            if (packed) g.length[j] = length_of(s, first + j);
            set_limit(&g, j);
        }
        if (packed)
            search_many(&g, from, to, scratch);
        else
            search_few(&g, from, to);
        for (size_t j = 0; j < g.queries; j++) cg_hits_sort(g.hits + j * s->k, g.sizes[j]);
    }
}

typedef struct result {
    const search *s;
    size_t k;
    float *scores;
    int64_t *rows;
} result;

/* The ranges' lists together: a lower range has the lower rows, so that ties fall as they would in one list. */
static void write_best(void *ctx, size_t begin, size_t end, void *scratch) {
    const result *const r = ctx;
    const search *const s = r->s;
    cg_hit *const best = scratch;
    cg_hits *const lists = (cg_hits *)(void *)(best + s->k);
    const float sign = s->metric == CG_SEARCH_L2 ? -1.0f : 1.0f;
    for (size_t b = begin; b < end; b++) {
        for (size_t i = 0; i < s->ranges; i++) {
            lists[i].at = s->hits + (i * s->b + b) * s->k;
            lists[i].end = lists[i].at + s->sizes[i * s->b + b];
        }
        const size_t made = cg_hits_merge(lists, s->ranges, s->k, best);
        for (size_t i = 0; i < r->k; i++) {
            r->scores[b * r->k + i] = sign * (i < made ? best[i].key : -INFINITY);
            r->rows[b * r->k + i] = i < made ? best[i].id : -1;
        }
    }
}

static size_t count_ranges(size_t n, size_t groups) {
    const size_t threads = (size_t)cg_num_threads(), most = n / LEAST;
    const size_t wanted = threads == 1 || groups == 0 ? 1 : (2 * threads + groups - 1) / groups;
    return most < 1 ? 1 : wanted < most ? wanted : most;
}

static int pack_queries(search *s, size_t groups, cg_err *err) {
    s->panel = cg_gemm_packed_size(CG_GROUP, s->d);
    if (s->b < FEW || s->d == 0) return CG_OK;
    float *const panels =
        s->panel && groups < SIZE_MAX / 4 / s->panel ? cg_buf_alloc(groups * s->panel * sizeof *panels) : NULL;
    if (!panels) return cg_fail(err, CG_ENOMEM, "Q: no memory for %zu packed queries", s->b);
    for (size_t g = 0; g < groups; g++) {
        const size_t first = g * CG_GROUP, queries = s->b - first < CG_GROUP ? s->b - first : CG_GROUP;
        cg_gemm_pack(queries, s->d, s->q + first * s->ldq, s->ldq, panels + g * s->panel);
    }
    s->panels = panels;
    return CG_OK;
}

int cg_search_flat(cg_search_metric metric, size_t n, size_t d, const float *x, size_t ldx, const float *norms,
                   size_t b, const float *q, size_t ldq, size_t k, float *scores, int64_t *rows, cg_err *err) {
    if (metric >= CG_SEARCH_METRICS) return cg_fail(err, CG_EVALUE, "metric: expected 0 to 2, got %d", (int)metric);
    const size_t groups = (b + CG_GROUP - 1) / CG_GROUP;
    search s = {.metric = metric,
                .n = n,
                .d = d,
                .ldx = ldx,
                .b = b,
                .ldq = ldq,
                .k = k < n ? k : n,
                .x = x,
                .norms = norms,
                .q = q,
                .use = kernels[cg_isa()],
                .ranges = count_ranges(n, groups),
                .slack = 2.1f * (float)(d + 16) * ROUND};
    const size_t lists = s.ranges * b;
    if (b && (lists / b != s.ranges || (s.k && lists > SIZE_MAX / 2 / sizeof(cg_hit) / s.k)))
        return cg_fail(err, CG_ENOMEM, "k: no memory for %zu results of %zu queries", k, b);
    s.hits = cg_buf_alloc(lists * s.k * sizeof *s.hits);
    s.sizes = cg_buf_alloc(lists * sizeof *s.sizes);
    int rc = s.hits && s.sizes ? pack_queries(&s, groups, err)
                               : cg_fail(err, CG_ENOMEM, "k: no memory for %zu results of %zu queries", k, b);
    if (!rc && s.k) rc = cg_parallel_for(groups * s.ranges, 1, sizeof(float) * BLOCK * CG_GROUP, search_part, &s, err);
    for (size_t i = 0; !s.k && s.sizes && i < lists; i++) s.sizes[i] = 0;
    if (!rc) {
        result r = {&s, k, scores, rows};
        rc = cg_parallel_for(b, 16, s.k * sizeof(cg_hit) + s.ranges * sizeof(cg_hits), write_best, &r, err);
    }
    cg_buf_free((void *)s.panels);
    cg_buf_free(s.sizes);
    cg_buf_free(s.hits);
    return rc;
}
