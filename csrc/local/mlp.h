/* csrc/local/mlp.h -- softmax regression and multi-layer perceptrons whose parameters are one row of a population.
 *
 * A row holds, layer by layer, the weight (out, in) row-major and then the bias (out): the layout of a torch
 * nn.Sequential of nn.Linear. No hidden layer: softmax regression. Hidden layers have ReLU or tanh; the last one gives
 * logits. NaN and infinities in parameters or data end up in the results; they never stop or crash a kernel. */
#ifndef CG_MLP_H
#define CG_MLP_H
#include "../base/err.h"
#include "../base/gemm.h"
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define CG_MLP_LAYERS 64 /* the most weight layers a network may have */

typedef struct cg_mlp {
    size_t layers;                   /* of weights, >= 1 */
    size_t width[CG_MLP_LAYERS + 1]; /* inputs, hidden ..., classes */
    size_t parameters;               /* P */
    cg_activation hidden;            /* CG_ACT_RELU or CG_ACT_TANH */
} cg_mlp;

/* Models as rows: x is (n, P), ld >= P floats from row to row. */
typedef struct cg_rows {
    float *x;
    size_t n, ld;
    const int64_t *rows; /* the rows a call is about, all different, or NULL: rows 0 ... count - 1 */
    size_t count;
} cg_rows;

/* Fills *net from `count` widths [inputs, hidden ..., classes]: 2 to 65 of them, each 1 ... 2^30, P x 4 bytes in
 * memory; else CG_EVALUE. */
int cg_mlp_set(cg_mlp *net, size_t count, const int64_t *sizes, cg_activation hidden, cg_err *err);
/* Row index of entry q; valid after cg_rows_check. */
size_t cg_rows_at(const cg_rows *m, size_t q);
/* Leading dimension, indices in range, none twice (an O(n) table): CG_EVALUE or CG_ENOMEM. */
int cg_rows_check(const cg_rows *m, size_t parameters, cg_err *err);

/* torch's default start for nn.Linear: weight and bias uniform in [-1/sqrt(in), 1/sqrt(in)), element i of tensor t (in
 * row order: weight, bias, weight, ...) = (2 u - 1) / sqrt(in), u = cg_random_f32 at (seed; CG_FOR_INIT, node, t) [i].
 * node: (count), in [0, 2^32), one for each row; equal nodes give equal rows. */
int cg_mlp_init(const cg_mlp *net, uint64_t seed, const int64_t *node, const cg_rows *models, cg_err *err);

/* out[i] = the logits of sample i. params: one row of P. data: (samples, inputs), ld >= inputs. out: (samples,
 * classes), ldo >= classes, overlapping neither (checked: CG_EALIAS). Parallel over blocks of samples. */
int cg_mlp_logits(const cg_mlp *net, const float *params, size_t samples, const float *data, size_t ld, float *out,
                  size_t ldo, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
