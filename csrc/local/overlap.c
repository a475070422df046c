#include "overlap.h"
#include <stdint.h>

cg_span cg_span_rows(const char *name, const void *p, size_t rows, size_t ld, size_t cols, size_t item) {
    const int empty = !p || rows == 0 || cols == 0;
    return (cg_span){name, p, empty ? 0 : ((rows - 1) * ld + cols) * item};
}

static int meet(cg_span a, cg_span b) {
    const uintptr_t p = (uintptr_t)a.begin, q = (uintptr_t)b.begin;
    return a.bytes && b.bytes && p < q + b.bytes && q < p + a.bytes;
}

int cg_overlap_check(size_t n_written, const cg_span *written, size_t n_read, const cg_span *read, cg_err *err) {
    for (size_t i = 0; i < n_written; i++) {
        for (size_t j = i + 1; j < n_written; j++)
            if (meet(written[i], written[j]))
                return cg_fail(err, CG_EALIAS, "%s: overlaps %s", written[j].name, written[i].name);
        for (size_t j = 0; j < n_read; j++)
            if (meet(written[i], read[j]))
                return cg_fail(err, CG_EALIAS, "%s: overlaps %s", written[i].name, read[j].name);
    }
    return CG_OK;
}
