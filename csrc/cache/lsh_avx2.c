/* csrc/cache/lsh_avx2.c */
#include "../base/simd_avx2.h"

#include "lsh_simd.h"
