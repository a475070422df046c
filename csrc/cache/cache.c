#define _POSIX_C_SOURCE 200809L /* clock_gettime, pthread_rwlock_t */
#include "../base/buf.h"
#include "cache_internal.h"
#include "lsh.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOAD(a) atomic_load_explicit(&(a), memory_order_relaxed)
#define STORE(a, v) atomic_store_explicit(&(a), (v), memory_order_relaxed)

int64_t cg_cache_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void cg_cache_count(cg_cache *c, int counter, uint64_t n) {
    atomic_fetch_add_explicit(&c->counters[counter], n, memory_order_relaxed);
}

/* ---- locks and forks ---- */

/* Every cache is in this list, so that the child of a fork finds their locks. */
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static cg_cache *all;

void cg_cache_write_lock(cg_cache *c) {
    pthread_rwlock_wrlock(&c->lock);
    atomic_store(&c->writing, 1);
}

void cg_cache_write_unlock(cg_cache *c) {
    atomic_store(&c->writing, 0);
    pthread_rwlock_unlock(&c->lock);
}

static void before_fork(void) { pthread_mutex_lock(&list_lock); }

static void after_fork_parent(void) { pthread_mutex_unlock(&list_lock); }

/* The threads that held locks did not come along. Locks of writers are not taken before the fork: a writer may wait for
 * the pool, whose own handler waits for it. */
static void after_fork_child(void) {
    for (cg_cache *c = all; c; c = c->next) {
        pthread_rwlock_init(&c->lock, NULL);
        if (!atomic_exchange(&c->writing, 0)) continue;
        cg_cache_bump(c); /* half a write: buckets start anew */
    }
    pthread_mutex_unlock(&list_lock);
}

static void set_up(void) { pthread_atfork(before_fork, after_fork_parent, after_fork_child); }

static void enlist(cg_cache *c) {
    pthread_once(&once, set_up);
    pthread_mutex_lock(&list_lock);
    c->next = all;
    if (all) all->before = c;
    all = c;
    pthread_mutex_unlock(&list_lock);
}

static void delist(cg_cache *c) {
    pthread_mutex_lock(&list_lock);
    if (c->next) c->next->before = c->before;
    if (c->before)
        c->before->next = c->next;
    else
        all = c->next;
    pthread_mutex_unlock(&list_lock);
}

/* ---- distances ---- */

float cg_cache_distance(cg_metric metric, float total) {
    return metric == CG_L2 ? sqrtf(total) : metric == CG_COSINE ? 0.5f * total : total;
}

float cg_cache_bound(cg_metric metric, double tolerance) {
    if (isinf(tolerance) || (metric != CG_IP && tolerance < 0.0)) return tolerance > 0.0 ? INFINITY : -INFINITY;
    if (metric == CG_COSINE && tolerance >= 2.0) return INFINITY; /* rounding may bring 1 - cos above 2 */
    const double exact = metric == CG_L2 ? tolerance * tolerance : metric == CG_COSINE ? 2.0 * tolerance : tolerance;
    float b = (float)exact;
    while ((double)cg_cache_distance(metric, b) > tolerance) b = nextafterf(b, -INFINITY);
    while (isfinite(b) && (double)cg_cache_distance(metric, nextafterf(b, INFINITY)) <= tolerance)
        b = nextafterf(b, INFINITY);
    return b;
}

/* ---- making one ---- */

static int check(const cg_cache_config *k, cg_err *err) {
    if (k->dim < 1 || k->dim > 1u << 20)
        return cg_fail(err, CG_EVALUE, "dim: expected 1 to %u, got %zu", 1u << 20, k->dim);
    if (k->metric >= CG_METRICS) return cg_fail(err, CG_EVALUE, "metric: unknown");
    if (k->eviction >= CG_EVICTIONS) return cg_fail(err, CG_EVALUE, "eviction: unknown");
    if (isnan(k->tolerance) || (k->metric != CG_IP && k->tolerance < 0.0))
        return cg_fail(err, CG_EVALUE, "tolerance: expected at least 0, got %g", k->tolerance);
    if (k->ttl <= 0) return cg_fail(err, CG_EVALUE, "ttl: expected a time above 0");
    if (k->capacity > 1u << 30) return cg_fail(err, CG_EVALUE, "capacity: expected at most %u", 1u << 30);
    if (k->bits == 0 && k->capacity < 1) return cg_fail(err, CG_EVALUE, "capacity: expected at least 1, got 0");
    if (k->bits == 0) return CG_OK;
    if (k->bits > CG_BITS_MOST)
        return cg_fail(err, CG_EVALUE, "n_bits: expected 1 to %d, got %u", CG_BITS_MOST, k->bits);
    if (k->bucket_capacity < 1 || k->bucket_capacity > 1u << 20)
        return cg_fail(err, CG_EVALUE, "bucket_capacity: expected 1 to %u, got %u", 1u << 20, k->bucket_capacity);
    if (k->probes > k->bits)
        return cg_fail(err, CG_EVALUE, "probes: expected 0 to n_bits = %u, got %u", k->bits, k->probes);
    for (size_t i = 0; i < k->bits * k->dim; i++)
        if (!isfinite(k->planes[i])) return cg_fail(err, CG_EVALUE, "planes: expected finite values");
    return CG_OK;
}

void cg_cache_free(cg_cache *c) {
    if (!c) return;
    delist(c);
    for (uint32_t i = 0; i < LOAD(c->buckets); i++) cg_bucket_free(c->by_number[i]);
    pthread_rwlock_destroy(&c->lock);
    cg_buf_free((void *)(uintptr_t)c->config.planes);
    free(c->by_signature);
    free(c->by_number);
    free(c);
}

cg_cache *cg_cache_new(const cg_cache_config *config, cg_err *err) {
    if (check(config, err) != CG_OK) return NULL;
    cg_cache *const c = calloc(1, sizeof *c);
    if (!c) {
        cg_fail(err, CG_ENOMEM, "no memory for a cache");
        return NULL;
    }
    const size_t most = (size_t)1 << config->bits;
    c->config = *config;
    c->dpad = cg_scan_padded(config->dim);
    c->bucket_capacity = config->bits ? config->bucket_capacity : config->capacity;
    pthread_rwlock_init(&c->lock, NULL);
    atomic_init(&c->generation, 1);
    STORE(c->usual, cg_cache_bound(config->metric, config->tolerance));
    STORE(c->greatest, -INFINITY);
    c->by_signature = calloc(most, sizeof *c->by_signature);
    c->by_number = calloc(most, sizeof *c->by_number);
    float *planes = NULL;
    if (config->bits) planes = cg_buf_alloc(config->bits * c->dpad * sizeof *planes);
    c->config.planes = planes;
    enlist(c);
    const int room = c->by_signature && c->by_number && (planes || !config->bits);
    if (room && planes) {
        memset(planes, 0, config->bits * c->dpad * sizeof *planes);
        for (size_t l = 0; l < config->bits; l++)
            memcpy(planes + l * c->dpad, config->planes + l * config->dim, config->dim * sizeof *planes);
    }
    if (!room || (!config->bits && !cg_cache_bucket(c, 0))) {
        cg_cache_free(c);
        cg_fail(err, CG_ENOMEM, "no memory for %u keys of %zu dimensions", config->capacity, config->dim);
        return NULL;
    }
    return c;
}

void cg_cache_set_tolerance(cg_cache *c, double tolerance) {
    STORE(c->usual, cg_cache_bound(c->config.metric, tolerance));
}

/* ---- queries ---- */

size_t cg_cache_padded(const cg_cache *c) { return c->dpad; }

cg_metric cg_cache_metric(const cg_cache *c) { return c->config.metric; }

/* Sums in 8 lanes, which the compiler turns into vectors; one order for all instruction sets. */
static double squared_norm(const float *q, size_t dpad) {
    double s[8] = {0};
    for (size_t j = 0; j < dpad; j += 8)
        for (size_t l = 0; l < 8; l++) s[l] += (double)q[j + l] * (double)q[j + l];
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}

static cg_query prepare(const cg_cache *c, const float *x, float *q) {
    const size_t dim = c->config.dim;
    uint32_t bad = 0;
    for (size_t j = 0; j < dim; j++) {
        uint32_t bits;
        memcpy(&bits, x + j, sizeof bits);
        bad |= (bits & 0x7F800000u) == 0x7F800000u;
        q[j] = x[j] + 0.0f; /* -0 becomes 0, so that equal keys have equal bits */
    }
    for (size_t j = dim; j < c->dpad; j++) q[j] = 0.0f;
    if (bad) return CG_QUERY_NONFINITE;
    if (c->config.metric != CG_COSINE) return CG_QUERY_GOOD;
    const double norm = sqrt(squared_norm(q, c->dpad));
    if (norm == 0.0) return CG_QUERY_ZERO;
    const double scale = 1.0 / norm;
    for (size_t j = 0; j < dim; j++) q[j] = (float)((double)q[j] * scale);
    return CG_QUERY_GOOD;
}

cg_query cg_cache_prepare(cg_cache *c, const float *x, float *q, int quiet) {
    const cg_query kind = prepare(c, x, q);
    if (kind != CG_QUERY_GOOD && !quiet)
        cg_cache_count(c, kind == CG_QUERY_ZERO ? CG_COUNT_zero_vectors : CG_COUNT_nonfinite, 1);
    return kind;
}

uint32_t cg_cache_signature(const cg_cache *c, const float *q, float *projection) {
    return c->config.bits ? cg_lsh_signature(c->config.bits, c->dpad, c->config.planes, q, projection) : 0;
}

static size_t probes_of(const cg_cache *c, const float *q, uint32_t out[CG_BITS_MOST + 1]) {
    float projection[CG_BITS_MOST];
    const uint32_t signature = cg_cache_signature(c, q, projection);
    if (c->config.probes) return cg_lsh_probes(c->config.bits, signature, projection, c->config.probes, out);
    out[0] = signature;
    return 1;
}

uint64_t cg_cache_slot(const cg_cache *c, const cg_bucket *b, uint32_t slot) {
    return (uint64_t)b->number * c->bucket_capacity + slot;
}

static uint64_t tag_of(const cg_cache *c, uint32_t space) {
    return (uint64_t)atomic_load_explicit(&c->generation, memory_order_acquire) << 32 | space;
}

static void set_want(const cg_cache *c, const float *q, const cg_ask *ask, cg_want *want) {
    const int given = !isnan(ask->tolerance);
    const float usual = given ? cg_cache_bound(c->config.metric, ask->tolerance) : LOAD(c->usual);
    const float greatest = given ? usual : LOAD(c->greatest);
    *want = (cg_want){.q = q,
                      .ip = c->config.metric == CG_IP,
                      .tag = tag_of(c, ask->space),
                      .k = ask->k,
                      .now = cg_cache_now(),
                      .bound = greatest > usual ? greatest : usual,
                      .usual = usual,
                      .override_own = given};
}

/* One attempt: 1 hit, 0 miss, -1 the winner changed under our eyes. */
static int attempt(cg_cache *c, const float *q, const cg_ask *ask, size_t n, const uint32_t *signature, cg_found *best,
                   cg_hit *hit, int64_t *ids, float *distances, size_t room) {
    cg_want want;
    set_want(c, q, ask, &want);
    *best = (cg_found){.total = want.bound};
    for (size_t i = 0; i < n; i++) {
        cg_bucket *const b = atomic_load_explicit(&c->by_signature[signature[i]], memory_order_acquire);
        if (b) cg_bucket_scan(b, &want, best);
    }
    cg_bucket *const b = best->bucket;
    if (!b) return 0;
    const uint32_t s = best->slot;
    uint32_t version = 1;
    const int checked = !cg_bucket_quiet(b, best);
    if (checked && !cg_bucket_check(b, &want, best, &version)) return -1;
    const cg_lists *const lists = atomic_load_explicit(&b->lists, memory_order_acquire);
    *hit = (cg_hit){.slot = cg_cache_slot(c, b, s),
                    .distance = cg_cache_distance(c->config.metric, best->total),
                    .age = want.now > b->slots[s].born ? want.now - b->slots[s].born : 0,
                    .k = b->slots[s].k,
                    .count = b->slots[s].count,
                    .measured = b->slots[s].measured};
    /* A count that is being written may be wider than the lists that were read before it. */
    size_t copied = hit->count < room ? hit->count : room;
    if (copied > lists->width) return -1;
    if (copied) memcpy(ids, lists->ids + s * lists->width, copied * sizeof *ids);
    if (hit->measured && !lists->distances) return -1;
    if (distances && hit->measured && copied)
        memcpy(distances, lists->distances + s * lists->width, copied * sizeof *distances);
    return (checked ? cg_bucket_unchanged(b, s, version) : cg_bucket_quiet(b, best)) ? 1 : -1;
}

static int find(cg_cache *c, const float *q, const cg_ask *ask, cg_found *best, cg_hit *hit, int64_t *ids,
                float *distances, size_t room) {
    enum { ATTEMPTS = 3 };
    uint32_t signature[CG_BITS_MOST + 1];
    const size_t n = probes_of(c, q, signature);
    for (int i = 0; i < ATTEMPTS && !CG_CACHE_READERS_LOCK; i++) {
        const int rc = attempt(c, q, ask, n, signature, best, hit, ids, distances, room);
        if (rc >= 0) return rc;
    }
    pthread_rwlock_rdlock(&c->lock);
    const int rc = attempt(c, q, ask, n, signature, best, hit, ids, distances, room);
    pthread_rwlock_unlock(&c->lock);
    return rc > 0;
}

/* ---- how long lookups take ---- */

static void book_latency(cg_cache *c, int64_t ns) {
    const uint32_t x = ns < 1 ? 1 : ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
    const uint32_t octave = 31u - (uint32_t)__builtin_clz(x);
    const uint32_t quarter = octave >= 2 ? x >> (octave - 2) & 3u : 0;
    atomic_fetch_add_explicit(&c->latency[4 * octave + quarter], 1, memory_order_relaxed);
    const uint32_t old = LOAD(c->recent_ns); /* a mean that forgets; what interrupted us is not the scan's */
    const uint32_t most = old > UINT32_MAX / 4 ? UINT32_MAX : 4 * old;
    STORE(c->recent_ns, old == 0 ? x : old / 4 * 3 + (x < most ? x : most) / 4 + 1);
}

double cg_cache_expected_ns(const cg_cache *c) {
    const uint32_t seen = LOAD(c->recent_ns);
    if (seen) return seen;
    const double floats = (double)c->bucket_capacity * (double)c->dpad * (1 + c->config.probes);
    return floats * 4.0 / 30.0; /* a full scan at 30 bytes a nanosecond */
}

int cg_cache_lookup(cg_cache *c, const float *q, const cg_ask *ask, cg_hit *hit, int64_t *ids, float *distances,
                    size_t room) {
    cg_found best;
    const int timed = atomic_fetch_add_explicit(&c->turn, 1, memory_order_relaxed) % CG_SAMPLED == 0;
    const int64_t start = timed ? cg_cache_now() : 0;
    const int rc = find(c, q, ask, &best, hit, ids, distances, room);
    if (timed) book_latency(c, cg_cache_now() - start);
    if (ask->quiet || (rc && hit->count > room)) return rc;
    cg_cache_count(c, rc ? CG_COUNT_hits : CG_COUNT_misses, 1);
    if (rc) cg_policy_touch(&best.bucket->policy, best.slot);
    return rc;
}

void cg_cache_count_miss(cg_cache *c) { cg_cache_count(c, CG_COUNT_misses, 1); }

void cg_cache_touch(cg_cache *c, uint64_t slot) {
    cg_policy_touch(&c->by_number[slot / c->bucket_capacity]->policy, (uint32_t)(slot % c->bucket_capacity));
}
