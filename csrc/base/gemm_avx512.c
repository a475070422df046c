#include "simd_avx512.h"
enum { MAX_ROWS = 12, MAX_TILE = 24, WIDTHS = 4 }; /* 24 sums + 2 vectors of B + 1 broadcast, of 32 registers */
#include "gemm_simd.h"

TILE(1, 1)
TILE(2, 1)
TILE(3, 1)
TILE(4, 1)
TILE(5, 1)
TILE(6, 1)
TILE(7, 1)
TILE(8, 1)
TILE(9, 1)
TILE(10, 1)
TILE(11, 1)
TILE(12, 1)
TILE(1, 2)
TILE(2, 2)
TILE(3, 2)
TILE(4, 2)
TILE(5, 2)
TILE(6, 2)
TILE(7, 2)
TILE(8, 2)
TILE(9, 2)
TILE(10, 2)
TILE(11, 2)
TILE(12, 2)
TILE(1, 4)
TILE(2, 4)
TILE(3, 4)
TILE(4, 4)
TILE(5, 4)
TILE(6, 4)
TILE(1, 8)

static tile_fn *const tiles[MAX_ROWS + 1][WIDTHS] = {
    {0},
    {tile_1x1, tile_1x2, tile_1x4, tile_1x8},
    {tile_2x1, tile_2x2, tile_2x4},
    {tile_3x1, tile_3x2, tile_3x4},
    {tile_4x1, tile_4x2, tile_4x4},
    {tile_5x1, tile_5x2, tile_5x4},
    {tile_6x1, tile_6x2, tile_6x4},
    {tile_7x1, tile_7x2},
    {tile_8x1, tile_8x2},
    {tile_9x1, tile_9x2},
    {tile_10x1, tile_10x2},
    {tile_11x1, tile_11x2},
    {tile_12x1, tile_12x2},
};

void cg_gemm_avx512(size_t m, size_t n, size_t k, const float *const *a, const float *packed, const float *bias,
                    int relu, float *const *c) {
    gemm_block(tiles, m, n, k, a, packed, bias, relu, c);
}
