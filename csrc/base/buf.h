/* csrc/base/buf.h -- aligned memory, and the leading dimension every matrix of models uses.
 *
 * Rows start on cache lines, and a row is an odd number of lines long: with a power of two, all rows of a column tile
 * fall into the same few cache sets and mixing costs two to three times as much. */
#ifndef CG_BUF_H
#define CG_BUF_H
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

#define CG_LINE 64u /* bytes in a cache line; also the width of the widest vector */

/* Smallest odd number of cache lines that holds `cols` elements of `itemsize` bytes, in elements. cols == 0: one line.
 * Returns 0 where the row would not fit in memory. */
size_t cg_buf_ld(size_t cols, size_t itemsize);
/* `bytes` rounded up to lines, aligned to a line, not cleared; NULL when there is no memory. Free with cg_buf_free. */
void *cg_buf_alloc(size_t bytes);
void cg_buf_free(void *p);

#ifdef __cplusplus
}
#endif
#endif
