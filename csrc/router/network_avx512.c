#include "../base/simd_avx512.h"
#define v_sqrt _mm512_sqrt_ps
enum { MAX_ROWS = 24 }; /* 24 sums + 1 vector of dz + 1 broadcast, of 32 registers */
#include "network_simd.h"
