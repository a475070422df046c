/* tests/c/test_cache.c -- the cache from C: nearest key against a plain search, the same answers on one and two
 * threads, readers and writers at once with values that are a function of their keys, policies at the edges, state out
 * and back in, errors. Arrays are as long as they must be: a sanitizer sees every element too far. */
#include "../../csrc/base/buf.h"
#include "../../csrc/base/isa.h"
#include "../../csrc/base/pool.h"
#include "../../csrc/cache/bucket.h"
#include "../../csrc/cache/cache.h"
#include "../../csrc/cache/lsh.h"
#include "../../csrc/cache/scan.h"
#include "../../csrc/cache/state.h"
#include "check.h"
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static uint32_t state = 1;
static float noise(void) { /* in [-1, 1) */
    state = state * 1664525u + 1013904223u;
    return (float)(int32_t)state * 0x1p-31f;
}

static void *need(size_t bytes) {
    void *p = cg_buf_alloc(bytes);
    if (!p) exit(2);
    return p;
}

static cg_cache *make(cg_cache_config config) {
    cg_err err;
    if (config.ttl == 0) config.ttl = CG_NEVER;
    cg_cache *const c = cg_cache_new(&config, &err);
    if (!c) exit(2);
    return c;
}

static int put(cg_cache *c, const float *x, const int64_t *ids, size_t count, uint64_t *slot) {
    float *const q = need(cg_cache_padded(c) * sizeof *q);
    const cg_new_entry e = {
        .k = (uint32_t)count, .count = count, .ids = ids, .tolerance = (double)NAN, .ttl = CG_NEVER};
    cg_err err;
    if (cg_cache_prepare(c, x, q, 0) != CG_QUERY_GOOD) exit(2);
    const int rc = cg_cache_insert(c, q, &e, slot, &err);
    cg_buf_free(q);
    return rc;
}

static int get(cg_cache *c, const float *x, double tolerance, cg_hit *hit, int64_t *ids, size_t room) {
    float *const q = need(cg_cache_padded(c) * sizeof *q);
    const cg_ask ask = {.tolerance = tolerance};
    int rc = 0;
    if (cg_cache_prepare(c, x, q, 0) == CG_QUERY_GOOD) rc = cg_cache_lookup(c, q, &ask, hit, ids, NULL, room);
    cg_buf_free(q);
    return rc;
}

/* ---- kernels ---- */

static void scans(void) {
    static const size_t dims[] = {1, 7, 15, 16, 17, 65, 130};
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
        for (size_t groups = 1; groups <= 3; groups++) {
            const size_t dim = dims[d], dpad = cg_scan_padded(dim), n = groups * CG_LANES;
            float *const keys = need(n * dpad * sizeof *keys), *const rows = need(n * dpad * sizeof *rows);
            float *const q = need(dpad * sizeof *q), *const back = need(dim * sizeof *back), total[CG_LANES];
            memset(rows, 0, n * dpad * sizeof *rows);
            memset(q, 0, dpad * sizeof *q);
            for (size_t j = 0; j < dim; j++) q[j] = noise();
            for (size_t i = 0; i < n; i++) {
                for (size_t j = 0; j < dim; j++) rows[i * dpad + j] = noise();
                cg_scan_put(keys, dpad, i, rows + i * dpad);
            }
            cg_scan_get(keys, dim, dpad, n - 1, back);
            CHECK(memcmp(back, rows + (n - 1) * dpad, dim * sizeof *back) == 0);
            for (int ip = 0; ip < 2; ip++) {
                size_t g = 0;
                for (size_t at = 0; (g = cg_scan_next(ip, keys, dpad, at, groups, q, INFINITY, total)) < groups;
                     at = g + 1) {
                    CHECK(g == at); /* everything is within an infinite bound */
                    for (size_t l = 0; l < CG_LANES; l++) {
                        double exact = 0.0, size = 0.0;
                        for (size_t j = 0; j < dim; j++) {
                            const double a = (double)q[j], b = (double)rows[(g * CG_LANES + l) * dpad + j];
                            exact += ip ? -a * b : (a - b) * (a - b);
                            size += ip ? fabs(a * b) : (a - b) * (a - b);
                        }
                        CHECK(fabs((double)total[l] - exact) <= 2e-6 * size);
                    }
                }
                CHECK(g == groups);
            }
            /* Exactly the groups with a lane within the bound are returned, for a bound that one lane just meets. */
            CHECK(cg_scan_next(0, keys, dpad, groups - 1, groups, q, INFINITY, total) == groups - 1);
            float least = total[0];
            for (size_t l = 1; l < CG_LANES; l++) least = fminf(least, total[l]);
            CHECK(cg_scan_next(0, keys, dpad, groups - 1, groups, q, least, total) == groups - 1);
            CHECK(cg_scan_next(0, keys, dpad, groups - 1, groups, q, nextafterf(least, -1.0f), total) == groups);
            for (size_t l = 0; l < CG_LANES; l++) cg_scan_far(keys, dpad, (groups - 1) * CG_LANES + l);
            CHECK(cg_scan_next(0, keys, dpad, groups - 1, groups, q, 1e6f, total) == groups);
            CHECK(cg_scan_next(0, keys, dpad, 0, 0, q, INFINITY, total) == 0);
            cg_buf_free(keys), cg_buf_free(rows), cg_buf_free(q), cg_buf_free(back);
        }
}

static void signatures(uint32_t *sum) {
    state = 7;
    *sum = 0;
    for (size_t bits = 1; bits <= CG_BITS_MOST; bits++) {
        const size_t dpad = 16 * (bits % 5 + 1);
        float *const planes = need(bits * dpad * sizeof *planes), *const q = need(dpad * sizeof *q);
        float projection[CG_BITS_MOST];
        uint32_t probe[CG_BITS_MOST + 1];
        for (size_t i = 0; i < bits * dpad; i++) planes[i] = noise();
        for (size_t i = 0; i < dpad; i++) q[i] = noise();
        const uint32_t s = cg_lsh_signature(bits, dpad, planes, q, projection);
        *sum = *sum * 31 + s; /* the same under every instruction set */
        const size_t made = cg_lsh_probes(bits, s, projection, bits, probe);
        CHECK(made == (bits == 1 ? 2 : bits + 1) && probe[0] == s);
        for (size_t i = 0; i < made; i++)
            for (size_t j = 0; j < i; j++) CHECK(probe[i] != probe[j] && (uint64_t)probe[i] >> bits == 0);
        cg_buf_free(planes), cg_buf_free(q);
    }
}

/* ---- threads ---- */

enum { DIM = 33, POOL = 64, TURNS = 3000, READERS = 4, WRITERS = 2 };
static float pool[POOL * DIM];

typedef struct worker {
    cg_cache *c;
    unsigned number;
    size_t wrong, hits;
} worker;

static size_t length_of(size_t key) { return key % 37 + 1; }

static void *read_all(void *arg) {
    worker *const w = arg;
    int64_t ids[64];
    cg_hit hit;
    for (size_t t = 0; t < TURNS; t++) {
        const size_t i = (t * 7 + w->number) % POOL;
        if (!get(w->c, pool + i * DIM, (double)NAN, &hit, ids, 64)) continue;
        w->hits++;
        w->wrong += hit.count != length_of(i) || hit.distance != 0.0f;
        for (size_t j = 0; j < length_of(i) && j < hit.count; j++) w->wrong += ids[j] != (int64_t)(1000 * i + j);
    }
    return NULL;
}

static void *write_all(void *arg) {
    worker *const w = arg;
    int64_t ids[64];
    uint64_t slot;
    for (size_t t = 0; t < TURNS; t++) {
        const size_t i = (t * 5 + 11 * w->number) % POOL;
        for (size_t j = 0; j < length_of(i); j++) ids[j] = (int64_t)(1000 * i + j);
        w->wrong += put(w->c, pool + i * DIM, ids, length_of(i), &slot) != CG_OK;
        if (t % 50 == 0) cg_cache_invalidate(w->c, slot);
        if (t % 501 == 0) cg_cache_bump(w->c);
        if (t % 97 == 0) cg_cache_remove_ids(w->c, 1, ids);
    }
    return NULL;
}

static void threads(cg_cache_config config) {
    cg_cache *const c = make(config);
    pthread_t thread[READERS + WRITERS];
    worker w[READERS + WRITERS];
    for (size_t i = 0; i < POOL * DIM; i++) pool[i] = noise();
    for (unsigned i = 0; i < READERS + WRITERS; i++) {
        w[i] = (worker){c, i, 0, 0};
        if (pthread_create(&thread[i], NULL, i < READERS ? read_all : write_all, &w[i]) != 0) exit(2);
    }
    size_t hits = 0;
    for (unsigned i = 0; i < READERS + WRITERS; i++) {
        pthread_join(thread[i], NULL);
        CHECK(w[i].wrong == 0);
        hits += w[i].hits;
    }
    cg_cache_stats stats;
    cg_cache_read_stats(c, &stats);
    CHECK(hits == stats.counters[CG_COUNT_hits]);
    CHECK(stats.entries == stats.counters[CG_COUNT_insertions] - stats.counters[CG_COUNT_evictions] -
                               stats.counters[CG_COUNT_invalidated]);
    cg_cache_free(c);
}

/* ---- batches ---- */

static void batches(cg_cache_config config) {
    enum { N = 300, K = 3 };
    config.dim = DIM;
    cg_cache *const c = make(config);
    float *const x = need(N * DIM * sizeof *x), distance[2][N];
    static int64_t ids[2][N * K];
    uint8_t found[2][N];
    const cg_ask ask = {.k = 1, .tolerance = (double)NAN};
    cg_ask three = ask;
    three.k = K;
    cg_err err;
    uint64_t slot;
    for (size_t i = 0; i < N * DIM; i++) x[i] = noise();
    for (int64_t i = 0; i < N; i += 2) {
        const int64_t list[K] = {i, i + 1, i + 2};
        CHECK(put(c, x + i * DIM, list, i % 4 ? K : 2, &slot) == CG_OK);
    }
    for (int t = 0; t < 2; t++) {
        CHECK(cg_set_num_threads(t + 1, &err) == CG_OK);
        CHECK(cg_cache_lookup_batch(c, N, x, &three, 1, found[t], ids[t], distance[t], &err) == CG_OK);
    }
    CHECK(memcmp(found[0], found[1], N) == 0 && memcmp(ids[0], ids[1], sizeof ids[0]) == 0);
    for (size_t i = 0; i < N; i++) {
        const int there = i % 4 == 2; /* the others were stored with two */
        CHECK(found[0][i] == there && (ids[0][i * K] == (int64_t)i) == there && isnan(distance[0][i]) == !there);
    }
    x[5 * DIM + 3] = NAN;
    CHECK(cg_cache_lookup_batch(c, N, x, &ask, 1, found[0], ids[0], distance[0], &err) == CG_EVALUE);
    CHECK(strstr(err.text, "queries[5]") != NULL);
    CHECK(cg_cache_lookup_batch(c, N, x, &ask, 0, found[0], ids[0], distance[0], &err) == CG_OK && !found[0][5]);
    cg_buf_free(x);
    cg_cache_free(c);
}

/* ---- policies, state, errors ---- */

static void policies(void) {
    for (int kind = 0; kind < CG_EVICTIONS; kind++)
        for (uint32_t capacity = 1; capacity < 40; capacity += capacity < 4 ? 1 : 12) {
            cg_cache *const c = make(
                (cg_cache_config){.dim = DIM, .capacity = capacity, .eviction = (cg_eviction)kind, .tolerance = 0.0});
            cg_hit hit;
            int64_t ids[4];
            uint64_t slot;
            for (size_t i = 0; i < POOL * DIM; i++) pool[i] = noise();
            for (int64_t t = 0; t < 500; t++) {
                const int64_t i = t * t % POOL;
                const int64_t list[2] = {i, t};
                if (!get(c, pool + i * DIM, (double)NAN, &hit, ids, 4))
                    CHECK(put(c, pool + i * DIM, list, 2, &slot) == 0);
                CHECK(get(c, pool + i * DIM, 0.0, &hit, ids, 4) && ids[0] == i && hit.count == 2);
                CHECK(get(c, pool + i * DIM, 0.0, &hit, NULL, 0) && hit.count == 2); /* no room: only said */
                if (t % 29 == 0) CHECK(cg_cache_invalidate(c, hit.slot) == 1 && !cg_cache_invalidate(c, hit.slot));
                CHECK(cg_cache_size(c) <= capacity);
            }
            cg_cache_free(c);
        }
}

static void state_and_back(cg_cache_config config) {
    cg_cache *const c = make(config), *const again = make(config);
    int64_t list[POOL];
    uint64_t slot;
    cg_err err;
    for (size_t i = 0; i < POOL * DIM; i++) pool[i] = noise();
    for (size_t i = 0; i < POOL; i++) {
        for (size_t j = 0; j < i; j++) list[j] = (int64_t)(i * j);
        CHECK(put(c, pool + i * DIM, list, i < 1 ? 1 : i, &slot) == CG_OK);
    }
    cg_cache_rows r = {0};
    cg_cache_measure(c, &r);
    CHECK(r.n == cg_cache_size(c) && r.n > 10);
    r.keys = need(r.n * DIM * sizeof *r.keys), r.slot = need(r.n * 8), r.signature = need(r.n * 4);
    r.seq = need(r.n * 8), r.age = need(r.n * 8), r.left = need(r.n * 8), r.bound = need(r.n * 4);
    r.k = need(r.n * 4), r.count = need(r.n * 4), r.measured = need(r.n * 4), r.space = need(r.n * 4);
    r.where = need(r.n), r.mark = need(r.n), r.hand = need(r.n), r.use = need(r.n * 8);
    r.ids = need(r.lists * 8), r.distances = need(r.lists * 4);
    r.ghost_signature = need(r.ghosts * 4 + 1), r.ghost = need(r.ghosts * 8 + 1);
    CHECK(cg_cache_export(c, &r) == 1);
    CHECK(cg_cache_restore(again, &r, &err) == CG_OK && cg_cache_size(again) == r.n);
    cg_hit a, b;
    int64_t ids[2][POOL];
    for (size_t i = 0; i < POOL; i++) {
        const int there = get(c, pool + i * DIM, 0.0, &a, ids[0], POOL);
        CHECK(there == get(again, pool + i * DIM, 0.0, &b, ids[1], POOL));
        CHECK(!there || (a.count == b.count && memcmp(ids[0], ids[1], a.count * sizeof **ids) == 0));
    }
    CHECK(put(c, pool, list, 1, &slot) == CG_OK && cg_cache_invalidate(c, slot));
    CHECK(cg_cache_export(c, &r) == 0); /* another size now */
    cg_cache_free(again);
    r.where[0] = 7;
    cg_cache *const bad = make(config);
    CHECK(cg_cache_restore(bad, &r, &err) == CG_EVALUE && strstr(err.text, "where[0]"));
    cg_cache_free(bad);
    void *const arrays[] = {r.keys,  r.slot, r.signature, r.seq,      r.age,       r.left,
                            r.bound, r.k,    r.count,     r.measured, r.space,     r.where,
                            r.mark,  r.hand, r.use,       r.ids,      r.distances, r.ghost_signature,
                            r.ghost};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) cg_buf_free(arrays[i]);
    cg_cache_free(c);
}

static void errors(void) {
    cg_err err;
    const cg_cache_config good = {.dim = 4, .capacity = 3, .tolerance = 1.0, .ttl = CG_NEVER};
    cg_cache_config k = good;
    k.dim = 0;
    CHECK(!cg_cache_new(&k, &err) && err.code == CG_EVALUE && strstr(err.text, "dim: expected 1 to"));
    k = good, k.capacity = 0;
    CHECK(!cg_cache_new(&k, &err) && strstr(err.text, "capacity: expected at least 1"));
    k = good, k.tolerance = (double)NAN;
    CHECK(!cg_cache_new(&k, &err) && strstr(err.text, "tolerance"));
    k = good, k.dim = 1u << 20, k.capacity = 1u << 30;
    CHECK(!cg_cache_new(&k, &err) && err.code == CG_ENOMEM);
    k = good, k.bits = 25;
    CHECK(!cg_cache_new(&k, &err) && strstr(err.text, "n_bits: expected 1 to 24, got 25"));
    cg_cache_free(NULL);
    cg_cache *const c = make(good);
    float q[16] = {1, 2, 3, 4};
    uint64_t slot;
    cg_new_entry e = {.k = 1, .count = 1, .ids = (int64_t[]){1}, .tolerance = -1.0, .ttl = CG_NEVER};
    CHECK(cg_cache_insert(c, q, &e, &slot, &err) == CG_EVALUE && strstr(err.text, "tolerance"));
    e.tolerance = (double)NAN, e.ttl = 0;
    CHECK(cg_cache_insert(c, q, &e, &slot, &err) == CG_EVALUE && strstr(err.text, "ttl"));
    CHECK(cg_cache_size(c) == 0 && !cg_cache_invalidate(c, 0) && !cg_cache_invalidate(c, UINT64_MAX));
    cg_cache_free(c);
}

int main(void) {
    float *const planes = need(4 * DIM * sizeof *planes);
    for (size_t i = 0; i < 4 * DIM; i++) planes[i] = noise();
    const cg_cache_config flat = {.dim = DIM, .capacity = 40, .tolerance = 0.0};
    cg_cache_config lsh = {
        .dim = DIM, .bucket_capacity = 5, .bits = 4, .probes = 3, .planes = planes, .tolerance = 0.0};
    cg_cache_config large = flat;
    large.capacity = 300;
    uint32_t first = 0;
    for (int isa = 0; isa < CG_ISA_COUNT; isa++) {
        uint32_t sum;
        if (cg_isa_force((cg_isa_t)isa) != 0) continue;
        scans();
        signatures(&sum);
        CHECK(isa == 0 || sum == first);
        first = sum;
        for (int kind = 0; kind < CG_EVICTIONS; kind++) {
            cg_cache_config k = flat;
            k.eviction = lsh.eviction = (cg_eviction)kind;
            threads(k);
            threads(lsh);
            state_and_back(k);
            state_and_back(lsh);
        }
        batches(large);
        policies();
        errors();
    }
    cg_buf_free(planes);
    return failed();
}
