/* csrc/python/router_py.c -- the router's network: packing, probabilities, selection, training. */
#include "arrays.h" /* first: Python.h sets the feature macros */

#include "../router/forward.h"
#include "../router/network.h"
#include "../router/train.h"
#include "families.h"
#include <limits.h>

#define CAPSULE "collegium.router"

static PyArrayObject *matrix(PyObject *o, const char *name, npy_intp rows, npy_intp cols) {
    PyArrayObject *a = arr_want(o, name, NPY_FLOAT32, 2, ARR_READ);
    return a && arr_shape2(a, name, rows, cols) == 0 ? a : NULL;
}

static PyArrayObject *vector(PyObject *o, const char *name, int type, npy_intp n, int access) {
    PyArrayObject *a = arr_want(o, name, type, 1, access);
    return a && arr_len(a, name, n) == 0 ? a : NULL;
}

/* ---- the packed router ---- */

static void free_router(PyObject *capsule) { cg_router_free(PyCapsule_GetPointer(capsule, CAPSULE)); }

static PyObject *py_router_pack(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    long long h2;
    PyArrayObject *dims, *encoder, *wq, *shift, *tail, *cross = NULL, *centroids = NULL;
    if (arg_count("router_pack", nargs, 8) < 0 || !(dims = arr_want(args[0], "dims", NPY_INT64, 1, ARR_READ)) ||
        !(encoder = arr_want(args[1], "encoder", NPY_INT64, 1, ARR_READ)) ||
        !(wq = arr_want(args[2], "wq", NPY_FLOAT32, 2, ARR_READ)) ||
        arg_index(args[7], "hidden2", 1, (long long)CG_ROUTER_WIDEST, &h2) < 0)
        return NULL;
    const npy_intp N = PyArray_DIM(encoder, 0), h1 = PyArray_DIM(wq, 0);
    npy_intp d = 0;
    for (npy_intp e = 0; e < PyArray_DIM(dims, 0); e++) {
        const int64_t dim = ((const int64_t *)PyArray_DATA(dims))[e];
        d = dim > d ? (npy_intp)dim : d;
    }
    if (arr_shape2(wq, "wq", h1, d) < 0 || !(shift = matrix(args[3], "shift", N, h1)) ||
        (args[4] != Py_None && (!(cross = vector(args[4], "cross", NPY_FLOAT32, h1, ARR_READ)) ||
                                !(centroids = matrix(args[5], "centroids", N, d)))) ||
        !(tail = vector(args[6], "tail", NPY_FLOAT32, (npy_intp)cg_router_tail((size_t)h1, (size_t)h2), ARR_READ)))
        return NULL;
    const cg_router_parts parts = {.encoders = (size_t)PyArray_DIM(dims, 0),
                                   .sources = (size_t)N,
                                   .hidden1 = (size_t)h1,
                                   .hidden2 = (size_t)h2,
                                   .dims = PyArray_DATA(dims),
                                   .encoder = PyArray_DATA(encoder),
                                   .wq = PyArray_DATA(wq),
                                   .shift = PyArray_DATA(shift),
                                   .cross = cross ? PyArray_DATA(cross) : NULL,
                                   .centroids = centroids ? PyArray_DATA(centroids) : NULL,
                                   .tail = PyArray_DATA(tail)};
    cg_err err;
    cg_router *const r = cg_router_new(&parts, &err);
    if (!r) return raise_err(module, &err);
    PyObject *capsule = PyCapsule_New(r, CAPSULE, free_router);
    if (!capsule) cg_router_free(r);
    return capsule;
}

enum { ENCODERS = 64 }; /* of one router: their pointers live on the stack */

/* pack, queries: one float32 array an encoder, (batch, dim) or, for one query, (dim,). The batch, or -1. */
static npy_intp arg_queries(PyObject *const *args, const cg_router **r, const float *q[ENCODERS]) {
    if (!(*r = PyCapsule_GetPointer(args[0], CAPSULE))) return -1;
    const size_t M = cg_router_encoders(*r);
    npy_intp batch = -1;
    if (!PyTuple_Check(args[1]) || PyTuple_Size(args[1]) != (Py_ssize_t)M || M > ENCODERS) {
        PyErr_Format(PyExc_TypeError, "queries: expected a tuple of %zu arrays, at most %d, got %R", M, ENCODERS,
                     (PyObject *)Py_TYPE(args[1]));
        return -1;
    }
    for (size_t e = 0; e < M; e++) {
        PyObject *o = PyTuple_GetItem(args[1], (Py_ssize_t)e);
        const int nd = PyArray_Check(o) && PyArray_NDIM((PyArrayObject *)o) == 1 ? 1 : 2;
        const npy_intp dim = (npy_intp)cg_router_dim(*r, e);
        PyArrayObject *a = arr_want(o, "queries", NPY_FLOAT32, nd, ARR_READ);
        if (!a) return -1;
        const npy_intp rows = nd == 1 ? 1 : PyArray_DIM(a, 0);
        if (batch < 0) batch = rows;
        if (nd == 1 ? arr_len(a, "queries", dim) < 0 : arr_shape2(a, "queries", batch, dim) < 0) return -1;
        if (rows != batch) {
            PyErr_Format(PyExc_ValueError, "queries: expected %zd rows of every encoder, got %zd", batch, rows);
            return -1;
        }
        q[e] = PyArray_DATA(a);
    }
    return batch;
}

static PyObject *probabilities(PyObject *module, const cg_router *r, npy_intp batch, const float *const *q) {
    npy_intp dims[2] = {batch, (npy_intp)cg_router_sources(r)};
    PyObject *p = PyArray_SimpleNew(2, dims, NPY_FLOAT32);
    if (!p) return NULL;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_router_forward(r, (size_t)batch, q, PyArray_DATA((PyArrayObject *)p), &err);
    Py_END_ALLOW_THREADS
    if (!rc) return p;
    Py_DECREF(p);
    return raise_err(module, &err);
}

static PyObject *py_router_forward(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    const cg_router *r;
    const float *q[ENCODERS];
    if (arg_count("router_forward", nargs, 2) < 0) return NULL;
    const npy_intp batch = arg_queries(args, &r, q);
    return batch < 0 ? NULL : probabilities(module, r, batch, q);
}

static int arg_empty(PyObject *o, cg_router_empty *out) {
    static const char *const name[] = {"top1", "all", "none"};
    for (int i = 0; PyUnicode_Check(o) && i < 3; i++)
        if (PyUnicode_CompareWithASCIIString(o, name[i]) == 0) {
            *out = (cg_router_empty)i;
            return 0;
        }
    PyErr_Format(PyExc_ValueError, "on_empty: expected 'top1', 'all' or 'none', got %R", o);
    return -1;
}

static PyObject *py_router_select(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    const cg_router *r;
    const float *q[ENCODERS];
    cg_router_policy policy;
    long long least, most;
    if (arg_count("router_select", nargs, 6) < 0) return NULL;
    const npy_intp batch = arg_queries(args, &r, q);
    if (batch < 0) return NULL;
    const npy_intp N = (npy_intp)cg_router_sources(r);
    PyArrayObject *threshold = vector(args[2], "threshold", NPY_FLOAT32, N, ARR_READ);
    if (!threshold || arg_index(args[3], "min_sources", 0, N, &least) < 0 ||
        arg_index(args[4], "max_sources", least > 1 ? least : 1, N, &most) < 0 || arg_empty(args[5], &policy.empty) < 0)
        return NULL;
    policy.threshold = PyArray_DATA(threshold);
    policy.least = (size_t)least;
    policy.most = (size_t)most;
    PyArrayObject *p = (PyArrayObject *)probabilities(module, r, batch, q);
    PyArrayObject *mask = p ? (PyArrayObject *)PyArray_SimpleNew(2, PyArray_DIMS(p), NPY_BOOL) : NULL;
    if (mask) cg_router_choose((size_t)batch, (size_t)N, PyArray_DATA(p), &policy, PyArray_DATA(mask));
    Py_XDECREF(p);
    return (PyObject *)mask;
}

/* ---- training ---- */

/* (queries, statics, crosses, hidden1, hidden2) */
static int arg_net(PyObject *module, PyObject *sizes, cg_router_net *net) {
    size_t n[5];
    if (!PyTuple_Check(sizes) || PyTuple_Size(sizes) != 5) {
        PyErr_Format(PyExc_TypeError, "sizes: expected a tuple of 5 integers, got %R", sizes);
        return -1;
    }
    for (Py_ssize_t i = 0; i < 5; i++) {
        long long value;
        if (arg_index(PyTuple_GetItem(sizes, i), "sizes", 0, (long long)CG_ROUTER_WIDEST, &value) < 0) return -1;
        n[i] = (size_t)value;
    }
    cg_err err;
    if (cg_router_net_set(net, n[0], n[1], n[2], n[3], n[4], &err) == CG_OK) return 0;
    raise_err(module, &err);
    return -1;
}

static npy_intp packed_length(const cg_router_net *net) { return (npy_intp)net->at[CG_ROUTER_TENSORS]; }

static PyObject *py_router_sizes(PyObject *module, PyObject *sizes) {
    cg_router_net net;
    if (arg_net(module, sizes, &net) < 0) return NULL;
    return Py_BuildValue("(nn)", (Py_ssize_t)net.plain, (Py_ssize_t)packed_length(&net));
}

/* sizes, from, to: the arguments of both copies; `to_packed`: from plain to packed. */
static int arg_copy(PyObject *module, PyObject *const *args, int to_packed, cg_router_net *net, float **plain,
                    float **packed) {
    if (arg_net(module, args[0], net) < 0) return -1;
    PyArrayObject *a =
        vector(args[to_packed ? 1 : 2], "plain", NPY_FLOAT32, (npy_intp)net->plain, to_packed ? ARR_READ : ARR_WRITE);
    PyArrayObject *b =
        a ? vector(args[to_packed ? 2 : 1], "packed", NPY_FLOAT32, packed_length(net), to_packed ? ARR_WRITE : ARR_READ)
          : NULL;
    if (!b) return -1;
    *plain = PyArray_DATA(a);
    *packed = PyArray_DATA(b);
    return 0;
}

static PyObject *py_router_load(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    cg_router_net net;
    float *plain, *packed;
    if (arg_count("router_load", nargs, 3) < 0 || arg_copy(module, args, 1, &net, &plain, &packed) < 0) return NULL;
    cg_router_net_pack(&net, plain, packed);
    Py_RETURN_NONE;
}

static PyObject *py_router_store(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    cg_router_net net;
    float *plain, *packed;
    if (arg_count("router_store", nargs, 3) < 0 || arg_copy(module, args, 0, &net, &plain, &packed) < 0) return NULL;
    cg_router_net_unpack(&net, packed, plain);
    Py_RETURN_NONE;
}

/* queries, encoder, statics, crosses, labels: five arguments from args[0]. */
static int arg_data(PyObject *const *args, const cg_router_net *net, cg_router_data *d) {
    PyArrayObject *q = arr_want(args[0], "queries", NPY_FLOAT32, 3, ARR_READ);
    PyArrayObject *y = q ? arr_want(args[4], "labels", NPY_UINT8, 2, ARR_READ) : NULL;
    if (!y) return -1;
    const npy_intp n = PyArray_DIM(q, 1), N = PyArray_DIM(y, 1);
    if (PyArray_DIM(q, 2) != (npy_intp)net->queries) {
        PyErr_Format(PyExc_ValueError, "queries: expected %zu columns, got %zd", net->queries, PyArray_DIM(q, 2));
        return -1;
    }
    PyArrayObject *encoder = vector(args[1], "encoder", NPY_INT64, N, ARR_READ);
    PyArrayObject *statics = encoder ? matrix(args[2], "statics", N, (npy_intp)net->statics) : NULL;
    PyArrayObject *crosses = NULL;
    if (!statics || arr_shape2(y, "labels", n, N) < 0 ||
        (args[3] != Py_None && !(crosses = matrix(args[3], "crosses", n, N))))
        return -1;
    *d = (cg_router_data){.count = (size_t)n,
                          .sources = (size_t)N,
                          .encoders = (size_t)PyArray_DIM(q, 0),
                          .queries = PyArray_DATA(q),
                          .encoder = PyArray_DATA(encoder),
                          .statics = PyArray_DATA(statics),
                          .crosses = crosses ? PyArray_DATA(crosses) : NULL,
                          .labels = PyArray_DATA(y)};
    return 0;
}

/* seed, dropout, pos_weight, weight_decay, clip: five arguments from args[0]. */
static int arg_how(PyObject *const *args, cg_router_optimiser *how) {
    double dropout, pos_weight, decay, clip;
    if (arg_u64(args[0], "seed", &how->seed) < 0 || arg_double(args[1], "dropout", &dropout) < 0 ||
        arg_double(args[2], "pos_weight", &pos_weight) < 0 || arg_double(args[3], "weight_decay", &decay) < 0 ||
        arg_double(args[4], "clip", &clip) < 0)
        return -1;
    how->dropout = (float)dropout;
    how->pos_weight = (float)pos_weight;
    how->weight_decay = (float)decay;
    how->clip = (float)clip;
    return 0;
}

static PyObject *py_router_train(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    cg_router_net net;
    cg_router_data data;
    cg_router_optimiser how;
    long long batch, step;
    PyArrayObject *rows, *lr, *state[3];
    static const char *const name[3] = {"params", "first", "second"};
    if (arg_count("router_train", nargs, 18) < 0 || arg_net(module, args[0], &net) < 0 ||
        arg_data(args + 1, &net, &data) < 0 || arg_how(args + 6, &how) < 0 ||
        !(rows = arr_want(args[11], "rows", NPY_INT32, 1, ARR_READ)) ||
        arg_index(args[12], "batch", 1, INT_MAX, &batch) < 0)
        return NULL;
    const npy_intp count = PyArray_DIM(rows, 0), steps = (npy_intp)((count + batch - 1) / batch);
    if (!(lr = vector(args[13], "lr", NPY_FLOAT64, steps, ARR_READ)) ||
        arg_index(args[14], "step", 0, UINT32_MAX, &step) < 0)
        return NULL;
    for (int i = 0; i < 3; i++) {
        state[i] = vector(args[15 + i], name[i], NPY_FLOAT32, packed_length(&net), ARR_WRITE);
        if (!state[i]) return NULL;
        for (int o = 0; o < i; o++)
            if (PyArray_DATA(state[o]) == PyArray_DATA(state[i]))
                return PyErr_Format(PyExc_ValueError, "%s: overlaps %s", name[i], name[o]);
    }
    double loss;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_router_train(&net, &data, &how, (size_t)count, PyArray_DATA(rows), (size_t)batch, PyArray_DATA(lr),
                             (uint64_t)step, PyArray_DATA(state[0]), PyArray_DATA(state[1]), PyArray_DATA(state[2]),
                             &loss, &err);
    Py_END_ALLOW_THREADS
    return rc ? raise_err(module, &err) : PyFloat_FromDouble(loss);
}

PyMethodDef cg_router_methods[] = {
    {"router_pack", FASTCALL(py_router_pack), METH_FASTCALL,
     "router_pack(dims, encoder, wq, shift, cross, centroids, tail, hidden2, /)\n--\n\n"},
    {"router_forward", FASTCALL(py_router_forward), METH_FASTCALL, "router_forward(pack, queries, /)\n--\n\n"},
    {"router_select", FASTCALL(py_router_select), METH_FASTCALL,
     "router_select(pack, queries, threshold, min_sources, max_sources, on_empty, /)\n--\n\n"},
    {"router_sizes", py_router_sizes, METH_O, "router_sizes(sizes, /)\n--\n\n"},
    {"router_load", FASTCALL(py_router_load), METH_FASTCALL, "router_load(sizes, plain, packed, /)\n--\n\n"},
    {"router_store", FASTCALL(py_router_store), METH_FASTCALL, "router_store(sizes, packed, plain, /)\n--\n\n"},
    {"router_train", FASTCALL(py_router_train), METH_FASTCALL,
     "router_train(sizes, queries, encoder, statics, crosses, labels, seed, dropout, pos_weight, weight_decay, clip, "
     "rows, batch, lr, step, params, first, second, /)\n--\n\n"},
    {0},
};
