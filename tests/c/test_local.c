/* tests/c/test_local.c -- trainers from C: same bits on one and two threads, gradients + apply = a step, two callers at
 * once, errors before anything is written. */
#include "../../csrc/base/buf.h"
#include "../../csrc/base/isa.h"
#include "../../csrc/base/pool.h"
#include "../../csrc/local/eval.h"
#include "../../csrc/local/mlp.h"
#include "../../csrc/local/train.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NODES = 5, SAMPLES = 60, EACH = 11, INPUTS = 19 };
static int failures;

static void expect(int ok, const char *what) {
    if (ok) return;
    failures++;
    printf("%s: %s failed\n", cg_isa_name(cg_isa()), what);
}

typedef struct world {
    cg_mlp net;
    cg_rows models;
    cg_samples data;
    float *x, *v, *g, *samples;
    int64_t label[SAMPLES], ptr[NODES + 1], idx[NODES * EACH], node[NODES], done[NODES];
    double loss[NODES];
} world;

static void *need(size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    if (!p) exit(2);
    return p;
}

static void make(world *w, size_t layers, const int64_t *sizes, cg_activation act) {
    cg_err err;
    if (cg_mlp_set(&w->net, layers + 1, sizes, act, &err) != CG_OK) exit(2);
    const size_t P = w->net.parameters, classes = (size_t)sizes[layers];
    w->x = need(NODES * P * sizeof(float));
    w->v = need(NODES * P * sizeof(float));
    w->g = need(NODES * P * sizeof(float));
    w->samples = need(SAMPLES * INPUTS * sizeof(float));
    memset(w->v, 0, NODES * P * sizeof(float));
    for (size_t i = 0; i < SAMPLES * INPUTS; i++) w->samples[i] = (float)((i * 7919) % 101) / 50.0f - 1.0f;
    for (size_t i = 0; i < SAMPLES; i++) w->label[i] = (int64_t)((i * 31) % classes);
    for (size_t i = 0; i <= NODES; i++) w->ptr[i] = (int64_t)(i * EACH);
    w->ptr[2] = w->ptr[1]; /* node 1 has no samples, node 2 twice as many */
    for (size_t i = 0; i < NODES * EACH; i++) w->idx[i] = (int64_t)((i * 13) % SAMPLES);
    for (size_t i = 0; i < NODES; i++) {
        w->node[i] = (int64_t)i;
        w->done[i] = 1;
    }
    w->models = (cg_rows){.x = w->x, .n = NODES, .ld = P, .rows = NULL, .count = NODES};
    w->data = (cg_samples){.count = SAMPLES,
                           .ld = INPUTS,
                           .x = w->samples,
                           .label = w->label,
                           .rows = NODES,
                           .part_ptr = w->ptr,
                           .part_idx = w->idx,
                           .parts = NODES * EACH,
                           .node = w->node,
                           .seed = 3,
                           .batch = 4};
    if (cg_mlp_init(&w->net, 1, w->node, &w->models, &err) != CG_OK) exit(2);
}

static void drop(world *w) { free(w->x), free(w->v), free(w->g), free(w->samples); }

static const cg_sgd sgd = {.lr = 0.1f, .momentum = 0.9f, .weight_decay = 0.01f, .nesterov = 1};

static int train(world *w, int64_t steps, cg_err *err) {
    return cg_mlp_train(&w->net, &w->models, &w->data, &sgd, w->v, w->net.parameters, NULL, steps, w->done, w->loss,
                        err);
}

static int same(const world *a, const world *b) {
    const size_t bytes = NODES * a->net.parameters * sizeof(float);
    return memcmp(a->x, b->x, bytes) == 0 && memcmp(a->v, b->v, bytes) == 0 &&
           memcmp(a->done, b->done, sizeof a->done) == 0;
}

static void networks(void) {
    static const int64_t sizes[][5] = {{INPUTS, 3}, {INPUTS, 17, 3}, {INPUTS, 33, 16, 4}, {INPUTS, 5, 18, 31, 2}};
    static world a, b, c;
    cg_err err;
    for (size_t layers = 1; layers <= 4; layers++) {
        const cg_activation act = layers % 2 ? CG_ACT_TANH : CG_ACT_RELU;
        make(&a, layers, sizes[layers - 1], act);
        make(&b, layers, sizes[layers - 1], act);
        make(&c, layers, sizes[layers - 1], act);
        const size_t P = a.net.parameters;
        expect(cg_set_num_threads(1, &err) == CG_OK && train(&a, 9, &err) == CG_OK, "train");
        expect(cg_set_num_threads(2, &err) == CG_OK && train(&b, 9, &err) == CG_OK, "train on two threads");
        expect(same(&a, &b), "one thread equals two");
        expect(isnan(a.loss[1]) && a.done[1] == 1 && isfinite(a.loss[0]), "a node without samples stays");
        for (int s = 0; s < 9; s++) {
            expect(cg_mlp_gradients(&c.net, &c.models, &c.data, c.done, c.g, P, c.loss, &err) == CG_OK, "gradients");
            expect(cg_mlp_apply(P, &c.models, c.ptr, c.g, P, &sgd, c.v, P, c.done, &err) == CG_OK, "apply");
        }
        expect(same(&a, &c), "gradients, then apply, is a step");

        double accuracy[NODES], loss[NODES];
        const size_t classes = (size_t)sizes[layers - 1][layers];
        float *z = need(SAMPLES * classes * sizeof *z);
        expect(cg_mlp_evaluate(&a.net, &a.models, SAMPLES, a.samples, INPUTS, a.label, accuracy, loss, &err) == CG_OK,
               "evaluate");
        expect(cg_mlp_logits(&a.net, a.x, SAMPLES, a.samples, INPUTS, z, classes, &err) == CG_OK, "logits");
        size_t hits = 0;
        for (size_t i = 0; i < SAMPLES; i++) {
            size_t best = 0;
            for (size_t j = 1; j < classes; j++)
                if (z[i * classes + j] > z[i * classes + best]) best = j;
            hits += best == (size_t)a.label[i];
        }
        expect(accuracy[0] == (double)hits / SAMPLES && isfinite(loss[0]), "evaluation agrees with the logits");
        free(z), drop(&a), drop(&b), drop(&c);
    }
}

static void errors(void) {
    static const int64_t sizes[] = {INPUTS, 6, 3}, twice[] = {0, 2, 0};
    static world w, before;
    cg_err err;
    make(&w, 2, sizes, CG_ACT_RELU);
    make(&before, 2, sizes, CG_ACT_RELU);
    w.label[w.idx[NODES * EACH - 1]] = 3;
    expect(train(&w, 2, &err) == CG_EVALUE && strstr(err.text, "labels["), "label out of range");
    w.label[w.idx[NODES * EACH - 1]] = 0;
    w.idx[3] = SAMPLES;
    expect(train(&w, 2, &err) == CG_EVALUE && strstr(err.text, "part_idx[3]"), "index out of range");
    w.idx[3] = 0;
    w.models.rows = twice;
    w.models.count = 3;
    expect(train(&w, 2, &err) == CG_EVALUE && strstr(err.text, "named twice"), "row twice");
    w.models.rows = NULL;
    w.models.count = NODES;
    float *const v = w.v;
    w.v = w.x;
    expect(train(&w, 2, &err) == CG_EALIAS, "velocity is x");
    w.v = v;
    w.data.x = w.x;
    expect(train(&w, 2, &err) == CG_EALIAS, "data is x");
    w.data.x = w.samples;
    expect(same(&w, &before), "errors change nothing");
    cg_mlp net;
    static const int64_t huge[] = {1 << 30, 1 << 30, 1 << 30, 1 << 30, 1 << 30, 1 << 30, 1 << 30, 1 << 30, 1 << 30};
    expect(cg_mlp_set(&net, 9, huge, CG_ACT_RELU, &err) == CG_EVALUE, "too many parameters");
    drop(&w), drop(&before);
}

static void *train_apart(void *arg) {
    cg_err err;
    return train(arg, 20, &err) == CG_OK ? arg : NULL;
}

static void two_callers(void) {
    static const int64_t sizes[] = {INPUTS, 20, 3};
    static world a, b;
    pthread_t other;
    void *result = NULL;
    cg_err err;
    make(&a, 2, sizes, CG_ACT_RELU);
    make(&b, 2, sizes, CG_ACT_RELU);
    if (pthread_create(&other, NULL, train_apart, &a) != 0) exit(2);
    expect(train(&b, 20, &err) == CG_OK, "first of two callers");
    pthread_join(other, &result);
    expect(result == &a && same(&a, &b), "two callers at once");
    drop(&a), drop(&b);
}

int main(void) {
    for (int isa = 0; isa < CG_ISA_COUNT; isa++) {
        if (cg_isa_force((cg_isa_t)isa) != 0) continue;
        networks();
        errors();
        two_callers();
    }
    if (failures) printf("test_local: %d failures\n", failures);
    return failures != 0;
}
