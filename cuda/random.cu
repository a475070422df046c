#include "check.h"
#include "random.h"

template <int KIND> static __global__ void random_kernel(cg_address at, uint64_t first, size_t n, void *out) {
    cg_random_body(KIND, &at, first, n, out, blockIdx.x, blockDim.x);
}

int cg_cuda_random(int device, void *stream, int kind, const cg_address *at, uint64_t first, size_t n, void *out,
                   cg_err *err) {
    if (n == 0) return CG_OK;
    CG_ON_DEVICE(device, err);
    const uint64_t blocks = cg_div_up(cg_random_blocks(first, n), CG_RANDOM_THREADS);
    if (blocks > INT32_MAX) return cg_fail(err, CG_EVALUE, "n: expected at most 2**41 numbers, got %zu", n);
    auto *const kernel = kind == CG_RANDOM_U32   ? random_kernel<CG_RANDOM_U32>
                         : kind == CG_RANDOM_F32 ? random_kernel<CG_RANDOM_F32>
                                                 : random_kernel<CG_RANDOM_NORMAL>;
    kernel<<<static_cast<unsigned>(blocks), CG_RANDOM_THREADS, 0, cg_stream(stream)>>>(*at, first, n, out);
    CG_CUDA_LAUNCHED(err);
    return CG_OK;
}
