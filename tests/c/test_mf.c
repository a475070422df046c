/* tests/c/test_mf.c -- matrix factorization from C: same bits on one and two threads, a step against a dense one in
 * double, two callers at once, errors before anything is written. Arrays are as long as they must be: a sanitizer sees
 * every element too far. */
#include "../../csrc/base/isa.h"
#include "../../csrc/base/pool.h"
#include "../../csrc/local/mf.h"
#include "check.h"
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { NODES = 5, USERS = 7, ITEMS = 11, RATINGS = 60, EACH = 12 };

typedef struct world {
    cg_mf net;
    cg_rows models;
    cg_mf_ratings data;
    cg_mf_parts parts;
    float *x, *rating;
    int32_t *pair;
    int64_t ptr[NODES + 1], idx[NODES * EACH], node[NODES], done[NODES];
    double loss[NODES], decay;
    int64_t steps;
} world;

static void *need(size_t bytes) {
    void *p = malloc(bytes);
    if (!p) exit(2);
    return p;
}

static void make(world *w, int64_t factors, int biases, double decay) {
    cg_err err;
    if (cg_mf_set(&w->net, USERS, ITEMS, factors, biases, 3.5, &err) != CG_OK) exit(2);
    const size_t P = w->net.parameters;
    w->x = need(NODES * P * sizeof *w->x);
    w->pair = need(2 * RATINGS * sizeof *w->pair);
    w->rating = need(RATINGS * sizeof *w->rating);
    for (size_t i = 0; i < NODES * P; i++) w->x[i] = (float)((i * 7919) % 101) / 200.0f - 0.25f;
    for (size_t i = 0; i < RATINGS; i++) {
        w->pair[2 * i] = (int32_t)((i * 31) % USERS);
        w->pair[2 * i + 1] = (int32_t)((i * 17) % ITEMS);
        w->rating[i] = 0.5f * (float)(1 + (i * 7) % 10);
    }
    for (size_t i = 0; i <= NODES; i++) w->ptr[i] = (int64_t)(i * EACH);
    w->ptr[2] = w->ptr[1]; /* node 1 has no ratings, node 2 twice as many */
    for (size_t i = 0; i < NODES * EACH; i++) w->idx[i] = (int64_t)((i * 13) % RATINGS);
    for (size_t i = 0; i < NODES; i++) {
        w->node[i] = (int64_t)i;
        w->done[i] = 1;
    }
    w->models = (cg_rows){.x = w->x, .n = NODES, .ld = P, .rows = NULL, .count = NODES};
    w->data = (cg_mf_ratings){RATINGS, w->pair, w->rating};
    w->parts = (cg_mf_parts){.rows = NODES,
                             .part_ptr = w->ptr,
                             .part_idx = w->idx,
                             .parts = NODES * EACH,
                             .node = w->node,
                             .seed = 3,
                             .batch = 5};
    w->decay = decay;
    w->steps = 9;
}

static void drop(world *w) { free(w->x), free(w->pair), free(w->rating); }

static int train(world *w, cg_err *err) {
    return cg_mf_train(&w->net, &w->models, &w->data, &w->parts, 0.1, w->decay, w->steps, w->done, w->loss, err);
}

static int same(const world *a, const world *b) {
    return memcmp(a->x, b->x, NODES * a->net.parameters * sizeof *a->x) == 0 &&
           memcmp(a->done, b->done, sizeof a->done) == 0;
}

static double predict(const cg_mf *net, const float *x, const int32_t *pair) {
    const float *const p = x + (size_t)pair[0] * net->factors;
    const float *const q = x + (net->users + (size_t)pair[1]) * net->factors;
    const float *const bias = x + (net->users + net->items) * net->factors;
    double out = (double)net->mean;
    for (size_t k = 0; k < net->factors; k++) out += (double)p[k] * (double)q[k];
    return net->biases ? out + (double)bias[pair[0]] + (double)bias[net->users + (size_t)pair[1]] : out;
}

/* One step of node 0 with all its ratings, densely, in double. */
static void dense_step(const world *w, double *x) {
    const cg_mf *const net = &w->net;
    for (size_t k = 0; k < net->parameters; k++) x[k] = (double)w->x[k] * (1.0 - 0.1 * w->decay);
    for (size_t b = 0; b < EACH; b++) {
        const size_t s = (size_t)w->idx[b], u = (size_t)w->pair[2 * s], i = (size_t)w->pair[2 * s + 1];
        const double by = 0.1 * 2.0 / EACH * (predict(net, w->x, w->pair + 2 * s) - (double)w->rating[s]);
        const size_t items = net->users * net->factors, bias = items + net->items * net->factors;
        for (size_t k = 0; k < net->factors; k++) {
            x[u * net->factors + k] -= by * (double)w->x[items + i * net->factors + k];
            x[items + i * net->factors + k] -= by * (double)w->x[u * net->factors + k];
        }
        if (net->biases) x[bias + u] -= by, x[bias + net->users + i] -= by;
    }
}

static void factorizations(void) {
    static const int64_t factors[] = {1, 7, 8, 9, 16, 20, 33};
    static world a, b;
    cg_err err;
    for (size_t f = 0; f < sizeof factors / sizeof *factors; f++) {
        for (int biases = 0; biases < 2; biases++) {
            const double decay = f % 2 ? 0.5 : 0.0;
            make(&a, factors[f], biases, decay), make(&b, factors[f], biases, decay);
            double *const x = need(a.net.parameters * sizeof *x);
            a.steps = 1, a.parts.batch = EACH, a.models.count = 1; /* all of node 0's ratings, whatever their order */
            dense_step(&a, x);
            CHECK(train(&a, &err) == CG_OK);
            double worst = 0.0;
            for (size_t k = 0; k < a.net.parameters; k++) worst = fmax(worst, fabs(x[k] - (double)a.x[k]));
            CHECK(worst < 1e-6);
            drop(&a), free(x);

            make(&a, factors[f], biases, decay);
            CHECK(cg_set_num_threads(1, &err) == CG_OK && train(&a, &err) == CG_OK);
            CHECK(cg_set_num_threads(2, &err) == CG_OK && train(&b, &err) == CG_OK);
            CHECK(same(&a, &b));
            CHECK(isnan(a.loss[1]) && a.done[1] == 1 && isfinite(a.loss[0]) && a.done[0] == 10);

            double mse[NODES], batches[NODES], sum = 0.0;
            CHECK(cg_mf_evaluate(&a.net, &a.models, &a.data, NULL, 7, mse, batches, &err) == CG_OK);
            for (size_t s = 0; s < RATINGS; s++) {
                const double e = predict(&a.net, a.x, a.pair + 2 * s) - (double)a.rating[s];
                sum += e * e;
            }
            CHECK(fabs(mse[0] - sum / RATINGS) < 1e-5 * mse[0] && fabs(batches[0] - mse[0]) < mse[0]);
            CHECK(cg_mf_evaluate(&a.net, &a.models, &a.data, a.ptr, 7, mse, batches, &err) == CG_OK);
            CHECK(isfinite(mse[0]) && isnan(mse[1]) && isnan(batches[1]));
            drop(&a), drop(&b);
        }
    }
}

static void errors(void) {
    static const int64_t twice[] = {0, 2, 0};
    static world w, before;
    cg_err err;
    cg_mf net;
    double mse[NODES], batches[NODES];
    make(&w, 20, 1, 0.0), make(&before, 20, 1, 0.0);
    w.pair[2 * w.idx[40]] = USERS;
    CHECK(train(&w, &err) == CG_EVALUE && strstr(err.text, ", 0]: expected a user 0 to 6, got 7"));
    CHECK(cg_mf_evaluate(&w.net, &w.models, &w.data, NULL, 7, mse, batches, &err) == CG_EVALUE);
    w.pair[2 * w.idx[40]] = 0;
    w.idx[3] = RATINGS;
    CHECK(train(&w, &err) == CG_EVALUE && strstr(err.text, "part_idx[3]"));
    w.idx[3] = 0;
    w.models.rows = twice, w.models.count = 3;
    CHECK(train(&w, &err) == CG_EVALUE && strstr(err.text, "named twice"));
    w.models.rows = NULL, w.models.count = NODES;
    w.data.rating = w.x;
    CHECK(train(&w, &err) == CG_EALIAS);
    w.data.rating = w.rating;
    w.decay = 10.0;
    CHECK(train(&w, &err) == CG_EVALUE && strstr(err.text, "weight_decay"));
    CHECK(same(&w, &before));
    CHECK(cg_mf_set(&net, 0, 1, 1, 1, 0.0, &err) == CG_EVALUE && cg_mf_set(&net, 1, 1, 1, 1, NAN, &err) == CG_EVALUE);
    drop(&w), drop(&before);
}

static void *train_apart(void *arg) {
    cg_err err;
    return train(arg, &err) == CG_OK ? arg : NULL;
}

static void two_callers(void) {
    static world a, b;
    pthread_t other;
    void *result = NULL;
    cg_err err;
    make(&a, 20, 1, 0.1), make(&b, 20, 1, 0.1);
    if (pthread_create(&other, NULL, train_apart, &a) != 0) exit(2);
    CHECK(train(&b, &err) == CG_OK);
    pthread_join(other, &result);
    CHECK(result == &a && same(&a, &b));
    drop(&a), drop(&b);
}

int main(void) {
    for (int isa = 0; isa < CG_ISA_COUNT; isa++) {
        if (cg_isa_force((cg_isa_t)isa) != 0) continue;
        factorizations();
        errors();
        two_callers();
    }
    return failed();
}
