/* csrc/cache/state.h -- all that is in a cache as arrays, for files and for looking at it, and back. */
#ifndef CG_CACHE_STATE_H
#define CG_CACHE_STATE_H
#include "../base/err.h"
#include "cache.h"
#ifdef __cplusplus
extern "C" {
#endif

/* A row an entry: bucket by bucket, in a bucket queue by queue, in a queue from the oldest to the newest, so that
 * putting them back in this order makes the same queues. Lists follow each other in the order of rows. */
typedef struct cg_cache_rows {
    size_t n, lists, ghosts; /* entries; ids of all of them; ghosts of all buckets */
    float *keys;             /* (n, dim), as stored: CG_COSINE has unit vectors */
    uint64_t *slot;          /* not used on the way back */
    uint32_t *signature;
    uint64_t *seq;       /* order of insertion: the older of two equally near keys answers */
    int64_t *age, *left; /* nanoseconds since it was stored, and until it expires (CG_NEVER) */
    float *bound;        /* the entry's own greatest total, or NaN */
    uint32_t *k, *count, *measured, *space;
    uint8_t *where, *mark, *hand; /* the policy's: queue, mark, 1 where SIEVE's hand stops */
    uint64_t *use;
    int64_t *ids;              /* (lists,) */
    float *distances;          /* (lists,), NaN where the entry has none */
    uint32_t *ghost_signature; /* (ghosts,) S3-FIFO, per bucket from the oldest */
    uint64_t *ghost;
} cg_cache_rows;

/* Fills in n, lists and ghosts. */
void cg_cache_measure(cg_cache *c, cg_cache_rows *rows);
/* Fills the arrays (keys may be NULL), which have room for what `rows` says: 1, or 0 with nothing written where that is
 * not the cache's size any more: measure again. Holds up writers, not lookups. */
int cg_cache_export(cg_cache *c, const cg_cache_rows *rows);
/* Fills an empty cache that nobody else uses yet. Rows whose time is up are left out. CG_EVALUE names what cannot be;
 * the cache is then good for nothing but cg_cache_free. */
int cg_cache_restore(cg_cache *c, const cg_cache_rows *rows, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
