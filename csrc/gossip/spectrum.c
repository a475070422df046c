/* csrc/gossip/spectrum.c -- Lanczos on W with the all-ones vector taken out.
 *
 * Power iteration needs ln(1e-10) / ln(lambda3 / lambda2) steps: 6e5 on a ring of 1,024 nodes. Lanczos needs about the
 * square root of that, never more than there are distinct eigenvalues (513 on that ring), and finds both ends of the
 * spectrum at once. The vectors are not kept orthogonal: what rounding spoils are only repeated copies of eigenvalues
 * already found (Paige, "Accuracy and effectiveness of the Lanczos algorithm", 1980), which do not change the largest
 * modulus, while keeping them orthogonal costs O(n steps^2) time and O(n steps) memory. Once the tridiagonal matrix
 * says it has converged, a second run of the same recurrence builds the eigenvector, and its true residual is returned:
 * the answer does not rest on the estimate. */
#include "spectrum.h"
#include "../base/philox.h"
#include "csr.h"
#include "tridiagonal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double TOLERANCE = 1e-10;

typedef struct lanczos {
    size_t n, steps;
    const int32_t *indptr, *indices;
    const float *weights;
    double *prev, *cur, *next; /* (n,) each; cur has unit length */
    double *start, *found;     /* (n,): the first vector; the eigenvector */
    double *a, *b;             /* (cap,): the tridiagonal matrix; b[j] joins steps j and j+1 */
    double *z, *work;          /* (cap,): its eigenvector; (2 cap,) */
} lanczos;

static double dot(size_t n, const double *x, const double *y) {
    double lane[8] = {0}; /* eight sums: the loop vectorises without leave to reorder */
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t l = 0; l < 8; l++) lane[l] += x[i + l] * y[i + l];
    for (; i < n; i++) lane[i % 8] += x[i] * y[i];
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static void take_out_mean(size_t n, double *x) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    const double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) x[i] -= mean;
}

/* y = P W x with P the projection on the vectors that sum to 0; x is one of those. */
static void apply(const lanczos *l, const double *x, double *y) {
    for (size_t i = 0; i < l->n; i++) {
        double sum = 0.0;
        for (int32_t p = l->indptr[i]; p < l->indptr[i + 1]; p++) sum += (double)l->weights[p] * x[l->indices[p]];
        y[i] = sum;
    }
    take_out_mean(l->n, y);
}

static void first_vector(lanczos *l) {
    /* A node id no graph uses: the vector is unrelated to the topology drawn from the same seed. */
    cg_walk walk;
    cg_walk_start(&walk, &(cg_address){.seed = 0, .purpose = CG_FOR_TOPOLOGY, .node = UINT32_MAX, .round = 0});
    for (size_t i = 0; i < l->n; i++) l->start[i] = (double)cg_walk_u32(&walk) * 0x1p-31 - 1.0;
    take_out_mean(l->n, l->start);
    const double length = sqrt(dot(l->n, l->start, l->start));
    for (size_t i = 0; i < l->n; i++) l->start[i] /= length;
}

/* Step j: from cur (and prev, joined by b[j-1]) to the next vector, left unscaled in next; its length is b[j]. */
static void step(lanczos *l, size_t j) {
    const size_t n = l->n;
    double *const next = l->next;
    apply(l, l->cur, next);
    if (j > 0)
        for (size_t i = 0; i < n; i++) next[i] -= l->b[j - 1] * l->prev[i];
    l->a[j] = dot(n, next, l->cur);
    for (size_t i = 0; i < n; i++) next[i] -= l->a[j] * l->cur[i];
    take_out_mean(n, next);
    l->b[j] = sqrt(dot(n, next, next));
}

static void advance(lanczos *l, size_t j) {
    double *const free_one = l->prev;
    for (size_t i = 0; i < l->n; i++) l->next[i] /= l->b[j];
    l->prev = l->cur;
    l->cur = l->next;
    l->next = free_one;
}

/* The eigenvector found = sum_j z[j] v_j by a second run, and with it the value and the true residual. The recurrence
 * ends where it was: the same operations give the same bits. */
static void verify(lanczos *l, cg_lambda2_result *out) {
    const size_t n = l->n;
    memcpy(l->cur, l->start, n * sizeof *l->cur);
    memset(l->found, 0, n * sizeof *l->found);
    for (size_t j = 0; j < l->steps; j++) {
        if (j > 0) advance(l, j - 1);
        for (size_t i = 0; i < n; i++) l->found[i] += l->z[j] * l->cur[i];
        step(l, j);
    }
    const double length = sqrt(dot(n, l->found, l->found));
    for (size_t i = 0; i < n; i++) l->found[i] /= length;
    double *const image = l->prev; /* the recurrence is done with it: advance() would overwrite it next */
    apply(l, l->found, image);
    const double rayleigh = dot(n, l->found, image);
    for (size_t i = 0; i < n; i++) image[i] -= rayleigh * l->found[i];
    *out = (cg_lambda2_result){.value = fabs(rayleigh), .residual = sqrt(dot(n, image, image)), .steps = l->steps};
}

/* One end of the spectrum as the recurrence sees it; *residual estimates how far it has converged. Leaves z. */
static double look_at(lanczos *l, int end, double *residual) {
    const double value = cg_tridiagonal_end(l->steps, l->a, l->b, end);
    cg_tridiagonal_vector(l->steps, l->a, l->b, value, l->z, l->work);
    *residual = l->b[l->steps - 1] * fabs(l->z[l->steps - 1]);
    return fabs(value);
}

/* Has the end of the larger modulus converged, and can the other end no longer overtake it? */
static int converged(lanczos *l, double tolerance) {
    double r_low, r_high;
    const double low = look_at(l, -1, &r_low);
    const double high = look_at(l, +1, &r_high);
    if (high >= low) return r_high <= tolerance && (r_low <= tolerance || low + r_low < high);
    look_at(l, -1, &r_low); /* its vector in z, for verify() */
    return r_low <= tolerance && (r_high <= tolerance || high + r_high < low);
}

static double largest_row(size_t n, const int32_t *indptr, const float *weights) {
    double most = 0.0;
    for (size_t i = 0; i < n; i++) {
        double sum = 0.0;
        for (int32_t p = indptr[i]; p < indptr[i + 1]; p++) sum += fabs((double)weights[p]);
        most = fmax(most, sum);
    }
    return most;
}

int cg_lambda2(size_t n, size_t nnz, const int32_t *indptr, const int32_t *indices, const float *weights,
               cg_lambda2_result *out, cg_err *err) {
    if (cg_mixing_check(n, nnz, indptr, indices, weights, CG_CHECK_SUMS | CG_CHECK_SYMMETRY, err)) return err->code;
    *out = (cg_lambda2_result){0};
    if (n <= 1) return CG_OK;
    const double tolerance = TOLERANCE * fmax(1.0, largest_row(n, indptr, weights));
    const size_t cap = 4 * n < CG_LAMBDA2_MAX_STEPS ? 4 * n : CG_LAMBDA2_MAX_STEPS;
    double *const room = malloc((5 * n + 5 * cap) * sizeof *room);
    if (!room) return cg_fail(err, CG_ENOMEM, "no memory for the spectrum of %zu nodes", n);
    lanczos l = {.n = n, .indptr = indptr, .indices = indices, .weights = weights};
    l.prev = room, l.cur = room + n, l.next = room + 2 * n, l.start = room + 3 * n, l.found = room + 4 * n;
    l.a = room + 5 * n, l.b = l.a + cap, l.z = l.b + cap, l.work = l.z + cap;
    first_vector(&l);
    memcpy(l.cur, l.start, n * sizeof *l.cur);
    /* Looking costs some hundred passes over the tridiagonal matrix: at intervals that grow with it, and where the
     * recurrence ends because it has found all that its first vector holds. */
    for (size_t j = 0, look = 8;; j++) {
        step(&l, j);
        l.steps = j + 1;
        const int last = l.steps == cap || !(l.b[j] > 0.0);
        if (l.steps >= look || l.b[j] <= tolerance || last) {
            look = l.steps + l.steps / 4;
            if (converged(&l, tolerance) || last) {
                verify(&l, out);
                if (last || out->residual <= tolerance) break;
            }
        }
        advance(&l, j);
    }
    free(room);
    return CG_OK;
}
