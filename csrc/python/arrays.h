/* csrc/python/arrays.h -- the one place that checks NumPy arguments and words their errors.
 *
 * The arr_* functions return a BORROWED array, or raise TypeError (not an array, wrong dtype) or ValueError (shape,
 * layout, read-only) naming the argument and return NULL. Nothing is ever cast or copied silently: a hidden copy would
 * also hide an in-place write. Conversions and defaults belong to the Python layer. */
#ifndef CG_PY_ARRAYS_H
#define CG_PY_ARRAYS_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL cg_numpy_api
#ifndef CG_MAIN_MODULE
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include "../base/err.h"

enum { ARR_READ = 0, ARR_WRITE = 1 };

/* A C-contiguous array of `nd` dimensions. */
PyArrayObject *arr_want(PyObject *o, const char *name, int type, int nd, int access);
/* A matrix whose rows are contiguous and `*ld` elements apart (a view of a padded population, say); *ld >= columns. */
PyArrayObject *arr_rows(PyObject *o, const char *name, int type, int access, size_t *ld);
/* 0, or -1 with ValueError "weights: expected shape (8,), got (3,)". */
int arr_len(PyArrayObject *a, const char *name, npy_intp n0);
int arr_shape2(PyArrayObject *a, const char *name, npy_intp n0, npy_intp n1);

/* Raises the exception a cg_err stands for; returns NULL. `module` is the METH_FASTCALL self. */
PyObject *raise_err(PyObject *module, const cg_err *err);

/* "mix() takes 3 arguments (2 given)": 0, or -1 with TypeError. */
int arg_count(const char *function, Py_ssize_t given, Py_ssize_t wanted);
/* Scalars that name themselves in their errors: 0, or -1. arg_index: TypeError unless an int, ValueError unless it is
 * in [least, most]. */
int arg_index(PyObject *o, const char *name, long long least, long long most, long long *out);
int arg_double(PyObject *o, const char *name, double *out);
int arg_u64(PyObject *o, const char *name, uint64_t *out);

#define FASTCALL(f) ((PyCFunction)(void (*)(void))(f))
#endif
