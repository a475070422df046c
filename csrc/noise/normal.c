#include "normal.h"
#include "../base/isa.h"
#include "../base/pool.h"
#include "normal_kernels.h"
#include <string.h>

static cg_normal_fn *const normal_f32[CG_ISA_COUNT] = {
    [CG_ISA_BASE] = cg_normal_f32_base,
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = cg_normal_f32_avx2,
    [CG_ISA_AVX512] = cg_normal_f32_avx512,
#endif
};

enum { GRAIN = 4096 }; /* blocks a task: about 20 us */

/* Whole blocks first ... first + n - 1 of an address. The counter's first word wraps every 2^32 of them, where the
 * upper half of the purpose's word goes on (base/philox.h). */
static void whole_blocks(const cg_address *at, uint64_t first, size_t n, float *out) {
    const uint32_t key[2] = {(uint32_t)at->seed, (uint32_t)(at->seed >> 32)};
    while (n) {
        const uint64_t before_wrap = (UINT64_C(1) << 32) - (uint32_t)first;
        const size_t run = n < before_wrap ? n : (size_t)before_wrap;
        const uint32_t counter[4] = {(uint32_t)first, at->node, at->round, at->purpose | (uint32_t)(first >> 32) << 16};
        normal_f32[cg_isa()](counter, key, run, out);
        first += run;
        out += 4 * run;
        n -= run;
    }
}

typedef struct job {
    const cg_address *at;
    uint64_t first;
    float *out;
} job;

static void blocks_task(void *ctx, size_t begin, size_t end, void *scratch) {
    (void)scratch;
    const job *j = ctx;
    whole_blocks(j->at, j->first + begin, end - begin, j->out + 4 * begin);
}

/* n values of one block, from its value `from` on. */
static void part_of_block(const cg_address *at, uint64_t block, size_t from, size_t n, float *out) {
    float values[4];
    whole_blocks(at, block, 1, values);
    memcpy(out, values + from, n * sizeof *out);
}

void cg_normal_f32(const cg_address *at, uint64_t first, size_t n, float *out) {
    const size_t skip = first % 4;
    if (skip && n) {
        const size_t head = n < 4 - skip ? n : 4 - skip;
        part_of_block(at, first / 4, skip, head, out);
        first += head;
        out += head;
        n -= head;
    }
    job j = {at, first / 4, out};
    cg_err err; /* not used: without scratch memory nothing can fail */
    (void)cg_parallel_for(n / 4, GRAIN, 0, blocks_task, &j, &err);
    if (n % 4) part_of_block(at, first / 4 + n / 4, 0, n % 4, out + n / 4 * 4);
}
