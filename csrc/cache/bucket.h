/* csrc/cache/bucket.h -- a bucket: up to `capacity` entries in slots, their keys in scan order, their eviction policy.
 * A FLAT cache is one bucket, an LSH cache one a signature.
 *
 * Readers take no lock. `writes` counts a bucket's changes and is odd while its one writer (who holds the cache's lock)
 * is inside; a reader who sees the same even number before its scan and after it has copied the list out is done. If
 * not, it checks its winner alone, by the slot's own `version`: version, key and conditions again, then what it copied,
 * then the version once more. A key read half-written can only produce a wrong winner, which that check finds, or hide
 * an entry that is just being replaced. Sanitizers see data races in this by design, so under them readers take the
 * lock (cache.c).
 *
 * All memory is taken when the bucket is made, except the ids, whose rows double when a longer list comes; the shorter
 * ones are kept until the bucket goes, since a reader may be in them. */
#ifndef CG_BUCKET_H
#define CG_BUCKET_H
#include "../base/buf.h"
#include "../base/err.h"
#include "policy.h"
#include "scan.h"
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define CG_NEVER INT64_MAX /* expiry of an entry that has none */

/* Ids, and the distances they were found at, a row of `width` a slot. */
typedef struct cg_lists {
    struct cg_lists *before; /* the narrower ones */
    size_t width;
    int64_t *ids;
    float *distances; /* NULL until the first list that has them */
} cg_lists;

/* What a lookup needs of an entry beside its key: one cache line, since in a large cache each is a miss. */
typedef struct cg_slot {
    _Alignas(CG_LINE) uint64_t tag; /* generation << 32 | namespace: who may be answered; 0: empty slot */
    uint64_t seq;                   /* number of the insertion */
    int64_t born, expiry;           /* monotonic nanoseconds */
    float own;                      /* the entry's own bound, or NaN */
    uint32_t k, count;              /* documents asked for, and got */
    uint32_t measured;              /* distances stored: count or 0 */
    _Atomic uint32_t version;
} cg_slot;

typedef struct cg_bucket {
    uint32_t number, signature; /* in order of creation; of all its keys */
    uint32_t capacity, live;
    uint64_t generation;   /* of all that is in it; another one than the cache's: it is empty */
    _Atomic uint32_t high; /* slots ever used in this generation: what a scan looks at */
    uint32_t free, timed;  /* head of the list of emptied slots below high; entries with an expiry */
    size_t dpad, bytes;
    float *keys;        /* groups of 16, as in scan.h */
    cg_slot *slots;     /* of every lane a scan returns */
    uint64_t *print;    /* fingerprint of the key, to find it again */
    uint64_t *identity; /* for the policy's ghosts */
    uint32_t *next_free;
    _Atomic uint32_t writes;
    cg_lists *_Atomic lists;
    cg_policy policy;
} cg_bucket;

/* What a lookup wants, and the best it has found. */
typedef struct cg_want {
    const float *q; /* dpad floats */
    int ip;
    uint64_t tag;
    uint32_t k;       /* at least so many documents were asked for */
    int64_t now;      /* entries that expire later than this */
    float bound;      /* greatest bound of any entry: where scans begin */
    float usual;      /* bound of entries without their own */
    int override_own; /* 1: `usual` holds for all */
} cg_want;

typedef struct cg_found {
    cg_bucket *bucket; /* NULL: nothing yet */
    uint32_t slot;
    float total; /* squared distance, or minus the product; before anything is found, the bound */
    uint64_t seq;
    uint32_t writes; /* of the bucket, before it was scanned */
} cg_found;

/* What goes into a slot. */
typedef struct cg_entry {
    const float *q;
    uint64_t print, tag, seq;
    int64_t born, expiry;
    float own;
    uint32_t k, count;
    const int64_t *ids;
    const float *distances; /* count, or NULL */
} cg_entry;

cg_bucket *cg_bucket_new(uint32_t capacity, size_t dpad, cg_eviction kind);
void cg_bucket_free(cg_bucket *b);
/* Empty, for another generation. */
void cg_bucket_clear(cg_bucket *b, uint64_t generation);
size_t cg_bucket_bytes(const cg_bucket *b);

/* Improves *best with the nearest key of the bucket that the query may have; equal distances: the older insertion. */
void cg_bucket_scan(cg_bucket *b, const cg_want *want, cg_found *best);
/* 1 if the slot still answers the query at the same distance; *version is then what it must still be afterwards. */
int cg_bucket_check(cg_bucket *b, const cg_want *want, const cg_found *found, uint32_t *version);
int cg_bucket_unchanged(cg_bucket *b, uint32_t slot, uint32_t version);
/* 1 if nothing in the bucket has changed since before it was scanned. */
int cg_bucket_quiet(cg_bucket *b, const cg_found *found);

/* Room for lists of `width`, with distances or without: 0, or -1 without memory, with nothing changed. */
int cg_bucket_reserve(cg_bucket *b, size_t width, int distances);
/* The slot with this key (equal bits) and tag, or CG_NO_SLOT. */
uint32_t cg_bucket_find(const cg_bucket *b, const float *q, uint64_t print, uint64_t tag);
/* An empty slot; there must be one (live < capacity). */
uint32_t cg_bucket_take(cg_bucket *b);
/* Writes the entry into a slot that is empty or holds the same key (same_key: the key is not written again, and keeps
 * its seq). The policy is the caller's. */
void cg_bucket_write(cg_bucket *b, uint32_t slot, const cg_entry *e, int same_key);
/* Empties a slot; the policy is the caller's. */
void cg_bucket_drop(cg_bucket *b, uint32_t slot);
#endif
