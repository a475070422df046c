/* csrc/base/gemm_simd.h -- the GEMM micro-kernel, once for all vector widths. Include after simd_avx2.h or
 * simd_avx512.h.
 *
 * A tile is R rows x P panels of C, all of it in registers: per k, P panels' 16 floats are loaded, R values of A are
 * broadcast, and R x P x (16 / width) FMAs run. The FMA units need about ten independent chains and few loads an FMA;
 * the tables say which (R, P) the register file holds. */
#ifndef CG_GEMM_SIMD_H
#define CG_GEMM_SIMD_H
#include "gemm.h"
#include "gemm_kernels.h"

enum { VECS = CG_PANEL / SIMD_WIDTH }; /* vectors in a panel's line */

/* n: valid columns of the tile, (P - 1) 16 < n <= P 16. Inlined with constant R and P, so that the loops over them
 * unroll and `sum` lives in registers. */
SIMD_INLINE void tile(const size_t R, const size_t P, size_t n, size_t k, const float *const *a, const float *b,
                      const float *bias, int relu, float *const *c, size_t j, int ahead) {
    vf sum[MAX_TILE];
    const float *row[MAX_ROWS];
    const size_t V = P * VECS;
#pragma GCC unroll 32
    for (size_t i = 0; i < R * V; i++) sum[i] = v_zero();
#pragma GCC unroll 32
    for (size_t r = 0; r < R; r++) row[r] = a[r];
#pragma GCC unroll 4
    for (size_t t = 0; t < k; t++) {
        vf w[MAX_TILE];
#pragma GCC unroll 32
        for (size_t v = 0; v < V; v++)
            w[v] = v_load(b + (v / VECS) * k * CG_PANEL + t * CG_PANEL + (v % VECS) * SIMD_WIDTH);
        /* The next panels, towards the second-level cache: with few rows the product waits for memory. Asked of the
         * first tile of rows; wide tiles read streams enough without it. (An address beyond the end is harmless, and as
         * an integer no pointer.) */
        if (R >= 4 && P <= 2 && ahead) {
#pragma GCC unroll 2
            for (size_t p = 0; p < P; p++)
                __builtin_prefetch((const void *)((uintptr_t)b + ((P + p) * k + t) * CG_PANEL * sizeof(float)), 0, 2);
        }
#pragma GCC unroll 32
        for (size_t r = 0; r < R; r++) {
            const vf x = v_set1(row[r][t]);
#pragma GCC unroll 32
            for (size_t v = 0; v < V; v++) sum[r * V + v] = v_fma(x, w[v], sum[r * V + v]);
        }
    }
#pragma GCC unroll 32
    for (size_t v = 0; v < V; v++) {
        const size_t at = v * SIMD_WIDTH;
        const size_t lanes = n <= at ? 0 : n - at < SIMD_WIDTH ? n - at : SIMD_WIDTH;
        const vf shift =
            bias ? lanes == SIMD_WIDTH ? v_load(bias + j + at) : v_load_n(bias + j + at, lanes, 0.0f) : v_zero();
#pragma GCC unroll 32
        for (size_t r = 0; r < R; r++) {
            vf s = v_add(sum[r * V + v], shift);
            if (relu) s = v_max(v_zero(), s);
            if (lanes == SIMD_WIDTH)
                v_store(c[r] + j + at, s);
            else
                v_store_n(c[r] + j + at, lanes, s);
        }
    }
}

typedef void tile_fn(size_t n, size_t k, const float *const *a, const float *b, const float *bias, int relu,
                     float *const *c, size_t j, int ahead);
#define TILE(R, P)                                                                                                     \
    static void tile_##R##x##P(size_t n, size_t k, const float *const *a, const float *b, const float *bias, int relu, \
                               float *const *c, size_t j, int ahead) {                                                 \
        tile(R, P, n, k, a, b, bias, relu, c, j, ahead);                                                               \
    }

/* tiles[R][log2 P]; NULL where the registers do not reach. Rows are dealt to tiles evenly (8 = 4 + 4, not 6 + 2), and
 * a row of the table is at least as wide as the next, so that the width of the largest tile serves all. */
SIMD_INLINE void gemm_block(tile_fn *const tiles[][WIDTHS], size_t m, size_t n, size_t k, const float *const *a,
                            const float *b, const float *bias, int relu, float *const *c) {
    const size_t count = (m + MAX_ROWS - 1) / MAX_ROWS;
    if (count == 0) return;
    const size_t rows = m / count, larger = m % count; /* the first `larger` tiles have one row more */
    tile_fn *const *const most = tiles[rows + (larger > 0)];
    for (size_t j = 0; j < n;) {
        size_t w = WIDTHS - 1;
        while (w > 0 && (!most[w] || n - j <= (CG_PANEL << w) - CG_PANEL)) w--;
        const size_t cols = n - j < CG_PANEL << w ? n - j : CG_PANEL << w;
        for (size_t q = 0, i = 0; q < count; q++) {
            const size_t r = rows + (q < larger);
            tiles[r][w](cols, k, a + i, b, bias, relu, c + i, j, q == 0);
            i += r;
        }
        b += k * (CG_PANEL << w);
        j += CG_PANEL << w;
    }
}
#endif
