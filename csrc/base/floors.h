/* csrc/base/floors.h -- what this machine can do, measured: the floors every benchmark is held against.
 *
 * A kernel's time means little alone. These run through the same thread pool and instruction set as the kernels, so
 * that a benchmark can time them in turn with what it measures and print "x floor". Not used by any algorithm. */
#ifndef CG_FLOORS_H
#define CG_FLOORS_H
#include "err.h"
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

/* Peak float32 arithmetic in GFLOP/s (a multiply-add counts two): registers only, the pool's threads together, under
 * cg_isa(), the best of about 50 ms of short runs. Fails only with CG_ENOMEM. */
int cg_floor_fma(double *gflops, cg_err *err);

/* dst[i] = src[i], 0 <= i < n, once, in blocks over the pool. stream != 0: non-temporal stores, which do not read the
 * lines of dst first (needs dst on a multiple of 64 bytes to pay; any alignment is right); 0: the C library's memcpy.
 * No overlap (CG_EALIAS). Moves 8n bytes, plus 4n read for nothing where ordinary stores fetch their lines. */
int cg_floor_copy(size_t n, const float *src, float *dst, int stream, cg_err *err);

/* *sum = the sum of src[0 ... n-1]: a streaming read of 4n bytes. Float32 lanes within a block, float64 over blocks;
 * the same bits for any number of threads. Fails only with CG_ENOMEM. */
int cg_floor_read(size_t n, const float *src, double *sum, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
