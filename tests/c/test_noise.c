/* tests/c/test_noise.c -- normals from C: every instruction set and cut gives the same bits, nothing is written beyond
 * the array (a sanitizer sees it), two callers at once. */
#include "../../csrc/base/isa.h"
#include "../../csrc/base/pool.h"
#include "../../csrc/noise/normal.h"
#include "../../csrc/noise/normal_core.h"
#include "check.h"
#include <pthread.h>
#include <stdlib.h>

enum { N = 40000 };
static const cg_address at = {7, CG_FOR_NOISE, 3, 11};
static float whole[N];

static int same(uint64_t first, size_t n) {
    float *out = malloc((n ? n : 1) * sizeof *out); /* as long as it must be */
    if (!out) exit(2);
    cg_normal_f32(&at, first, n, out);
    const int equal = memcmp(out, whole + first, n * sizeof *out) == 0;
    free(out);
    return equal;
}

static void by_definition(void) {
    for (uint32_t b = 0; b < N / 4; b++) {
        uint32_t words[4];
        cg_random_u32(&at, 4 * b, 4, words);
        cg_normal_block(words, whole + 4 * b);
    }
}

static void all_cuts(void) {
    for (uint64_t first = 0; first < 6; first++)
        for (size_t n = 0; n < 140; n++) CHECK(same(first, n));
    CHECK(same(3, N - 3));
    CHECK(same(0, N));
}

static void *caller(void *equal) {
    *(int *)equal = same(1, N - 1);
    return NULL;
}

static void two_callers(void) {
    pthread_t thread;
    int theirs = 0;
    if (pthread_create(&thread, NULL, caller, &theirs)) exit(2);
    const int ours = same(2, N - 2);
    pthread_join(thread, NULL);
    CHECK(ours && theirs);
}

int main(void) {
    cg_err err;
    by_definition();
    for (int isa = 0; isa < CG_ISA_COUNT; isa++)
        for (int threads = 1; threads <= 2; threads++) {
            if (cg_isa_force((cg_isa_t)isa)) continue;
            CHECK(cg_set_num_threads(threads, &err) == CG_OK);
            all_cuts();
            two_callers();
        }
    return failed();
}
