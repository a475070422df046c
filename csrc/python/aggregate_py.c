/* csrc/python/aggregate_py.c -- mixing, dead edges, consensus, the search for NaN. */
#include "arrays.h" /* first: Python.h sets the feature macros */

#include "../aggregate/consensus.h"
#include "../aggregate/mix.h"
#include "families.h"

/* A matrix from three arrays: their lengths agree here, their content is checked in the core. 0, or -1. */
static int want_csr(PyObject *indptr, PyObject *indices, PyObject *weights, cg_csr *w) {
    PyArrayObject *ptr = arr_want(indptr, "indptr", NPY_INT32, 1, ARR_READ);
    PyArrayObject *ind = ptr ? arr_want(indices, "indices", NPY_INT32, 1, ARR_READ) : NULL;
    PyArrayObject *val = ind ? arr_want(weights, "weights", NPY_FLOAT32, 1, ARR_READ) : NULL;
    if (!val) return -1;
    const npy_intp n = PyArray_DIM(ptr, 0) - 1;
    if (n < 0) {
        PyErr_SetString(PyExc_ValueError, "indptr: expected at least one value, got none");
        return -1;
    }
    w->n = (size_t)n;
    w->indptr = PyArray_DATA(ptr);
    w->indices = PyArray_DATA(ind);
    w->weights = PyArray_DATA(val);
    const npy_intp nnz = w->indptr[n];
    if (nnz != PyArray_DIM(ind, 0)) {
        PyErr_Format(PyExc_ValueError, "indptr: expected to end at %zd (the length of indices), got %zd",
                     PyArray_DIM(ind, 0), nnz);
        return -1;
    }
    return arr_len(val, "weights", nnz);
}

/* ---- mix ---- */

typedef struct table {
    cg_csr *csr;
    const cg_csr **of; /* [round * blocks + block] */
    size_t *col_start; /* blocks + 1 */
    PyObject *keep;    /* the tuples: a list could lose them while the GIL is dropped */
    Py_ssize_t rounds, blocks;
} table;

static void table_free(table *t) {
    PyMem_Free(t->csr);
    PyMem_Free((void *)t->of);
    PyMem_Free(t->col_start);
    Py_XDECREF(t->keep);
}

/* One round of the table, a sequence of `blocks` tuples. */
static int table_round(table *t, PyObject *round, Py_ssize_t r) {
    for (Py_ssize_t b = 0; b < t->blocks; b++) {
        PyObject *entry = PySequence_GetItem(round, b);
        if (!entry) return -1;
        int rc = -1;
        if (!PyTuple_Check(entry) || PyTuple_Size(entry) != 3)
            PyErr_Format(PyExc_TypeError, "table[%zd][%zd]: expected a tuple (indptr, indices, weights), got %R", r, b,
                         (PyObject *)Py_TYPE(entry));
        else if (PyList_Append(t->keep, entry) == 0)
            rc = want_csr(PyTuple_GetItem(entry, 0), PyTuple_GetItem(entry, 1), PyTuple_GetItem(entry, 2),
                          &t->csr[r * t->blocks + b]);
        Py_DECREF(entry);
        if (rc < 0) return -1;
    }
    return 0;
}

/* Fills *t; table_free it whatever comes back. */
static int table_parse(table *t, PyObject *rounds, PyObject *col_start) {
    PyArrayObject *cols = arr_want(col_start, "col_start", NPY_INT64, 1, ARR_READ);
    if (!cols) return -1;
    t->blocks = PyArray_DIM(cols, 0) - 1;
    if (t->blocks < 0) {
        PyErr_SetString(PyExc_ValueError, "col_start: expected at least one value, got none");
        return -1;
    }
    if (!PySequence_Check(rounds)) {
        PyErr_Format(PyExc_TypeError, "table: expected a sequence of rounds, got %R", (PyObject *)Py_TYPE(rounds));
        return -1;
    }
    t->rounds = PySequence_Size(rounds);
    if (t->rounds < 0) return -1;
    if (t->rounds > PY_SSIZE_T_MAX / (Py_ssize_t)sizeof(cg_csr) / (t->blocks + 1)) {
        PyErr_NoMemory();
        return -1;
    }
    const size_t all = (size_t)t->rounds * (size_t)t->blocks;
    t->csr = PyMem_Calloc(all + 1, sizeof *t->csr);
    t->of = PyMem_Calloc(all + 1, sizeof *t->of);
    t->col_start = PyMem_Calloc((size_t)t->blocks + 1, sizeof *t->col_start);
    if (!t->csr || !t->of || !t->col_start) {
        PyErr_NoMemory();
        return -1;
    }
    if (!(t->keep = PyList_New(0))) return -1;
    const npy_int64 *const start = PyArray_DATA(cols);
    for (Py_ssize_t b = 0; b <= t->blocks; b++) {
        if (start[b] < 0) {
            PyErr_Format(PyExc_ValueError, "col_start[%zd]: expected 0 or more, got %lld", b, (long long)start[b]);
            return -1;
        }
        t->col_start[b] = (size_t)start[b];
    }
    for (size_t i = 0; i < all; i++) t->of[i] = &t->csr[i];
    for (Py_ssize_t r = 0; r < t->rounds; r++) {
        PyObject *round = PySequence_GetItem(rounds, r);
        if (!round) return -1;
        const Py_ssize_t blocks = PySequence_Check(round) ? PySequence_Size(round) : -1;
        int rc = -1;
        if (blocks == t->blocks)
            rc = table_round(t, round, r);
        else if (!PyErr_Occurred())
            PyErr_Format(blocks < 0 ? PyExc_TypeError : PyExc_ValueError,
                         "table[%zd]: expected a sequence of %zd blocks, got %R", r, t->blocks, round);
        Py_DECREF(round);
        if (rc < 0) return -1;
    }
    return 0;
}

static PyObject *py_mix(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    if (arg_count("mix", nargs, 4) < 0) return NULL;
    size_t ldx, ldy;
    PyArrayObject *x = arr_rows(args[0], "x", NPY_FLOAT32, ARR_READ, &ldx);
    PyArrayObject *y = x ? arr_rows(args[1], "y", NPY_FLOAT32, ARR_WRITE, &ldy) : NULL;
    if (!y || arr_shape2(y, "y", PyArray_DIM(x, 0), PyArray_DIM(x, 1)) < 0) return NULL;
    table t = {0};
    int ok = table_parse(&t, args[2], args[3]) == 0, rc = CG_OK;
    cg_err err;
    if (ok) {
        Py_BEGIN_ALLOW_THREADS
            rc = cg_mix_f32((size_t)PyArray_DIM(x, 0), (size_t)PyArray_DIM(x, 1), PyArray_DATA(x), ldx, PyArray_DATA(y),
                            ldy, (size_t)t.rounds, (size_t)t.blocks, t.col_start, t.of, &err);
        Py_END_ALLOW_THREADS
    }
    table_free(&t);
    if (!ok) return NULL;
    if (rc) return raise_err(module, &err);
    Py_RETURN_NONE;
}

static PyObject *py_mask_edges(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    cg_csr w;
    if (arg_count("mask_edges", nargs, 4) < 0 || want_csr(args[0], args[1], args[2], &w) < 0) return NULL;
    PyArrayObject *alive = arr_want(args[3], "alive", NPY_UINT8, 1, ARR_READ);
    npy_intp nnz[1] = {PyArray_DIM((PyArrayObject *)args[1], 0)};
    if (!alive || arr_len(alive, "alive", nnz[0]) < 0) return NULL;
    PyObject *out = PyArray_SimpleNew(1, nnz, NPY_FLOAT32);
    if (!out) return NULL;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_csr_mask(&w, PyArray_DATA(alive), PyArray_DATA((PyArrayObject *)out), &err);
    Py_END_ALLOW_THREADS
    if (rc == CG_OK) return out;
    Py_DECREF(out);
    return raise_err(module, &err);
}

/* ---- consensus, NaN ---- */

/* x and rows (an int64 array, or None: *rows is NULL then). 0, or -1. */
static int want_fleet(PyObject *const *args, PyArrayObject **x, size_t *ldx, const int64_t **rows, size_t *k) {
    *x = arr_rows(args[0], "x", NPY_FLOAT32, ARR_READ, ldx);
    *rows = NULL;
    *k = 0;
    if (!*x || args[1] == Py_None) return *x ? 0 : -1;
    PyArrayObject *r = arr_want(args[1], "rows", NPY_INT64, 1, ARR_READ);
    if (!r) return -1;
    *rows = PyArray_DATA(r);
    *k = (size_t)PyArray_DIM(r, 0);
    return 0;
}

static PyObject *py_consensus(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    PyArrayObject *x;
    size_t ldx, k;
    const int64_t *rows;
    if (arg_count("consensus", nargs, 2) < 0 || want_fleet(args, &x, &ldx, &rows, &k) < 0) return NULL;
    npy_intp p[1] = {PyArray_DIM(x, 1)};
    PyObject *mean = PyArray_SimpleNew(1, p, NPY_FLOAT64);
    if (!mean) return NULL;
    cg_err err;
    double sum_sq;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_consensus_f32((size_t)PyArray_DIM(x, 0), (size_t)p[0], PyArray_DATA(x), ldx, k, rows,
                              PyArray_DATA((PyArrayObject *)mean), &sum_sq, &err);
    Py_END_ALLOW_THREADS
    if (rc == CG_OK) return Py_BuildValue("(Nd)", mean, sum_sq);
    Py_DECREF(mean);
    return raise_err(module, &err);
}

static PyObject *py_find_nonfinite(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    PyArrayObject *x;
    size_t ldx, k;
    const int64_t *rows;
    if (arg_count("find_nonfinite", nargs, 2) < 0 || want_fleet(args, &x, &ldx, &rows, &k) < 0) return NULL;
    cg_err err;
    int64_t row, col;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_find_nonfinite_f32((size_t)PyArray_DIM(x, 0), (size_t)PyArray_DIM(x, 1), PyArray_DATA(x), ldx, k, rows,
                                   &row, &col, &err);
    Py_END_ALLOW_THREADS
    if (rc) return raise_err(module, &err);
    if (row < 0) Py_RETURN_NONE;
    return Py_BuildValue("(LL)", (long long)row, (long long)col);
}

PyMethodDef cg_aggregate_methods[] = {
    {"mix", FASTCALL(py_mix), METH_FASTCALL, "mix(x, y, table, col_start, /)\n--\n\n"},
    {"mask_edges", FASTCALL(py_mask_edges), METH_FASTCALL, "mask_edges(indptr, indices, weights, alive, /)\n--\n\n"},
    {"consensus", FASTCALL(py_consensus), METH_FASTCALL, "consensus(x, rows, /)\n--\n\n"},
    {"find_nonfinite", FASTCALL(py_find_nonfinite), METH_FASTCALL, "find_nonfinite(x, rows, /)\n--\n\n"},
    {0},
};
