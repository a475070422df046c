/* tests/c/test_base.c -- errors, instruction sets, aligned memory and Philox against its published vectors. */
#include "../../csrc/base/buf.h"
#include "../../csrc/base/err.h"
#include "../../csrc/base/isa.h"
#include "../../csrc/base/philox.h"
#include "check.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The known answers of Random123 for philox4x32-10. */
static void philox_vectors(void) {
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t out[4];
        cg_philox4x32(known[i].counter, known[i].key, out);
        CHECK(memcmp(out, known[i].want, sizeof out) == 0);
    }
}

/* Where a word stands does not depend on how it is asked for. */
static void philox_addresses(void) {
    const cg_address at = {.seed = 0x299f31d0a4093822u, .purpose = CG_FOR_SAMPLE, .node = 3, .round = 9};
    enum { N = 64 };
    uint32_t all[N], part[N];
    float uniform[N];
    cg_random_u32(&at, 0, N, all);
    cg_random_f32(&at, 0, N, uniform);
    for (uint64_t first = 0; first < 9; first++)
        for (size_t n = 0; n < 9; n++) {
            memset(part, 0xAB, sizeof part);
            cg_random_u32(&at, first, n, part);
            CHECK(memcmp(part, all + first, n * sizeof *part) == 0);
            CHECK(part[n] == 0xABABABABu); /* nothing written behind the end */
        }
    cg_walk w;
    cg_walk_start(&w, &at);
    for (size_t i = 0; i < N; i++) {
        CHECK(cg_walk_u32(&w) == all[i]);
        CHECK(uniform[i] == (float)(all[i] >> 8) / 16777216.0f && uniform[i] >= 0.0f && uniform[i] < 1.0f);
    }
    /* counter = {index / 4, node, round, purpose}, key = seed */
    uint32_t block[4];
    cg_philox4x32((const uint32_t[4]){2, 3, 9, CG_FOR_SAMPLE}, (const uint32_t[2]){0xa4093822, 0x299f31d0}, block);
    CHECK(memcmp(block, all + 8, sizeof block) == 0);
    /* Words on both sides of 2^34, where the block's number leaves its 32 bits, differ from those at the start. */
    cg_random_u32(&at, (UINT64_C(1) << 34) - 2, 6, part);
    cg_random_u32(&at, UINT64_C(1) << 34, 4, part + 8);
    CHECK(memcmp(part + 2, part + 8, 4 * sizeof *part) == 0);
    CHECK(memcmp(part + 8, all, 4 * sizeof *part) != 0);
}

static void philox_integers(void) {
    const cg_address at = {.seed = 7, .purpose = CG_FOR_USER, .node = 0, .round = 0};
    cg_walk w;
    cg_walk_start(&w, &at);
    int seen[7] = {0};
    for (int i = 0; i < 70000; i++) {
        const uint32_t k = cg_walk_below(&w, 7);
        CHECK(k < 7);
        if (k < 7) seen[k]++;
    }
    for (int k = 0; k < 7; k++) CHECK(abs(seen[k] - 10000) < 500); /* five standard deviations: 463 */
    for (int i = 0; i < 100; i++) CHECK(cg_walk_below(&w, 1) == 0);
    for (int i = 0; i < 100; i++) CHECK(cg_walk_below(&w, UINT32_MAX) < UINT32_MAX);

    enum { N = 1000 };
    int32_t order[N + 1];
    char here[N] = {0};
    order[N] = -5;
    cg_random_permutation(&at, N, order);
    for (size_t i = 0; i < N; i++) {
        CHECK(order[i] >= 0 && order[i] < N && !here[order[i]]);
        here[order[i]] = 1;
    }
    CHECK(order[N] == -5);
    cg_random_permutation(&at, 0, order); /* writes nothing */
    cg_random_permutation(&at, 1, order);
    CHECK(order[0] == 0);
}

static void buffers(void) {
    for (size_t cols = 0; cols < 500; cols++)
        for (size_t item = 1; item <= 8; item *= 2) {
            const size_t ld = cg_buf_ld(cols, item);
            CHECK(ld >= cols && ld * item % CG_LINE == 0 && ld * item / CG_LINE % 2 == 1);
            CHECK(cols == 0 || ld * item < cols * item + 2 * CG_LINE); /* the smallest */
        }
    CHECK(cg_buf_ld(1024, 4) == 1040); /* 64 lines become 65 */
    CHECK(cg_buf_ld(SIZE_MAX, 1) == 0 && cg_buf_ld(SIZE_MAX / 4, 4) == 0 && cg_buf_ld(5, 0) == 0);
    for (size_t bytes = 0; bytes < 300; bytes += 7) {
        char *p = cg_buf_alloc(bytes);
        CHECK(p && (uintptr_t)p % CG_LINE == 0);
        if (p) memset(p, 1, bytes);
        cg_buf_free(p);
    }
    volatile size_t much = SIZE_MAX;                 /* volatile: the compiler knows what no machine has */
    CHECK(cg_buf_alloc(much) == NULL);               /* would wrap around when rounded up */
    CHECK(cg_buf_alloc(much - 2 * CG_LINE) == NULL); /* does not, and there is no such memory */
}

static void errors_and_isas(void) {
    cg_err err;
    CHECK(cg_fail(&err, CG_EALIAS, "out: overlaps %s", "models") == CG_EALIAS && err.code == CG_EALIAS);
    CHECK(strcmp(err.text, "out: overlaps models") == 0);
    char text[1000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    cg_fail(&err, CG_EVALUE, "%s", text); /* cut, and ended */
    CHECK(strlen(err.text) == sizeof err.text - 1);

    const cg_isa_t best = cg_isa();
    CHECK(cg_isa_runs(CG_ISA_BASE) && cg_isa_runs(best));
    for (int i = 0; i < CG_ISA_COUNT; i++) {
        CHECK(cg_isa_name((cg_isa_t)i)[0] != '\0');
        CHECK((cg_isa_force((cg_isa_t)i) == 0) == cg_isa_runs((cg_isa_t)i));
        CHECK(!cg_isa_runs((cg_isa_t)i) || cg_isa() == (cg_isa_t)i);
    }
    CHECK(cg_isa_force(CG_ISA_COUNT) == -1);
    CHECK(cg_isa_force(best) == 0 && cg_isa() == best);
}

int main(void) {
    philox_vectors();
    philox_addresses();
    philox_integers();
    buffers();
    errors_and_isas();
    return failed();
}
