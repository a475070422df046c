/* tests/c/test_aggregate.c -- the aggregate family through its C interface: every instruction set, several threads,
 * odd sizes, two callers at once, and what it refuses. Prints what failed; returns non-zero. */
#include "../../csrc/aggregate/consensus.h"
#include "../../csrc/aggregate/mix.h"
#include "../../csrc/base/buf.h"
#include "../../csrc/base/floors.h"
#include "../../csrc/base/isa.h"
#include "../../csrc/base/pool.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;
#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s:%d: %s (isa %s)\n", __FILE__, __LINE__, #what, cg_isa_name(cg_isa()));                 \
            failures++;                                                                                                \
        }                                                                                                              \
    } while (0)

enum { MOST = 300, DEGREE = 4 };

/* A ring in which node i hears itself and the DEGREE next ones. */
typedef struct ring {
    int32_t indptr[MOST + 1], indices[MOST * (DEGREE + 1)];
    float weights[MOST * (DEGREE + 1)];
    cg_csr csr;
} ring;

static void make_ring(ring *g, size_t n) {
    const size_t k = n < DEGREE + 1 ? n : DEGREE + 1;
    for (size_t i = 0; i <= n; i++) g->indptr[i] = (int32_t)(i * k);
    for (size_t e = 0; e < n * k; e++) {
        g->indices[e] = (int32_t)((e / k + e % k) % n);
        g->weights[e] = 1.0f / (float)k;
    }
    g->csr = (cg_csr){n, g->indptr, g->indices, g->weights};
}

static float *make_models(size_t n, size_t ld) {
    float *x = cg_buf_alloc(n * ld * sizeof *x);
    for (size_t i = 0; x && i < n * ld; i++) x[i] = (float)((i * 2654435761u) % 1000u) / 500.0f - 1.0f;
    return x;
}

static void test_mix(size_t n, size_t p) {
    ring *g = malloc(sizeof *g);
    const size_t ld = cg_buf_ld(p, sizeof(float)), cols[4] = {0, p / 3, p / 3, p};
    float *x = make_models(n, ld), *y = make_models(n, ld), *z = make_models(n, ld);
    cg_err err = {0, ""};
    if (!g || !x || !y || !z) exit(2);
    make_ring(g, n);
    const cg_csr *table[6] = {&g->csr, &g->csr, &g->csr, &g->csr, &g->csr, &g->csr};
    CHECK(cg_mix_f32(n, p, x, ld, y, ld, 1, 3, cols, table, &err) == CG_OK);
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < ld; c++) {
            double want = 0.0;
            for (int32_t e = g->indptr[i]; e < g->indptr[i + 1]; e++)
                want += (double)g->weights[e] * (double)x[(size_t)g->indices[e] * ld + c];
            if (c >= p) want = (double)z[i * ld + c]; /* padding as it was: y and z began alike */
            if (!(fabs((double)y[i * ld + c] - want) < 1e-6)) {
                CHECK(!"y is W x, and its padding is untouched");
                c = ld, i = n - 1;
            }
        }
    }
    CHECK(cg_mix_f32(n, p, y, ld, z, ld, 1, 3, cols, table, &err) == CG_OK);
    CHECK(cg_mix_f32(n, p, x, ld, x, ld, 2, 3, cols, table, &err) == CG_OK);
    int same = 1;
    for (size_t i = 0; i < n; i++) same &= memcmp(x + i * ld, z + i * ld, p * sizeof *x) == 0;
    CHECK(same && "two fused rounds in place are two calls");
    cg_buf_free(x);
    cg_buf_free(y);
    cg_buf_free(z);
    free(g);
}

static void test_refused(void) {
    ring *g = malloc(sizeof *g);
    float x[4 * 8] = {0}, y[4 * 8];
    const size_t cols[2] = {0, 8};
    cg_err err;
    if (!g) exit(2);
    make_ring(g, 4);
    const cg_csr *table[1] = {&g->csr};
    for (size_t i = 0; i < 32; i++) y[i] = 3.0f;
    g->indices[5] = 4;
    CHECK(cg_mix_f32(4, 8, x, 8, y, 8, 1, 1, cols, table, &err) == CG_EVALUE);
    CHECK(strcmp(err.text, "table[0][0]: indices[5]: expected 0 to 3, got 4") == 0);
    g->indices[5] = 0;
    g->indptr[1] = 17;
    CHECK(cg_mix_f32(4, 8, x, 8, y, 8, 1, 1, cols, table, &err) == CG_EVALUE);
    make_ring(g, 4);
    CHECK(cg_mix_f32(4, 8, x, 7, y, 8, 1, 1, cols, table, &err) == CG_EVALUE);
    CHECK(cg_mix_f32(4, 8, x, 8, y, 8, 0, 1, cols, table, &err) == CG_EVALUE);
    CHECK(cg_mix_f32(4, 4, x, 8, x + 4, 8, 1, 1, (size_t[]){0, 4}, table, &err) == CG_EALIAS);
    int untouched = 1;
    for (size_t i = 0; i < 32; i++) untouched &= y[i] == 3.0f;
    CHECK(untouched);
    free(g);
}

static void test_mask(void) {
    /* A path 0 - 1 - 2; the link 1 - 2 is dead in one direction only. */
    const int32_t indptr[] = {0, 2, 5, 7}, indices[] = {0, 1, 2, 0, 1, 2, 1};
    const float weights[] = {0.75f, 0.25f, 0.25f, 0.25f, 0.5f, 0.75f, 0.25f};
    const float want[] = {0.75f, 0.25f, 0.0f, 0.25f, 0.75f, 1.0f, 0.0f};
    const uint8_t alive[] = {1, 1, 0, 1, 1, 1, 1};
    const int32_t one_way[] = {0, 1, 2, 0, 1, 2, 0};
    const cg_csr w = {3, indptr, indices, weights}, bad = {3, indptr, one_way, weights};
    float out[7];
    cg_err err;
    CHECK(cg_csr_mask(&w, alive, out, &err) == CG_OK);
    CHECK(memcmp(out, want, sizeof out) == 0);
    CHECK(cg_csr_mask(&bad, alive, out, &err) == CG_EVALUE);
}

static void test_spread(size_t n, size_t p) {
    const size_t ld = p + 3;
    float *x = make_models(n, ld);
    double *mean = malloc(p * sizeof *mean), spread, want = 0.0;
    int64_t row, col;
    cg_err err;
    if (!x || !mean) exit(2);
    CHECK(cg_consensus_f32(n, p, x, ld, 0, NULL, mean, &spread, &err) == CG_OK);
    for (size_t c = 0; c < p; c++) {
        double m = 0.0;
        for (size_t i = 0; i < n; i++) m += (double)x[i * ld + c];
        m /= (double)n;
        CHECK(fabs(m - mean[c]) < 1e-12);
        for (size_t i = 0; i < n; i++) want += ((double)x[i * ld + c] - m) * ((double)x[i * ld + c] - m);
    }
    CHECK(fabs(want - spread) <= 1e-10 * want);
    for (size_t i = 0; i < n; i++) x[i * ld + p] = NAN; /* padding is not looked at */
    CHECK(cg_find_nonfinite_f32(n, p, x, ld, 0, NULL, &row, &col, &err) == CG_OK && row == -1 && col == -1);
    x[(n - 1) * ld + p / 2] = INFINITY;
    CHECK(cg_find_nonfinite_f32(n, p, x, ld, 0, NULL, &row, &col, &err) == CG_OK);
    CHECK(row == (int64_t)n - 1 && col == (int64_t)(p / 2));
    const int64_t beyond[1] = {(int64_t)n};
    CHECK(cg_consensus_f32(n, p, x, ld, 1, beyond, mean, &spread, &err) == CG_EVALUE);
    CHECK(cg_consensus_f32(n, p, x, ld, 0, beyond, mean, &spread, &err) == CG_EVALUE);
    free(mean);
    cg_buf_free(x);
}

static void test_floors(void) {
    enum { N = 70001 };
    float *x = make_models(1, N), *y = make_models(1, N + 1);
    double sum, want = 0.0;
    cg_err err;
    if (!x || !y) exit(2);
    for (size_t i = 0; i < N; i++) want += (double)x[i];
    CHECK(cg_floor_read(N, x, &sum, &err) == CG_OK && fabs(sum - want) < 0.1);
    for (int stream = 0; stream < 2; stream++) {
        memset(y, 0, (N + 1) * sizeof *y);
        CHECK(cg_floor_copy(N, x, y + 1, stream, &err) == CG_OK && memcmp(x, y + 1, N * sizeof *x) == 0);
    }
    cg_buf_free(x);
    cg_buf_free(y);
}

static void *other_caller(void *arg) {
    for (int i = 0; i < 10; i++) test_mix(33, 2000);
    return arg;
}

int main(void) {
    const size_t nodes[] = {1, 2, 3, 17, 64, 300}, columns[] = {1, 15, 16, 17, 63, 64, 65, 130, 2049};
    cg_err err;
    for (int isa = 0; isa < CG_ISA_COUNT; isa++) {
        if (cg_isa_force((cg_isa_t)isa) != 0) continue;
        for (int threads = 1; threads <= 3; threads++) {
            CHECK(cg_set_num_threads(threads, &err) == CG_OK);
            for (size_t a = 0; a < sizeof nodes / sizeof *nodes; a++)
                for (size_t b = 0; b < sizeof columns / sizeof *columns; b++) test_mix(nodes[a], columns[b]);
            test_spread(1, 1);
            test_spread(7, 1500);
            test_spread(300, 700);
            test_floors();
        }
        test_refused();
    }
    test_mask();
    pthread_t other;
    if (pthread_create(&other, NULL, other_caller, NULL) != 0) return 2;
    for (int i = 0; i < 10; i++) test_spread(40, 9000);
    pthread_join(other, NULL);
    if (failures) fprintf(stderr, "%d checks failed\n", failures);
    return failures != 0;
}
