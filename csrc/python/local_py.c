/* csrc/python/local_py.c -- native trainers, evaluation and the packed product. */
#include "arrays.h" /* first: Python.h sets the feature macros */

#include "../base/buf.h"
#include "../base/gemm.h"
#include "../base/vmath.h"
#include "../local/eval.h"
#include "../local/mlp.h"
#include "../local/sample.h"
#include "../local/train.h"
#include "families.h"
#include <limits.h>
#include <string.h>

/* ---- arguments that several functions share ---- */

static int arg_activation(PyObject *o, int with_none, cg_activation *out) {
    const int text = PyUnicode_Check(o);
    if (text && PyUnicode_CompareWithASCIIString(o, "relu") == 0)
        *out = CG_ACT_RELU;
    else if (text && PyUnicode_CompareWithASCIIString(o, "tanh") == 0)
        *out = CG_ACT_TANH;
    else if (text && with_none && PyUnicode_CompareWithASCIIString(o, "none") == 0)
        *out = CG_ACT_NONE;
    else {
        PyErr_Format(text ? PyExc_ValueError : PyExc_TypeError, "activation: expected %s, got %R",
                     with_none ? "'none', 'relu' or 'tanh'" : "'relu' or 'tanh'", o);
        return -1;
    }
    return 0;
}

/* A sequence of ints (tuple, list, integer array). */
static int arg_net(PyObject *module, PyObject *sizes, PyObject *activation, cg_mlp *net) {
    int64_t width[CG_MLP_LAYERS + 1];
    cg_activation hidden = CG_ACT_RELU;
    if (activation && arg_activation(activation, 0, &hidden) < 0) return -1;
    const Py_ssize_t n = PySequence_Check(sizes) && !PyUnicode_Check(sizes) ? PySequence_Size(sizes) : -1;
    if (n < 0) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_TypeError, "sizes: expected a sequence of integers, got %R", (PyObject *)Py_TYPE(sizes));
        return -1;
    }
    for (Py_ssize_t i = 0; i < n && i <= CG_MLP_LAYERS; i++) {
        long long value;
        PyObject *item = PySequence_GetItem(sizes, i);
        const int rc = item ? arg_index(item, "sizes", LLONG_MIN, LLONG_MAX, &value) : -1;
        Py_XDECREF(item);
        if (rc < 0) return -1;
        width[i] = value;
    }
    cg_err err;
    if (cg_mlp_set(net, (size_t)n, width, hidden, &err) == CG_OK) return 0;
    raise_err(module, &err);
    return -1;
}

static int arg_flag(PyObject *o, const char *name, int *out) {
    if (!PyBool_Check(o)) {
        PyErr_Format(PyExc_TypeError, "%s: expected True or False, got %R", name, o);
        return -1;
    }
    *out = o == Py_True;
    return 0;
}

/* A matrix of n rows (any number where n < 0) of exactly `cols` floats. */
static PyArrayObject *arg_matrix(PyObject *o, const char *name, npy_intp n, npy_intp cols, int access, size_t *ld) {
    PyArrayObject *a = arr_rows(o, name, NPY_FLOAT32, access, ld);
    if (!a || arr_shape2(a, name, n < 0 ? PyArray_DIM(a, 0) : n, cols) < 0) return NULL;
    return a;
}

static int64_t *arg_int64(PyObject *o, const char *name, npy_intp n, int access) {
    PyArrayObject *a = arr_want(o, name, NPY_INT64, 1, access);
    if (!a || (n >= 0 && arr_len(a, name, n) < 0)) return NULL;
    return PyArray_DATA(a);
}

/* rows: int64 indices or None for all; x: (n, parameters). */
static int arg_models(PyObject *rows, PyObject *x, size_t parameters, int access, cg_rows *out) {
    PyArrayObject *a = arg_matrix(x, "x", -1, (npy_intp)parameters, access, &out->ld);
    if (!a) return -1;
    out->x = PyArray_DATA(a);
    out->n = out->count = (size_t)PyArray_DIM(a, 0);
    out->rows = NULL;
    if (rows == Py_None) return 0;
    out->rows = arg_int64(rows, "rows", -1, ARR_READ);
    if (!out->rows) return -1;
    out->count = (size_t)PyArray_DIM((PyArrayObject *)rows, 0);
    return 0;
}

/* data, labels, part_ptr, part_idx, node_ids: five arguments from args[0]. */
static int arg_samples(PyObject *const *args, const cg_mlp *net, size_t n, cg_samples *out) {
    PyArrayObject *x = arg_matrix(args[0], "data", -1, (npy_intp)net->width[0], ARR_READ, &out->ld);
    if (!x) return -1;
    out->x = PyArray_DATA(x);
    out->count = (size_t)PyArray_DIM(x, 0);
    out->rows = n;
    if (!(out->label = arg_int64(args[1], "labels", (npy_intp)out->count, ARR_READ)) ||
        !(out->part_ptr = arg_int64(args[2], "part_ptr", (npy_intp)n + 1, ARR_READ)) ||
        !(out->part_idx = arg_int64(args[3], "part_idx", -1, ARR_READ)) ||
        !(out->node = arg_int64(args[4], "node_ids", (npy_intp)n, ARR_READ)))
        return -1;
    out->parts = (size_t)PyArray_DIM((PyArrayObject *)args[3], 0);
    return 0;
}

/* lr, momentum, weight_decay, nesterov: four arguments from args[0]. */
static int arg_sgd(PyObject *const *args, cg_sgd *out) {
    double lr, momentum, decay;
    if (arg_double(args[0], "lr", &lr) < 0 || arg_double(args[1], "momentum", &momentum) < 0 ||
        arg_double(args[2], "weight_decay", &decay) < 0 || arg_flag(args[3], "nesterov", &out->nesterov) < 0)
        return -1;
    out->lr = (float)lr;
    out->momentum = (float)momentum;
    out->weight_decay = (float)decay;
    return 0;
}

/* velocity: (n, parameters) or None. */
static int arg_velocity(PyObject *o, size_t n, size_t parameters, float **v, size_t *ldv) {
    *v = NULL;
    *ldv = parameters;
    if (o == Py_None) return 0;
    PyArrayObject *a = arg_matrix(o, "velocity", (npy_intp)n, (npy_intp)parameters, ARR_WRITE, ldv);
    if (!a) return -1;
    *v = PyArray_DATA(a);
    return 0;
}

static PyArrayObject *new_vector(size_t n, int type) {
    npy_intp dims[1] = {(npy_intp)n};
    return (PyArrayObject *)PyArray_SimpleNew(1, dims, type);
}

/* ---- models ---- */

static PyObject *py_mlp_train(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    cg_mlp net;
    cg_rows models;
    cg_samples data;
    cg_sgd sgd;
    float *velocity;
    size_t ldv;
    int64_t *done;
    const int64_t *each = NULL;
    long long steps = 0, batch;
    if (arg_count("mlp_train", nargs, 18) < 0 || arg_net(module, args[0], args[1], &net) < 0 ||
        arg_u64(args[2], "seed", &data.seed) < 0 ||
        arg_models(args[3], args[4], net.parameters, ARR_WRITE, &models) < 0 ||
        arg_velocity(args[5], models.n, net.parameters, &velocity, &ldv) < 0 ||
        arg_samples(args + 6, &net, models.n, &data) < 0 ||
        !(done = arg_int64(args[11], "steps_done", (npy_intp)models.n, ARR_WRITE)))
        return NULL;
    if (PyArray_Check(args[12]) && PyArray_NDIM((PyArrayObject *)args[12]) > 0) {
        if (!(each = arg_int64(args[12], "local_steps", (npy_intp)models.count, ARR_READ))) return NULL;
    } else if (arg_index(args[12], "local_steps", 0, LLONG_MAX, &steps) < 0) {
        return NULL;
    }
    if (arg_index(args[13], "batch", 1, LLONG_MAX, &batch) < 0 || arg_sgd(args + 14, &sgd) < 0) return NULL;
    data.batch = batch;
    PyArrayObject *loss = new_vector(models.count, NPY_FLOAT64);
    if (!loss) return NULL;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_mlp_train(&net, &models, &data, &sgd, velocity, ldv, each, steps, done, PyArray_DATA(loss), &err);
    Py_END_ALLOW_THREADS
    if (!rc) return (PyObject *)loss;
    Py_DECREF(loss);
    return raise_err(module, &err);
}

static PyObject *py_mlp_gradients(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    cg_mlp net;
    cg_rows models;
    cg_samples data;
    const int64_t *done;
    long long batch;
    size_t ldg;
    PyArrayObject *g;
    if (arg_count("mlp_gradients", nargs, 13) < 0 || arg_net(module, args[0], args[1], &net) < 0 ||
        arg_u64(args[2], "seed", &data.seed) < 0 ||
        arg_models(args[3], args[4], net.parameters, ARR_READ, &models) < 0 ||
        arg_samples(args + 5, &net, models.n, &data) < 0 ||
        !(done = arg_int64(args[10], "steps_done", (npy_intp)models.n, ARR_READ)) ||
        arg_index(args[11], "batch", 1, LLONG_MAX, &batch) < 0 ||
        !(g = arg_matrix(args[12], "out", (npy_intp)models.count, (npy_intp)net.parameters, ARR_WRITE, &ldg)))
        return NULL;
    data.batch = batch;
    PyArrayObject *loss = new_vector(models.count, NPY_FLOAT64);
    if (!loss) return NULL;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_mlp_gradients(&net, &models, &data, done, PyArray_DATA(g), ldg, PyArray_DATA(loss), &err);
    Py_END_ALLOW_THREADS
    if (!rc) return (PyObject *)loss;
    Py_DECREF(loss);
    return raise_err(module, &err);
}

static PyObject *py_mlp_apply(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    cg_rows models;
    cg_sgd sgd;
    float *velocity;
    size_t ldv, ldg;
    int64_t *done;
    const int64_t *part_ptr;
    PyArrayObject *g;
    if (arg_count("mlp_apply", nargs, 10) < 0) return NULL;
    size_t any;
    PyArrayObject *x = arr_rows(args[1], "x", NPY_FLOAT32, ARR_WRITE, &any);
    const size_t parameters = x ? (size_t)PyArray_DIM(x, 1) : 0;
    if (!x || arg_models(args[0], args[1], parameters, ARR_WRITE, &models) < 0 ||
        arg_velocity(args[2], models.n, parameters, &velocity, &ldv) < 0 ||
        !(g = arg_matrix(args[3], "gradients", (npy_intp)models.count, (npy_intp)parameters, ARR_READ, &ldg)) ||
        !(part_ptr = arg_int64(args[4], "part_ptr", (npy_intp)models.n + 1, ARR_READ)) ||
        !(done = arg_int64(args[5], "steps_done", (npy_intp)models.n, ARR_WRITE)) || arg_sgd(args + 6, &sgd) < 0)
        return NULL;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_mlp_apply(parameters, &models, part_ptr, PyArray_DATA(g), ldg, &sgd, velocity, ldv, done, &err);
    Py_END_ALLOW_THREADS
    if (rc) return raise_err(module, &err);
    Py_RETURN_NONE;
}

static PyObject *py_mlp_evaluate(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    cg_mlp net;
    cg_rows models;
    size_t ld;
    PyArrayObject *data;
    const int64_t *label;
    if (arg_count("mlp_evaluate", nargs, 6) < 0 || arg_net(module, args[0], args[1], &net) < 0 ||
        arg_models(args[2], args[3], net.parameters, ARR_READ, &models) < 0 ||
        !(data = arg_matrix(args[4], "data", -1, (npy_intp)net.width[0], ARR_READ, &ld)) ||
        !(label = arg_int64(args[5], "labels", PyArray_DIM(data, 0), ARR_READ)))
        return NULL;
    PyArrayObject *accuracy = new_vector(models.count, NPY_FLOAT64), *loss = new_vector(models.count, NPY_FLOAT64);
    if (!accuracy || !loss) goto fail;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_mlp_evaluate(&net, &models, (size_t)PyArray_DIM(data, 0), PyArray_DATA(data), ld, label,
                             PyArray_DATA(accuracy), PyArray_DATA(loss), &err);
    Py_END_ALLOW_THREADS
    if (rc) {
        raise_err(module, &err);
        goto fail;
    }
    return Py_BuildValue("(NN)", accuracy, loss);
fail:
    Py_XDECREF(accuracy);
    Py_XDECREF(loss);
    return NULL;
}

static PyObject *py_mlp_logits(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    cg_mlp net;
    size_t ld;
    PyArrayObject *params, *data;
    if (arg_count("mlp_logits", nargs, 4) < 0 || arg_net(module, args[0], args[1], &net) < 0 ||
        !(params = arr_want(args[2], "params", NPY_FLOAT32, 1, ARR_READ)) ||
        arr_len(params, "params", (npy_intp)net.parameters) < 0 ||
        !(data = arg_matrix(args[3], "data", -1, (npy_intp)net.width[0], ARR_READ, &ld)))
        return NULL;
    const size_t classes = net.width[net.layers];
    npy_intp dims[2] = {PyArray_DIM(data, 0), (npy_intp)classes};
    PyArrayObject *out = (PyArrayObject *)PyArray_SimpleNew(2, dims, NPY_FLOAT32);
    if (!out) return NULL;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_mlp_logits(&net, PyArray_DATA(params), (size_t)dims[0], PyArray_DATA(data), ld, PyArray_DATA(out),
                           classes, &err);
    Py_END_ALLOW_THREADS
    if (!rc) return (PyObject *)out;
    Py_DECREF(out);
    return raise_err(module, &err);
}

static PyObject *py_mlp_init(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    cg_mlp net;
    cg_rows models;
    uint64_t seed;
    const int64_t *node;
    if (arg_count("mlp_init", nargs, 4) < 0 || arg_net(module, args[0], NULL, &net) < 0 ||
        arg_u64(args[1], "seed", &seed) < 0 || arg_models(Py_None, args[3], net.parameters, ARR_WRITE, &models) < 0 ||
        !(node = arg_int64(args[2], "nodes", (npy_intp)models.n, ARR_READ)))
        return NULL;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_mlp_init(&net, seed, node, &models, &err);
    Py_END_ALLOW_THREADS
    if (rc) return raise_err(module, &err);
    Py_RETURN_NONE;
}

static PyObject *py_sample_batches(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    uint64_t seed;
    long long node, first, steps, m, batch;
    if (arg_count("sample_batches", nargs, 6) < 0 || arg_u64(args[0], "seed", &seed) < 0 ||
        arg_index(args[1], "node", 0, UINT32_MAX, &node) < 0 ||
        arg_index(args[2], "first_step", 0, LLONG_MAX, &first) < 0 ||
        arg_index(args[3], "steps", 0, INT32_MAX, &steps) < 0 || arg_index(args[4], "m", 1, INT32_MAX, &m) < 0 ||
        arg_index(args[5], "batch", 1, LLONG_MAX, &batch) < 0)
        return NULL;
    cg_err err;
    if (cg_sampler_check(node, first, steps, m, batch, &err)) return raise_err(module, &err);
    int32_t *order = cg_buf_alloc((size_t)m * sizeof *order);
    if (!order) return PyErr_NoMemory();
    const int32_t *position;
    cg_sampler s;
    cg_sampler_start(&s, seed, node, m, batch, order);
    /* Steps by epochs in closed form: every epoch holds m samples, only the ends are parts of one. */
    const int64_t nb = s.per_epoch, last = first + steps;
    const int64_t before = first / nb * m + first % nb * (int64_t)s.batch;
    const int64_t total = last / nb * m + last % nb * (int64_t)s.batch - before;
    PyArrayObject *indices = new_vector((size_t)total, NPY_INT32), *offsets = new_vector((size_t)steps + 1, NPY_INT64);
    if (indices && offsets) {
        int32_t *out = PyArray_DATA(indices);
        int64_t *offset = PyArray_DATA(offsets), at = 0;
        Py_BEGIN_ALLOW_THREADS
            for (int64_t i = 0; i < steps; i++) {
                const size_t count = cg_sampler_batch(&s, first + i, &position);
                memcpy(out + at, position, count * sizeof *out);
                offset[i] = at;
                at += (int64_t)count;
            }
        Py_END_ALLOW_THREADS
        offset[steps] = at;
    }
    cg_buf_free(order);
    if (indices && offsets) return Py_BuildValue("(NN)", indices, offsets);
    Py_XDECREF(indices);
    Py_XDECREF(offsets);
    return NULL;
}

/* ---- products ---- */

static void free_panels(PyObject *capsule) { cg_buf_free(PyCapsule_GetPointer(capsule, "collegium.panels")); }

static PyObject *py_gemm_pack(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    size_t ldb;
    PyArrayObject *b;
    if (arg_count("gemm_pack", nargs, 1) < 0 || !(b = arr_rows(args[0], "b", NPY_FLOAT32, ARR_READ, &ldb))) return NULL;
    const size_t n = (size_t)PyArray_DIM(b, 0), k = (size_t)PyArray_DIM(b, 1), size = cg_gemm_packed_size(n, k);
    float *const p = cg_buf_alloc(size * sizeof *p);
    if (!p) return PyErr_NoMemory();
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_gemm_pack_parallel(n, k, PyArray_DATA(b), ldb, p, &err);
    Py_END_ALLOW_THREADS
    PyObject *const owner = rc ? NULL : PyCapsule_New(p, "collegium.panels", free_panels);
    if (!owner) {
        cg_buf_free(p);
        return rc ? raise_err(module, &err) : NULL;
    }
    npy_intp dims[1] = {(npy_intp)size};
    PyObject *a = PyArray_New(&PyArray_Type, 1, dims, NPY_FLOAT32, NULL, p, 0, NPY_ARRAY_CARRAY, NULL);
    if (!a) {
        Py_DECREF(owner);
        return NULL;
    }
    if (PyArray_SetBaseObject((PyArrayObject *)a, owner) < 0) Py_CLEAR(a); /* steals owner either way */
    return a;
}

/* act(a b^T + bias) with b already in panels, into a new (m, n) array. */
static PyObject *product(PyObject *module, PyArrayObject *a, size_t lda, const float *packed, npy_intp n,
                         PyObject *bias, PyObject *activation) {
    cg_activation act;
    const float *shift = NULL;
    if (arg_activation(activation, 1, &act) < 0) return NULL;
    if (bias != Py_None) {
        PyArrayObject *v = arr_want(bias, "bias", NPY_FLOAT32, 1, ARR_READ);
        if (!v || arr_len(v, "bias", n) < 0) return NULL;
        shift = PyArray_DATA(v);
    }
    npy_intp dims[2] = {PyArray_DIM(a, 0), n};
    PyArrayObject *c = (PyArrayObject *)PyArray_SimpleNew(2, dims, NPY_FLOAT32);
    if (!c) return NULL;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_gemm_parallel_f32((size_t)dims[0], (size_t)n, (size_t)PyArray_DIM(a, 1), PyArray_DATA(a), lda, packed,
                                  shift, act, PyArray_DATA(c), (size_t)n, &err);
    Py_END_ALLOW_THREADS
    if (!rc) return (PyObject *)c;
    Py_DECREF(c);
    return raise_err(module, &err);
}

static PyObject *py_gemm(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    size_t lda, ldb;
    PyArrayObject *a, *b;
    if (arg_count("gemm", nargs, 4) < 0 || !(a = arr_rows(args[0], "a", NPY_FLOAT32, ARR_READ, &lda)) ||
        !(b = arr_rows(args[1], "b", NPY_FLOAT32, ARR_READ, &ldb)) ||
        arr_shape2(b, "b", PyArray_DIM(b, 0), PyArray_DIM(a, 1)) < 0)
        return NULL;
    PyObject *packed = py_gemm_pack(module, args + 1, 1);
    if (!packed) return NULL;
    PyObject *c = product(module, a, lda, PyArray_DATA((PyArrayObject *)packed), PyArray_DIM(b, 0), args[2], args[3]);
    Py_DECREF(packed);
    return c;
}

static PyObject *py_gemm_packed(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    size_t lda;
    long long n;
    PyArrayObject *a, *packed;
    if (arg_count("gemm_packed", nargs, 5) < 0 || !(a = arr_rows(args[0], "a", NPY_FLOAT32, ARR_READ, &lda)) ||
        !(packed = arr_want(args[1], "packed", NPY_FLOAT32, 1, ARR_READ)) ||
        arg_index(args[2], "n", 0, PY_SSIZE_T_MAX / (long long)CG_LINE, &n) < 0)
        return NULL;
    const size_t k = (size_t)PyArray_DIM(a, 1), size = cg_gemm_packed_size((size_t)n, k);
    if (size == 0 && n > 0 && k > 0) return PyErr_Format(PyExc_ValueError, "n: %lld outputs do not fit in memory", n);
    if (arr_len(packed, "packed", (npy_intp)size) < 0) return NULL;
    return product(module, a, lda, PyArray_DATA(packed), (npy_intp)n, args[3], args[4]);
}

static PyObject *each_value(PyObject *o, void (*f)(size_t, const float *, float *)) {
    PyArrayObject *x = arr_want(o, "x", NPY_FLOAT32, 1, ARR_READ);
    PyArrayObject *y = x ? new_vector((size_t)PyArray_DIM(x, 0), NPY_FLOAT32) : NULL;
    if (!y) return NULL;
    Py_BEGIN_ALLOW_THREADS
        f((size_t)PyArray_DIM(x, 0), PyArray_DATA(x), PyArray_DATA(y));
    Py_END_ALLOW_THREADS
    return (PyObject *)y;
}

static PyObject *py_exp_f32(PyObject *module, PyObject *x) {
    (void)module;
    return each_value(x, cg_exp_f32);
}

static PyObject *py_tanh_f32(PyObject *module, PyObject *x) {
    (void)module;
    return each_value(x, cg_tanh_f32);
}

PyMethodDef cg_local_methods[] = {
    {"mlp_train", FASTCALL(py_mlp_train), METH_FASTCALL,
     "mlp_train(sizes, activation, seed, rows, x, velocity, data, labels, part_ptr, part_idx, node_ids, steps_done, "
     "local_steps, batch, lr, momentum, weight_decay, nesterov, /)\n--\n\n"},
    {"mlp_gradients", FASTCALL(py_mlp_gradients), METH_FASTCALL,
     "mlp_gradients(sizes, activation, seed, rows, x, data, labels, part_ptr, part_idx, node_ids, steps_done, batch, "
     "out, /)\n--\n\n"},
    {"mlp_apply", FASTCALL(py_mlp_apply), METH_FASTCALL,
     "mlp_apply(rows, x, velocity, gradients, part_ptr, steps_done, lr, momentum, weight_decay, nesterov, "
     "/)\n--\n\n"},
    {"mlp_evaluate", FASTCALL(py_mlp_evaluate), METH_FASTCALL,
     "mlp_evaluate(sizes, activation, rows, x, data, labels, /)\n--\n\n"},
    {"mlp_logits", FASTCALL(py_mlp_logits), METH_FASTCALL, "mlp_logits(sizes, activation, params, data, /)\n--\n\n"},
    {"mlp_init", FASTCALL(py_mlp_init), METH_FASTCALL, "mlp_init(sizes, seed, nodes, x, /)\n--\n\n"},
    {"sample_batches", FASTCALL(py_sample_batches), METH_FASTCALL,
     "sample_batches(seed, node, first_step, steps, m, batch, /)\n--\n\n"},
    {"gemm", FASTCALL(py_gemm), METH_FASTCALL, "gemm(a, b, bias, activation, /)\n--\n\n"},
    {"gemm_pack", FASTCALL(py_gemm_pack), METH_FASTCALL, "gemm_pack(b, /)\n--\n\n"},
    {"gemm_packed", FASTCALL(py_gemm_packed), METH_FASTCALL, "gemm_packed(a, packed, n, bias, activation, /)\n--\n\n"},
    {"exp_f32", py_exp_f32, METH_O, "exp_f32(x, /)\n--\n\n"},
    {"tanh_f32", py_tanh_f32, METH_O, "tanh_f32(x, /)\n--\n\n"},
    {0},
};
