/* csrc/router/forward.h -- probabilities of all sources for a query, with the first layer folded.
 *
 * With standardised inputs (x - mu) / sigma, W1 x splits into z1(q, s) = (Wq / sigma_q) q + T_s + (wx / sigma_x) q .
 * c_s: one product a query and encoder, not one as wide as the row for each source. The caller folds, in float64. The
 * whole network then costs 2 d hidden1 + 2 N hidden1 hidden2 flops a query; its floor is the FMA peak for a batch, and
 * for one query the 4 (d hidden1 + hidden1 hidden2) bytes of weights at the speed of the cache that holds them. */
#ifndef CG_ROUTER_FORWARD_H
#define CG_ROUTER_FORWARD_H
#include "../base/err.h"
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef struct cg_router cg_router; /* the weights, packed; read-only once made, for any number of threads */

/* What cg_router_new copies. d: the widest of `dims`. */
typedef struct cg_router_parts {
    size_t encoders, sources, hidden1, hidden2; /* each at least 1 */
    const int64_t *dims;                        /* (encoders) width of an encoder's queries, >= 0 */
    const int64_t *encoder;                     /* (sources) in [0, encoders) */
    const float *wq;                            /* (hidden1, d) */
    const float *shift;                         /* (sources, hidden1): T */
    const float *cross;                         /* (hidden1), or NULL: no dot feature */
    const float *centroids;                     /* (sources, d), each to its encoder's width; read where cross is */
    const float *tail; /* plain parameters (network.h) from ln1.weight on, without fc1: all that is not folded */
} cg_router_parts;

/* Floats of `tail`. */
size_t cg_router_tail(size_t hidden1, size_t hidden2);
/* NULL with CG_EVALUE (counts, widths, encoders out of range) or CG_ENOMEM. */
cg_router *cg_router_new(const cg_router_parts *parts, cg_err *err);
void cg_router_free(cg_router *r);
size_t cg_router_encoders(const cg_router *r);
size_t cg_router_sources(const cg_router *r);
size_t cg_router_dim(const cg_router *r, size_t encoder);

/* p[b * N + s] = sigmoid of the logit. queries: one pointer an encoder, to (batch, dim) floats. p: (batch, N), overlaps
 * nothing. A query's row depends on the query alone: the same bits in any batch, on any number of threads (split over
 * blocks of queries). CG_EVALUE, before anything is computed, where a query is not finite; CG_ENOMEM. */
int cg_router_forward(const cg_router *r, size_t batch, const float *const *queries, float *p, cg_err *err);

/* How a row of probabilities becomes a selection; ranks by p, of equal ones the first. */
typedef enum cg_router_empty { CG_ROUTER_TOP1, CG_ROUTER_ALL, CG_ROUTER_NONE } cg_router_empty;
typedef struct cg_router_policy {
    const float *threshold; /* (N): chosen where p > threshold */
    size_t least, most;     /* at least and at most so many, least <= most <= N */
    cg_router_empty empty;  /* what a row without any takes */
} cg_router_policy;

/* mask[b * N + s] = 1 where query b asks source s. */
void cg_router_choose(size_t batch, size_t sources, const float *p, const cg_router_policy *policy, uint8_t *mask);

#ifdef __cplusplus
}
#endif
#endif
