/* cuda/tensor_index.h -- one tile of A B^T on the tensor cores, in TF32: what each thread loads, keeps and adds up.
 *
 * Operands keep 10 bits of their mantissas (the others are cut off), so a sum is a filter, not a result:
 * CG_TENSOR_SLACK bounds its error. Chunks of 32 columns come by asynchronous copies, some ahead of the sums.
 * In shared memory the quads of odd rows are swapped by halves: eight lanes read two rows' quads in 32 banks.
 * A lane's quad holds four columns of two products of eight; which column is which k is the same for A and B, and so of
 * no account. Columns beyond k count as zeros; rows beyond the last are copies of it. */
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
    CG_TENSOR_THREADS = 32 * CG_TENSOR_WARPS_DOWN * CG_TENSOR_WARPS_ALONG
};

/* |q.k as summed here - q.k| <= CG_TENSOR_SLACK(dim) / 2 (||q||^2 + ||k||^2) + what underflows: 2^-10 an operand for
 * the bits that are cut off, and 16 units in the last place of the largest number for each sum of eight products, which
 * tensor cores align and cut. */
#define CG_TENSOR_SLACK(dim) (0x1p-9f + (float)((dim) + 16) * 0x1p-22f)

typedef struct cg_tensor {
    size_t m, n, k, lda, ldb;
    const float *a, *b; /* (m, k), (n, k), rows lda, ldb apart; m, n > 0 */
    int wide;           /* pointers, lda, ldb and k are multiples of 16 bytes */
} cg_tensor;

typedef struct cg_tensor_room {
    cg_quad a[CG_TENSOR_STAGES][CG_TENSOR_ROWS * CG_TENSOR_QUADS];
    cg_quad b[CG_TENSOR_STAGES][CG_TENSOR_COLS * CG_TENSOR_QUADS];
} cg_tensor_room;

/* What a thread owns: sums, and the operands of two products of eight columns. */
typedef struct cg_tensor_own {
    float sum[CG_TENSOR_DOWN][CG_TENSOR_ALONG][4];
    float a[2][CG_TENSOR_DOWN][4], b[2][CG_TENSOR_ALONG][2];
} cg_tensor_own;

/* Row of the tile of sum[i][.][e] of thread t, and column of sum[.][j][e]. */
CG_BODY uint32_t cg_tensor_row(uint32_t t, uint32_t i, uint32_t e) {
    return t / 32 % CG_TENSOR_WARPS_DOWN * (16 * CG_TENSOR_DOWN) + 16 * i + e / 2 * 8 + t % 32 / 4;
}
CG_BODY uint32_t cg_tensor_col(uint32_t t, uint32_t j, uint32_t e) {
    return t / 32 / CG_TENSOR_WARPS_DOWN * (8 * CG_TENSOR_ALONG) + 8 * j + t % 4 * 2 + e % 2;
}

CG_BODY uint32_t cg_tensor_place(uint32_t row, uint32_t quad) { return row * CG_TENSOR_QUADS + (quad ^ row % 2 * 4); }

/* Thread t's share of a chunk of `tile` rows from `first`. */
CG_BODY void cg_tensor_load(const float *x, size_t rows, size_t ld, size_t k, int wide, size_t first, uint32_t tile,
                            size_t at, uint32_t t, cg_quad *room) {
    const uint32_t quad = t % CG_TENSOR_QUADS;
    const size_t col = at + 4 * quad;
    CG_UNROLL(16)
    for (uint32_t row = t / CG_TENSOR_QUADS; row < tile; row += CG_TENSOR_THREADS / CG_TENSOR_QUADS) {
        const float *const from = x + (first + row < rows ? first + row : rows - 1) * ld + col;
        cg_quad *const to = room + cg_tensor_place(row, quad);
        if (wide) {
            cg_copy_async_if(col < k, to, col < k ? from : x, 16);
        } else {
            for (uint32_t i = 0; i < 4; i++) cg_copy_async_if(col + i < k, &to->v[i], col + i < k ? from + i : x, 4);
        }
    }
}

CG_BODY void cg_tensor_ask(const cg_tensor *g, size_t row0, size_t col0, size_t chunk, uint32_t t,
                           cg_tensor_room *room) {
    const size_t at = chunk * CG_TENSOR_CHUNK;
    if (at >= g->k) return;
    const uint32_t stage = (uint32_t)(chunk % CG_TENSOR_STAGES);
    cg_tensor_load(g->a, g->m, g->lda, g->k, g->wide, row0, CG_TENSOR_ROWS, at, t, room->a[stage]);
    cg_tensor_load(g->b, g->n, g->ldb, g->k, g->wide, col0, CG_TENSOR_COLS, at, t, room->b[stage]);
}

/* Sums of the tile whose first row of A is row0 and of B col0. own: one a thread (CG_THREADS_OWN). Ends with a barrier:
 * room is free then. */
CG_BODY void cg_tensor_tile(const cg_tensor *g, size_t row0, size_t col0, cg_tensor_room *room, cg_tensor_own *own) {
    CG_EACH_THREAD(t, CG_TENSOR_THREADS) {
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
        CG_EACH_THREAD(t, CG_TENSOR_THREADS) cg_tensor_ask(g, row0, col0, ahead, t, room);
        CG_NO_BARRIER();
        CG_COPIES_SENT();
    }
    for (size_t chunk = 0; chunk * CG_TENSOR_CHUNK < g->k; chunk++) {
        CG_COPIES_WAIT(CG_TENSOR_STAGES - 2);
        CG_EACH_THREAD(t, CG_TENSOR_THREADS) cg_tensor_ask(g, row0, col0, chunk + CG_TENSOR_STAGES - 1, t, room);
        CG_NO_BARRIER();
        CG_COPIES_SENT();
        const cg_quad *const a = room->a[chunk % CG_TENSOR_STAGES], *const b = room->b[chunk % CG_TENSOR_STAGES];
        CG_UNROLL(2)
        for (uint32_t half = 0; half < 2; half++) {
            CG_EACH_THREAD(t, CG_TENSOR_THREADS) {
                const uint32_t quad = half * 4 + t % 4;
                CG_UNROLL(8)
                for (uint32_t i = 0; i < CG_TENSOR_DOWN; i++) {
                    CG_UNROLL(2)
                    for (uint32_t e = 0; e < 2; e++) {
                        const cg_quad x = a[cg_tensor_place(cg_tensor_row(t, i, 2 * e), quad)];
                        CG_OWN(own, t).a[0][i][e] = x.v[0], CG_OWN(own, t).a[0][i][2 + e] = x.v[1];
                        CG_OWN(own, t).a[1][i][e] = x.v[2], CG_OWN(own, t).a[1][i][2 + e] = x.v[3];
                    }
                }
                CG_UNROLL(8)
                for (uint32_t j = 0; j < CG_TENSOR_ALONG; j++) {
                    const uint32_t row = t / 32 / CG_TENSOR_WARPS_DOWN * (8 * CG_TENSOR_ALONG) + 8 * j + t % 32 / 4;
                    const cg_quad x = b[cg_tensor_place(row, quad)];
                    CG_OWN(own, t).b[0][j][0] = x.v[0], CG_OWN(own, t).b[0][j][1] = x.v[1];
                    CG_OWN(own, t).b[1][j][0] = x.v[2], CG_OWN(own, t).b[1][j][1] = x.v[3];
                }
            }
            CG_NO_BARRIER();
            CG_UNROLL(2)
            for (uint32_t s = 0; s < 2; s++) {
                CG_UNROLL(8)
                for (uint32_t i = 0; i < CG_TENSOR_DOWN; i++) {
                    CG_UNROLL(8)
                    for (uint32_t j = 0; j < CG_TENSOR_ALONG; j++)
                        cg_mma_tf32(own->sum[i][j], own->a[s][i], own->b[s][j], sizeof *own / sizeof(float),
                                    CG_TENSOR_THREADS);
                }
            }
        }
    }
    CG_COPIES_WAIT(0);
}

CG_BOTH size_t cg_tensor_tiles(size_t m, size_t n) {
    return cg_div_up(m, CG_TENSOR_ROWS) * cg_div_up(n, CG_TENSOR_COLS);
}
#endif
