#include "csr.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

int cg_csr_check(size_t n, size_t nnz, const int32_t *indptr, const int32_t *indices, cg_err *err) {
    if (n > INT32_MAX || nnz > INT32_MAX)
        return cg_fail(err, CG_EVALUE, "indices: expected at most 2**31 - 1 nodes and entries, got %zu and %zu", n,
                       nnz);
    if (indptr[0] != 0) return cg_fail(err, CG_EVALUE, "indptr: expected 0 at [0], got %d", (int)indptr[0]);
    for (size_t i = 0; i < n; i++)
        if (indptr[i + 1] < indptr[i])
            return cg_fail(err, CG_EVALUE, "indptr: expected at least %d at [%zu], got %d", (int)indptr[i], i + 1,
                           (int)indptr[i + 1]);
    if ((size_t)indptr[n] != nnz)
        return cg_fail(err, CG_EVALUE, "indptr: expected the number of indices, %zu, at [%zu], got %d", nnz, n,
                       (int)indptr[n]);
    for (size_t i = 0; i < n; i++) {
        for (int32_t p = indptr[i]; p < indptr[i + 1]; p++) {
            if (indices[p] < 0 || (size_t)indices[p] >= n)
                return cg_fail(err, CG_EVALUE, "indices: expected 0 to %zu at [%d] (row %zu), got %d", n - 1, (int)p, i,
                               (int)indices[p]);
            if (p > indptr[i] && indices[p] <= indices[p - 1])
                return cg_fail(err, CG_EVALUE,
                               "indices: expected ascending columns in row %zu, got %d after %d at [%d]", i,
                               (int)indices[p], (int)indices[p - 1], (int)p);
        }
    }
    return CG_OK;
}

int cg_graph_check(size_t n, size_t nnz, const int32_t *indptr, const int32_t *indices, cg_err *err) {
    if (cg_csr_check(n, nnz, indptr, indices, err)) return err->code;
    for (size_t i = 0; i < n; i++)
        for (int32_t p = indptr[i]; p < indptr[i + 1]; p++)
            if ((size_t)indices[p] == i)
                return cg_fail(err, CG_EVALUE, "indices: self loop of node %zu at [%d]", i, (int)p);
    if (nnz == 0) return CG_OK;
    int32_t *next = malloc(n * sizeof *next); /* per row, the first entry not yet matched by its mirror image */
    if (!next) return cg_fail(err, CG_ENOMEM, "no memory to check %zu nodes", n);
    memcpy(next, indptr, n * sizeof *next);
    /* Rows are ascending, so walking the graph row by row meets the entries of every column in ascending order too:
     * each (i, j) must find exactly i at row j's cursor. The row without its mirror is the smaller of the two. */
    size_t from = n, to = n;
    for (size_t i = 0; i < n && from == n; i++) {
        for (int32_t p = indptr[i]; p < indptr[i + 1]; p++) {
            const size_t j = (size_t)indices[p];
            const int32_t q = next[j];
            if (q < indptr[j + 1] && (size_t)indices[q] == i) {
                next[j]++;
                continue;
            }
            from = i, to = j;
            if (q < indptr[j + 1] && (size_t)indices[q] < i) from = j, to = (size_t)indices[q];
            break;
        }
    }
    for (size_t i = 0; i < n && from == n; i++)
        if (next[i] < indptr[i + 1]) from = i, to = (size_t)indices[next[i]];
    free(next);
    if (from == n) return CG_OK;
    return cg_fail(err, CG_EVALUE, "indices: %zu lists %zu as a neighbour, but %zu does not list %zu", from, to, to,
                   from);
}

static int check_sums(size_t n, const int32_t *indptr, const float *weights, cg_err *err) {
    size_t row = 0, bad = 0;
    double worst = 0.0, its_sum = 1.0;
    for (size_t i = 0; i < n; i++) {
        double sum = 0.0;
        for (int32_t p = indptr[i]; p < indptr[i + 1]; p++) sum += (double)weights[p];
        const double off = fabs(sum - 1.0);
        if (off > CG_MIXING_TOLERANCE) bad++;
        if (off > worst) worst = off, its_sum = sum, row = i;
    }
    if (!bad) return CG_OK;
    return cg_fail(err, CG_EVALUE,
                   "weights: expected every row to sum to 1 within %g, got %.9g in row %zu (worst of %zu)",
                   CG_MIXING_TOLERANCE, its_sum, row, bad);
}

/* Row i of the matrix against row i of its transpose, both ascending: a merge. */
static int check_symmetry(size_t n, size_t nnz, const int32_t *indptr, const int32_t *indices, const float *weights,
                          cg_err *err) {
    int32_t *tptr = calloc(n + 2, sizeof *tptr), *tidx = malloc((nnz + 1) * sizeof *tidx);
    float *tw = malloc((nnz + 1) * sizeof *tw);
    if (!tptr || !tidx || !tw) {
        free(tptr), free(tidx), free(tw);
        return cg_fail(err, CG_ENOMEM, "no memory to transpose %zu weights", nnz);
    }
    for (size_t p = 0; p < nnz; p++) tptr[indices[p] + 2]++; /* shifted by two: filling moves row i's start to i+1 */
    for (size_t i = 0; i < n; i++) tptr[i + 2] += tptr[i + 1];
    for (size_t i = 0; i < n; i++)
        for (int32_t p = indptr[i]; p < indptr[i + 1]; p++) {
            const int32_t q = tptr[indices[p] + 1]++;
            tidx[q] = (int32_t)i;
            tw[q] = weights[p];
        }
    double worst = 0.0;
    size_t row = 0;
    int32_t column = 0;
    float there = 0.0f, back = 0.0f;
    for (size_t i = 0; i < n; i++) {
        int32_t p = indptr[i], q = tptr[i];
        while (p < indptr[i + 1] || q < tptr[i + 1]) {
            const int32_t jp = p < indptr[i + 1] ? indices[p] : INT32_MAX, jq = q < tptr[i + 1] ? tidx[q] : INT32_MAX;
            const int32_t j = jp < jq ? jp : jq;
            const float w = jp == j ? weights[p++] : 0.0f, wt = jq == j ? tw[q++] : 0.0f;
            const double off = fabs((double)w - (double)wt);
            if (off > worst) worst = off, row = i, column = j, there = w, back = wt;
        }
    }
    free(tptr), free(tidx), free(tw);
    if (worst <= CG_MIXING_TOLERANCE) return CG_OK;
    return cg_fail(err, CG_EVALUE, "weights: expected a symmetric matrix, got %.9g at [%zu, %d] and %.9g at [%d, %zu]",
                   (double)there, row, (int)column, (double)back, (int)column, row);
}

int cg_mixing_check(size_t n, size_t nnz, const int32_t *indptr, const int32_t *indices, const float *weights, int what,
                    cg_err *err) {
    if (cg_csr_check(n, nnz, indptr, indices, err)) return err->code;
    for (size_t i = 0; i < n; i++)
        for (int32_t p = indptr[i]; p < indptr[i + 1]; p++)
            if (!isfinite(weights[p]))
                return cg_fail(err, CG_EVALUE, "weights: expected finite numbers, got %g at [%zu, %d]",
                               (double)weights[p], i, (int)indices[p]);
    if ((what & CG_CHECK_SUMS) && check_sums(n, indptr, weights, err)) return err->code;
    if ((what & CG_CHECK_SYMMETRY) && check_symmetry(n, nnz, indptr, indices, weights, err)) return err->code;
    return CG_OK;
}
