#define _DEFAULT_SOURCE /* madvise */
#include "buf.h"
#include <stdint.h>
#include <stdlib.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

/* Mixing walks down all rows of a few columns: with pages of 4 KiB every step is another page, and walking the page
 * tables costs as much as the data. From this size on ask for huge ones, as NumPy does for its own arrays. */
enum { HUGE_PAGE = 2 << 20, HUGE_FROM = 2 * HUGE_PAGE };

size_t cg_buf_ld(size_t cols, size_t itemsize) {
    if (itemsize == 0 || cols > (SIZE_MAX - 2 * CG_LINE) / itemsize) return 0;
    size_t lines = (cols * itemsize + CG_LINE - 1) / CG_LINE;
    if (lines % 2 == 0) lines++;
    return lines * (CG_LINE / itemsize);
}

void *cg_buf_alloc(size_t bytes) {
    if (bytes > SIZE_MAX - CG_LINE) return NULL;
#ifdef MADV_HUGEPAGE
    if (bytes >= HUGE_FROM && bytes <= SIZE_MAX - HUGE_PAGE) {
        const size_t pages = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
        void *const p = aligned_alloc(HUGE_PAGE, pages);
        if (p) (void)madvise(p, pages, MADV_HUGEPAGE); /* only advice: without it the memory is as good, but slower */
        return p;
    }
#endif
    const size_t whole = (bytes + CG_LINE - 1) / CG_LINE * CG_LINE;
    return aligned_alloc(CG_LINE, whole ? whole : CG_LINE);
}

void cg_buf_free(void *p) { free(p); }
