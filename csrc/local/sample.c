#include "sample.h"
#include "../base/philox.h"

int cg_sampler_check(int64_t node, int64_t first, int64_t steps, int64_t m, int64_t batch, cg_err *err) {
    if (node < 0 || node > UINT32_MAX)
        return cg_fail(err, CG_EVALUE, "node: expected 0 to %lld, got %lld", (long long)UINT32_MAX, (long long)node);
    if (m < 1 || m > INT32_MAX)
        return cg_fail(err, CG_EVALUE, "m: expected 1 to %lld samples, got %lld", (long long)INT32_MAX, (long long)m);
    if (batch < 1) return cg_fail(err, CG_EVALUE, "batch: expected at least 1, got %lld", (long long)batch);
    if (steps < 0) return cg_fail(err, CG_EVALUE, "steps: expected at least 0, got %lld", (long long)steps);
    if (first < 0) return cg_fail(err, CG_EVALUE, "first step: expected at least 0, got %lld", (long long)first);
    const int64_t per_epoch = m / batch + (m % batch > 0);
    const int64_t after_first = steps > 0 ? steps - 1 : 0;
    if (first > INT64_MAX - steps || (first + after_first) / per_epoch > UINT32_MAX)
        return cg_fail(err, CG_EVALUE, "steps: node %lld would pass epoch %lld", (long long)node,
                       (long long)UINT32_MAX);
    return CG_OK;
}

void cg_sampler_start(cg_sampler *s, uint64_t seed, int64_t node, int64_t m, int64_t batch, int32_t *order) {
    s->seed = seed;
    s->node = (uint32_t)node;
    s->m = (uint32_t)m;
    s->batch = batch < m ? (uint32_t)batch : (uint32_t)m;
    s->per_epoch = m / s->batch + (m % s->batch > 0);
    s->epoch = -1;
    s->order = order;
}

size_t cg_sampler_batch(cg_sampler *s, int64_t step, const int32_t **positions) {
    const int64_t epoch = step / s->per_epoch;
    const uint32_t begin = (uint32_t)(step % s->per_epoch) * s->batch;
    if (epoch != s->epoch) {
        const cg_address at = {.seed = s->seed, .purpose = CG_FOR_SAMPLE, .node = s->node, .round = (uint32_t)epoch};
        cg_random_permutation(&at, s->m, s->order);
        s->epoch = epoch;
    }
    *positions = s->order + begin;
    return s->m - begin < s->batch ? s->m - begin : s->batch;
}
