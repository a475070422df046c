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

double cg_round_energy_base(size_t n, const uint8_t *action, const double *e) {
    double lane[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t l = 0; l < 8; l++) lane[l] += e[i + l] * (double)action[i + l]; /* exact: times 0 or 1 */
    for (; i < n; i++) lane[i % 8] += e[i] * (double)action[i];
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}
