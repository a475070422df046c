/* cuda/mix_index.h -- the bodies of the mixing kernels: which element of X a thread computes, and from which.
 *
 * A tile is up to `width` columns of one column block, all rows. Fused: a block of threads copies its tile into shared
 * memory, goes back and forth between that and a second one for all rounds but the last, which writes y; X is read once
 * and written once. Since the whole tile is read before anything of it is written, y may be x. Direct, where not even a
 * narrow tile of all rows fits: one launch a round, from one matrix in device memory to another. */
#ifndef CG_CUDA_MIX_INDEX_H
#define CG_CUDA_MIX_INDEX_H
#include "tile_index.h"

typedef struct CG_ALIGNED(8) cg_mix_entry { /* x[row] += weight x[from] */
    uint32_t from;
    float weight;
} cg_mix_entry;

/* The matrices of every round and column block, in device memory. Different pairs may share a matrix. */
typedef struct cg_mix_plan {
    size_t n, rounds, blocks;
    const uint64_t *col_start;   /* (blocks + 1) columns of a block */
    const uint64_t *first_tile;  /* (blocks + 1) tiles before a block's */
    const uint32_t *which;       /* (rounds, blocks) number of the matrix */
    const uint32_t *start;       /* (matrices, n + 1) where a row's entries begin */
    const cg_mix_entry *entries; /* zero weights left out */
} cg_mix_plan;

typedef struct cg_mix_tile {
    size_t block, col; /* the first column */
    size_t cols;       /* of the block from there on: the tile's own, or more */
} cg_mix_tile;

enum {
    CG_MIX_THREADS = 256,
    CG_MIX_WIDEST = 5, /* powers of two */
    CG_MIX_NARROWEST = 3,
    CG_MIX_DIRECT = 256, /* columns of a tile of the direct kernel, a thread each */
    CG_MIX_ROWS = 16     /* rows a thread of it computes */
};

/* Bytes of shared memory of a fused block: a quad a thread, and n rows of a tile of 2^shift columns, twice from two
 * rounds on. */
CG_BOTH size_t cg_mix_room(size_t n, size_t rounds, uint32_t shift) {
    return CG_MIX_THREADS * sizeof(cg_quad) + (rounds > 1 ? 2 : 1) * n * (sizeof(float) << shift);
}

/* The widest tile, of 2^shift columns, that fits in `shared` bytes; 0 if none does. 8 columns are 32 bytes, the least
 * that memory delivers; 32 are a whole line. */
CG_BOTH uint32_t cg_mix_shift(size_t n, size_t rounds, size_t shared) {
    for (uint32_t shift = CG_MIX_WIDEST; shift >= CG_MIX_NARROWEST; shift--)
        if (cg_mix_room(n, rounds, shift) <= shared) return shift;
    return 0;
}

CG_BOTH cg_mix_tile cg_mix_tile_at(const cg_mix_plan *k, size_t width, size_t tile) {
    cg_mix_tile t;
    t.block = cg_segment_of(k->first_tile, k->blocks, tile);
    t.col = (size_t)k->col_start[t.block] + (tile - (size_t)k->first_tile[t.block]) * width;
    t.cols = (size_t)k->col_start[t.block + 1] - t.col;
    return t;
}

CG_BODY const uint32_t *cg_mix_matrix(const cg_mix_plan *k, size_t round, size_t block) {
    return k->start + (size_t)k->which[round * k->blocks + block] * (k->n + 1);
}

/* The entries of a row in order, one FMA each, from 0: the bits of the CPU's kernels that have FMA. Four entries are
 * loaded at once, so that they do not wait for each other. src: quad q of row 0; rows `quads` apart. */
CG_BODY cg_quad cg_mix_quad(const cg_mix_plan *k, const uint32_t *start, size_t row, const cg_quad *src,
                            uint32_t quads) {
    cg_quad sum = {{0.0f, 0.0f, 0.0f, 0.0f}};
    const uint32_t end = start[row + 1];
    for (uint32_t e = start[row]; e < end; e += 4) {
        cg_mix_entry entry[4];
        cg_quad x[4];
        CG_UNROLL(4)
        for (uint32_t i = 0; i < 4; i++) entry[i] = k->entries[e + i < end ? e + i : e];
        CG_UNROLL(4)
        for (uint32_t i = 0; i < 4; i++) x[i] = src[entry[i].from * quads];
        CG_UNROLL(4)
        for (uint32_t i = 0; i < 4; i++)
            for (int c = 0; c < 4 && e + i < end; c++) sum.v[c] = fmaf(entry[i].weight, x[i].v[c], sum.v[c]);
    }
    return sum;
}

/* The last round, from shared memory to y. Where rows of y are not aligned, a warp turns its quads into rows of single
 * columns by way of `turn`, a quad a thread. */
CG_BODY void cg_mix_last(const cg_mix_plan *k, const uint32_t *start, const cg_quad *from, float *y, size_t ldy,
                         size_t cols, uint32_t shift, uint32_t threads, cg_quad *turn) {
    const uint32_t width = 1u << shift, quads = width / 4;
    const int aligned = cg_aligned(y, ldy) && cols >= width;
    for (size_t first = 0; first < k->n; first += threads / quads) {
        CG_EACH_THREAD(t, threads) {
            const size_t row = first + t / quads;
            const uint32_t q = t % quads;
            if (row < k->n) {
                const cg_quad sum = cg_mix_quad(k, start, row, from + q, quads);
                if (aligned)
                    *(cg_quad *)(y + row * ldy + 4 * q) = sum;
                else
                    turn[t] = sum;
            }
        }
        CG_WARP_BARRIER();
        CG_EACH_THREAD(t, threads) {
            for (uint32_t i = 0; i < 4 && !aligned; i++) {
                const uint32_t at = t / 32 * 128 + i * 32 + t % 32, c = at % width;
                const size_t row = first + at / width;
                if (row < k->n && c < cols) y[row * ldy + c] = ((const float *)turn)[at];
            }
        }
        CG_WARP_BARRIER();
    }
}

/* All rounds of one tile of 2^shift columns, by CG_MIX_THREADS threads. room: cg_mix_room bytes of shared memory. */
CG_BODY void cg_mix_fused_body(const cg_mix_plan *k, const float *x, size_t ldx, float *y, size_t ldy, uint32_t shift,
                               size_t tile, uint32_t threads, cg_quad *room) {
    const uint32_t quads = (1u << shift) / 4;
    const cg_mix_tile at = cg_mix_tile_at(k, (size_t)1 << shift, tile);
    CG_BLOCK();
    cg_quad *from = room + threads, *to = from + k->n * quads;
    cg_tile_load(k->n, x + at.col, ldx, NULL, at.cols, shift, threads, (float *)from);
    for (size_t r = 0; r + 1 < k->rounds; r++) {
        const uint32_t *const start = cg_mix_matrix(k, r, at.block);
        CG_EACH_THREAD(t, threads) {
            const uint32_t q = t % quads;
            for (size_t row = t / quads; row < k->n; row += threads / quads)
                to[row * quads + q] = cg_mix_quad(k, start, row, from + q, quads);
        }
        CG_BARRIER();
        cg_quad *const swap = from;
        from = to;
        to = swap;
    }
    cg_mix_last(k, cg_mix_matrix(k, k->rounds - 1, at.block), from, y + at.col, ldy, at.cols, shift, threads, room);
}

/* One round of CG_MIX_ROWS rows of a tile of CG_MIX_DIRECT columns, a thread a column. src and dst do not overlap. */
CG_BODY void cg_mix_direct_body(const cg_mix_plan *k, size_t round, const float *src, size_t ld_src, float *dst,
                                size_t ld_dst, size_t tile, size_t group, uint32_t threads) {
    const cg_mix_tile at = cg_mix_tile_at(k, CG_MIX_DIRECT, tile);
    const uint32_t *const start = cg_mix_matrix(k, round, at.block);
    CG_BLOCK();
    CG_EACH_THREAD(t, threads) {
        const size_t first = group * CG_MIX_ROWS, end = first + CG_MIX_ROWS < k->n ? first + CG_MIX_ROWS : k->n;
        for (size_t row = first; t < at.cols && row < end; row++) {
            float sum = 0.0f;
            for (uint32_t e = start[row]; e < start[row + 1]; e++)
                sum = fmaf(k->entries[e].weight, src[k->entries[e].from * ld_src + at.col + t], sum);
            dst[row * ld_dst + at.col + t] = sum;
        }
    }
}
#endif
