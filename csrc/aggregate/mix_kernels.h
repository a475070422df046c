/* csrc/aggregate/mix_kernels.h -- one round over a strip, as mix.c asks for it and mix_<isa>.c does it.
 *
 * A strip is `lines` cache lines (16 floats each) of every row; src and dst are strips of x, of y or of a buffer, each
 * with its own distance between rows. The pass computes dst = W src; after every `pace` rows it asks for one row of a
 * strip of x that comes later, from row `first` on: that spreads the memory traffic evenly over the arithmetic of all
 * rounds. Kernels cannot fail and check nothing. */
#ifndef CG_MIX_KERNELS_H
#define CG_MIX_KERNELS_H
#include <stddef.h>
#include <stdint.h>

enum { CG_MIX_LINE = 16, CG_MIX_LINES = 4 }; /* floats a cache line; most lines in a strip (sums stay in registers) */

typedef struct cg_mix_edge {
    uint32_t from; /* row */
    float weight;
} cg_mix_edge;

typedef struct cg_mix_pass {
    size_t n;
    const uint32_t *start; /* n + 1: edges of row i are [start[i], start[i + 1]) */
    const cg_mix_edge *edges;
    const float *src;
    size_t src_ld;
    float *dst; /* overlaps neither src nor what is prefetched */
    size_t dst_ld;
    int stream;        /* non-temporal stores to dst, whose lines are then aligned */
    const float *next; /* row 0 of the strip to prefetch, in rows next_ld apart; NULL: none */
    size_t next_ld;
    size_t first;      /* the first row to prefetch, */
    size_t wait, pace; /* after so many rows of arithmetic, and the later ones after so many each */
} cg_mix_pass;

typedef void cg_mix_pass_fn(const cg_mix_pass *p, size_t lines); /* lines: 1, 2 or 4 */

cg_mix_pass_fn cg_mix_pass_base, cg_mix_pass_avx2, cg_mix_pass_avx512;
#endif
