/* csrc/router/network.h -- the network that scores a source for a query (RAGRoute, arXiv 2502.19280): its parameters.
 *
 *   z1 = W1 x + b1,  h1 = ReLU(LayerNorm(z1)),  z2 = W2 h1 + b2,  h2 = ReLU(LayerNorm(z2)),  logit = w3 . h2 + b3
 *
 * x, the row of a query and a source, is never built. Its columns are [query | of the source | of both], so that
 * W1 x = Wq q + Ws f_s + wx c(q, s): the first product is the query's, the second the source's, the last a scalar.
 * LayerNorm: biased variance, eps 1e-5 inside the root, gain and bias.
 *
 * Parameters come in two orders. `plain` is torch's: fc1.weight (hidden1, inputs), fc1.bias, ln1.weight, ln1.bias,
 * fc2.weight (hidden2, hidden1), fc2.bias, ln2.weight, ln2.bias, fc3.weight (1, hidden2), fc3.bias (1). `packed` is the
 * trainer's: every matrix in the panels of base/gemm.h, every vector padded to whole panels with zeros. */
#ifndef CG_ROUTER_NETWORK_H
#define CG_ROUTER_NETWORK_H
#include "../base/err.h"
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

#define CG_ROUTER_EPS 1e-5f
#define CG_ROUTER_WIDEST ((size_t)1 << 24) /* the most inputs or hidden units: no size below overflows */

enum {
    CG_ROUTER_WQ,
    CG_ROUTER_WS,
    CG_ROUTER_WX,
    CG_ROUTER_B1,
    CG_ROUTER_G1, /* gain of LayerNorm ... */
    CG_ROUTER_A1, /* ... and its bias */
    CG_ROUTER_W2,
    CG_ROUTER_B2,
    CG_ROUTER_G2,
    CG_ROUTER_A2,
    CG_ROUTER_W3,
    CG_ROUTER_B3,
    CG_ROUTER_TENSORS
};

typedef struct cg_router_net {
    size_t queries, statics, crosses; /* columns of x; crosses is 0 or 1 */
    size_t hidden1, hidden2;
    size_t wide1, wide2;              /* rounded up to whole panels */
    size_t at[CG_ROUTER_TENSORS + 1]; /* where each tensor begins in `packed`; the last: its length */
    size_t plain;                     /* the length of `plain` */
} cg_router_net;

/* Fills *net. At least one column and one unit in each layer, each count at most CG_ROUTER_WIDEST: else CG_EVALUE. */
int cg_router_net_set(cg_router_net *net, size_t queries, size_t statics, size_t crosses, size_t hidden1,
                      size_t hidden2, cg_err *err);
/* plain -> packed and back. The arrays do not overlap. */
void cg_router_net_pack(const cg_router_net *net, const float *plain, float *packed);
void cg_router_net_unpack(const cg_router_net *net, const float *packed, float *plain);

#ifdef __cplusplus
}
#endif
#endif
