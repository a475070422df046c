/* tests/c/test_merge.c -- search, merge and statistics from C: merging parts is searching the whole, bit for bit, on
 * one thread and on several, for queries alone and in batches; edges and errors. Arrays are as long as they must be: a
 * sanitizer sees every element too far. */
#include "../../csrc/base/isa.h"
#include "../../csrc/base/pool.h"
#include "../../csrc/router/merge.h"
#include "../../csrc/router/search.h"
#include "../../csrc/router/stats.h"
#include "check.h"
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { N = 2600, D = 21, B = 70, K = 9, PARTS = 3 };

static uint32_t state = 1;
static float step(void) { /* -3 ... 3: many ties */
    state = state * 1664525u + 1013904223u;
    return (float)(int32_t)(state >> 24) / 37.0f - 3.0f;
}

static void *need(size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    if (!p) exit(2);
    return p;
}

static void test_merging_parts_is_searching_the_whole(cg_search_metric metric, int threads) {
    static const size_t start[PARTS + 1] = {0, 5, 1500, N};
    float *const x = need(N * D * sizeof *x), *const q = need(B * D * sizeof *q),
                 *const norms = need(N * sizeof *norms);
    float *const d = need(B * K * sizeof *d), *const parts = need(PARTS * B * K * sizeof *parts);
    float *const merged = need(B * K * sizeof *merged), one[K];
    int64_t *const id = need(B * K * sizeof *id), *const part_ids = need(PARTS * B * K * sizeof *part_ids);
    int64_t *const merged_ids = need(B * K * sizeof *merged_ids), one_id[K];
    int32_t *const source = need(B * K * sizeof *source), *const counts = need(B * PARTS * sizeof *counts);
    double sum[D] = {0}, unit[D] = {0};
    cg_err err;
    for (size_t i = 0; i < N * D; i++) x[i] = floorf(step());
    for (size_t i = 0; i < B * D; i++) q[i] = floorf(step());
    CHECK(cg_set_num_threads(threads, &err) == CG_OK);
    CHECK(cg_stats_rows(N, D, x, D, sum, unit, norms, &err) == CG_OK);
    CHECK(cg_search_flat(metric, N, D, x, D, norms, B, q, D, K, d, id, &err) == CG_OK);
    for (size_t s = 0; s < PARTS; s++)
        CHECK(cg_search_flat(metric, start[s + 1] - start[s], D, x + start[s] * D, D, norms + start[s], B, q, D, K,
                             parts + s * B * K, part_ids + s * B * K, &err) == CG_OK);
    CHECK(cg_merge_topk(PARTS, B, K, parts, part_ids, metric != CG_SEARCH_L2, K, merged, source, merged_ids, counts,
                        &err) == CG_OK);
    CHECK(memcmp(d, merged, B * K * sizeof *d) == 0);
    for (size_t b = 0; b < B; b++) {
        int32_t of[PARTS] = {0};
        for (size_t i = 0; i < K; i++) {
            CHECK(merged_ids[b * K + i] + (int64_t)start[source[b * K + i]] == id[b * K + i]);
            of[source[b * K + i]]++;
        }
        CHECK(memcmp(of, counts + b * PARTS, sizeof of) == 0);
        CHECK(cg_search_flat(metric, N, D, x, D, norms, 1, q + b * D, D, K, one, one_id, &err) == CG_OK);
        CHECK(memcmp(one, d + b * K, sizeof one) == 0 && memcmp(one_id, id + b * K, sizeof one_id) == 0);
    }
    free(x), free(q), free(norms), free(d), free(parts), free(merged), free(id), free(part_ids), free(merged_ids);
    free(source), free(counts);
}

static void test_edges(void) {
    const float x[2] = {1.0f, 2.0f}, norms[2] = {1.0f, 2.0f};
    float d[4];
    int64_t id[4];
    cg_err err;
    CHECK(cg_search_flat(CG_SEARCH_L2, 2, 1, x, 1, norms, 1, x, 1, 4, d, id, &err) == CG_OK);
    CHECK(id[0] == 0 && id[1] == 1 && id[2] == -1 && id[3] == -1 && isinf(d[2]) && d[2] > 0);
    CHECK(cg_search_flat(CG_SEARCH_IP, 0, 1, x, 1, norms, 1, x, 1, 1, d, id, &err) == CG_OK && id[0] == -1);
    CHECK(cg_search_flat(CG_SEARCH_IP, 2, 1, x, 1, norms, 0, x, 1, 1, d, id, &err) == CG_OK);
    CHECK(cg_search_flat(CG_SEARCH_IP, 2, 1, x, 1, norms, 1, x, 1, 0, d, id, &err) == CG_OK);
    CHECK(cg_search_flat(CG_SEARCH_METRICS, 2, 1, x, 1, norms, 1, x, 1, 1, d, id, &err) == CG_EVALUE);
    CHECK(cg_search_flat(CG_SEARCH_IP, SIZE_MAX / 4, 1, x, 1, norms, 2, x, 1, SIZE_MAX / 4, d, id, &err) == CG_ENOMEM);
}

static void test_any_order_in(void) {
    const float scores[4] = {1.0f, NAN, 3.0f, 2.0f};
    const int64_t ids[4] = {0, 1, 2, -1};
    float merged[3];
    int32_t source[3], counts[1];
    int64_t id[3];
    cg_err err;
    CHECK(cg_merge_topk(1, 1, 4, scores, ids, 1, 3, merged, source, id, counts, &err) == CG_OK);
    CHECK(id[0] == 2 && id[1] == 0 && id[2] == -1 && source[2] == -1 && counts[0] == 2);
    CHECK(cg_merge_topk(0, 1, 4, scores, ids, 0, 1, merged, source, id, NULL, &err) == CG_OK);
    CHECK(id[0] == -1 && merged[0] > 0 && isinf(merged[0]));
    CHECK(cg_merge_topk(1, 1, SIZE_MAX / 2, scores, ids, 0, 1, merged, source, id, counts, &err) == CG_ENOMEM);
}

static void test_statistics_name_the_bad_row(void) {
    const float x[6] = {3.0f, 4.0f, 0.0f, 0.0f, 1.0f, NAN};
    double sum[2] = {0}, unit[2] = {0};
    float norms[3];
    cg_err err;
    CHECK(cg_stats_rows(2, 2, x, 2, sum, unit, norms, &err) == CG_OK);
    CHECK(sum[0] == 3.0 && fabs(unit[1] - 0.8) < 1e-15 && norms[0] == 5.0f && norms[1] == 0.0f);
    CHECK(cg_stats_rows(3, 2, x, 2, sum, unit, norms, &err) == CG_EVALUE && sum[0] == 3.0);
    CHECK(strstr(err.text, "row 2") != NULL);
}

int main(void) {
    for (int isa = 0; isa < CG_ISA_COUNT; isa++) {
        if (cg_isa_force((cg_isa_t)isa) != 0) continue;
        for (int metric = 0; metric < CG_SEARCH_METRICS; metric++)
            for (int threads = 1; threads <= 3; threads += 2)
                test_merging_parts_is_searching_the_whole((cg_search_metric)metric, threads);
        test_edges();
        test_any_order_in();
        test_statistics_name_the_bad_row();
    }
    return failed();
}
