/* csrc/python/noise_py.c -- Gaussian noise. */
#include "arrays.h" /* first: Python.h sets the feature macros */

#include "../noise/normal.h"
#include "address.h"
#include "families.h"

static PyObject *py_random_normal(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    (void)module;
    cg_address at;
    long long first, n;
    if (arg_count("random_normal", nargs, 6) < 0 || arg_address(args, &at) < 0 || arg_words(args + 4, &first, &n) < 0)
        return NULL;
    npy_intp dims[1] = {(npy_intp)n};
    PyObject *out = PyArray_SimpleNew(1, dims, NPY_FLOAT32);
    if (!out) return NULL;
    float *values = PyArray_DATA((PyArrayObject *)out);
    Py_BEGIN_ALLOW_THREADS
        cg_normal_f32(&at, (uint64_t)first, (size_t)n, values);
    Py_END_ALLOW_THREADS
    return out;
}

PyMethodDef cg_noise_methods[] = {
    {"random_normal", FASTCALL(py_random_normal), METH_FASTCALL,
     "random_normal(seed, purpose, node, round, first, n, /)\n--\n\n"},
    {0},
};
