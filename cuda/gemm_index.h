/* cuda/gemm_index.h -- one tile of A B^T in float32: what each thread loads, keeps and adds up.
 *
 * A block of 256 threads computes 128 x 128 sums, 8 x 8 a thread, over chunks of 16 in shared memory. The eight rows of
 * a thread are two runs of four, 64 apart, and so its columns: neighbouring threads then read neighbouring quads.
 * A sum is one chain of FMAs in ascending k; a row of A or B outside the matrix counts as zeros. */
#ifndef CG_CUDA_GEMM_INDEX_H
#define CG_CUDA_GEMM_INDEX_H
#include "shim.h"

enum {
    CG_GEMM_TILE = 128, /* rows of A and of B in a tile */
    CG_GEMM_CHUNK = 16, /* columns of both at a time */
    CG_GEMM_THREADS = 256,
    CG_GEMM_SIDE = 16,  /* threads along a side of the tile */
    CG_GEMM_OWN = 8,    /* rows and columns of a thread */
    CG_GEMM_PITCH = 132 /* floats from one k to the next in shared memory: quads stay aligned, banks differ */
};

/* a: (m, k) rows lda apart; b: (n, k) rows ldb apart. */
typedef struct cg_gemm {
    size_t m, n, k, lda, ldb;
    const float *a, *b;
} cg_gemm;

typedef struct CG_ALIGNED(16) cg_gemm_room { /* a chunk of both, k by k */
    float a[CG_GEMM_CHUNK * CG_GEMM_PITCH], b[CG_GEMM_CHUNK * CG_GEMM_PITCH];
} cg_gemm_room;

typedef struct cg_gemm_sums {
    float v[CG_GEMM_OWN][CG_GEMM_OWN];
} cg_gemm_sums;

/* Row (or column) of the tile that is number i of a thread at place `at` of its side. */
CG_BODY uint32_t cg_gemm_place(uint32_t at, uint32_t i) { return i / 4 * (CG_GEMM_TILE / 2) + 4 * at + i % 4; }

/* Thread t's share of a chunk: 16 neighbouring threads read 16 neighbouring floats of a row. */
CG_BODY void cg_gemm_load(const float *x, size_t rows, size_t ld, size_t k, size_t first, size_t at, uint32_t t,
                          float *room) {
    CG_UNROLL(8)
    for (uint32_t e = t; e < CG_GEMM_TILE * CG_GEMM_CHUNK; e += CG_GEMM_THREADS) {
        const size_t row = first + e / CG_GEMM_CHUNK, col = at + e % CG_GEMM_CHUNK;
        room[e % CG_GEMM_CHUNK * CG_GEMM_PITCH + e / CG_GEMM_CHUNK] = row < rows && col < k ? x[row * ld + col] : 0.0f;
    }
}

/* Sums of the tile whose first row of A is row0 and of B col0. sums: one a thread (CG_THREADS_OWN). Ends with a
 * barrier: room is free then. */
CG_BODY void cg_gemm_tile(const cg_gemm *g, size_t row0, size_t col0, cg_gemm_room *room, cg_gemm_sums *sums) {
    CG_EACH_THREAD(t, CG_GEMM_THREADS) {
        CG_UNROLL(8)
        for (uint32_t i = 0; i < CG_GEMM_OWN; i++) {
            CG_UNROLL(8)
            for (uint32_t j = 0; j < CG_GEMM_OWN; j++) CG_OWN(sums, t).v[i][j] = 0.0f;
        }
    }
    CG_NO_BARRIER();
    for (size_t at = 0; at < g->k; at += CG_GEMM_CHUNK) {
        CG_EACH_THREAD(t, CG_GEMM_THREADS) {
            cg_gemm_load(g->a, g->m, g->lda, g->k, row0, at, t, room->a);
            cg_gemm_load(g->b, g->n, g->ldb, g->k, col0, at, t, room->b);
        }
        CG_BARRIER();
        CG_EACH_THREAD(t, CG_GEMM_THREADS) {
            CG_UNROLL(4)
            for (uint32_t k = 0; k < CG_GEMM_CHUNK; k++) {
                float a[CG_GEMM_OWN], b[CG_GEMM_OWN];
                CG_UNROLL(8)
                for (uint32_t i = 0; i < CG_GEMM_OWN; i++) {
                    a[i] = room->a[k * CG_GEMM_PITCH + cg_gemm_place(t / CG_GEMM_SIDE, i)];
                    b[i] = room->b[k * CG_GEMM_PITCH + cg_gemm_place(t % CG_GEMM_SIDE, i)];
                }
                CG_UNROLL(8)
                for (uint32_t i = 0; i < CG_GEMM_OWN; i++) {
                    CG_UNROLL(8)
                    for (uint32_t j = 0; j < CG_GEMM_OWN; j++)
                        CG_OWN(sums, t).v[i][j] = fmaf(a[i], b[j], CG_OWN(sums, t).v[i][j]);
                }
            }
        }
        CG_BARRIER();
    }
}

/* c[row ldc + col] = the sum, for one tile. Tiles are numbered so that those that share rows of B are neighbours. */
CG_BODY void cg_gemm_body(const cg_gemm *g, float *c, size_t ldc, size_t tile, cg_gemm_room *room) {
    const size_t down = cg_div_up(g->m, CG_GEMM_TILE);
    const size_t row0 = tile % down * CG_GEMM_TILE, col0 = tile / down * CG_GEMM_TILE;
    CG_THREADS_OWN(cg_gemm_sums, sums, CG_GEMM_THREADS);
    CG_BLOCK();
    cg_gemm_tile(g, row0, col0, room, sums);
    CG_EACH_THREAD(t, CG_GEMM_THREADS) {
        CG_UNROLL(8)
        for (uint32_t i = 0; i < CG_GEMM_OWN; i++) {
            const size_t row = row0 + cg_gemm_place(t / CG_GEMM_SIDE, i);
            CG_UNROLL(8)
            for (uint32_t j = 0; j < CG_GEMM_OWN; j++) {
                const size_t col = col0 + cg_gemm_place(t % CG_GEMM_SIDE, j);
                if (row < g->m && col < g->n) c[row * ldc + col] = CG_OWN(sums, t).v[i][j];
            }
        }
    }
}

/* Tiles of an (m, n) result. */
CG_BOTH size_t cg_gemm_tiles(size_t m, size_t n) { return cg_div_up(m, CG_GEMM_TILE) * cg_div_up(n, CG_GEMM_TILE); }
#endif
