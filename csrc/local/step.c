#include "step.h"
#include "../base/buf.h"
#include "../base/isa.h"
#include <string.h>

static const cg_mlp_kernels *const kernels[CG_ISA_COUNT] = {
    [CG_ISA_BASE] = &cg_mlp_base,
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = &cg_mlp_avx2,
    [CG_ISA_AVX512] = &cg_mlp_avx512,
#endif
};

const cg_mlp_kernels *cg_mlp_kernels_now(void) { return kernels[cg_isa()]; }

/* ---- memory ---- */

typedef struct place {
    char *memory;
    size_t used; /* SIZE_MAX: does not fit */
} place;

static void *take(place *at, size_t rows, size_t cols, size_t item) {
    const size_t most = PTRDIFF_MAX - CG_LINE;
    if (at->used == SIZE_MAX || (cols && rows > most / item / cols) || rows * cols * item > most - at->used) {
        at->used = SIZE_MAX;
        return NULL;
    }
    const size_t begin = at->used;
    at->used += (rows * cols * item + CG_LINE - 1) / CG_LINE * CG_LINE;
    return at->memory ? at->memory + begin : NULL;
}

static void lay_rows(place *at, size_t batch, size_t wide, float **matrix, float ***row) {
    *matrix = take(at, batch, wide, sizeof **matrix);
    *row = take(at, batch, 1, sizeof **row);
    for (size_t i = 0; *row && i < batch; i++) (*row)[i] = *matrix + i * wide;
}

size_t cg_work_lay(cg_work *w, const cg_mlp *net, int parts, size_t batch, size_t order, void *memory) {
    static const float one = 1.0f;
    place at = {memory, 0};
    w->net = net;
    w->kernels = cg_mlp_kernels_now();
    for (size_t l = 0; l < net->layers; l++) {
        cg_work_layer *const y = &w->layer[l];
        y->in = net->width[l];
        y->out = net->width[l + 1];
        y->panels = (y->out + CG_PANEL - 1) / CG_PANEL;
        y->wide = y->panels * CG_PANEL;
        y->w = y->b = y->vw = y->vb = y->flip = y->d = NULL;
        y->d_row = NULL;
        if (parts & CG_WORK_WEIGHTS) {
            y->w = take(&at, y->in, y->wide, sizeof *y->w);
            y->b = take(&at, 1, y->wide, sizeof *y->b);
        }
        if (parts & CG_WORK_VELOCITY) {
            y->vw = take(&at, y->in, y->wide, sizeof *y->vw);
            y->vb = take(&at, 1, y->wide, sizeof *y->vb);
        }
        if (parts & CG_WORK_FORWARD) lay_rows(&at, batch, y->wide, &y->y, &y->y_row);
        if (!(parts & CG_WORK_BACKWARD)) continue;
        if (l > 0) y->flip = take(&at, (y->in + CG_PANEL - 1) / CG_PANEL * CG_PANEL, y->out, sizeof *y->flip);
        if (l + 1 < net->layers) {
            lay_rows(&at, batch, y->wide, &y->d, &y->d_row);
        } else { /* the logits become their own gradient */
            y->d = y->y;
            y->d_row = y->y_row;
        }
    }
    w->x_row = take(&at, batch, 1, sizeof *w->x_row);
    w->ones = take(&at, batch, 1, sizeof *w->ones);
    w->label = take(&at, batch, 1, sizeof *w->label);
    w->order = take(&at, order, 1, sizeof *w->order);
    for (size_t i = 0; w->ones && i < batch; i++) w->ones[i] = &one;
    return at.used;
}

/* ---- a row of the population and its panels ---- */

static void pack_layer(const cg_work_layer *y, const float *row, float *w, float *b) {
    cg_gemm_pack(y->out, y->in, row, y->in, w);
    memcpy(b, row + y->out * y->in, y->out * sizeof *b);
    memset(b + y->out, 0, (y->wide - y->out) * sizeof *b);
}

static void unpack_layer(const cg_work_layer *y, const float *w, const float *b, float *row) {
    cg_gemm_unpack(y->out, y->in, w, row, y->in);
    memcpy(row + y->out * y->in, b, y->out * sizeof *b);
}

void cg_work_load(cg_work *w, const float *params, const float *velocity) {
    for (size_t l = 0, at = 0; l < w->net->layers; l++) {
        cg_work_layer *const y = &w->layer[l];
        pack_layer(y, params + at, y->w, y->b);
        if (velocity) pack_layer(y, velocity + at, y->vw, y->vb);
        at += (y->in + 1) * y->out;
    }
}

void cg_work_store(const cg_work *w, float *params, float *velocity) {
    for (size_t l = 0, at = 0; l < w->net->layers; l++) {
        const cg_work_layer *const y = &w->layer[l];
        unpack_layer(y, y->w, y->b, params + at);
        if (velocity) unpack_layer(y, y->vw, y->vb, velocity + at);
        at += (y->in + 1) * y->out;
    }
}

/* ---- forward and backward ---- */

void cg_work_forward(cg_work *w, size_t m, const float *const *x, size_t columns, float *const *logits) {
    const size_t last = w->net->layers - 1;
    for (size_t l = 0; l <= last; l++) {
        const cg_work_layer *const y = &w->layer[l];
        if (l < last)
            cg_gemm_rows_f32(m, y->wide, y->in, x, y->w, y->b, w->net->hidden, y->y_row);
        else
            cg_gemm_rows_f32(m, columns, y->in, x, y->w, y->b, CG_ACT_NONE, logits);
        x = (const float *const *)y->y_row;
    }
}

double cg_work_step(cg_work *w, size_t m, const cg_sgd *sgd) {
    const cg_mlp_kernels *const run = w->kernels;
    const size_t last = w->net->layers - 1;
    cg_work_layer *const top = &w->layer[last];
    size_t hits = 0;
    cg_work_forward(w, m, w->x_row, top->wide, top->y_row);
    const double loss = run->softmax(m, top->out, top->y, top->wide, w->label, 1.0f / (float)m, &hits);
    for (size_t l = last + 1; l-- > 0;) {
        const cg_work_layer *const y = &w->layer[l], *const below = l > 0 ? y - 1 : NULL;
        if (below) { /* before W changes: d of the layer below = (d W) f'(y) */
            cg_gemm_flip(y->out, y->in, y->w, y->flip);
            cg_gemm_rows_f32(m, below->wide, y->out, (const float *const *)y->d_row, y->flip, NULL, CG_ACT_NONE,
                             below->d_row);
            run->derivative(m * below->wide, w->net->hidden == CG_ACT_TANH, below->y, below->d);
        }
        run->update(y->in, y->panels, m, below ? (const float *const *)below->y_row : w->x_row, y->d, y->wide, sgd,
                    y->w, y->vw);
        run->update(1, y->panels, m, w->ones, y->d, y->wide, sgd, y->b, y->vb);
    }
    return loss / (double)m;
}
