#include "buf.h"
#include <stdint.h>
#include <stdlib.h>

size_t cg_buf_ld(size_t cols, size_t itemsize) {
    if (itemsize == 0 || cols > (SIZE_MAX - 2 * CG_LINE) / itemsize) return 0;
    size_t lines = (cols * itemsize + CG_LINE - 1) / CG_LINE;
    if (lines % 2 == 0) lines++;
    return lines * (CG_LINE / itemsize);
}

void *cg_buf_alloc(size_t bytes) {
    if (bytes > SIZE_MAX - CG_LINE) return NULL;
    const size_t whole = (bytes + CG_LINE - 1) / CG_LINE * CG_LINE;
    return aligned_alloc(CG_LINE, whole ? whole : CG_LINE);
}

void cg_buf_free(void *p) { free(p); }
