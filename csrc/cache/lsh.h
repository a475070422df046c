/* csrc/cache/lsh.h -- which bucket a query belongs to, and which others are worth a look.
 *
 * Bit l of a signature is (w_l . q >= 0) for random hyperplanes w_l: two vectors at an angle theta agree on all L bits
 * with probability (1 - theta / pi)^L. Projections near zero flip with the order of a sum, so there is one order, on
 * every instruction set: 16 lanes of products over the dimensions, product and sum rounded apart, lanes added as a
 * tree. A stored key keeps its signature.
 *
 * Extra probes flip the bits that are nearest to flipping: of all sets of bits, those with the smallest sum of
 * |w_l . q| (query-directed probing: Lv et al., "Multi-Probe LSH", VLDB 2007). */
#ifndef CG_LSH_H
#define CG_LSH_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

enum { CG_BITS_MOST = 24 };

/* projection[l] = w_l . q, l < bits; returns the signature. planes: (bits, dpad) on cache lines, dpad as in scan.h,
 * zero beyond dim; q: dpad floats. bits <= CG_BITS_MOST. Cost: bits * dpad multiply-adds. */
uint32_t cg_lsh_signature(size_t bits, size_t dpad, const float *planes, const float *q, float *projection);
/* out[0] = signature, then `probes` <= bits others, the cheapest first, equal costs in a fixed order. Returns how many
 * were written: fewer than probes + 1 only where 2^bits is smaller. */
size_t cg_lsh_probes(size_t bits, uint32_t signature, const float *projection, size_t probes, uint32_t *out);

#ifdef __cplusplus
}
#endif
#endif
