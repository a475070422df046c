/* tests/c/cuda_twins.h -- what the tests of the twins share: the device, arrays, and when two floats are the same. */
#ifndef CG_TEST_CUDA_TWINS_H
#define CG_TEST_CUDA_TWINS_H
#include "../../csrc/base/buf.h"
#include "../../csrc/base/isa.h"
#include "cuda_host.c" /* the device */

#include "check.h"

static inline void *array(size_t count, size_t item) {
    void *const p = cg_buf_alloc(count * item + 1);
    if (!p) exit(2);
    return p;
}

/* Numbers in [-1, 1) that differ from place to place. */
static inline float *numbers(size_t n, uint32_t seed) {
    const cg_address at = {seed, CG_FOR_USER, 0, 0};
    float *const x = array(n, sizeof *x);
    cg_random_f32(&at, 0, n, x);
    for (size_t i = 0; i < n; i++) x[i] = 2.0f * x[i] - 1.0f;
    return x;
}

/* Both NaN, or equal bits where the CPU's kernels fuse every product as a device does, else nearly equal. */
static inline int same(float a, float b) {
    if (a != a || b != b) return a != a && b != b;
    return cg_isa() == CG_ISA_BASE ? fabsf(a - b) <= 1e-5f : memcmp(&a, &b, sizeof a) == 0;
}
#endif
