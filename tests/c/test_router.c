/* tests/c/test_router.c -- the router's network from C, in buffers of exactly the documented sizes (so that a sanitizer
 * sees any read or write beyond them), under every instruction set and on one and more threads. */
#include "../../csrc/base/isa.h"
#include "../../csrc/base/philox.h"
#include "../../csrc/base/pool.h"
#include "../../csrc/router/forward.h"
#include "../../csrc/router/network.h"
#include "../../csrc/router/train.h"
#include "check.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static float *floats(size_t n) { /* exactly n of them */
    float *p = calloc(n ? n : 1, sizeof *p);
    if (!p) exit(2);
    return p;
}

static float *random_floats(uint32_t what, size_t n) {
    float *p = floats(n);
    const cg_address at = {1, CG_FOR_USER, what, 0};
    cg_random_f32(&at, 0, n, p);
    for (size_t i = 0; i < n; i++) p[i] -= 0.5f;
    return p;
}

/* ---- probabilities ---- */

enum { ENCODERS = 3, SOURCES = 5, H1 = 19, H2 = 7, QUERIES = 37, WIDEST = 23 };
static const int64_t dims[ENCODERS] = {23, 11, 23}, encoder[SOURCES] = {0, 1, 2, 0, 1};

static void normalise(size_t n, double *z, const float *gain, const float *bias) {
    double mean = 0.0, var = 0.0;
    for (size_t i = 0; i < n; i++) mean += z[i] / (double)n;
    for (size_t i = 0; i < n; i++) var += (z[i] - mean) * (z[i] - mean) / (double)n;
    for (size_t i = 0; i < n; i++) {
        z[i] = (double)gain[i] * (z[i] - mean) / sqrt(var + (double)CG_ROUTER_EPS) + (double)bias[i];
        if (z[i] < 0.0) z[i] = 0.0;
    }
}

static double expected(const cg_router_parts *p, size_t s, const float *q) {
    const size_t k = (size_t)dims[encoder[s]];
    const float *const gain1 = p->tail, *const bias1 = gain1 + H1, *const w2 = bias1 + H1, *const b2 = w2 + H1 * H2;
    const float *const gain2 = b2 + H2, *const bias2 = gain2 + H2, *const w3 = bias2 + H2;
    double z1[H1], z2[H2], logit = (double)w3[H2], dot = 0.0;
    for (size_t i = 0; p->cross && i < k; i++) dot += (double)q[i] * (double)p->centroids[s * WIDEST + i];
    for (size_t j = 0; j < H1; j++) {
        z1[j] = (double)p->shift[s * H1 + j] + (p->cross ? dot * (double)p->cross[j] : 0.0);
        for (size_t i = 0; i < k; i++) z1[j] += (double)p->wq[j * WIDEST + i] * (double)q[i];
    }
    normalise(H1, z1, gain1, bias1);
    for (size_t j = 0; j < H2; j++) {
        z2[j] = (double)b2[j];
        for (size_t i = 0; i < H1; i++) z2[j] += (double)w2[j * H1 + i] * z1[i];
    }
    normalise(H2, z2, gain2, bias2);
    for (size_t j = 0; j < H2; j++) logit += (double)w3[j] * z2[j];
    return 1.0 / (1.0 + exp(-logit));
}

static void forward(int with_dot) {
    float *wq = random_floats(1, H1 * WIDEST), *shift = random_floats(2, SOURCES * H1), *cross = random_floats(3, H1);
    float *centroids = random_floats(4, SOURCES * WIDEST), *tail = random_floats(5, cg_router_tail(H1, H2));
    float *q[ENCODERS], *p = floats(QUERIES * SOURCES), *one = floats(SOURCES);
    for (size_t e = 0; e < ENCODERS; e++) q[e] = random_floats(10 + (uint32_t)e, QUERIES * (size_t)dims[e]);
    const cg_router_parts parts = {.encoders = ENCODERS,
                                   .sources = SOURCES,
                                   .hidden1 = H1,
                                   .hidden2 = H2,
                                   .dims = dims,
                                   .encoder = encoder,
                                   .wq = wq,
                                   .shift = shift,
                                   .cross = with_dot ? cross : NULL,
                                   .centroids = with_dot ? centroids : NULL,
                                   .tail = tail};
    cg_err err;
    cg_router *const r = cg_router_new(&parts, &err);
    CHECK(r != NULL);
    CHECK(r && cg_router_forward(r, QUERIES, (const float *const *)q, p, &err) == CG_OK);
    for (size_t b = 0; b < QUERIES; b++) {
        const float *alone[ENCODERS];
        for (size_t e = 0; e < ENCODERS; e++) alone[e] = q[e] + b * (size_t)dims[e];
        for (size_t s = 0; s < SOURCES; s++)
            CHECK(fabs((double)p[b * SOURCES + s] - expected(&parts, s, alone[encoder[s]])) < 1e-5);
        CHECK(cg_router_forward(r, 1, alone, one, &err) == CG_OK);
        CHECK(memcmp(one, p + b * SOURCES, sizeof(float) * SOURCES) == 0);
    }
    q[1][5] = NAN;
    CHECK(cg_router_forward(r, QUERIES, (const float *const *)q, p, &err) == CG_EVALUE);
    CHECK(strstr(err.text, "queries[1]") != NULL);
    cg_router_free(r);
    cg_router_parts bad = parts;
    const int64_t wrong[SOURCES] = {0, 1, 3, 0, 0};
    bad.encoder = wrong;
    CHECK(cg_router_new(&bad, &err) == NULL && err.code == CG_EVALUE);
    cg_router_free(NULL);
    float *const all[] = {wq, shift, cross, centroids, tail, q[0], q[1], q[2], p, one};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static void choose(void) {
    const float p[6] = {0.9f, 0.4f, 0.6f, 0.1f, 0.2f, NAN}, half[3] = {0.5f, 0.5f, 0.5f};
    uint8_t mask[6];
    cg_router_policy policy = {half, 0, 3, CG_ROUTER_TOP1};
    cg_router_choose(2, 3, p, &policy, mask);
    CHECK(memcmp(mask, "\1\0\1\0\1\0", 6) == 0);
    policy.empty = CG_ROUTER_ALL;
    policy.most = 2;
    cg_router_choose(2, 3, p, &policy, mask);
    CHECK(memcmp(mask, "\1\0\1\1\1\0", 6) == 0);
    policy = (cg_router_policy){half, 1, 1, CG_ROUTER_NONE};
    cg_router_choose(2, 3, p, &policy, mask);
    CHECK(memcmp(mask, "\1\0\0\0\1\0", 6) == 0);
}

/* ---- training ---- */

enum { ROWS = 41, COUNT = 13, STATICS = 9 };

/* Trains on one batch after another and returns the parameters, plain. */
static float *trained(const cg_router_net *net, size_t steps, double *loss) {
    float *queries = random_floats(20, 2 * COUNT * net->queries), *statics = random_floats(21, SOURCES * STATICS);
    float *crosses = random_floats(22, COUNT * SOURCES), *plain = random_floats(23, net->plain);
    uint8_t labels[COUNT * SOURCES];
    int32_t rows[ROWS];
    const int64_t whose[SOURCES] = {0, 1, 0, 1, 0};
    const double lr[4] = {1e-2, 1e-2, 1e-2, 1e-2};
    for (size_t i = 0; i < sizeof labels; i++) labels[i] = i % 3 == 0;
    for (int32_t i = 0; i < ROWS; i++) rows[i] = i * 17 % (COUNT * SOURCES);
    const cg_router_data data = {COUNT, SOURCES, 2, queries, whose, statics, crosses, labels};
    const cg_router_optimiser how = {
        .seed = 3, .dropout = 0.25f, .pos_weight = 2.0f, .weight_decay = 1e-4f, .clip = 1.0f};
    const size_t n = net->at[CG_ROUTER_TENSORS];
    float *params = floats(n), *first = floats(n), *second = floats(n);
    cg_err err;
    cg_router_net_pack(net, plain, params);
    double sum = 0.0;
    for (size_t i = 0; i < steps; i++) {
        double now = 0.0;
        CHECK(cg_router_train(net, &data, &how, ROWS, rows, 11, lr, 4 * i, params, first, second, &now, &err) == CG_OK);
        sum = now;
    }
    *loss = sum;
    rows[7] = COUNT * SOURCES;
    CHECK(cg_router_train(net, &data, &how, ROWS, rows, 11, lr, 0, params, first, second, loss, &err) == CG_EVALUE);
    CHECK(strstr(err.text, "rows[7]") != NULL);
    *loss = sum;
    cg_router_net_unpack(net, params, plain);
    float *const all[] = {queries, statics, crosses, params, first, second};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    return plain;
}

static void training(void) {
    cg_router_net net;
    cg_err err;
    CHECK(cg_router_net_set(&net, WIDEST, STATICS, 1, H1, H2, &err) == CG_OK);
    double begin, end, again;
    float *little = trained(&net, 1, &begin), *much = trained(&net, 60, &end);
    CHECK(isfinite(begin) && end < 0.7 * begin); /* it learns its few rows by heart */
    cg_set_num_threads(3, &err);
    float *other = trained(&net, 60, &again);
    cg_set_num_threads(1, &err);
    CHECK(memcmp(other, much, net.plain * sizeof *much) == 0 && again == end);
    CHECK(memcmp(little, much, net.plain * sizeof *much) != 0);
    free(little);
    free(much);
    free(other);
    CHECK(cg_router_net_set(&net, 0, 0, 0, H1, H2, &err) == CG_EVALUE);
    CHECK(cg_router_net_set(&net, 1, 0, 2, H1, H2, &err) == CG_EVALUE);
    CHECK(cg_router_net_set(&net, 1, 0, 0, 0, H2, &err) == CG_EVALUE);
}

int main(void) {
    cg_err err;
    choose();
    for (int isa = 0; isa < CG_ISA_COUNT; isa++) {
        if (cg_isa_force((cg_isa_t)isa) < 0) continue;
        for (int threads = 1; threads <= 2; threads++) {
            cg_set_num_threads(threads, &err);
            forward(0);
            forward(1);
        }
        training();
    }
    return failed();
}
