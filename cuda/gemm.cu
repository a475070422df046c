#include "check.h"
#include "gemm.h"

static __global__ void __launch_bounds__(CG_GEMM_THREADS) gemm_kernel(cg_gemm g, float *c, size_t ldc) {
    __shared__ cg_gemm_room room;
    cg_gemm_body(&g, c, ldc, blockIdx.x, &room);
}

int cg_cuda_gemm_f32(int device, void *stream, const cg_gemm *g, float *c, size_t ldc, cg_err *err) {
    const size_t tiles = cg_gemm_tiles(g->m, g->n);
    if (tiles == 0) return CG_OK;
    if (tiles > INT32_MAX) return cg_fail(err, CG_EVALUE, "c: (%zu, %zu) is too large for one launch", g->m, g->n);
    CG_ON_DEVICE(device, err);
    gemm_kernel<<<static_cast<unsigned>(tiles), CG_GEMM_THREADS, 0, cg_stream(stream)>>>(*g, c, ldc);
    CG_CUDA_LAUNCHED(err);
    return CG_OK;
}
