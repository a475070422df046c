#include "simd_avx2.h"
enum { MAX_ROWS = 6, MAX_TILE = 12, WIDTHS = 3 }; /* 12 sums + 2 vectors of B + 1 broadcast, of 16 registers */
#include "gemm_simd.h"

TILE(1, 1)
TILE(2, 1)
TILE(3, 1)
TILE(4, 1)
TILE(5, 1)
TILE(6, 1)
TILE(1, 2)
TILE(2, 2)
TILE(1, 4)

static tile_fn *const tiles[MAX_ROWS + 1][WIDTHS] = {
    {0}, {tile_1x1, tile_1x2, tile_1x4}, {tile_2x1, tile_2x2}, {tile_3x1}, {tile_4x1}, {tile_5x1}, {tile_6x1},
};

void cg_gemm_avx2(size_t m, size_t n, size_t k, const float *const *a, const float *packed, const float *bias, int relu,
                  float *const *c) {
    gemm_block(tiles, m, n, k, a, packed, bias, relu, c);
}

/* Eight rows of eight: pairs, then quads, then halves change places. */
static void transpose_8x8(const float *src, size_t lds, float *dst, size_t ldd) {
    __m256 a[8], b[8];
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; i++) a[i] = _mm256_loadu_ps(src + i * lds);
#pragma GCC unroll 4
    for (size_t i = 0; i < 8; i += 2) {
        b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
#pragma GCC unroll 2
    for (size_t i = 0; i < 8; i += 4) {
        a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
        a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xEE);
        a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
        a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xEE);
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
        _mm256_storeu_ps(dst + i * ldd, _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
        _mm256_storeu_ps(dst + (i + 4) * ldd, _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
    }
}

void cg_transpose_avx2(size_t rows, size_t cols, const float *src, size_t lds, float *dst, size_t ldd) {
    const size_t whole_rows = rows & ~(size_t)7, whole_cols = cols & ~(size_t)7;
    for (size_t c = 0; c < whole_cols; c += 8)
        for (size_t r = 0; r < whole_rows; r += 8) transpose_8x8(src + r * lds + c, lds, dst + c * ldd + r, ldd);
    for (size_t c = 0; c < cols; c++)
        for (size_t r = c < whole_cols ? whole_rows : 0; r < rows; r++) dst[c * ldd + r] = src[r * lds + c];
}
