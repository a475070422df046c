#include "../base/simd_avx512.h"
enum { MAX_ROWS = 12, MAX_PANELS = 2, MAX_TILE = 24 }; /* 24 sums + 2 vectors of dz + 1 broadcast, of 32 registers */
#include "mlp_simd.h"

UPDATE_TILE(1, 1)
UPDATE_TILE(2, 1)
UPDATE_TILE(3, 1)
UPDATE_TILE(4, 1)
UPDATE_TILE(5, 1)
UPDATE_TILE(6, 1)
UPDATE_TILE(7, 1)
UPDATE_TILE(8, 1)
UPDATE_TILE(9, 1)
UPDATE_TILE(10, 1)
UPDATE_TILE(11, 1)
UPDATE_TILE(12, 1)
UPDATE_TILE(1, 2)
UPDATE_TILE(2, 2)
UPDATE_TILE(3, 2)
UPDATE_TILE(4, 2)
UPDATE_TILE(5, 2)
UPDATE_TILE(6, 2)
UPDATE_TILE(7, 2)
UPDATE_TILE(8, 2)
UPDATE_TILE(9, 2)
UPDATE_TILE(10, 2)
UPDATE_TILE(11, 2)
UPDATE_TILE(12, 2)

static update_tile_fn *const tiles[MAX_ROWS + 1][MAX_PANELS] = {
    {0},
    {update_1x1, update_1x2},
    {update_2x1, update_2x2},
    {update_3x1, update_3x2},
    {update_4x1, update_4x2},
    {update_5x1, update_5x2},
    {update_6x1, update_6x2},
    {update_7x1, update_7x2},
    {update_8x1, update_8x2},
    {update_9x1, update_9x2},
    {update_10x1, update_10x2},
    {update_11x1, update_11x2},
    {update_12x1, update_12x2},
};

static void update(size_t in, size_t panels, size_t m, const float *const *x, const float *dz, size_t ldz,
                   const cg_sgd *sgd, float *w, float *v) {
    update_all(tiles, in, panels, m, x, dz, ldz, sgd, w, v);
}

const cg_mlp_kernels cg_mlp_avx512 = {update, softmax, derivative, sgd_step};
