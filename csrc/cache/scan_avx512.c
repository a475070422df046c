/* csrc/cache/scan_avx512.c */
#include "../base/simd_avx512.h"

SIMD_INLINE unsigned beyond(vf total, vf bound) { return v_less(bound, total); }

#include "scan_simd.h"
