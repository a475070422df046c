#include "check.h"
#include "rowconv.h"

static __global__ void pack_kernel(cg_patch p, uint32_t down, size_t quads, int flipped, const float *weight,
                                   size_t ldw, cg_quad *packed) {
    cg_rowconv_pack_body(&p, down, quads, flipped, weight, ldw, packed, blockIdx.x);
}

template <int DOWN, int WIDE>
static __global__ void __launch_bounds__(CG_ROWCONV_THREADS, DOWN < 4 ? 2 : 1)
    conv_kernel(cg_patch p, const float *x, const cg_quad *packed, const float *bias, size_t ldb, float *y) {
    extern __shared__ cg_quad room[];
    cg_rowconv_body(&p, DOWN, WIDE, x, packed, bias, ldb, y, blockIdx.x, room);
}

template <int ALONG, int WIDE>
static __global__ void __launch_bounds__(CG_ROWCONV_THREADS)
    weight_kernel(cg_rowgrad k, size_t rows, const float *gy, const float *x, float *gw) {
    extern __shared__ cg_quad room[];
    cg_rowgrad_body(&k, ALONG, WIDE, rows, gy, x, gw, blockIdx.x, room);
}

static __global__ void sum_kernel(size_t splits, size_t size, const float *part, float *out) {
    cg_rowgrad_sum_body(splits, size, part, out, blockIdx.x);
}

static int shared_of(int device, size_t *shared, cg_err *err) {
    int bytes = 0;
    CG_CUDA(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), err);
    *shared = static_cast<size_t>(bytes);
    return CG_OK;
}

static int too_large(cg_err *err) { return cg_fail(err, CG_EVALUE, "x: too large for one launch"); }

int cg_cuda_rowconv_work(int device, const cg_rowconv *c, size_t *forward, size_t *gradient, cg_err *err) {
    size_t shared;
    const int rc = shared_of(device, &shared, err);
    return rc ? rc : (cg_rowconv_sizes(c, shared, forward, gradient), CG_OK);
}

int cg_cuda_rowconv_f32(int device, void *stream, const cg_rowconv *c, int flipped, const float *x, const float *weight,
                        size_t ldw, const float *bias, size_t ldb, float *work, float *y, cg_err *err) {
    size_t shared;
    const int rc = shared_of(device, &shared, err), wide = cg_rowconv_wide(c, x, NULL);
    if (rc) return rc;
    cg_patch p;
    const uint32_t down = cg_rowconv_plan(&p, c, shared, wide);
    const size_t blocks = down ? cg_rowconv_blocks(&p, down, c->rows) : 0;
    const size_t quads = down ? c->rows * cg_rowconv_packed(&p, down) : 0;
    if (!down || blocks > INT32_MAX || quads / CG_ROWCONV_THREADS > INT32_MAX - 1) return too_large(err);
    if (blocks == 0) return CG_OK;
    CG_ON_DEVICE(device, err);
    cg_quad *const packed = reinterpret_cast<cg_quad *>(work);
    pack_kernel<<<static_cast<unsigned>(cg_div_up(quads, CG_ROWCONV_THREADS)), CG_ROWCONV_THREADS, 0,
                  cg_stream(stream)>>>(p, down, quads, flipped, weight, ldw, packed);
    CG_CUDA_LAUNCHED(err);
    const auto kernel = down == 1   ? wide ? conv_kernel<1, 1> : conv_kernel<1, 0>
                        : down == 2 ? wide ? conv_kernel<2, 1> : conv_kernel<2, 0>
                        : wide      ? conv_kernel<4, 1>
                                    : conv_kernel<4, 0>;
    const size_t room = cg_rowconv_room(&p, down);
    CG_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(room)), err);
    kernel<<<static_cast<unsigned>(blocks), CG_ROWCONV_THREADS, room, cg_stream(stream)>>>(p, x, packed, bias, ldb, y);
    CG_CUDA_LAUNCHED(err);
    return CG_OK;
}

int cg_cuda_rowconv_weight_f32(int device, void *stream, const cg_rowconv *c, const float *gy, const float *x,
                               float *work, float *gw, cg_err *err) {
    size_t shared;
    const int rc = shared_of(device, &shared, err), wide = cg_rowconv_wide(c, x, gy);
    if (rc) return rc;
    cg_rowgrad k;
    if (!cg_rowgrad_plan(&k, c, shared, wide)) return too_large(err);
    const size_t blocks = cg_rowgrad_blocks(&k, c->rows), size = c->rows * cg_rowgrad_size(&k);
    if (blocks > INT32_MAX || size / CG_ROWCONV_THREADS > INT32_MAX - 1) return too_large(err);
    if (blocks == 0) return CG_OK;
    CG_ON_DEVICE(device, err);
    const auto kernel = k.along == 4    ? wide ? weight_kernel<4, 1> : weight_kernel<4, 0>
                        : k.along == 10 ? wide ? weight_kernel<10, 1> : weight_kernel<10, 0>
                        : wide          ? weight_kernel<CG_ROWGRAD_MOST, 1>
                                        : weight_kernel<CG_ROWGRAD_MOST, 0>;
    const size_t room = cg_rowgrad_room(&k);
    CG_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(room)), err);
    kernel<<<static_cast<unsigned>(blocks), CG_ROWCONV_THREADS, room, cg_stream(stream)>>>(k, c->rows, gy, x,
                                                                                           k.splits > 1 ? work : gw);
    CG_CUDA_LAUNCHED(err);
    if (k.splits > 1) {
        sum_kernel<<<static_cast<unsigned>(cg_div_up(size, CG_ROWCONV_THREADS)), CG_ROWCONV_THREADS, 0,
                     cg_stream(stream)>>>(k.splits, size, work, gw);
        CG_CUDA_LAUNCHED(err);
    }
    return CG_OK;
}
