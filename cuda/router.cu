#include "check.h"
#include "router.h"

static __global__ void layer_kernel(cg_router_layer layer) {
    __shared__ float room[CG_ROUTER_THREADS];
    cg_router_layer_body(&layer, blockIdx.x, blockDim.x, room);
}

static __global__ void head_kernel(size_t width, size_t group, const float *h, const float *w, const float *b,
                                   size_t sources, const int32_t *column, float *p) {
    __shared__ float room[CG_ROUTER_THREADS];
    cg_router_head_body(width, group, h, w, *b, sources, column, p, blockIdx.x, blockDim.x, room);
}

static int check_rows(size_t rows, cg_err *err) {
    return rows <= INT32_MAX ? CG_OK : cg_fail(err, CG_EVALUE, "queries: too many rows for one launch: %zu", rows);
}

int cg_cuda_router_layer_f32(int device, void *stream, size_t rows, const cg_router_layer *layer, cg_err *err) {
    const int rc = check_rows(rows, err);
    if (rc != CG_OK || rows == 0) return rc;
    CG_ON_DEVICE(device, err);
    layer_kernel<<<static_cast<unsigned>(rows), CG_ROUTER_THREADS, 0, cg_stream(stream)>>>(*layer);
    CG_CUDA_LAUNCHED(err);
    return CG_OK;
}

int cg_cuda_router_head_f32(int device, void *stream, size_t rows, size_t width, size_t group, const float *h,
                            const float *w, const float *b, size_t sources, const int32_t *column, float *p,
                            cg_err *err) {
    const int rc = check_rows(rows, err);
    if (rc != CG_OK || rows == 0) return rc;
    CG_ON_DEVICE(device, err);
    head_kernel<<<static_cast<unsigned>(rows), CG_ROUTER_THREADS, 0, cg_stream(stream)>>>(width, group, h, w, b,
                                                                                          sources, column, p);
    CG_CUDA_LAUNCHED(err);
    return CG_OK;
}
