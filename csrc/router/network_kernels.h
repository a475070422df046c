/* csrc/router/network_kernels.h -- what differs by instruction set: LayerNorm forth and back, the rank-m gradient,
 * Adam.
 *
 * Sums over a row run in lanes, in an order that depends on n alone; kernels read and write exactly n floats. */
#ifndef CG_ROUTER_NETWORK_KERNELS_H
#define CG_ROUTER_NETWORK_KERNELS_H
#include "network.h"

/* y = z + shift (+ c cross, where cross is not NULL); x = (y - mean y) r, r = 1 / sqrt(var y + eps);
 * h = max(0, gain x + bias), NaN stays. x is stored where `hat` is not NULL. Returns r. h may be z. */
typedef float cg_router_norm_fn(size_t n, const float *z, const float *shift, float c, const float *cross,
                                const float *gain, const float *bias, float *hat, float *h);
/* Backwards through scale * ReLU * LayerNorm of one row. dy comes as the gradient of h and leaves as that of
 * gain x + bias; hat comes as x and leaves as dy x, the gradient of the gain; dz is the gradient of y. */
typedef void cg_router_norm_back_fn(size_t n, float scale, const float *h, const float *gain, float r, float *hat,
                                    float *dy, float *dz);
/* g[i][j] = sum_b x[b][i] dz[b ldz + j], b = 0 ... m-1 in order; i < in, j < 16. m >= 0. */
typedef void cg_router_gradient_fn(size_t in, size_t m, const float *const *x, const float *dz, size_t ldz, float *g);
typedef double cg_router_squares_fn(size_t n, const float *g); /* sum of squares */
typedef float cg_router_dot_fn(size_t n, const float *a, const float *b);

/* One step of Adam with L2 in the gradient: g' = scale g + decay w; m = b1 m + (1 - b1) g'; v = b2 v + (1 - b2) g'^2;
 * w -= rate m / (sqrt(v) root + eps), rate = lr / (1 - b1^t), root = 1 / sqrt(1 - b2^t): torch.optim.Adam. */
typedef struct cg_router_step {
    float scale, decay, beta1, beta2, rate, root, eps;
} cg_router_step;
typedef void cg_router_adam_fn(size_t n, const cg_router_step *step, const float *g, float *w, float *m, float *v);

typedef struct cg_router_kernels {
    cg_router_norm_fn *norm;
    cg_router_norm_back_fn *norm_back;
    cg_router_gradient_fn *gradient;
    cg_router_squares_fn *squares;
    cg_router_dot_fn *dot;
    cg_router_adam_fn *adam;
} cg_router_kernels;

extern const cg_router_kernels cg_router_base, cg_router_avx2, cg_router_avx512;
/* Those of the chosen instruction set. */
const cg_router_kernels *cg_router_kernels_now(void);
#endif
