/* csrc/gossip/graph.c -- the pairing model, one pair of stubs at a time.
 *
 * Every node holds `degree` stubs; two free stubs drawn at random become an edge if that makes neither a loop nor a
 * second edge. Up to degree 3 a pair that does not fit starts everything again: the accepted pairing is then uniform
 * over all simple graphs, at e^((d^2-1)/4) <= 7.4 attempts. Above, only the pair is drawn again (Steger and Wormald),
 * and an attempt fails where no free pair fits. */
#include "graph.h"
#include "../base/philox.h"
#include "csr.h"
#include <stdlib.h>
#include <string.h>

enum {
    EXACT_DEGREE = 3,
    /* An attempt succeeds about once in ten times at degree 3, once in four at half of all edges, nearly always in
     * between: ten thousand failures in a row do not happen, yet the loop has an end. */
    MAX_ATTEMPTS = 10000
};

typedef struct draft {
    size_t degree;
    uint32_t free_stubs;
    int32_t *stub;   /* (n * degree): the nodes of the free stubs come first */
    int32_t *nbr;    /* (n, degree), unordered */
    int32_t *filled; /* (n,): neighbours found so far */
    cg_walk walk;
} draft;

static int fits(const draft *d, uint32_t a, uint32_t b) {
    const int32_t u = d->stub[a], v = d->stub[b];
    const int32_t *row = d->nbr + (size_t)u * d->degree;
    int clash = u == v;
    for (int32_t k = 0; k < d->filled[u]; k++) clash |= row[k] == v; /* no early exit: it vectorises */
    return !clash;
}

static void join(draft *d, uint32_t a, uint32_t b) {
    const int32_t u = d->stub[a], v = d->stub[b];
    d->nbr[(size_t)u * d->degree + (size_t)d->filled[u]++] = v;
    d->nbr[(size_t)v * d->degree + (size_t)d->filled[v]++] = u;
    /* The last free stubs take the places of the two; the higher place first, or it might be moved. */
    const uint32_t high = a > b ? a : b, low = a > b ? b : a;
    d->stub[high] = d->stub[--d->free_stubs];
    d->stub[low] = d->stub[--d->free_stubs];
}

/* After many misses: one of all the pairs that fit, with equal chances, as drawing on would give. 0 if there is none.
 */
static int pick_listed(draft *d, uint32_t *a, uint32_t *b) {
    uint32_t count = 0;
    for (uint32_t i = 1; i < d->free_stubs; i++)
        for (uint32_t j = 0; j < i; j++)
            if (fits(d, i, j) && cg_walk_below(&d->walk, ++count) == 0) *a = i, *b = j; /* reservoir of one */
    return count > 0;
}

static int attempt(draft *d) {
    while (d->free_stubs) {
        uint32_t a, b, misses = 0;
        for (;;) {
            a = cg_walk_below(&d->walk, d->free_stubs);
            b = cg_walk_below(&d->walk, d->free_stubs - 1);
            b += b >= a;
            if (fits(d, a, b)) break;
            if (d->degree <= EXACT_DEGREE) return 0;
            if (++misses <= d->free_stubs) continue; /* listing costs free_stubs^2 / 2: balanced with the misses */
            if (!pick_listed(d, &a, &b)) return 0;
            break;
        }
        join(d, a, b);
    }
    return 1;
}

static void write_graph(const draft *d, size_t n, int32_t *nbr) {
    int32_t *at = d->filled; /* no longer needed */
    memset(at, 0, n * sizeof *at);
    for (size_t i = 0; i < n; i++) /* i ascends, so every row it is appended to does */
        for (size_t k = 0; k < d->degree; k++) {
            const size_t j = (size_t)d->nbr[i * d->degree + k];
            nbr[j * d->degree + (size_t)at[j]++] = (int32_t)i;
        }
}

static void write_complement(const draft *d, size_t n, int32_t *nbr) {
    int32_t *seen = d->filled; /* seen[j] == i + 1: j is i itself or a neighbour in the draft */
    memset(seen, 0, n * sizeof *seen);
    for (size_t i = 0; i < n; i++) {
        const int32_t mark = (int32_t)i + 1;
        seen[i] = mark;
        for (size_t k = 0; k < d->degree; k++) seen[d->nbr[i * d->degree + k]] = mark;
        for (size_t j = 0; j < n; j++)
            if (seen[j] != mark) *nbr++ = (int32_t)j;
    }
}

int cg_regular_graph(size_t n, size_t degree, uint64_t seed, uint32_t round, int32_t *nbr, cg_err *err) {
    if (n < 1 || n > INT32_MAX) return cg_fail(err, CG_EVALUE, "n: expected 1 to 2**31 - 1, got %zu", n);
    if (degree >= n) return cg_fail(err, CG_EVALUE, "degree: expected less than n = %zu, got %zu", n, degree);
    if (degree > 0 && n > INT32_MAX / degree)
        return cg_fail(err, CG_EVALUE, "degree: expected n * degree below 2**31, got %zu * %zu", n, degree);
    if (n * degree % 2)
        return cg_fail(err, CG_EVALUE, "degree: expected an even n * degree (twice the edges), got %zu * %zu", n,
                       degree);
    const int dense = degree > (n - 1) / 2;
    draft d = {.degree = dense ? n - 1 - degree : degree};
    const size_t stubs = n * d.degree;
    d.stub = malloc((stubs + 1) * sizeof *d.stub);
    d.nbr = malloc((stubs + 1) * sizeof *d.nbr);
    d.filled = malloc(n * sizeof *d.filled);
    int done = 0;
    if (d.stub && d.nbr && d.filled) {
        cg_walk_start(&d.walk, &(cg_address){.seed = seed, .purpose = CG_FOR_TOPOLOGY, .node = 0, .round = round});
        for (int tries = 0; tries < MAX_ATTEMPTS && !done; tries++) {
            for (size_t i = 0; i < n; i++)
                for (size_t k = 0; k < d.degree; k++) d.stub[i * d.degree + k] = (int32_t)i;
            memset(d.filled, 0, n * sizeof *d.filled);
            d.free_stubs = (uint32_t)stubs;
            done = attempt(&d);
        }
        if (done)
            (dense ? write_complement : write_graph)(&d, n, nbr);
        else
            cg_fail(err, CG_EVALUE, "degree: found no graph of n = %zu, degree = %zu in %d attempts", n, degree,
                    (int)MAX_ATTEMPTS);
    } else {
        cg_fail(err, CG_ENOMEM, "no memory for a graph of %zu nodes of degree %zu", n, degree);
    }
    free(d.stub), free(d.nbr), free(d.filled);
    return done ? CG_OK : err->code;
}

int cg_components(size_t n, size_t nnz, const int32_t *indptr, const int32_t *indices, int32_t *label, size_t *count,
                  cg_err *err) {
    if (cg_graph_check(n, nnz, indptr, indices, err)) return err->code;
    *count = 0;
    if (n == 0) return CG_OK;
    int32_t *stack = malloc(n * sizeof *stack); /* a node is pushed once, when it gets its label */
    if (!stack) return cg_fail(err, CG_ENOMEM, "no memory for the components of %zu nodes", n);
    for (size_t i = 0; i < n; i++) label[i] = -1;
    for (size_t i = 0; i < n; i++) {
        if (label[i] >= 0) continue;
        const int32_t here = (int32_t)(*count)++;
        size_t depth = 0;
        label[i] = here;
        stack[depth++] = (int32_t)i;
        while (depth) {
            const int32_t u = stack[--depth];
            for (int32_t p = indptr[u]; p < indptr[u + 1]; p++) {
                if (label[indices[p]] >= 0) continue;
                label[indices[p]] = here;
                stack[depth++] = indices[p];
            }
        }
    }
    free(stack);
    return CG_OK;
}
