/* csrc/cache/policy.h -- which entry leaves: FIFO, LRU, LFU, CLOCK, SIEVE, S3-FIFO over the slots of one bucket.
 *
 * A hit calls cg_policy_touch and nothing else: one relaxed store or increment, so readers take no lock. Everything
 * else is the one writer's. FIFO, CLOCK, SIEVE and S3-FIFO decide in O(1) amortised; LRU and LFU look for a minimum
 * over the bucket's slots (8 bytes each, about 30 us at 100,000), which is small beside the scan that missed before.
 *
 * An entry is never moved by a hit; what a hit leaves behind is its mark:
 *   FIFO     nothing. The oldest leaves.
 *   LRU      the time of the last use. The smallest leaves.
 *   LFU      the number of uses, 1 at insertion. The fewest leave, the older first.
 *   CLOCK    a bit. The oldest leaves; one with the bit loses it and becomes the newest instead.
 *   SIEVE    a bit. A hand walks from the oldest to the newest, clears bits on its way and takes the first without one;
 *            nothing moves (Zhang et al., NSDI 2024).
 *   S3-FIFO  a count up to 3. New entries go to a small queue of a tenth of the capacity; its oldest goes to the main
 *            queue if used twice or more, else it leaves and is remembered as a ghost. The main queue's oldest
 *            re-enters with one use less, or leaves. What returns while its ghost is remembered goes to the main queue
 *            at once (Yang et al., SOSP 2023). Keys of a cache like this one seldom return bit for bit: who an entry is
 *            for a ghost is `identity`, which the cache takes from the first document id. */
#ifndef CG_POLICY_H
#define CG_POLICY_H
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cg_eviction { CG_FIFO, CG_LRU, CG_LFU, CG_CLOCK, CG_SIEVE, CG_S3FIFO, CG_EVICTIONS } cg_eviction;

#define CG_NO_SLOT UINT32_MAX
enum { CG_SMALL = 0, CG_MAIN = 1 }; /* queues; only S3-FIFO has the second */

typedef struct cg_queue {
    uint32_t oldest, newest, n;
} cg_queue;

typedef struct cg_policy {
    cg_eviction kind;
    uint32_t capacity;
    cg_queue queue[2];
    uint32_t hand;           /* SIEVE: where the walk goes on; CG_NO_SLOT: at the oldest */
    uint32_t *newer, *older; /* links of the queues */
    uint8_t *where;          /* the slot's queue */
    _Atomic uint8_t *mark;   /* CLOCK, SIEVE: bit; S3-FIFO: uses up to 3 */
    _Atomic uint64_t *use;   /* LRU: time of the last use; LFU: uses */
    _Atomic uint64_t time;   /* LRU: uses so far */
    uint64_t *ghost;         /* S3-FIFO: a ring of identities */
    uint32_t ghosts, ghost_at, ghost_capacity;
} cg_policy;

/* Bytes for the arrays of a policy, and setting it up on them (aligned to a cache line, not cleared), empty. */
size_t cg_policy_bytes(cg_eviction kind, uint32_t capacity);
void cg_policy_set(cg_policy *p, cg_eviction kind, uint32_t capacity, void *memory);
void cg_policy_clear(cg_policy *p);

/* A hit, or a new value for the same key. Any thread, without a lock. */
void cg_policy_touch(cg_policy *p, uint32_t slot);
/* Slot (which must be in no queue) holds a new entry. */
void cg_policy_add(cg_policy *p, uint32_t slot, uint64_t identity);
/* The entry of a slot is gone for another reason than eviction. */
void cg_policy_remove(cg_policy *p, uint32_t slot);
/* Chooses the entry to evict and removes it; CG_NO_SLOT if there is none. identity: of every slot (S3-FIFO). */
uint32_t cg_policy_evict(cg_policy *p, const uint64_t *identity);

/* A ghost more, the newest. */
void cg_policy_remember(cg_policy *p, uint64_t identity);
/* Puts a slot at the newest end of a queue with its mark and use, as it was saved; `hand`: SIEVE's hand stops here. */
void cg_policy_restore(cg_policy *p, uint32_t slot, uint8_t where, uint8_t mark, uint64_t use, int hand);
#endif
