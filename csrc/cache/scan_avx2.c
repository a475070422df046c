/* csrc/cache/scan_avx2.c */
#include "../base/simd_avx2.h"

SIMD_INLINE unsigned beyond(vf total, vf bound) { return (unsigned)_mm256_movemask_ps(v_less(bound, total)); }

#include "scan_simd.h"
