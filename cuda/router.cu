#include "check.h"
#include "router.h"

static __global__ void __launch_bounds__(CG_ROUTER_THREADS) layer_kernel(cg_router_layer layer, size_t rows) {
    __shared__ float room[2 * CG_ROUTER_THREADS];
    cg_router_layer_body(&layer, rows, blockIdx.x, room);
}

static __global__ void __launch_bounds__(CG_ROUTER_THREADS) head_kernel(cg_router_head head, size_t rows) {
    __shared__ float room[CG_ROUTER_THREADS];
    cg_router_head_body(&head, rows, blockIdx.x, room);
}

static int check_rows(size_t rows, cg_err *err) {
    return rows <= INT32_MAX ? CG_OK : cg_fail(err, CG_EVALUE, "queries: too many rows for one launch: %zu", rows);
}

int cg_cuda_router_layer_f32(int device, void *stream, size_t rows, const cg_router_layer *layer, cg_err *err) {
    const int rc = check_rows(rows, err);
    if (rc != CG_OK || rows == 0) return rc;
    CG_ON_DEVICE(device, err);
    const unsigned blocks = static_cast<unsigned>(cg_div_up(rows, CG_ROUTER_ROWS));
    layer_kernel<<<blocks, CG_ROUTER_THREADS, 0, cg_stream(stream)>>>(*layer, rows);
    CG_CUDA_LAUNCHED(err);
    return CG_OK;
}

int cg_cuda_router_head_f32(int device, void *stream, size_t rows, const cg_router_head *head, cg_err *err) {
    const int rc = check_rows(rows, err);
    if (rc != CG_OK || rows == 0) return rc;
    CG_ON_DEVICE(device, err);
    const unsigned blocks = static_cast<unsigned>(cg_div_up(rows, CG_ROUTER_ROWS));
    head_kernel<<<blocks, CG_ROUTER_THREADS, 0, cg_stream(stream)>>>(*head, rows);
    CG_CUDA_LAUNCHED(err);
    return CG_OK;
}
