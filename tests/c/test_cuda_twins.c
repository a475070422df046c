/* tests/c/test_cuda_twins.c -- the bodies of the CUDA kernels, run on the CPU block by block and thread by thread
 * (cuda/shim.h), forwards and backwards, against the kernels of csrc: odd sizes, NaN rows, one block and many. */
#include "../../csrc/aggregate/consensus.h"
#include "../../csrc/aggregate/mix.h"
#include "../../csrc/noise/normal_kernels.h"
#include "cuda_twins.h"

/* ---- mixing ---- */

enum { DEGREE = 5 };

/* Two matrices of n nodes: a ring of DEGREE neighbours with one zero weight a row, and one of every second entry. */
typedef struct pair {
    cg_csr csr[2];
    cg_mix_plan plan;
} pair;

static void make_pair(pair *g, size_t n) {
    for (size_t m = 0; m < 2; m++) {
        const size_t k = m == 0 ? DEGREE : 2;
        int32_t *const indptr = array(n + 1, sizeof *indptr), *const indices = array(n * k, sizeof *indices);
        float *const weights = numbers(n * k, (uint32_t)m);
        for (size_t i = 0; i <= n; i++) indptr[i] = (int32_t)(i * k);
        for (size_t e = 0; e < n * k; e++) {
            indices[e] = (int32_t)((e / k + (m + 1) * (e % k)) % n);
            if (e % k == 1 || (e / k % 7 == 3 && e % k > 1)) weights[e] = 0.0f;
        }
        g->csr[m] = (cg_csr){n, indptr, indices, weights};
    }
    const size_t slices = cg_div_up(n, CG_MIX_SLICE);
    uint32_t *const start = array(2 * (slices + 1), sizeof *start);
    cg_mix_entry *const entries = array(2 * slices * CG_MIX_SLICE * DEGREE, sizeof *entries);
    memset(entries, 0, 2 * slices * CG_MIX_SLICE * DEGREE * sizeof *entries);
    uint32_t end = 0;
    for (size_t m = 0; m < 2; m++) {
        for (size_t s = 0; s <= slices; s++) {
            const uint32_t first = start[m * (slices + 1) + s] = end;
            for (size_t i = s * CG_MIX_SLICE; i < n && i < (s + 1) * CG_MIX_SLICE; i++) {
                uint32_t at = first + (uint32_t)(i % CG_MIX_SLICE);
                for (int32_t e = g->csr[m].indptr[i]; e < g->csr[m].indptr[i + 1]; e++) {
                    if (g->csr[m].weights[e] == 0.0f) continue;
                    entries[at] = (cg_mix_entry){(uint32_t)g->csr[m].indices[e], g->csr[m].weights[e]};
                    at += CG_MIX_SLICE;
                    if (end < at / CG_MIX_SLICE * CG_MIX_SLICE) end = at / CG_MIX_SLICE * CG_MIX_SLICE;
                }
            }
        }
    }
    g->plan = (cg_mix_plan){.n = n, .start = start, .entries = entries};
}

static void free_pair(pair *g) {
    for (size_t m = 0; m < 2; m++) {
        cg_buf_free((void *)(uintptr_t)g->csr[m].indptr);
        cg_buf_free((void *)(uintptr_t)g->csr[m].indices);
        cg_buf_free((void *)(uintptr_t)g->csr[m].weights);
    }
    cg_buf_free((void *)(uintptr_t)g->plan.start);
    cg_buf_free((void *)(uintptr_t)g->plan.entries);
}

static void count_tiles(const uint64_t *col_start, size_t blocks, size_t width, uint64_t *first_tile) {
    first_tile[0] = 0;
    for (size_t b = 0; b < blocks; b++)
        first_tile[b + 1] = first_tile[b] + cg_div_up((size_t)(col_start[b + 1] - col_start[b]), width);
}

static int equal_rows(const float *a, size_t lda, const float *b, size_t ldb, size_t n, size_t p) {
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < p; c++)
            if (!same(a[i * lda + c], b[i * ldb + c])) return 0;
    return 1;
}

/* n nodes, p columns in three blocks (one of them empty), one to three rounds; row 0 holds a NaN. Rows of y are padded
 * by 5 floats, those of x by pad. */
static void test_mix(size_t n, size_t p, size_t pad) {
    enum { ROUNDS = 3, BLOCKS = 3, AFTER = 5 };
    const size_t ldx = p + pad, ldy = p + AFTER, middle = p / 3, cols[BLOCKS + 1] = {0, middle, middle, p};
    const uint64_t col_start[BLOCKS + 1] = {0, middle, middle, p};
    const uint32_t which[ROUNDS * BLOCKS] = {0, 1, 1, 1, 0, 0, 0, 0, 1};
    uint64_t first_tile[BLOCKS + 1];
    pair g;
    make_pair(&g, n);
    g.plan.blocks = BLOCKS;
    g.plan.col_start = col_start, g.plan.first_tile = first_tile, g.plan.which = which;
    const cg_csr *table[ROUNDS * BLOCKS];
    for (size_t i = 0; i < ROUNDS * BLOCKS; i++) table[i] = &g.csr[which[i]];
    float *const x = numbers(n * ldx, 7), *const same_x = array(n * ldx, sizeof *x), *const want = numbers(n * ldy, 8),
                 *const y = numbers(n * ldy, 8), *const z = numbers(n * ldy, 9);
    if (p > 0) x[p / 2] = NAN;
    cg_err err;
    for (g.plan.rounds = 1; g.plan.rounds <= ROUNDS; g.plan.rounds++) {
        CHECK(cg_mix_f32(n, p, x, ldx, want, ldy, g.plan.rounds, BLOCKS, cols, table, &err) == CG_OK);
        for (size_t width = 1 << CG_MIX_NARROWEST; width <= 1 << CG_MIX_WIDEST; width *= 2) {
            count_tiles(col_start, BLOCKS, width, first_tile);
            const size_t tiles = first_tile[BLOCKS];
            CHECK(cg_cuda_mix_f32(0, NULL, &g.plan, tiles, width, 1, x, ldx, y, ldy, NULL, &err) == CG_OK);
            CHECK(equal_rows(y, ldy, want, ldy, n, p));
            for (size_t i = 0; i < n; i++) CHECK(memcmp(y + i * ldy + p, want + i * ldy + p, AFTER * sizeof *y) == 0);
            memcpy(same_x, x, n * ldx * sizeof *x);
            CHECK(cg_cuda_mix_f32(0, NULL, &g.plan, tiles, width, 1, same_x, ldx, same_x, ldx, NULL, &err) == CG_OK);
            CHECK(equal_rows(same_x, ldx, want, ldy, n, p));
        }
        count_tiles(col_start, BLOCKS, CG_MIX_DIRECT, first_tile);
        CHECK(cg_cuda_mix_f32(0, NULL, &g.plan, first_tile[BLOCKS], CG_MIX_DIRECT, 0, x, ldx, y, ldy, z, &err) ==
              CG_OK);
        CHECK(equal_rows(y, ldy, want, ldy, n, p));
    }
    cg_buf_free(x), cg_buf_free(same_x), cg_buf_free(want), cg_buf_free(y), cg_buf_free(z);
    free_pair(&g);
}

static void test_mix_width(void) {
    const size_t shared = 227 * 1024, kib = 1024;
    CHECK(cg_mix_room(256, 1, 5) == 48 * kib && cg_mix_room(256, 2, 5) == 64 * kib);
    CHECK(cg_mix_room(1, 1, 5) == 32 * kib && cg_mix_room(1, 2, 5) == 32 * kib);
    CHECK(cg_mix_shift(256, 1, shared) == 5 && cg_mix_shift(256, 4, shared) == 5);
    CHECK(cg_mix_shift(776, 1, shared) == 5 && cg_mix_shift(777, 1, shared) == 4); /* two blocks, 97 + 16 KiB each */
    CHECK(cg_mix_shift(452, 2, shared) == 5 && cg_mix_shift(453, 2, shared) == 4);
    CHECK(cg_mix_shift(3104, 1, shared) == 3 && cg_mix_shift(1808, 2, shared) == 3);
    CHECK(cg_mix_shift(3105, 1, shared) == 4 && cg_mix_shift(1809, 2, shared) == 4); /* one */
    CHECK(cg_mix_shift(6752, 1, shared) == 3 && cg_mix_shift(6753, 1, shared) == 0);
    CHECK(cg_mix_shift(3632, 2, shared) == 3 && cg_mix_shift(3633, 2, shared) == 0);
}

/* ---- randomness ---- */

static void test_random(uint64_t first, size_t n) {
    const cg_address at = {UINT64_C(0x123456789ABCDEF0), CG_FOR_USER + 3, 17, 4000000000u};
    uint32_t *const u = array(n + 1, sizeof *u), *const want_u = array(n, sizeof *u);
    float *const f = array(n + 1, sizeof *f), *const want_f = array(n, sizeof *f);
    u[n] = 99, f[n] = 99.0f;
    cg_err err;
    CHECK(cg_cuda_random(0, NULL, CG_RANDOM_U32, &at, first, n, u, &err) == CG_OK);
    CHECK(cg_cuda_random(0, NULL, CG_RANDOM_F32, &at, first, n, f, &err) == CG_OK);
    cg_random_u32(&at, first, n, want_u);
    cg_random_f32(&at, first, n, want_f);
    CHECK(memcmp(u, want_u, n * sizeof *u) == 0 && u[n] == 99);
    CHECK(memcmp(f, want_f, n * sizeof *f) == 0 && f[n] == 99.0f);

    CHECK(cg_cuda_random(0, NULL, CG_RANDOM_NORMAL, &at, first, n, f, &err) == CG_OK);
    const size_t blocks = (size_t)cg_random_blocks(first, n);
    float *const normals = array(4 * blocks, sizeof *normals);
    const uint32_t key[2] = {(uint32_t)at.seed, (uint32_t)(at.seed >> 32)};
    for (size_t b = 0; b < blocks; b++) {
        const uint64_t block = first / 4 + b;
        const uint32_t counter[4] = {(uint32_t)block, at.node, at.round, at.purpose | (uint32_t)(block >> 32) << 16};
        cg_normal_f32_base(counter, key, 1, normals + 4 * b);
    }
    CHECK(memcmp(f, normals + first % 4, n * sizeof *f) == 0 && f[n] == 99.0f);
    cg_buf_free(u), cg_buf_free(f), cg_buf_free(want_u), cg_buf_free(want_f), cg_buf_free(normals);
}

/* ---- consensus, average ---- */

/* Every second row backwards, row 0 twice. */
static void test_consensus(size_t n, size_t p) {
    const size_t ld = p + 3, k = n + 1;
    float *const x = numbers(n * ld, 3), *const weights = numbers(k, 4), *const out = array(p, sizeof *out),
                 *const want = array(n * p, sizeof *want);
    double *const mean = array(p, sizeof *mean), *const want_mean = array(p, sizeof *mean),
                  *const part = array(cg_div_up(p, CG_CONSENSUS_COLUMNS), sizeof *part);
    int64_t *const rows = array(k, sizeof *rows);
    int32_t *const indptr = array(n + 1, sizeof *indptr), *const indices = array(k, sizeof *indices);
    for (size_t i = 0; i < k; i++) indices[i] = (int32_t)(rows[i] = (int64_t)(2 * (k - i) % n));
    double sum, want_sum;
    cg_err err;
    for (int some = 0; some < 2; some++) {
        const int64_t *const of = some ? rows : NULL;
        const size_t count = some ? k : n;
        CHECK(cg_consensus_f32(n, p, x, ld, k, of, want_mean, &want_sum, &err) == CG_OK);
        CHECK(cg_cuda_consensus_f32(0, NULL, p, x, ld, count, of, mean, part, &sum, &err) == CG_OK);
        CHECK(memcmp(mean, want_mean, p * sizeof *mean) == 0);
        CHECK(fabs(sum - want_sum) <= (double)(count + p) * DBL_EPSILON * want_sum);
    }
    /* A mixing row with the same entries: row 0 hears `rows`, the others nobody. */
    weights[k / 2] = 0.0f;
    for (size_t i = 0; i <= n; i++) indptr[i] = i > 0 ? (int32_t)k : 0;
    const cg_csr csr = {n, indptr, indices, weights}, *const table[] = {&csr};
    x[(size_t)rows[k / 2] * ld + p / 2] = NAN; /* of weight 0, unless that row is there twice */
    CHECK(cg_mix_f32(n, p, x, ld, want, p, 1, 1, (size_t[]){0, p}, table, &err) == CG_OK);
    CHECK(cg_cuda_average_f32(0, NULL, p, x, ld, k, rows, weights, out, &err) == CG_OK);
    CHECK(equal_rows(out, p, want, p, 1, p));
    cg_buf_free(x), cg_buf_free(weights), cg_buf_free(out), cg_buf_free(want), cg_buf_free(mean);
    cg_buf_free(want_mean), cg_buf_free(part), cg_buf_free(rows), cg_buf_free(indptr), cg_buf_free(indices);
}

/* ---- NaN and infinity ---- */

static void test_find_nonfinite(size_t n, size_t p) {
    const size_t ld = p + 1, parts = (n + 1) * cg_div_up(p, CG_SEEK_PIECE);
    float *const x = numbers(n * ld, 41);
    uint64_t *const part = array(parts, sizeof *part), out;
    int64_t rows[3] = {(int64_t)n - 1, 0, (int64_t)n - 1}, row, col;
    cg_err err;
    const size_t places[][2] = {{n - 1, p - 1}, {n - 1, p / 2}, {0, p - 1}, {n / 2, 0}};
    for (size_t found = 0; found < 5; found++) { /* none, then one more each time */
        for (int some = 0; some < 2; some++) {
            const size_t k = some ? 3 : n;
            const int64_t *const of = some ? rows : NULL;
            if (k * cg_div_up(p, CG_SEEK_PIECE) > parts) continue;
            CHECK(cg_find_nonfinite_f32(n, p, x, ld, k, of, &row, &col, &err) == CG_OK);
            CHECK(cg_cuda_find_nonfinite_f32(0, NULL, p, x, ld, k, of, part, &out, &err) == CG_OK);
            CHECK((row < 0) == (out == CG_NOWHERE));
            if (row >= 0) CHECK((some ? rows[out / p] : (int64_t)(out / p)) == row && (int64_t)(out % p) == col);
        }
        if (found < 4) x[places[found][0] * ld + places[found][1]] = found % 2 ? INFINITY : NAN;
    }
    cg_buf_free(x), cg_buf_free(part);
}

/* ---- segments ---- */

static void test_segments(void) {
    const uint64_t first[] = {0, 0, 3, 3, 3, 8};
    const size_t want[] = {1, 1, 1, 4, 4, 4, 4, 4};
    for (uint64_t i = 0; i < 8; i++) CHECK(cg_segment_of(first, 5, i) == want[i]);
}

int main(void) {
    if (cg_isa_runs(CG_ISA_AVX2)) (void)cg_isa_force(CG_ISA_AVX2);
    for (cg_twin_backwards = 0; cg_twin_backwards < 2; cg_twin_backwards++) {
        test_segments();
        test_mix_width();
        test_mix(1, 1, 3); /* aligned rows: quads */
        test_mix(3, 31, 1);
        test_mix(17, 97, 3);
        test_mix(70, 800, 0);
        test_mix(70, 799, 5);
        test_mix(3, 31, 0); /* and others */
        test_mix(17, 97, 1);
        test_mix(33, 291, 0);
        test_consensus(1, 1);
        test_consensus(5, 127);
        test_consensus(33, 1001);
        test_consensus(CG_CONSENSUS_ROWS, 37); /* all rows in a tile; with `rows` one too many */
        test_consensus(2 * CG_CONSENSUS_ROWS + 9, 70);
        test_find_nonfinite(2, 1);
        test_find_nonfinite(3, 4097);
        test_find_nonfinite(7, 300);
        test_random(0, 1);
        test_random(3, 2);
        test_random(5, 5000);
        test_random((UINT64_C(1) << 34) - 6, 13); /* across the block at which the purpose's word takes over */
    }
    return failed();
}
