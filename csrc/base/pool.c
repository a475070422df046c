#define _GNU_SOURCE /* sched_getaffinity */
#include "pool.h"
#include "buf.h"
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

enum { MAX_THREADS = 1024 };

typedef struct job {
    cg_task_fn fn;
    void *ctx;
    size_t n, grain, scratch_bytes;
    atomic_size_t next; /* first item nobody has taken */
} job;

/* `gate` is held by the one caller whose job the workers do; `lock` guards everything below it. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER; /* a new job, or the end */
static pthread_cond_t idle = PTHREAD_COND_INITIALIZER; /* the last worker left the job */
static pthread_t *workers;
static int live;               /* workers created */
static int busy;               /* workers inside the current job */
static int stopping;           /* workers are to leave */
static unsigned long serial;   /* number of the current job */
static job *current;           /* NULL between jobs */
static atomic_int wanted = -1; /* threads a call may use; -1: not yet asked */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t scratch_key;
static int scratch_key_made;

/* ---- scratch: one growing buffer a thread ---- */

typedef struct scratch {
    void *p;
    size_t bytes;
    int kept;  /* the thread's own, for its next call; otherwise it ends with this call */
    int taken; /* a nested call must not get the buffer its caller is using */
} scratch;

static void scratch_drop(void *v) {
    scratch *s = v;
    cg_buf_free(s->p);
    free(s);
}

/* The analyzer does not see that pthread_setspecific keeps the pointer: its "leaks" are what threads keep. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif
static scratch *scratch_take(size_t bytes) {
    scratch *own = scratch_key_made ? pthread_getspecific(scratch_key) : NULL, *s = own;
    if (!s || s->taken) {
        s = calloc(1, sizeof *s);
        if (!s) return NULL;
        s->kept = scratch_key_made && !own && pthread_setspecific(scratch_key, s) == 0;
    }
    if (s->bytes < bytes) {
        void *p = cg_buf_alloc(bytes);
        if (!p) {
            if (!s->kept) scratch_drop(s);
            return NULL;
        }
        cg_buf_free(s->p);
        s->p = p;
        s->bytes = bytes;
    }
    s->taken = 1;
    return s;
}

static void scratch_give(scratch *s) {
    s->taken = 0;
    if (!s->kept) scratch_drop(s);
}
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

/* ---- workers ---- */

static void do_blocks(job *j) {
    scratch *s = NULL;
    if (j->scratch_bytes && !(s = scratch_take(j->scratch_bytes))) return;
    for (;;) {
        const size_t begin = atomic_fetch_add_explicit(&j->next, j->grain, memory_order_relaxed);
        if (begin >= j->n) break;
        const size_t end = j->n - begin < j->grain ? j->n : begin + j->grain;
        j->fn(j->ctx, begin, end, s ? s->p : NULL);
    }
    if (s) scratch_give(s);
}

/* A worker joins a job if it wakes in time. The caller takes the job down when no block is left and waits only for
 * those inside: it never waits for a worker the system has not run yet. */
static void *worker_main(void *arg) {
    (void)arg;
    unsigned long done = 0; /* number of the last job this worker was in */
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!stopping && (!current || serial == done)) pthread_cond_wait(&wake, &lock);
        if (stopping) break;
        done = serial;
        busy++;
        job *j = current;
        pthread_mutex_unlock(&lock);
        do_blocks(j);
        pthread_mutex_lock(&lock);
        if (--busy == 0) pthread_cond_signal(&idle);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* Called with the gate held: no job is running. */
static void stop_workers(void) {
    pthread_mutex_lock(&lock);
    stopping = 1;
    pthread_cond_broadcast(&wake);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < live; i++) pthread_join(workers[i], NULL);
    stopping = 0;
    live = 0;
    free(workers);
    workers = NULL;
}

/* Called with the gate held and no worker alive. Fewer workers than asked for (no threads left in the system) is not an
 * error; nor is none: the next call tries again. */
static void start_workers(int count) {
    free(workers);
    workers = count > 0 ? calloc((size_t)count, sizeof *workers) : NULL;
    if (!workers) return;
    for (; live < count; live++)
        if (pthread_create(&workers[live], NULL, worker_main, NULL) != 0) break;
}

/* ---- fork ---- */

static void before_fork(void) {
    pthread_mutex_lock(&gate); /* let a running job end */
    pthread_mutex_lock(&lock);
}

static void after_fork_parent(void) {
    pthread_mutex_unlock(&lock);
    pthread_mutex_unlock(&gate);
}

static void after_fork_child(void) {
    /* The workers did not come along; their list and the conditions' waiters did. */
    free(workers);
    workers = NULL;
    live = busy = stopping = 0;
    current = NULL;
    pthread_cond_init(&wake, NULL);
    pthread_cond_init(&idle, NULL);
    pthread_mutex_unlock(&lock); /* held since before_fork, by this very thread */
    pthread_mutex_unlock(&gate);
}

static void set_up(void) {
    scratch_key_made = pthread_key_create(&scratch_key, scratch_drop) == 0;
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

/* ---- public ---- */

static int processors(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    const int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : n;
}

int cg_num_threads(void) {
    int w = atomic_load(&wanted);
    if (w > 0) return w;
    const char *env = getenv("COLLEGIUM_NUM_THREADS");
    const long asked = env ? strtol(env, NULL, 10) : 0;
    const int first = asked >= 1 && asked <= MAX_THREADS ? (int)asked : processors();
    int unset = -1;
    return atomic_compare_exchange_strong(&wanted, &unset, first) ? first : unset;
}

int cg_set_num_threads(int threads, cg_err *err) {
    if (threads < 1 || threads > MAX_THREADS)
        return cg_fail(err, CG_EVALUE, "threads: expected 1 to %d, got %d", (int)MAX_THREADS, threads);
    pthread_once(&once, set_up);
    pthread_mutex_lock(&gate);
    atomic_store(&wanted, threads);
    if (live) stop_workers(); /* the next call makes the new number */
    pthread_mutex_unlock(&gate);
    return CG_OK;
}

int cg_parallel_for(size_t n, size_t grain, size_t scratch_bytes, cg_task_fn fn, void *ctx, cg_err *err) {
    if (n == 0) return CG_OK;
    if (grain == 0) grain = 1;
    pthread_once(&once, set_up);
    scratch *mine = NULL;
    if (scratch_bytes && !(mine = scratch_take(scratch_bytes)))
        return cg_fail(err, CG_ENOMEM, "no memory for %zu bytes of scratch space", scratch_bytes);
    void *const own = mine ? mine->p : NULL;
    /* Every thread asks once beyond the last block: where that would wrap around, one thread does all. */
    const int wraps = grain > (SIZE_MAX - n) / (MAX_THREADS + 1);
    if (cg_num_threads() == 1 || n <= grain || wraps || pthread_mutex_trylock(&gate) != 0) {
        for (size_t begin = 0; begin < n; begin += grain) {
            fn(ctx, begin, n - begin < grain ? n : begin + grain, own);
            if (n - begin <= grain) break; /* begin + grain must not wrap around */
        }
    } else {
        if (live == 0) start_workers(cg_num_threads() - 1); /* asked again: it may have changed before the gate */
        job j = {.fn = fn, .ctx = ctx, .n = n, .grain = grain, .scratch_bytes = scratch_bytes};
        atomic_init(&j.next, 0);
        pthread_mutex_lock(&lock);
        current = &j;
        serial++;
        pthread_cond_broadcast(&wake);
        pthread_mutex_unlock(&lock);
        for (;;) { /* the caller works too, with the scratch it already holds */
            const size_t begin = atomic_fetch_add_explicit(&j.next, grain, memory_order_relaxed);
            if (begin >= n) break;
            fn(ctx, begin, n - begin < grain ? n : begin + grain, own);
        }
        pthread_mutex_lock(&lock);
        current = NULL;
        while (busy) pthread_cond_wait(&idle, &lock);
        pthread_mutex_unlock(&lock);
        pthread_mutex_unlock(&gate);
    }
    if (mine) scratch_give(mine);
    return CG_OK;
}
