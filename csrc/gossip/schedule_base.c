#include "../base/philox.h"
#include "schedule_kernels.h"

void cg_slot_base(uint64_t seed, uint32_t first_node, uint32_t round, const uint32_t *last, uint32_t *left,
                  uint8_t *action) {
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (uint32_t i = 0; i < CG_SLOT_NODES; i++) {
        uint32_t train = left[i] != 0;
        if (train && last[i] != UINT32_MAX) {
            const uint32_t counter[4] = {0, first_node + i, round, CG_FOR_COIN};
            uint32_t coin[4];
            cg_philox4x32(counter, key, coin);
            train = coin[0] <= last[i];
        }
        left[i] -= train;
        action[i] = (uint8_t)train;
    }
}
