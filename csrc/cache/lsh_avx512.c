/* csrc/cache/lsh_avx512.c */
#include "../base/simd_avx512.h"

#include "lsh_simd.h"
