#include "philox.h"
#include "philox_core.h"

void cg_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    cg_philox_rounds(counter[0], counter[1], counter[2], counter[3], key[0], key[1], out);
}

/* Blocks beyond 2^32 (2^34 words) of one address continue in the upper half of the purpose's word. */
static void block_at(const cg_address *at, uint64_t block, uint32_t out[4]) {
    const uint32_t counter[4] = {(uint32_t)block, at->node, at->round, at->purpose | (uint32_t)(block >> 32) << 16};
    const uint32_t key[2] = {(uint32_t)at->seed, (uint32_t)(at->seed >> 32)};
    cg_philox4x32(counter, key, out);
}

void cg_random_u32(const cg_address *at, uint64_t first, size_t n, uint32_t *out) {
    uint32_t words[4];
    for (size_t i = 0; i < n;) {
        const uint64_t index = first + i;
        block_at(at, index / 4, words);
        for (size_t w = index % 4; w < 4 && i < n; w++) out[i++] = words[w];
    }
}

void cg_random_f32(const cg_address *at, uint64_t first, size_t n, float *out) {
    uint32_t words[4];
    for (size_t i = 0; i < n;) {
        const uint64_t index = first + i;
        block_at(at, index / 4, words);
        for (size_t w = index % 4; w < 4 && i < n; w++) out[i++] = (float)(words[w] >> 8) * 0x1p-24f;
    }
}

void cg_walk_start(cg_walk *w, const cg_address *at) {
    w->at = *at;
    w->next = 0;
}

uint32_t cg_walk_u32(cg_walk *w) {
    if (w->next % 4 == 0) block_at(&w->at, w->next / 4, w->block);
    return w->block[w->next++ % 4];
}

/* Lemire, "Fast random integer generation in an interval", ACM TOMACS 2019: multiply, reject the few biased words. */
uint32_t cg_walk_below(cg_walk *w, uint32_t bound) {
    uint64_t m = (uint64_t)cg_walk_u32(w) * bound;
    if ((uint32_t)m < bound) {
        const uint32_t least = (0u - bound) % bound;
        while ((uint32_t)m < least) m = (uint64_t)cg_walk_u32(w) * bound;
    }
    return (uint32_t)(m >> 32);
}

void cg_random_permutation(const cg_address *at, uint32_t n, int32_t *out) {
    cg_walk w;
    cg_walk_start(&w, at);
    for (uint32_t i = 0; i < n; i++) out[i] = (int32_t)i;
    for (uint32_t i = n; i > 1; i--) {
        const uint32_t j = cg_walk_below(&w, i);
        const int32_t t = out[i - 1];
        out[i - 1] = out[j];
        out[j] = t;
    }
}
