/* cuda/nearest.h -- the nearest of many keys for many queries, squared L2 in float32: csrc/cache's scan, in batches. */
#ifndef CG_CUDA_NEAREST_H
#define CG_CUDA_NEAREST_H
#include "device.h"
#include "nearest_index.h"
#ifdef __cplusplus
extern "C" {
#endif

/* out[i] = ||x_i||^2, x: (rows, dim) floats, rows ld apart. Summed in float64, rounded once. */
int cg_cuda_norms_f32(int device, void *stream, size_t rows, size_t dim, const float *x, size_t ld, float *out,
                      cg_err *err);

/* index[b] = the key of least squared distance to query b among those with at most `bound`, the lowest of equals, or
 * -1; distance[b] = its square root, or infinity. Bits are those of csrc/cache's kernels with FMA. A distance that is
 * not finite never wins. qq, kk from cg_cuda_norms_f32; lo, hi: work space.
 * Floor: 2 batch keys dim flops on tensor cores; where no key can be ruled out, reading all keys once a query. */
int cg_cuda_nearest_f32(int device, void *stream, const cg_nearest *n, float bound, int64_t *index, float *distance,
                        cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
