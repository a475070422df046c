/* cuda/consensus_index.h -- the bodies of the consensus and average kernels: a thread a column, rows in order. */
#ifndef CG_CUDA_CONSENSUS_INDEX_H
#define CG_CUDA_CONSENSUS_INDEX_H
#include "reduce_index.h"

enum { CG_COLUMNS = 128 }; /* threads of a block, a column each */

/* The rows that count: rows[i], or all n of them (rows NULL, k = n). */
CG_BODY const float *cg_fleet_row(const float *x, size_t ldx, const int64_t *rows, size_t i) {
    return x + (rows ? (size_t)rows[i] : i) * ldx;
}

/* mean[c] = 1/k sum_i x_i[c] for the block's columns, and part[block] = their share of sum_i ||x_i - mean||^2. Float64,
 * rows in order: the mean has the CPU's bits. room: CG_COLUMNS doubles of shared memory. */
CG_BODY void cg_consensus_body(size_t p, const float *x, size_t ldx, size_t k, const int64_t *rows, double *mean,
                               double *part, size_t block, uint32_t threads, double *room) {
    CG_BLOCK();
    CG_EACH_THREAD(t, threads) {
        const size_t c = block * threads + t;
        double sum = 0.0, square = 0.0;
        if (c < p) {
            for (size_t i = 0; i < k; i++) sum += (double)cg_fleet_row(x, ldx, rows, i)[c];
            sum /= (double)k;
            for (size_t i = 0; i < k; i++) {
                const double d = (double)cg_fleet_row(x, ldx, rows, i)[c] - sum;
                square += d * d;
            }
            mean[c] = sum;
        }
        room[t] = square;
    }
    CG_BARRIER();
    CG_REDUCE_SUM(room, threads)
    CG_EACH_THREAD(t, threads) {
        if (t == 0) part[block] = room[0];
    }
}

/* *out = the sum of n parts, by one block. room: a double a thread. */
CG_BODY void cg_sum_body(size_t n, const double *part, double *out, uint32_t threads, double *room) {
    CG_BLOCK();
    CG_EACH_THREAD(t, threads) {
        room[t] = 0.0;
        for (CG_STRIDE(i, t, threads, n)) room[t] += part[i];
    }
    CG_BARRIER();
    CG_REDUCE_SUM(room, threads)
    CG_EACH_THREAD(t, threads) {
        if (t == 0) *out = room[0];
    }
}

/* out[c] = sum_i weights[i] x_i[c], in order, one FMA each, from 0; weights of 0 are left out and carry no NaN. */
CG_BODY void cg_average_body(size_t p, const float *x, size_t ldx, size_t k, const int64_t *rows, const float *weights,
                             float *out, size_t block, uint32_t threads) {
    CG_BLOCK();
    CG_EACH_THREAD(t, threads) {
        const size_t c = block * threads + t;
        float sum = 0.0f;
        for (size_t i = 0; c < p && i < k; i++)
            if (weights[i] != 0.0f) sum = fmaf(weights[i], cg_fleet_row(x, ldx, rows, i)[c], sum);
        if (c < p) out[c] = sum;
    }
}
#endif
