/* cuda/libraries.h -- cuBLAS and NCCL, opened when somebody asks: neither is linked, either may be absent.
 *
 * The few prototypes used are declared in libraries.c: no header of theirs is needed. Opening costs tenths of a second
 * and half a gigabyte of address space, so nothing opens them on import. Where torch has them loaded already, the
 * dynamic linker gives us the same copy. */
#ifndef CG_CUDA_LIBRARIES_H
#define CG_CUDA_LIBRARIES_H
#include "../csrc/base/err.h"
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

/* Opens a library by its file, or the name the linker looks up; *version: 10000 major + 100 minor + patch. A second
 * call answers for the copy that is open. CG_EVALUE: it does not open, or is not what its name says. */
int cg_cublas_open(const char *file, int *version, cg_err *err);
int cg_nccl_open(const char *file, int *version, cg_err *err);

/* c = a b^T by cublasSgemm in plain float32 (no TF32): a (m, k), b (n, k), c (m, n), rows lda, ldb, ldc apart. One
 * handle a device, one call at a time. CG_EVALUE where cuBLAS is not open or a size does not fit an int. */
int cg_cublas_gemm_f32(int device, void *stream, size_t m, size_t n, size_t k, const float *a, size_t lda,
                       const float *b, size_t ldb, float *c, size_t ldc, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
