/* csrc/router/merge_hits.h -- a search result, the total order of results, and a heap of the best k.
 *
 * The order is total, so the best k of a set are the same whatever order they came in, however the work was cut. */
#ifndef CG_MERGE_HITS_H
#define CG_MERGE_HITS_H
#include <stddef.h>
#include <stdint.h>

typedef struct cg_hit {
    float key; /* larger is better; never NaN */
    int32_t source;
    int64_t id;
} cg_hit;

/* By key, then the lower source, then the lower id. */
static inline int cg_hit_before(cg_hit a, cg_hit b) {
    if (a.key != b.key) return a.key > b.key;
    return a.source != b.source ? a.source < b.source : a.id < b.id;
}

/* Puts `hit` where the root of a heap was: no parent comes before its children, so the root is the worst. */
static inline void cg_hits_replace_root(cg_hit *heap, size_t size, cg_hit hit) {
    size_t at = 0;
    for (size_t child = 1; child < size; child = 2 * at + 1) {
        if (child + 1 < size && cg_hit_before(heap[child], heap[child + 1])) child++;
        if (!cg_hit_before(hit, heap[child])) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = hit;
}

/* Keeps `hit` if it is among the best k seen. heap: k places, *size of them taken; k >= 1. */
static inline void cg_hits_push(cg_hit *heap, size_t *size, size_t k, cg_hit hit) {
    if (*size == k) {
        if (cg_hit_before(hit, heap[0])) cg_hits_replace_root(heap, k, hit);
        return;
    }
    size_t at = (*size)++;
    for (size_t parent = (at - 1) / 2; at && cg_hit_before(heap[parent], hit); parent = (at - 1) / 2) {
        heap[at] = heap[parent];
        at = parent;
    }
    heap[at] = hit;
}

/* From a heap to a list, best first. */
static inline void cg_hits_sort(cg_hit *heap, size_t size) {
    while (size > 1) {
        const cg_hit worst = heap[0];
        size--;
        cg_hits_replace_root(heap, size, heap[size]);
        heap[size] = worst;
    }
}

/* A list that is read from the front. */
typedef struct cg_hits {
    const cg_hit *at, *end;
} cg_hits;

/* out[0 ... returned - 1], returned <= most: the best of the lists together. Each is sorted; they are used up. */
size_t cg_hits_merge(cg_hits *lists, size_t count, size_t most, cg_hit *out);
#endif
