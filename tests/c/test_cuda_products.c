/* tests/c/test_cuda_products.c -- the CUDA kernels' bodies on the CPU, second part: products, nearest keys, the router.
 */
#include "../../csrc/cache/scan.h"
#include "cuda_twins.h"

/* ---- products ---- */

static void test_gemm(size_t m, size_t n, size_t k, size_t pad) {
    const size_t lda = k + 3 * pad, ldb = k + pad, ldc = n + 2;
    float *const a = numbers(m * lda, 5), *const b = numbers(n * ldb, 6), *const c = numbers(m * ldc, 7),
                 *const old = numbers(m * ldc, 7);
    const cg_gemm g = {m, n, k, lda, ldb, a, b};
    cg_err err;
    CHECK(cg_cuda_gemm_f32(0, NULL, &g, c, ldc, &err) == CG_OK);
    int good = 1;
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            float want = 0.0f;
            for (size_t l = 0; l < k; l++) want = fmaf(a[i * lda + l], b[j * ldb + l], want);
            good &= memcmp(&want, &c[i * ldc + j], sizeof want) == 0;
        }
        good &= memcmp(c + i * ldc + n, old + i * ldc + n, 2 * sizeof *c) == 0;
    }
    CHECK(good);
    cg_buf_free(a), cg_buf_free(b), cg_buf_free(c), cg_buf_free(old);
}

/* ---- nearest keys ---- */

/* What the CPU's scan says of one query: every key's squared distance, 16 keys a group. */
static void scan_all(size_t keys, size_t dim, const float *k, const float *q, float *total) {
    const size_t dpad = cg_scan_padded(dim), groups = cg_div_up(keys, CG_LANES);
    float *const packed = array(groups * CG_LANES * dpad, sizeof *packed), *const row = array(dpad, sizeof *row);
    for (size_t i = 0; i < groups * CG_LANES; i++) {
        memset(row, 0, dpad * sizeof *row);
        if (i < keys) memcpy(row, k + i * dim, dim * sizeof *row);
        cg_scan_put(packed, dpad, i, row);
    }
    memset(row, 0, dpad * sizeof *row);
    memcpy(row, q, dim * sizeof *row);
    for (size_t g = 0; g < groups; g++) {
        for (size_t l = 0; l < CG_LANES; l++) total[g * CG_LANES + l] = NAN; /* no lane within: all are NaN */
        (void)cg_scan_next(0, packed, dpad, g, g + 1, row, INFINITY, total + g * CG_LANES);
    }
    cg_buf_free(packed), cg_buf_free(row);
}

/* Queries near keys, equal keys far apart, keys and queries with a NaN or an infinity, or too large to square. */
static void test_nearest(size_t batch, size_t keys, size_t dim, float spread, float near, float bound) {
    float *const q = numbers(batch * dim, 11), *const k = numbers(keys * dim, 12);
    const size_t groups = cg_div_up(keys, CG_NEAREST_GROUP);
    for (size_t i = 0; i < keys * dim; i++) k[i] = 3.0f + spread * k[i];
    for (size_t b = 0; b < batch; b++)
        for (size_t j = 0; j < dim; j++) q[b * dim + j] = k[b * 37 % keys * dim + j] + near * q[b * dim + j];
    if (keys > 140) {
        memcpy(k + 139 * dim, k + 3 * dim, dim * sizeof *k);
        memcpy(q, k + 3 * dim, dim * sizeof *q); /* distance 0, twice */
        k[7 * dim] = NAN;
        for (size_t j = 0; j < dim; j++) k[50 * dim + j] = 1e25f;
        k[80 * dim + dim - 1] = INFINITY;
        for (size_t j = 0; j < dim; j++) k[120 * dim + j] = 3e18f; /* a norm near the largest number */
    }
    if (batch > 4) {
        q[4 * dim + dim / 2] = NAN;
        for (size_t j = 0; j < dim; j++)
            q[3 * dim + j] = nextafterf(1e25f, INFINITY); /* far from all others, near that one */
    }
    float *const qq = array(batch, sizeof *qq), *const kk = array(keys, sizeof *kk),
                 *const lo = array(groups * batch, sizeof *lo), *const hi = array(groups * batch, sizeof *hi),
                 *const distance = array(batch, sizeof *distance), *const total = array(keys + CG_LANES, sizeof *total);
    int64_t *const index = array(batch, sizeof *index);
    cg_err err;
    CHECK(cg_cuda_norms_f32(0, NULL, batch, dim, q, dim, qq, &err) == CG_OK);
    CHECK(cg_cuda_norms_f32(0, NULL, keys, dim, k, dim, kk, &err) == CG_OK);
    const cg_nearest n = {batch, keys, dim, dim, dim, q, k, qq, kk, lo, hi};
    CHECK(cg_cuda_nearest_f32(0, NULL, &n, bound, index, distance, &err) == CG_OK);
    for (size_t b = 0; b < batch; b++) {
        int64_t want = -1;
        float least = INFINITY;
        scan_all(keys, dim, k, q + b * dim, total);
        for (size_t i = 0; i < keys; i++)
            if (total[i] <= bound && total[i] < least) least = total[i], want = (int64_t)i;
        CHECK(index[b] == want);
        CHECK(same(distance[b], sqrtf(least)));
    }
    cg_buf_free(q), cg_buf_free(k), cg_buf_free(qq), cg_buf_free(kk), cg_buf_free(lo), cg_buf_free(hi);
    cg_buf_free(distance), cg_buf_free(total), cg_buf_free(index);
}

static float direct(const float *q, const float *k, size_t dim) {
    float total = 0.0f;
    for (size_t at = 0; at < dim; at += 16) total += cg_direct_chunk(q + at, k + at, dim - at);
    return total;
}

/* x with the bits that a tensor core cuts off all set: the largest error, and always the same way. */
static float cut_most(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits |= 0x1FFF;
    memcpy(&x, &bits, sizeof bits);
    return x;
}

/* The filter's bounds hold for every pair: no slack, no sense. scale: of all values. */
static void test_filter_bounds(size_t dim, float spread, float scale, int worst) {
    enum { BATCH = 9, KEYS = 131, GROUPS = 5 };
    float *const q = numbers(BATCH * dim, 21), *const k = numbers(KEYS * dim, 22), qq[BATCH], kk[KEYS],
                 lo[GROUPS * BATCH], hi[GROUPS * BATCH];
    for (size_t i = 0; i < KEYS * dim; i++) k[i] = scale * (1.0f + spread * k[i]);
    for (size_t i = 0; i < BATCH * dim; i++) q[i] = scale * (1.0f + spread * q[i]);
    for (size_t i = 0; i < KEYS * dim && worst; i++) k[i] = cut_most(k[i]);
    for (size_t i = 0; i < BATCH * dim && worst; i++) q[i] = cut_most(q[i]);
    cg_err err;
    (void)cg_cuda_norms_f32(0, NULL, BATCH, dim, q, dim, qq, &err);
    (void)cg_cuda_norms_f32(0, NULL, KEYS, dim, k, dim, kk, &err);
    const cg_nearest n = {BATCH, KEYS, dim, dim, dim, q, k, qq, kk, lo, hi};
    cg_filter_room *const room = array(1, sizeof *room);
    for (size_t tile = 0; tile < cg_tensor_tiles(BATCH, KEYS); tile++)
        cg_filter_body(&n, cg_nearest_wide(&n), tile, room);
    for (size_t b = 0; b < BATCH; b++) {
        for (size_t group = 0; group < GROUPS; group++) {
            float least = INFINITY;
            for (size_t i = group * CG_NEAREST_GROUP; i < KEYS && i < (group + 1) * CG_NEAREST_GROUP; i++)
                least = fminf(least, direct(q + b * dim, k + i * dim, dim));
            CHECK(lo[b * GROUPS + group] <= least && least <= hi[b * GROUPS + group]);
        }
    }
    cg_buf_free(q), cg_buf_free(k), cg_buf_free(room);
}

/* ---- router ---- */

/* ReLU(LayerNorm(z + shift + c cross)) in float64. */
static void layer(size_t width, const float *z, const float *shift, float c, const float *cross, const float *gain,
                  const float *bias, double *h) {
    double mean = 0.0, square = 0.0;
    for (size_t i = 0; i < width; i++) mean += h[i] = (double)z[i] + (double)shift[i] + (double)c * (double)cross[i];
    mean /= (double)width;
    for (size_t i = 0; i < width; i++) square += (h[i] - mean) * (h[i] - mean);
    for (size_t i = 0; i < width; i++) {
        const double y = (h[i] - mean) / sqrt(square / (double)width + 1e-5) * (double)gain[i] + (double)bias[i];
        h[i] = y < 0.0 ? 0.0 : y;
    }
}

static void test_router(size_t queries, size_t group, size_t width) {
    const size_t rows = queries * group, ldz = width + 3, sources = group + 2;
    float *const z = numbers(queries * ldz, 31), *const shift = numbers(group * width, 32),
                 *const dots = numbers(rows, 33), *const cross = numbers(width, 34), *const gain = numbers(width, 35),
                 *const bias = numbers(width, 36), *const w = numbers(width, 37),
                 *const p = numbers(queries * sources, 38), *const old = numbers(queries * sources, 38),
                 *const out = array(rows * width, sizeof *out);
    const float b = 0.25f;
    double *const h = array(width, sizeof *h);
    int32_t *const column = array(group, sizeof *column);
    for (size_t s = 0; s < group; s++) column[s] = (int32_t)(group - s); /* columns 1 to group, backwards */
    const cg_router_layer l = {width, group, ldz, z, shift, dots, cross, gain, bias, out};
    cg_err err;
    CHECK(cg_cuda_router_layer_f32(0, NULL, rows, &l, &err) == CG_OK);
    const cg_router_head head = {width, group, sources, out, w, &b, column, p};
    CHECK(cg_cuda_router_head_f32(0, NULL, rows, &head, &err) == CG_OK);
    for (size_t r = 0; r < rows; r++) {
        double logit = (double)b;
        layer(width, z + r / group * ldz, shift + r % group * width, dots[r], cross, gain, bias, h);
        for (size_t i = 0; i < width; i++) {
            CHECK(fabs((double)out[r * width + i] - h[i]) < 1e-5);
            logit += h[i] * (double)w[i];
        }
        CHECK(fabs((double)p[r / group * sources + (size_t)column[r % group]] - 1.0 / (1.0 + exp(-logit))) < 1e-5);
    }
    for (size_t q = 0; q < queries; q++) { /* columns of others stay */
        CHECK(same(p[q * sources], old[q * sources]));
        CHECK(same(p[q * sources + group + 1], old[q * sources + group + 1]));
    }
    cg_buf_free(z), cg_buf_free(shift), cg_buf_free(dots), cg_buf_free(cross), cg_buf_free(gain), cg_buf_free(bias);
    cg_buf_free(w), cg_buf_free(p), cg_buf_free(old), cg_buf_free(out), cg_buf_free(h), cg_buf_free(column);
}

int main(void) {
    if (cg_isa_runs(CG_ISA_AVX2)) (void)cg_isa_force(CG_ISA_AVX2);
    for (cg_twin_backwards = 0; cg_twin_backwards < 2; cg_twin_backwards++) {
        test_gemm(1, 1, 1, 1);
        test_gemm(5, 130, 0, 1);
        test_gemm(130, 67, 33, 1);
        test_gemm(257, 129, 16, 1);
        test_gemm(140, 260, 100, 4); /* rows that are read by quads */
        test_nearest(1, 1, 1, 1.0f, 0.01f, INFINITY);
        test_nearest(6, 300, 17, 1.0f, 0.01f, INFINITY);
        test_nearest(6, 300, 17, 1.0f, 100.0f, INFINITY);
        test_nearest(6, 300, 17, 1.0f, 0.01f, 3e38f);
        test_nearest(6, 300, 17, 1.0f, 0.01f, 0.0f);
        test_nearest(5, 150, 96, 1e-4f, 1e-6f, INFINITY); /* the product alone cannot tell these keys apart */
        test_nearest(131, 257, 31, 0.1f, 1e-3f, 1e-5f);
        test_nearest(5, 290, 3, 1.0f, 0.01f, INFINITY);
        test_nearest(129, 513, 4, 1.0f, 0.01f, INFINITY);
        test_nearest(5, 150, 1030, 0.1f, 0.1f, INFINITY); /* more chunks than are measured at a time, and a part */
        test_nearest(5, 150, 768, 1e-4f, 1e-6f, INFINITY);
        for (size_t dim = 1; dim < 2000; dim = 3 * dim + 1) {
            for (int worst = 0; worst < 2; worst++) {
                test_filter_bounds(dim, 1.0f, 1.0f, worst);
                test_filter_bounds(dim, 1e-3f, 1.0f, worst);
                test_filter_bounds(4 * dim, 1e-3f, 1e17f, worst); /* norms without a bound, for the large dims */
                test_filter_bounds(dim, 1.0f, 1e-19f, worst);     /* products that underflow */
            }
        }
        test_router(1, 1, 2);
        test_router(3, 2, 129);
        test_router(2, 5, 300);
    }
    return failed();
}
