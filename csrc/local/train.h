/* csrc/local/train.h -- local SGD of many models at once: each row of the population on its own samples.
 *
 * All rows of a process in one call, split over the thread pool by rows: a row's result depends on its own inputs only,
 * so it is the same for any number of threads, any other rows in the call and any process. One step of a batch of B:
 * about 6 B P flops (4 B P for the first layer), read and written in cache; floor = the FMA peak. */
#ifndef CG_TRAIN_H
#define CG_TRAIN_H
#include "mlp.h"
#include "sample.h"
#ifdef __cplusplus
extern "C" {
#endif

/* torch.optim.SGD with dampening 0: g += weight_decay w; v = momentum v + g; step = nesterov ? g + momentum v : v;
 * w -= lr step. momentum == 0: v is neither needed nor touched. Zero terms are left out, not multiplied by 0. */
typedef struct cg_sgd {
    float lr, momentum, weight_decay;
    int nesterov;
} cg_sgd;

/* The data of all nodes, and who has which. Row r of the models is node[r] and owns the samples
 * part_idx[part_ptr[r]] ... part_idx[part_ptr[r + 1] - 1]. */
typedef struct cg_samples {
    size_t count, ld; /* x: (count, inputs), ld >= inputs */
    const float *x;
    const int64_t *label;               /* (count), in [0, classes) wherever a part points */
    size_t rows;                        /* must be the models' n */
    const int64_t *part_ptr, *part_idx; /* (rows + 1), (parts) */
    size_t parts;
    const int64_t *node; /* (rows), in [0, 2^32): global ids, the address of the samples' order */
    uint64_t seed;
    int64_t batch; /* >= 1; more than a node has means all it has */
} cg_samples;

/* Takes local_steps[q] (or, where local_steps is NULL, `steps`) SGD steps with row q of models->rows; steps_done[r] (r:
 * row of the models) counts on. velocity: (n, P), ldv >= P, required with momentum, else NULL. loss[q]: mean over its
 * steps of the mean cross-entropy of the batch, before the step; NaN for a row that took none because it has no samples
 * or no steps: that row, its velocity and its counter are left as they were.
 * Everything is checked before anything changes; what is written must not overlap what is read (CG_EALIAS). */
int cg_mlp_train(const cg_mlp *net, const cg_rows *models, const cg_samples *data, const cg_sgd *sgd, float *velocity,
                 size_t ldv, const int64_t *local_steps, int64_t steps, int64_t *steps_done, double *loss, cg_err *err);

/* The gradient of each row's next batch, and its loss, without a step: g is (count, P), ldg >= P, row q for row q of
 * models->rows; zeros and loss NaN for a row without samples. For hooks that change gradients before they are applied.
 */
int cg_mlp_gradients(const cg_mlp *net, const cg_rows *models, const cg_samples *data, const int64_t *steps_done,
                     float *g, size_t ldg, double *loss, cg_err *err);

/* One SGD step of each row with row q of g, and steps_done + 1. part_ptr: (n + 1): rows without samples are left alone,
 * as in cg_mlp_train. cg_mlp_gradients and then this is one step of cg_mlp_train, bit for bit. */
int cg_mlp_apply(size_t parameters, const cg_rows *models, const int64_t *part_ptr, const float *g, size_t ldg,
                 const cg_sgd *sgd, float *velocity, size_t ldv, int64_t *steps_done, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
