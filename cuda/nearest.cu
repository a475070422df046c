#include "check.h"
#include "nearest.h"

static __global__ void norm_kernel(const float *x, size_t ld, size_t dim, float *out) {
    __shared__ double room[CG_NEAREST_THREADS];
    cg_norm_body(x, ld, dim, out, blockIdx.x, blockDim.x, room);
}

template <int WIDE>
static __global__ void __launch_bounds__(CG_TENSOR_THREADS, CG_TENSOR_BLOCKS) filter_kernel(cg_nearest n) {
    extern __shared__ cg_quad room[];
    cg_filter_body(&n, WIDE, blockIdx.x, reinterpret_cast<cg_filter_room *>(room));
}

static __global__ void __launch_bounds__(CG_NEAREST_THREADS)
    decide_kernel(cg_nearest n, float bound, int64_t *index, float *distance) {
    __shared__ cg_decide_room room;
    cg_decide_body(&n, bound, index, distance, blockIdx.x, blockDim.x, &room);
}

int cg_cuda_norms_f32(int device, void *stream, size_t rows, size_t dim, const float *x, size_t ld, float *out,
                      cg_err *err) {
    if (rows == 0) return CG_OK;
    if (rows > INT32_MAX) return cg_fail(err, CG_EVALUE, "x: expected fewer than 2**31 rows, got %zu", rows);
    CG_ON_DEVICE(device, err);
    norm_kernel<<<static_cast<unsigned>(rows), CG_NEAREST_THREADS, 0, cg_stream(stream)>>>(x, ld, dim, out);
    CG_CUDA_LAUNCHED(err);
    return CG_OK;
}

int cg_cuda_nearest_f32(int device, void *stream, const cg_nearest *n, float bound, int64_t *index, float *distance,
                        cg_err *err) {
    if (n->batch == 0) return CG_OK;
    const size_t tiles = cg_tensor_tiles(n->batch, n->keys);
    if (tiles > INT32_MAX || n->batch > INT32_MAX)
        return cg_fail(err, CG_EVALUE, "queries: too many for one launch: %zu of them, %zu keys", n->batch, n->keys);
    CG_ON_DEVICE(device, err);
    if (tiles > 0) {
        const auto filter = cg_nearest_wide(n) ? filter_kernel<1> : filter_kernel<0>;
        CG_CUDA(cudaFuncSetAttribute(filter, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(cg_filter_room)), err);
        filter<<<static_cast<unsigned>(tiles), CG_TENSOR_THREADS, sizeof(cg_filter_room), cg_stream(stream)>>>(*n);
        CG_CUDA_LAUNCHED(err);
    }
    decide_kernel<<<static_cast<unsigned>(n->batch), CG_NEAREST_THREADS, 0, cg_stream(stream)>>>(*n, bound, index,
                                                                                                 distance);
    CG_CUDA_LAUNCHED(err);
    return CG_OK;
}
