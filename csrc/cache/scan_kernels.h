/* csrc/cache/scan_kernels.h -- the rows of scan.c's tables. */
#ifndef CG_SCAN_KERNELS_H
#define CG_SCAN_KERNELS_H
#include "scan.h"

/* cg_scan_next of one metric. */
typedef size_t cg_scan_fn(const float *keys, size_t dpad, size_t group, size_t end, const float *q, float bound,
                          float total[CG_LANES]);
cg_scan_fn cg_scan_l2_base, cg_scan_l2_avx2, cg_scan_l2_avx512;
cg_scan_fn cg_scan_ip_base, cg_scan_ip_avx2, cg_scan_ip_avx512;
#endif
