#include "bucket.h"
#include "../base/buf.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LOAD(a) atomic_load_explicit(&(a), memory_order_relaxed)

/* ---- memory ---- */

/* Places the arrays one after the other on cache lines; with at == NULL only the size counts. */
static size_t place(cg_bucket *b, char *at) {
    const size_t n = b->capacity, groups = (n + CG_LANES - 1) / CG_LANES;
    size_t used = 0;
#define ARRAY(field, type, count)                                                                                      \
    do {                                                                                                               \
        if (at) b->field = (type *)(void *)(at + used);                                                                \
        used += ((count) * sizeof(type) + CG_LINE - 1) / CG_LINE * CG_LINE;                                            \
    } while (0)
    ARRAY(keys, float, groups * CG_LANES * b->dpad);
    ARRAY(slots, cg_slot, groups * CG_LANES);
    ARRAY(print, uint64_t, n);
    ARRAY(identity, uint64_t, n);
    ARRAY(next_free, uint32_t, n);
#undef ARRAY
    return used;
}

cg_bucket *cg_bucket_new(uint32_t capacity, size_t dpad, cg_eviction kind) {
    cg_bucket *const b = calloc(1, sizeof *b);
    if (!b) return NULL;
    b->capacity = capacity;
    b->dpad = dpad;
    const size_t arrays = place(b, NULL);
    b->bytes = arrays + cg_policy_bytes(kind, capacity);
    char *const memory = cg_buf_alloc(b->bytes);
    if (!memory) {
        free(b);
        return NULL;
    }
    place(b, memory);
    for (uint32_t i = 0; i < capacity; i++) atomic_init(&b->slots[i].version, 0);
    cg_policy_set(&b->policy, kind, capacity, memory + arrays);
    atomic_init(&b->high, 0);
    atomic_init(&b->writes, 0);
    atomic_init(&b->lists, NULL);
    b->free = CG_NO_SLOT;
    return b;
}

static void free_lists(cg_lists *l) {
    while (l) {
        cg_lists *const before = l->before;
        free(l->ids);
        free(l->distances);
        free(l);
        l = before;
    }
}

void cg_bucket_free(cg_bucket *b) {
    if (!b) return;
    free_lists(LOAD(b->lists));
    cg_buf_free(b->keys); /* the first array: all of them */
    free(b);
}

void cg_bucket_clear(cg_bucket *b, uint64_t generation) {
    atomic_store_explicit(&b->high, 0, memory_order_relaxed);
    b->live = b->timed = 0;
    b->free = CG_NO_SLOT;
    b->generation = generation;
    cg_policy_clear(&b->policy);
}

size_t cg_bucket_bytes(const cg_bucket *b) {
    size_t bytes = sizeof *b + b->bytes;
    for (const cg_lists *l = LOAD(b->lists); l; l = l->before)
        bytes += sizeof *l + b->capacity * l->width * (sizeof *l->ids + (l->distances ? sizeof *l->distances : 0));
    return bytes;
}

int cg_bucket_reserve(cg_bucket *b, size_t width, int distances) {
    cg_lists *const old = LOAD(b->lists);
    if (old && old->width >= width && (old->distances || !distances)) return 0;
    size_t wide = old ? old->width : 1;
    while (wide < width) wide *= 2;
    if (wide > SIZE_MAX / sizeof(int64_t) / b->capacity) return -1;
    const size_t n = b->capacity * wide;
    cg_lists *const l = calloc(1, sizeof *l);
    if (!l) return -1;
    l->width = wide;
    l->ids = calloc(n, sizeof *l->ids);
    if (distances || (old && old->distances)) l->distances = calloc(n, sizeof *l->distances);
    if (!l->ids || (!l->distances && (distances || (old && old->distances)))) {
        free_lists(l);
        return -1;
    }
    const uint32_t high = LOAD(b->high);
    for (uint32_t s = 0; old && s < high; s++) {
        memcpy(l->ids + s * wide, old->ids + s * old->width, old->width * sizeof *l->ids);
        if (old->distances)
            memcpy(l->distances + s * wide, old->distances + s * old->width, old->width * sizeof *l->distances);
    }
    l->before = old;
    atomic_store_explicit(&b->lists, l, memory_order_release);
    return 0;
}

/* ---- reading ---- */

static float bound_of(const cg_bucket *b, const cg_want *want, uint32_t slot) {
    const float own = b->slots[slot].own;
    return want->override_own || isnan(own) ? want->usual : own;
}

/* May this slot answer, at distance `total`? */
static int answers(const cg_bucket *b, const cg_want *want, uint32_t slot, float total) {
    return b->slots[slot].tag == want->tag && b->slots[slot].k >= want->k && b->slots[slot].expiry > want->now &&
           total <= bound_of(b, want, slot);
}

void cg_bucket_scan(cg_bucket *b, const cg_want *want, cg_found *best) {
    const uint32_t writes = atomic_load_explicit(&b->writes, memory_order_acquire);
    const uint32_t high = atomic_load_explicit(&b->high, memory_order_acquire);
    const size_t end = (high + CG_LANES - 1) / CG_LANES;
    float total[CG_LANES];
    for (size_t g = 0; (g = cg_scan_next(want->ip, b->keys, b->dpad, g, end, want->q, best->total, total)) < end; g++)
        for (uint32_t l = 0; l < CG_LANES; l++) {
            const uint32_t slot = (uint32_t)g * CG_LANES + l;
            if (!(total[l] <= best->total) || slot >= high || !answers(b, want, slot, total[l])) continue;
            if (best->bucket && total[l] == best->total && b->slots[slot].seq > best->seq) continue;
            *best = (cg_found){b, slot, total[l], b->slots[slot].seq, writes};
        }
}

int cg_bucket_check(cg_bucket *b, const cg_want *want, const cg_found *found, uint32_t *version) {
    const size_t g = found->slot / CG_LANES;
    float total[CG_LANES];
    *version = atomic_load_explicit(&b->slots[found->slot].version, memory_order_acquire);
    if (*version & 1u) return 0;
    if (cg_scan_next(want->ip, b->keys, b->dpad, g, g + 1, want->q, found->total, total) != g) return 0;
    return total[found->slot % CG_LANES] == found->total && answers(b, want, found->slot, found->total);
}

int cg_bucket_unchanged(cg_bucket *b, uint32_t slot, uint32_t version) {
    atomic_thread_fence(memory_order_acquire); /* what was read, was read before this */
    return LOAD(b->slots[slot].version) == version;
}

int cg_bucket_quiet(cg_bucket *b, const cg_found *found) {
    atomic_thread_fence(memory_order_acquire);
    return !(found->writes & 1u) && LOAD(b->writes) == found->writes;
}

uint32_t cg_bucket_find(const cg_bucket *b, const float *q, uint64_t print, uint64_t tag) {
    const uint32_t high = LOAD(b->high);
    for (uint32_t s = 0; s < high; s++) {
        if (b->print[s] != print || b->slots[s].tag != tag) continue;
        const float *const key = b->keys + s / CG_LANES * b->dpad * CG_LANES + s % CG_LANES;
        size_t j = 0;
        while (j < b->dpad && key[j * CG_LANES] == q[j]) j++;
        if (j == b->dpad) return s;
    }
    return CG_NO_SLOT;
}

/* ---- writing ---- */

/* Between these a reader trusts neither the slots nor the bucket. */
static void open_slots(cg_bucket *b, uint32_t first, uint32_t n) {
    atomic_store_explicit(&b->writes, LOAD(b->writes) + 1, memory_order_relaxed);
    for (uint32_t s = first; s < first + n; s++)
        atomic_store_explicit(&b->slots[s].version, LOAD(b->slots[s].version) + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release); /* nothing is written before the numbers are odd */
}

static void close_slots(cg_bucket *b, uint32_t first, uint32_t n) {
    for (uint32_t s = first; s < first + n; s++)
        atomic_store_explicit(&b->slots[s].version, LOAD(b->slots[s].version) + 1, memory_order_release);
    atomic_store_explicit(&b->writes, LOAD(b->writes) + 1, memory_order_release);
}

uint32_t cg_bucket_take(cg_bucket *b) {
    if (b->free != CG_NO_SLOT) {
        const uint32_t slot = b->free;
        b->free = b->next_free[slot];
        return slot;
    }
    const uint32_t slot = LOAD(b->high);
    if (slot % CG_LANES == 0) { /* a new group: all its lanes are empty, and out of everyone's reach */
        const uint32_t left = b->capacity - slot, n = left < CG_LANES ? left : CG_LANES;
        open_slots(b, slot, n); /* a late reader of the last generation may still be here */
        memset(b->keys + slot * b->dpad, 0, CG_LANES * b->dpad * sizeof *b->keys);
        for (uint32_t l = 0; l < CG_LANES; l++) {
            cg_scan_far(b->keys, b->dpad, slot + l);
            b->slots[slot + l].tag = 0;
        }
        close_slots(b, slot, n);
    }
    atomic_store_explicit(&b->high, slot + 1, memory_order_release);
    return slot;
}

void cg_bucket_write(cg_bucket *b, uint32_t slot, const cg_entry *e, int same_key) {
    const cg_lists *const l = LOAD(b->lists);
    if (same_key) b->timed -= b->slots[slot].expiry != CG_NEVER;
    b->timed += e->expiry != CG_NEVER;
    open_slots(b, slot, 1);
    if (!same_key) {
        cg_scan_put(b->keys, b->dpad, slot, e->q);
        b->print[slot] = e->print;
        b->slots[slot].seq = e->seq;
        b->slots[slot].tag = e->tag;
        b->live++;
    }
    b->slots[slot].born = e->born;
    b->slots[slot].expiry = e->expiry;
    b->slots[slot].own = e->own;
    b->slots[slot].k = e->k;
    b->slots[slot].count = e->count;
    b->slots[slot].measured = e->distances ? e->count : 0;
    b->identity[slot] = e->count ? (uint64_t)e->ids[0] : e->print;
    if (e->count) memcpy(l->ids + slot * l->width, e->ids, e->count * sizeof *e->ids);
    if (b->slots[slot].measured) memcpy(l->distances + slot * l->width, e->distances, e->count * sizeof *e->distances);
    close_slots(b, slot, 1);
}

void cg_bucket_drop(cg_bucket *b, uint32_t slot) {
    open_slots(b, slot, 1);
    b->slots[slot].tag = 0;
    cg_scan_far(b->keys, b->dpad, slot);
    close_slots(b, slot, 1);
    b->timed -= b->slots[slot].expiry != CG_NEVER;
    b->live--;
    b->next_free[slot] = b->free;
    b->free = slot;
}
