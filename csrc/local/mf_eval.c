#include "../base/buf.h"
#include "../base/pool.h"
#include "mf_kernels.h"
#include "overlap.h"

enum { RUN = 2048 }; /* ratings a task holds, about: some 20 us */

typedef struct job {
    const cg_mf *net;
    const cg_rows *models;
    const cg_mf_ratings *data;
    const int64_t *test_ptr;
    size_t batch, run, runs; /* run: batches a task; runs: tasks a model, of the longest list */
    double *sums;            /* (rows, runs, 2): of squared errors; of the batches' means */
} job;

/* The ratings of row q: from *first, how many. */
static size_t ratings_of(const job *j, size_t q, size_t *first) {
    *first = j->test_ptr ? (size_t)j->test_ptr[q] : 0;
    return j->test_ptr ? (size_t)(j->test_ptr[q + 1] - j->test_ptr[q]) : j->data->count;
}

static void do_tasks(void *ctx, size_t begin, size_t end, void *scratch) {
    const job *const j = ctx;
    const cg_mf_kernels *const kernel = cg_mf_kernels_now();
    (void)scratch;
    for (size_t t = begin; t < end; t++) {
        const size_t q = t / j->runs;
        size_t first, done = t % j->runs * j->run * j->batch, left = j->run;
        const size_t count = ratings_of(j, q, &first);
        const float *const w = j->models->x + cg_rows_at(j->models, q) * j->models->ld;
        double total = 0.0, means = 0.0;
        for (; left > 0 && done < count; left--, done += j->batch) {
            const size_t m = count - done < j->batch ? count - done : j->batch, at = first + done;
            const double sum = kernel->squares(j->net, w, m, j->data->pair + 2 * at, j->data->rating + at);
            total += sum;
            means += sum / (double)m;
        }
        j->sums[2 * t] = total;
        j->sums[2 * t + 1] = means;
    }
}

static int check_lists(const int64_t *test_ptr, size_t count, size_t ratings, cg_err *err) {
    if (test_ptr[0] < 0) return cg_fail(err, CG_EVALUE, "test_ptr[0]: expected at least 0");
    for (size_t q = 0; q < count; q++)
        if (test_ptr[q + 1] < test_ptr[q] || (uint64_t)test_ptr[q + 1] > ratings)
            return cg_fail(err, CG_EVALUE, "test_ptr[%zu]: expected %lld to %zu, got %lld", q + 1,
                           (long long)test_ptr[q], ratings, (long long)test_ptr[q + 1]);
    return CG_OK;
}

int cg_mf_evaluate(const cg_mf *net, const cg_rows *models, const cg_mf_ratings *data, const int64_t *test_ptr,
                   int64_t batch, double *mse, double *mean_of_batches, cg_err *err) {
    int rc = cg_rows_check(models, net->parameters, err);
    if (!rc && batch < 1) rc = cg_fail(err, CG_EVALUE, "batch: expected at least 1, got %lld", (long long)batch);
    if (!rc) rc = cg_mf_check_ids(net, data, NULL, data->count, err);
    if (!rc && test_ptr) rc = check_lists(test_ptr, models->count, data->count, err);
    if (rc) return rc;
    const cg_span written[] = {
        cg_span_rows("mse", mse, 1, 0, models->count, sizeof *mse),
        cg_span_rows("mean_of_batches", mean_of_batches, 1, 0, models->count, sizeof *mean_of_batches),
    };
    const cg_span read[] = {
        cg_span_rows("x", models->x, models->n, models->ld, net->parameters, sizeof *models->x),
        cg_span_rows("pairs", data->pair, data->count, 2, 2, sizeof *data->pair),
        cg_span_rows("ratings", data->rating, 1, 0, data->count, sizeof *data->rating),
        cg_span_rows("test_ptr", test_ptr, 1, 0, models->count + 1, sizeof *test_ptr),
        cg_span_rows("rows", models->rows, 1, 0, models->count, sizeof *models->rows),
    };
    if ((rc = cg_overlap_check(2, written, 5, read, err))) return rc;
    job j = {.net = net, .models = models, .data = data, .test_ptr = test_ptr};
    size_t most = 0, first;
    for (size_t q = 0; q < models->count; q++)
        if (ratings_of(&j, q, &first) > most) most = ratings_of(&j, q, &first);
    j.batch = (uint64_t)batch < data->count ? (size_t)batch : data->count + (data->count == 0);
    j.run = j.batch < RUN ? RUN / j.batch : 1;
    const size_t each = j.run * j.batch;
    j.runs = most / each + (most % each > 0);
    const size_t tasks = models->count * j.runs;
    j.sums = j.runs == 0 || models->count <= SIZE_MAX / 4 / sizeof *j.sums / j.runs
                 ? cg_buf_alloc(2 * tasks * sizeof *j.sums)
                 : NULL;
    if (!j.sums) return cg_fail(err, CG_ENOMEM, "no memory to evaluate %zu models", models->count);
    rc = cg_parallel_for(tasks, 1, 0, do_tasks, &j, err);
    for (size_t q = 0; q < models->count && !rc; q++) {
        const size_t count = ratings_of(&j, q, &first), batches = count / j.batch + (count % j.batch > 0);
        double total = 0.0, means = 0.0;
        for (size_t k = q * j.runs; k < (q + 1) * j.runs; k++) {
            total += j.sums[2 * k];
            means += j.sums[2 * k + 1];
        }
        mse[q] = total / (double)count; /* 0 / 0: NaN */
        mean_of_batches[q] = means / (double)batches;
    }
    cg_buf_free(j.sums);
    return rc;
}
