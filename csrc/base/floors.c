/* csrc/base/floors.c -- dispatch and timing; kernels in floors_<isa>.c. */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include "floors.h"
#include "buf.h"
#include "floors_kernels.h"
#include "isa.h"
#include "pool.h"
#include <stdint.h>
#include <string.h>
#include <time.h>

static cg_floor_fma_fn *const fma_of[CG_ISA_COUNT] = {
    [CG_ISA_BASE] = cg_floor_fma_base,
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = cg_floor_fma_avx2,
    [CG_ISA_AVX512] = cg_floor_fma_avx512,
#endif
};
static cg_floor_stream_fn *const stream_of[CG_ISA_COUNT] = {
    [CG_ISA_BASE] = cg_floor_stream_base,
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = cg_floor_stream_avx2,
    [CG_ISA_AVX512] = cg_floor_stream_avx512,
#endif
};
static cg_floor_read_fn *const read_of[CG_ISA_COUNT] = {
    [CG_ISA_BASE] = cg_floor_read_base,
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = cg_floor_read_avx2,
    [CG_ISA_AVX512] = cg_floor_read_avx512,
#endif
};
static const size_t lanes_of[CG_ISA_COUNT] = {[CG_ISA_BASE] = 4, [CG_ISA_AVX2] = 8, [CG_ISA_AVX512] = 16};

enum { BLOCK = 1 << 16 }; /* floats a block: 256 KiB, long against waking a worker, short against a whole array */

/* ---- arithmetic ---- */

enum { FMA_TURNS = 20000, FMA_BLOCKS = 64 }; /* a block is 30-100 us, a run of 64 blocks a thread 2-6 ms */

typedef struct fma_job {
    cg_floor_fma_fn *kernel;
    float *sums; /* one a block: stored, so that the work is not dropped */
} fma_job;

static void fma_task(void *ctx, size_t begin, size_t end, void *scratch) {
    const fma_job *j = ctx;
    (void)scratch;
    for (size_t b = begin; b < end; b++) j->sums[b] = j->kernel(FMA_TURNS);
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int cg_floor_fma(double *gflops, cg_err *err) {
    const cg_isa_t isa = cg_isa();
    const size_t blocks = (size_t)FMA_BLOCKS * (size_t)cg_num_threads();
    fma_job job = {fma_of[isa], cg_buf_alloc(blocks * sizeof(float))};
    if (!job.sums) return cg_fail(err, CG_ENOMEM, "no memory for %zu partial sums", blocks);
    const double flops = 2.0 * CG_FLOOR_CHAINS * FMA_TURNS * (double)(lanes_of[isa] * blocks);
    const double start = seconds();
    double best = 0.0, now = start;
    int rc = CG_OK;
    while (rc == CG_OK && now - start < 0.05) {
        const double before = now;
        rc = cg_parallel_for(blocks, 1, 0, fma_task, &job, err);
        now = seconds();
        if (now > before && flops / (now - before) > best) best = flops / (now - before);
    }
    cg_buf_free(job.sums);
    *gflops = best * 1e-9;
    return rc;
}

/* ---- memory ---- */

typedef struct copy_job {
    cg_floor_stream_fn *stream; /* NULL: memcpy */
    const float *src;
    float *dst;
} copy_job;

static void copy_task(void *ctx, size_t begin, size_t end, void *scratch) {
    const copy_job *j = ctx;
    (void)scratch;
    if (j->stream)
        j->stream(end - begin, j->src + begin, j->dst + begin);
    else
        memcpy(j->dst + begin, j->src + begin, (end - begin) * sizeof(float));
}

int cg_floor_copy(size_t n, const float *src, float *dst, int stream, cg_err *err) {
    if (n > 0 && (uintptr_t)dst < (uintptr_t)(src + n) && (uintptr_t)src < (uintptr_t)(dst + n))
        return cg_fail(err, CG_EALIAS, "dst: overlaps src");
    copy_job job = {stream ? stream_of[cg_isa()] : NULL, src, dst};
    return cg_parallel_for(n, BLOCK, 0, copy_task, &job, err);
}

typedef struct read_job {
    cg_floor_read_fn *kernel;
    const float *src;
    float *sums; /* one a block */
} read_job;

static void read_task(void *ctx, size_t begin, size_t end, void *scratch) {
    const read_job *j = ctx;
    (void)scratch;
    j->sums[begin / BLOCK] = j->kernel(end - begin, j->src + begin);
}

int cg_floor_read(size_t n, const float *src, double *sum, cg_err *err) {
    const size_t blocks = n / BLOCK + 1;
    read_job job = {read_of[cg_isa()], src, cg_buf_alloc(blocks * sizeof(float))};
    if (!job.sums) return cg_fail(err, CG_ENOMEM, "no memory for %zu partial sums", blocks);
    const int rc = cg_parallel_for(n, BLOCK, 0, read_task, &job, err);
    *sum = 0.0;
    for (size_t b = 0; rc == CG_OK && b < (n + BLOCK - 1) / BLOCK; b++) *sum += (double)job.sums[b];
    cg_buf_free(job.sums);
    return rc;
}
