/* csrc/local/sample.h -- which samples a node's next mini-batches hold, by address.
 *
 * A node with m samples has ceil(m / batch) batches an epoch, the last one smaller. Step s of a node, counted over its
 * whole life, is batch s % nb of epoch s / nb; the order of an epoch is cg_random_permutation at (seed; CG_FOR_SAMPLE,
 * node, epoch). Every learner, native or torch, in any process, that walks its own counter sees the same samples. */
#ifndef CG_SAMPLE_H
#define CG_SAMPLE_H
#include "../base/err.h"
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef struct cg_sampler {
    uint64_t seed;
    int64_t per_epoch; /* batches */
    int64_t epoch;     /* that `order` holds; -1: none yet */
    int32_t *order;    /* m positions */
    uint32_t node, m, batch;
} cg_sampler;

/* Checks that steps [first, first + steps) of node `node` have an address: CG_EVALUE with the argument's name where
 * not. m: 1 ... 2^31 - 1; batch >= 1; first, steps >= 0; node in [0, 2^32); the last epoch below 2^32. */
int cg_sampler_check(int64_t node, int64_t first, int64_t steps, int64_t m, int64_t batch, cg_err *err);
/* order: room for m positions, owned by the caller. Arguments as cg_sampler_check wants them; batch may exceed m. */
void cg_sampler_start(cg_sampler *s, uint64_t seed, int64_t node, int64_t m, int64_t batch, int32_t *order);
/* The samples of one step, as positions in [0, m) of the node's own list; returns how many (1 ... batch). A step in
 * another epoch than the last call's costs one permutation, O(m). */
size_t cg_sampler_batch(cg_sampler *s, int64_t step, const int32_t **positions);

#ifdef __cplusplus
}
#endif
#endif
