/* tests/c/test_pool.c -- the thread pool: every block once, nested and concurrent calls, scratch memory, a changing
 * number of threads, and fork. */
#define _GNU_SOURCE
#include "../../csrc/base/pool.h"
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static cg_err err;

/* ---- every block exactly once, cut where the contract says ---- */

enum { MOST = 3000 };
typedef struct count {
    size_t n, grain;
    atomic_int hits[MOST];
    atomic_int wrong;
} count;

static void count_items(void *ctx, size_t begin, size_t end, void *scratch) {
    count *c = ctx;
    const size_t last = c->n - begin < c->grain ? c->n : begin + c->grain;
    if (begin >= c->n || begin % c->grain != 0 || end != last || scratch) atomic_fetch_add(&c->wrong, 1);
    for (size_t i = begin; i < end && i < MOST; i++) atomic_fetch_add(&c->hits[i], 1);
}

static void count_all(size_t n, size_t grain) {
    static count c; /* too large for the stack of a small thread */
    memset(&c, 0, sizeof c);
    c.n = n;
    c.grain = grain ? grain : 1;
    CHECK(cg_parallel_for(n, grain, 0, count_items, &c, &err) == CG_OK);
    for (size_t i = 0; i < MOST; i++) CHECK(atomic_load(&c.hits[i]) == (i < n));
    CHECK(atomic_load(&c.wrong) == 0);
}

static void blocks(void) {
    static const size_t sizes[] = {0, 1, 2, 3, 7, 64, 65, 1000, MOST};
    static const size_t grains[] = {0, 1, 2, 3, 5, 63, 64, 999, 1000, 1001, SIZE_MAX / 2, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t j = 0; j < sizeof grains / sizeof *grains; j++) count_all(sizes[i], grains[j]);
}

/* Ends of the range of size_t: few blocks, so that only the arithmetic is tried. */
typedef struct reach {
    atomic_size_t calls, items;
} reach;

static void add_up(void *ctx, size_t begin, size_t end, void *scratch) {
    reach *r = ctx;
    (void)scratch;
    atomic_fetch_add(&r->calls, 1);
    atomic_fetch_add(&r->items, end - begin);
}

static void huge_ranges(void) {
    static const struct {
        size_t n, grain;
    } cases[] = {
        {SIZE_MAX, SIZE_MAX},         {SIZE_MAX, SIZE_MAX - 1},         {SIZE_MAX, SIZE_MAX / 2},
        {SIZE_MAX / 2, SIZE_MAX / 2}, {SIZE_MAX / 2, SIZE_MAX / 2 - 1}, {SIZE_MAX / 2, SIZE_MAX / 4},
        {SIZE_MAX / 4, SIZE_MAX / 8}, {SIZE_MAX / 2, SIZE_MAX / 1024},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int repeat = 0; repeat < 50; repeat++) { /* which thread overshoots the end is a matter of luck */
            reach r = {0};
            CHECK(cg_parallel_for(cases[i].n, cases[i].grain, 0, add_up, &r, &err) == CG_OK);
            const size_t calls = cases[i].n / cases[i].grain + (cases[i].n % cases[i].grain != 0);
            CHECK(atomic_load(&r.calls) == calls && atomic_load(&r.items) == cases[i].n);
        }
}

/* ---- nested calls run in their caller ---- */

static void inner(void *ctx, size_t begin, size_t end, void *scratch) {
    atomic_int *sum = ctx;
    memset(scratch, (int)begin, 100);
    for (size_t i = begin; i < end; i++) atomic_fetch_add(sum, 1);
}

typedef struct outer_job {
    atomic_int sum, spoilt, failed;
} outer_job;

static void outer(void *ctx, size_t begin, size_t end, void *scratch) {
    outer_job *o = ctx;
    unsigned char *mine = scratch;
    memset(mine, 0x5A, 200);
    for (size_t i = begin; i < end; i++) {
        cg_err e;
        if (cg_parallel_for(10, 3, 100, inner, &o->sum, &e) != CG_OK) atomic_fetch_add(&o->failed, 1);
    }
    for (int i = 0; i < 200; i++) /* a nested call gets other scratch memory than its caller's */
        if (mine[i] != 0x5A) atomic_fetch_add(&o->spoilt, 1);
}

static void nested(void) {
    outer_job o = {0};
    CHECK(cg_parallel_for(50, 1, 200, outer, &o, &err) == CG_OK);
    CHECK(atomic_load(&o.sum) == 500 && atomic_load(&o.spoilt) == 0 && atomic_load(&o.failed) == 0);
}

/* ---- scratch: aligned, private to the thread for the whole block, at any size ---- */

typedef struct scratch_job {
    size_t bytes;
    atomic_int bad;
} scratch_job;

static void use_scratch(void *ctx, size_t begin, size_t end, void *scratch) {
    scratch_job *s = ctx;
    unsigned char *p = scratch;
    if ((s->bytes == 0) != (p == NULL) || (uintptr_t)p % 64 != 0) atomic_fetch_add(&s->bad, 1);
    (void)end;
    for (int repeat = 0; repeat < 20; repeat++) {
        for (size_t i = 0; p && i < s->bytes; i++) p[i] = (unsigned char)(begin + (size_t)repeat);
        for (size_t i = 0; p && i < s->bytes; i++)
            if (p[i] != (unsigned char)(begin + (size_t)repeat)) atomic_fetch_add(&s->bad, 1);
    }
}

static void scratch_memory(void) {
    static const size_t sizes[] = {0, 1, 63, 64, 65, 5000, 100, 0, 20000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        scratch_job s = {.bytes = sizes[i]};
        CHECK(cg_parallel_for(40, 1, s.bytes, use_scratch, &s, &err) == CG_OK);
        CHECK(atomic_load(&s.bad) == 0);
    }
    scratch_job s = {.bytes = SIZE_MAX};
    CHECK(cg_parallel_for(40, 1, SIZE_MAX, use_scratch, &s, &err) == CG_ENOMEM); /* and nothing has run */
    CHECK(err.code == CG_ENOMEM && strstr(err.text, "scratch") && atomic_load(&s.bad) == 0);
    CHECK(cg_parallel_for(40, 1, 64, use_scratch, &(scratch_job){.bytes = 64}, &err) == CG_OK); /* usable after it */
}

/* ---- several callers at once, while the number of threads changes under them ---- */

enum { CALLERS = 4, CALLS = 400 };
static atomic_int calls_wrong, callers_done;

static void *call_much(void *arg) {
    (void)arg;
    for (int i = 0; i < CALLS; i++) {
        atomic_int sum = 0;
        cg_err e;
        if (cg_parallel_for(100, 7, 100, inner, &sum, &e) != CG_OK || atomic_load(&sum) != 100)
            atomic_fetch_add(&calls_wrong, 1);
    }
    atomic_fetch_add(&callers_done, 1);
    return NULL;
}

static void concurrent(void) {
    pthread_t t[CALLERS];
    atomic_store(&calls_wrong, 0);
    atomic_store(&callers_done, 0);
    int made = 0;
    for (; made < CALLERS; made++)
        if (pthread_create(&t[made], NULL, call_much, NULL) != 0) break;
    CHECK(made == CALLERS);
    for (int n = 1; atomic_load(&callers_done) < made; n = n % 5 + 1) {
        CHECK(cg_set_num_threads(n, &err) == CG_OK);
        CHECK(cg_num_threads() == n);
        usleep(200);
    }
    for (int i = 0; i < made; i++) pthread_join(t[i], NULL);
    CHECK(atomic_load(&calls_wrong) == 0);
}

/* ---- many tiny jobs, the first right after the workers are made ---- */

static void tiny_jobs(void) {
    for (int round = 0; round < 50; round++) { /* new workers each time: the first job must not be lost on them */
        CHECK(cg_set_num_threads(1 + round % 4, &err) == CG_OK);
        atomic_int sum = 0;
        CHECK(cg_parallel_for(8, 1, 64 * 2, inner, &sum, &err) == CG_OK);
        CHECK(atomic_load(&sum) == 8);
    }
    CHECK(cg_set_num_threads(3, &err) == CG_OK);
    int wrong = 0;
    for (int i = 0; i < 100000; i++) {
        reach r = {0};
        wrong += cg_parallel_for(4, 1, 0, add_up, &r, &err) != CG_OK || atomic_load(&r.items) != 4;
    }
    CHECK(wrong == 0);
}

static void set_threads_refuses(void) {
    const int before = cg_num_threads();
    CHECK(cg_set_num_threads(0, &err) == CG_EVALUE && strstr(err.text, "threads"));
    CHECK(cg_set_num_threads(-3, &err) == CG_EVALUE);
    CHECK(cg_set_num_threads(1025, &err) == CG_EVALUE);
    CHECK(cg_num_threads() == before);
}

/* ---- fork ---- */

#if CG_TEST_FORK
static int sums_up(void) {
    atomic_int sum = 0;
    cg_err e;
    return cg_parallel_for(1000, 1, 128, inner, &sum, &e) == CG_OK && atomic_load(&sum) == 1000;
}

static int child_status(void) {
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        alarm(20); /* a hanging child is a failure, not a hanging test */
        int good = sums_up();
        good = good && cg_set_num_threads(2, &err) == CG_OK && sums_up();
        const pid_t grandchild = fork();
        if (grandchild == 0) _exit(sums_up() ? 0 : 1);
        int status = 1;
        good = good && waitpid(grandchild, &status, 0) == grandchild && status == 0;
        _exit(good ? 0 : 1);
    }
    int status = -1;
    return child > 0 && waitpid(child, &status, 0) == child ? status : -1;
}

static void forks(void) {
    CHECK(cg_set_num_threads(4, &err) == CG_OK);
    CHECK(child_status() == 0); /* before any worker lives */
    CHECK(sums_up());
    CHECK(child_status() == 0); /* with sleeping workers, which do not come along */
    CHECK(sums_up());           /* the parent still has its own */
    pthread_t t[CALLERS];       /* and while other threads are in the middle of jobs */
    int made = 0;
    for (; made < CALLERS; made++)
        if (pthread_create(&t[made], NULL, call_much, NULL) != 0) break;
    for (int i = 0; i < 10; i++) CHECK(child_status() == 0);
    for (int i = 0; i < made; i++) pthread_join(t[i], NULL);
    CHECK(sums_up());
}
#endif

int main(void) {
    alarm(240);
    set_threads_refuses();
    for (int threads = 1; threads <= 4; threads++) {
        CHECK(cg_set_num_threads(threads, &err) == CG_OK);
        blocks();
        huge_ranges();
        nested();
        scratch_memory();
    }
    concurrent();
    tiny_jobs();
#if CG_TEST_FORK
    forks();
#endif
    return failed();
}
