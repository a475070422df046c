#include "train.h"
#include "../base/pool.h"
#include "overlap.h"
#include "step.h"
#include <math.h>
#include <string.h>

/* ---- checks: everything a kernel relies on, before anything is written ---- */

static int check_sgd(const cg_sgd *s, const float *velocity, size_t ldv, size_t parameters, cg_err *err) {
    if (!(s->lr >= 0.0f && isfinite(s->lr)))
        return cg_fail(err, CG_EVALUE, "lr: expected a finite number, at least 0, got %g", (double)s->lr);
    if (!(s->momentum >= 0.0f && isfinite(s->momentum)))
        return cg_fail(err, CG_EVALUE, "momentum: expected a finite number, at least 0, got %g", (double)s->momentum);
    if (!(s->weight_decay >= 0.0f && isfinite(s->weight_decay)))
        return cg_fail(err, CG_EVALUE, "weight_decay: expected a finite number, at least 0, got %g",
                       (double)s->weight_decay);
    if (s->nesterov && s->momentum == 0.0f) return cg_fail(err, CG_EVALUE, "nesterov: needs a momentum above 0");
    if (s->momentum != 0.0f && !velocity) return cg_fail(err, CG_EVALUE, "velocity: needed with a momentum above 0");
    if (velocity && ldv < parameters)
        return cg_fail(err, CG_EVALUE, "velocity: expected rows of %zu parameters, got %zu", parameters, ldv);
    return CG_OK;
}

static int check_parts(const int64_t *part_ptr, size_t rows, size_t parts, cg_err *err) {
    if (part_ptr[0] < 0) return cg_fail(err, CG_EVALUE, "part_ptr[0]: expected at least 0");
    for (size_t r = 0; r < rows; r++)
        if (part_ptr[r + 1] < part_ptr[r])
            return cg_fail(err, CG_EVALUE, "part_ptr[%zu]: expected at least %lld, got %lld", r + 1,
                           (long long)part_ptr[r], (long long)part_ptr[r + 1]);
    if ((uint64_t)part_ptr[rows] > parts)
        return cg_fail(err, CG_EVALUE, "part_ptr[%zu]: expected at most %zu (the length of part_idx), got %lld", rows,
                       parts, (long long)part_ptr[rows]);
    return CG_OK;
}

static int64_t samples_of(const int64_t *part_ptr, size_t r) { return part_ptr[r + 1] - part_ptr[r]; }

/* The samples of the rows of this call, and that their next `steps` batches have an address. */
static int check_samples(const cg_mlp *net, const cg_rows *models, const cg_samples *d, const int64_t *local_steps,
                         int64_t steps, const int64_t *steps_done, cg_err *err) {
    const size_t classes = net->width[net->layers];
    if (d->ld < net->width[0])
        return cg_fail(err, CG_EVALUE, "data: expected rows of %zu inputs, got %zu", net->width[0], d->ld);
    if (d->rows != models->n)
        return cg_fail(err, CG_EVALUE, "part_ptr: expected %zu parts, got %zu", models->n, d->rows);
    if (d->batch < 1) return cg_fail(err, CG_EVALUE, "batch: expected at least 1, got %lld", (long long)d->batch);
    int rc = check_parts(d->part_ptr, d->rows, d->parts, err);
    for (size_t q = 0; q < models->count && !rc; q++) {
        const size_t r = cg_rows_at(models, q);
        const int64_t m = samples_of(d->part_ptr, r), e = local_steps ? local_steps[q] : steps;
        if (e < 0) return cg_fail(err, CG_EVALUE, "local_steps: expected at least 0, got %lld", (long long)e);
        if (m == 0) continue;
        rc = cg_sampler_check(d->node[r], steps_done[r], e, m, d->batch, err);
        for (int64_t i = d->part_ptr[r]; i < d->part_ptr[r + 1] && !rc; i++) {
            const int64_t s = d->part_idx[i];
            if (s < 0 || (uint64_t)s >= d->count)
                rc = cg_fail(err, CG_EVALUE, "part_idx[%lld]: expected 0 to %lld, got %lld", (long long)i,
                             (long long)d->count - 1, (long long)s);
            else if (d->label[s] < 0 || (uint64_t)d->label[s] >= classes)
                rc = cg_fail(err, CG_EVALUE, "labels[%lld]: expected 0 to %zu, got %lld", (long long)s, classes - 1,
                             (long long)d->label[s]);
        }
    }
    return rc;
}

static size_t most_samples(const cg_rows *models, const int64_t *part_ptr) {
    int64_t most = 0;
    for (size_t q = 0; q < models->count; q++) {
        const int64_t m = samples_of(part_ptr, cg_rows_at(models, q));
        if (m > most) most = m;
    }
    return (size_t)most;
}

enum { SPANS = 7 };

static void spans_read(cg_span s[SPANS], const cg_mlp *net, const cg_rows *models, const cg_samples *d,
                       const int64_t *local_steps) {
    s[0] = cg_span_rows("data", d->x, d->count, d->ld, net->width[0], sizeof *d->x);
    s[1] = cg_span_rows("labels", d->label, 1, 0, d->count, sizeof *d->label);
    s[2] = cg_span_rows("part_ptr", d->part_ptr, 1, 0, d->rows + 1, sizeof *d->part_ptr);
    s[3] = cg_span_rows("part_idx", d->part_idx, 1, 0, d->parts, sizeof *d->part_idx);
    s[4] = cg_span_rows("node_ids", d->node, 1, 0, d->rows, sizeof *d->node);
    s[5] = cg_span_rows("rows", models->rows, 1, 0, models->count, sizeof *models->rows);
    s[6] = cg_span_rows("local_steps", local_steps, 1, 0, models->count, sizeof *local_steps);
}

/* ---- one row ---- */

typedef struct job {
    const cg_mlp *net;
    const cg_rows *models;
    const cg_samples *data;
    const cg_sgd *sgd; /* NULL: gradients */
    const int64_t *local_steps;
    const int64_t *steps_read;
    int64_t *steps_done;
    int64_t steps;
    float *velocity, *g;
    double *loss;
    size_t ldv, ldg, parameters, batch, order; /* the last two: the most any row needs */
    int parts;
} job;

/* Points the work space at the samples of one step; returns how many. */
static size_t gather(cg_work *w, cg_sampler *s, const cg_samples *d, const int64_t *part, int64_t step) {
    const int32_t *position;
    const size_t m = cg_sampler_batch(s, step, &position);
    for (size_t b = 0; b < m; b++) {
        const size_t i = (size_t)part[position[b]];
        w->x_row[b] = d->x + i * d->ld;
        w->label[b] = d->label[i];
    }
    return m;
}

static void do_rows(void *ctx, size_t begin, size_t end, void *scratch) {
    const job *const j = ctx;
    const cg_samples *const d = j->data;
    cg_work w;
    cg_work_lay(&w, j->net, j->parts, j->batch, j->order, scratch);
    for (size_t q = begin; q < end; q++) {
        const size_t r = cg_rows_at(j->models, q);
        const int64_t m = samples_of(d->part_ptr, r), steps = j->local_steps ? j->local_steps[q] : j->steps;
        float *const x = j->models->x + r * j->models->ld;
        float *const v = j->velocity ? j->velocity + r * j->ldv : NULL;
        float *const g = j->g ? j->g + q * j->ldg : NULL;
        j->loss[q] = NAN;
        if (m == 0 || steps == 0) {
            if (g) memset(g, 0, j->parameters * sizeof *g);
            continue;
        }
        const int64_t *const part = d->part_idx + d->part_ptr[r];
        const int64_t first = j->steps_read[r];
        double loss = 0.0;
        cg_sampler s;
        cg_sampler_start(&s, d->seed, d->node[r], m, d->batch, w.order);
        cg_work_load(&w, x, v);
        for (int64_t e = 0; e < steps; e++) loss += cg_work_step(&w, gather(&w, &s, d, part, first + e), j->sgd);
        cg_work_store(&w, g ? g : x, v);
        if (j->steps_done) j->steps_done[r] = first + steps;
        j->loss[q] = loss / (double)steps;
    }
}

/* Measures the work space and runs the job over its rows. */
static int run(job *j, cg_err *err) {
    cg_work w;
    j->order = most_samples(j->models, j->data->part_ptr);
    j->batch = (uint64_t)j->data->batch < j->order ? (size_t)j->data->batch : j->order;
    j->parts = CG_WORK_WEIGHTS | CG_WORK_FORWARD | CG_WORK_BACKWARD | (j->velocity ? CG_WORK_VELOCITY : 0);
    const size_t bytes = cg_work_lay(&w, j->net, j->parts, j->batch, j->order, NULL);
    if (bytes == SIZE_MAX) return cg_fail(err, CG_ENOMEM, "no memory for batches of %zu samples", j->batch);
    return cg_parallel_for(j->models->count, 1, bytes, do_rows, j, err);
}

/* ---- public ---- */

int cg_mlp_train(const cg_mlp *net, const cg_rows *models, const cg_samples *data, const cg_sgd *sgd, float *velocity,
                 size_t ldv, const int64_t *local_steps, int64_t steps, int64_t *steps_done, double *loss,
                 cg_err *err) {
    const size_t P = net->parameters;
    int rc = cg_rows_check(models, P, err);
    if (!rc) rc = check_sgd(sgd, velocity, ldv, P, err);
    if (!rc) rc = check_samples(net, models, data, local_steps, steps, steps_done, err);
    if (rc) return rc;
    const cg_span written[] = {
        cg_span_rows("x", models->x, models->n, models->ld, P, sizeof *models->x),
        cg_span_rows("velocity", velocity, models->n, ldv, P, sizeof *velocity),
        cg_span_rows("steps_done", steps_done, 1, 0, models->n, sizeof *steps_done),
        cg_span_rows("loss", loss, 1, 0, models->count, sizeof *loss),
    };
    cg_span read[SPANS];
    spans_read(read, net, models, data, local_steps);
    if ((rc = cg_overlap_check(sizeof written / sizeof *written, written, SPANS, read, err))) return rc;
    job j = {.net = net,
             .models = models,
             .data = data,
             .sgd = sgd,
             .local_steps = local_steps,
             .steps_read = steps_done,
             .steps_done = steps_done,
             .steps = steps,
             .velocity = sgd->momentum != 0.0f ? velocity : NULL,
             .loss = loss,
             .ldv = ldv,
             .parameters = P};
    return run(&j, err);
}

int cg_mlp_gradients(const cg_mlp *net, const cg_rows *models, const cg_samples *data, const int64_t *steps_done,
                     float *g, size_t ldg, double *loss, cg_err *err) {
    const size_t P = net->parameters;
    int rc = cg_rows_check(models, P, err);
    if (!rc && ldg < P) rc = cg_fail(err, CG_EVALUE, "out: expected rows of %zu parameters, got %zu", P, ldg);
    if (!rc) rc = check_samples(net, models, data, NULL, 1, steps_done, err);
    if (rc) return rc;
    const cg_span written[] = {
        cg_span_rows("out", g, models->count, ldg, P, sizeof *g),
        cg_span_rows("loss", loss, 1, 0, models->count, sizeof *loss),
    };
    cg_span read[SPANS + 2];
    spans_read(read, net, models, data, NULL);
    read[SPANS] = cg_span_rows("x", models->x, models->n, models->ld, P, sizeof *models->x);
    read[SPANS + 1] = cg_span_rows("steps_done", steps_done, 1, 0, models->n, sizeof *steps_done);
    if ((rc = cg_overlap_check(2, written, SPANS + 2, read, err))) return rc;
    job j = {.net = net,
             .models = models,
             .data = data,
             .steps_read = steps_done,
             .steps = 1,
             .g = g,
             .loss = loss,
             .ldg = ldg,
             .parameters = P};
    return run(&j, err);
}

static void apply_rows(void *ctx, size_t begin, size_t end, void *scratch) {
    const job *const j = ctx;
    (void)scratch;
    for (size_t q = begin; q < end; q++) {
        const size_t r = cg_rows_at(j->models, q);
        if (samples_of(j->data->part_ptr, r) == 0) continue;
        cg_mlp_kernels_now()->sgd(j->parameters, j->sgd, j->g + q * j->ldg, j->models->x + r * j->models->ld,
                                  j->velocity ? j->velocity + r * j->ldv : NULL);
        j->steps_done[r]++;
    }
}

int cg_mlp_apply(size_t parameters, const cg_rows *models, const int64_t *part_ptr, const float *g, size_t ldg,
                 const cg_sgd *sgd, float *velocity, size_t ldv, int64_t *steps_done, cg_err *err) {
    int rc = cg_rows_check(models, parameters, err);
    if (!rc && ldg < parameters)
        rc = cg_fail(err, CG_EVALUE, "gradients: expected rows of %zu parameters, got %zu", parameters, ldg);
    if (!rc) rc = check_sgd(sgd, velocity, ldv, parameters, err);
    if (!rc) rc = check_parts(part_ptr, models->n, INT64_MAX, err);
    for (size_t q = 0; q < models->count && !rc; q++) {
        const int64_t done = steps_done[cg_rows_at(models, q)];
        if (done < 0 || done == INT64_MAX)
            rc = cg_fail(err, CG_EVALUE, "steps_done: expected 0 to 2**63 - 2, got %lld", (long long)done);
    }
    if (rc) return rc;
    const cg_span written[] = {
        cg_span_rows("x", models->x, models->n, models->ld, parameters, sizeof *models->x),
        cg_span_rows("velocity", velocity, models->n, ldv, parameters, sizeof *velocity),
        cg_span_rows("steps_done", steps_done, 1, 0, models->n, sizeof *steps_done),
    };
    const cg_span read[] = {
        cg_span_rows("gradients", g, models->count, ldg, parameters, sizeof *g),
        cg_span_rows("part_ptr", part_ptr, 1, 0, models->n + 1, sizeof *part_ptr),
        cg_span_rows("rows", models->rows, 1, 0, models->count, sizeof *models->rows),
    };
    if ((rc = cg_overlap_check(3, written, 3, read, err))) return rc;
    const cg_samples data = {.part_ptr = part_ptr};
    job j = {.models = models,
             .data = &data,
             .sgd = sgd,
             .steps_done = steps_done,
             .velocity = sgd->momentum != 0.0f ? velocity : NULL,
             .g = (float *)(uintptr_t)g, /* read only: `job` serves both directions */
             .ldv = ldv,
             .ldg = ldg,
             .parameters = parameters};
    /* Rows of few parameters go together: under some 20 us a thread is not worth waking. */
    return cg_parallel_for(models->count, 1 + (1u << 15) / (parameters + 1), 0, apply_rows, &j, err);
}
