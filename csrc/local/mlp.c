#include "mlp.h"
#include "../base/buf.h"
#include "../base/philox.h"
#include "../base/pool.h"
#include "overlap.h"
#include "step.h"
#include <math.h>
#include <string.h>

int cg_mlp_set(cg_mlp *net, size_t count, const int64_t *sizes, cg_activation hidden, cg_err *err) {
    const size_t widest = (size_t)1 << 30, most = PTRDIFF_MAX / sizeof(float);
    if (count < 2 || count > CG_MLP_LAYERS + 1)
        return cg_fail(err, CG_EVALUE, "sizes: expected 2 to %u widths (inputs, hidden ..., classes), got %zu",
                       CG_MLP_LAYERS + 1, count);
    net->layers = count - 1;
    net->hidden = hidden;
    net->parameters = 0;
    for (size_t i = 0; i < count; i++) {
        if (sizes[i] < 1 || (uint64_t)sizes[i] > widest)
            return cg_fail(err, CG_EVALUE, "sizes[%zu]: expected 1 to %zu, got %lld", i, widest, (long long)sizes[i]);
        net->width[i] = (size_t)sizes[i];
        const size_t more = i ? (net->width[i - 1] + 1) * net->width[i] : 0;
        if (more > most - net->parameters) return cg_fail(err, CG_EVALUE, "sizes: too many parameters for memory");
        net->parameters += more;
    }
    return CG_OK;
}

size_t cg_rows_at(const cg_rows *m, size_t q) { return m->rows ? (size_t)m->rows[q] : q; }

int cg_rows_check(const cg_rows *m, size_t parameters, cg_err *err) {
    if (m->ld < parameters)
        return cg_fail(err, CG_EVALUE, "x: expected rows of %zu parameters, got %zu", parameters, m->ld);
    if (!m->rows) {
        if (m->count > m->n) return cg_fail(err, CG_EVALUE, "rows: expected at most %zu, got %zu", m->n, m->count);
        return CG_OK;
    }
    unsigned char *const seen = m->count ? cg_buf_alloc(m->n) : NULL;
    if (m->count && !seen) return cg_fail(err, CG_ENOMEM, "no memory to check %zu rows", m->n);
    if (seen) memset(seen, 0, m->n);
    int rc = CG_OK;
    for (size_t q = 0; q < m->count && !rc; q++) {
        const int64_t r = m->rows[q];
        if (r < 0 || (uint64_t)r >= m->n)
            rc = cg_fail(err, CG_EVALUE, "rows[%zu]: expected 0 to %lld, got %lld", q, (long long)m->n - 1,
                         (long long)r);
        else if (seen[r]++)
            rc = cg_fail(err, CG_EVALUE, "rows[%zu]: row %lld is named twice", q, (long long)r);
    }
    cg_buf_free(seen);
    return rc;
}

/* ---- initial values ---- */

typedef struct init_job {
    const cg_mlp *net;
    const cg_rows *models;
    const int64_t *node;
    uint64_t seed;
} init_job;

static void init_rows(void *ctx, size_t begin, size_t end, void *scratch) {
    const init_job *const job = ctx;
    (void)scratch;
    for (size_t q = begin; q < end; q++) {
        float *w = job->models->x + cg_rows_at(job->models, q) * job->models->ld;
        for (uint32_t t = 0; t < 2 * job->net->layers; t++) {
            const size_t in = job->net->width[t / 2], out = job->net->width[t / 2 + 1], n = t % 2 ? out : in * out;
            const float bound = (float)(1.0 / sqrt((double)in));
            const cg_address at = {
                .seed = job->seed, .purpose = CG_FOR_INIT, .node = (uint32_t)job->node[q], .round = t};
            cg_random_f32(&at, 0, n, w);
            for (size_t i = 0; i < n; i++) w[i] = (2.0f * w[i] - 1.0f) * bound; /* 2 u - 1 is exact */
            w += n;
        }
    }
}

int cg_mlp_init(const cg_mlp *net, uint64_t seed, const int64_t *node, const cg_rows *models, cg_err *err) {
    const int rc = cg_rows_check(models, net->parameters, err);
    if (rc) return rc;
    for (size_t q = 0; q < models->count; q++)
        if (node[q] < 0 || node[q] > UINT32_MAX)
            return cg_fail(err, CG_EVALUE, "nodes[%zu]: expected 0 to %lld, got %lld", q, (long long)UINT32_MAX,
                           (long long)node[q]);
    init_job job = {net, models, node, seed};
    return cg_parallel_for(models->count, 1, 0, init_rows, &job, err);
}

/* ---- logits ---- */

enum { BLOCK = 96 }; /* samples: the activations of a usual layer stay in the second-level cache */

typedef struct logits_job {
    const cg_work *shared; /* holds the packed weights */
    size_t samples, ld, ldo;
    const float *data;
    float *out;
} logits_job;

static void logits_blocks(void *ctx, size_t begin, size_t end, void *scratch) {
    const logits_job *const job = ctx;
    const cg_mlp *const net = job->shared->net;
    const float *x[BLOCK];
    float *z[BLOCK];
    cg_work w;
    cg_work_lay(&w, net, CG_WORK_FORWARD, BLOCK, 0, scratch);
    for (size_t l = 0; l < net->layers; l++) {
        w.layer[l].w = job->shared->layer[l].w;
        w.layer[l].b = job->shared->layer[l].b;
    }
    for (size_t t = begin; t < end; t++) {
        const size_t first = t * BLOCK, m = job->samples - first < BLOCK ? job->samples - first : BLOCK;
        for (size_t i = 0; i < m; i++) {
            x[i] = job->data + (first + i) * job->ld;
            z[i] = job->out + (first + i) * job->ldo;
        }
        cg_work_forward(&w, m, x, net->width[net->layers], z);
    }
}

int cg_mlp_logits(const cg_mlp *net, const float *params, size_t samples, const float *data, size_t ld, float *out,
                  size_t ldo, cg_err *err) {
    const size_t inputs = net->width[0], classes = net->width[net->layers];
    if (ld < inputs) return cg_fail(err, CG_EVALUE, "data: expected rows of %zu inputs, got %zu", inputs, ld);
    if (ldo < classes) return cg_fail(err, CG_EVALUE, "out: expected rows of %zu classes, got %zu", classes, ldo);
    const cg_span written = cg_span_rows("out", out, samples, ldo, classes, sizeof *out);
    const cg_span read[] = {cg_span_rows("params", params, 1, net->parameters, net->parameters, sizeof *params),
                            cg_span_rows("data", data, samples, ld, inputs, sizeof *data)};
    const int rc = cg_overlap_check(1, &written, 2, read, err);
    if (rc || samples == 0) return rc;
    cg_work shared;
    const size_t packed = cg_work_lay(&shared, net, CG_WORK_WEIGHTS, 0, 0, NULL);
    cg_work each;
    const size_t scratch = cg_work_lay(&each, net, CG_WORK_FORWARD, BLOCK, 0, NULL);
    void *const memory = packed == SIZE_MAX || scratch == SIZE_MAX ? NULL : cg_buf_alloc(packed);
    if (!memory) return cg_fail(err, CG_ENOMEM, "no memory for a copy of %zu parameters", net->parameters);
    cg_work_lay(&shared, net, CG_WORK_WEIGHTS, 0, 0, memory);
    cg_work_load(&shared, params, NULL);
    logits_job job = {&shared, samples, ld, ldo, data, out};
    const int done = cg_parallel_for((samples + BLOCK - 1) / BLOCK, 1, scratch, logits_blocks, &job, err);
    cg_buf_free(memory);
    return done;
}
