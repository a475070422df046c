/* csrc/router/train.h -- training the router's network (RAGRoute, section on training; reference implementation).
 *
 * A training row is a pair (query, source); its input is never built. In a batch of m rows the first layer costs one
 * product with the m queries and one with the N sources, and so do its gradients: 6 m (d hidden1 + hidden1 hidden2)
 * + 4 N F hidden1 flops a step, its floor at the FMA peak, and 28 bytes of traffic a parameter for Adam.
 *
 * Loss: mean binary cross-entropy of the logits, the positive branch times pos_weight. Gradients are clipped to a
 * global norm; weight decay is L2 in the gradient (Adam, not AdamW). Dropout masks are addressed (CG_FOR_DROPOUT), so
 * that a step depends on its arguments alone: the same bits on any number of threads. */
#ifndef CG_ROUTER_TRAIN_H
#define CG_ROUTER_TRAIN_H
#include "network.h"
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

/* Row i is query i / sources and source i % sources. */
typedef struct cg_router_data {
    size_t count, sources, encoders;
    const float *queries;   /* (encoders, count, net.queries), standardised */
    const int64_t *encoder; /* (sources) in [0, encoders) */
    const float *statics;   /* (sources, net.statics) */
    const float *crosses;   /* (count, sources), or NULL where net.crosses is 0 */
    const uint8_t *labels;  /* (count, sources), 0 or 1 */
} cg_router_data;

typedef struct cg_router_optimiser {
    uint64_t seed;
    float dropout;      /* share of units dropped, in [0, 1) */
    float pos_weight;   /* > 0 */
    float weight_decay; /* >= 0 */
    float clip;         /* the largest norm of a gradient; 0: any */
} cg_router_optimiser;

/* One Adam step for every `batch` of the `count` rows in turn (the last may be smaller), with rate lr[i]; betas 0.9 and
 * 0.999, eps 1e-8, `step` steps taken before. params, first, second: packed (network.h), net.at[CG_ROUTER_TENSORS]
 * floats each, all different; first and second (the moments) begin as zeros. *loss: sum over rows of their loss before
 * their step. Fails before anything is written: CG_EVALUE (a row, an encoder or a number out of range), CG_ENOMEM. */
int cg_router_train(const cg_router_net *net, const cg_router_data *data, const cg_router_optimiser *how, size_t count,
                    const int32_t *rows, size_t batch, const double *lr, uint64_t step, float *params, float *first,
                    float *second, double *loss, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
