/* csrc/aggregate/csr.h -- a mixing matrix by rows, and what happens to it when edges die. */
#ifndef CG_CSR_H
#define CG_CSR_H
#include "../base/err.h"
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

/* A square sparse matrix by rows: the entries of row i are [indptr[i], indptr[i + 1]), entry e stands in column
 * indices[e] and has the value weights[e]. indptr: n + 1 values from 0 on that do not decrease; indices and weights:
 * indptr[n]. Any order of columns; a diagonal is an entry like any other. */
typedef struct cg_csr {
    size_t n;
    const int32_t *indptr, *indices;
    const float *weights;
} cg_csr;

/* The weights of `w` when some edges are dead: a dead edge's weight returns to the diagonals of both its ends, so that
 * row sums stay and a symmetric matrix stays symmetric.
 *
 * w: checked (CG_EVALUE): a symmetric pattern, each entry once, every diagonal present. alive, out: one value an entry,
 * in the order of w->weights; out may be w->weights itself. An edge is dead where alive is 0 in either direction; alive
 * on a diagonal means nothing. A dead entry keeps its place with weight 0. Sums in float64, rounded once. O(n + nnz).
 */
int cg_csr_mask(const cg_csr *w, const uint8_t *alive, float *out, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
