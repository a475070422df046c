#include "../base/simd_avx2.h"
#define v_sqrt _mm256_sqrt_ps
enum { MAX_ROWS = 6 }; /* 12 sums + 2 vectors of dz + 1 broadcast, of 16 registers */
#include "network_simd.h"
