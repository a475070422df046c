#include "../base/simd_avx2.h"
#include "mf_simd.h"
