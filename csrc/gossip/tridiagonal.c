#include "tridiagonal.h"
#include <float.h>
#include <math.h>

/* Keeps a pivot off zero: the sign and size it gets do not matter, only that the next quotient is finite. */
static double off_zero(double pivot) { return fabs(pivot) < 0x1p-500 ? -0x1p-500 : pivot; }

static size_t count_below(size_t k, const double *a, const double *b, double x) {
    double pivot = off_zero(a[0] - x);
    size_t below = pivot < 0.0;
    for (size_t j = 1; j < k; j++) {
        pivot = off_zero(a[j] - x - b[j - 1] * b[j - 1] / pivot);
        below += pivot < 0.0;
    }
    return below;
}

double cg_tridiagonal_end(size_t k, const double *a, const double *b, int end) {
    double low = a[0], high = a[0]; /* Gershgorin's circles */
    for (size_t j = 0; j < k; j++) {
        const double r = (j > 0 ? fabs(b[j - 1]) : 0.0) + (j + 1 < k ? fabs(b[j]) : 0.0);
        low = fmin(low, a[j] - r);
        high = fmax(high, a[j] + r);
    }
    const double least = DBL_EPSILON * fmax(fabs(low), fabs(high)); /* as close as the counts themselves can tell */
    while (high - low > least) {
        const double mid = 0.5 * (low + high);
        if (mid <= low || mid >= high) break;
        const size_t below = count_below(k, a, b, mid);
        const int above_it = end > 0 ? below == k : below >= 1;
        if (above_it)
            high = mid;
        else
            low = mid;
    }
    return 0.5 * (low + high);
}

void cg_tridiagonal_vector(size_t k, const double *a, const double *b, double value, double *z, double *work) {
    double *const down = work, *const up = work + k; /* pivots from the top and from the bottom */
    down[0] = off_zero(a[0] - value);
    for (size_t j = 1; j < k; j++) down[j] = off_zero(a[j] - value - b[j - 1] * b[j - 1] / down[j - 1]);
    up[k - 1] = off_zero(a[k - 1] - value);
    for (size_t j = k - 1; j-- > 0;) up[j] = off_zero(a[j] - value - b[j] * b[j] / up[j + 1]);
    size_t twist = 0;
    double least = INFINITY;
    for (size_t j = 0; j < k; j++) {
        const double gamma = fabs(down[j] + up[j] - (a[j] - value));
        if (gamma < least) least = gamma, twist = j;
    }
    z[twist] = 1.0;
    for (size_t j = twist; j-- > 0;) z[j] = -b[j] * z[j + 1] / down[j];
    for (size_t j = twist + 1; j < k; j++) z[j] = -b[j - 1] * z[j - 1] / up[j];
    double largest = 1.0, sum = 0.0;
    for (size_t j = 0; j < k; j++) largest = fmax(largest, fabs(z[j]));
    for (size_t j = 0; j < k; j++) z[j] /= largest;
    for (size_t j = 0; j < k; j++) sum += z[j] * z[j];
    for (size_t j = 0; j < k; j++) z[j] /= sqrt(sum);
}
