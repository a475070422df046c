/* csrc/noise/normal_kernels.h -- the rows of normal.c's table. */
#ifndef CG_NORMAL_KERNELS_H
#define CG_NORMAL_KERNELS_H
#include <stddef.h>
#include <stdint.h>

/* out[4 b + i] = normal i of the Philox block at counter {counter[0] + b, counter[1], counter[2], counter[3]},
 * 0 <= b < blocks; counter[0] + blocks <= 2^32. */
typedef void cg_normal_fn(const uint32_t counter[4], const uint32_t key[2], size_t blocks, float *out);
cg_normal_fn cg_normal_f32_base, cg_normal_f32_avx2, cg_normal_f32_avx512;
#endif
