/* csrc/local/overlap.h -- does what a call writes share memory with what it reads? */
#ifndef CG_OVERLAP_H
#define CG_OVERLAP_H
#include "../base/err.h"
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef struct cg_span {
    const char *name; /* the argument */
    const char *begin;
    size_t bytes;
} cg_span;

/* The memory from the first to the last element of a (rows, cols) matrix; empty where p is NULL. */
cg_span cg_span_rows(const char *name, const void *p, size_t rows, size_t ld, size_t cols, size_t item);
/* CG_EALIAS, naming both, if a written span overlaps another written one or a read one. */
int cg_overlap_check(size_t n_written, const cg_span *written, size_t n_read, const cg_span *read, cg_err *err);

#ifdef __cplusplus
}
#endif
#endif
