/* csrc/cache/scan_base.c -- the reference: 16 lanes side by side, four chains over the dimensions of a chunk. */
#include "scan_kernels.h"

/* total[l] += the chunk's share, in the order that scan.h states. */
static void add_chunk(int ip, const float *k, const float *q, float total[CG_LANES]) {
    float part[4][CG_LANES] = {{0}};
    for (size_t j = 0; j < CG_CHUNK; j++)
        for (size_t l = 0; l < CG_LANES; l++) {
            const float d = ip ? k[j * CG_LANES + l] : q[j] - k[j * CG_LANES + l];
            part[j % 4][l] += d * (ip ? q[j] : d);
        }
    for (size_t l = 0; l < CG_LANES; l++) total[l] += (part[0][l] + part[1][l]) + (part[2][l] + part[3][l]);
}

static int any_within(const float total[CG_LANES], float bound) {
    int any = 0;
    for (size_t l = 0; l < CG_LANES; l++) any |= total[l] <= bound;
    return any;
}

size_t cg_scan_l2_base(const float *keys, size_t dpad, size_t group, size_t end, const float *q, float bound,
                       float total[CG_LANES]) {
    for (; group < end; group++) {
        const float *const k = keys + group * dpad * CG_LANES;
        for (size_t l = 0; l < CG_LANES; l++) total[l] = 0.0f;
        size_t j = 0;
        do {
            add_chunk(0, k + j * CG_LANES, q + j, total);
            j += CG_CHUNK;
        } while (any_within(total, bound) && j < dpad);
        if (j == dpad && any_within(total, bound)) return group;
    }
    return end;
}

size_t cg_scan_ip_base(const float *keys, size_t dpad, size_t group, size_t end, const float *q, float bound,
                       float total[CG_LANES]) {
    for (; group < end; group++) {
        const float *const k = keys + group * dpad * CG_LANES;
        for (size_t l = 0; l < CG_LANES; l++) total[l] = 0.0f;
        for (size_t j = 0; j < dpad; j += CG_CHUNK) add_chunk(1, k + j * CG_LANES, q + j, total);
        for (size_t l = 0; l < CG_LANES; l++) total[l] = -total[l];
        if (any_within(total, bound)) return group;
    }
    return end;
}
