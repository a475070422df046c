/* cuda/nonfinite_index.h -- the bodies of the search for NaN and infinity: the first one, in the order of rows, then
 * of columns. A block looks at a piece of a row; a last one takes the least of what they found. */
#ifndef CG_CUDA_NONFINITE_INDEX_H
#define CG_CUDA_NONFINITE_INDEX_H
#include "consensus_index.h"

enum { CG_SEEK_THREADS = 256, CG_SEEK_PIECE = 4096 /* columns */ };
#define CG_NOWHERE UINT64_MAX

/* room[0] = the least of room[0 ... threads - 1]. */
#define CG_REDUCE_LEAST(room, threads)                                                                                 \
    for (uint32_t half = (threads) / 2; half > 0; half /= 2) {                                                         \
        CG_EACH_THREAD(t, threads) {                                                                                   \
            if (t < half && (room)[t + half] < (room)[t]) (room)[t] = (room)[t + half];                                \
        }                                                                                                              \
        CG_BARRIER();                                                                                                  \
    }

/* By CG_SEEK_THREADS threads: part[block] = i p + c of the first value that is not finite in the block's piece, i
 * counting the rows that count, or CG_NOWHERE. room: one value a thread. */
CG_BODY void cg_seek_body(size_t p, const float *x, size_t ldx, const int64_t *rows, uint64_t *part, size_t block,
                          uint32_t threads, uint64_t *room) {
    CG_BLOCK();
    const size_t pieces = cg_div_up(p, CG_SEEK_PIECE), i = block / pieces, first = block % pieces * CG_SEEK_PIECE;
    const size_t cols = p - first < CG_SEEK_PIECE ? p - first : CG_SEEK_PIECE;
    const float *const row = cg_fleet_row(x, ldx, rows, i) + first;
    CG_EACH_THREAD(t, threads) {
        enum { OWN = CG_SEEK_PIECE / CG_SEEK_THREADS };
        float v[OWN]; /* their loads do not wait for each other */
        CG_UNROLL(16)
        for (size_t j = 0; j < OWN; j++) v[j] = j * threads + t < cols ? row[j * threads + t] : 0.0f;
        room[t] = CG_NOWHERE;
        CG_UNROLL(16)
        for (size_t j = OWN; j-- > 0;)
            if (!(fabsf(v[j]) <= FLT_MAX)) room[t] = (uint64_t)i * p + first + j * threads + t;
    }
    CG_BARRIER();
    CG_REDUCE_LEAST(room, threads)
    CG_EACH_THREAD(t, threads) {
        if (t == 0) part[block] = room[0];
    }
}

/* *out = the least of n parts, by one block. */
CG_BODY void cg_least_body(size_t n, const uint64_t *part, uint64_t *out, uint32_t threads, uint64_t *room) {
    CG_BLOCK();
    CG_EACH_THREAD(t, threads) {
        uint64_t least = CG_NOWHERE;
        for (CG_STRIDE(first, t, CG_PARTS * threads, n)) {
            uint64_t v[CG_PARTS];
            CG_UNROLL(8)
            for (size_t j = 0; j < CG_PARTS; j++)
                v[j] = first + j * threads < n ? part[first + j * threads] : CG_NOWHERE;
            CG_UNROLL(8)
            for (size_t j = 0; j < CG_PARTS; j++) least = v[j] < least ? v[j] : least;
        }
        room[t] = least;
    }
    CG_BARRIER();
    CG_REDUCE_LEAST(room, threads)
    CG_EACH_THREAD(t, threads) {
        if (t == 0) *out = room[0];
    }
}
#endif
