#include "policy.h"
#include "../base/buf.h"
#include <string.h>

enum { NOWHERE = 2 };                    /* `where` of a slot in no queue: a late reader may still touch it */
enum { MOST_USES = 3, PROMOTED_AT = 2 }; /* S3-FIFO: what the count holds, and what takes an entry to the main queue */

#define LOAD(a) atomic_load_explicit(&(a), memory_order_relaxed)
#define STORE(a, v) atomic_store_explicit(&(a), (v), memory_order_relaxed)

/* ---- memory ---- */

static uint32_t small_capacity(uint32_t capacity) { return capacity < 10 ? 1 : capacity / 10; }

static uint32_t ghost_capacity(cg_eviction kind, uint32_t capacity) {
    return kind == CG_S3FIFO ? capacity - small_capacity(capacity) : 0;
}

static size_t lines(size_t bytes) { return (bytes + CG_LINE - 1) / CG_LINE * CG_LINE; }

size_t cg_policy_bytes(cg_eviction kind, uint32_t capacity) {
    const size_t n = capacity;
    return lines(n * 8) + lines((size_t)ghost_capacity(kind, capacity) * 8) + 2 * lines(n * 4) + 2 * lines(n);
}

void cg_policy_set(cg_policy *p, cg_eviction kind, uint32_t capacity, void *memory) {
    const size_t n = capacity;
    char *at = memory;
    p->kind = kind;
    p->capacity = capacity;
    p->ghost_capacity = ghost_capacity(kind, capacity);
    p->use = (_Atomic uint64_t *)(void *)at, at += lines(n * 8);
    p->ghost = (uint64_t *)(void *)at, at += lines((size_t)p->ghost_capacity * 8);
    p->newer = (uint32_t *)(void *)at, at += lines(n * 4);
    p->older = (uint32_t *)(void *)at, at += lines(n * 4);
    p->mark = (_Atomic uint8_t *)(void *)at, at += lines(n);
    p->where = (uint8_t *)(void *)at;
    for (uint32_t i = 0; i < capacity; i++) {
        atomic_init(&p->use[i], 0);
        atomic_init(&p->mark[i], 0);
    }
    atomic_init(&p->time, 0);
    cg_policy_clear(p);
}

void cg_policy_clear(cg_policy *p) {
    for (int i = 0; i < 2; i++) p->queue[i] = (cg_queue){CG_NO_SLOT, CG_NO_SLOT, 0};
    p->hand = CG_NO_SLOT;
    p->ghosts = p->ghost_at = 0;
    memset(p->where, NOWHERE, p->capacity);
}

/* ---- queues ---- */

static void push(cg_policy *p, uint32_t slot, uint8_t where) {
    cg_queue *const q = &p->queue[where];
    p->where[slot] = where;
    p->newer[slot] = CG_NO_SLOT;
    p->older[slot] = q->newest;
    if (q->n++ == 0)
        q->oldest = slot;
    else
        p->newer[q->newest] = slot;
    q->newest = slot;
}

static void unlink_slot(cg_policy *p, uint32_t slot) {
    cg_queue *const q = &p->queue[p->where[slot]];
    const uint32_t newer = p->newer[slot], older = p->older[slot];
    if (newer == CG_NO_SLOT)
        q->newest = older;
    else
        p->older[newer] = older;
    if (older == CG_NO_SLOT)
        q->oldest = newer;
    else
        p->newer[older] = newer;
    q->n--;
}

/* ---- ghosts: a ring, searched from end to end (8 bytes an entry, vectorised by the compiler) ---- */

static int remembered(const cg_policy *p, uint64_t identity) {
    int found = 0;
    for (uint32_t i = 0; i < p->ghosts; i++) found |= p->ghost[i] == identity;
    return found;
}

void cg_policy_remember(cg_policy *p, uint64_t identity) {
    if (p->ghost_capacity == 0) return;
    p->ghost[p->ghost_at] = identity;
    p->ghost_at = p->ghost_at + 1 == p->ghost_capacity ? 0 : p->ghost_at + 1;
    if (p->ghosts < p->ghost_capacity) p->ghosts++;
}

/* ---- what the cache calls ---- */

void cg_policy_touch(cg_policy *p, uint32_t slot) {
    switch (p->kind) {
    case CG_LRU: STORE(p->use[slot], atomic_fetch_add_explicit(&p->time, 1, memory_order_relaxed) + 1); break;
    case CG_LFU: atomic_fetch_add_explicit(&p->use[slot], 1, memory_order_relaxed); break;
    case CG_CLOCK:
    case CG_SIEVE: STORE(p->mark[slot], 1); break;
    case CG_S3FIFO: { /* two readers may count as one */
        const uint8_t uses = LOAD(p->mark[slot]);
        if (uses < MOST_USES) STORE(p->mark[slot], (uint8_t)(uses + 1));
        break;
    }
    default: break;
    }
}

void cg_policy_add(cg_policy *p, uint32_t slot, uint64_t identity) {
    STORE(p->mark[slot], 0);
    STORE(p->use[slot], 0);
    if (p->kind == CG_LRU || p->kind == CG_LFU) cg_policy_touch(p, slot);
    push(p, slot, p->kind == CG_S3FIFO && remembered(p, identity) ? CG_MAIN : CG_SMALL);
}

void cg_policy_remove(cg_policy *p, uint32_t slot) {
    if (p->hand == slot) p->hand = p->newer[slot];
    unlink_slot(p, slot);
    p->where[slot] = NOWHERE;
}

/* The fewest uses, or the longest ago: the least number in slot order, which memory likes, then its owner. Of several
 * (LFU) the oldest, in a walk along the queue; readers may have raised all of them meanwhile. */
static uint32_t least_used(const cg_policy *p) {
    uint64_t least = UINT64_MAX;
    uint32_t best = p->queue[CG_SMALL].oldest;
    for (uint32_t s = 0; s < p->capacity; s++) {
        const uint64_t use = LOAD(p->use[s]);
        if (use < least && p->where[s] != NOWHERE) least = use, best = s;
    }
    if (p->kind == CG_LRU) return best;
    uint32_t s = p->queue[CG_SMALL].oldest;
    while (s != CG_NO_SLOT && LOAD(p->use[s]) != least) s = p->newer[s];
    return s == CG_NO_SLOT ? best : s;
}

/* Readers may set marks as fast as these walks clear them: each walk gives up after a few rounds. */
static uint32_t clock_victim(cg_policy *p) {
    uint32_t s = p->queue[CG_SMALL].oldest;
    for (size_t left = 4 * (size_t)p->capacity; left > 0 && LOAD(p->mark[s]); left--) {
        STORE(p->mark[s], 0);
        unlink_slot(p, s);
        push(p, s, CG_SMALL);
        s = p->queue[CG_SMALL].oldest;
    }
    return s;
}

static uint32_t sieve_victim(cg_policy *p) {
    uint32_t s = p->hand == CG_NO_SLOT ? p->queue[CG_SMALL].oldest : p->hand;
    for (size_t left = 4 * (size_t)p->capacity; left > 0 && LOAD(p->mark[s]); left--) {
        STORE(p->mark[s], 0);
        s = p->newer[s] == CG_NO_SLOT ? p->queue[CG_SMALL].oldest : p->newer[s];
    }
    p->hand = s; /* removal moves it on */
    return s;
}

static uint32_t s3fifo_victim(cg_policy *p, const uint64_t *identity) {
    cg_queue *const small = &p->queue[CG_SMALL], *const main = &p->queue[CG_MAIN];
    for (size_t left = 8 * (size_t)p->capacity;; left--) {
        if (small->n >= small_capacity(p->capacity) || main->n == 0) {
            const uint32_t s = small->oldest;
            if (left == 0 || LOAD(p->mark[s]) < PROMOTED_AT) {
                cg_policy_remember(p, identity[s]);
                return s;
            }
            STORE(p->mark[s], 0);
            unlink_slot(p, s);
            push(p, s, CG_MAIN);
        } else {
            const uint32_t s = main->oldest;
            const uint8_t uses = LOAD(p->mark[s]);
            if (left == 0 || uses == 0) return s;
            STORE(p->mark[s], (uint8_t)(uses - 1));
            unlink_slot(p, s);
            push(p, s, CG_MAIN);
        }
    }
}

uint32_t cg_policy_evict(cg_policy *p, const uint64_t *identity) {
    if (p->queue[CG_SMALL].n + p->queue[CG_MAIN].n == 0) return CG_NO_SLOT;
    uint32_t s = p->queue[CG_SMALL].oldest; /* FIFO */
    switch (p->kind) {
    case CG_LRU:
    case CG_LFU: s = least_used(p); break;
    case CG_CLOCK: s = clock_victim(p); break;
    case CG_SIEVE: s = sieve_victim(p); break;
    case CG_S3FIFO: s = s3fifo_victim(p, identity); break;
    default: break;
    }
    cg_policy_remove(p, s);
    return s;
}

void cg_policy_restore(cg_policy *p, uint32_t slot, uint8_t where, uint8_t mark, uint64_t use, int hand) {
    STORE(p->mark[slot], mark);
    STORE(p->use[slot], use);
    if (use > LOAD(p->time)) STORE(p->time, use);
    push(p, slot, where);
    if (hand) p->hand = slot;
}
