#include "gemm.h"
#include "gemm_kernels.h"
#include "isa.h"
#include "pool.h"
#include "vmath.h"
#include <stdint.h>
#include <string.h>

static cg_gemm_fn *const gemm[CG_ISA_COUNT] = {
    [CG_ISA_BASE] = cg_gemm_base,
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = cg_gemm_avx2,
    [CG_ISA_AVX512] = cg_gemm_avx512,
#endif
};
static cg_transpose_fn *const transpose[CG_ISA_COUNT] = {
    [CG_ISA_BASE] = cg_transpose_base,
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = cg_transpose_avx2,
    [CG_ISA_AVX512] = cg_transpose_avx2, /* wider shuffles gain nothing: it runs at the speed of its stores */
#endif
};

static size_t least(size_t a, size_t b) { return a < b ? a : b; }
static size_t panels_of(size_t n) { return n / CG_PANEL + (n % CG_PANEL > 0); }

/* ---- panels ---- */

size_t cg_gemm_packed_size(size_t n, size_t k) {
    const size_t panels = panels_of(n), most = PTRDIFF_MAX / sizeof(float) / CG_PANEL;
    if (k > 0 && panels > most / k) return 0;
    return panels * k * CG_PANEL;
}

void cg_gemm_pack(size_t n, size_t k, const float *b, size_t ldb, float *packed) {
    for (size_t j = 0; j < n; j += CG_PANEL, packed += k * CG_PANEL) {
        const size_t rows = least(n - j, CG_PANEL);
        if (rows < CG_PANEL) memset(packed, 0, k * CG_PANEL * sizeof *packed);
        transpose[cg_isa()](rows, k, b + j * ldb, ldb, packed, CG_PANEL);
    }
}

void cg_gemm_pack_transposed(size_t n, size_t k, const float *b, size_t ldb, float *packed) {
    for (size_t j = 0; j < n; j += CG_PANEL) {
        const size_t cols = least(n - j, CG_PANEL);
        for (size_t i = 0; i < k; i++, packed += CG_PANEL) {
            for (size_t q = 0; q < cols; q++) packed[q] = b[i * ldb + j + q];
            for (size_t q = cols; q < CG_PANEL; q++) packed[q] = 0.0f;
        }
    }
}

void cg_gemm_unpack(size_t n, size_t k, const float *packed, float *b, size_t ldb) {
    for (size_t j = 0; j < n; j += CG_PANEL, packed += k * CG_PANEL)
        transpose[cg_isa()](k, least(n - j, CG_PANEL), packed, CG_PANEL, b + j * ldb, ldb);
}

void cg_gemm_flip(size_t n, size_t k, const float *packed, float *flipped) {
    if (k % CG_PANEL) memset(flipped + k / CG_PANEL * n * CG_PANEL, 0, n * CG_PANEL * sizeof *flipped);
    for (size_t j = 0; j < n; j += CG_PANEL)
        for (size_t i = 0; i < k; i += CG_PANEL)
            transpose[cg_isa()](least(k - i, CG_PANEL), least(n - j, CG_PANEL), packed + (j * k + i * CG_PANEL),
                                CG_PANEL, flipped + (i * n + j * CG_PANEL), CG_PANEL);
}

/* ---- products ---- */

enum {
    MOST_ROWS = 96,          /* of A in a block: their pointers live on the stack */
    BLOCK_BYTES = 192 * 1024 /* of A in a block: leaves room for panels in a second-level cache of 512 KiB */
};

/* Rows of a block: multiples of 12, so that every block but the last is cut into full tiles. */
static size_t block_rows(size_t k) {
    const size_t fit = BLOCK_BYTES / sizeof(float) / (k ? k : 1) / 12 * 12;
    return fit < 24 ? 24 : fit > MOST_ROWS ? MOST_ROWS : fit;
}

static void block(size_t m, size_t n, size_t k, const float *const *a, const float *packed, const float *bias,
                  cg_activation act, float *const *c) {
    gemm[cg_isa()](m, n, k, a, packed, bias, act == CG_ACT_RELU, c);
    if (act != CG_ACT_TANH) return;
    for (size_t i = 0; i < m; i++) cg_tanh_f32(n, c[i], c[i]);
}

void cg_gemm_rows_f32(size_t m, size_t n, size_t k, const float *const *a, const float *packed, const float *bias,
                      cg_activation act, float *const *c) {
    const size_t step = block_rows(k);
    for (size_t i = 0; i < m; i += step) block(least(m - i, step), n, k, a + i, packed, bias, act, c + i);
}

void cg_gemm_f32(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *packed, const float *bias,
                 cg_activation act, float *c, size_t ldc) {
    const float *from[MOST_ROWS];
    float *to[MOST_ROWS];
    const size_t step = block_rows(k);
    for (size_t i = 0; i < m; i += step) {
        const size_t rows = least(m - i, step);
        for (size_t r = 0; r < rows; r++) {
            from[r] = a + (i + r) * lda;
            to[r] = c + (i + r) * ldc;
        }
        block(rows, n, k, from, packed, bias, act, to);
    }
}

/* ---- on the pool ---- */

typedef struct product {
    size_t m, n, k, lda, ldc, rows, cols, across; /* a piece is rows x cols; `across` pieces lie side by side */
    const float *a, *packed, *bias;
    float *c;
    cg_activation act;
} product;

static void piece(void *ctx, size_t begin, size_t end, void *scratch) {
    const product *p = ctx;
    (void)scratch;
    for (size_t t = begin; t < end; t++) {
        const size_t i = t / p->across * p->rows, j = t % p->across * p->cols;
        cg_gemm_f32(least(p->m - i, p->rows), least(p->n - j, p->cols), p->k, p->a + i * p->lda, p->lda,
                    p->packed + j * p->k, p->bias ? p->bias + j : NULL, p->act, p->c + i * p->ldc + j, p->ldc);
    }
}

int cg_gemm_parallel_f32(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *packed,
                         const float *bias, cg_activation act, float *c, size_t ldc, cg_err *err) {
    if (m == 0 || n == 0) return CG_OK;
    product p = {m, n, k, lda, ldc, block_rows(k), 0, 0, a, packed, bias, c, act};
    /* Pieces of about a megaflop (10 us): fewer are not worth waking a thread for, many balance. */
    const size_t rows = least(m, p.rows), panel = 2 * CG_PANEL * rows * (k ? k : 1);
    const size_t panels = ((1u << 20) + panel - 1) / panel;
    p.cols = least((panels + 7) / 8 * 8, panels_of(n)) * CG_PANEL; /* the widest tile is 8 panels */
    p.across = (n + p.cols - 1) / p.cols;
    return cg_parallel_for((m + p.rows - 1) / p.rows * p.across, 1, 0, piece, &p, err);
}

typedef struct packing {
    size_t n, k, ldb;
    const float *b;
    float *packed;
} packing;

static void pack_panels(void *ctx, size_t begin, size_t end, void *scratch) {
    const packing *p = ctx;
    (void)scratch;
    const size_t j = begin * CG_PANEL;
    cg_gemm_pack(least(p->n, end * CG_PANEL) - j, p->k, p->b + j * p->ldb, p->ldb, p->packed + j * p->k);
}

int cg_gemm_pack_parallel(size_t n, size_t k, const float *b, size_t ldb, float *packed, cg_err *err) {
    packing p = {n, k, ldb, b, packed};
    return cg_parallel_for(panels_of(n), 8, 0, pack_panels, &p, err);
}
