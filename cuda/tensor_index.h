/* cuda/tensor_index.h -- one tile of A B^T on the tensor cores, in TF32: what each thread loads, keeps and adds up.
 *
 * Operands keep 10 bits of their mantissas (the others are cut off), so a sum is a filter, not a result:
 * CG_TENSOR_SLACK bounds its error. A warp has 64 x 64 sums: 16 x 8 of them are one instruction for eight columns. */
#ifndef CG_CUDA_TENSOR_INDEX_H
#define CG_CUDA_TENSOR_INDEX_H
#include "feed_index.h"
#include "warp.h"

enum {
    CG_TENSOR_TILE = 128, /* rows of A and of B in a tile */
    CG_TENSOR_DOWN = 4,   /* products of 16 x 8 down and along a warp's part of it */
    CG_TENSOR_ALONG = 8,
    CG_TENSOR_STAGES = 3, /* chunks on their way or in use */
    CG_TENSOR_BLOCKS = 2, /* on a processor at a time */
    CG_TENSOR_WARPS_DOWN = CG_TENSOR_TILE / (16 * CG_TENSOR_DOWN),
    CG_TENSOR_WARPS_ALONG = CG_TENSOR_TILE / (8 * CG_TENSOR_ALONG),
    CG_TENSOR_THREADS = 32 * CG_TENSOR_WARPS_DOWN * CG_TENSOR_WARPS_ALONG
};

/* |q.k as summed here - q.k| <= CG_TENSOR_SLACK(dim) / 2 (||q||^2 + ||k||^2) + what underflows: 2^-10 an operand for
 * the bits that are cut off, and 16 units in the last place of the largest number for each sum of eight products, which
 * tensor cores align and cut. */
#define CG_TENSOR_SLACK(dim) (0x1p-9f + (float)((dim) + 16) * 0x1p-22f)

typedef struct cg_tensor_room {
    cg_quad a[CG_TENSOR_STAGES][CG_TENSOR_TILE * CG_FEED_QUADS], b[CG_TENSOR_STAGES][CG_TENSOR_TILE * CG_FEED_QUADS];
} cg_tensor_room;

/* What a thread owns: sums, and the operands of products of eight columns. */
typedef struct cg_tensor_own {
    float sum[CG_TENSOR_DOWN][CG_TENSOR_ALONG][4];
    float a[CG_TENSOR_DOWN][4], b[CG_TENSOR_ALONG / 2][4];
    uint32_t at_a, at_b; /* where its row of the pieces stands */
} cg_tensor_own;

/* Row of the tile of sum[i][.][e] of thread t, and column of sum[.][j][e]. */
CG_BODY uint32_t cg_tensor_row(uint32_t t, uint32_t i, uint32_t e) {
    return t / 32 % CG_TENSOR_WARPS_DOWN * (16 * CG_TENSOR_DOWN) + 16 * i + e / 2 * 8 + t % 32 / 4;
}
CG_BODY uint32_t cg_tensor_col(uint32_t t, uint32_t j, uint32_t e) {
    return t / 32 / CG_TENSOR_WARPS_DOWN * (8 * CG_TENSOR_ALONG) + 8 * j + t % 4 * 2 + e % 2;
}

/* Sums of the tile whose first row of A is row0 and of B col0. wide: cg_gemm_wide(g), a constant. own: one a
 * thread (CG_THREADS_OWN). Ends with a barrier: room is free then. */
CG_BODY void cg_tensor_tile(const cg_gemm *g, int wide, size_t row0, size_t col0, cg_tensor_room *room,
                            cg_tensor_own *own) {
    CG_THREADS_OWN(cg_feed, feed, CG_TENSOR_THREADS);
    CG_EACH_THREAD(t, CG_TENSOR_THREADS) {
        CG_OWN(feed, t) = cg_feed_of(g, row0, col0, t);
        /* pieces of A: rows 0-7 and 8-15 of a quad, then of the next; of B: two quads of keys 0-7, then of 8-15 */
        CG_OWN(own, t).at_a = cg_feed_place(cg_tensor_row(t, 0, 0) / 16 * 16 + t % 16, t % 32 / 16);
        CG_OWN(own, t).at_b = cg_feed_place(cg_tensor_col(t, 0, 0) / 16 * 16 + t % 32 / 16 * 8 + t % 8, t % 16 / 8);
        CG_UNROLL(8)
        for (uint32_t i = 0; i < CG_TENSOR_DOWN; i++) {
            CG_UNROLL(8)
            for (uint32_t j = 0; j < CG_TENSOR_ALONG; j++) {
                CG_UNROLL(4)
                for (uint32_t e = 0; e < 4; e++) CG_OWN(own, t).sum[i][j][e] = 0.0f;
            }
        }
    }
    CG_NO_BARRIER();
    for (uint32_t ahead = 0; ahead + 1 < CG_TENSOR_STAGES; ahead++) {
        CG_EACH_THREAD(t, CG_TENSOR_THREADS)
        cg_feed_ask(g, wide, &CG_OWN(feed, t), CG_TENSOR_TILE, CG_TENSOR_THREADS, t, room->a[ahead], room->b[ahead]);
        CG_NO_BARRIER();
        CG_COPIES_SENT();
    }
    const size_t apart = sizeof *own / sizeof(float);
    uint32_t here = 0, next = CG_TENSOR_STAGES - 1;
    for (size_t at = 0; at < g->k; at += CG_FEED_CHUNK) {
        CG_COPIES_WAIT(CG_TENSOR_STAGES - 2);
        CG_EACH_THREAD(t, CG_TENSOR_THREADS)
        cg_feed_ask(g, wide, &CG_OWN(feed, t), CG_TENSOR_TILE, CG_TENSOR_THREADS, t, room->a[next], room->b[next]);
        CG_NO_BARRIER();
        CG_COPIES_SENT();
        const cg_quad *const a = room->a[here], *const b = room->b[here];
        next = here;
        here = here + 1 < CG_TENSOR_STAGES ? here + 1 : 0;
        CG_UNROLL(4)
        for (uint32_t quad = 0; quad < CG_FEED_QUADS; quad += 2) {
            CG_UNROLL(8)
            for (uint32_t i = 0; i < CG_TENSOR_DOWN; i++)
                cg_load_pieces(own->a[i], a, &own->at_a, quad, 16 * CG_FEED_QUADS * i, apart, CG_TENSOR_THREADS);
            CG_UNROLL(4)
            for (uint32_t j = 0; j < CG_TENSOR_ALONG / 2; j++)
                cg_load_pieces(own->b[j], b, &own->at_b, quad, 16 * CG_FEED_QUADS * j, apart, CG_TENSOR_THREADS);
            CG_UNROLL(8)
            for (uint32_t i = 0; i < CG_TENSOR_DOWN; i++) {
                CG_UNROLL(8)
                for (uint32_t j = 0; j < CG_TENSOR_ALONG; j++)
                    cg_mma_tf32(own->sum[i][j], own->a[i], own->b[j / 2] + j % 2 * 2, apart, CG_TENSOR_THREADS);
            }
        }
    }
    CG_COPIES_WAIT(0);
}

CG_BOTH size_t cg_tensor_tiles(size_t m, size_t n) {
    return cg_div_up(m, CG_TENSOR_TILE) * cg_div_up(n, CG_TENSOR_TILE);
}
#endif
