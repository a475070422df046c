#include "err.h"
#include <stdarg.h>
#include <stdio.h>

int cg_fail(cg_err *err, int code, const char *fmt, ...) {
    va_list ap;
    err->code = code;
    va_start(ap, fmt);
    if (vsnprintf(err->text, sizeof err->text, fmt, ap) < 0) err->text[0] = '\0';
    va_end(ap);
    return code;
}
