/* csrc/base/philox_core.h -- the rounds of Philox4x32-10, for gcc, clang and nvcc alike. */
#ifndef CG_PHILOX_CORE_H
#define CG_PHILOX_CORE_H
#include <stdint.h>

#if defined(__CUDACC__)
#define CG_PHILOX_FN static __device__ __forceinline__
#else
#define CG_PHILOX_FN static inline __attribute__((unused))
#endif

/* out = Philox4x32-10({c0, c1, c2, c3}, {k0, k1}). */
CG_PHILOX_FN void cg_philox_rounds(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1,
                                   uint32_t out[4]) {
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

#endif
