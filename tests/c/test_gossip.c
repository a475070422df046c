/* tests/c/test_gossip.c -- the gossip family through its C interface: for the sanitizers, without Python. */
#include "../../csrc/base/isa.h"
#include "../../csrc/base/philox.h"
#include "../../csrc/base/pool.h"
#include "../../csrc/gossip/csr.h"
#include "../../csrc/gossip/graph.h"
#include "../../csrc/gossip/schedule.h"
#include "../../csrc/gossip/spectrum.h"
#include "../../csrc/gossip/weights.h"
#include "check.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A regular graph as CSR, its Metropolis matrix and lambda2. */
static void graph_to_lambda2(size_t n, size_t degree, double least, double most) {
    cg_err err;
    int32_t *nbr = malloc((n * degree + 1) * sizeof *nbr), *indptr = malloc((n + 1) * sizeof *indptr);
    int32_t *label = malloc(n * sizeof *label);
    int32_t *wp = malloc((n + 1) * sizeof *wp), *wi = malloc((n * degree + n) * sizeof *wi);
    float *w = malloc((n * degree + n) * sizeof *w);
    size_t count = 0;
    cg_lambda2_result r;
    CHECK(cg_regular_graph(n, degree, 3, 1, nbr, &err) == CG_OK);
    for (size_t i = 0; i <= n; i++) indptr[i] = (int32_t)(i * degree);
    CHECK(cg_graph_check(n, n * degree, indptr, nbr, &err) == CG_OK);
    CHECK(cg_components(n, n * degree, indptr, nbr, label, &count, &err) == CG_OK && count >= 1);
    CHECK(cg_metropolis_weights(n, n * degree, indptr, nbr, wp, wi, w, &err) == CG_OK);
    CHECK(cg_mixing_check(n, n * degree + n, wp, wi, w, CG_CHECK_SUMS | CG_CHECK_SYMMETRY, &err) == CG_OK);
    CHECK(cg_lambda2(n, n * degree + n, wp, wi, w, &r, &err) == CG_OK);
    CHECK(r.residual <= 1e-10 && r.value >= least && r.value <= most);
    free(nbr), free(indptr), free(label), free(wp), free(wi), free(w);
}

static void refusals(void) {
    cg_err err;
    int32_t nbr[64], label[4], p[4] = {0, 1, 2, 2}, i[3] = {1, 0, 0};
    size_t count;
    CHECK(cg_regular_graph(0, 0, 0, 0, nbr, &err) == CG_EVALUE);
    CHECK(cg_regular_graph(5, 5, 0, 0, nbr, &err) == CG_EVALUE);
    CHECK(cg_regular_graph(5, 3, 0, 0, nbr, &err) == CG_EVALUE && strstr(err.text, "even"));
    CHECK(cg_regular_graph(1u << 20, 1u << 19, 0, 0, nbr, &err) == CG_EVALUE);
    CHECK(cg_components(3, 2, p, i, label, &count, &err) == CG_OK && count == 2 && label[2] == 1);
    i[0] = 2;
    CHECK(cg_components(3, 2, p, i, label, &count, &err) == CG_EVALUE && strstr(err.text, "0 lists 2"));
    i[0] = 3;
    CHECK(cg_components(3, 2, p, i, label, &count, &err) == CG_EVALUE && strstr(err.text, "got 3"));
    p[1] = 3;
    CHECK(cg_components(3, 2, p, i, label, &count, &err) == CG_EVALUE && strstr(err.text, "indptr"));
    uint8_t action[4];
    const uint64_t over[2] = {0, CG_ALWAYS + 1};
    const int64_t negative[2] = {1, -1};
    CHECK(cg_schedule(2, 2, 0, 1, NULL, NULL, 0, 0, action, &err) == CG_EVALUE);
    CHECK(cg_schedule(2, 2, 1, 1, over, NULL, 0, 0, action, &err) == CG_EVALUE && strstr(err.text, "[1]"));
    CHECK(cg_schedule(2, 2, 1, 1, NULL, negative, 0, 0, action, &err) == CG_EVALUE && strstr(err.text, "-1"));
    CHECK(cg_schedule(2, 2, 1, 1, NULL, NULL, 0, UINT32_MAX, action, &err) == CG_EVALUE);
}

enum { ROUNDS = 500, NODES = 1000 };

typedef struct plan {
    uint8_t *action;
    double per_node[NODES], cumulative[ROUNDS];
} plan;

static void make_plan(plan *out) {
    static uint64_t threshold[NODES];
    static int64_t budget[NODES];
    static double e[NODES];
    for (uint64_t i = 0; i < NODES; i++) {
        threshold[i] = i * (CG_ALWAYS / (NODES - 1));
        budget[i] = (int64_t)(i * 7 % 400);
        e[i] = 0.001 * (double)(i + 1);
    }
    cg_err err;
    CHECK(cg_schedule(ROUNDS, NODES, 3, 1, threshold, budget, 42, 5, out->action, &err) == CG_OK);
    CHECK(cg_energy(ROUNDS, NODES, out->action, e, out->per_node, out->cumulative, &err) == CG_OK);
    for (size_t i = 0; i < NODES; i++) {
        int64_t left = budget[i];
        for (size_t t = 0; t < ROUNDS; t++) {
            int trains = 0;
            if (t % 4 < 3 && left > 0) {
                uint32_t coin;
                cg_random_u32(&(cg_address){42, CG_FOR_COIN, (uint32_t)i + 5, (uint32_t)t}, 0, 1, &coin);
                trains = coin < threshold[i];
            }
            left -= trains;
            if (out->action[t * NODES + i] != trains) {
                CHECK(!"the action matrix follows the rule");
                return;
            }
        }
    }
}

/* Every instruction set and number of threads gives the bits of the first. */
static void same_bits(void) {
    plan *first = malloc(sizeof *first), *next = malloc(sizeof *next);
    first->action = malloc(ROUNDS * NODES), next->action = malloc(ROUNDS * NODES);
    cg_err err;
    int have = 0;
    for (int isa = CG_ISA_BASE; isa < CG_ISA_COUNT; isa++)
        for (int threads = 1; threads <= 3; threads++) {
            if (cg_isa_force((cg_isa_t)isa) != 0) continue;
            CHECK(cg_set_num_threads(threads, &err) == CG_OK);
            make_plan(have ? next : first);
            if (have) {
                CHECK(memcmp(first->action, next->action, ROUNDS * NODES) == 0);
                CHECK(memcmp(first->per_node, next->per_node, sizeof first->per_node) == 0);
                CHECK(memcmp(first->cumulative, next->cumulative, sizeof first->cumulative) == 0);
            }
            have = 1;
        }
    free(first->action), free(next->action), free(first), free(next);
}

/* Two threads of the caller at once: one gets the pool, the other works alone. */
static void *one_caller(void *arg) {
    cg_err err;
    const uint64_t half[3] = {CG_ALWAYS / 2, CG_ALWAYS / 2, CG_ALWAYS / 2};
    uint8_t *action = arg;
    for (int k = 0; k < 50; k++)
        if (cg_schedule(100, 3, 1, 0, half, NULL, 1, 0, action, &err) != CG_OK) return arg;
    return NULL;
}

static void concurrent_callers(void) {
    pthread_t other;
    static uint8_t mine[300], theirs[300];
    void *failed = NULL;
    CHECK(pthread_create(&other, NULL, one_caller, theirs) == 0);
    CHECK(one_caller(mine) == NULL);
    CHECK(pthread_join(other, &failed) == 0 && failed == NULL);
    CHECK(memcmp(mine, theirs, sizeof mine) == 0);
}

int main(void) {
    graph_to_lambda2(1, 0, 0.0, 0.0);
    graph_to_lambda2(2, 1, 0.0, 1e-7);
    graph_to_lambda2(9, 8, 0.0, 1e-7);
    graph_to_lambda2(40, 25, 0.0, 0.5);
    graph_to_lambda2(256, 6, 0.73, 0.80);
    graph_to_lambda2(100, 1, 1.0 - 1e-7, 1.0 + 1e-7);
    refusals();
    same_bits();
    concurrent_callers();
    return failed();
}
