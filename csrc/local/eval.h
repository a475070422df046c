/* csrc/local/eval.h -- every model against one test set, as one job. */
#ifndef CG_EVAL_H
#define CG_EVAL_H
#include "mlp.h"
#ifdef __cplusplus
extern "C" {
#endif

/* accuracy[q], loss[q]: share of samples whose first largest logit is the label's, and mean cross-entropy, of row q of
 * models->rows over data (samples, inputs), ld >= inputs, label (samples) in [0, classes) (checked: CG_EVALUE). A
 * sample whose logits hold NaN or +inf counts as wrong and makes the loss NaN. No samples: both NaN. Parallel over
 * (row, block of samples); the sums are taken block by block in order, the same for any number of threads. */
int cg_mlp_evaluate(const cg_mlp *net, const cg_rows *models, size_t samples, const float *data, size_t ld,
                    const int64_t *label, double *accuracy, double *loss, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
