/* csrc/gossip/energy.c -- the action matrix times the cost of a training round, along both axes. */
#include "../base/isa.h"
#include "../base/pool.h"
#include "schedule.h"
#include "schedule_kernels.h"
#include <math.h>

enum {
    COLUMNS = 64,       /* nodes counted together: a cache line of a row */
    BYTE_ROWS = 255,    /* rows before a count in one byte could overflow */
    BLOCK_BYTES = 65536 /* of the matrix for one task: about 20 us of work */
};

static cg_round_energy_fn *const energies[CG_ISA_COUNT] = {
    [CG_ISA_BASE] = cg_round_energy_base,
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = cg_round_energy_avx2,
    [CG_ISA_AVX512] = cg_round_energy_avx512,
#endif
};

typedef struct bill {
    size_t rounds, n;
    const uint8_t *action;
    const double *e;
    double *per_node, *cumulative;
    cg_round_energy_fn *round_energy;
} bill;

static void bill_rounds(void *ctx, size_t begin, size_t end, void *scratch) {
    (void)scratch;
    const bill *b = ctx;
    for (size_t t = begin; t < end; t++) b->cumulative[t] = b->round_energy(b->n, b->action + t * b->n, b->e);
}

static void count_columns(const bill *b, size_t at, size_t count, uint64_t *trained) {
    for (size_t t = 0; t < b->rounds;) {
        const size_t stop = b->rounds - t < BYTE_ROWS ? b->rounds : t + BYTE_ROWS;
        uint8_t few[COLUMNS] = {0};
        for (; t < stop; t++) {
            const uint8_t *row = b->action + t * b->n + at;
            if (count == COLUMNS)
                for (size_t i = 0; i < COLUMNS; i++) few[i] = (uint8_t)(few[i] + row[i]);
            else
                for (size_t i = 0; i < count; i++) few[i] = (uint8_t)(few[i] + row[i]);
        }
        for (size_t i = 0; i < count; i++) trained[i] += few[i];
    }
}

static void bill_nodes(void *ctx, size_t begin, size_t end, void *scratch) {
    (void)scratch;
    const bill *b = ctx;
    for (size_t block = begin; block < end; block++) {
        const size_t at = block * COLUMNS, count = b->n - at < COLUMNS ? b->n - at : COLUMNS;
        uint64_t trained[COLUMNS] = {0};
        count_columns(b, at, count, trained);
        for (size_t i = 0; i < count; i++) b->per_node[at + i] = b->e[at + i] * (double)trained[i];
    }
}

int cg_energy(size_t rounds, size_t n, const uint8_t *action, const double *e, double *per_node, double *cumulative,
              cg_err *err) {
    for (size_t i = 0; i < n; i++)
        if (!(e[i] >= 0.0) || !isfinite(e[i]))
            return cg_fail(err, CG_EVALUE, "e: expected a finite energy of at least 0 at [%zu], got %g", i, e[i]);
    uint8_t all = 0;
    for (size_t p = 0; p < rounds * n; p++) all |= action[p];
    for (size_t p = 0; all > 1; p++)
        if (action[p] > 1)
            return cg_fail(err, CG_EVALUE, "action: expected 0 or 1 at [%zu, %zu], got %u", p / n, p % n,
                           (unsigned)action[p]);
    bill b = {rounds, n, action, e, per_node, cumulative, energies[cg_isa()]};
    const size_t block_rounds = 1 + BLOCK_BYTES / (n + 1), block_nodes = 1 + 4 * BLOCK_BYTES / (rounds * COLUMNS + 1);
    if (cg_parallel_for(rounds, block_rounds, 0, bill_rounds, &b, err)) return err->code;
    if (cg_parallel_for((n + COLUMNS - 1) / COLUMNS, block_nodes, 0, bill_nodes, &b, err)) return err->code;
    for (size_t t = 1; t < rounds; t++) cumulative[t] += cumulative[t - 1];
    return CG_OK;
}
