/* csrc/noise/normal.h -- addressed Gaussian noise: normal i of an address is the same float on every instruction set,
 * number of threads and device (normal_core.h), in any order. Source: ZIP-DL, PoPETs 2025, needs them by the billion.
 */
#ifndef CG_NORMAL_H
#define CG_NORMAL_H
#include "../base/philox.h"
#ifdef __cplusplus
extern "C" {
#endif

/* out[i] = the standard normal at (address, first + i), 0 <= i < n; first + n <= CG_ADDRESS_WORDS. Normals 2k and
 * 2k + 1 are made of the words 2k and 2k + 1 of the same address: draw normals or words from one, not both. |out| is
 * below 6.77. Runs on the thread pool. */
void cg_normal_f32(const cg_address *at, uint64_t first, size_t n, float *out);

#ifdef __cplusplus
}
#endif
#endif
