/* csrc/cache/scan_simd.h -- the scan, once for all vector widths. Include after simd_avx2.h or simd_avx512.h and after
 * a function beyond(total, bound): the lanes with bound < total, as bits. */
#ifndef CG_SCAN_SIMD_H
#define CG_SCAN_SIMD_H
#include "scan_kernels.h"

enum { VECS = CG_LANES / SIMD_WIDTH, AHEAD = 8 * CG_CHUNK };
#define IN_CACHE (1u << 20) /* bytes of keys that a second-level cache may hold: there prefetching only costs */

SIMD_INLINE void add_chunk(const int ip, const int ahead, const float *k, const float *next, const float *q,
                           vf total[VECS]) {
    vf part[4][VECS];
#pragma GCC unroll 16
    for (size_t j = 0; j < CG_CHUNK; j++) {
        const vf x = v_set1(q[j]);
        /* The same place in the next group. (An address beyond the end is harmless, and as an integer no pointer.) */
        if (ahead) __builtin_prefetch((const void *)((uintptr_t)next + j * CG_LANES * sizeof(float)), 0, 2);
#pragma GCC unroll 2
        for (size_t v = 0; v < VECS; v++) {
            const vf y = v_load(k + j * CG_LANES + v * SIMD_WIDTH), d = v_sub(x, y);
            const vf a = ip ? x : d, b = ip ? y : d;
            part[j % 4][v] = j < 4 ? v_mul(a, b) : v_fma(a, b, part[j % 4][v]);
        }
    }
#pragma GCC unroll 2
    for (size_t v = 0; v < VECS; v++)
        total[v] = v_add(total[v], v_add(v_add(part[0][v], part[1][v]), v_add(part[2][v], part[3][v])));
}

SIMD_INLINE int all_beyond(const vf total[VECS], vf bound) {
    unsigned out = beyond(total[0], bound);
    for (size_t v = 1; v < VECS; v++) out &= beyond(total[v], bound);
    return out == (1u << SIMD_WIDTH) - 1u;
}

SIMD_INLINE size_t scan(const int ip, const float *keys, size_t dpad, size_t group, size_t end, const float *q,
                        float bound, float out[CG_LANES]) {
    const vf limit = v_set1(bound);
    const uintptr_t size = dpad * CG_LANES * sizeof(float);
    /* Groups end at about the same depth; the hardware goes on reading where one was left and does not foresee the jump
     * to the next. So the next one is asked for down to where the last one ended, or until the hardware has understood;
     * not where the last one was read to the end, since then memory is read in order. */
    size_t ahead = end * size > IN_CACHE && !ip ? 4 * CG_CHUNK : 0;
    const size_t most = ahead ? dpad : 0;
    for (; group < end; group++) {
        const float *const k = keys + group * dpad * CG_LANES;
        vf total[VECS];
        for (size_t v = 0; v < VECS; v++) total[v] = v_zero();
        int out_of_reach = 0;
        size_t j = 0;
        for (; j < dpad && !out_of_reach; j += CG_CHUNK) {
            const float *const at = k + j * CG_LANES, *const next = (const float *)((uintptr_t)at + size);
            if (j < ahead)
                add_chunk(ip, 1, at, next, q + j, total);
            else
                add_chunk(ip, 0, at, next, q + j, total);
            if (!ip) out_of_reach = all_beyond(total, limit);
        }
        ahead = j >= most ? 0 : j < AHEAD ? j : AHEAD;
        if (ip) {
            for (size_t v = 0; v < VECS; v++) total[v] = v_sub(v_zero(), total[v]);
            out_of_reach = all_beyond(total, limit);
        }
        if (out_of_reach) continue;
        for (size_t v = 0; v < VECS; v++) v_store(out + v * SIMD_WIDTH, total[v]);
        return group;
    }
    return end;
}

size_t SIMD(cg_scan_l2)(const float *keys, size_t dpad, size_t group, size_t end, const float *q, float bound,
                        float total[CG_LANES]) {
    return scan(0, keys, dpad, group, end, q, bound, total);
}

size_t SIMD(cg_scan_ip)(const float *keys, size_t dpad, size_t group, size_t end, const float *q, float bound,
                        float total[CG_LANES]) {
    return scan(1, keys, dpad, group, end, q, bound, total);
}
#endif
