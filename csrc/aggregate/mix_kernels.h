/* csrc/aggregate/mix_kernels.h -- one pass over a strip, as mix.c asks for it and mix_<isa>.c does it.
 *
 * A strip is `lines` cache lines (16 floats each) of every row. Strip buffers are packed: row i starts at i * width.
 * The pass computes dst = W src; after every `pace` rows it moves one row of two other strips: row i of the coming
 * strip from x into `in`, row i of the finished one from `out` to y, for i from `first` on. That spreads the memory
 * traffic evenly over the arithmetic of all rounds. Kernels cannot fail and check nothing. */
#ifndef CG_MIX_KERNELS_H
#define CG_MIX_KERNELS_H
#include <stddef.h>
#include <stdint.h>

enum { CG_MIX_LINE = 16, CG_MIX_LINES = 4 }; /* floats a cache line; most lines in a strip (sums stay in registers) */

typedef struct cg_mix_edge {
    uint32_t from; /* where the row starts in src, in bytes */
    float weight;
} cg_mix_edge;

typedef struct cg_mix_pass {
    size_t n;
    const uint32_t *start; /* n + 1: edges of row i are [start[i], start[i + 1]) */
    const cg_mix_edge *edges;
    const float *src;
    float *dst;
    size_t width;        /* floats from row to row in strip buffers */
    size_t first;        /* the first row to move, */
    size_t wait, pace;   /* after so many rows of arithmetic, and the later ones after so many each */
    float *in;           /* NULL: nothing comes in */
    const float *x;      /* the coming strip's first column in row 0 */
    const float *beyond; /* the same for the strip after it, or NULL: where prefetching goes on */
    size_t ldx, ahead;   /* rows to prefetch ahead, at most n */
    const float *out;    /* NULL: nothing goes out */
    float *y;
    size_t ldy;
    int stream; /* non-temporal stores to y, whose lines are then aligned */
} cg_mix_pass;

typedef void cg_mix_pass_fn(const cg_mix_pass *p, size_t lines); /* lines: 1, 2 or 4 */

cg_mix_pass_fn cg_mix_pass_base, cg_mix_pass_avx2, cg_mix_pass_avx512;
#endif
