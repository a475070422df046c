/* csrc/cache/change.c -- what alters a cache: insertion, removal, new generations, new documents. One writer at a time.
 */
#define _POSIX_C_SOURCE 200809L /* pthread_rwlock_t */
#include "../base/buf.h"
#include "../base/pool.h"
#include "cache_internal.h"
#include "lsh.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LOAD(a) atomic_load_explicit(&(a), memory_order_relaxed)
#define STORE(a, v) atomic_store_explicit(&(a), (v), memory_order_relaxed)

/* ---- buckets ---- */

/* Lookups see a bucket of another generation as it is: no tag in it is theirs. */
cg_bucket *cg_cache_numbered(cg_cache *c, uint32_t number) {
    cg_bucket *const b = c->by_number[number];
    const uint32_t generation = LOAD(c->generation);
    if (b->generation != generation) cg_bucket_clear(b, generation);
    return b;
}

cg_bucket *cg_cache_bucket(cg_cache *c, uint32_t signature) {
    cg_bucket *b = LOAD(c->by_signature[signature]);
    if (b) return cg_cache_numbered(c, b->number);
    b = cg_bucket_new(c->bucket_capacity, c->dpad, c->config.eviction);
    if (!b) return NULL;
    b->number = LOAD(c->buckets);
    b->signature = signature;
    b->generation = LOAD(c->generation);
    c->by_number[b->number] = b;
    STORE(c->buckets, b->number + 1);
    atomic_store_explicit(&c->by_signature[signature], b, memory_order_release);
    return b;
}

void cg_cache_remove(cg_cache *c, cg_bucket *b, uint32_t slot, int counter) {
    cg_policy_remove(&b->policy, slot);
    cg_bucket_drop(b, slot);
    c->live--;
    cg_cache_count(c, counter, 1);
}

static void evict(cg_cache *c, cg_bucket *b) {
    const uint32_t slot = cg_policy_evict(&b->policy, b->identity);
    if (slot == CG_NO_SLOT) return;
    cg_bucket_drop(b, slot);
    c->live--;
    cg_cache_count(c, CG_COUNT_evictions, 1);
}

static void collect(cg_cache *c, cg_bucket *b, int64_t now) {
    const uint32_t high = LOAD(b->high);
    for (uint32_t s = 0; s < high && b->timed > 0; s++)
        if (b->slots[s].tag && b->slots[s].expiry <= now) cg_cache_remove(c, b, s, CG_COUNT_expired);
}

void cg_cache_collect(cg_cache *c, int64_t now) {
    for (uint32_t i = 0; i < LOAD(c->buckets); i++) collect(c, cg_cache_numbered(c, i), now);
}

/* ---- insertion ---- */

/* Finds its key by these: four chains of multiply and rotate over pairs of floats. Not against adversaries, who would
 * win no more than a comparison. */
uint64_t cg_cache_fingerprint(const float *q, size_t dpad) {
    uint64_t h[4] = {1, 2, 3, 4};
    for (size_t j = 0; j < dpad; j += 8)
        for (size_t l = 0; l < 4; l++) {
            uint64_t w;
            memcpy(&w, q + j + 2 * l, sizeof w);
            h[l] = (h[l] ^ w) * UINT64_C(0x9E3779B97F4A7C15);
            h[l] ^= h[l] >> 32;
        }
    return ((h[0] * 3 + h[1]) * 5 + h[2]) * 7 + h[3];
}

/* Room for one more in b: the expired go first, then the policy chooses. With a capacity over all buckets and none to
 * take from in this one, the buckets give in turn. */
static void make_room(cg_cache *c, cg_bucket *b, int64_t now) {
    if (b->live == b->capacity) {
        if (b->timed) collect(c, b, now);
        if (b->live == b->capacity) evict(c, b);
    }
    if (!c->config.capacity || c->live < c->config.capacity) return;
    if (b->live > 0) {
        evict(c, b);
        return;
    }
    for (;;) { /* live > 0: one of them has an entry */
        if (++c->hand >= LOAD(c->buckets)) c->hand = 0;
        cg_bucket *const other = cg_cache_numbered(c, c->hand);
        if (other->live == 0) continue;
        evict(c, other);
        return;
    }
}

static int insert(cg_cache *c, const float *q, uint32_t signature, uint64_t print, const cg_new_entry *entry,
                  uint64_t *slot, cg_err *err) {
    cg_bucket *const b = cg_cache_bucket(c, signature);
    if (!b || cg_bucket_reserve(b, entry->count, entry->distances != NULL) < 0)
        return cg_fail(err, CG_ENOMEM, "no memory for an entry of %zu ids", entry->count);
    const int64_t now = cg_cache_now();
    const cg_entry e = {.q = q,
                        .print = print,
                        .tag = (uint64_t)LOAD(c->generation) << 32 | entry->space,
                        .seq = c->seq,
                        .born = now,
                        .expiry = entry->ttl >= CG_NEVER - now ? CG_NEVER : now + entry->ttl,
                        .own = isnan(entry->tolerance) ? NAN : cg_cache_bound(c->config.metric, entry->tolerance),
                        .k = entry->k,
                        .count = (uint32_t)entry->count,
                        .ids = entry->ids,
                        .distances = entry->distances};
    if (e.own > LOAD(c->greatest)) STORE(c->greatest, e.own);
    uint32_t s = cg_bucket_find(b, q, print, e.tag);
    if (s != CG_NO_SLOT) {
        cg_bucket_write(b, s, &e, 1);
        cg_policy_touch(&b->policy, s);
        cg_cache_count(c, CG_COUNT_updates, 1);
    } else {
        make_room(c, b, now);
        s = cg_bucket_take(b);
        cg_bucket_write(b, s, &e, 0);
        cg_policy_add(&b->policy, s, b->identity[s]);
        c->seq++;
        c->live++;
        cg_cache_count(c, CG_COUNT_insertions, 1);
    }
    *slot = cg_cache_slot(c, b, s);
    return CG_OK;
}

int cg_cache_insert(cg_cache *c, const float *q, const cg_new_entry *entry, uint64_t *slot, cg_err *err) {
    if (entry->count > INT32_MAX)
        return cg_fail(err, CG_EVALUE, "ids: expected less than 2**31, got %zu", entry->count);
    if (entry->ttl <= 0) return cg_fail(err, CG_EVALUE, "ttl: expected a time above 0");
    if (c->config.metric != CG_IP && entry->tolerance < 0.0)
        return cg_fail(err, CG_EVALUE, "tolerance: expected at least 0, got %g", entry->tolerance);
    for (size_t i = 0; entry->distances && i < entry->count; i++)
        if (!isfinite(entry->distances[i]))
            return cg_fail(err, CG_EVALUE, "distances[%zu]: expected a finite value, got %g", i,
                           (double)entry->distances[i]);
    float projection[CG_BITS_MOST];
    const uint32_t signature = cg_cache_signature(c, q, projection);
    const uint64_t print = cg_cache_fingerprint(q, c->dpad);
    cg_cache_write_lock(c);
    const int rc = insert(c, q, signature, print, entry, slot, err);
    cg_cache_write_unlock(c);
    return rc;
}

/* ---- removal ---- */

static int holds(const cg_bucket *b, uint32_t s, size_t n, const int64_t *sorted) {
    const cg_lists *const l = LOAD(b->lists);
    for (uint32_t i = 0; i < b->slots[s].count; i++) {
        const int64_t id = l->ids[s * l->width + i];
        if (id < sorted[0] || id > sorted[n - 1]) continue;
        size_t low = 0, high = n; /* the first that is >= id lies in [low, high] */
        while (low < high) {
            const size_t mid = low + (high - low) / 2;
            if (sorted[mid] < id)
                low = mid + 1;
            else
                high = mid;
        }
        if (sorted[low] == id) return 1;
    }
    return 0;
}

size_t cg_cache_remove_ids(cg_cache *c, size_t n, const int64_t *sorted) {
    size_t removed = 0;
    if (n == 0) return 0;
    cg_cache_write_lock(c);
    for (uint32_t i = 0; i < LOAD(c->buckets); i++) {
        cg_bucket *const b = cg_cache_numbered(c, i);
        const uint32_t high = LOAD(b->high);
        for (uint32_t s = 0; s < high; s++) {
            if (!b->slots[s].tag || !holds(b, s, n, sorted)) continue;
            cg_cache_remove(c, b, s, CG_COUNT_invalidated);
            removed++;
        }
    }
    cg_cache_write_unlock(c);
    return removed;
}

int cg_cache_invalidate(cg_cache *c, uint64_t slot) {
    int done = 0;
    cg_cache_write_lock(c);
    if (slot / c->bucket_capacity < LOAD(c->buckets)) {
        cg_bucket *const b = cg_cache_numbered(c, (uint32_t)(slot / c->bucket_capacity));
        const uint32_t s = (uint32_t)(slot % c->bucket_capacity);
        done = s < LOAD(b->high) && b->slots[s].tag != 0;
        if (done) cg_cache_remove(c, b, s, CG_COUNT_invalidated);
    }
    cg_cache_write_unlock(c);
    return done;
}

uint32_t cg_cache_generation(const cg_cache *c) { return LOAD(c->generation); }

uint32_t cg_cache_bump(cg_cache *c) {
    cg_cache_write_lock(c);
    const uint32_t generation = LOAD(c->generation) + 1;
    atomic_store_explicit(&c->generation, generation, memory_order_release);
    cg_cache_count(c, CG_COUNT_invalidated, c->live);
    c->live = 0;
    STORE(c->greatest, -INFINITY);
    cg_cache_write_unlock(c);
    return generation;
}

/* ---- new documents ---- */

typedef struct stale {
    cg_cache *c;
    const float *x;
    const size_t *first; /* flags of bucket i begin at flag[first[i]] */
    _Atomic uint8_t *flag;
} stale;

/* The distance below which a new document enters the entry's list; none: at any distance. */
static int last_distance(const cg_bucket *b, uint32_t s, float *last) {
    if (b->slots[s].measured == 0 || b->slots[s].count < b->slots[s].k) return 0;
    const cg_lists *const l = LOAD(b->lists);
    *last = l->distances[s * l->width + b->slots[s].measured - 1];
    return 1;
}

static void mark_bucket(const stale *t, cg_bucket *b, const float *q, _Atomic uint8_t *flag) {
    const cg_metric metric = t->c->config.metric;
    const uint32_t high = LOAD(b->high);
    const size_t end = (high + CG_LANES - 1) / CG_LANES;
    float total[CG_LANES], greatest = -INFINITY, last;
    for (uint32_t s = 0; s < high; s++)
        if (b->slots[s].tag && last_distance(b, s, &last) && last > greatest) greatest = last;
    const float bound = cg_cache_bound(metric, (double)greatest);
    for (size_t g = 0; (g = cg_scan_next(metric == CG_IP, b->keys, b->dpad, g, end, q, bound, total)) < end; g++)
        for (uint32_t l = 0; l < CG_LANES; l++) {
            const uint32_t s = (uint32_t)g * CG_LANES + l;
            if (s < high && b->slots[s].tag && last_distance(b, s, &last) && cg_cache_distance(metric, total[l]) < last)
                STORE(flag[s], 1);
        }
}

static void stale_task(void *ctx, size_t begin, size_t end, void *scratch) {
    const stale *const t = ctx;
    float *const q = scratch;
    for (size_t i = begin; i < end; i++) {
        if (cg_cache_prepare(t->c, t->x + i * t->c->config.dim, q, 1) != CG_QUERY_GOOD) continue;
        for (uint32_t n = 0; n < LOAD(t->c->buckets); n++) {
            cg_bucket *const b = t->c->by_number[n];
            if (b->live) mark_bucket(t, b, q, t->flag + t->first[n]);
        }
    }
}

static int mark_stale(cg_cache *c, size_t n, const float *x, const size_t *first, _Atomic uint8_t *flag, cg_err *err) {
    stale t = {.c = c, .x = x, .first = first, .flag = flag};
    for (uint32_t i = 0; i < LOAD(c->buckets); i++) {
        const cg_bucket *const b = c->by_number[i];
        float last;
        for (uint32_t s = 0; s < LOAD(b->high) && n > 0; s++)
            if (b->slots[s].tag && !last_distance(b, s, &last)) STORE(flag[first[i] + s], 1);
    }
    return cg_parallel_for(n, 1, c->dpad * sizeof *x, stale_task, &t, err);
}

int cg_cache_stale(cg_cache *c, size_t n, const float *x, int remove, uint64_t *slots, size_t room, size_t *count,
                   cg_err *err) {
    int rc = CG_OK;
    *count = 0;
    cg_cache_write_lock(c);
    cg_cache_collect(c, cg_cache_now());
    const uint32_t buckets = LOAD(c->buckets);
    size_t *const first = calloc(buckets + (size_t)1, sizeof *first);
    size_t flags = 0;
    for (uint32_t i = 0; first && i < buckets; i++) {
        first[i] = flags;
        flags += LOAD(c->by_number[i]->high);
    }
    _Atomic uint8_t *const flag = calloc(flags + 1, sizeof *flag);
    if (!first || !flag)
        rc = cg_fail(err, CG_ENOMEM, "no memory for %zu flags", flags);
    else
        rc = mark_stale(c, n, x, first, flag, err);
    for (uint32_t i = 0; rc == CG_OK && i < buckets; i++) {
        cg_bucket *const b = c->by_number[i];
        const uint32_t high = LOAD(b->high);
        for (uint32_t s = 0; s < high; s++) {
            if (!LOAD(flag[first[i] + s])) continue;
            if (slots && *count < room) slots[*count] = cg_cache_slot(c, b, s);
            ++*count;
            if (remove) cg_cache_remove(c, b, s, CG_COUNT_invalidated);
        }
    }
    cg_cache_write_unlock(c);
    free(first);
    free((void *)flag);
    return rc;
}

/* ---- what is in it ---- */

size_t cg_cache_size(cg_cache *c) {
    cg_cache_write_lock(c);
    cg_cache_collect(c, cg_cache_now());
    const size_t live = c->live;
    cg_cache_write_unlock(c);
    return live;
}

static double percentile(const uint32_t *bins, double share) {
    uint64_t all_of_them = 0, below = 0;
    for (int i = 0; i < CG_LATENCIES; i++) all_of_them += bins[i];
    if (all_of_them == 0) return (double)NAN;
    for (int i = 0; i < CG_LATENCIES; i++) {
        below += bins[i];
        if ((double)below >= share * (double)all_of_them) return ldexp(1.0 + (i % 4 + 0.5) / 4.0, i / 4);
    }
    return (double)INFINITY;
}

void cg_cache_read_stats(cg_cache *c, cg_cache_stats *stats) {
    uint32_t bins[CG_LATENCIES];
    cg_cache_write_lock(c);
    cg_cache_collect(c, cg_cache_now());
    stats->entries = c->live;
    stats->buckets = LOAD(c->buckets);
    const size_t table = (sizeof *c->by_signature + sizeof *c->by_number) << c->config.bits;
    stats->bytes = sizeof *c + table + c->config.bits * c->dpad * sizeof(float);
    for (uint32_t i = 0; i < LOAD(c->buckets); i++) stats->bytes += cg_bucket_bytes(c->by_number[i]);
    cg_cache_write_unlock(c);
    for (int i = 0; i < CG_COUNTERS; i++) stats->counters[i] = LOAD(c->counters[i]);
    for (int i = 0; i < CG_LATENCIES; i++) bins[i] = LOAD(c->latency[i]);
    stats->p50_ns = percentile(bins, 0.50);
    stats->p99_ns = percentile(bins, 0.99);
}
