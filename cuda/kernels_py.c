/* cuda/kernels_py.c -- bindings: one function a kernel. */
#include "bind.h"

#include "consensus.h"
#include "gemm.h"
#include "mix.h"
#include "nearest.h"
#include "random.h"
#include "router.h"
#include "rowconv.h"

/* ---- mixing ---- */

static PyObject *py_mix_tile(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device, fused;
    size_t n, rounds, width;
    cg_err err;
    if (cg_bind("mix_tile", args, nargs, "izz", &device, &n, &rounds) < 0) return NULL;
    if (cg_cuda_mix_tile(device, n, rounds, &width, &fused, &err)) return cg_bind_raise(module, &err);
    return Py_BuildValue("(ni)", (Py_ssize_t)width, fused);
}

static PyObject *py_mix(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device, fused;
    void *stream, *col_start, *first_tile, *which, *start, *entries, *x, *y, *work;
    size_t n, rounds, blocks, columns, tiles, width, ldx, ldy;
    if (cg_bind("mix", args, nargs, "ipzzzzpppppzzipzpzp", &device, &stream, &n, &rounds, &blocks, &columns, &col_start,
                &first_tile, &which, &start, &entries, &tiles, &width, &fused, &x, &ldx, &y, &ldy, &work) < 0)
        return NULL;
    const cg_mix_plan plan = {n, rounds, blocks, columns, col_start, first_tile, which, start, entries};
    cg_err err;
    const int rc = cg_cuda_mix_f32(device, stream, &plan, tiles, width, fused, x, ldx, y, ldy, work, &err);
    return cg_bind_done(module, rc, &err);
}

/* ---- consensus, average ---- */

static PyObject *py_consensus(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device;
    void *stream, *x, *rows, *mean, *part, *sum_sq;
    size_t p, ldx, k;
    if (cg_bind("consensus", args, nargs, "ipzpzzpppp", &device, &stream, &p, &x, &ldx, &k, &rows, &mean, &part,
                &sum_sq) < 0)
        return NULL;
    cg_err err;
    const int rc = cg_cuda_consensus_f32(device, stream, p, x, ldx, k, rows, mean, part, sum_sq, &err);
    return cg_bind_done(module, rc, &err);
}

static PyObject *py_average(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device;
    void *stream, *x, *rows, *weights, *out;
    size_t p, ldx, k;
    if (cg_bind("average", args, nargs, "ipzpzzppp", &device, &stream, &p, &x, &ldx, &k, &rows, &weights, &out) < 0)
        return NULL;
    cg_err err;
    const int rc = cg_cuda_average_f32(device, stream, p, x, ldx, k, rows, weights, out, &err);
    return cg_bind_done(module, rc, &err);
}

/* ---- randomness ---- */

static PyObject *py_random(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device, kind;
    void *stream, *out;
    uint64_t seed, first;
    size_t purpose, node, round, n;
    if (cg_bind("random", args, nargs, "ipiuzzzuzp", &device, &stream, &kind, &seed, &purpose, &node, &round, &first,
                &n, &out) < 0)
        return NULL;
    const cg_address at = {seed, (uint32_t)purpose, (uint32_t)node, (uint32_t)round};
    cg_err err;
    return cg_bind_done(module, cg_cuda_random(device, stream, kind, &at, first, n, out, &err), &err);
}

static PyObject *py_find_nonfinite(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device;
    void *stream, *x, *rows, *part, *out;
    size_t p, ldx, k;
    if (cg_bind("find_nonfinite", args, nargs, "ipzpzzppp", &device, &stream, &p, &x, &ldx, &k, &rows, &part, &out) < 0)
        return NULL;
    cg_err err;
    const int rc = cg_cuda_find_nonfinite_f32(device, stream, p, x, ldx, k, rows, part, out, &err);
    return cg_bind_done(module, rc, &err);
}

/* ---- products, nearest keys ---- */

static PyObject *py_gemm(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device;
    void *stream, *a, *b, *c;
    size_t m, n, k, lda, ldb, ldc;
    if (cg_bind("gemm", args, nargs, "ipzzzpzpzpz", &device, &stream, &m, &n, &k, &a, &lda, &b, &ldb, &c, &ldc) < 0)
        return NULL;
    const cg_gemm g = {m, n, k, lda, ldb, a, b};
    cg_err err;
    return cg_bind_done(module, cg_cuda_gemm_f32(device, stream, &g, c, ldc, &err), &err);
}

static PyObject *py_norms(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device;
    void *stream, *x, *out;
    size_t rows, dim, ld;
    if (cg_bind("norms", args, nargs, "ipzzpzp", &device, &stream, &rows, &dim, &x, &ld, &out) < 0) return NULL;
    cg_err err;
    return cg_bind_done(module, cg_cuda_norms_f32(device, stream, rows, dim, x, ld, out, &err), &err);
}

static PyObject *py_nearest(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device;
    double bound;
    void *stream, *q, *k, *qq, *kk, *lo, *hi, *index, *distance;
    size_t batch, keys, dim, ldq, ldk;
    if (cg_bind("nearest", args, nargs, "ipzzzpzpzppppdpp", &device, &stream, &batch, &keys, &dim, &q, &ldq, &k, &ldk,
                &qq, &kk, &lo, &hi, &bound, &index, &distance) < 0)
        return NULL;
    const cg_nearest n = {batch, keys, dim, ldq, ldk, q, k, qq, kk, lo, hi};
    cg_err err;
    const int rc = cg_cuda_nearest_f32(device, stream, &n, (float)bound, index, distance, &err);
    return cg_bind_done(module, rc, &err);
}

/* ---- router ---- */

static PyObject *py_router_layer(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device;
    void *stream, *z, *shift, *dots, *cross, *gain, *bias, *out;
    size_t rows, width, group, ldz;
    if (cg_bind("router_layer", args, nargs, "ipzzzpzpppppp", &device, &stream, &rows, &width, &group, &z, &ldz, &shift,
                &dots, &cross, &gain, &bias, &out) < 0)
        return NULL;
    const cg_router_layer layer = {width, group, ldz, z, shift, dots, cross, gain, bias, out};
    cg_err err;
    return cg_bind_done(module, cg_cuda_router_layer_f32(device, stream, rows, &layer, &err), &err);
}

static PyObject *py_router_head(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device;
    void *stream, *h, *w, *b, *column, *p;
    size_t rows, width, group, sources;
    if (cg_bind("router_head", args, nargs, "ipzzzpppzpp", &device, &stream, &rows, &width, &group, &h, &w, &b,
                &sources, &column, &p) < 0)
        return NULL;
    const cg_router_head head = {width, group, sources, h, w, b, column, p};
    cg_err err;
    const int rc = cg_cuda_router_head_f32(device, stream, rows, &head, &err);
    return cg_bind_done(module, rc, &err);
}

/* ---- convolutions of rows ---- */

#define CG_CONV_ARGUMENTS(c)                                                                                           \
    &(c).rows, &(c).batch, &(c).in, &(c).out, &(c).height, &(c).width, &(c).kh, &(c).kw, &(c).ph, &(c).pw, &(c).ldx

static PyObject *py_rowconv_work(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device;
    cg_rowconv c;
    size_t forward, gradient;
    cg_err err;
    if (cg_bind("rowconv_work", args, nargs, "izzzzzzzzzzz", &device, CG_CONV_ARGUMENTS(c)) < 0) return NULL;
    if (cg_cuda_rowconv_work(device, &c, &forward, &gradient, &err)) return cg_bind_raise(module, &err);
    return Py_BuildValue("(nn)", (Py_ssize_t)forward, (Py_ssize_t)gradient);
}

static PyObject *py_rowconv(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device, flipped;
    cg_rowconv c;
    void *stream, *x, *weight, *bias, *work, *y;
    size_t ldw, ldb;
    if (cg_bind("rowconv", args, nargs, "ipzzzzzzzzzzzippzpzpp", &device, &stream, CG_CONV_ARGUMENTS(c), &flipped, &x,
                &weight, &ldw, &bias, &ldb, &work, &y) < 0)
        return NULL;
    cg_err err;
    const int rc = cg_cuda_rowconv_f32(device, stream, &c, flipped, x, weight, ldw, bias, ldb, work, y, &err);
    return cg_bind_done(module, rc, &err);
}

static PyObject *py_rowconv_weight(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device;
    cg_rowconv c;
    void *stream, *gy, *x, *work, *gw;
    if (cg_bind("rowconv_weight", args, nargs, "ipzzzzzzzzzzzpppp", &device, &stream, CG_CONV_ARGUMENTS(c), &gy, &x,
                &work, &gw) < 0)
        return NULL;
    cg_err err;
    return cg_bind_done(module, cg_cuda_rowconv_weight_f32(device, stream, &c, gy, x, work, gw, &err), &err);
}

PyMethodDef cg_cuda_kernel_methods[] = {
    CG_FASTCALL(mix_tile, "(device, n, rounds, /)"),
    CG_FASTCALL(
        mix, "(device, stream, n, rounds, blocks, columns, col_start, first_tile, which, start, entries, tiles, width, "
             "fused, x, ldx, y, ldy, work, /)"),
    CG_FASTCALL(consensus, "(device, stream, p, x, ldx, k, rows, mean, part, sum_sq, /)"),
    CG_FASTCALL(average, "(device, stream, p, x, ldx, k, rows, weights, out, /)"),
    CG_FASTCALL(find_nonfinite, "(device, stream, p, x, ldx, k, rows, part, out, /)"),
    CG_FASTCALL(gemm, "(device, stream, m, n, k, a, lda, b, ldb, c, ldc, /)"),
    CG_FASTCALL(norms, "(device, stream, rows, dim, x, ld, out, /)"),
    CG_FASTCALL(nearest,
                "(device, stream, batch, keys, dim, q, ldq, k, ldk, qq, kk, lo, hi, bound, index, distance, /)"),
    CG_FASTCALL(router_layer, "(device, stream, rows, width, group, z, ldz, shift, dots, cross, gain, bias, out, /)"),
    CG_FASTCALL(router_head, "(device, stream, rows, width, group, h, w, b, sources, column, p, /)"),
    CG_FASTCALL(rowconv_work, "(device, rows, batch, channels, outputs, height, width, kh, kw, ph, pw, ldx, /)"),
    CG_FASTCALL(rowconv,
                "(device, stream, rows, batch, channels, outputs, height, width, kh, kw, ph, pw, ldx, flipped, x, "
                "weight, ldw, bias, ldb, work, y, /)"),
    CG_FASTCALL(rowconv_weight,
                "(device, stream, rows, batch, channels, outputs, height, width, kh, kw, ph, pw, ldx, gy, "
                "x, work, gw, /)"),
    CG_FASTCALL(random, "(device, stream, kind, seed, purpose, node, round, first, n, out, /)"),
    {0},
};
