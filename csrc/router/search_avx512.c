/* csrc/router/search_avx512.c */
#include "../base/simd_avx512.h"

SIMD_INLINE unsigned bits(vmask m) { return (unsigned)m; }

#include "search_simd.h"
