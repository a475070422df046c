#include "weights.h"
#include "csr.h"

int cg_metropolis_weights(size_t n, size_t nnz, const int32_t *indptr, const int32_t *indices, int32_t *w_indptr,
                          int32_t *w_indices, float *weights, cg_err *err) {
    if (cg_graph_check(n, nnz, indptr, indices, err)) return err->code;
    if (n + nnz > INT32_MAX)
        return cg_fail(err, CG_EVALUE, "indices: expected at most 2**31 - 1 with the diagonal, got %zu + %zu", nnz, n);
    w_indptr[0] = 0;
    for (size_t i = 0; i < n; i++) {
        const int32_t degree = indptr[i + 1] - indptr[i];
        int32_t p = indptr[i], out = w_indptr[i];
        double rest = 1.0;
        for (; p < indptr[i + 1] && (size_t)indices[p] < i; p++) w_indices[out++] = indices[p];
        const int32_t diagonal = out++;
        w_indices[diagonal] = (int32_t)i;
        for (; p < indptr[i + 1]; p++) w_indices[out++] = indices[p];
        w_indptr[i + 1] = out;
        for (int32_t q = w_indptr[i]; q < out; q++) {
            if (q == diagonal) continue;
            const int32_t other = indptr[w_indices[q] + 1] - indptr[w_indices[q]];
            weights[q] = (float)(1.0 / (1.0 + (double)(degree > other ? degree : other)));
            rest -= (double)weights[q];
        }
        weights[diagonal] = (float)rest;
    }
    return CG_OK;
}
