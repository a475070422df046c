/* cuda/libraries_py.c -- bindings: cuBLAS and NCCL. */
#include "bind.h"

#include "libraries.h"

typedef int open_fn(const char *, int *, cg_err *);

static PyObject *open_library(PyObject *module, PyObject *const *args, Py_ssize_t nargs, const char *name,
                              open_fn *open) {
    if (nargs != 1) return PyErr_Format(PyExc_TypeError, "%s() takes 1 argument (%zd given)", name, nargs);
    PyObject *const file = PyUnicode_AsUTF8String(args[0]);
    const char *const path = file ? PyBytes_AsString(file) : NULL;
    if (!path) {
        Py_XDECREF(file);
        return NULL;
    }
    int rc, version;
    cg_err err;
    Py_BEGIN_ALLOW_THREADS
        rc = open(path, &version, &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(file);
    return rc ? cg_bind_raise(module, &err) : PyLong_FromLong(version);
}

static PyObject *py_cublas_open(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    return open_library(module, args, nargs, "cublas_open", cg_cublas_open);
}

static PyObject *py_nccl_open(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    return open_library(module, args, nargs, "nccl_open", cg_nccl_open);
}

static PyObject *py_cublas_gemm(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device, rc;
    void *stream, *a, *b, *c;
    size_t m, n, k, lda, ldb, ldc;
    if (cg_bind("cublas_gemm", args, nargs, "ipzzzpzpzpz", &device, &stream, &m, &n, &k, &a, &lda, &b, &ldb, &c, &ldc) <
        0)
        return NULL;
    cg_err err;
    Py_BEGIN_ALLOW_THREADS /* the first call on a device makes its handle */
        rc = cg_cublas_gemm_f32(device, stream, m, n, k, a, lda, b, ldb, c, ldc, &err);
    Py_END_ALLOW_THREADS
    return cg_bind_done(module, rc, &err);
}

PyMethodDef cg_cuda_library_methods[] = {
    CG_FASTCALL(cublas_open, "(file, /)"),
    CG_FASTCALL(nccl_open, "(file, /)"),
    CG_FASTCALL(cublas_gemm, "(device, stream, m, n, k, a, lda, b, ldb, c, ldc, /)"),
    {0},
};
