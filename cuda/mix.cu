#include "check.h"
#include "mix.h"

/* Compiled for its width, so that places in a tile are shifts and masks. For 256 rows on an H200 three blocks of 512
 * threads on a core took 60 us, six blocks of 256 81 us: the more shared memory, the smaller the L1 cache, out of which
 * every block reads the entries. */
template <uint32_t SHIFT>
static __global__ void __launch_bounds__(CG_MIX_THREADS, 3)
    fused_kernel(cg_mix_plan k, const float *x, size_t ldx, float *y, size_t ldy) {
    extern __shared__ cg_quad room[];
    cg_mix_fused_body(&k, x, ldx, y, ldy, SHIFT, blockIdx.x, CG_MIX_THREADS, room);
}

/* Groups of rows run fastest, so that the rows of one tile find each other's columns in the L2 cache. */
static __global__ void direct_kernel(cg_mix_plan k, size_t round, const float *src, size_t ld_src, float *dst,
                                     size_t ld_dst, size_t groups) {
    cg_mix_direct_body(&k, round, src, ld_src, dst, ld_dst, blockIdx.x / groups, blockIdx.x % groups, blockDim.x);
}

int cg_cuda_mix_tile(int device, size_t n, size_t rounds, size_t *width, int *fused, cg_err *err) {
    int shared = 0;
    CG_CUDA(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), err);
    const uint32_t shift = cg_mix_shift(n, rounds, static_cast<size_t>(shared));
    *fused = shift > 0;
    *width = *fused ? static_cast<size_t>(1) << shift : static_cast<size_t>(CG_MIX_DIRECT);
    return CG_OK;
}

static int direct(cudaStream_t stream, const cg_mix_plan *plan, size_t tiles, const float *x, size_t ldx, float *y,
                  size_t ldy, float *work, cg_err *err) {
    const size_t groups = cg_div_up(plan->n, CG_MIX_ROWS);
    if (tiles * groups > INT32_MAX) return cg_fail(err, CG_EVALUE, "x: too large for one launch");
    for (size_t r = 0; r < plan->rounds; r++) {
        const bool to_y = (plan->rounds - 1 - r) % 2 == 0; /* the last round writes y, the one before it work, ... */
        const float *const src = r == 0 ? x : to_y ? work : y;
        direct_kernel<<<static_cast<unsigned>(tiles * groups), CG_MIX_DIRECT, 0, stream>>>(
            *plan, r, src, r == 0 ? ldx : ldy, to_y ? y : work, ldy, groups);
        CG_CUDA_LAUNCHED(err);
    }
    return CG_OK;
}

template <uint32_t SHIFT>
static int fused_rounds(cudaStream_t stream, const cg_mix_plan *plan, size_t tiles, const float *x, size_t ldx,
                        float *y, size_t ldy, cg_err *err) {
    if (tiles > INT32_MAX) return cg_fail(err, CG_EVALUE, "x: too many columns for one launch");
    const size_t shared = cg_mix_room(plan->n, plan->rounds, SHIFT);
    CG_CUDA(cudaFuncSetAttribute(fused_kernel<SHIFT>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared)),
            err);
    fused_kernel<SHIFT><<<static_cast<unsigned>(tiles), CG_MIX_THREADS, shared, stream>>>(*plan, x, ldx, y, ldy);
    CG_CUDA_LAUNCHED(err);
    return CG_OK;
}

int cg_cuda_mix_f32(int device, void *stream, const cg_mix_plan *plan, size_t tiles, size_t width, int fused,
                    const float *x, size_t ldx, float *y, size_t ldy, float *work, cg_err *err) {
    if (plan->n == 0 || tiles == 0) return CG_OK;
    CG_ON_DEVICE(device, err);
    const cudaStream_t s = cg_stream(stream);
    if (!fused) return direct(s, plan, tiles, x, ldx, y, ldy, work, err);
    if (width == 8) return fused_rounds<3>(s, plan, tiles, x, ldx, y, ldy, err);
    if (width == 16) return fused_rounds<4>(s, plan, tiles, x, ldx, y, ldy, err);
    return fused_rounds<5>(s, plan, tiles, x, ldx, y, ldy, err);
}
