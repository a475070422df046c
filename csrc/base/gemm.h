/* csrc/base/gemm.h -- the packed product C = act(A B^T + bias) in float32, for small and grouped M.
 *
 * B (N outputs, K inputs: a torch nn.Linear weight) is packed once into panels of 16 outputs, [ceil(N/16)][K][16], and
 * then read as one forward stream. A needs no packing and no gather: its rows are given by pointer and may lie
 * anywhere. One panel format serves every instruction set.
 *
 * c[i][j] = fma(a[i][K-1], b[j][K-1], ... fma(a[i][0], b[j][0], 0)) + bias[j]: one chain over k in order, whatever M,
 * N, the blocking and the number of threads; the portable kernel rounds product and sum apart. NaN and infinities pass
 * through, ReLU included. Floor: 2 M N K flops at the FMA peak, or 4 N K bytes of panels at the memory's speed for the
 * few rows of M <= 4. */
#ifndef CG_GEMM_H
#define CG_GEMM_H
#include "err.h"
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

#define CG_PANEL 16u /* outputs in a panel: one cache line of float32 */

typedef enum cg_activation { CG_ACT_NONE, CG_ACT_RELU, CG_ACT_TANH } cg_activation;

/* Floats in the packed form of an (n, k) matrix; 0 where it does not fit in memory. Panel p begins at p * k * 16, so a
 * caller that splits columns calls again with packed + p k 16, bias + 16 p, c + 16 p. */
size_t cg_gemm_packed_size(size_t n, size_t k);
/* panel[p][i][j] = b[(16 p + j) * ldb + i]; outputs beyond n are zero. b: (n, k), row-major, ldb >= k. `packed` begins
 * on a cache line (cg_buf_alloc) and overlaps nothing; its speed, not its values, depends on the alignment. */
void cg_gemm_pack(size_t n, size_t k, const float *b, size_t ldb, float *packed);
/* The same panels from the transposed matrix: b is (k, n), row-major, ldb >= n. */
void cg_gemm_pack_transposed(size_t n, size_t k, const float *b, size_t ldb, float *packed);
/* The way back: b[j * ldb + i] = panel[j / 16][i][j % 16] for j < n. */
void cg_gemm_unpack(size_t n, size_t k, const float *packed, float *b, size_t ldb);
/* From the panels of b (n, k) to those of its transpose (k, n): what the backward product needs. */
void cg_gemm_flip(size_t n, size_t k, const float *packed, float *flipped);

/* c[i][j], i < m, j < n, on the calling thread. a: m pointers to rows of k floats. c: m pointers to rows of n floats,
 * which overlap nothing else. bias: n floats, or NULL. Sizes may be 0; k == 0 gives act(bias). Cannot fail. */
void cg_gemm_rows_f32(size_t m, size_t n, size_t k, const float *const *a, const float *packed, const float *bias,
                      cg_activation act, float *const *c);
/* The same with matrices: a (m, k), lda >= k; c (m, n), ldc >= n. */
void cg_gemm_f32(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *packed, const float *bias,
                 cg_activation act, float *c, size_t ldc);
/* cg_gemm_f32 on the thread pool, split over blocks of rows and of panels. Same bits. Fails only as cg_parallel_for. */
int cg_gemm_parallel_f32(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *packed,
                         const float *bias, cg_activation act, float *c, size_t ldc, cg_err *err);
/* cg_gemm_pack on the thread pool. */
int cg_gemm_pack_parallel(size_t n, size_t k, const float *b, size_t ldb, float *packed, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
