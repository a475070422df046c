/* csrc/python/federation_py.c -- bindings of the router family's search, merge and statistics. */
#include "arrays.h" /* first: Python.h sets the feature macros */

#include "../router/merge.h"
#include "../router/search.h"
#include "../router/stats.h"
#include "families.h"

static void *arg_data(PyObject *o, const char *name, int type, npy_intp n0, npy_intp n1, int access) {
    PyArrayObject *a = arr_want(o, name, type, 2, access);
    return a && arr_shape2(a, name, n0, n1) == 0 ? PyArray_DATA(a) : NULL;
}

static void *arg_line(PyObject *o, const char *name, int type, npy_intp n, int access) {
    PyArrayObject *a = arr_want(o, name, type, 1, access);
    return a && arr_len(a, name, n) == 0 ? PyArray_DATA(a) : NULL;
}

static PyObject *py_merge_topk(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    if (arg_count("merge_topk", nargs, 7) < 0) return NULL;
    PyArrayObject *const d = arr_want(args[0], "D", NPY_FLOAT32, 3, ARR_READ);
    PyArrayObject *const i = d ? arr_want(args[1], "I", NPY_INT64, 3, ARR_READ) : NULL;
    if (!i) return NULL;
    const npy_intp *const shape = PyArray_DIMS(d);
    if (!PyArray_SAMESHAPE(d, i)) {
        PyErr_Format(PyExc_ValueError, "I: expected the shape of D, (%zd, %zd, %zd), got (%zd, %zd, %zd)",
                     (Py_ssize_t)shape[0], (Py_ssize_t)shape[1], (Py_ssize_t)shape[2], (Py_ssize_t)PyArray_DIM(i, 0),
                     (Py_ssize_t)PyArray_DIM(i, 1), (Py_ssize_t)PyArray_DIM(i, 2));
        return NULL;
    }
    const int larger = PyObject_IsTrue(args[2]);
    PyArrayObject *const out = larger < 0 ? NULL : arr_want(args[3], "merged", NPY_FLOAT32, 2, ARR_WRITE);
    if (!out || arr_shape2(out, "merged", shape[1], PyArray_DIM(out, 1)) < 0) return NULL;
    const npy_intp k = PyArray_DIM(out, 1);
    int32_t *const source = arg_data(args[4], "source", NPY_INT32, shape[1], k, ARR_WRITE);
    int64_t *const id = source ? arg_data(args[5], "ids", NPY_INT64, shape[1], k, ARR_WRITE) : NULL;
    int32_t *const counts = id ? arg_data(args[6], "counts", NPY_INT32, shape[1], shape[0], ARR_WRITE) : NULL;
    if (!counts) return NULL;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_merge_topk((size_t)shape[0], (size_t)shape[1], (size_t)shape[2], PyArray_DATA(d), PyArray_DATA(i),
                           larger, (size_t)k, PyArray_DATA(out), source, id, counts, &err);
    Py_END_ALLOW_THREADS
    return rc ? raise_err(module, &err) : Py_NewRef(Py_None);
}

static PyObject *py_search_flat(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    if (arg_count("search_flat", nargs, 6) < 0) return NULL;
    long long metric;
    size_t ldx, ldq;
    if (arg_index(args[0], "metric", 0, CG_SEARCH_METRICS - 1, &metric) < 0) return NULL;
    PyArrayObject *const x = arr_rows(args[1], "vectors", NPY_FLOAT32, ARR_READ, &ldx);
    if (!x) return NULL;
    const npy_intp n = PyArray_DIM(x, 0), dim = PyArray_DIM(x, 1);
    const float *const norms = arg_line(args[2], "norms", NPY_FLOAT32, n, ARR_READ);
    PyArrayObject *const q = norms ? arr_rows(args[3], "Q", NPY_FLOAT32, ARR_READ, &ldq) : NULL;
    if (!q || arr_shape2(q, "Q", PyArray_DIM(q, 0), dim) < 0) return NULL;
    PyArrayObject *const d = arr_want(args[4], "D", NPY_FLOAT32, 2, ARR_WRITE);
    if (!d || arr_shape2(d, "D", PyArray_DIM(q, 0), PyArray_DIM(d, 1)) < 0) return NULL;
    int64_t *const rows = arg_data(args[5], "I", NPY_INT64, PyArray_DIM(q, 0), PyArray_DIM(d, 1), ARR_WRITE);
    if (!rows) return NULL;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_search_flat((cg_search_metric)metric, (size_t)n, (size_t)dim, PyArray_DATA(x), ldx, norms,
                            (size_t)PyArray_DIM(q, 0), PyArray_DATA(q), ldq, (size_t)PyArray_DIM(d, 1), PyArray_DATA(d),
                            rows, &err);
    Py_END_ALLOW_THREADS
    return rc ? raise_err(module, &err) : Py_NewRef(Py_None);
}

static PyObject *py_source_stats(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    if (arg_count("source_stats", nargs, 4) < 0) return NULL;
    size_t ldx;
    PyArrayObject *const x = arr_rows(args[0], "vectors", NPY_FLOAT32, ARR_READ, &ldx);
    if (!x) return NULL;
    const npy_intp n = PyArray_DIM(x, 0), dim = PyArray_DIM(x, 1);
    double *const sum = arg_line(args[1], "sum", NPY_FLOAT64, dim, ARR_WRITE);
    double *const unit = sum ? arg_line(args[2], "unit", NPY_FLOAT64, dim, ARR_WRITE) : NULL;
    float *const norms = unit ? arg_line(args[3], "norms", NPY_FLOAT32, n, ARR_WRITE) : NULL;
    if (!norms) return NULL;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_stats_rows((size_t)n, (size_t)dim, PyArray_DATA(x), ldx, sum, unit, norms, &err);
    Py_END_ALLOW_THREADS
    return rc ? raise_err(module, &err) : Py_NewRef(Py_None);
}

PyMethodDef cg_federation_methods[] = {
    {"merge_topk", FASTCALL(py_merge_topk), METH_FASTCALL,
     "merge_topk(D, I, larger_is_better, merged, source, ids, counts, /)\n--\n\n"},
    {"search_flat", FASTCALL(py_search_flat), METH_FASTCALL, "search_flat(metric, vectors, norms, Q, D, I, /)\n--\n\n"},
    {"source_stats", FASTCALL(py_source_stats), METH_FASTCALL, "source_stats(vectors, sum, unit, norms, /)\n--\n\n"},
    {0},
};
