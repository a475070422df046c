/* csrc/cache/scan.h -- the nearest key: squared L2 or inner product of one query to many keys, with early abandon.
 *
 * Keys lie in groups of 16, a lane a key: group g holds [dpad][16] floats, so that one vector instruction advances 16
 * keys by one dimension and no sum across lanes is ever needed. The first dimensions of a group are its head plane: a
 * scan reads 16 dimensions, compares 16 partial sums with the bound in one instruction, and leaves the group when all
 * are beyond it. With a small tolerance most groups end after a sixth of their bytes, and misses are the cheap case.
 * Exact: sums of squares only grow, in floating point too, since rounding is monotone.
 *
 * A key's result does not depend on its lane or on other keys. d2 = sum over chunks of 16 dimensions of
 * ((c0 + c1) + (c2 + c3)), c_i the sum of (q_j - k_j)^2 over j = i, i + 4, i + 8, i + 12: direct differences, never
 * ||q||^2 + ||k||^2 - 2 q.k; error at most (dpad / 16 + 6) eps32 relative. Instruction sets differ by FMA rounding.
 * Equal vectors have distance 0 on all of them.
 *
 * Floor of a full scan: 4 n dim bytes, or n dim / 16 subtractions and FMAs of 16 lanes. Source: Algorithm 1 of
 * "Leveraging Approximate Caching for Faster Retrieval-Augmented Generation" (EuroMLSys 2025, arXiv 2503.05530). */
#ifndef CG_SCAN_H
#define CG_SCAN_H
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

enum { CG_LANES = 16, CG_CHUNK = 16 };

/* dim rounded up to chunks; the dimensions beyond dim are zero in keys and queries. */
size_t cg_scan_padded(size_t dim);
/* Writes a prepared query (dpad floats) into lane `row` of the groups, or reads its first `dim` values back. */
void cg_scan_put(float *keys, size_t dpad, size_t row, const float *from);
void cg_scan_get(const float *keys, size_t dim, size_t dpad, size_t row, float *to);
/* Moves lane `row` so far away that it never keeps a group alive. */
void cg_scan_far(float *keys, size_t dpad, size_t row);

/* Looks at groups group ... end - 1 for one in which a lane has total <= bound; writes its 16 totals and returns its
 * number, or returns `end`. total is the squared L2 distance, or minus the inner product with ip != 0 (no abandon:
 * partial products are not monotone). keys: end * 16 * dpad floats on cache lines. q: dpad floats. */
size_t cg_scan_next(int ip, const float *keys, size_t dpad, size_t group, size_t end, const float *q, float bound,
                    float total[CG_LANES]);

#ifdef __cplusplus
}
#endif
#endif
