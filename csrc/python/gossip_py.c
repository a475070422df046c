/* csrc/python/gossip_py.c -- topologies, mixing weights, their spectrum, schedules and energy. */
#include "arrays.h" /* first: Python.h sets the feature macros */

#include "../gossip/csr.h"
#include "../gossip/graph.h"
#include "../gossip/schedule.h"
#include "../gossip/spectrum.h"
#include "../gossip/weights.h"
#include "families.h"
#include <limits.h>

/* A CSR matrix as it comes in; weights NULL for a graph. Borrowed. */
typedef struct csr_arg {
    size_t n, nnz;
    const int32_t *indptr, *indices;
    const float *weights;
} csr_arg;

/* Shapes only: what is in the arrays is checked by the functions that follow indices. */
static int arg_csr(PyObject *const *args, int weighted, csr_arg *m) {
    PyArrayObject *p = arr_want(args[0], "indptr", NPY_INT32, 1, ARR_READ);
    PyArrayObject *i = p ? arr_want(args[1], "indices", NPY_INT32, 1, ARR_READ) : NULL;
    if (!i) return -1;
    if (PyArray_DIM(p, 0) < 1) {
        PyErr_SetString(PyExc_ValueError, "indptr: expected at least 1 element, got 0");
        return -1;
    }
    m->n = (size_t)PyArray_DIM(p, 0) - 1;
    m->nnz = (size_t)PyArray_DIM(i, 0);
    m->indptr = PyArray_DATA(p);
    m->indices = PyArray_DATA(i);
    m->weights = NULL;
    if (!weighted) return 0;
    PyArrayObject *w = arr_want(args[2], "weights", NPY_FLOAT32, 1, ARR_READ);
    if (!w || arr_len(w, "weights", PyArray_DIM(i, 0)) < 0) return -1;
    m->weights = PyArray_DATA(w);
    return 0;
}

static PyObject *new_1d(size_t n, int type) {
    npy_intp dims[1] = {(npy_intp)n};
    return PyArray_SimpleNew(1, dims, type);
}

static PyObject *new_2d(size_t rows, size_t columns, int type) {
    npy_intp dims[2] = {(npy_intp)rows, (npy_intp)columns};
    return PyArray_SimpleNew(2, dims, type);
}

static void *data_of(PyObject *a) { return PyArray_DATA((PyArrayObject *)a); }

static PyObject *py_regular_graph(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    long long n, degree, round;
    uint64_t seed;
    if (arg_count("regular_graph", nargs, 4) < 0 || arg_index(args[0], "n", 1, INT32_MAX, &n) < 0 ||
        arg_index(args[1], "degree", 0, INT32_MAX, &degree) < 0 || arg_u64(args[2], "seed", &seed) < 0 ||
        arg_index(args[3], "round", 0, UINT32_MAX, &round) < 0)
        return NULL;
    /* Before the array is made: a shape that cannot be is an error of the arguments, not of memory. */
    if (degree >= n) return PyErr_Format(PyExc_ValueError, "degree: expected less than n = %lld, got %lld", n, degree);
    if (n * degree > INT32_MAX)
        return PyErr_Format(PyExc_ValueError, "degree: expected n * degree below 2**31, got %lld * %lld", n, degree);
    PyObject *nbr = new_2d((size_t)n, (size_t)degree, NPY_INT32);
    if (!nbr) return NULL;
    int32_t *const out = data_of(nbr);
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_regular_graph((size_t)n, (size_t)degree, seed, (uint32_t)round, out, &err);
    Py_END_ALLOW_THREADS
    if (!rc) return nbr;
    Py_DECREF(nbr);
    return raise_err(module, &err);
}

static PyObject *py_components(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    csr_arg g;
    if (arg_count("components", nargs, 2) < 0 || arg_csr(args, 0, &g) < 0) return NULL;
    PyObject *label = new_1d(g.n, NPY_INT32);
    if (!label) return NULL;
    int32_t *const out = data_of(label);
    size_t count;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_components(g.n, g.nnz, g.indptr, g.indices, out, &count, &err);
    Py_END_ALLOW_THREADS
    if (!rc) return label;
    Py_DECREF(label);
    return raise_err(module, &err);
}

static PyObject *py_metropolis_weights(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    csr_arg g;
    if (arg_count("metropolis_weights", nargs, 2) < 0 || arg_csr(args, 0, &g) < 0) return NULL;
    PyObject *indptr = new_1d(g.n + 1, NPY_INT32), *indices = new_1d(g.nnz + g.n, NPY_INT32);
    PyObject *weights = new_1d(g.nnz + g.n, NPY_FLOAT32), *result = NULL;
    if (indptr && indices && weights) {
        int32_t *const p = data_of(indptr), *const i = data_of(indices);
        float *const w = data_of(weights);
        cg_err err;
        int rc;
        Py_BEGIN_ALLOW_THREADS
            rc = cg_metropolis_weights(g.n, g.nnz, g.indptr, g.indices, p, i, w, &err);
        Py_END_ALLOW_THREADS
        result = rc ? raise_err(module, &err) : PyTuple_Pack(3, indptr, indices, weights);
    }
    Py_XDECREF(indptr);
    Py_XDECREF(indices);
    Py_XDECREF(weights);
    return result;
}

static PyObject *py_check_mixing(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    csr_arg m;
    if (arg_count("check_mixing", nargs, 5) < 0 || arg_csr(args, 1, &m) < 0) return NULL;
    const int sums = PyObject_IsTrue(args[3]), symmetric = sums < 0 ? -1 : PyObject_IsTrue(args[4]);
    if (symmetric < 0) return NULL;
    const int what = (sums ? CG_CHECK_SUMS : 0) | (symmetric ? CG_CHECK_SYMMETRY : 0);
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_mixing_check(m.n, m.nnz, m.indptr, m.indices, m.weights, what, &err);
    Py_END_ALLOW_THREADS
    if (rc) return raise_err(module, &err);
    Py_RETURN_NONE;
}

static PyObject *py_lambda2(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    csr_arg m;
    if (arg_count("lambda2", nargs, 3) < 0 || arg_csr(args, 1, &m) < 0) return NULL;
    cg_lambda2_result r;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_lambda2(m.n, m.nnz, m.indptr, m.indices, m.weights, &r, &err);
    Py_END_ALLOW_THREADS
    if (rc) return raise_err(module, &err);
    return Py_BuildValue("ddn", r.value, r.residual, (Py_ssize_t)r.steps);
}

static PyObject *py_schedule(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    long long rounds, n, gamma_train, gamma_sync, first_node;
    uint64_t seed;
    if (arg_count("schedule", nargs, 8) < 0 || arg_index(args[0], "rounds", 0, UINT32_MAX, &rounds) < 0 ||
        arg_index(args[1], "n", 0, UINT32_MAX, &n) < 0 ||
        arg_index(args[2], "gamma_train", 1, UINT32_MAX, &gamma_train) < 0 ||
        arg_index(args[3], "gamma_sync", 0, UINT32_MAX, &gamma_sync) < 0 || arg_u64(args[6], "seed", &seed) < 0 ||
        arg_index(args[7], "first_node", 0, UINT32_MAX, &first_node) < 0)
        return NULL;
    PyArrayObject *threshold = NULL, *budget = NULL;
    if (args[4] != Py_None) {
        threshold = arr_want(args[4], "threshold", NPY_UINT64, 1, ARR_READ);
        if (!threshold || arr_len(threshold, "threshold", (npy_intp)n) < 0) return NULL;
    }
    if (args[5] != Py_None) {
        budget = arr_want(args[5], "budget", NPY_INT64, 1, ARR_READ);
        if (!budget || arr_len(budget, "budget", (npy_intp)n) < 0) return NULL;
    }
    PyObject *action = new_2d((size_t)rounds, (size_t)n, NPY_UINT8);
    if (!action) return NULL;
    uint8_t *const out = data_of(action);
    const uint64_t *const p = threshold ? PyArray_DATA(threshold) : NULL;
    const int64_t *const b = budget ? PyArray_DATA(budget) : NULL;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_schedule((size_t)rounds, (size_t)n, (uint32_t)gamma_train, (uint32_t)gamma_sync, p, b, seed,
                         (uint32_t)first_node, out, &err);
    Py_END_ALLOW_THREADS
    if (!rc) return action;
    Py_DECREF(action);
    return raise_err(module, &err);
}

static PyObject *py_energy(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    if (arg_count("energy", nargs, 2) < 0) return NULL;
    PyArrayObject *action = arr_want(args[0], "action", NPY_UINT8, 2, ARR_READ);
    PyArrayObject *e = action ? arr_want(args[1], "e", NPY_FLOAT64, 1, ARR_READ) : NULL;
    if (!e || arr_len(e, "e", PyArray_DIM(action, 1)) < 0) return NULL;
    const size_t rounds = (size_t)PyArray_DIM(action, 0), n = (size_t)PyArray_DIM(action, 1);
    PyObject *per_node = new_1d(n, NPY_FLOAT64), *cumulative = new_1d(rounds, NPY_FLOAT64), *result = NULL;
    if (per_node && cumulative) {
        const uint8_t *const a = PyArray_DATA(action);
        const double *const cost = PyArray_DATA(e);
        double *const nodes = data_of(per_node), *const total = data_of(cumulative);
        cg_err err;
        int rc;
        Py_BEGIN_ALLOW_THREADS
            rc = cg_energy(rounds, n, a, cost, nodes, total, &err);
        Py_END_ALLOW_THREADS
        result = rc ? raise_err(module, &err) : PyTuple_Pack(2, per_node, cumulative);
    }
    Py_XDECREF(per_node);
    Py_XDECREF(cumulative);
    return result;
}

PyMethodDef cg_gossip_methods[] = {
    {"regular_graph", FASTCALL(py_regular_graph), METH_FASTCALL, "regular_graph(n, degree, seed, round, /)\n--\n\n"},
    {"components", FASTCALL(py_components), METH_FASTCALL, "components(indptr, indices, /)\n--\n\n"},
    {"metropolis_weights", FASTCALL(py_metropolis_weights), METH_FASTCALL,
     "metropolis_weights(indptr, indices, /)\n--\n\n"},
    {"check_mixing", FASTCALL(py_check_mixing), METH_FASTCALL,
     "check_mixing(indptr, indices, weights, sums, symmetric, /)\n--\n\n"},
    {"lambda2", FASTCALL(py_lambda2), METH_FASTCALL, "lambda2(indptr, indices, weights, /)\n--\n\n"},
    {"schedule", FASTCALL(py_schedule), METH_FASTCALL,
     "schedule(rounds, n, gamma_train, gamma_sync, threshold, budget, seed, first_node, /)\n--\n\n"},
    {"energy", FASTCALL(py_energy), METH_FASTCALL, "energy(action, e, /)\n--\n\n"},
    {0},
};
