#define _POSIX_C_SOURCE 200809L /* pthread_rwlock_t */
#include "state.h"
#include "../base/buf.h"
#include "cache_internal.h"
#include <math.h>
#include <string.h>

#define LOAD(a) atomic_load_explicit(&(a), memory_order_relaxed)
#define STORE(a, v) atomic_store_explicit(&(a), (v), memory_order_relaxed)

static void measure(cg_cache *c, cg_cache_rows *r) {
    r->n = c->live;
    r->lists = r->ghosts = 0;
    for (uint32_t i = 0; i < LOAD(c->buckets); i++) {
        const cg_bucket *const b = cg_cache_numbered(c, i);
        const uint32_t high = LOAD(b->high);
        for (uint32_t s = 0; s < high; s++) r->lists += b->slots[s].tag ? b->slots[s].count : 0;
        r->ghosts += b->policy.ghosts;
    }
}

void cg_cache_measure(cg_cache *c, cg_cache_rows *r) {
    cg_cache_write_lock(c);
    cg_cache_collect(c, cg_cache_now());
    measure(c, r);
    cg_cache_write_unlock(c);
}

static void export_slot(const cg_cache *c, const cg_bucket *b, uint32_t s, int64_t now, const cg_cache_rows *r,
                        size_t at, size_t list) {
    const size_t dim = c->config.dim;
    const cg_lists *const l = LOAD(b->lists);
    if (r->keys) cg_scan_get(b->keys, dim, b->dpad, s, r->keys + at * dim);
    r->slot[at] = cg_cache_slot(c, b, s);
    r->signature[at] = b->signature;
    r->seq[at] = b->slots[s].seq;
    r->age[at] = now - b->slots[s].born;
    r->left[at] = b->slots[s].expiry == CG_NEVER ? CG_NEVER : b->slots[s].expiry - now;
    r->bound[at] = b->slots[s].own;
    r->k[at] = b->slots[s].k;
    r->count[at] = b->slots[s].count;
    r->measured[at] = b->slots[s].measured;
    r->space[at] = (uint32_t)b->slots[s].tag;
    r->where[at] = b->policy.where[s];
    r->mark[at] = LOAD(b->policy.mark[s]);
    r->hand[at] = b->policy.hand == s;
    r->use[at] = LOAD(b->policy.use[s]);
    for (size_t i = 0; i < b->slots[s].count; i++) {
        r->ids[list + i] = l->ids[s * l->width + i];
        r->distances[list + i] = b->slots[s].measured ? l->distances[s * l->width + i] : NAN;
    }
}

static void export_all(cg_cache *c, const cg_cache_rows *r) {
    const int64_t now = cg_cache_now();
    size_t at = 0, list = 0, ghost = 0;
    for (uint32_t i = 0; i < LOAD(c->buckets); i++) {
        const cg_bucket *const b = c->by_number[i];
        const cg_policy *const p = &b->policy;
        for (int q = 0; q < 2; q++)
            for (uint32_t s = p->queue[q].oldest; s != CG_NO_SLOT; s = p->newer[s]) {
                export_slot(c, b, s, now, r, at++, list);
                list += b->slots[s].count;
            }
        const uint32_t first = p->ghosts < p->ghost_capacity ? 0 : p->ghost_at;
        for (uint32_t g = 0; g < p->ghosts; g++, ghost++) {
            r->ghost_signature[ghost] = b->signature;
            r->ghost[ghost] = p->ghost[(first + g) % p->ghost_capacity];
        }
    }
}

int cg_cache_export(cg_cache *c, const cg_cache_rows *r) {
    cg_cache_rows now;
    cg_cache_write_lock(c);
    measure(c, &now);
    const int fits = now.n == r->n && now.lists == r->lists && now.ghosts == r->ghosts;
    if (fits) export_all(c, r);
    cg_cache_write_unlock(c);
    return fits;
}

static int check_row(const cg_cache *c, const cg_cache_rows *r, size_t i, size_t list, cg_err *err) {
    const size_t dim = c->config.dim;
    if (r->signature[i] >> c->config.bits)
        return cg_fail(err, CG_EVALUE, "signature[%zu]: expected below 2**%u, got %u", i, c->config.bits,
                       r->signature[i]);
    if (r->where[i] > CG_MAIN || (r->where[i] == CG_MAIN && c->config.eviction != CG_S3FIFO))
        return cg_fail(err, CG_EVALUE, "where[%zu]: no such queue: %u", i, r->where[i]);
    if (r->k[i] < 1 || r->count[i] > r->k[i] || (r->measured[i] && r->measured[i] != r->count[i]))
        return cg_fail(err, CG_EVALUE, "count[%zu]: expected at most k = %u, got %u with %u distances", i, r->k[i],
                       r->count[i], r->measured[i]);
    if (r->count[i] > r->lists - list)
        return cg_fail(err, CG_EVALUE, "count[%zu]: more ids than the %zu there are", i, r->lists);
    for (size_t j = 0; j < r->measured[i]; j++)
        if (!isfinite(r->distances[list + j]))
            return cg_fail(err, CG_EVALUE, "distances[%zu]: expected a finite value", list + j);
    for (size_t j = 0; j < dim; j++)
        if (!isfinite(r->keys[i * dim + j])) return cg_fail(err, CG_EVALUE, "keys[%zu]: expected finite values", i);
    return CG_OK;
}

static int restore_row(cg_cache *c, const cg_cache_rows *r, size_t i, size_t list, int64_t now, float *q, cg_err *err) {
    const size_t dim = c->config.dim;
    cg_bucket *const b = cg_cache_bucket(c, r->signature[i]);
    if (!b || cg_bucket_reserve(b, r->count[i], r->measured[i] > 0) < 0)
        return cg_fail(err, CG_ENOMEM, "no memory for %zu entries", r->n);
    if (b->live == b->capacity || (c->config.capacity && c->live == c->config.capacity))
        return cg_fail(err, CG_EVALUE, "keys: more entries than the capacity");
    memset(q, 0, c->dpad * sizeof *q);
    memcpy(q, r->keys + i * dim, dim * sizeof *q);
    const cg_entry e = {.q = q,
                        .print = cg_cache_fingerprint(q, c->dpad),
                        .tag = (uint64_t)LOAD(c->generation) << 32 | r->space[i],
                        .seq = r->seq[i],
                        .born = now - r->age[i],
                        .expiry = r->left[i] >= CG_NEVER - now ? CG_NEVER : now + r->left[i],
                        .own = r->bound[i],
                        .k = r->k[i],
                        .count = r->count[i],
                        .ids = r->ids + list,
                        .distances = r->measured[i] ? r->distances + list : NULL};
    const uint32_t s = cg_bucket_take(b);
    cg_bucket_write(b, s, &e, 0);
    cg_policy_restore(&b->policy, s, r->where[i], r->mark[i], r->use[i], r->hand[i]);
    if (e.own > LOAD(c->greatest)) STORE(c->greatest, e.own);
    if (e.seq >= c->seq) c->seq = e.seq + 1;
    c->live++;
    return CG_OK;
}

static int restore(cg_cache *c, const cg_cache_rows *r, float *q, cg_err *err) {
    const int64_t now = cg_cache_now();
    size_t list = 0;
    int rc = CG_OK;
    for (size_t i = 0; i < r->n && rc == CG_OK; i++) {
        rc = check_row(c, r, i, list, err);
        if (rc == CG_OK && r->left[i] > 0) rc = restore_row(c, r, i, list, now, q, err);
        list += r->count[i];
    }
    for (size_t g = 0; g < r->ghosts && rc == CG_OK; g++) {
        if (r->ghost_signature[g] >> c->config.bits)
            return cg_fail(err, CG_EVALUE, "ghost_signature[%zu]: expected below 2**%u", g, c->config.bits);
        cg_bucket *const b = cg_cache_bucket(c, r->ghost_signature[g]);
        if (!b) return cg_fail(err, CG_ENOMEM, "no memory for a bucket");
        cg_policy_remember(&b->policy, r->ghost[g]);
    }
    return rc;
}

int cg_cache_restore(cg_cache *c, const cg_cache_rows *r, cg_err *err) {
    float *const q = cg_buf_alloc(c->dpad * sizeof *q);
    if (!q) return cg_fail(err, CG_ENOMEM, "no memory for a key");
    cg_cache_write_lock(c);
    const int rc = restore(c, r, q, err);
    cg_cache_write_unlock(c);
    cg_buf_free(q);
    return rc;
}
