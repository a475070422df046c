/* csrc/cache/cache_internal.h -- what cache.c and its neighbours share. */
#ifndef CG_CACHE_INTERNAL_H
#define CG_CACHE_INTERNAL_H
#include "bucket.h"
#include "cache.h"
#include <pthread.h>
#include <stdatomic.h>

enum { CG_LATENCIES = 256, CG_SAMPLED = 16 }; /* bins, four an octave of nanoseconds; one lookup in so many is timed */

struct cg_cache {
    cg_cache_config config; /* planes: ours, (bits, dpad) */
    size_t dpad;
    uint32_t bucket_capacity;         /* of every bucket */
    cg_bucket *_Atomic *by_signature; /* 2^bits, untouched pages cost nothing */
    cg_bucket **by_number;            /* in order of creation */
    _Atomic uint32_t buckets;
    pthread_rwlock_t lock; /* writers; readers only after failed attempts, or under a sanitizer */
    atomic_int writing;
    _Atomic uint32_t generation;
    _Atomic float usual;    /* the cache's tolerance as a bound on totals */
    _Atomic float greatest; /* of all entries' own bounds in this generation */
    uint64_t seq;           /* insertions so far */
    size_t live;
    uint32_t hand; /* LSH with a capacity: the bucket that gives next */
    _Atomic uint64_t counters[CG_COUNTERS];
    _Atomic uint32_t latency[CG_LATENCIES];
    _Atomic uint32_t turn, recent_ns;
    struct cg_cache *next, *before; /* all caches of the process */
};

/* Under a sanitizer readers take the lock: what they do without it is a race on purpose. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { CG_CACHE_READERS_LOCK = 1 };
#else
enum { CG_CACHE_READERS_LOCK = 0 };
#endif

int64_t cg_cache_now(void); /* monotonic nanoseconds */
void cg_cache_write_lock(cg_cache *c);
void cg_cache_write_unlock(cg_cache *c);
/* The float32 a total stands for, and the greatest total whose distance is <= a tolerance. */
float cg_cache_distance(cg_metric metric, float total);
float cg_cache_bound(cg_metric metric, double tolerance);
void cg_cache_count(cg_cache *c, int counter, uint64_t n);
void cg_cache_touch(cg_cache *c, uint64_t slot); /* a use of the entry there */
/* The bucket of a signature, made on first use; NULL without memory. With the write lock. */
cg_bucket *cg_cache_bucket(cg_cache *c, uint32_t signature);
/* The bucket with that number, brought to this generation; and its entry's public slot. With the write lock. */
cg_bucket *cg_cache_numbered(cg_cache *c, uint32_t number);
uint64_t cg_cache_slot(const cg_cache *c, const cg_bucket *b, uint32_t slot);
/* Removes an entry that is no eviction. With the write lock. */
void cg_cache_remove(cg_cache *c, cg_bucket *b, uint32_t slot, int counter);
uint64_t cg_cache_fingerprint(const float *q, size_t dpad);
uint32_t cg_cache_signature(const cg_cache *c, const float *q, float *projection);
/* Removes expired entries. With the write lock. */
void cg_cache_collect(cg_cache *c, int64_t now);
#endif
