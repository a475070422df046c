/* cuda/consensus_index.h -- the bodies of the consensus and average kernels. */
#ifndef CG_CUDA_CONSENSUS_INDEX_H
#define CG_CUDA_CONSENSUS_INDEX_H
#include "reduce_index.h"
#include "tile_index.h"

enum {
    CG_CONSENSUS_THREADS = 256,
    CG_CONSENSUS_SHIFT = 5,
    CG_CONSENSUS_COLUMNS = 1 << CG_CONSENSUS_SHIFT, /* of a tile: a line of memory */
    CG_CONSENSUS_ROWS = 512,                        /* of a tile: 64 KiB, so that two or three blocks meet on a core */
    CG_AVERAGE_COLUMNS = 128,                       /* threads of a block, a column each */
    CG_AVERAGE_ROWS = 16                            /* whose loads do not wait for each other */
};

/* Bytes of shared memory of a block. */
CG_BOTH size_t cg_consensus_room(size_t k) {
    const size_t most = CG_CONSENSUS_ROWS, rows = k < most ? k : most;
    return (CG_CONSENSUS_THREADS + CG_CONSENSUS_COLUMNS) * sizeof(double) + rows * CG_CONSENSUS_COLUMNS * sizeof(float);
}

/* Rows first, first + 1, ... of those that count into the tile; returns how many of them. */
CG_BODY uint32_t cg_consensus_load(const float *x, size_t ldx, size_t k, const int64_t *rows, size_t first, size_t cols,
                                   uint32_t threads, float *tile) {
    const size_t n = k - first < CG_CONSENSUS_ROWS ? k - first : CG_CONSENSUS_ROWS;
    cg_tile_load(n, rows ? x : x + first * ldx, ldx, rows ? rows + first : NULL, cols, CG_CONSENSUS_SHIFT, threads,
                 tile);
    return (uint32_t)n;
}

/* mean[c] = 1/k sum_i x_i[c] for the block's columns, and part[block] = their share of sum_i ||x_i - mean||^2. Float64.
 * The mean has the CPU's bits: a thread a column adds the rows in order, from shared memory; all threads share the
 * squares. Up to CG_CONSENSUS_ROWS rows are read once, more of them twice. room: cg_consensus_room(k) bytes of shared
 * memory. */
CG_BODY void cg_consensus_body(size_t p, const float *x, size_t ldx, size_t k, const int64_t *rows, double *mean,
                               double *part, size_t block, uint32_t threads, double *room) {
    enum { WIDTH = CG_CONSENSUS_COLUMNS, ROWS = CG_CONSENSUS_ROWS };
    const size_t col = block * WIDTH, cols = p - col;
    double *const means = room + threads;
    float *const tile = (float *)(means + WIDTH);
    CG_THREADS_OWN(double, own, CG_CONSENSUS_THREADS);
    CG_BLOCK();
    CG_EACH_THREAD(t, threads) { CG_OWN(own, t) = 0.0; }
    CG_NO_BARRIER();
    for (size_t first = 0; first < k; first += ROWS) {
        const uint32_t n = cg_consensus_load(x + col, ldx, k, rows, first, cols, threads, tile);
        CG_EACH_THREAD(t, threads) {
            double sum = CG_OWN(own, t);
            if (t < WIDTH && t < cols) {
                CG_UNROLL(8)
                for (uint32_t i = 0; i < n; i++) sum += (double)tile[i * WIDTH + t];
            }
            CG_OWN(own, t) = sum;
        }
        CG_BARRIER();
    }
    CG_EACH_THREAD(t, threads) {
        if (t < WIDTH && t < cols) mean[col + t] = means[t] = CG_OWN(own, t) / (double)k;
        CG_OWN(own, t) = 0.0;
    }
    CG_BARRIER();
    for (size_t first = 0; first < k; first += ROWS) {
        const uint32_t n =
            k <= ROWS ? (uint32_t)k : cg_consensus_load(x + col, ldx, k, rows, first, cols, threads, tile);
        CG_EACH_THREAD(t, threads) {
            const uint32_t c = t % WIDTH, left = n * WIDTH > t && c < cols ? n * WIDTH - t : 0;
            const double mean_c = left > 0 ? means[c] : 0.0;
            double sum = CG_OWN(own, t);
            CG_UNROLL(4)
            for (uint32_t i = 0; i < (left + threads - 1) / threads; i++) {
                const double d = (double)tile[t + i * threads] - mean_c;
                sum += d * d;
            }
            CG_OWN(own, t) = sum;
        }
        CG_BARRIER();
    }
    CG_EACH_THREAD(t, threads) { room[t] = CG_OWN(own, t); }
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
        double sum = 0.0;
        for (CG_STRIDE(first, t, CG_PARTS * threads, n)) {
            double v[CG_PARTS];
            CG_UNROLL(8)
            for (size_t j = 0; j < CG_PARTS; j++) v[j] = first + j * threads < n ? part[first + j * threads] : 0.0;
            CG_UNROLL(8)
            for (size_t j = 0; j < CG_PARTS; j++) sum += v[j];
        }
        room[t] = sum;
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
        for (size_t first = 0; c < p && first < k; first += CG_AVERAGE_ROWS) {
            const size_t n = k - first < CG_AVERAGE_ROWS ? k - first : CG_AVERAGE_ROWS;
            float v[CG_AVERAGE_ROWS], w[CG_AVERAGE_ROWS];
            CG_UNROLL(16)
            for (size_t i = 0; i < CG_AVERAGE_ROWS; i++) {
                v[i] = cg_fleet_row(x, ldx, rows, first + (i < n ? i : 0))[c];
                w[i] = i < n ? weights[first + i] : 0.0f;
            }
            CG_UNROLL(16)
            for (size_t i = 0; i < CG_AVERAGE_ROWS; i++)
                if (w[i] != 0.0f) sum = fmaf(w[i], v[i], sum);
        }
        if (c < p) out[c] = sum;
    }
}
#endif
