/* cuda/random.h -- addressed randomness on a device, with the CPU's bits (csrc/base/philox.h, csrc/noise). */
#ifndef CG_CUDA_RANDOM_H
#define CG_CUDA_RANDOM_H
#include "device.h"
#include "random_index.h"
#ifdef __cplusplus
extern "C" {
#endif

/* out[i] = number first + i of the address, 0 <= i < n; first + n <= CG_ADDRESS_WORDS. kind: CG_RANDOM_U32 (uint32
 * words), CG_RANDOM_F32 (float32 in [0, 1)) or CG_RANDOM_NORMAL (float32, standard normal). */
int cg_cuda_random(int device, void *stream, int kind, const cg_address *at, uint64_t first, size_t n, void *out,
                   cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
