/* csrc/python/base_py.c -- threads, instruction sets, aligned arrays, addressed randomness and machine floors. */
#include "arrays.h" /* first: Python.h sets the feature macros */

#include "../base/buf.h"
#include "../base/floors.h"
#include "../base/isa.h"
#include "../base/philox.h"
#include "../base/pool.h"
#include "address.h"
#include "families.h"
#include <limits.h>
#include <string.h>

static PyObject *py_num_threads(PyObject *module, PyObject *none) {
    (void)module, (void)none;
    return PyLong_FromLong(cg_num_threads());
}

static PyObject *py_set_num_threads(PyObject *module, PyObject *arg) {
    long long threads;
    if (arg_index(arg, "threads", INT_MIN, INT_MAX, &threads) < 0) return NULL;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_set_num_threads((int)threads, &err);
    Py_END_ALLOW_THREADS
    if (rc) return raise_err(module, &err);
    Py_RETURN_NONE;
}

static PyObject *py_isa(PyObject *module, PyObject *none) {
    (void)module, (void)none;
    return PyUnicode_FromString(cg_isa_name(cg_isa()));
}

static PyObject *py_isas(PyObject *module, PyObject *none) {
    (void)module, (void)none;
    PyObject *list = PyList_New(0);
    for (int i = 0; list && i < CG_ISA_COUNT; i++) {
        if (!cg_isa_runs((cg_isa_t)i)) continue;
        PyObject *name = PyUnicode_FromString(cg_isa_name((cg_isa_t)i));
        if (!name || PyList_Append(list, name) < 0) Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}

static PyObject *py_force_isa(PyObject *module, PyObject *arg) {
    (void)module;
    if (PyUnicode_Check(arg)) {
        for (int i = 0; i < CG_ISA_COUNT; i++)
            if (PyUnicode_CompareWithASCIIString(arg, cg_isa_name((cg_isa_t)i)) == 0 && cg_isa_force((cg_isa_t)i) == 0)
                Py_RETURN_NONE;
    }
    return PyErr_Format(PyExc_ValueError, "isa: expected one of the names in isas(), got %R", arg);
}

static PyObject *py_leading_dimension(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    (void)module;
    long long cols, itemsize;
    if (arg_count("leading_dimension", nargs, 2) < 0 || arg_index(args[0], "columns", 0, LLONG_MAX / 256, &cols) < 0 ||
        arg_index(args[1], "itemsize", 1, (long long)CG_LINE, &itemsize) < 0)
        return NULL;
    return PyLong_FromSize_t(cg_buf_ld((size_t)cols, (size_t)itemsize));
}

static void free_capsule(PyObject *capsule) { cg_buf_free(PyCapsule_GetPointer(capsule, "collegium.buffer")); }

static PyObject *py_zeros_rows(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    (void)module;
    long long rows, cols;
    if (arg_count("zeros_rows", nargs, 2) < 0 || arg_index(args[0], "rows", 0, LLONG_MAX, &rows) < 0 ||
        arg_index(args[1], "columns", 0, LLONG_MAX / 256, &cols) < 0)
        return NULL;
    const size_t ld = cg_buf_ld((size_t)cols, sizeof(float));
    if (rows > 0 && ld > (size_t)PY_SSIZE_T_MAX / sizeof(float) / (size_t)rows)
        return PyErr_Format(PyExc_MemoryError, "no memory for %lld x %lld float32", rows, cols);
    const size_t bytes = (size_t)rows * ld * sizeof(float);
    void *p = cg_buf_alloc(bytes);
    if (!p) return PyErr_Format(PyExc_MemoryError, "no memory for %lld x %lld float32", rows, cols);
    memset(p, 0, bytes);
    PyObject *owner = PyCapsule_New(p, "collegium.buffer", free_capsule);
    if (!owner) {
        cg_buf_free(p);
        return NULL;
    }
    npy_intp dims[2] = {(npy_intp)rows, (npy_intp)cols};
    npy_intp strides[2] = {(npy_intp)(ld * sizeof(float)), (npy_intp)sizeof(float)};
    PyObject *a = PyArray_New(&PyArray_Type, 2, dims, NPY_FLOAT32, strides, p, 0, NPY_ARRAY_WRITEABLE, NULL);
    if (!a) {
        Py_DECREF(owner);
        return NULL;
    }
    if (PyArray_SetBaseObject((PyArrayObject *)a, owner) < 0) Py_CLEAR(a); /* steals owner either way */
    return a;
}

static PyObject *py_random_u32(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    (void)module;
    cg_address at;
    long long first, n;
    if (arg_count("random_u32", nargs, 6) < 0 || arg_address(args, &at) < 0 || arg_words(args + 4, &first, &n) < 0)
        return NULL;
    npy_intp dims[1] = {(npy_intp)n};
    PyObject *out = PyArray_SimpleNew(1, dims, NPY_UINT32);
    if (out) cg_random_u32(&at, (uint64_t)first, (size_t)n, PyArray_DATA((PyArrayObject *)out));
    return out;
}

static PyObject *py_random_f32(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    (void)module;
    cg_address at;
    long long first, n;
    if (arg_count("random_f32", nargs, 6) < 0 || arg_address(args, &at) < 0 || arg_words(args + 4, &first, &n) < 0)
        return NULL;
    npy_intp dims[1] = {(npy_intp)n};
    PyObject *out = PyArray_SimpleNew(1, dims, NPY_FLOAT32);
    if (out) cg_random_f32(&at, (uint64_t)first, (size_t)n, PyArray_DATA((PyArrayObject *)out));
    return out;
}

static PyObject *py_random_permutation(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    (void)module;
    cg_address at;
    long long n;
    if (arg_count("random_permutation", nargs, 5) < 0 || arg_address(args, &at) < 0 ||
        arg_index(args[4], "n", 0, INT32_MAX, &n) < 0)
        return NULL;
    npy_intp dims[1] = {(npy_intp)n};
    PyObject *out = PyArray_SimpleNew(1, dims, NPY_INT32);
    if (out) cg_random_permutation(&at, (uint32_t)n, PyArray_DATA((PyArrayObject *)out));
    return out;
}

static PyObject *py_floor_fma(PyObject *module, PyObject *none) {
    (void)none;
    cg_err err;
    double gflops;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_floor_fma(&gflops, &err);
    Py_END_ALLOW_THREADS
    return rc ? raise_err(module, &err) : PyFloat_FromDouble(gflops);
}

static PyObject *py_floor_copy(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    if (arg_count("floor_copy", nargs, 3) < 0) return NULL;
    PyArrayObject *src = arr_want(args[0], "src", NPY_FLOAT32, 1, ARR_READ);
    PyArrayObject *dst = src ? arr_want(args[1], "dst", NPY_FLOAT32, 1, ARR_WRITE) : NULL;
    if (!dst || arr_len(dst, "dst", PyArray_DIM(src, 0)) < 0) return NULL;
    const int stream = PyUnicode_Check(args[2]) && PyUnicode_CompareWithASCIIString(args[2], "stream") == 0;
    if (!stream && !(PyUnicode_Check(args[2]) && PyUnicode_CompareWithASCIIString(args[2], "memcpy") == 0))
        return PyErr_Format(PyExc_ValueError, "kind: expected 'memcpy' or 'stream', got %R", args[2]);
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_floor_copy((size_t)PyArray_DIM(src, 0), PyArray_DATA(src), PyArray_DATA(dst), stream, &err);
    Py_END_ALLOW_THREADS
    if (rc) return raise_err(module, &err);
    Py_RETURN_NONE;
}

static PyObject *py_floor_read(PyObject *module, PyObject *arg) {
    PyArrayObject *src = arr_want(arg, "src", NPY_FLOAT32, 1, ARR_READ);
    if (!src) return NULL;
    cg_err err;
    double sum;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_floor_read((size_t)PyArray_DIM(src, 0), PyArray_DATA(src), &sum, &err);
    Py_END_ALLOW_THREADS
    return rc ? raise_err(module, &err) : PyFloat_FromDouble(sum);
}

PyMethodDef cg_base_methods[] = {
    {"num_threads", py_num_threads, METH_NOARGS, "num_threads()\n--\n\n"},
    {"set_num_threads", py_set_num_threads, METH_O, "set_num_threads(threads, /)\n--\n\n"},
    {"isa", py_isa, METH_NOARGS, "isa()\n--\n\n"},
    {"isas", py_isas, METH_NOARGS, "isas()\n--\n\n"},
    {"force_isa", py_force_isa, METH_O, "force_isa(name, /)\n--\n\n"},
    {"leading_dimension", FASTCALL(py_leading_dimension), METH_FASTCALL,
     "leading_dimension(columns, itemsize, /)\n--\n\n"},
    {"zeros_rows", FASTCALL(py_zeros_rows), METH_FASTCALL, "zeros_rows(rows, columns, /)\n--\n\n"},
    {"random_u32", FASTCALL(py_random_u32), METH_FASTCALL,
     "random_u32(seed, purpose, node, round, first, n, /)\n--\n\n"},
    {"random_f32", FASTCALL(py_random_f32), METH_FASTCALL,
     "random_f32(seed, purpose, node, round, first, n, /)\n--\n\n"},
    {"random_permutation", FASTCALL(py_random_permutation), METH_FASTCALL,
     "random_permutation(seed, purpose, node, round, n, /)\n--\n\n"},
    {"floor_fma", py_floor_fma, METH_NOARGS, "floor_fma()\n--\n\n"},
    {"floor_copy", FASTCALL(py_floor_copy), METH_FASTCALL, "floor_copy(src, dst, kind, /)\n--\n\n"},
    {"floor_read", py_floor_read, METH_O, "floor_read(src, /)\n--\n\n"},
    {0},
};
