/* csrc/aggregate/consensus_base.c -- the reference. */
#include "consensus_kernels.h"
#include <stdint.h>
#include <string.h>

void cg_add_row_base(size_t n, const float *x, const float *ahead, double *sum) {
    for (size_t c = 0; c < n; c++) {
        if (c % 16 == 0) __builtin_prefetch(ahead + c);
        sum[c] += (double)x[c];
    }
}

double cg_distance_base(size_t n, const float *x, const double *mean) {
    double s[4] = {0};
    for (size_t c = 0; c < n; c++) {
        const double d = (double)x[c] - mean[c];
        s[c % 4] += d * d;
    }
    return (s[0] + s[1]) + (s[2] + s[3]);
}

int cg_nonfinite_base(size_t n, const float *x) {
    uint32_t found = 0;
    for (size_t c = 0; c < n; c++) {
        uint32_t bits;
        memcpy(&bits, x + c, sizeof bits);
        found |= (bits & 0x7F800000u) == 0x7F800000u; /* exponent all ones */
    }
    return (int)found;
}
