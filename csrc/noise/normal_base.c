#include "../base/philox.h"
#include "normal_core.h"
#include "normal_kernels.h"

void cg_normal_f32_base(const uint32_t counter[4], const uint32_t key[2], size_t blocks, float *out) {
    uint32_t at[4] = {counter[0], counter[1], counter[2], counter[3]}, words[4];
    for (size_t b = 0; b < blocks; b++, at[0]++) {
        cg_philox4x32(at, key, words);
        cg_normal_block(words, out + 4 * b);
    }
}
