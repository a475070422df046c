/* tests/c/cuda_host.c -- a CUDA device made of the CPU: every function of cuda/ that is not a kernel's body, over the
 * same bodies (cuda/shim.h). What is put on a stream is done at once; the device's memory is the host's.
 *
 * Included by test_cuda_twins.c, and linked with the bindings of cuda/ into a collegium._cuda that runs everywhere
 * (tests/unit/cuda_twin.py): checks, packing and launches in Python meet the kernels' own indices. Device 0 has 1 GiB;
 * device 1 is dead: every call fails as after a fault. */
#include "../../cuda/consensus.h"
#include "../../cuda/device.h"
#include "../../cuda/gemm.h"
#include "../../cuda/mix.h"
#include "../../cuda/nearest.h"
#include "../../cuda/random.h"
#include "../../cuda/router.h"
#include "../../cuda/rowconv.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEVICES = 2, DEAD = 1 };
#define HOST_MEMORY ((size_t)1 << 30)
#define HOST_SHARED ((size_t)227 * 1024)
#define ALIVE(device, err)                                                                                             \
    do {                                                                                                               \
        const int cg_alive = alive(device, err);                                                                       \
        if (cg_alive != CG_OK) return cg_alive;                                                                        \
    } while (0)

static int alive(int device, cg_err *err) {
    if (device >= 0 && device < DEAD) return CG_OK;
    if (device != DEAD) return cg_fail(err, CG_ECUDA, "cudaErrorInvalidDevice: invalid device ordinal %d", device);
    return cg_fail(err, CG_ECUDA, "cudaErrorLaunchFailure: unspecified launch failure (tests/c/cuda_host.c)");
}

/* Shared memory of one block, full of NaN: nothing may be read that was not written. */
static void *room_for(size_t bytes) {
    void *const p = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    if (!p) abort();
    memset(p, 0xFF, bytes);
    return p;
}

/* ---- device.h ---- */

int cg_cuda_device_count(int *code, char *text, size_t size) {
    *code = 0;
    memset(text, 0, size);
    return DEVICES;
}

int cg_cuda_runtime_version(void) { return 13000; }

int cg_cuda_describe(int device, cg_cuda_about *about, cg_err *err) {
    ALIVE(device, err);
    *about = (cg_cuda_about){"CPU", 0, 0, 1, HOST_SHARED, HOST_MEMORY};
    return CG_OK;
}

int cg_cuda_memory(int device, size_t *free_bytes, size_t *total_bytes, cg_err *err) {
    ALIVE(device, err);
    *free_bytes = *total_bytes = HOST_MEMORY;
    return CG_OK;
}

int cg_cuda_alloc(int device, void *stream, size_t bytes, void **out, cg_err *err) {
    (void)stream;
    ALIVE(device, err);
    *out = bytes <= HOST_MEMORY ? room_for(bytes) : NULL;
    if (*out) return CG_OK;
    return cg_fail(err, CG_ENOMEM, "no memory for %zu bytes on CUDA device %d: %zu of %zu are free", bytes, device,
                   HOST_MEMORY, HOST_MEMORY);
}

int cg_cuda_free(int device, void *stream, void *memory, cg_err *err) {
    (void)stream;
    ALIVE(device, err);
    free(memory);
    return CG_OK;
}

int cg_cuda_copy(int device, void *stream, void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                 size_t rows, cg_err *err) {
    (void)stream;
    ALIVE(device, err);
    for (size_t r = 0; r < rows && width > 0; r++)
        memcpy((char *)to + r * to_pitch, (const char *)from + r * from_pitch, width);
    return CG_OK;
}

int cg_cuda_copy_in(int device, void *stream, void *to, size_t to_pitch, const void *from_host, size_t from_pitch,
                    size_t width, size_t rows, cg_err *err) {
    return cg_cuda_copy(device, stream, to, to_pitch, from_host, from_pitch, width, rows, err);
}

int cg_cuda_copy_out_sync(int device, void *stream, void *to_host, size_t to_pitch, const void *from, size_t from_pitch,
                          size_t width, size_t rows, cg_err *err) {
    return cg_cuda_copy(device, stream, to_host, to_pitch, from, from_pitch, width, rows, err);
}

int cg_cuda_zero(int device, void *stream, void *to, size_t bytes, cg_err *err) {
    (void)stream;
    ALIVE(device, err);
    memset(to, 0, bytes);
    return CG_OK;
}

int cg_cuda_swap_device(int device, int *old, cg_err *err) {
    *old = 0;
    return alive(device, err);
}

int cg_cuda_stream_wait(int device, void *stream, void *other, cg_err *err) {
    (void)stream, (void)other;
    return alive(device, err);
}

int cg_cuda_stream_sync(int device, void *stream, cg_err *err) {
    (void)stream;
    return alive(device, err);
}

/* ---- mix.h ---- */

int cg_cuda_mix_tile(int device, size_t n, size_t rounds, size_t *width, int *fused, cg_err *err) {
    ALIVE(device, err);
    const uint32_t shift = cg_mix_shift(n, rounds, HOST_SHARED);
    *fused = shift > 0;
    *width = *fused ? (size_t)1 << shift : CG_MIX_DIRECT;
    return CG_OK;
}

static void mix_round(const cg_mix_plan *plan, size_t tiles, size_t round, const float *src, size_t ld_src, float *dst,
                      size_t ld_dst) {
    const size_t groups = cg_div_up(plan->n, CG_MIX_ROWS);
    for (size_t b = 0; b < tiles * groups; b++)
        cg_mix_direct_body(plan, round, src, ld_src, dst, ld_dst, b / groups, b % groups, CG_MIX_DIRECT);
}

int cg_cuda_mix_f32(int device, void *stream, const cg_mix_plan *plan, size_t tiles, size_t width, int fused,
                    const float *x, size_t ldx, float *y, size_t ldy, float *work, cg_err *err) {
    (void)stream;
    ALIVE(device, err);
    for (size_t r = 0; r < plan->rounds && !fused; r++) {
        const int to_y = (plan->rounds - 1 - r) % 2 == 0;
        mix_round(plan, tiles, r, r == 0 ? x : to_y ? work : y, r == 0 ? ldx : ldy, to_y ? y : work, ldy);
    }
    uint32_t shift = 0;
    while ((size_t)1 << shift < width) shift++;
    for (size_t tile = 0; tile < tiles && fused; tile++) {
        cg_quad *const room = room_for(cg_mix_room(plan->n, plan->rounds, shift));
        cg_mix_fused_body(plan, x, ldx, y, ldy, shift, tile, CG_MIX_THREADS, room);
        free(room);
    }
    return CG_OK;
}

/* ---- random.h ---- */

int cg_cuda_random(int device, void *stream, int kind, const cg_address *at, uint64_t first, size_t n, void *out,
                   cg_err *err) {
    (void)stream;
    ALIVE(device, err);
    for (uint64_t b = 0; b < cg_div_up(cg_random_blocks(first, n), CG_RANDOM_THREADS); b++)
        cg_random_body(kind, at, first, n, out, b, CG_RANDOM_THREADS);
    return CG_OK;
}

/* ---- consensus.h ---- */

int cg_cuda_consensus_f32(int device, void *stream, size_t p, const float *x, size_t ldx, size_t k, const int64_t *rows,
                          double *mean, double *part, double *sum_sq, cg_err *err) {
    (void)stream;
    ALIVE(device, err);
    const size_t blocks = cg_div_up(p, CG_CONSENSUS_COLUMNS);
    for (size_t b = 0; b < blocks; b++) {
        double *const room = room_for(cg_consensus_room(k));
        cg_consensus_body(p, x, ldx, k, rows, mean, part, b, CG_CONSENSUS_THREADS, room);
        free(room);
    }
    double *const room = room_for(256 * sizeof *room);
    cg_sum_body(blocks, part, sum_sq, 256, room);
    free(room);
    return CG_OK;
}

int cg_cuda_average_f32(int device, void *stream, size_t p, const float *x, size_t ldx, size_t k, const int64_t *rows,
                        const float *weights, float *out, cg_err *err) {
    (void)stream;
    ALIVE(device, err);
    for (size_t b = 0; b < cg_div_up(p, CG_AVERAGE_COLUMNS); b++)
        cg_average_body(p, x, ldx, k, rows, weights, out, b, CG_AVERAGE_COLUMNS);
    return CG_OK;
}

int cg_cuda_find_nonfinite_f32(int device, void *stream, size_t p, const float *x, size_t ldx, size_t k,
                               const int64_t *rows, uint64_t *part, uint64_t *out, cg_err *err) {
    (void)stream;
    ALIVE(device, err);
    const size_t blocks = k * cg_div_up(p, CG_SEEK_PIECE);
    uint64_t *const room = room_for(CG_SEEK_THREADS * sizeof *room);
    for (size_t b = 0; b < blocks; b++) cg_seek_body(p, x, ldx, rows, part, b, CG_SEEK_THREADS, room);
    cg_least_body(blocks, part, out, CG_SEEK_THREADS, room);
    free(room);
    return CG_OK;
}

/* ---- gemm.h, nearest.h ---- */

int cg_cuda_gemm_f32(int device, void *stream, const cg_gemm *g, float *c, size_t ldc, cg_err *err) {
    (void)stream;
    ALIVE(device, err);
    cg_gemm_room *const room = room_for(sizeof *room);
    for (size_t tile = 0; tile < cg_gemm_tiles(g->m, g->n); tile++)
        cg_gemm_body(g, cg_gemm_wide(g), c, ldc, tile, room);
    free(room);
    return CG_OK;
}

int cg_cuda_norms_f32(int device, void *stream, size_t rows, size_t dim, const float *x, size_t ld, float *out,
                      cg_err *err) {
    (void)stream;
    ALIVE(device, err);
    double *const room = room_for(CG_NEAREST_THREADS * sizeof *room);
    for (size_t row = 0; row < rows; row++) cg_norm_body(x, ld, dim, out, row, CG_NEAREST_THREADS, room);
    free(room);
    return CG_OK;
}

int cg_cuda_nearest_f32(int device, void *stream, const cg_nearest *n, float bound, int64_t *index, float *distance,
                        cg_err *err) {
    (void)stream;
    ALIVE(device, err);
    cg_filter_room *const filter = room_for(sizeof *filter);
    cg_decide_room *const decide = room_for(sizeof *decide);
    for (size_t tile = 0; tile < cg_tensor_tiles(n->batch, n->keys); tile++)
        cg_filter_body(n, cg_nearest_wide(n), tile, filter);
    for (size_t b = 0; b < n->batch; b++) cg_decide_body(n, bound, index, distance, b, CG_NEAREST_THREADS, decide);
    free(filter);
    free(decide);
    return CG_OK;
}

/* ---- router.h ---- */

int cg_cuda_router_layer_f32(int device, void *stream, size_t rows, const cg_router_layer *layer, cg_err *err) {
    (void)stream;
    ALIVE(device, err);
    float *const room = room_for(2 * CG_ROUTER_THREADS * sizeof *room);
    for (size_t b = 0; b < cg_div_up(rows, CG_ROUTER_ROWS); b++) cg_router_layer_body(layer, rows, b, room);
    free(room);
    return CG_OK;
}

int cg_cuda_router_head_f32(int device, void *stream, size_t rows, const cg_router_head *head, cg_err *err) {
    (void)stream;
    ALIVE(device, err);
    float *const room = room_for(CG_ROUTER_THREADS * sizeof *room);
    for (size_t b = 0; b < cg_div_up(rows, CG_ROUTER_ROWS); b++) cg_router_head_body(head, rows, b, room);
    free(room);
    return CG_OK;
}

/* ---- rowconv.h ---- */

int cg_cuda_rowconv_work(int device, const cg_rowconv *c, size_t *forward, size_t *gradient, cg_err *err) {
    ALIVE(device, err);
    cg_rowconv_sizes(c, HOST_SHARED, forward, gradient);
    return CG_OK;
}

int cg_cuda_rowconv_f32(int device, void *stream, const cg_rowconv *c, int flipped, const float *x, const float *weight,
                        size_t ldw, const float *bias, size_t ldb, float *work, float *y, cg_err *err) {
    (void)stream;
    ALIVE(device, err);
    cg_patch p;
    const int wide = cg_rowconv_wide(c, x, NULL);
    const uint32_t down = cg_rowconv_plan(&p, c, HOST_SHARED, wide);
    if (!down) return cg_fail(err, CG_EVALUE, "x: too large for one launch");
    const size_t quads = c->rows * cg_rowconv_packed(&p, down);
    for (size_t b = 0; b < cg_div_up(quads, CG_ROWCONV_THREADS); b++)
        cg_rowconv_pack_body(&p, down, quads, flipped, weight, ldw, (cg_quad *)work, b);
    for (size_t b = 0; b < cg_rowconv_blocks(&p, down, c->rows); b++) {
        cg_quad *const room = room_for(cg_rowconv_room(&p, down));
        cg_rowconv_body(&p, down, wide, x, (const cg_quad *)work, bias, ldb, y, b, room);
        free(room);
    }
    return CG_OK;
}

int cg_cuda_rowconv_weight_f32(int device, void *stream, const cg_rowconv *c, const float *gy, const float *x,
                               float *work, float *gw, cg_err *err) {
    (void)stream;
    ALIVE(device, err);
    cg_rowgrad k;
    const int wide = cg_rowconv_wide(c, x, gy);
    if (!cg_rowgrad_plan(&k, c, HOST_SHARED, wide)) return cg_fail(err, CG_EVALUE, "x: too large for one launch");
    for (size_t b = 0; b < cg_rowgrad_blocks(&k, c->rows); b++) {
        cg_quad *const room = room_for(cg_rowgrad_room(&k));
        cg_rowgrad_body(&k, k.along, wide, c->rows, gy, x, k.splits > 1 ? work : gw, b, room);
        free(room);
    }
    const size_t size = c->rows * cg_rowgrad_size(&k);
    for (size_t b = 0; b < cg_div_up(size, CG_ROWCONV_THREADS) && k.splits > 1; b++)
        cg_rowgrad_sum_body(k.splits, size, work, gw, b);
    return CG_OK;
}
