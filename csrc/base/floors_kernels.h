/* csrc/base/floors_kernels.h -- the kernels behind floors.h, one set for each instruction set. */
#ifndef CG_FLOORS_KERNELS_H
#define CG_FLOORS_KERNELS_H
#include <stddef.h>

/* `turns` times 12 independent vector multiply-adds; the result keeps the compiler from dropping them. */
typedef float cg_floor_fma_fn(size_t turns);
typedef void cg_floor_stream_fn(size_t n, const float *src, float *dst);
typedef float cg_floor_read_fn(size_t n, const float *src);

enum { CG_FLOOR_CHAINS = 12 }; /* latency 4-5 times 2 units, and a spare: fits 16 registers with two constants */

cg_floor_fma_fn cg_floor_fma_base, cg_floor_fma_avx2, cg_floor_fma_avx512;
cg_floor_stream_fn cg_floor_stream_base, cg_floor_stream_avx2, cg_floor_stream_avx512;
cg_floor_read_fn cg_floor_read_base, cg_floor_read_avx2, cg_floor_read_avx512;
#endif
