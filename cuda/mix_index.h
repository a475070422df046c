/* cuda/mix_index.h -- the bodies of the mixing kernels: which element of X a thread computes, and from which.
 *
 * A tile is up to `width` columns of one column block, all rows. Fused: a block of threads copies its tile into shared
 * memory, goes back and forth between that and a second one for all rounds but the last, which writes y; X is read once
 * and written once. Since the whole tile is read before anything of it is written, y may be x. Direct, where not even a
 * narrow tile of all rows fits: one launch a round, from one matrix in device memory to another. */
#ifndef CG_CUDA_MIX_INDEX_H
#define CG_CUDA_MIX_INDEX_H
#include "tile_index.h"

typedef struct CG_ALIGNED(8) cg_mix_entry { /* x[row] += weight x[from]; weight 0: no entry */
    uint32_t from;
    float weight;
} cg_mix_entry;

/* The matrices of every round and column block, in device memory. Different pairs may share a matrix. A matrix is cut
 * into slices of CG_MIX_SLICE rows, the last one filled up. In a slice the first entries of its rows come first, then
 * the second ones, ... up to the longest row, gaps filled with weight 0 and row 0: what the threads of a warp want
 * together lies together. */
typedef struct cg_mix_plan {
    size_t n, rounds, blocks;
    const uint64_t *col_start;   /* (blocks + 1) columns of a block */
    const uint64_t *first_tile;  /* (blocks + 1) tiles before a block's */
    const uint32_t *which;       /* (rounds, blocks) number of the matrix */
    const uint32_t *start;       /* (matrices, slices + 1) where a slice's entries begin */
    const cg_mix_entry *entries; /* zero weights left out */
} cg_mix_plan;

typedef struct cg_mix_tile {
    size_t block, col; /* the first column */
    size_t cols;       /* of the block from there on: the tile's own, or more */
} cg_mix_tile;

enum {
    CG_MIX_SLICE = 8,
    CG_MIX_THREADS = 512,
    CG_MIX_LANES = 4,       /* threads that share a row of a tile */
    CG_MIX_QUADS = 2,       /* of a row that a thread computes, at most: an entry is read once for them */
    CG_MIX_RESERVED = 1024, /* bytes of shared memory that each block costs besides its own */
    CG_MIX_WIDEST = 5,      /* powers of two */
    CG_MIX_NARROWEST = 3,
    CG_MIX_DIRECT = 256, /* columns of a tile of the direct kernel, a thread each */
    CG_MIX_ROWS = 16     /* rows a thread of it computes */
};

/* Quads of one tile of n rows and 2^shift columns in shared memory; room for CG_MIX_QUADS quads a thread at least. */
CG_BOTH size_t cg_mix_tile_quads(size_t n, uint32_t shift) {
    const size_t least = CG_MIX_THREADS * CG_MIX_QUADS, tile = (n << shift) / 4;
    return tile > least ? tile : least;
}

/* Bytes of shared memory of a fused block: two tiles, or one where there is one round, and CG_MIX_QUADS quads a thread.
 */
CG_BOTH size_t cg_mix_room(size_t n, size_t rounds, uint32_t shift) {
    const size_t tile = cg_mix_tile_quads(n, shift), least = CG_MIX_THREADS * CG_MIX_QUADS;
    return (tile + (rounds > 1 ? tile : least)) * sizeof(cg_quad);
}

/* A tile has 2^shift columns: as many as leave two blocks room in `shared` bytes, so that one copies while the other
 * computes, else as many as fit; 0 if none do. 8 columns are 32 bytes, the least that memory delivers; 32 are a line.
 * With 1,000 rows on an H200 all widths are within a tenth of each other. */
CG_BOTH uint32_t cg_mix_shift(size_t n, size_t rounds, size_t shared) {
    for (size_t blocks = 2; blocks > 0; blocks--)
        for (uint32_t shift = CG_MIX_WIDEST; shift >= CG_MIX_NARROWEST; shift--)
            if (blocks * (cg_mix_room(n, rounds, shift) + CG_MIX_RESERVED) <= shared + CG_MIX_RESERVED) return shift;
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
    return k->start + (size_t)k->which[round * k->blocks + block] * (cg_div_up(k->n, CG_MIX_SLICE) + 1);
}

/* The part of a row that a thread computes: `each` quads, `lanes` threads a row. Where two threads of a row read in one
 * half of it, those of the next row read in the other, so that eight threads meet all banks of shared memory once. */
typedef struct cg_mix_part {
    uint32_t quads, lanes, each, q[CG_MIX_QUADS];
} cg_mix_part;

CG_BODY cg_mix_part cg_mix_part_of(uint32_t shift, uint32_t t) {
    cg_mix_part m;
    m.quads = (1u << shift) / 4;
    m.lanes = m.quads < CG_MIX_LANES ? m.quads : CG_MIX_LANES;
    m.each = m.quads / m.lanes;
    CG_UNROLL(2)
    for (uint32_t h = 0; h < m.each; h++) m.q[h] = (t / m.lanes + h) % m.each * m.lanes + t % m.lanes;
    return m;
}

/* The entries of a row in order, one FMA each, from 0: the bits of the CPU's kernels that have FMA. While one entry is
 * worked on the next is under way. src: n rows of a tile. */
CG_BODY void cg_mix_row(const cg_mix_plan *k, const uint32_t *start, uint32_t row, const cg_quad *src,
                        const cg_mix_part *m, cg_quad *sum) {
    const uint32_t end = start[row / CG_MIX_SLICE + 1];
    uint32_t e = start[row / CG_MIX_SLICE] + row % CG_MIX_SLICE;
    cg_mix_entry entry = {0, 0.0f}, next = entry;
    if (e < end) next = k->entries[e];
    CG_UNROLL(2)
    for (uint32_t h = 0; h < m->each; h++)
        for (int c = 0; c < 4; c++) sum[h].v[c] = 0.0f;
    while (e < end) {
        entry = next;
        e += CG_MIX_SLICE;
        if (e < end) next = k->entries[e];
        cg_quad x[CG_MIX_QUADS];
        CG_UNROLL(2)
        for (uint32_t h = 0; h < m->each; h++) x[h] = src[entry.from * m->quads + m->q[h]];
        CG_UNROLL(2)
        for (uint32_t h = 0; h < m->each; h++)
            for (int c = 0; c < 4; c++) {
                const float more = fmaf(entry.weight, x[h].v[c], sum[h].v[c]);
                sum[h].v[c] = entry.weight != 0.0f ? more : sum[h].v[c]; /* no branch: the loads above stay together */
            }
    }
}

/* A round from tile to tile. */
CG_BODY void cg_mix_inner(const cg_mix_plan *k, const uint32_t *start, const cg_quad *from, cg_quad *to, uint32_t shift,
                          uint32_t threads) {
    CG_EACH_THREAD(t, threads) {
        const cg_mix_part m = cg_mix_part_of(shift, t);
        for (uint32_t row = t / m.lanes; row < k->n; row += threads / m.lanes) {
            cg_quad sum[CG_MIX_QUADS];
            cg_mix_row(k, start, row, from, &m, sum);
            CG_UNROLL(2)
            for (uint32_t h = 0; h < m.each; h++) to[row * m.quads + m.q[h]] = sum[h];
        }
    }
    CG_BARRIER();
}

/* The last round, from a tile to y. Where quads of y are not aligned or not whole, a warp turns its rows into single
 * columns by way of `turn`, CG_MIX_QUADS quads a thread that do not overlap the tile. */
CG_BODY void cg_mix_last(const cg_mix_plan *k, const uint32_t *start, const cg_quad *from, float *y, size_t ldy,
                         size_t cols, uint32_t shift, uint32_t threads, cg_quad *turn) {
    const uint32_t width = 1u << shift, step = threads / cg_mix_part_of(shift, 0).lanes;
    const int aligned = cg_aligned(y, ldy) && cols >= width;
    for (uint32_t first = 0; first < k->n; first += step) {
        CG_EACH_THREAD(t, threads) {
            const cg_mix_part m = cg_mix_part_of(shift, t);
            const uint32_t row = first + t / m.lanes;
            cg_quad sum[CG_MIX_QUADS];
            if (row < k->n) cg_mix_row(k, start, row, from, &m, sum);
            CG_UNROLL(2)
            for (uint32_t h = 0; h < m.each && row < k->n; h++) {
                if (aligned)
                    cg_quad_stream(y + (size_t)row * ldy + 4 * m.q[h], sum[h]);
                else
                    turn[t / m.lanes * m.quads + m.q[h]] = sum[h];
            }
        }
        CG_WARP_BARRIER();
        CG_EACH_THREAD(t, threads) {
            const uint32_t own = 32 / cg_mix_part_of(shift, t).lanes * width; /* floats of a warp */
            for (uint32_t i = t % 32; i < own && !aligned; i += 32) {
                const uint32_t at = t / 32 * own + i, c = at % width;
                const uint32_t row = first + at / width;
                if (row < k->n && c < cols) y[(size_t)row * ldy + c] = ((const float *)turn)[at];
            }
        }
        CG_WARP_BARRIER();
    }
}

/* All rounds of one tile of 2^shift columns, by CG_MIX_THREADS threads. room: cg_mix_room bytes of shared memory. */
CG_BODY void cg_mix_fused_body(const cg_mix_plan *k, const float *x, size_t ldx, float *y, size_t ldy, uint32_t shift,
                               size_t tile, uint32_t threads, cg_quad *room) {
    const cg_mix_tile at = cg_mix_tile_at(k, (size_t)1 << shift, tile);
    CG_BLOCK();
    cg_quad *from = room, *to = room + cg_mix_tile_quads(k->n, shift);
    cg_tile_load(k->n, x + at.col, ldx, NULL, at.cols, shift, threads, (float *)from);
    for (size_t r = 0; r + 1 < k->rounds; r++) {
        cg_mix_inner(k, cg_mix_matrix(k, r, at.block), from, to, shift, threads);
        cg_quad *const swap = from;
        from = to;
        to = swap;
    }
    cg_mix_last(k, cg_mix_matrix(k, k->rounds - 1, at.block), from, y + at.col, ldy, at.cols, shift, threads, to);
}

/* One round of CG_MIX_ROWS rows of a tile of CG_MIX_DIRECT columns, a thread a column. src and dst do not overlap. */
CG_BODY void cg_mix_direct_body(const cg_mix_plan *k, size_t round, const float *src, size_t ld_src, float *dst,
                                size_t ld_dst, size_t tile, size_t group, uint32_t threads) {
    const cg_mix_tile at = cg_mix_tile_at(k, CG_MIX_DIRECT, tile);
    const uint32_t *const start = cg_mix_matrix(k, round, at.block);
    CG_BLOCK();
    CG_EACH_THREAD(t, threads) {
        const size_t first = group * CG_MIX_ROWS, last = first + CG_MIX_ROWS < k->n ? first + CG_MIX_ROWS : k->n;
        for (size_t row = first; t < at.cols && row < last; row++) {
            float sum = 0.0f;
            const uint32_t end = start[row / CG_MIX_SLICE + 1];
            for (uint32_t e = start[row / CG_MIX_SLICE] + row % CG_MIX_SLICE; e < end; e += CG_MIX_SLICE) {
                const cg_mix_entry entry = k->entries[e];
                if (entry.weight != 0.0f) sum = fmaf(entry.weight, src[entry.from * ld_src + at.col + t], sum);
            }
            dst[row * ld_dst + at.col + t] = sum;
        }
    }
}
#endif
