/* cuda/tensor_index.h -- one tile of A B^T on the tensor cores, in TF32: what each thread loads, keeps and adds up.
 *
 * Operands keep 10 bits of their mantissas (the others are cut off), so a sum is a filter, not a result:
 * CG_TENSOR_SLACK bounds its error. Chunks of 32 columns come by asynchronous copies, some ahead of the sums.
 * In shared memory quad i of row r stands at place i ^ r % 8: eight rows' quads are in 32 banks. Columns beyond k and
 * rows beyond the last count as zeros. */
#ifndef CG_CUDA_TENSOR_INDEX_H
#define CG_CUDA_TENSOR_INDEX_H
#include "shim.h"
#ifndef CG_TENSOR_SET
#define CG_TENSOR_SET 128, 128, 64, 64, 3, 2
#endif
#define CG_TENSOR_PICK(a, b, c, d, e, f)                                                                               \
    CG_TENSOR_ROWS = a, CG_TENSOR_COLS = b, CG_TENSOR_DOWN = (c) / 16, CG_TENSOR_ALONG = (d) / 8,                      \
    CG_TENSOR_STAGES = e, CG_TENSOR_BLOCKS = f
#define CG_TENSOR_PICK_(...) CG_TENSOR_PICK(__VA_ARGS__)

enum {
    CG_TENSOR_PICK_(CG_TENSOR_SET), /* rows of A, of B in a tile; products of 16 x 8 down and along a warp's part */
    CG_TENSOR_CHUNK = 32,           /* columns of both at a time */
    CG_TENSOR_QUADS = CG_TENSOR_CHUNK / 4,
    CG_TENSOR_WARPS_DOWN = CG_TENSOR_ROWS / (16 * CG_TENSOR_DOWN),
    CG_TENSOR_WARPS_ALONG = CG_TENSOR_COLS / (8 * CG_TENSOR_ALONG),
    CG_TENSOR_THREADS = 32 * CG_TENSOR_WARPS_DOWN * CG_TENSOR_WARPS_ALONG,
    CG_TENSOR_STEP = CG_TENSOR_THREADS / CG_TENSOR_QUADS /* rows that are copied at a time */
};

/* |q.k as summed here - q.k| <= CG_TENSOR_SLACK(dim) / 2 (||q||^2 + ||k||^2) + what underflows: 2^-10 an operand for
 * the bits that are cut off, and 16 units in the last place of the largest number for each sum of eight products, which
 * tensor cores align and cut. */
#define CG_TENSOR_SLACK(dim) (0x1p-9f + (float)((dim) + 16) * 0x1p-22f)

typedef struct cg_tensor {
    size_t m, n, k, lda, ldb;
    const float *a, *b; /* (m, k), (n, k), rows lda, ldb apart */
} cg_tensor;

typedef struct cg_tensor_room {
    cg_quad a[CG_TENSOR_STAGES][CG_TENSOR_ROWS * CG_TENSOR_QUADS];
    cg_quad b[CG_TENSOR_STAGES][CG_TENSOR_COLS * CG_TENSOR_QUADS];
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

CG_BODY uint32_t cg_tensor_place(uint32_t row, uint32_t quad) { return row * CG_TENSOR_QUADS + (quad ^ row % 8); }

/* Where thread t's share of the next chunk comes from: the same quad of every CG_TENSOR_STEP-th row. */
typedef struct cg_tensor_feed {
    const float *a, *b;
    int32_t rows_a, rows_b; /* from the thread's first row on; may be negative */
    size_t left;            /* columns from the thread's quad on */
} cg_tensor_feed;

CG_BODY int32_t cg_tensor_rows(size_t rows, size_t first, uint32_t t) {
    const size_t left = first < rows ? rows - first : 0;
    return (int32_t)(left < 0x10000 ? left : 0x10000) - (int32_t)(t / CG_TENSOR_QUADS);
}

CG_BODY void cg_tensor_load(const float *from, size_t ld, int32_t rows, uint32_t tile, size_t left, int wide,
                            uint32_t t, cg_quad *room) {
    cg_quad *const to = room + cg_tensor_place(t / CG_TENSOR_QUADS, t % CG_TENSOR_QUADS);
    const size_t step = CG_TENSOR_STEP * ld;
    if (wide) {
        CG_UNROLL(16)
        for (uint32_t i = 0; i < tile / CG_TENSOR_STEP; i++)
            cg_copy_async_if((int32_t)(i * CG_TENSOR_STEP) < rows && left > 0,
                             to + i * CG_TENSOR_STEP * CG_TENSOR_QUADS, from + i * step, 16);
    } else {
        CG_UNROLL(1)
        for (uint32_t i = 0; i < tile / CG_TENSOR_STEP; i++) {
            CG_UNROLL(4)
            for (uint32_t j = 0; j < 4; j++)
                cg_copy_async_if((int32_t)(i * CG_TENSOR_STEP) < rows && left > j,
                                 &to[i * CG_TENSOR_STEP * CG_TENSOR_QUADS].v[j], from + i * step + j, 4);
        }
    }
}

/* Asks for the next chunk. */
CG_BODY void cg_tensor_ask(const cg_tensor *g, int wide, cg_tensor_feed *feed, uint32_t stage, uint32_t t,
                           cg_tensor_room *room) {
    cg_tensor_load(feed->a, g->lda, feed->rows_a, CG_TENSOR_ROWS, feed->left, wide, t, room->a[stage]);
    cg_tensor_load(feed->b, g->ldb, feed->rows_b, CG_TENSOR_COLS, feed->left, wide, t, room->b[stage]);
    feed->a += CG_TENSOR_CHUNK, feed->b += CG_TENSOR_CHUNK;
    feed->left -= feed->left < CG_TENSOR_CHUNK ? feed->left : CG_TENSOR_CHUNK;
}

/* Sums of the tile whose first row of A is row0 and of B col0. wide: a constant, whether pointers, lda, ldb and k are
 * multiples of 16 bytes. own: one a thread (CG_THREADS_OWN). Ends with a barrier:
 * room is free then. */
CG_BODY void cg_tensor_tile(const cg_tensor *g, int wide, size_t row0, size_t col0, cg_tensor_room *room,
                            cg_tensor_own *own) {
    CG_THREADS_OWN(cg_tensor_feed, feed, CG_TENSOR_THREADS);
    CG_EACH_THREAD(t, CG_TENSOR_THREADS) {
        const uint32_t row = t / CG_TENSOR_QUADS, col = 4 * (t % CG_TENSOR_QUADS);
        const cg_tensor_feed from = {g->a + (row0 + row) * g->lda + col, g->b + (col0 + row) * g->ldb + col,
                                     cg_tensor_rows(g->m, row0, t), cg_tensor_rows(g->n, col0, t),
                                     col < g->k ? g->k - col : 0};
        CG_OWN(feed, t) = from;
        /* pieces of A: rows 0-7 and 8-15 of a quad, then of the next; of B: two quads of keys 0-7, then of 8-15 */
        CG_OWN(own, t).at_a = cg_tensor_place(cg_tensor_row(t, 0, 0) / 16 * 16 + t % 16, t % 32 / 16);
        CG_OWN(own, t).at_b = cg_tensor_place(cg_tensor_col(t, 0, 0) / 16 * 16 + t % 32 / 16 * 8 + t % 8, t % 16 / 8);
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
        CG_EACH_THREAD(t, CG_TENSOR_THREADS) cg_tensor_ask(g, wide, &CG_OWN(feed, t), ahead, t, room);
        CG_NO_BARRIER();
        CG_COPIES_SENT();
    }
    const size_t apart = sizeof *own / sizeof(float);
    uint32_t here = 0, next = CG_TENSOR_STAGES - 1;
    for (size_t at = 0; at < g->k; at += CG_TENSOR_CHUNK) {
        CG_COPIES_WAIT(CG_TENSOR_STAGES - 2);
        CG_EACH_THREAD(t, CG_TENSOR_THREADS) cg_tensor_ask(g, wide, &CG_OWN(feed, t), next, t, room);
        CG_NO_BARRIER();
        CG_COPIES_SENT();
        const cg_quad *const a = room->a[here], *const b = room->b[here];
        next = here;
        here = here + 1 < CG_TENSOR_STAGES ? here + 1 : 0;
        CG_UNROLL(4)
        for (uint32_t quad = 0; quad < CG_TENSOR_QUADS; quad += 2) {
            CG_UNROLL(8)
            for (uint32_t i = 0; i < CG_TENSOR_DOWN; i++)
                cg_load_pieces(own->a[i], a, &own->at_a, quad, 16 * CG_TENSOR_QUADS * i, apart, CG_TENSOR_THREADS);
            CG_UNROLL(4)
            for (uint32_t j = 0; j < CG_TENSOR_ALONG / 2; j++)
                cg_load_pieces(own->b[j], b, &own->at_b, quad, 16 * CG_TENSOR_QUADS * j, apart, CG_TENSOR_THREADS);
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
    return cg_div_up(m, CG_TENSOR_ROWS) * cg_div_up(n, CG_TENSOR_COLS);
}
#endif
