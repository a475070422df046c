/* cuda/gemm_index.h -- one tile of A B^T in float32: what each thread loads, keeps and adds up.
 *
 * A block of 256 threads computes 128 x 128 sums, 8 x 8 a thread, its rows 16 apart and so its columns. A warp is 4 x 8
 * threads: what a load brings in is eight neighbouring rows of B, or four of A. A sum is one chain of FMAs in ascending
 * k. */
#ifndef CG_CUDA_GEMM_INDEX_H
#define CG_CUDA_GEMM_INDEX_H
#include "feed_index.h"

enum {
    CG_GEMM_TILE = 128, /* rows of A and of B in a tile */
    CG_GEMM_THREADS = 256,
    CG_GEMM_SIDE = 16, /* threads along a side of the tile */
    CG_GEMM_OWN = 8,   /* rows and columns of a thread */
    CG_GEMM_STAGES = 3 /* chunks on their way or in use */
};

typedef struct cg_gemm_room {
    cg_quad a[CG_GEMM_STAGES][CG_GEMM_TILE * CG_FEED_QUADS], b[CG_GEMM_STAGES][CG_GEMM_TILE * CG_FEED_QUADS];
} cg_gemm_room;

typedef struct cg_gemm_own {
    cg_feed feed;
    float sum[CG_GEMM_OWN][CG_GEMM_OWN];
} cg_gemm_own;

/* Where thread t is along the sides; its row i is this plus CG_GEMM_SIDE i. */
CG_BODY uint32_t cg_gemm_row(uint32_t t) { return t / 64 * 4 + t % 32 / 8; }
CG_BODY uint32_t cg_gemm_col(uint32_t t) { return t / 32 % 2 * 8 + t % 8; }

/* Adds a chunk. */
CG_BODY void cg_gemm_add(const cg_quad *a, const cg_quad *b, uint32_t t, float (*sum)[CG_GEMM_OWN]) {
    CG_UNROLL(1)
    for (uint32_t quad = 0; quad < CG_FEED_QUADS; quad++) {
        cg_quad row[CG_GEMM_OWN];
        CG_UNROLL(8)
        for (uint32_t i = 0; i < CG_GEMM_OWN; i++)
            row[i] = a[cg_feed_place(cg_gemm_row(t), quad) + i * CG_GEMM_SIDE * CG_FEED_QUADS];
        CG_UNROLL(8)
        for (uint32_t j = 0; j < CG_GEMM_OWN; j++) {
            const cg_quad col = b[cg_feed_place(cg_gemm_col(t), quad) + j * CG_GEMM_SIDE * CG_FEED_QUADS];
            CG_UNROLL(4)
            for (uint32_t e = 0; e < 4; e++) {
                CG_UNROLL(8)
                for (uint32_t i = 0; i < CG_GEMM_OWN; i++) sum[i][j] = fmaf(row[i].v[e], col.v[e], sum[i][j]);
            }
        }
    }
}

/* c[row ldc + col] = the sum, for one tile. Tiles are numbered so that those that share rows of B are neighbours. wide:
 * cg_gemm_wide(g), a constant. */
CG_BODY void cg_gemm_body(const cg_gemm *g, int wide, float *c, size_t ldc, size_t tile, cg_gemm_room *room) {
    const size_t down = cg_div_up(g->m, CG_GEMM_TILE);
    const size_t row0 = tile % down * CG_GEMM_TILE, col0 = tile / down * CG_GEMM_TILE;
    uint32_t here = 0, next = CG_GEMM_STAGES - 1;
    CG_THREADS_OWN(cg_gemm_own, own, CG_GEMM_THREADS);
    CG_BLOCK();
    CG_EACH_THREAD(t, CG_GEMM_THREADS) {
        CG_OWN(own, t).feed = cg_feed_of(g, row0, col0, t);
        CG_UNROLL(8)
        for (uint32_t i = 0; i < CG_GEMM_OWN; i++) {
            CG_UNROLL(8)
            for (uint32_t j = 0; j < CG_GEMM_OWN; j++) CG_OWN(own, t).sum[i][j] = 0.0f;
        }
    }
    CG_NO_BARRIER();
    for (uint32_t ahead = 0; ahead + 1 < CG_GEMM_STAGES; ahead++) {
        CG_EACH_THREAD(t, CG_GEMM_THREADS)
        cg_feed_ask(g, wide, &CG_OWN(own, t).feed, CG_GEMM_TILE, CG_GEMM_THREADS, t, room->a[ahead], room->b[ahead]);
        CG_NO_BARRIER();
        CG_COPIES_SENT();
    }
    for (size_t at = 0; at < g->k; at += CG_FEED_CHUNK) {
        CG_COPIES_WAIT(CG_GEMM_STAGES - 2);
        CG_EACH_THREAD(t, CG_GEMM_THREADS) {
            cg_feed_ask(g, wide, &CG_OWN(own, t).feed, CG_GEMM_TILE, CG_GEMM_THREADS, t, room->a[next], room->b[next]);
            cg_gemm_add(room->a[here], room->b[here], t, CG_OWN(own, t).sum);
        }
        CG_NO_BARRIER();
        CG_COPIES_SENT();
        next = here;
        here = here + 1 < CG_GEMM_STAGES ? here + 1 : 0;
    }
    CG_COPIES_WAIT(0);
    CG_EACH_THREAD(t, CG_GEMM_THREADS) {
        CG_UNROLL(8)
        for (uint32_t i = 0; i < CG_GEMM_OWN; i++) {
            const size_t row = row0 + cg_gemm_row(t) + CG_GEMM_SIDE * i;
            CG_UNROLL(8)
            for (uint32_t j = 0; j < CG_GEMM_OWN; j++) {
                const size_t col = col0 + cg_gemm_col(t) + CG_GEMM_SIDE * j;
                if (row < g->m && col < g->n) c[row * ldc + col] = CG_OWN(own, t).sum[i][j];
            }
        }
    }
}

/* Tiles of an (m, n) result. */
CG_BOTH size_t cg_gemm_tiles(size_t m, size_t n) { return cg_div_up(m, CG_GEMM_TILE) * cg_div_up(n, CG_GEMM_TILE); }
#endif
