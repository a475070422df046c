#include "schedule.h"
#include "../base/isa.h"
#include "../base/pool.h"
#include "schedule_kernels.h"
#include <string.h>

static cg_slot_fn *const slots[CG_ISA_COUNT] = {
    [CG_ISA_BASE] = cg_slot_base,
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = cg_slot_avx2,
    [CG_ISA_AVX512] = cg_slot_avx512,
#endif
};

typedef struct plan {
    size_t rounds, n;
    uint64_t period, gamma_train, seed;
    uint32_t first_node;
    const uint64_t *threshold;
    const int64_t *budget;
    uint8_t *action;
    cg_slot_fn *slot;
} plan;

/* A budget is spent in the order of rounds, so the work is cut along the nodes: blocks of one cache line of a row. */
static void plan_block(const plan *p, size_t block) {
    const size_t at = block * CG_SLOT_NODES, count = p->n - at < CG_SLOT_NODES ? p->n - at : CG_SLOT_NODES;
    uint32_t last[CG_SLOT_NODES], left[CG_SLOT_NODES] = {0}; /* nodes beyond the end never train */
    uint8_t row[CG_SLOT_NODES];
    for (size_t i = 0; i < CG_SLOT_NODES; i++) last[i] = UINT32_MAX;
    for (size_t i = 0; i < count; i++) {
        const uint64_t t = p->threshold ? p->threshold[at + i] : CG_ALWAYS;
        const uint64_t b = p->budget ? (uint64_t)p->budget[at + i] : UINT32_MAX;
        last[i] = (uint32_t)(t - 1);
        left[i] = t == 0 ? 0 : b < UINT32_MAX ? (uint32_t)b : UINT32_MAX; /* rounds is no larger */
    }
    uint64_t phase = 0;
    for (size_t t = 0; t < p->rounds; t++, phase = phase + 1 == p->period ? 0 : phase + 1) {
        uint8_t *const to = p->action + t * p->n + at;
        if (phase >= p->gamma_train) {
            memset(to, 0, count);
        } else if (count == CG_SLOT_NODES) {
            p->slot(p->seed, p->first_node + (uint32_t)at, (uint32_t)t, last, left, to);
        } else {
            p->slot(p->seed, p->first_node + (uint32_t)at, (uint32_t)t, last, left, row);
            memcpy(to, row, count);
        }
    }
}

static void plan_blocks(void *ctx, size_t begin, size_t end, void *scratch) {
    (void)scratch;
    for (size_t block = begin; block < end; block++) plan_block(ctx, block);
}

int cg_schedule(size_t rounds, size_t n, uint32_t gamma_train, uint32_t gamma_sync, const uint64_t *threshold,
                const int64_t *budget, uint64_t seed, uint32_t first_node, uint8_t *action, cg_err *err) {
    if (rounds > UINT32_MAX) return cg_fail(err, CG_EVALUE, "rounds: expected at most 2**32 - 1, got %zu", rounds);
    if (gamma_train < 1) return cg_fail(err, CG_EVALUE, "gamma_train: expected at least 1, got 0");
    if (n > CG_ALWAYS - first_node)
        return cg_fail(err, CG_EVALUE, "first_node: expected node ids up to 2**32 - 1, got %zu nodes from %lu", n,
                       (unsigned long)first_node);
    for (size_t i = 0; threshold && i < n; i++)
        if (threshold[i] > CG_ALWAYS)
            return cg_fail(err, CG_EVALUE, "threshold: expected 0 to 2**32 at [%zu], got %llu", i,
                           (unsigned long long)threshold[i]);
    for (size_t i = 0; budget && i < n; i++)
        if (budget[i] < 0)
            return cg_fail(err, CG_EVALUE, "budget: expected at least 0 at [%zu], got %lld", i, (long long)budget[i]);
    if (rounds == 0 || n == 0) return CG_OK;
    const uint64_t period = (uint64_t)gamma_train + gamma_sync;
    if (!threshold && !budget) {
        for (size_t t = 0; t < rounds; t++) memset(action + t * n, t % period < gamma_train, n);
        return CG_OK;
    }
    plan p = {rounds, n, period, gamma_train, seed, first_node, threshold, budget, action, slots[cg_isa()]};
    /* 4,096 rounds of a block are about 20 us of work or more: less is not worth waking a thread for. */
    return cg_parallel_for((n + CG_SLOT_NODES - 1) / CG_SLOT_NODES, 1 + 4096 / rounds, 0, plan_blocks, &p, err);
}
