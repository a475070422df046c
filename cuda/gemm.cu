#include "check.h"
#include "gemm.h"

template <int WIDE>
static __global__ void __launch_bounds__(CG_GEMM_THREADS, 2) gemm_kernel(cg_gemm g, float *c, size_t ldc) {
    extern __shared__ cg_quad room[];
    cg_gemm_body(&g, WIDE, c, ldc, blockIdx.x, reinterpret_cast<cg_gemm_room *>(room));
}

int cg_cuda_gemm_f32(int device, void *stream, const cg_gemm *g, float *c, size_t ldc, cg_err *err) {
    const size_t tiles = cg_gemm_tiles(g->m, g->n);
    if (tiles == 0) return CG_OK;
    if (tiles > INT32_MAX) return cg_fail(err, CG_EVALUE, "c: (%zu, %zu) is too large for one launch", g->m, g->n);
    CG_ON_DEVICE(device, err);
    const auto kernel = cg_gemm_wide(g) ? gemm_kernel<1> : gemm_kernel<0>;
    CG_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(cg_gemm_room)), err);
    kernel<<<static_cast<unsigned>(tiles), CG_GEMM_THREADS, sizeof(cg_gemm_room), cg_stream(stream)>>>(*g, c, ldc);
    CG_CUDA_LAUNCHED(err);
    return CG_OK;
}
