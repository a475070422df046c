/* tests/c/test_gemm.c -- the packed product from C: exact small integers, every instruction set, buffers of exactly the
 * documented sizes (so that a sanitizer sees any read or write beyond them). */
#include "../../csrc/base/buf.h"
#include "../../csrc/base/gemm.h"
#include "../../csrc/base/isa.h"
#include "../../csrc/base/pool.h"
#include "../../csrc/base/vmath.h"
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

static void expect(int ok, const char *what, size_t m, size_t n, size_t k) {
    if (ok) return;
    failures++;
    printf("%s: %s failed at m=%zu n=%zu k=%zu\n", cg_isa_name(cg_isa()), what, m, n, k);
}

static float *floats(size_t n) { /* exactly n of them: one more is an error a sanitizer reports */
    float *p = malloc(n ? n * sizeof *p : 1);
    if (!p) exit(2);
    return p;
}

static float small(uint32_t *state) { /* -8 ... 8: sums of up to 300 products are exact in float32 */
    *state = *state * 1664525u + 1013904223u;
    return (float)((int)(*state >> 16) % 17 - 8);
}

static void one(size_t m, size_t n, size_t k, cg_activation act, int with_bias) {
    uint32_t state = (uint32_t)(m * 131 + n * 17 + k);
    float *a = floats(m * k), *b = floats(n * k), *t = floats(n * k), *bias = floats(n), *c = floats(m * n);
    float *packed = floats(cg_gemm_packed_size(n, k)), *other = floats(cg_gemm_packed_size(n, k));
    float *flipped = floats(cg_gemm_packed_size(k, n)), *want = floats(m * n);
    for (size_t i = 0; i < m * k; i++) a[i] = small(&state);
    for (size_t j = 0; j < n; j++) {
        bias[j] = small(&state);
        for (size_t i = 0; i < k; i++) t[i * n + j] = b[j * k + i] = small(&state);
    }
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            float s = with_bias ? bias[j] : 0.0f;
            for (size_t q = 0; q < k; q++) s += a[i * k + q] * b[j * k + q];
            if (act == CG_ACT_RELU && s < 0.0f) s = 0.0f;
            if (act == CG_ACT_TANH) cg_tanh_f32(1, &s, &s);
            want[i * n + j] = s;
        }
    cg_gemm_pack(n, k, b, k, packed);
    cg_gemm_pack_transposed(n, k, t, n, other);
    expect(memcmp(packed, other, cg_gemm_packed_size(n, k) * sizeof *packed) == 0, "pack_transposed", m, n, k);
    cg_gemm_unpack(n, k, packed, t, k);
    expect(memcmp(b, t, n * k * sizeof *b) == 0, "unpack", m, n, k);
    cg_gemm_flip(n, k, packed, flipped);
    float *straight = floats(cg_gemm_packed_size(k, n));
    cg_gemm_pack_transposed(k, n, b, k, straight); /* B^T is (k, n); its transpose, b, is (n, k) */
    expect(memcmp(straight, flipped, cg_gemm_packed_size(k, n) * sizeof *flipped) == 0, "flip", m, n, k);

    cg_gemm_f32(m, n, k, a, k, packed, with_bias ? bias : NULL, act, c, n);
    expect(memcmp(c, want, m * n * sizeof *c) == 0, "gemm", m, n, k);
    cg_err err;
    memset(c, 0xFF, m * n * sizeof *c);
    expect(cg_gemm_parallel_f32(m, n, k, a, k, packed, with_bias ? bias : NULL, act, c, n, &err) == CG_OK, "parallel",
           m, n, k);
    expect(memcmp(c, want, m * n * sizeof *c) == 0, "parallel gemm", m, n, k);

    /* Rows by pointer, in reverse, one of them twice. */
    const float **rows = malloc((m + 1) * sizeof *rows);
    float **to = malloc((m + 1) * sizeof *to);
    float *extra = floats(n);
    if (!rows || !to) exit(2);
    for (size_t i = 0; i < m; i++) {
        rows[i] = a + (m - 1 - i) * k;
        to[i] = c + (m - 1 - i) * n;
    }
    if (m) {
        rows[m] = rows[0];
        to[m] = extra;
        memset(c, 0xFF, m * n * sizeof *c);
        cg_gemm_rows_f32(m + 1, n, k, rows, packed, with_bias ? bias : NULL, act, to);
        expect(memcmp(c, want, m * n * sizeof *c) == 0, "rows", m, n, k);
        expect(memcmp(extra, to[0], n * sizeof *c) == 0, "repeated row", m, n, k);
    }
    free(rows), free(to), free(extra), free(straight);
    free(a), free(b), free(t), free(bias), free(c), free(packed), free(other), free(flipped), free(want);
}

int main(void) {
    static const size_t sizes[] = {0, 1, 2, 5, 7, 8, 12, 13, 16, 17, 33, 70};
    const size_t count = sizeof sizes / sizeof *sizes;
    cg_err err;
    if (cg_set_num_threads(2, &err) != CG_OK) return 2;
    for (int isa = 0; isa < CG_ISA_COUNT; isa++) {
        if (cg_isa_force((cg_isa_t)isa) != 0) continue;
        for (size_t i = 0; i < count; i++)
            for (size_t j = 0; j < count; j++)
                for (size_t q = 0; q < count; q++)
                    one(sizes[i], sizes[j], sizes[q], (cg_activation)((i + j + q) % 3), (i + j) % 2 == 0);
        one(205, 300, 257, CG_ACT_NONE, 1); /* several row blocks and pieces */
        float x[3] = {NAN, -INFINITY, INFINITY}, y[3];
        cg_exp_f32(3, x, y);
        expect(isnan(y[0]) && y[1] == 0.0f && isinf(y[2]), "exp of NaN and infinities", 3, 0, 0);
    }
    if (cg_gemm_packed_size(SIZE_MAX, SIZE_MAX / 2) != 0) failures++, printf("packed_size does not see overflow\n");
    if (failures) printf("test_gemm: %d failures\n", failures);
    return failures != 0;
}
