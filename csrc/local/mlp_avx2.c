#include "../base/simd_avx2.h"
enum { MAX_ROWS = 6, MAX_PANELS = 1, MAX_TILE = 12 }; /* 12 sums + 2 vectors of dz + 1 broadcast, of 16 registers */
#include "mlp_simd.h"

UPDATE_TILE(1, 1)
UPDATE_TILE(2, 1)
UPDATE_TILE(3, 1)
UPDATE_TILE(4, 1)
UPDATE_TILE(5, 1)
UPDATE_TILE(6, 1)

static update_tile_fn *const tiles[MAX_ROWS + 1][MAX_PANELS] = {
    {0}, {update_1x1}, {update_2x1}, {update_3x1}, {update_4x1}, {update_5x1}, {update_6x1},
};

static void update(size_t in, size_t panels, size_t m, const float *const *x, const float *dz, size_t ldz,
                   const cg_sgd *sgd, float *w, float *v) {
    update_all(tiles, in, panels, m, x, dz, ldz, sgd, w, v);
}

const cg_mlp_kernels cg_mlp_avx2 = {update, softmax, derivative, sgd_step};
