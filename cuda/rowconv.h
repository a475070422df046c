/* cuda/rowconv.h -- convolutions of many rows' models at once, and their gradients, in TF32 (rowconv_index.h).
 *
 * Every array is contiguous but for the rows of x, weights and bias: ldx, ldw, ldb apart. Sums are float32; operands
 * keep 10 bits: weights are rounded, x and gy cut. Floor: 2 rows batch out oh ow in kh kw flops each way. Same bits
 * every time, on every device of one amount of shared memory. */
#ifndef CG_CUDA_ROWCONV_H
#define CG_CUDA_ROWCONV_H
#include "device.h"
#include "rowgrad_index.h"
#ifdef __cplusplus
extern "C" {
#endif

/* Floats of work that the forward pass wants, and the weights' gradient; 0 and 0: too large for this device. */
int cg_cuda_rowconv_work(int device, const cg_rowconv *c, size_t *forward, size_t *gradient, cg_err *err);

/* y = the convolution of x, plus bias (NULL: none). flipped: weight is (rows, in, out, kh, kw) and read from its last
 * tap to its first: with x = gy, in and out changed for each other and kh - 1 - ph, kw - 1 - pw for ph, pw, this is
 * the gradient of x. work: on 16 bytes, overlaps nothing. */
int cg_cuda_rowconv_f32(int device, void *stream, const cg_rowconv *c, int flipped, const float *x, const float *weight,
                        size_t ldw, const float *bias, size_t ldb, float *work, float *y, cg_err *err);

/* gw (rows, out, in, kh, kw) = the weights' gradient. */
int cg_cuda_rowconv_weight_f32(int device, void *stream, const cg_rowconv *c, const float *gy, const float *x,
                               float *work, float *gw, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
