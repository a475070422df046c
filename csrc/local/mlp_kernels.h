/* csrc/local/mlp_kernels.h -- what differs by instruction set: the rank-m update, softmax, derivatives, plain SGD. */
#ifndef CG_MLP_KERNELS_H
#define CG_MLP_KERNELS_H
#include "train.h"

/* With g = sum_b x[b][i] dz[b ldz + j] (b in order), for i < in and all j < 16 panels:
 * sgd given: w[p][i][j % 16], p = j / 16, takes one SGD step with g, v (same layout, or NULL without momentum) too;
 * sgd NULL: w becomes g. in == 1 with x[b] pointing at 1.0 is the bias. */
typedef void cg_mlp_update_fn(size_t in, size_t panels, size_t m, const float *const *x, const float *dz, size_t ldz,
                              const cg_sgd *sgd, float *w, float *v);
/* For each of m rows z of `classes` logits, ld apart: z becomes scale (softmax(z) - onehot(label)). Returns the sum of
 * the cross-entropies; adds to *hits the rows whose first largest logit is the label's (never one with a NaN). */
typedef double cg_mlp_softmax_fn(size_t m, size_t classes, float *z, size_t ld, const int64_t *label, float scale,
                                 size_t *hits);
/* d[i] *= f'(.), where y = f(.); f is tanh or ReLU. n is a multiple of 16. */
typedef void cg_mlp_derivative_fn(size_t n, int is_tanh, const float *y, float *d);
/* One SGD step of n parameters with gradient g; v as above. */
typedef void cg_mlp_sgd_fn(size_t n, const cg_sgd *sgd, const float *g, float *w, float *v);

typedef struct cg_mlp_kernels {
    cg_mlp_update_fn *update;
    cg_mlp_softmax_fn *softmax;
    cg_mlp_derivative_fn *derivative;
    cg_mlp_sgd_fn *sgd;
} cg_mlp_kernels;

extern const cg_mlp_kernels cg_mlp_base, cg_mlp_avx2, cg_mlp_avx512;
#endif
