/* cuda/reduce_index.h -- a sum or a minimum over the threads of a block, in an order that is always the same. */
#ifndef CG_CUDA_REDUCE_INDEX_H
#define CG_CUDA_REDUCE_INDEX_H
#include "shim.h"

enum { CG_PARTS = 8 }; /* of other blocks that a thread loads together, so that the loads do not wait for each other */

/* room[0] = the sum of room[0 ... threads - 1], as a balanced tree. threads: a power of two. The caller's last section
 * wrote room, and a barrier follows it; another ends the sum. */
#define CG_REDUCE_SUM(room, threads)                                                                                   \
    for (uint32_t half = (threads) / 2; half > 0; half /= 2) {                                                         \
        CG_EACH_THREAD(t, threads) {                                                                                   \
            if (t < half) (room)[t] += (room)[t + half];                                                               \
        }                                                                                                              \
        CG_BARRIER();                                                                                                  \
    }
#endif
