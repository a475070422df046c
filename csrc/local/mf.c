#include "mf.h"
#include "../base/isa.h"
#include "../base/pool.h"
#include "mf_kernels.h"
#include "overlap.h"
#include "sample.h"
#include <math.h>
#include <string.h>

static const cg_mf_kernels *const kernels[CG_ISA_COUNT] = {
    [CG_ISA_BASE] = &cg_mf_base,
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = &cg_mf_avx2,
    [CG_ISA_AVX512] = &cg_mf_avx512,
#endif
};

const cg_mf_kernels *cg_mf_kernels_now(void) { return kernels[cg_isa()]; }

/* ---- checks: everything a kernel relies on, before anything is written ---- */

int cg_mf_set(cg_mf *net, int64_t users, int64_t items, int64_t factors, int biases, double mean, cg_err *err) {
    const int64_t most_factors = 1 << 20;
    if (users < 1 || users > INT32_MAX)
        return cg_fail(err, CG_EVALUE, "users: expected 1 to %d, got %lld", INT32_MAX, (long long)users);
    if (items < 1 || items > INT32_MAX)
        return cg_fail(err, CG_EVALUE, "items: expected 1 to %d, got %lld", INT32_MAX, (long long)items);
    if (factors < 1 || factors > most_factors)
        return cg_fail(err, CG_EVALUE, "factors: expected 1 to %lld, got %lld", (long long)most_factors,
                       (long long)factors);
    if (!isfinite(mean) || !isfinite((float)mean))
        return cg_fail(err, CG_EVALUE, "mean: expected a finite number, got %g", mean);
    *net = (cg_mf){(size_t)users, (size_t)items, (size_t)factors, biases, (float)mean, 0};
    /* below 2^32 (2^20 + 1): fits in 64 bits */
    const uint64_t p = ((uint64_t)users + (uint64_t)items) * ((uint64_t)factors + (biases ? 1 : 0));
    if (p > PTRDIFF_MAX / sizeof(float)) return cg_fail(err, CG_EVALUE, "factors: too many parameters for memory");
    net->parameters = (size_t)p;
    return CG_OK;
}

int cg_mf_check_ids(const cg_mf *net, const cg_mf_ratings *data, const int64_t *index, size_t count, cg_err *err) {
    for (size_t k = 0; k < count; k++) {
        const int64_t s = index ? index[k] : (int64_t)k;
        const int32_t u = data->pair[2 * s], i = data->pair[2 * s + 1];
        if (u < 0 || (size_t)u >= net->users)
            return cg_fail(err, CG_EVALUE, "pairs[%lld, 0]: expected a user 0 to %zu, got %d", (long long)s,
                           net->users - 1, (int)u);
        if (i < 0 || (size_t)i >= net->items)
            return cg_fail(err, CG_EVALUE, "pairs[%lld, 1]: expected an item 0 to %zu, got %d", (long long)s,
                           net->items - 1, (int)i);
    }
    return CG_OK;
}

static int check_sgd(double lr, double weight_decay, cg_err *err) {
    if (!(lr >= 0.0 && isfinite((float)lr)))
        return cg_fail(err, CG_EVALUE, "lr: expected a finite number, at least 0, got %g", lr);
    if (!(weight_decay >= 0.0 && isfinite((float)weight_decay)))
        return cg_fail(err, CG_EVALUE, "weight_decay: expected a finite number, at least 0, got %g", weight_decay);
    if (lr * weight_decay >= 1.0)
        return cg_fail(err, CG_EVALUE, "weight_decay: expected lr * weight_decay below 1, got %g", lr * weight_decay);
    return CG_OK;
}

static int64_t ratings_of(const cg_mf_parts *d, size_t r) { return d->part_ptr[r + 1] - d->part_ptr[r]; }

/* The ratings of the rows of this call, and that their next `steps` batches have an address; *most: of any row. */
static int check_parts(const cg_mf *net, const cg_rows *models, const cg_mf_ratings *data, const cg_mf_parts *d,
                       int64_t steps, const int64_t *steps_done, size_t *most, cg_err *err) {
    if (d->rows != models->n)
        return cg_fail(err, CG_EVALUE, "part_ptr: expected %zu parts, got %zu", models->n, d->rows);
    if (d->batch < 1) return cg_fail(err, CG_EVALUE, "batch: expected at least 1, got %lld", (long long)d->batch);
    if (steps < 0) return cg_fail(err, CG_EVALUE, "steps: expected at least 0, got %lld", (long long)steps);
    if (d->part_ptr[0] < 0) return cg_fail(err, CG_EVALUE, "part_ptr[0]: expected at least 0");
    for (size_t r = 0; r < d->rows; r++)
        if (d->part_ptr[r + 1] < d->part_ptr[r] || (uint64_t)d->part_ptr[r + 1] > d->parts)
            return cg_fail(err, CG_EVALUE, "part_ptr[%zu]: expected %lld to %zu, got %lld", r + 1,
                           (long long)d->part_ptr[r], d->parts, (long long)d->part_ptr[r + 1]);
    int rc = CG_OK;
    *most = 0;
    for (size_t q = 0; q < models->count && !rc; q++) {
        const size_t r = cg_rows_at(models, q);
        const int64_t m = ratings_of(d, r), *const part = d->part_idx + d->part_ptr[r];
        if (m == 0) continue;
        if ((uint64_t)m > *most) *most = (size_t)m;
        for (int64_t k = 0; k < m; k++)
            if (part[k] < 0 || (uint64_t)part[k] >= data->count)
                return cg_fail(err, CG_EVALUE, "part_idx[%lld]: expected 0 to %lld, got %lld",
                               (long long)(d->part_ptr[r] + k), (long long)data->count - 1, (long long)part[k]);
        rc = cg_sampler_check(d->node[r], steps_done[r], steps, m, d->batch, err);
        if (!rc) rc = cg_mf_check_ids(net, data, part, (size_t)m, err);
    }
    return rc;
}

/* ---- one row ---- */

typedef struct job {
    const cg_mf *net;
    const cg_rows *models;
    const cg_mf_ratings *data;
    const cg_mf_parts *parts;
    double lr, keep; /* keep = 1 - lr weight_decay: what a step leaves of a parameter without a gradient */
    int64_t steps;
    int64_t *steps_done;
    double *loss;
    size_t batch, order; /* the most any row needs */
} job;

/* Lays a batch and the sampler's order out in `memory`, lines apart (NULL: only measures); returns the bytes needed. */
static size_t lay(const job *j, cg_mf_batch *b, int32_t **order, char *memory) {
    b->wide = (j->net->factors + 15) / 16 * 16;
    const size_t copy = j->batch * 2 * b->wide * sizeof *b->copy, line = 64;
    const size_t each = (j->batch * sizeof *b->rating + line - 1) / line * line, pairs = 2 * each;
    if (memory) {
        b->copy = (float *)(void *)memory;
        b->pair = (int32_t *)(void *)(memory + copy);
        b->rating = (float *)(void *)(memory + copy + pairs);
        b->error = (float *)(void *)(memory + copy + pairs + each);
        *order = (int32_t *)(void *)(memory + copy + pairs + 2 * each);
    }
    return copy + pairs + 2 * each + j->order * sizeof **order;
}

static void gather(cg_mf_batch *b, cg_sampler *s, const cg_mf_ratings *data, const int64_t *part, int64_t step) {
    const int32_t *position;
    b->m = cg_sampler_batch(s, step, &position);
    for (size_t k = 0; k < b->m; k++) {
        const size_t i = (size_t)part[position[k]];
        memcpy(b->pair + 2 * k, data->pair + 2 * i, 2 * sizeof *b->pair);
        b->rating[k] = data->rating[i];
    }
}

static void multiply(size_t n, float *w, double by) {
    for (size_t k = 0; k < n; k++) w[k] *= (float)by;
}

static void do_rows(void *ctx, size_t begin, size_t end, void *scratch) {
    const job *const j = ctx;
    const cg_mf_parts *const d = j->parts;
    const cg_mf_kernels *const kernel = cg_mf_kernels_now();
    const double smallest = 0x1p-20; /* of the scale, before it is multiplied in: far from where float32 ends */
    cg_mf_batch b;
    cg_sampler s;
    int32_t *order = NULL;
    lay(j, &b, &order, scratch);
    for (size_t q = begin; q < end; q++) {
        const size_t r = cg_rows_at(j->models, q);
        const int64_t m = ratings_of(d, r), *const part = d->part_idx + d->part_ptr[r];
        float *const w = j->models->x + r * j->models->ld;
        double sum = 0.0, scale = 1.0; /* true parameters = scale w */
        j->loss[q] = NAN;
        if (m == 0 || j->steps == 0) continue;
        cg_sampler_start(&s, d->seed, d->node[r], m, d->batch, order);
        for (int64_t e = 0; e < j->steps; e++) {
            gather(&b, &s, j->data, part, j->steps_done[r] + e);
            sum += kernel->forward(j->net, w, (float)scale, &b) / (double)b.m;
            /* With x = scale w: x' = keep x - lr g, scale' = keep scale, so w' = w - lr g / scale'. The factors in the
             * copies are w's, not x's, which takes one scale out of the factors' step. */
            const double step = 2.0 * j->lr / (double)b.m / j->keep;
            kernel->update(j->net, w, (float)step, (float)(step / scale), &b);
            scale *= j->keep;
            if (scale < smallest) {
                multiply(j->net->parameters, w, scale);
                scale = 1.0;
            }
        }
        if (scale != 1.0) multiply(j->net->parameters, w, scale);
        j->steps_done[r] += j->steps;
        j->loss[q] = sum / (double)j->steps;
    }
}

int cg_mf_train(const cg_mf *net, const cg_rows *models, const cg_mf_ratings *data, const cg_mf_parts *parts, double lr,
                double weight_decay, int64_t steps, int64_t *steps_done, double *loss, cg_err *err) {
    job j = {net, models, data, parts, lr, 1.0 - lr * weight_decay, steps, steps_done, loss, 0, 0};
    int rc = cg_rows_check(models, net->parameters, err);
    if (!rc) rc = check_sgd(lr, weight_decay, err);
    if (!rc) rc = check_parts(net, models, data, parts, steps, steps_done, &j.order, err);
    if (rc) return rc;
    const cg_span written[] = {
        cg_span_rows("x", models->x, models->n, models->ld, net->parameters, sizeof *models->x),
        cg_span_rows("steps_done", steps_done, 1, 0, models->n, sizeof *steps_done),
        cg_span_rows("loss", loss, 1, 0, models->count, sizeof *loss),
    };
    const cg_span read[] = {
        cg_span_rows("pairs", data->pair, data->count, 2, 2, sizeof *data->pair),
        cg_span_rows("ratings", data->rating, 1, 0, data->count, sizeof *data->rating),
        cg_span_rows("part_ptr", parts->part_ptr, 1, 0, parts->rows + 1, sizeof *parts->part_ptr),
        cg_span_rows("part_idx", parts->part_idx, 1, 0, parts->parts, sizeof *parts->part_idx),
        cg_span_rows("node_ids", parts->node, 1, 0, parts->rows, sizeof *parts->node),
        cg_span_rows("rows", models->rows, 1, 0, models->count, sizeof *models->rows),
    };
    rc = cg_overlap_check(sizeof written / sizeof *written, written, sizeof read / sizeof *read, read, err);
    if (rc) return rc;
    j.batch = (uint64_t)parts->batch < j.order ? (size_t)parts->batch : j.order;
    cg_mf_batch b;
    int32_t *order;
    /* a row of the scratch holds 2 wide floats and a few numbers; factors are below 2^21 */
    if (j.batch > SIZE_MAX / 8 / (2 * (net->factors + 32) * sizeof(float)))
        return cg_fail(err, CG_ENOMEM, "no memory for batches of %zu ratings", j.batch);
    return cg_parallel_for(models->count, 1, lay(&j, &b, &order, NULL), do_rows, &j, err);
}
