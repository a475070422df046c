/* csrc/router/search_avx2.c */
#include "../base/simd_avx2.h"

SIMD_INLINE unsigned bits(vmask m) { return (unsigned)_mm256_movemask_ps(m); }

#include "search_simd.h"
