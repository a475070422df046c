/* cuda/tile_index.h -- a tile of a matrix, all rows of some columns, on its way into shared memory. */
#ifndef CG_CUDA_TILE_INDEX_H
#define CG_CUDA_TILE_INDEX_H
#include "shim.h"

/* Stores a quad that nobody reads soon: it makes room in the L2 cache before others do. */
CG_BODY void cg_quad_stream(float *to, cg_quad quad) {
#ifdef __CUDACC__
    __stcs((float4 *)to, make_float4(quad.v[0], quad.v[1], quad.v[2], quad.v[3]));
#else
    *(cg_quad *)to = quad;
#endif
}

/* Whether quads of rows `ld` floats apart from `first` on can be moved whole. */
CG_BODY int cg_aligned(const float *first, size_t ld) {
    return ((uintptr_t)first | (ld * sizeof *first)) % sizeof(cg_quad) == 0;
}

/* The rows that count: rows[i], or all of them (rows NULL). */
CG_BODY const float *cg_fleet_row(const float *x, size_t ldx, const int64_t *rows, size_t i) {
    return x + (rows ? (size_t)rows[i] : i) * ldx;
}

/* Copies n rows from x on into a tile of 2^shift columns, or as many as the matrix has; a barrier ends it. All copies
 * are under way at once: whole quads where rows are aligned, single columns elsewhere. What is beyond the matrix stays
 * as it was. */
CG_BODY void cg_tile_load(size_t n, const float *x, size_t ldx, const int64_t *rows, size_t cols, uint32_t shift,
                          uint32_t threads, float *tile) {
    const uint32_t width = 1u << shift, quads = width / 4;
    const size_t whole = !cg_aligned(x, ldx) ? 0 : cols < width ? cols / 4 * 4 : width;
    CG_EACH_THREAD(t, threads) {
        const uint32_t q = t % quads * 4, c = t % width;
        for (size_t i = t / quads; q < whole && i < n; i += threads / quads)
            cg_copy_async(tile + i * width + q, cg_fleet_row(x, ldx, rows, i) + q, 16);
        for (size_t i = t / width; c >= whole && c < cols && i < n; i += threads / width)
            cg_copy_async(tile + i * width + c, cg_fleet_row(x, ldx, rows, i) + c, 4);
    }
    CG_COPIES_DONE();
}
#endif
