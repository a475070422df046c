/* cuda/feed_index.h -- the operands of A B^T on their way to shared memory, 32 columns at a time, ahead of their use.
 *
 * In shared memory quad i of row r stands at place i ^ r % 8: the same quad of eight rows, or a row of eight quads, is
 * in 32 different banks. Columns beyond k and rows beyond the last count as zeros. */
#ifndef CG_CUDA_FEED_INDEX_H
#define CG_CUDA_FEED_INDEX_H
#include "shim.h"

enum { CG_FEED_CHUNK = 32, CG_FEED_QUADS = CG_FEED_CHUNK / 4 };

/* a: (m, k) rows lda apart; b: (n, k) rows ldb apart. */
typedef struct cg_gemm {
    size_t m, n, k, lda, ldb;
    const float *a, *b;
} cg_gemm;

/* Whether rows can be read by quads. */
CG_BOTH int cg_gemm_wide(const cg_gemm *g) {
    return (((uintptr_t)g->a | (uintptr_t)g->b) % sizeof(cg_quad) | (g->lda | g->ldb | g->k) % 4) == 0;
}

/* Where a quad of a tile's row stands. */
CG_BODY uint32_t cg_feed_place(uint32_t row, uint32_t quad) { return row * CG_FEED_QUADS + (quad ^ row % 8); }

/* Where a thread's share of the next chunk comes from: the same quad of some rows of A and of B. */
typedef struct cg_feed {
    const float *a, *b;
    int32_t rows_a, rows_b; /* from the thread's first row on; may be negative */
    size_t left;            /* columns from the thread's quad on */
} cg_feed;

CG_BODY int32_t cg_feed_rows(size_t rows, size_t first, uint32_t t) {
    const size_t left = first < rows ? rows - first : 0;
    return (int32_t)(left < 0x10000 ? left : 0x10000) - (int32_t)(t / CG_FEED_QUADS);
}

/* Thread t's, for the tile whose first row of A is row0 and of B col0. */
CG_BODY cg_feed cg_feed_of(const cg_gemm *g, size_t row0, size_t col0, uint32_t t) {
    const uint32_t row = t / CG_FEED_QUADS, col = 4 * (t % CG_FEED_QUADS);
    const cg_feed feed = {g->a + (row0 + row) * g->lda + col, g->b + (col0 + row) * g->ldb + col,
                          cg_feed_rows(g->m, row0, t), cg_feed_rows(g->n, col0, t), col < g->k ? g->k - col : 0};
    return feed;
}

CG_BODY void cg_feed_load(const float *from, size_t ld, int32_t rows, size_t left, int wide, uint32_t tile,
                          uint32_t threads, uint32_t t, cg_quad *room) {
    const uint32_t step = threads / CG_FEED_QUADS; /* rows that are copied at a time */
    cg_quad *const to = room + cg_feed_place(t / CG_FEED_QUADS, t % CG_FEED_QUADS);
    if (wide) {
        CG_UNROLL(16)
        for (uint32_t i = 0; i < tile / step; i++)
            cg_copy_async_if((int32_t)(i * step) < rows && left > 0, to + i * step * CG_FEED_QUADS,
                             from + i * (step * ld), 16);
    } else {
        CG_UNROLL(1)
        for (uint32_t i = 0; i < tile / step; i++) {
            CG_UNROLL(4)
            for (uint32_t j = 0; j < 4; j++)
                cg_copy_async_if((int32_t)(i * step) < rows && left > j, &to[i * step * CG_FEED_QUADS].v[j],
                                 from + i * (step * ld) + j, 4);
        }
    }
}

/* Asks for the next chunk of a tile of as many rows of A and of B. wide: a constant, cg_gemm_wide(g); so are tile and
 * threads. */
CG_BODY void cg_feed_ask(const cg_gemm *g, int wide, cg_feed *feed, uint32_t tile, uint32_t threads, uint32_t t,
                         cg_quad *a, cg_quad *b) {
    cg_feed_load(feed->a, g->lda, feed->rows_a, feed->left, wide, tile, threads, t, a);
    cg_feed_load(feed->b, g->ldb, feed->rows_b, feed->left, wide, tile, threads, t, b);
    feed->a += CG_FEED_CHUNK, feed->b += CG_FEED_CHUNK;
    feed->left -= feed->left < CG_FEED_CHUNK ? feed->left : CG_FEED_CHUNK;
}
#endif
