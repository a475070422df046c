#include "eval.h"
#include "../base/buf.h"
#include "../base/pool.h"
#include "overlap.h"
#include "step.h"

enum {
    BLOCK = 96,    /* samples: the activations of a usual layer stay in the second-level cache */
    RUN = 16,      /* blocks a model is packed for: packing is then a few per cent of the work */
    MANY_ROWS = 32 /* from here on there are rows enough for every thread: a model is packed once */
};

typedef struct job {
    const cg_mlp *net;
    const cg_rows *models;
    const float *data;
    const int64_t *label;
    size_t samples, ld, blocks, run, runs; /* runs: a model's tasks, of `run` blocks each */
    double *loss;                          /* (rows, blocks): summed over a block's samples */
    size_t *hits;                          /* (rows, blocks) */
} job;

enum { PARTS = CG_WORK_WEIGHTS | CG_WORK_FORWARD };

static void do_tasks(void *ctx, size_t begin, size_t end, void *scratch) {
    const job *const j = ctx;
    const float *x[BLOCK];
    cg_work w;
    cg_work_lay(&w, j->net, PARTS, BLOCK, 0, scratch);
    const cg_work_layer *const top = &w.layer[j->net->layers - 1];
    for (size_t t = begin; t < end; t++) {
        const size_t q = t / j->runs, from = t % j->runs * j->run;
        const size_t to = j->blocks - from < j->run ? j->blocks : from + j->run;
        cg_work_load(&w, j->models->x + cg_rows_at(j->models, q) * j->models->ld, NULL);
        for (size_t k = from; k < to; k++) {
            const size_t first = k * BLOCK, m = j->samples - first < BLOCK ? j->samples - first : BLOCK;
            size_t hits = 0;
            for (size_t i = 0; i < m; i++) x[i] = j->data + (first + i) * j->ld;
            cg_work_forward(&w, m, x, top->wide, top->y_row);
            j->loss[q * j->blocks + k] =
                w.kernels->softmax(m, top->out, top->y, top->wide, j->label + first, 1.0f, &hits);
            j->hits[q * j->blocks + k] = hits;
        }
    }
}

int cg_mlp_evaluate(const cg_mlp *net, const cg_rows *models, size_t samples, const float *data, size_t ld,
                    const int64_t *label, double *accuracy, double *loss, cg_err *err) {
    const size_t inputs = net->width[0], classes = net->width[net->layers];
    int rc = cg_rows_check(models, net->parameters, err);
    if (rc) return rc;
    if (ld < inputs) return cg_fail(err, CG_EVALUE, "data: expected rows of %zu inputs, got %zu", inputs, ld);
    for (size_t i = 0; i < samples; i++)
        if (label[i] < 0 || (uint64_t)label[i] >= classes)
            return cg_fail(err, CG_EVALUE, "labels[%zu]: expected 0 to %zu, got %lld", i, classes - 1,
                           (long long)label[i]);
    const cg_span written[] = {cg_span_rows("accuracy", accuracy, 1, 0, models->count, sizeof *accuracy),
                               cg_span_rows("loss", loss, 1, 0, models->count, sizeof *loss)};
    const cg_span read[] = {
        cg_span_rows("x", models->x, models->n, models->ld, net->parameters, sizeof *models->x),
        cg_span_rows("data", data, samples, ld, inputs, sizeof *data),
        cg_span_rows("labels", label, 1, 0, samples, sizeof *label),
        cg_span_rows("rows", models->rows, 1, 0, models->count, sizeof *models->rows),
    };
    if ((rc = cg_overlap_check(2, written, 4, read, err))) return rc;
    job j = {.net = net, .models = models, .data = data, .label = label, .samples = samples, .ld = ld};
    j.blocks = samples / BLOCK + (samples % BLOCK > 0);
    j.run = models->count >= MANY_ROWS || j.blocks < RUN ? j.blocks : RUN;
    j.runs = j.run ? (j.blocks + j.run - 1) / j.run : 0;
    cg_work w;
    const size_t scratch = cg_work_lay(&w, net, PARTS, BLOCK, 0, NULL), item = sizeof *j.loss + sizeof *j.hits;
    const size_t pieces = models->count * j.blocks;
    const int fits = scratch != SIZE_MAX && (j.blocks == 0 || models->count <= SIZE_MAX / 2 / item / j.blocks);
    j.loss = fits ? cg_buf_alloc(pieces * item) : NULL;
    if (!j.loss) return cg_fail(err, CG_ENOMEM, "no memory to evaluate %zu models", models->count);
    j.hits = (size_t *)(j.loss + pieces);
    rc = cg_parallel_for(models->count * j.runs, 1, scratch, do_tasks, &j, err);
    for (size_t q = 0; q < models->count && !rc; q++) {
        double total = 0.0;
        size_t hits = 0;
        for (size_t k = 0; k < j.blocks; k++) {
            total += j.loss[q * j.blocks + k];
            hits += j.hits[q * j.blocks + k];
        }
        accuracy[q] = (double)hits / (double)samples; /* 0 / 0: NaN */
        loss[q] = total / (double)samples;
    }
    cg_buf_free(j.loss);
    return rc;
}
