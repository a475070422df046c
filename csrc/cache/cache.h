/* csrc/cache/cache.h -- an approximate key-value cache before a vector database (Proximity).
 *
 * A key is the embedding of an earlier query, its value the list of document ids that the database gave. A lookup finds
 * the nearest key and is a hit when its distance is at most the tolerance (<=, so that tolerance 0 is exact
 * repetition); of several keys at one distance the older insertion wins. Among the entries that may answer at all: same
 * namespace, same generation, not expired, enough documents asked for, within their own tolerance where they have one.
 *
 * Distances: CG_L2: sqrt(sum (q_j - k_j)^2) as float32. CG_COSINE: 1 - cos, as half the squared distance of the two
 * unit vectors (so equal directions give 0). CG_IP: minus the inner product, not a distance: k.k need not be the
 * greatest k.q. A tolerance is compared with that float32 number, so what a hit reports is what was tested.
 *
 * index: FLAT scans all keys. LSH has a bucket a signature (lsh.h), each with its own policy; a lookup scans the bucket
 * of its signature and of `probes` others.
 *
 * Threads: lookups take no lock (bucket.h); inserts and removals take one. After a fork the child may go on with both;
 * a cache that another thread was writing to at that moment is empty in the child. Nothing here calls back. */
#ifndef CG_CACHE_H
#define CG_CACHE_H
#include "../base/err.h"
#include "policy.h"
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef enum cg_metric { CG_L2, CG_COSINE, CG_IP, CG_METRICS } cg_metric;

typedef struct cg_cache_config {
    size_t dim;
    uint32_t capacity;        /* entries; LSH: 0 is no limit but bucket_capacity << bits */
    uint32_t bucket_capacity; /* LSH */
    uint32_t bits, probes;    /* bits 0: FLAT */
    const float *planes;      /* (bits, dim), copied; NULL for FLAT */
    cg_metric metric;
    cg_eviction eviction;
    double tolerance; /* greatest distance of a hit: >= 0, or with CG_IP minus the least inner product */
    int64_t ttl;      /* nanoseconds an entry lives; CG_NEVER: for ever */
} cg_cache_config;

typedef struct cg_cache cg_cache;

/* NULL with *err set: CG_EVALUE naming the argument, CG_ENOMEM. FLAT takes all memory for its keys here. */
cg_cache *cg_cache_new(const cg_cache_config *config, cg_err *err);
void cg_cache_free(cg_cache *c); /* NULL is fine */
cg_metric cg_cache_metric(const cg_cache *c);
/* The bound of later lookups and, where they have none of their own, of all entries. */
void cg_cache_set_tolerance(cg_cache *c, double tolerance);

/* ---- queries ---- */

typedef enum cg_query { CG_QUERY_GOOD, CG_QUERY_NONFINITE, CG_QUERY_ZERO } cg_query;

/* Floats in a prepared query: dim rounded up to 16. Prepared queries begin on cache lines (cg_buf_alloc). */
size_t cg_cache_padded(const cg_cache *c);
/* x (dim) -> q: padded, -0 as 0, scaled to length 1 for CG_COSINE (a zero vector is CG_QUERY_ZERO: it has no direction
 * and never matches). Unless quiet, counts what is not good. */
cg_query cg_cache_prepare(cg_cache *c, const float *x, float *q, int quiet);

typedef struct cg_ask {
    uint32_t space;   /* namespace */
    uint32_t k;       /* documents wanted: entries that asked for fewer do not answer */
    double tolerance; /* NaN: the entries' own, else the cache's */
    int quiet;        /* changes nothing: not counted, not a use */
} cg_ask;

typedef struct cg_hit {
    uint64_t slot;
    float distance;
    int64_t age;                 /* nanoseconds */
    uint32_t k, count, measured; /* asked for at insertion, ids stored, distances stored (count or 0) */
} cg_hit;

/* 1 and *hit, or 0. The first min(count, room) ids and (unless NULL) distances are copied out. With count > room the
 * hit was neither counted nor used: make room and ask again. q: a good prepared query. */
int cg_cache_lookup(cg_cache *c, const float *q, const cg_ask *ask, cg_hit *hit, int64_t *ids, float *distances,
                    size_t room);
/* A lookup that somebody else decided not to make. */
void cg_cache_count_miss(cg_cache *c);
/* What the next lookup will take, from recent ones: nanoseconds. */
double cg_cache_expected_ns(const cg_cache *c);

/* All rows of x (n, dim) before any other change: found[i] 0 or 1; ids (n, k): the first k ids, -1 where missed or
 * beyond the stored count; distance[i], NaN where missed. Over the thread pool; uses and counts happen afterwards in
 * the order of rows, so that the result and what it leaves behind do not depend on threads. k >= 1.
 * *bad: the first row that is not finite (with strict != 0: CG_EVALUE and nothing counted; else those rows miss).
 * Fails with CG_ENOMEM too. */
int cg_cache_lookup_batch(cg_cache *c, size_t n, const float *x, const cg_ask *ask, int strict, uint8_t *found,
                          int64_t *ids, float *distance, cg_err *err);

/* ---- changes ---- */

typedef struct cg_new_entry {
    uint32_t space, k; /* k: documents asked for */
    size_t count;      /* documents got */
    const int64_t *ids;
    const float *distances; /* of the documents at this key, ascending, in the metric's unit; or NULL */
    double tolerance;       /* NaN: the cache's */
    int64_t ttl;            /* nanoseconds; CG_NEVER */
} cg_new_entry;

/* *slot: where it is. A key that is there already (same bits, same namespace) gets the new value, keeps its place in
 * the queue and counts as used. CG_ENOMEM leaves the cache as it was. */
int cg_cache_insert(cg_cache *c, const float *q, const cg_new_entry *entry, uint64_t *slot, cg_err *err);
/* Removes the entries that hold one of n ids (sorted ascending); returns how many. */
size_t cg_cache_remove_ids(cg_cache *c, size_t n, const int64_t *sorted);
int cg_cache_invalidate(cg_cache *c, uint64_t slot); /* 1, or 0 where the slot is empty */
/* Everything stored before stops matching; the number of the new generation. */
uint32_t cg_cache_bump(cg_cache *c);
uint32_t cg_cache_generation(const cg_cache *c);
/* Entries whose own list the new documents x (n, dim) would change: one of them is nearer to the key than the last
 * distance stored, or there is no such distance, or fewer documents were got than asked for (exact for an exact
 * database). Removes them if `remove`; *count says how many; slots, if not NULL, has `room` places for their slots,
 * ascending. Rows must be finite. Fails with CG_ENOMEM. */
int cg_cache_stale(cg_cache *c, size_t n, const float *x, int remove, uint64_t *slots, size_t room, size_t *count,
                   cg_err *err);

/* ---- what is in it ---- */

/* The names under which Python shows them. */
#define CG_CACHE_COUNTERS(X)                                                                                           \
    X(hits) X(misses) X(insertions) X(updates) X(evictions) X(expired) X(invalidated) X(nonfinite) X(zero_vectors)
enum {
#define X(name) CG_COUNT_##name,
    CG_CACHE_COUNTERS(X)
#undef X
        CG_COUNTERS
};

typedef struct cg_cache_stats {
    uint64_t counters[CG_COUNTERS];
    size_t entries, buckets, bytes;
    double p50_ns, p99_ns; /* of every 16th lookup, within 20 %; NaN before the first */
} cg_cache_stats;

size_t cg_cache_size(cg_cache *c); /* entries; expired ones are removed first, here and in cg_cache_read_stats */
void cg_cache_read_stats(cg_cache *c, cg_cache_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
