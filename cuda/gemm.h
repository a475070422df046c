/* cuda/gemm.h -- C = A B^T in float32 with our own kernel: simple, no library needed. */
#ifndef CG_CUDA_GEMM_H
#define CG_CUDA_GEMM_H
#include "device.h"
#include "gemm_index.h"
#ifdef __cplusplus
extern "C" {
#endif

/* c: (m, n), rows ldc apart, overlaps neither a nor b. Each element one chain of FMAs in ascending k. */
int cg_cuda_gemm_f32(int device, void *stream, const cg_gemm *g, float *c, size_t ldc, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
