/* csrc/base/err.h -- one error object for the whole core.
 *
 * A function that can fail returns a code and fills *err (never NULL): no errno, no globals, no thread-local state, so
 * that an error survives a dropped GIL and another thread. Nothing in csrc prints, aborts or exits. The text names the
 * argument, what was wanted and what came: "weights: expected shape (8,), got (3,)". */
#ifndef CG_ERR_H
#define CG_ERR_H
#ifdef __cplusplus
extern "C" {
#endif

enum {
    CG_OK = 0,
    CG_EVALUE = -1,   /* a wrong shape, range or content: ValueError */
    CG_EALIAS = -2,   /* arrays overlap that must not: ValueError */
    CG_ENOMEM = -3,   /* MemoryError */
    CG_ETIMEOUT = -4, /* collegium.Timeout */
    CG_EPEER = -5,    /* collegium.PeerLost */
    CG_ECUDA = -6     /* collegium.CudaError */
};

typedef struct cg_err {
    int code;
    char text[252];
} cg_err;

/* Fills *err and returns `code`. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
int cg_fail(cg_err *err, int code, const char *fmt, ...);

#ifdef __cplusplus
}
#endif
#endif
