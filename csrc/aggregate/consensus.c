/* csrc/aggregate/consensus.c -- checks, tiles of columns, and sums put together in an order that no thread changes. */
#include "consensus.h"
#include "../base/buf.h"
#include "../base/isa.h"
#include "../base/pool.h"
#include "consensus_kernels.h"
#include <math.h>
#include <stdatomic.h>
#include <string.h>

static cg_add_row_fn *const add_row_of[CG_ISA_COUNT] = {
    [CG_ISA_BASE] = cg_add_row_base,
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = cg_add_row_avx2,
    [CG_ISA_AVX512] = cg_add_row_avx512,
#endif
};
static cg_distance_fn *const distance_of[CG_ISA_COUNT] = {
    [CG_ISA_BASE] = cg_distance_base,
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = cg_distance_avx2,
    [CG_ISA_AVX512] = cg_distance_avx512,
#endif
};
static cg_nonfinite_fn *const nonfinite_of[CG_ISA_COUNT] = {
    [CG_ISA_BASE] = cg_nonfinite_base,
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = cg_nonfinite_avx2,
    [CG_ISA_AVX512] = cg_nonfinite_avx512,
#endif
};

enum {
    TILE_BYTES = 256 * 1024, /* a tile of all rows, read twice: half of the smallest L2 in use */
    TILE_LEAST = 64,         /* columns; shorter pieces of a row cost more in calls than they save in cache */
    TILE_MOST = 1024,
    AHEAD = 4,                /* rows to prefetch ahead */
    SCAN = 1 << 14,           /* floats looked at before asking whether another thread found something earlier */
    SERIAL_BYTES = 600 * 1000 /* about 20 us of reading */
};

/* The rows that count: rows[i], or all of them. */
typedef struct fleet {
    const float *x;
    size_t p, ldx, k;
    const int64_t *rows;
} fleet;

static const float *row_at(const fleet *f, size_t i) { return f->x + (f->rows ? (size_t)f->rows[i] : i) * f->ldx; }

static int check(size_t n, const fleet *f, cg_err *err) {
    if (f->ldx < f->p) return cg_fail(err, CG_EVALUE, "x: row stride %zu is less than row length %zu", f->ldx, f->p);
    for (size_t i = 0; f->rows && i < f->k; i++)
        if (f->rows[i] < 0 || (uint64_t)f->rows[i] >= n)
            return cg_fail(err, CG_EVALUE, "rows[%zu]: expected 0 to %lld, got %lld", i, (long long)n - 1,
                           (long long)f->rows[i]);
    return CG_OK;
}

/* ---- consensus ---- */

typedef struct spread {
    fleet f;
    cg_add_row_fn *add_row;
    cg_distance_fn *distance;
    size_t tile; /* columns */
    double *mean;
    double *part; /* a tile's share of the sum of squares */
} spread;

static void spread_task(void *ctx, size_t begin, size_t end, void *scratch) {
    const spread *s = ctx;
    (void)scratch;
    for (size_t t = begin; t < end; t++) {
        const size_t col = t * s->tile, cols = s->f.p - col < s->tile ? s->f.p - col : s->tile;
        double *const mean = s->mean + col;
        memset(mean, 0, cols * sizeof *mean);
        for (size_t i = 0; i < s->f.k; i++) {
            const float *ahead = row_at(&s->f, i + AHEAD < s->f.k ? i + AHEAD : i) + col;
            s->add_row(cols, row_at(&s->f, i) + col, ahead, mean);
        }
        for (size_t c = 0; c < cols; c++) mean[c] /= (double)s->f.k;
        double sum = 0.0;
        for (size_t i = 0; i < s->f.k; i++) sum += s->distance(cols, row_at(&s->f, i) + col, mean);
        s->part[t] = sum;
    }
}

int cg_consensus_f32(size_t n, size_t p, const float *x, size_t ldx, size_t k, const int64_t *rows, double *mean,
                     double *sum_sq, cg_err *err) {
    spread s = {.f = {x, p, ldx, rows ? k : n, rows}, .mean = mean};
    int rc = check(n, &s.f, err);
    if (rc != CG_OK) return rc;
    if (s.f.k == 0) return cg_fail(err, CG_EVALUE, "rows: expected at least one, got none");
    s.add_row = add_row_of[cg_isa()];
    s.distance = distance_of[cg_isa()];
    s.tile = TILE_BYTES / sizeof(float) / s.f.k / TILE_LEAST * TILE_LEAST;
    if (s.tile < TILE_LEAST) s.tile = TILE_LEAST;
    if (s.tile > TILE_MOST) s.tile = TILE_MOST;
    const size_t tiles = (p + s.tile - 1) / s.tile;
    s.part = cg_buf_alloc(tiles * sizeof *s.part);
    if (!s.part) return cg_fail(err, CG_ENOMEM, "no memory for %zu partial sums", tiles);
    const int serial = (double)s.f.k * (double)p * sizeof(float) < SERIAL_BYTES;
    rc = cg_parallel_for(tiles, serial ? tiles : 1, 0, spread_task, &s, err);
    *sum_sq = 0.0;
    for (size_t t = 0; rc == CG_OK && t < tiles; t++) *sum_sq += s.part[t];
    cg_buf_free(s.part);
    return rc;
}

/* ---- NaN and Inf ---- */

typedef struct search {
    fleet f;
    cg_nonfinite_fn *nonfinite;
    size_t pieces;       /* of a row */
    atomic_size_t first; /* number of the first piece (row by row) in which something was found */
} search;

static void search_task(void *ctx, size_t begin, size_t end, void *scratch) {
    search *s = ctx;
    (void)scratch;
    for (size_t t = begin; t < end; t++) {
        if (t >= atomic_load_explicit(&s->first, memory_order_relaxed)) return;
        const size_t col = t % s->pieces * SCAN, cols = s->f.p - col < SCAN ? s->f.p - col : SCAN;
        if (!s->nonfinite(cols, row_at(&s->f, t / s->pieces) + col)) continue;
        size_t seen = atomic_load(&s->first);
        while (t < seen && !atomic_compare_exchange_weak(&s->first, &seen, t)) {
        }
        return;
    }
}

int cg_find_nonfinite_f32(size_t n, size_t p, const float *x, size_t ldx, size_t k, const int64_t *rows, int64_t *row,
                          int64_t *col, cg_err *err) {
    search s = {.f = {x, p, ldx, rows ? k : n, rows}};
    *row = *col = -1;
    int rc = check(n, &s.f, err);
    if (rc != CG_OK || p == 0 || s.f.k == 0) return rc;
    s.nonfinite = nonfinite_of[cg_isa()];
    s.pieces = (p + SCAN - 1) / SCAN;
    const size_t total = s.f.k * s.pieces;
    atomic_init(&s.first, total);
    size_t grain = SERIAL_BYTES / (p / s.pieces + 1) / sizeof(float) + 1; /* pieces worth waking a worker for */
    rc = cg_parallel_for(total, grain, 0, search_task, &s, err);
    const size_t first = atomic_load(&s.first);
    if (rc != CG_OK || first == total) return rc;
    const float *const at = row_at(&s.f, first / s.pieces);
    size_t c = first % s.pieces * SCAN;
    while (c < p - 1 && isfinite(at[c])) c++;
    *row = s.f.rows ? s.f.rows[first / s.pieces] : (int64_t)(first / s.pieces);
    *col = (int64_t)c;
    return CG_OK;
}
