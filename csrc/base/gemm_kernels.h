/* csrc/base/gemm_kernels.h -- the rows of gemm.c's tables. */
#ifndef CG_GEMM_KERNELS_H
#define CG_GEMM_KERNELS_H
#include <stddef.h>

/* c[i][j] for a block of rows, panels outside, rows inside: the m rows of A should fit in the second-level cache. */
typedef void cg_gemm_fn(size_t m, size_t n, size_t k, const float *const *a, const float *packed, const float *bias,
                        int relu, float *const *c);
cg_gemm_fn cg_gemm_base, cg_gemm_avx2, cg_gemm_avx512;

/* dst[c * ldd + r] = src[r * lds + c], r < rows, c < cols. */
typedef void cg_transpose_fn(size_t rows, size_t cols, const float *src, size_t lds, float *dst, size_t ldd);
cg_transpose_fn cg_transpose_base, cg_transpose_avx2;
#endif
