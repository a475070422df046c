/* csrc/aggregate/csr.c -- the reverse of every edge is found by transposing twice: a transpose lists its rows in
 * ascending order, so the k-th entry of row i in the twice transposed pattern and in the once transposed one are the
 * two directions of one edge if, and only if, the pattern is symmetric. Linear, and any order of columns will do. */
#include "csr.h"
#include "../base/buf.h"
#include <string.h>

static int check(const cg_csr *w, cg_err *err) {
    const int32_t *ptr = w->indptr;
    if (ptr[0] != 0) return cg_fail(err, CG_EVALUE, "indptr: expected to start at 0, got %d", (int)ptr[0]);
    for (size_t i = 0; i < w->n; i++)
        if (ptr[i + 1] < ptr[i])
            return cg_fail(err, CG_EVALUE, "indptr[%zu]: expected %d or more, got %d", i + 1, (int)ptr[i],
                           (int)ptr[i + 1]);
    for (int32_t e = 0; e < ptr[w->n]; e++)
        if (w->indices[e] < 0 || (size_t)w->indices[e] >= w->n)
            return cg_fail(err, CG_EVALUE, "indices[%d]: expected 0 to %zu, got %d", (int)e, w->n - 1,
                           (int)w->indices[e]);
    return CG_OK;
}

/* Entries `order` (all of them, rows ascending) sorted into columns: column j's are at [start[j], start[j + 1]) of
 * `sorted`, rows ascending. next: n values of work space. */
static void by_column(const cg_csr *w, const int32_t *column_of, const int32_t *order, const int32_t *start,
                      int32_t *next, int32_t *sorted) {
    const int32_t nnz = w->indptr[w->n];
    memcpy(next, start, w->n * sizeof *next);
    for (int32_t k = 0; k < nnz; k++) {
        const int32_t e = order ? order[k] : k;
        sorted[next[column_of[e]]++] = e;
    }
}

/* reverse[e] = the entry in the other direction. `work`: 2 n + 1 + 3 nnz values. */
static int find_reverse(const cg_csr *w, int32_t *work, int32_t *reverse, cg_err *err) {
    const size_t n = w->n, nnz = (size_t)w->indptr[n];
    int32_t *const start = work, *const next = start + n + 1, *const row = next + n, *const across = row + nnz,
                   *const back = across + nnz;
    memset(start, 0, (n + 1) * sizeof *start);
    for (size_t e = 0; e < nnz; e++) start[w->indices[e] + 1]++;
    for (size_t i = 0; i < n; i++) {
        start[i + 1] += start[i];
        for (int32_t e = w->indptr[i]; e < w->indptr[i + 1]; e++) row[e] = (int32_t)i;
    }
    by_column(w, w->indices, NULL, start, next, across);
    by_column(w, row, across, w->indptr, next, back);
    /* Row i: `back` holds its entries (i, j) by ascending j, `across` the entries (j, i) by ascending j. */
    for (size_t i = 0; i < n; i++) {
        int32_t a = start[i], b = w->indptr[i];
        while (a < start[i + 1] || b < w->indptr[i + 1]) {
            const int has_a = a < start[i + 1], has_b = b < w->indptr[i + 1];
            const int32_t from = has_a ? row[across[a]] : INT32_MAX, to = has_b ? w->indices[back[b]] : INT32_MAX;
            if (has_a && a > start[i] && from == row[across[a - 1]])
                return cg_fail(err, CG_EVALUE, "indices: entry (%d, %zu) is there twice", (int)from, i);
            if (has_b && b > w->indptr[i] && to == w->indices[back[b - 1]])
                return cg_fail(err, CG_EVALUE, "indices: entry (%zu, %d) is there twice", i, (int)to);
            if (from != to)
                return cg_fail(err, CG_EVALUE, "indices: entry (%zu, %d) is missing, its reverse is there",
                               from < to ? i : (size_t)to, from < to ? (int)from : (int)i);
            reverse[back[b++]] = across[a++];
        }
    }
    return CG_OK;
}

int cg_csr_mask(const cg_csr *w, const uint8_t *alive, float *out, cg_err *err) {
    int rc = check(w, err);
    if (rc != CG_OK) return rc;
    const size_t n = w->n, nnz = (size_t)w->indptr[n];
    int32_t *const reverse = cg_buf_alloc((2 * n + 1 + 4 * nnz) * sizeof *reverse);
    if (!reverse) return cg_fail(err, CG_ENOMEM, "no memory for the reverse of %zu entries", nnz);
    rc = find_reverse(w, reverse + nnz, reverse, err);
    for (size_t i = 0; rc == CG_OK && i < n; i++) {
        int32_t e = w->indptr[i];
        while (e < w->indptr[i + 1] && w->indices[e] != (int32_t)i) e++;
        if (e == w->indptr[i + 1]) rc = cg_fail(err, CG_EVALUE, "indices: diagonal entry (%zu, %zu) is missing", i, i);
    }
    for (size_t i = 0; rc == CG_OK && i < n; i++) {
        int32_t diagonal = 0;
        double kept = 0.0;
        for (int32_t e = w->indptr[i]; e < w->indptr[i + 1]; e++) {
            const int own = w->indices[e] == (int32_t)i, dead = !own && !(alive[e] && alive[reverse[e]]);
            if (own) diagonal = e;
            if (own || dead) kept += (double)w->weights[e];
            out[e] = dead ? 0.0f : w->weights[e];
        }
        out[diagonal] = (float)kept;
    }
    cg_buf_free(reverse);
    return rc;
}
