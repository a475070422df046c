#include "stats.h"
#include "../base/buf.h"
#include "../base/isa.h"
#include "../base/pool.h"
#include "stats_kernels.h"
#include <math.h>
#include <stdint.h>

static cg_stats_fn *const stats_of[CG_ISA_COUNT] = {
    [CG_ISA_BASE] = cg_stats_base,
#if defined(__x86_64__) && !defined(CG_NO_X86)
    [CG_ISA_AVX2] = cg_stats_avx2,
    [CG_ISA_AVX512] = cg_stats_avx512,
#endif
};

enum { LEAST = 256, MOST_BLOCKS = 64 }; /* rows of a block; blocks, whose sums are kept apart until the end */

typedef struct stats {
    size_t n, d, ldx, rows; /* rows of a block */
    const float *x;
    double *sums; /* (blocks, 2, d) */
    float *norms;
} stats;

static void add_blocks(void *ctx, size_t begin, size_t end, void *scratch) {
    const stats *const s = ctx;
    (void)scratch;
    for (size_t i = begin; i < end; i++) {
        const size_t first = i * s->rows, rows = s->n - first < s->rows ? s->n - first : s->rows;
        double *const sum = s->sums + 2 * i * s->d;
        for (size_t j = 0; j < 2 * s->d; j++) sum[j] = 0.0;
        stats_of[cg_isa()](rows, s->d, s->x + first * s->ldx, s->ldx, sum, sum + s->d, s->norms + first);
    }
}

/* The first row that is not finite, or n. A norm beyond float32 needs a look at the row itself. */
static size_t first_bad(const stats *s) {
    for (size_t i = 0; i < s->n; i++) {
        if (isfinite(s->norms[i])) continue;
        for (size_t j = 0; j < s->d; j++)
            if (!isfinite(s->x[i * s->ldx + j])) return i;
    }
    return s->n;
}

int cg_stats_rows(size_t n, size_t d, const float *x, size_t ldx, double *sum, double *unit, float *norms,
                  cg_err *err) {
    stats s = {.n = n, .d = d, .ldx = ldx, .x = x, .norms = norms};
    s.rows = (n + MOST_BLOCKS - 1) / MOST_BLOCKS;
    if (s.rows < LEAST) s.rows = LEAST;
    const size_t blocks = (n + s.rows - 1) / s.rows;
    s.sums = d < SIZE_MAX / MOST_BLOCKS / 32 ? cg_buf_alloc(2 * blocks * d * sizeof(double)) : NULL;
    if (!s.sums) return cg_fail(err, CG_ENOMEM, "vectors: no memory for sums of %zu dimensions", d);
    int rc = cg_parallel_for(blocks, 1, 0, add_blocks, &s, err);
    const size_t bad = rc ? n : first_bad(&s);
    if (bad < n) rc = cg_fail(err, CG_EVALUE, "vectors: expected finite values, got NaN or infinity in row %zu", bad);
    for (size_t i = 0; !rc && i < blocks; i++)
        for (size_t j = 0; j < d; j++) {
            sum[j] += s.sums[2 * i * d + j];
            unit[j] += s.sums[(2 * i + 1) * d + j];
        }
    cg_buf_free(s.sums);
    return rc;
}
