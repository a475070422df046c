#include "check.h"
#include "consensus.h"

enum { SUM_THREADS = 256 };

/* Compiled without `rows` as well: else every copy waits for the number of its row. */
template <bool ALL>
static __global__ void __launch_bounds__(CG_CONSENSUS_THREADS)
    consensus_kernel(size_t p, const float *x, size_t ldx, size_t k, const int64_t *rows, double *mean, double *part) {
    extern __shared__ __align__(16) double room[];
    cg_consensus_body(p, x, ldx, k, ALL ? nullptr : rows, mean, part, blockIdx.x, CG_CONSENSUS_THREADS, room);
}

static __global__ void sum_kernel(size_t n, const double *part, double *out) {
    __shared__ double room[SUM_THREADS];
    cg_sum_body(n, part, out, blockDim.x, room);
}

static __global__ void average_kernel(size_t p, const float *x, size_t ldx, size_t k, const int64_t *rows,
                                      const float *weights, float *out) {
    cg_average_body(p, x, ldx, k, rows, weights, out, blockIdx.x, blockDim.x);
}

static __global__ void seek_kernel(size_t p, const float *x, size_t ldx, const int64_t *rows, uint64_t *part) {
    __shared__ uint64_t room[CG_SEEK_THREADS];
    cg_seek_body(p, x, ldx, rows, part, blockIdx.x, blockDim.x, room);
}

static __global__ void least_kernel(size_t n, const uint64_t *part, uint64_t *out) {
    __shared__ uint64_t room[CG_SEEK_THREADS];
    cg_least_body(n, part, out, blockDim.x, room);
}

static int blocks_for(size_t p, size_t columns, unsigned *blocks, cg_err *err) {
    const size_t count = cg_div_up(p, columns);
    if (count > INT32_MAX) return cg_fail(err, CG_EVALUE, "x: too many columns for one launch");
    *blocks = static_cast<unsigned>(count);
    return CG_OK;
}

int cg_cuda_consensus_f32(int device, void *stream, size_t p, const float *x, size_t ldx, size_t k, const int64_t *rows,
                          double *mean, double *part, double *sum_sq, cg_err *err) {
    unsigned blocks = 0;
    const int rc = blocks_for(p, CG_CONSENSUS_COLUMNS, &blocks, err);
    if (rc != CG_OK) return rc;
    CG_ON_DEVICE(device, err);
    if (blocks > 0) {
        const size_t shared = cg_consensus_room(k);
        const auto kernel = rows ? consensus_kernel<false> : consensus_kernel<true>;
        CG_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
                err);
        kernel<<<blocks, CG_CONSENSUS_THREADS, shared, cg_stream(stream)>>>(p, x, ldx, k, rows, mean, part);
        CG_CUDA_LAUNCHED(err);
    }
    sum_kernel<<<1, SUM_THREADS, 0, cg_stream(stream)>>>(blocks, part, sum_sq);
    CG_CUDA_LAUNCHED(err);
    return CG_OK;
}

int cg_cuda_average_f32(int device, void *stream, size_t p, const float *x, size_t ldx, size_t k, const int64_t *rows,
                        const float *weights, float *out, cg_err *err) {
    unsigned blocks = 0;
    const int rc = blocks_for(p, CG_AVERAGE_COLUMNS, &blocks, err);
    if (rc != CG_OK || blocks == 0) return rc;
    CG_ON_DEVICE(device, err);
    average_kernel<<<blocks, CG_AVERAGE_COLUMNS, 0, cg_stream(stream)>>>(p, x, ldx, k, rows, weights, out);
    CG_CUDA_LAUNCHED(err);
    return CG_OK;
}

int cg_cuda_find_nonfinite_f32(int device, void *stream, size_t p, const float *x, size_t ldx, size_t k,
                               const int64_t *rows, uint64_t *part, uint64_t *out, cg_err *err) {
    const size_t blocks = k * cg_div_up(p, CG_SEEK_PIECE);
    if (blocks > INT32_MAX) return cg_fail(err, CG_EVALUE, "x: too large for one launch");
    CG_ON_DEVICE(device, err);
    if (blocks > 0) {
        seek_kernel<<<static_cast<unsigned>(blocks), CG_SEEK_THREADS, 0, cg_stream(stream)>>>(p, x, ldx, rows, part);
        CG_CUDA_LAUNCHED(err);
    }
    least_kernel<<<1, CG_SEEK_THREADS, 0, cg_stream(stream)>>>(blocks, part, out);
    CG_CUDA_LAUNCHED(err);
    return CG_OK;
}
