/* csrc/gossip/spectrum.h -- how fast gossip mixes: the second largest modulus of the eigenvalues of W. */
#ifndef CG_GOSSIP_SPECTRUM_H
#define CG_GOSSIP_SPECTRUM_H
#include "../base/err.h"
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

enum { CG_LAMBDA2_MAX_STEPS = 10000 };

typedef struct cg_lambda2_result {
    double value;    /* largest |eigenvalue| of W on the vectors that sum to 0 */
    double residual; /* ||W y - value y|| of the unit vector y found: some eigenvalue is at most this far away */
    size_t steps;    /* of the Lanczos recurrence */
} cg_lambda2_result;

/* W: symmetric CSR (n nodes, nnz weights) whose rows sum to 1, checked by cg_mixing_check with both flags; negative
 * weights are welcome. Stops at residual <= 1e-10 * max(1, max row sum of |w|) or after min(4n, CG_LAMBDA2_MAX_STEPS)
 * steps (*out then says how far it got). n <= 1 gives 0; a disconnected graph 1.
 * Each step reads W once: O(nnz + n); memory 5n + 5 min(4n, cap) doubles whatever the graph. Serial, float64. */
int cg_lambda2(size_t n, size_t nnz, const int32_t *indptr, const int32_t *indices, const float *weights,
               cg_lambda2_result *out, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
