/* csrc/aggregate/mix.c -- checks, copies the matrices, cuts the columns and drives the strips of one task. */
#include "mix.h"
#include "../base/buf.h"
#include "../base/isa.h"
#include "../base/pool.h"
#include "mix_kernels.h"
#include <string.h>

static cg_mix_pass_fn *const pass_of[CG_ISA_COUNT] = {
    [CG_ISA_BASE] = cg_mix_pass_base,
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = cg_mix_pass_avx2,
    [CG_ISA_AVX512] = cg_mix_pass_avx512,
#endif
};

enum {
    BUFFERS = 2,               /* between which the rounds go back and forth */
    STRIPS = 4,                /* in cache: those two, the strip of x at hand and the one that is coming */
    STRIPS_BYTES = 256 * 1024, /* of them all: half of the smallest L2 in use */
    AHEAD = 128,               /* rows to prefetch ahead, at least: a memory latency of arithmetic */
    SET_BYTES = 1024,          /* rows a multiple of this apart crowd into a quarter of L1's sets, or fewer of L2's */
    RUN_MIN = 4,               /* strips a task takes: its first comes in alone, so not too few, */
    RUN_MAX = 32,              /* nor so many that a thread waits long for the last task */
    STREAM_BYTES = 4 << 20,    /* a result that outgrows the cache is written past it */
    SERIAL_BYTES = 600 * 1000  /* about 20 us of traffic: less is not worth waking a worker */
};

/* A checked copy of a cg_csr, zero weights left out. */
typedef struct matrix {
    const cg_csr *of;
    uint32_t *start;
    cg_mix_edge *edges;
} matrix;

typedef struct plan {
    cg_mix_pass_fn *pass;
    size_t n, p, ldx, ldy, rounds, blocks;
    const float *x;
    float *y;
    const size_t *col_start;
    matrix *table;      /* [round * blocks + block] */
    size_t *first_task; /* blocks + 1: tasks are numbered block by block */
    size_t lines, width, run;
    int stream;  /* non-temporal stores to y */
    int crowded; /* rows of x compete for the same cache sets: copy a strip out before its neighbours are read */
} plan;

/* ---- the strips of one task ---- */

/* A strip somewhere: its rows are `ld` floats apart. */
typedef struct strip {
    float *at;
    size_t ld;
} strip;

/* All rounds over a strip: from `from` (only read), by way of the buffers, to `to`. Prefetches `next`, one row for
 * every `rounds` rows computed, so that memory and arithmetic keep the same pace. */
static void all_rounds(const plan *k, size_t block, strip from, strip to, int stream, const float *next, size_t lines,
                       strip buf[BUFFERS]) {
    for (size_t r = 0; r < k->rounds; r++) {
        const matrix *w = &k->table[r * k->blocks + block];
        const strip src = r == 0 ? from : buf[(r - 1) % 2], dst = r + 1 == k->rounds ? to : buf[r % 2];
        const cg_mix_pass pass = {
            .n = k->n,
            .start = w->start,
            .edges = w->edges,
            .src = src.at,
            .src_ld = src.ld,
            .dst = dst.at,
            .dst_ld = dst.ld,
            .stream = stream && r + 1 == k->rounds,
            .next = next,
            .next_ld = k->ldx,
            .first = r * k->n / k->rounds,
            .wait = k->rounds - r * k->n % k->rounds,
            .pace = k->rounds,
        };
        k->pass(&pass, lines);
    }
}

static void bring_in(const plan *k, size_t col, size_t cols, float *in) {
    for (size_t i = 0; i < k->n; i++) memcpy(in + i * k->width, k->x + i * k->ldx + col, cols * sizeof(float));
}

static void take_out(const plan *k, size_t col, size_t cols, const float *out) {
    for (size_t i = 0; i < k->n; i++) memcpy(k->y + i * k->ldy + col, out + i * k->width, cols * sizeof(float));
}

/* Fewer columns than a whole strip: before the first aligned column, after the last whole strip. */
static void narrow_strip(const plan *k, size_t block, size_t col, size_t cols, strip buf[BUFFERS]) {
    size_t lines = 1;
    while (lines * CG_MIX_LINE < cols) lines *= 2;
    float *const in = buf[1].at, *const out = buf[(k->rounds - 1) % 2].at;
    for (size_t i = 0; i < k->n; i++) memset(in + i * k->width, 0, lines * CG_MIX_LINE * sizeof(float));
    bring_in(k, col, cols, in);
    all_rounds(k, block, buf[1], buf[(k->rounds - 1) % 2], 0, NULL, lines, buf);
    take_out(k, col, cols, out);
}

/* The first round reads x where it lies, the last one writes y where it lies. Two exceptions: rows of x that compete
 * for cache sets are copied out first, and a single round in place would overwrite what it has yet to read. */
static void whole_strips(const plan *k, size_t block, size_t col, size_t strips, strip buf[BUFFERS]) {
    const size_t w = k->width, ahead = 1 + (AHEAD - 1) / k->n;
    const int by_way = k->y == k->x && k->rounds == 1;
    for (size_t s = 0; s < strips; s++, col += w) {
        const float *const next = !k->crowded && s + ahead < strips ? k->x + col + ahead * w : NULL;
        const strip x = {(float *)(uintptr_t)(k->x + col), k->ldx}, y = {k->y + col, k->ldy};
        if (k->crowded) bring_in(k, col, w, buf[1].at);
        all_rounds(k, block, k->crowded ? buf[1] : x, by_way ? buf[0] : y, k->stream, next, k->lines, buf);
        if (by_way) take_out(k, col, w, buf[0].at);
    }
}

static void task(void *ctx, size_t begin, size_t end, void *scratch) {
    const plan *k = ctx;
    strip buf[BUFFERS];
    for (size_t i = 0; i < BUFFERS; i++) buf[i] = (strip){(float *)scratch + i * k->n * k->width, k->width};
    size_t low = 0, high = k->blocks; /* the block of task `begin`: first_task[low] <= begin < first_task[high] */
    while (high - low > 1) {
        const size_t mid = low + (high - low) / 2;
        if (k->first_task[mid] <= begin)
            low = mid;
        else
            high = mid;
    }
    for (size_t t = begin; t < end; t++) {
        while (k->first_task[low + 1] <= t) low++;
        const size_t cell = k->col_start[low] / k->run + (t - k->first_task[low]);
        size_t col = cell * k->run, stop = col + k->run;
        if (col < k->col_start[low]) col = k->col_start[low];
        if (stop > k->col_start[low + 1]) stop = k->col_start[low + 1];
        const size_t head = (CG_MIX_LINE - col % CG_MIX_LINE) % CG_MIX_LINE; /* columns before the next aligned one */
        if (head > 0) {
            const size_t cols = head < stop - col ? head : stop - col;
            narrow_strip(k, low, col, cols, buf);
            col += cols;
        }
        const size_t strips = (stop - col) / k->width;
        if (strips > 0) whole_strips(k, low, col, strips, buf);
        col += strips * k->width;
        if (col < stop) narrow_strip(k, low, col, stop - col, buf);
    }
}

/* ---- matrices ---- */

static int overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes) {
    return a_bytes > 0 && b_bytes > 0 && (uintptr_t)a < (uintptr_t)b + b_bytes && (uintptr_t)b < (uintptr_t)a + a_bytes;
}

/* Checks and copies w; *m is to be freed (its `start`, which is the whole block) whatever comes back. */
static int copy_matrix(const plan *k, const cg_csr *w, size_t round, size_t block, matrix *m, cg_err *err) {
    const size_t n = k->n;
    if (w->n != n) return cg_fail(err, CG_EVALUE, "table[%zu][%zu]: expected %zu rows, got %zu", round, block, n, w->n);
    if (w->indptr[0] != 0)
        return cg_fail(err, CG_EVALUE, "table[%zu][%zu]: indptr: expected to start at 0, got %d", round, block,
                       (int)w->indptr[0]);
    const int32_t nnz = w->indptr[n];
    if (nnz < 0)
        return cg_fail(err, CG_EVALUE, "table[%zu][%zu]: indptr: expected to end at 0 or more, got %d", round, block,
                       (int)nnz);
    const size_t head = ((n + 1) * sizeof(uint32_t) + CG_LINE - 1) / CG_LINE * CG_LINE;
    m->of = w;
    m->start = cg_buf_alloc(head + (size_t)nnz * sizeof(cg_mix_edge));
    if (!m->start) return cg_fail(err, CG_ENOMEM, "no memory for a matrix of %d entries", (int)nnz);
    m->edges = (cg_mix_edge *)((char *)m->start + head);
    m->start[0] = 0;
    uint32_t kept = 0;
    int32_t e = 0;
    for (size_t i = 0; i < n; i++) {
        const int32_t end = w->indptr[i + 1];
        if (end < e || end > nnz)
            return cg_fail(err, CG_EVALUE, "table[%zu][%zu]: indptr[%zu]: expected %d to %d, got %d", round, block,
                           i + 1, (int)e, (int)nnz, (int)end);
        for (; e < end; e++) {
            const int32_t from = w->indices[e];
            if (from < 0 || (size_t)from >= n)
                return cg_fail(err, CG_EVALUE, "table[%zu][%zu]: indices[%d]: expected 0 to %zu, got %d", round, block,
                               (int)e, n - 1, (int)from);
            if (w->weights[e] == 0.0f) continue;
            m->edges[kept].from = (uint32_t)from;
            m->edges[kept++].weight = w->weights[e];
        }
        m->start[i + 1] = kept;
    }
    return CG_OK;
}

static int same_csr(const cg_csr *a, const cg_csr *b) {
    return a == b || (a->n == b->n && a->indptr == b->indptr && a->indices == b->indices && a->weights == b->weights);
}

/* Fills k->table. The same matrix in the round before or the block before is copied once. *bytes: traffic of all
 * passes within cache. */
static int copy_table(plan *k, const cg_csr *const *table, double *bytes, cg_err *err) {
    for (size_t r = 0; r < k->rounds; r++) {
        for (size_t b = 0; b < k->blocks; b++) {
            const size_t at = r * k->blocks + b;
            const size_t near[2] = {r > 0 ? at - k->blocks : at, b > 0 ? at - 1 : at};
            const double cols = (double)(k->col_start[b + 1] - k->col_start[b]);
            for (int i = 0; i < 2 && !k->table[at].start; i++)
                if (near[i] != at && same_csr(table[near[i]], table[at])) k->table[at] = k->table[near[i]];
            const int rc = k->table[at].start ? CG_OK : copy_matrix(k, table[at], r, b, &k->table[at], err);
            if (rc != CG_OK) return rc;
            *bytes += (double)k->table[at].start[k->n] * cols * sizeof(float);
        }
    }
    return CG_OK;
}

static void free_table(plan *k) {
    for (size_t at = k->rounds * k->blocks; k->table && at-- > 0;) {
        const size_t r = at / k->blocks, b = at % k->blocks;
        uint32_t *const mine = k->table[at].start;
        if ((r > 0 && k->table[at - k->blocks].start == mine) || (b > 0 && k->table[at - 1].start == mine)) continue;
        cg_buf_free(mine);
    }
    cg_buf_free(k->table);
    cg_buf_free(k->first_task);
}

/* ---- public ---- */

static int check(const plan *k, const cg_csr *const *table, cg_err *err) {
    const size_t n = k->n, p = k->p, blocks = k->blocks;
    if (k->rounds == 0) return cg_fail(err, CG_EVALUE, "table: expected at least one round, got 0");
    if (n > (size_t)1 << 24) return cg_fail(err, CG_EVALUE, "x: expected at most 2**24 rows, got %zu", n);
    if (k->ldx < p) return cg_fail(err, CG_EVALUE, "x: row stride %zu is less than row length %zu", k->ldx, p);
    if (k->ldy < p) return cg_fail(err, CG_EVALUE, "y: row stride %zu is less than row length %zu", k->ldy, p);
    if (k->col_start[0] != 0)
        return cg_fail(err, CG_EVALUE, "col_start: expected to start at 0, got %zu", k->col_start[0]);
    for (size_t b = 0; b < blocks; b++)
        if (k->col_start[b + 1] < k->col_start[b])
            return cg_fail(err, CG_EVALUE, "col_start[%zu]: expected %zu or more, got %zu", b + 1, k->col_start[b],
                           k->col_start[b + 1]);
    if (k->col_start[blocks] != p)
        return cg_fail(err, CG_EVALUE, "col_start: expected to end at %zu (the columns), got %zu", p,
                       k->col_start[blocks]);
    if (n == 0 || p == 0) return CG_OK;
    const size_t x_bytes = ((n - 1) * k->ldx + p) * sizeof(float), y_bytes = ((n - 1) * k->ldy + p) * sizeof(float);
    if (!(k->y == k->x && k->ldy == k->ldx) && overlap(k->y, y_bytes, k->x, x_bytes))
        return cg_fail(err, CG_EALIAS, "y: overlaps x; only x itself, in place, is allowed");
    for (size_t at = 0; at < k->rounds * blocks; at++) {
        const cg_csr *w = table[at];
        const size_t nnz = w->n == n && w->indptr[n] > 0 ? (size_t)w->indptr[n] : 0;
        if (overlap(k->y, y_bytes, w->indptr, (w->n + 1) * sizeof(int32_t)) ||
            overlap(k->y, y_bytes, w->indices, nnz * sizeof(int32_t)) ||
            overlap(k->y, y_bytes, w->weights, nnz * sizeof(float)))
            return cg_fail(err, CG_EALIAS, "y: overlaps table[%zu][%zu]", at / blocks, at % blocks);
    }
    return CG_OK;
}

/* Columns to tasks. Tasks are cut at multiples of `run`, so that whole strips start on cache lines where rows do. */
static void cut(plan *k) {
    const size_t threads = (size_t)cg_num_threads();
    size_t strips = k->p / k->width / (8 * threads);
    if (strips < RUN_MIN) strips = RUN_MIN;
    if (strips > RUN_MAX) strips = RUN_MAX;
    k->run = strips * k->width;
    k->first_task[0] = 0;
    for (size_t b = 0; b < k->blocks; b++) {
        const size_t lo = k->col_start[b], hi = k->col_start[b + 1];
        k->first_task[b + 1] = k->first_task[b] + (hi > lo ? (hi - 1) / k->run - lo / k->run + 1 : 0);
    }
}

int cg_mix_f32(size_t n, size_t p, const float *x, size_t ldx, float *y, size_t ldy, size_t rounds, size_t blocks,
               const size_t *col_start, const cg_csr *const *table, cg_err *err) {
    plan k = {.n = n, .p = p, .ldx = ldx, .ldy = ldy, .rounds = rounds, .blocks = blocks};
    k.x = x;
    k.y = y;
    k.col_start = col_start;
    int rc = check(&k, table, err);
    if (rc != CG_OK) return rc;
    k.pass = pass_of[cg_isa()];
    k.lines = CG_MIX_LINES;
    while (k.lines > 1 && STRIPS * n * k.lines * CG_LINE > STRIPS_BYTES) k.lines /= 2;
    k.width = k.lines * CG_MIX_LINE;
    k.stream = y != x && (uintptr_t)y % CG_LINE == 0 && ldy % CG_MIX_LINE == 0 && n * p * sizeof(float) >= STREAM_BYTES;
    k.crowded = ldx * sizeof(float) % SET_BYTES == 0 && n > 8; /* 8 ways in the smallest L1 */
    if (blocks > 0 && rounds > SIZE_MAX / sizeof(matrix) / blocks)
        return cg_fail(err, CG_ENOMEM, "no memory for %zu x %zu matrices", rounds, blocks);
    k.table = cg_buf_alloc(rounds * blocks * sizeof(matrix));
    k.first_task = cg_buf_alloc((blocks + 1) * sizeof(size_t));
    if (!k.table || !k.first_task) {
        cg_buf_free(k.table);
        cg_buf_free(k.first_task);
        return cg_fail(err, CG_ENOMEM, "no memory for %zu x %zu matrices", rounds, blocks);
    }
    memset(k.table, 0, rounds * blocks * sizeof(matrix));
    double bytes = 2.0 * sizeof(float) * (double)n * (double)p;
    rc = copy_table(&k, table, &bytes, err);
    if (rc == CG_OK && n > 0 && p > 0) {
        cut(&k);
        const size_t tasks = k.first_task[blocks];
        rc = cg_parallel_for(tasks, bytes < SERIAL_BYTES ? tasks : 1, BUFFERS * n * k.width * sizeof(float), task, &k,
                             err);
    }
    free_table(&k);
    return rc;
}
