#include "../base/simd_avx512.h"
#include "mf_simd.h"
