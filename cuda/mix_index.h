/* cuda/mix_index.h -- the bodies of the mixing kernels: which element of X a thread computes, and from which.
 *
 * A tile is up to `width` columns of one column block, all rows. Fused: a block of threads keeps its tile in shared
 * memory, twice, and goes back and forth between the two for all rounds; X is read once and written once. Since the
 * whole tile is read before anything of it is written, y may be x. Direct, where not even a narrow tile of all rows
 * fits: one launch a round, from one matrix in device memory to another. */
#ifndef CG_CUDA_MIX_INDEX_H
#define CG_CUDA_MIX_INDEX_H
#include "shim.h"

typedef struct cg_mix_entry { /* x[row] += weight x[from] */
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

/* The widest tile, of 2^shift columns, of which two copies of all n rows fit in `shared` bytes; 0 if none does. 8
 * columns are 32 bytes, the least that memory delivers; 32 are a whole line. */
CG_BOTH uint32_t cg_mix_shift(size_t n, size_t shared) {
    for (uint32_t shift = CG_MIX_WIDEST; shift >= CG_MIX_NARROWEST; shift--)
        if (n <= shared / (2 * sizeof(float) << shift)) return shift;
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

/* The entries of a row in order, one FMA each, from 0: the bits of the CPU's kernels that have FMA. src: quad q of row
 * 0; rows `quads` apart. */
CG_BODY cg_quad cg_mix_quad(const cg_mix_plan *k, const uint32_t *start, size_t row, const cg_quad *src,
                            uint32_t quads) {
    cg_quad sum = {{0.0f, 0.0f, 0.0f, 0.0f}};
    for (uint32_t e = start[row]; e < start[row + 1]; e++) {
        const cg_mix_entry entry = k->entries[e];
        const cg_quad x = src[(size_t)entry.from * quads];
        for (int i = 0; i < 4; i++) sum.v[i] = fmaf(entry.weight, x.v[i], sum.v[i]);
    }
    return sum;
}

/* All rounds of one tile of 2^shift columns, by at least 2^shift threads, a power of two. room: 2 n quads of a tile in
 * shared memory. */
CG_BODY void cg_mix_fused_body(const cg_mix_plan *k, const float *x, size_t ldx, float *y, size_t ldy, uint32_t shift,
                               size_t tile, uint32_t threads, cg_quad *room) {
    const uint32_t width = 1u << shift, quads = width / 4;
    const cg_mix_tile at = cg_mix_tile_at(k, width, tile);
    CG_BLOCK();
    cg_quad *from = room, *to = room + k->n * quads;
    CG_EACH_THREAD(t, threads) {
        const uint32_t c = t % width;
        float *const in = (float *)from;
        CG_UNROLL(8)
        for (size_t row = t >> shift; row < k->n; row += threads >> shift)
            in[(row << shift) + c] = c < at.cols ? x[row * ldx + at.col + c] : 0.0f;
    }
    CG_BARRIER();
    for (size_t r = 0; r < k->rounds; r++) {
        const uint32_t *const start = cg_mix_matrix(k, r, at.block);
        CG_EACH_THREAD(t, threads) {
            const uint32_t q = t % quads;
            for (size_t row = t >> (shift - 2); row < k->n; row += threads >> (shift - 2))
                to[row * quads + q] = cg_mix_quad(k, start, row, from + q, quads);
        }
        CG_BARRIER();
        cg_quad *const swap = from;
        from = to;
        to = swap;
    }
    CG_EACH_THREAD(t, threads) {
        const uint32_t c = t % width;
        const float *const out = (const float *)from;
        for (size_t row = t >> shift; row < k->n && c < at.cols; row += threads >> shift)
            y[row * ldy + at.col + c] = out[(row << shift) + c];
    }
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
