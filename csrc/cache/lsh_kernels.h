/* csrc/cache/lsh_kernels.h -- the rows of lsh.c's table. */
#ifndef CG_LSH_KERNELS_H
#define CG_LSH_KERNELS_H
#include <stddef.h>

enum { CG_LSH_LANES = 16 };

/* part[p][l] = sum over i of planes[p * dpad + 16 i + l] * q[16 i + l] in order of i, rounded after each operation, for
 * `count` <= 4 planes. */
typedef void cg_project_fn(size_t count, size_t dpad, const float *planes, const float *q, float part[4][CG_LSH_LANES]);
cg_project_fn cg_project_base, cg_project_avx2, cg_project_avx512;
#endif
