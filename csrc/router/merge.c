#include "merge.h"
#include "../base/pool.h"
#include "merge_hits.h"
#include <math.h>
#include <string.h>

/* Lists by their first hits: the parent's comes before its children's. */
static void sink(cg_hits *heap, size_t size, size_t at) {
    const cg_hits moved = heap[at];
    for (size_t child = 2 * at + 1; child < size; child = 2 * at + 1) {
        if (child + 1 < size && cg_hit_before(*heap[child + 1].at, *heap[child].at)) child++;
        if (!cg_hit_before(*heap[child].at, *moved.at)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

size_t cg_hits_merge(cg_hits *lists, size_t count, size_t most, cg_hit *out) {
    size_t left = 0, made = 0;
    for (size_t i = 0; i < count; i++)
        if (lists[i].at < lists[i].end) lists[left++] = lists[i];
    for (size_t i = left / 2; i-- > 0;) sink(lists, left, i);
    while (left && made < most) {
        out[made++] = *lists[0].at++;
        if (lists[0].at == lists[0].end) lists[0] = lists[--left];
        if (left) sink(lists, left, 0);
    }
    return made;
}

typedef struct merge {
    size_t sources, batch, k, k_out;
    const float *scores;
    const int64_t *ids;
    float sign; /* 1 where larger is better, else -1: scores as keys and back */
    float *merged;
    int32_t *source, *counts;
    int64_t *id;
} merge;

/* The results of one source for one query, in order; how many. */
static size_t collect(const merge *m, size_t s, size_t b, cg_hit *to) {
    const size_t from = (s * m->batch + b) * m->k;
    size_t n = 0;
    int in_order = 1;
    for (size_t i = 0; i < m->k; i++) {
        const cg_hit hit = {m->sign * m->scores[from + i], (int32_t)s, m->ids[from + i]};
        if (hit.id < 0 || isnan(hit.key)) continue;
        in_order &= n == 0 || !cg_hit_before(hit, to[n - 1]);
        to[n++] = hit;
    }
    if (!in_order) {
        size_t size = 0;
        while (size < n) cg_hits_push(to, &size, n, to[size]);
        cg_hits_sort(to, n);
    }
    return n;
}

static void merge_queries(void *ctx, size_t begin, size_t end, void *scratch) {
    const merge *const m = ctx;
    cg_hit *const found = scratch, *const best = found + m->sources * m->k;
    cg_hits *const lists = (cg_hits *)(void *)(best + m->k_out);
    for (size_t b = begin; b < end; b++) {
        int32_t *const counts = m->counts + b * m->sources;
        for (size_t s = 0; s < m->sources; s++) {
            cg_hit *const list = found + s * m->k;
            lists[s].at = list;
            lists[s].end = list + collect(m, s, b, list);
        }
        const size_t made = cg_hits_merge(lists, m->sources, m->k_out, best);
        if (m->sources) memset(counts, 0, m->sources * sizeof *counts);
        for (size_t i = 0; i < m->k_out; i++) {
            const cg_hit hit = i < made ? best[i] : (cg_hit){-INFINITY, -1, -1};
            const size_t at = b * m->k_out + i;
            m->merged[at] = m->sign * hit.key;
            m->source[at] = hit.source;
            m->id[at] = hit.id;
            if (i < made) counts[hit.source]++;
        }
    }
}

int cg_merge_topk(size_t sources, size_t batch, size_t k, const float *scores, const int64_t *ids, int larger,
                  size_t k_out, float *merged, int32_t *source, int64_t *id, int32_t *counts, cg_err *err) {
    const merge m = {.sources = sources,
                     .batch = batch,
                     .k = k,
                     .k_out = k_out,
                     .scores = scores,
                     .ids = ids,
                     .sign = larger ? 1.0f : -1.0f,
                     .merged = merged,
                     .source = source,
                     .counts = counts,
                     .id = id};
    if (sources > INT32_MAX) return cg_fail(err, CG_EVALUE, "D: expected fewer than 2**31 sources, got %zu", sources);
    const size_t most = SIZE_MAX / sizeof(cg_hit) / 4;
    if ((sources && k > most / sources) || k_out > most) return cg_fail(err, CG_ENOMEM, "k: no memory for %zu", k);
    const size_t bytes = (sources * k + k_out) * sizeof(cg_hit) + sources * sizeof(cg_hits);
    return cg_parallel_for(batch, 16, bytes, merge_queries, (void *)&m, err);
}
