#include "gemm.h"
#include "gemm_kernels.h"

typedef float quad
    __attribute__((vector_size(16), aligned(4), may_alias)); /* SSE2, NEON, or four floats anywhere else */
enum { QUADS = CG_PANEL / 4 };

/* One row against one panel: 16 sums in four small registers. */
void cg_gemm_base(size_t m, size_t n, size_t k, const float *const *a, const float *packed, const float *bias, int relu,
                  float *const *c) {
    for (size_t j = 0; j < n; j += CG_PANEL, packed += CG_PANEL * k) {
        const size_t cols = n - j < CG_PANEL ? n - j : CG_PANEL;
        for (size_t i = 0; i < m; i++) {
            quad sum[QUADS] = {{0}};
            for (size_t t = 0; t < k; t++)
                for (size_t q = 0; q < QUADS; q++) sum[q] += a[i][t] * *(const quad *)(packed + t * CG_PANEL + 4 * q);
            for (size_t q = 0; q < cols; q++) {
                const float s = bias ? sum[q / 4][q % 4] + bias[j + q] : sum[q / 4][q % 4];
                c[i][j + q] = relu && s < 0.0f ? 0.0f : s; /* NaN is not below 0 and stays */
            }
        }
    }
}

void cg_transpose_base(size_t rows, size_t cols, const float *src, size_t lds, float *dst, size_t ldd) {
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) dst[c * ldd + r] = src[r * lds + c];
}
