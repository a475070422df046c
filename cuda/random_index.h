/* cuda/random_index.h -- addressed randomness on a device: csrc/base/philox.h's words, csrc/noise's normals.
 *
 * A thread computes one Philox block, four numbers. Words first ... first + n - 1 of an address lie in blocks first / 4
 * ... (first + n - 1) / 4; the first and the last of them may be wanted in part. */
#ifndef CG_CUDA_RANDOM_INDEX_H
#define CG_CUDA_RANDOM_INDEX_H
#include "../csrc/base/philox.h"
#include "../csrc/base/philox_core.h"
#include "../csrc/noise/normal_core.h"
#include "shim.h"

enum { CG_RANDOM_THREADS = 256 };
enum { CG_RANDOM_U32, CG_RANDOM_F32, CG_RANDOM_NORMAL };

/* The words 4 block ... 4 block + 3 of an address. */
CG_BODY void cg_random_block(const cg_address *at, uint64_t block, uint32_t out[4]) {
    cg_philox_rounds((uint32_t)block, at->node, at->round, at->purpose | (uint32_t)(block >> 32) << 16,
                     (uint32_t)at->seed, (uint32_t)(at->seed >> 32), out);
}

/* Blocks that hold the words first ... first + n - 1. */
CG_BOTH uint64_t cg_random_blocks(uint64_t first, size_t n) { return n ? (first + n - 1) / 4 - first / 4 + 1 : 0; }

/* out[i] = number first + i of `kind`, 0 <= i < n: thread t of block b writes the four of Philox block b threads + t.
 */
CG_BODY void cg_random_body(int kind, const cg_address *at, uint64_t first, size_t n, void *out, uint64_t b,
                            uint32_t threads) {
    CG_BLOCK();
    CG_EACH_THREAD(t, threads) {
        const uint64_t block = first / 4 + b * threads + t;
        uint32_t words[4];
        float normals[4];
        cg_random_block(at, block, words);
        if (kind == CG_RANDOM_NORMAL) cg_normal_block(words, normals);
        for (uint64_t w = 0; w < 4; w++) {
            const uint64_t i = 4 * block + w - first; /* wraps round, beyond n, for words before the first */
            if (i >= n) continue;
            if (kind == CG_RANDOM_U32) ((uint32_t *)out)[i] = words[w];
            if (kind == CG_RANDOM_F32) ((float *)out)[i] = (float)(words[w] >> 8) * 0x1p-24f;
            if (kind == CG_RANDOM_NORMAL) ((float *)out)[i] = normals[w];
        }
    }
}
#endif
