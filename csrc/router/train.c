#include "train.h"
#include "../base/buf.h"
#include "../base/gemm.h"
#include "../base/philox.h"
#include "../base/pool.h"
#include "../base/vmath.h"
#include "network_kernels.h"
#include <math.h>
#include <string.h>

enum {
    BLOCK = 32,     /* rows of a batch a thread takes at once: five or six full tiles */
    CHUNK = 1 << 14 /* parameters of an Adam step a thread takes at once */
};

/* ---- one layer's room for a batch; the padding stays zero ---- */

/* Rows are an odd number of cache lines apart (base/buf.h): the gradient of weights walks down columns, and with a
 * power of two all rows would share a few sets of the first-level cache. */

typedef struct layer {
    size_t n, wide, ld; /* wide: whole panels; ld: floats from row to row */
    float *hat;         /* LayerNorm's x; later the gradient of its gain */
    float *h;           /* output, after dropout */
    float *dy;          /* gradient of h, then of LayerNorm's output */
    float *dz;          /* the product's output, later its gradient */
    float *r;           /* (batch) 1 / sqrt(var + eps) */
    const float **in;   /* (batch) rows of h */
    float **to;         /* (batch) rows of dz ... */
    float **dy_row;     /* ... and of dy */
    const float **dz_row;
} layer;

typedef struct work {
    const cg_router_net *net;
    const cg_router_data *data;
    const cg_router_optimiser *how;
    const cg_router_kernels *run;
    float *params, *first, *second, *g;
    layer one, two;
    const float **from; /* (batch) queries of the rows, where they lie ... */
    const float **x;    /* ... and copied: rows of `copy`, ldx floats apart */
    float *copy;
    size_t ldx;
    const float **ones;    /* (batch) pointers to 1: the input of every bias */
    const float **cross;   /* (batch) pointers to the rows' dot feature */
    const float **error;   /* (batch) pointers to d_logit */
    const float **statics; /* (sources) */
    float *d_logit;        /* (batch) gradient of the logit */
    double *loss;          /* (batch) */
    float *shift;          /* (sources, wide1) what a source adds to z1 */
    float *flip;           /* panels of W2 transposed */
    double *norm;          /* (units) sums of squares of the gradient */
    const int32_t *rows;   /* this batch */
    size_t m, step;
    cg_router_step adam;
} work;

static const float *tensor(const work *w, int t) { return w->params + w->net->at[t]; }

/* ---- forward and backward of a block of rows: everything but the gradients of weights ---- */

/* What survives dropout grows by this. */
static float keep_scale(const cg_router_optimiser *how) { return 1.0f / (1.0f - how->dropout); }

static float *at(float *matrix, size_t row, const layer *l) { return matrix + row * l->ld; }

/* A word serves two units, so that half as many are drawn: its lower half the unit of its index, its upper half the one
 * `half` further. A unit is dropped where its 16 bits are below the share of 2^16. */
static void dropped(const work *w, size_t b, uint32_t which, const layer *l, uint32_t *word) {
    if (w->how->dropout == 0.0f) return;
    const size_t half = (l->n + 1) / 2;
    const cg_address where = {w->how->seed, CG_FOR_DROPOUT, which, (uint32_t)w->step};
    const int32_t limit = (int32_t)lrintf(w->how->dropout * 65536.0f);
    const float scale = keep_scale(w->how);
    float *const low = at(l->h, b, l), *const high = low + half;
    cg_random_u32(&where, b * half, half, word);
    for (size_t i = 0; i < half; i++) low[i] *= (int32_t)(word[i] & 0xFFFFu) < limit ? 0.0f : scale;
    for (size_t i = 0; i < l->n - half; i++) high[i] *= (int32_t)(word[i] >> 16) < limit ? 0.0f : scale;
}

/* Stable for any logit: max(z, 0) - z y + log(1 + exp(-|z|)), the part of y = 1 times pos_weight. */
static void judge(work *w, size_t b, float z) {
    const float weight = w->data->labels[w->rows[b]] ? w->how->pos_weight : 1.0f;
    const int y = w->data->labels[w->rows[b]] != 0;
    const double s = y ? -(double)z : (double)z; /* loss = log(1 + exp(s)) */
    float e = -fabsf(z);
    cg_exp_f32(1, &e, &e);
    const float p = z >= 0.0f ? 1.0f / (1.0f + e) : e / (1.0f + e);
    w->loss[b] = (double)weight * ((s > 0.0 ? s : isnan(s) ? s : 0.0) + log1p((double)e));
    w->d_logit[b] = weight * (y ? p - 1.0f : p) / (float)w->m;
}

static void forward_rows(work *w, size_t begin, size_t end, uint32_t *words) {
    const cg_router_net *const net = w->net;
    const size_t m = end - begin, N = w->data->sources;
    layer *const one = &w->one, *const two = &w->two;
    for (size_t b = begin; b < end; b++) memcpy(w->copy + b * w->ldx, w->from[b], net->queries * sizeof *w->copy);
    cg_gemm_rows_f32(m, one->wide, net->queries, w->x + begin, tensor(w, CG_ROUTER_WQ), NULL, CG_ACT_NONE,
                     one->to + begin);
    for (size_t b = begin; b < end; b++) {
        const size_t s = (size_t)w->rows[b] % N;
        one->r[b] =
            w->run->norm(one->n, at(one->dz, b, one), w->shift + s * one->wide, net->crosses ? *w->cross[b] : 0.0f,
                         net->crosses ? tensor(w, CG_ROUTER_WX) : NULL, tensor(w, CG_ROUTER_G1),
                         tensor(w, CG_ROUTER_A1), at(one->hat, b, one), at(one->h, b, one));
        dropped(w, b, 0, one, words);
    }
    cg_gemm_rows_f32(m, two->wide, net->hidden1, one->in + begin, tensor(w, CG_ROUTER_W2), NULL, CG_ACT_NONE,
                     two->to + begin);
    for (size_t b = begin; b < end; b++) {
        two->r[b] =
            w->run->norm(two->n, at(two->dz, b, two), tensor(w, CG_ROUTER_B2), 0.0f, NULL, tensor(w, CG_ROUTER_G2),
                         tensor(w, CG_ROUTER_A2), at(two->hat, b, two), at(two->h, b, two));
        dropped(w, b, 1, two, words);
        judge(w, b, w->run->dot(two->n, at(two->h, b, two), tensor(w, CG_ROUTER_W3)) + *tensor(w, CG_ROUTER_B3));
    }
}

static void back_layer(work *w, layer *l, size_t b, const float *gain) {
    w->run->norm_back(l->n, keep_scale(w->how), at(l->h, b, l), gain, l->r[b], at(l->hat, b, l), at(l->dy, b, l),
                      at(l->dz, b, l));
}

static void backward_rows(work *w, size_t begin, size_t end) {
    layer *const one = &w->one, *const two = &w->two;
    const float *const w3 = tensor(w, CG_ROUTER_W3);
    for (size_t b = begin; b < end; b++) {
        for (size_t i = 0; i < two->n; i++) at(two->dy, b, two)[i] = w->d_logit[b] * w3[i];
        back_layer(w, two, b, tensor(w, CG_ROUTER_G2));
    }
    cg_gemm_rows_f32(end - begin, one->wide, two->n, two->dz_row + begin, w->flip, NULL, CG_ACT_NONE,
                     one->dy_row + begin);
    for (size_t b = begin; b < end; b++) back_layer(w, one, b, tensor(w, CG_ROUTER_G1));
}

static void rows_task(void *ctx, size_t begin, size_t end, void *scratch) {
    forward_rows(ctx, begin, end, scratch);
    backward_rows(ctx, begin, end);
}

/* ---- before the rows: what the sources add to z1, a panel at a time; W2 transposed ---- */

static void prepare_task(void *ctx, size_t begin, size_t end, void *scratch) {
    work *const w = ctx;
    const cg_router_net *const net = w->net;
    const size_t F = net->statics, panels = net->wide1 / CG_PANEL;
    (void)scratch;
    for (size_t p = begin; p < end; p++) {
        if (p == panels)
            cg_gemm_flip(net->hidden2, net->hidden1, tensor(w, CG_ROUTER_W2), w->flip);
        else
            cg_gemm_f32(w->data->sources, CG_PANEL, F, w->data->statics, F, tensor(w, CG_ROUTER_WS) + p * F * CG_PANEL,
                        tensor(w, CG_ROUTER_B1) + p * CG_PANEL, CG_ACT_NONE, w->shift + p * CG_PANEL, net->wide1);
    }
}

/* ---- gradients of weights: a panel of a layer is a unit of work ---- */

/* The gradient of `in` inputs' weights in panel p of tensor t; returns its sum of squares. */
static double panel(const work *w, int t, size_t p, size_t in, size_t m, const float *const *x, const float *dz,
                    size_t ldz) {
    float *const g = w->g + w->net->at[t] + p * in * CG_PANEL;
    w->run->gradient(in, m, x, dz, ldz, g);
    return w->run->squares(in * CG_PANEL, g);
}

static double vectors(const work *w, const layer *l, size_t p, int bias, int gain, int shift) {
    const size_t j = p * CG_PANEL;
    return panel(w, bias, p, 1, w->m, w->ones, l->dz + j, l->ld) +
           panel(w, gain, p, 1, w->m, w->ones, l->hat + j, l->ld) +
           panel(w, shift, p, 1, w->m, w->ones, l->dy + j, l->ld);
}

static double first_panel(const work *w, size_t p, float *of_source) {
    const cg_router_net *const net = w->net;
    const size_t N = w->data->sources;
    const layer *const l = &w->one;
    const float *const dz = l->dz + p * CG_PANEL;
    double sum = panel(w, CG_ROUTER_WQ, p, net->queries, w->m, w->x, dz, l->ld);
    memset(of_source, 0, N * CG_PANEL * sizeof *of_source);
    for (size_t b = 0; b < w->m; b++)
        for (size_t j = 0; j < CG_PANEL; j++) of_source[(size_t)w->rows[b] % N * CG_PANEL + j] += dz[b * l->ld + j];
    sum += panel(w, CG_ROUTER_WS, p, net->statics, N, w->statics, of_source, CG_PANEL);
    if (net->crosses) sum += panel(w, CG_ROUTER_WX, p, 1, w->m, w->cross, dz, l->ld);
    return sum + vectors(w, l, p, CG_ROUTER_B1, CG_ROUTER_G1, CG_ROUTER_A1);
}

static double second_panel(const work *w, size_t p) {
    const layer *const l = &w->two;
    double sum = panel(w, CG_ROUTER_W2, p, w->net->hidden1, w->m, w->one.in, l->dz + p * CG_PANEL, l->ld);
    sum += panel(w, CG_ROUTER_W3, p, 1, w->m, w->error, l->h + p * CG_PANEL, l->ld);
    if (p == 0) {
        float total = 0.0f;
        for (size_t b = 0; b < w->m; b++) total += w->d_logit[b];
        w->g[w->net->at[CG_ROUTER_B3]] = total;
        sum += (double)total * (double)total;
    }
    return sum + vectors(w, l, p, CG_ROUTER_B2, CG_ROUTER_G2, CG_ROUTER_A2);
}

static void gradient_task(void *ctx, size_t begin, size_t end, void *scratch) {
    work *const w = ctx;
    const size_t panels = w->one.wide / CG_PANEL;
    for (size_t u = begin; u < end; u++)
        w->norm[u] = u < panels ? first_panel(w, u, scratch) : second_panel(w, u - panels);
}

static void adam_task(void *ctx, size_t begin, size_t end, void *scratch) {
    work *const w = ctx;
    (void)scratch;
    w->run->adam(end - begin, &w->adam, w->g + begin, w->params + begin, w->first + begin, w->second + begin);
}

/* ---- a step ---- */

static void gather(work *w, const int32_t *rows, size_t m) {
    const cg_router_data *const d = w->data;
    w->rows = rows;
    w->m = m;
    for (size_t b = 0; b < m; b++) {
        const size_t q = (size_t)rows[b] / d->sources, s = (size_t)rows[b] % d->sources;
        w->from[b] = d->queries + ((size_t)d->encoder[s] * d->count + q) * w->net->queries;
        if (d->crosses) w->cross[b] = d->crosses + rows[b];
    }
}

static void set_adam(work *w, size_t units, double lr) {
    double square = 0.0;
    for (size_t u = 0; u < units; u++) square += w->norm[u];
    const double norm = sqrt(square), clip = (double)w->how->clip, t = (double)w->step + 1.0;
    w->adam.scale = clip > 0.0 && norm > clip ? (float)(clip / (norm + 1e-6)) : 1.0f;
    w->adam.rate = (float)(lr / (1.0 - pow(0.9, t)));
    w->adam.root = (float)(1.0 / sqrt(1.0 - pow(0.999, t)));
}

static int do_step(work *w, double lr, double *loss, cg_err *err) {
    const size_t panels = w->one.wide / CG_PANEL, units = panels + w->two.wide / CG_PANEL;
    const size_t wide = w->one.wide > w->two.wide ? w->one.wide : w->two.wide;
    int rc = cg_parallel_for(panels + 1, 1, 0, prepare_task, w, err);
    if (!rc) rc = cg_parallel_for(w->m, BLOCK, wide / 2 * sizeof(uint32_t), rows_task, w, err);
    if (!rc) rc = cg_parallel_for(units, 1, w->data->sources * CG_PANEL * sizeof(float), gradient_task, w, err);
    if (rc) return rc;
    set_adam(w, units, lr);
    for (size_t b = 0; b < w->m; b++) *loss += w->loss[b];
    return cg_parallel_for(w->net->at[CG_ROUTER_TENSORS], CHUNK, 0, adam_task, w, err);
}

/* ---- memory ---- */

typedef struct place {
    uintptr_t base; /* 0: only measures */
    size_t used;
} place;

static void *take(place *p, size_t count, size_t item) {
    void *const here = (void *)(p->base + p->used);
    p->used += (count * item + CG_LINE - 1) / CG_LINE * CG_LINE;
    return here;
}

static void lay_layer(place *p, layer *l, size_t n, size_t wide, size_t batch) {
    l->n = n;
    l->wide = wide;
    l->ld = cg_buf_ld(wide, sizeof(float));
    l->hat = take(p, batch * l->ld, sizeof(float));
    l->h = take(p, batch * l->ld, sizeof(float));
    l->dy = take(p, batch * l->ld, sizeof(float));
    l->dz = take(p, batch * l->ld, sizeof(float));
    l->r = take(p, batch, sizeof(float));
    l->in = take(p, batch, sizeof(float *));
    l->to = take(p, batch, sizeof(float *));
    l->dy_row = take(p, batch, sizeof(float *));
    l->dz_row = take(p, batch, sizeof(float *));
    for (size_t b = 0; p->base && b < batch; b++) {
        l->in[b] = l->h + b * l->ld;
        l->dz_row[b] = l->to[b] = l->dz + b * l->ld;
        l->dy_row[b] = l->dy + b * l->ld;
    }
}

static size_t lay(work *w, size_t batch, void *memory) {
    static const float one = 1.0f;
    const cg_router_net *const net = w->net;
    const size_t N = w->data->sources;
    place p = {(uintptr_t)memory, 0};
    w->g = take(&p, net->at[CG_ROUTER_TENSORS], sizeof(float));
    lay_layer(&p, &w->one, net->hidden1, net->wide1, batch);
    lay_layer(&p, &w->two, net->hidden2, net->wide2, batch);
    w->ldx = cg_buf_ld(net->queries, sizeof(float));
    w->copy = take(&p, batch * w->ldx, sizeof(float));
    w->from = take(&p, batch, sizeof(float *));
    w->x = take(&p, batch, sizeof(float *));
    w->ones = take(&p, batch, sizeof(float *));
    w->cross = take(&p, batch, sizeof(float *));
    w->error = take(&p, batch, sizeof(float *));
    w->statics = take(&p, N, sizeof(float *));
    w->d_logit = take(&p, batch, sizeof(float));
    w->loss = take(&p, batch, sizeof(double));
    w->shift = take(&p, N * net->wide1, sizeof(float));
    w->flip = take(&p, net->wide1 * net->hidden2, sizeof(float));
    w->norm = take(&p, (net->wide1 + net->wide2) / CG_PANEL, sizeof(double));
    for (size_t b = 0; memory && b < batch; b++) {
        w->x[b] = w->copy + b * w->ldx;
        w->ones[b] = &one;
        w->error[b] = w->d_logit + b;
    }
    for (size_t s = 0; memory && s < N; s++) w->statics[s] = w->data->statics + s * net->statics;
    return p.used;
}

/* ---- checks, and the steps ---- */

static int check(const cg_router_net *net, const cg_router_data *d, const cg_router_optimiser *o, size_t count,
                 const int32_t *rows, size_t batch, uint64_t step, cg_err *err) {
    if (batch < 1 || batch > (size_t)1 << 24)
        return cg_fail(err, CG_EVALUE, "batch: expected 1 to %d, got %zu", 1 << 24, batch);
    if (net->crosses && !d->crosses) return cg_fail(err, CG_EVALUE, "crosses: expected an array, got none");
    if (!(o->dropout >= 0.0f && o->dropout < 1.0f))
        return cg_fail(err, CG_EVALUE, "dropout: expected at least 0 and below 1, got %g", (double)o->dropout);
    if (!(o->pos_weight > 0.0f && isfinite(o->pos_weight)))
        return cg_fail(err, CG_EVALUE, "pos_weight: expected a finite number above 0, got %g", (double)o->pos_weight);
    if (!(o->weight_decay >= 0.0f && isfinite(o->weight_decay)))
        return cg_fail(err, CG_EVALUE, "weight_decay: expected at least 0, got %g", (double)o->weight_decay);
    if (!(o->clip >= 0.0f)) return cg_fail(err, CG_EVALUE, "clip: expected at least 0, got %g", (double)o->clip);
    if (step > UINT32_MAX - (uint64_t)(count / batch) - 1)
        return cg_fail(err, CG_EVALUE, "step: expected fewer than 2**32 steps in all");
    for (size_t s = 0; s < d->sources; s++)
        if (d->encoder[s] < 0 || (uint64_t)d->encoder[s] >= d->encoders)
            return cg_fail(err, CG_EVALUE, "encoder[%zu]: expected 0 to %zu, got %lld", s, d->encoders - 1,
                           (long long)d->encoder[s]);
    for (size_t i = 0; i < count; i++)
        if (rows[i] < 0 || (size_t)rows[i] >= d->count * d->sources)
            return cg_fail(err, CG_EVALUE, "rows[%zu]: expected below %zu, got %ld", i, d->count * d->sources,
                           (long)rows[i]);
    return CG_OK;
}

int cg_router_train(const cg_router_net *net, const cg_router_data *data, const cg_router_optimiser *how, size_t count,
                    const int32_t *rows, size_t batch, const double *lr, uint64_t step, float *params, float *first,
                    float *second, double *loss, cg_err *err) {
    work w = {.net = net, .data = data, .how = how, .run = cg_router_kernels_now()};
    int rc = check(net, data, how, count, rows, batch, step, err);
    if (rc) return rc;
    *loss = 0.0;
    if (count == 0) return CG_OK;
    const size_t most = batch < count ? batch : count, bytes = lay(&w, most, NULL);
    void *const memory = cg_buf_alloc(bytes);
    if (!memory) return cg_fail(err, CG_ENOMEM, "no memory for batches of %zu rows", most);
    memset(memory, 0, bytes);
    lay(&w, most, memory);
    w.params = params;
    w.first = first;
    w.second = second;
    w.adam = (cg_router_step){.decay = how->weight_decay, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f};
    for (size_t i = 0; i < count && !rc; i += batch, step++) {
        w.step = (size_t)step;
        gather(&w, rows + i, count - i < batch ? count - i : batch);
        rc = do_step(&w, lr[i / batch], loss, err);
    }
    cg_buf_free(memory);
    return rc;
}
