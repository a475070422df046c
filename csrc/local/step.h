/* csrc/local/step.h -- one model at work: its weights as packed panels, and room for a batch. Used by train.c, eval.c
 * and mlp.c only.
 *
 * A row of the population is packed once, takes its local steps in packed form and is written back: (out, in) is the
 * slow order for every inner loop, and packing costs less than one step. Widths are rounded up to whole panels; the
 * padding never reaches a real element, since every sum over a layer's width runs over the true width only. */
#ifndef CG_STEP_H
#define CG_STEP_H
#include "mlp_kernels.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct cg_work_layer {
    size_t in, out, panels, wide; /* wide = 16 panels >= out */
    float *w, *b;                 /* [panels][in][16], [panels][16] */
    float *vw, *vb;               /* their velocities */
    float *flip;                  /* the panels of W^T, for the backward product; not in the first layer */
    float *y, *d;                 /* (batch, wide): outputs, and their gradient before the activation */
    float **y_row, **d_row;       /* pointers to the rows of y and d */
} cg_work_layer;

typedef struct cg_work {
    const cg_mlp *net;
    const cg_mlp_kernels *kernels;
    cg_work_layer layer[CG_MLP_LAYERS];
    const float **x_row; /* (batch) the batch's samples, where they lie in the data */
    const float **ones;  /* (batch) pointers to 1.0f: the bias's input */
    int64_t *label;      /* (batch) */
    int32_t *order;      /* (samples of a node) for the sampler */
} cg_work;

enum { CG_WORK_WEIGHTS = 1, CG_WORK_VELOCITY = 2, CG_WORK_FORWARD = 4, CG_WORK_BACKWARD = 8 };

/* Lays the parts out in `memory` (NULL: only measures) for batches of up to `batch` rows and an order of `order`
 * samples; returns the bytes needed, SIZE_MAX where they do not fit in memory. */
size_t cg_work_lay(cg_work *w, const cg_mlp *net, int parts, size_t batch, size_t order, void *memory);
/* Packs a row of parameters (and of velocities, or NULL) into the panels; writes them back. */
void cg_work_load(cg_work *w, const float *params, const float *velocity);
void cg_work_store(const cg_work *w, float *params, float *velocity);
/* Logits of the m samples x[0 ... m-1] into rows of `columns` floats: the classes, or the last layer's `wide`. */
void cg_work_forward(cg_work *w, size_t m, const float *const *x, size_t columns, float *const *logits);
/* Forward, backward and, with sgd, the step; without, the panels become the gradient. The batch is x_row and label.
 * Returns the batch's mean cross-entropy before the step. */
double cg_work_step(cg_work *w, size_t m, const cg_sgd *sgd);
/* The kernels of the chosen instruction set. */
const cg_mlp_kernels *cg_mlp_kernels_now(void);

#ifdef __cplusplus
}
#endif
#endif
