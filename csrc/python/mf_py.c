/* csrc/python/mf_py.c -- matrix factorization: local SGD and evaluation. */
#include "arrays.h" /* first: Python.h sets the feature macros */

#include "../local/mf.h"
#include "families.h"
#include <limits.h>

/* (users, items, factors, biases, mean): one tuple names the model. */
static int arg_model(PyObject *module, PyObject *o, cg_mf *net) {
    static const char *const name[] = {"users", "items", "factors"};
    long long size[3];
    double mean;
    if (!PyTuple_Check(o) || PyTuple_Size(o) != 5) {
        PyErr_Format(PyExc_TypeError, "model: expected a tuple (users, items, factors, biases, mean), got %R", o);
        return -1;
    }
    for (Py_ssize_t i = 0; i < 3; i++)
        if (arg_index(PyTuple_GetItem(o, i), name[i], LLONG_MIN, LLONG_MAX, &size[i]) < 0) return -1;
    PyObject *const biases = PyTuple_GetItem(o, 3);
    if (!PyBool_Check(biases)) {
        PyErr_Format(PyExc_TypeError, "biases: expected True or False, got %R", biases);
        return -1;
    }
    cg_err err;
    if (arg_double(PyTuple_GetItem(o, 4), "mean", &mean) < 0) return -1;
    if (cg_mf_set(net, size[0], size[1], size[2], biases == Py_True, mean, &err) == CG_OK) return 0;
    raise_err(module, &err);
    return -1;
}

static int64_t *arg_int64(PyObject *o, const char *name, npy_intp n, int access) {
    PyArrayObject *const a = arr_want(o, name, NPY_INT64, 1, access);
    if (!a || (n >= 0 && arr_len(a, name, n) < 0)) return NULL;
    return PyArray_DATA(a);
}

/* rows: int64 indices or None for all; x: (n, parameters). */
static int arg_models(PyObject *rows, PyObject *x, const cg_mf *net, int access, cg_rows *out) {
    PyArrayObject *const a = arr_rows(x, "x", NPY_FLOAT32, access, &out->ld);
    if (!a || arr_shape2(a, "x", PyArray_DIM(a, 0), (npy_intp)net->parameters) < 0) return -1;
    out->x = PyArray_DATA(a);
    out->n = out->count = (size_t)PyArray_DIM(a, 0);
    out->rows = NULL;
    if (rows == Py_None) return 0;
    if (!(out->rows = arg_int64(rows, "rows", -1, ARR_READ))) return -1;
    out->count = (size_t)PyArray_DIM((PyArrayObject *)rows, 0);
    return 0;
}

static int arg_ratings(PyObject *pairs, PyObject *ratings, cg_mf_ratings *out) {
    PyArrayObject *const p = arr_want(pairs, "pairs", NPY_INT32, 2, ARR_READ);
    PyArrayObject *const r = p ? arr_want(ratings, "ratings", NPY_FLOAT32, 1, ARR_READ) : NULL;
    if (!r || arr_shape2(p, "pairs", PyArray_DIM(p, 0), 2) < 0 || arr_len(r, "ratings", PyArray_DIM(p, 0)) < 0)
        return -1;
    *out = (cg_mf_ratings){(size_t)PyArray_DIM(p, 0), PyArray_DATA(p), PyArray_DATA(r)};
    return 0;
}

static PyArrayObject *new_doubles(size_t n) {
    npy_intp dims[1] = {(npy_intp)n};
    return (PyArrayObject *)PyArray_SimpleNew(1, dims, NPY_FLOAT64);
}

static PyObject *py_mf_train(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    cg_mf net;
    cg_rows models;
    cg_mf_ratings data;
    cg_mf_parts parts;
    long long steps, batch;
    double lr, decay;
    int64_t *done;
    if (arg_count("mf_train", nargs, 14) < 0 || arg_model(module, args[0], &net) < 0 ||
        arg_u64(args[1], "seed", &parts.seed) < 0 || arg_models(args[2], args[3], &net, ARR_WRITE, &models) < 0 ||
        arg_ratings(args[4], args[5], &data) < 0 ||
        !(parts.part_ptr = arg_int64(args[6], "part_ptr", (npy_intp)models.n + 1, ARR_READ)) ||
        !(parts.part_idx = arg_int64(args[7], "part_idx", -1, ARR_READ)) ||
        !(parts.node = arg_int64(args[8], "node_ids", (npy_intp)models.n, ARR_READ)) ||
        !(done = arg_int64(args[9], "steps_done", (npy_intp)models.n, ARR_WRITE)) ||
        arg_index(args[10], "local_steps", 0, LLONG_MAX, &steps) < 0 ||
        arg_index(args[11], "batch", 1, LLONG_MAX, &batch) < 0 || arg_double(args[12], "lr", &lr) < 0 ||
        arg_double(args[13], "weight_decay", &decay) < 0)
        return NULL;
    parts.rows = models.n;
    parts.parts = (size_t)PyArray_DIM((PyArrayObject *)args[7], 0);
    parts.batch = batch;
    PyArrayObject *loss = new_doubles(models.count);
    if (!loss) return NULL;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_mf_train(&net, &models, &data, &parts, lr, decay, steps, done, PyArray_DATA(loss), &err);
    Py_END_ALLOW_THREADS
    if (!rc) return (PyObject *)loss;
    Py_DECREF(loss);
    return raise_err(module, &err);
}

static PyObject *py_mf_evaluate(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    cg_mf net;
    cg_rows models;
    cg_mf_ratings data;
    long long batch;
    const int64_t *test_ptr = NULL;
    if (arg_count("mf_evaluate", nargs, 7) < 0 || arg_model(module, args[0], &net) < 0 ||
        arg_models(args[1], args[2], &net, ARR_READ, &models) < 0 || arg_ratings(args[3], args[4], &data) < 0 ||
        (args[5] != Py_None && !(test_ptr = arg_int64(args[5], "test_ptr", (npy_intp)models.count + 1, ARR_READ))) ||
        arg_index(args[6], "batch", 1, LLONG_MAX, &batch) < 0)
        return NULL;
    PyArrayObject *mse = new_doubles(models.count), *means = new_doubles(models.count);
    if (!mse || !means) goto fail;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_mf_evaluate(&net, &models, &data, test_ptr, batch, PyArray_DATA(mse), PyArray_DATA(means), &err);
    Py_END_ALLOW_THREADS
    if (rc) {
        raise_err(module, &err);
        goto fail;
    }
    return Py_BuildValue("(NN)", mse, means);
fail:
    Py_XDECREF(mse);
    Py_XDECREF(means);
    return NULL;
}

PyMethodDef cg_mf_methods[] = {
    {"mf_train", FASTCALL(py_mf_train), METH_FASTCALL,
     "mf_train(model, seed, rows, x, pairs, ratings, part_ptr, part_idx, node_ids, steps_done, local_steps, batch, lr, "
     "weight_decay, /)\n--\n\n"},
    {"mf_evaluate", FASTCALL(py_mf_evaluate), METH_FASTCALL,
     "mf_evaluate(model, rows, x, pairs, ratings, test_ptr, batch, /)\n--\n\n"},
    {0},
};
