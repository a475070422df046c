/* csrc/cache/batch.c -- many queries over the thread pool: each is one lookup, since early abandon beats a matrix
 * product that must compute every distance. What lookups leave behind is done afterwards, in the order of rows. */
#define _POSIX_C_SOURCE 200809L /* pthread_rwlock_t */
#include "../base/pool.h"
#include "cache_internal.h"
#include <math.h>
#include <stdlib.h>

enum { MISS = 0, FOUND = 1, NONFINITE = 2, ZERO = 3 };

typedef struct batch {
    cg_cache *c;
    const float *x;
    cg_ask ask;
    uint8_t *found;
    int64_t *ids;
    float *distance;
    cg_hit *hits;
} batch;

static void batch_task(void *ctx, size_t begin, size_t end, void *scratch) {
    const batch *const t = ctx;
    const size_t k = t->ask.k, dim = t->c->config.dim;
    float *const q = scratch;
    for (size_t i = begin; i < end; i++) {
        int64_t *const ids = t->ids + i * k;
        size_t got = 0;
        const cg_query kind = cg_cache_prepare(t->c, t->x + i * dim, q, 1);
        t->found[i] = kind == CG_QUERY_NONFINITE ? NONFINITE : kind == CG_QUERY_ZERO ? ZERO : MISS;
        t->distance[i] = NAN;
        if (kind == CG_QUERY_GOOD && cg_cache_lookup(t->c, q, &t->ask, &t->hits[i], ids, NULL, k)) {
            t->found[i] = FOUND;
            t->distance[i] = t->hits[i].distance;
            got = t->hits[i].count;
        }
        for (size_t j = got; j < k; j++) ids[j] = -1;
    }
}

int cg_cache_lookup_batch(cg_cache *c, size_t n, const float *x, const cg_ask *ask, int strict, uint8_t *found,
                          int64_t *ids, float *distance, cg_err *err) {
    if (ask->k < 1) return cg_fail(err, CG_EVALUE, "k: expected at least 1, got 0");
    if (n == 0) return CG_OK;
    batch t = {.c = c, .x = x, .ask = *ask, .found = found, .ids = ids, .distance = distance};
    t.ask.quiet = 1;
    t.hits = malloc(n * sizeof *t.hits);
    if (!t.hits) return cg_fail(err, CG_ENOMEM, "no memory for %zu lookups", n);
    enum { WORTH_WAKING_NS = 20000 };
    const double each = cg_cache_expected_ns(c) + 50.0;
    const size_t grain = each > WORTH_WAKING_NS ? 1 : (size_t)(WORTH_WAKING_NS / each) + 1;
    int rc = cg_parallel_for(n, grain, c->dpad * sizeof *x, batch_task, &t, err);
    for (size_t i = 0; i < n && rc == CG_OK && strict; i++)
        if (found[i] == NONFINITE)
            rc = cg_fail(err, CG_EVALUE, "queries[%zu]: expected finite values, got NaN or infinity", i);
    for (size_t i = 0; i < n && rc == CG_OK && !ask->quiet; i++) {
        if (found[i] == FOUND) cg_cache_touch(c, t.hits[i].slot);
        const int counter = found[i] == FOUND       ? CG_COUNT_hits
                            : found[i] == NONFINITE ? CG_COUNT_nonfinite
                            : found[i] == ZERO      ? CG_COUNT_zero_vectors
                                                    : CG_COUNT_misses;
        cg_cache_count(c, counter, 1);
    }
    for (size_t i = 0; i < n && rc == CG_OK; i++) found[i] = found[i] == FOUND;
    free(t.hits);
    return rc;
}
