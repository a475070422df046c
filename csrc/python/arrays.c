#include "arrays.h"

static const char *type_name(int type) {
    switch (type) {
    case NPY_FLOAT32: return "float32";
    case NPY_FLOAT64: return "float64";
    case NPY_INT32: return "int32";
    case NPY_INT64: return "int64";
    case NPY_UINT8: return "uint8";
    case NPY_UINT32: return "uint32";
    case NPY_UINT64: return "uint64";
    default: return "another";
    }
}

/* int64 has two type numbers where long and long long are both 64 bits wide. Types that others added to NumPy have
 * numbers that PyArray_EquivTypenums may not look up. */
static int same_type(PyArrayObject *a, int type) {
    const int own = PyArray_TYPE(a);
    return own == type || (own >= 0 && own < NPY_USERDEF && PyArray_EquivTypenums(own, type));
}

static PyArrayObject *arr_kind(PyObject *o, const char *name, int type, int nd, int access) {
    if (!PyArray_Check(o)) {
        PyErr_Format(PyExc_TypeError, "%s: expected numpy.ndarray, got %R", name, (PyObject *)Py_TYPE(o));
        return NULL;
    }
    PyArrayObject *a = (PyArrayObject *)o;
    if (!same_type(a, type)) {
        PyErr_Format(PyExc_TypeError, "%s: expected dtype %s, got %S", name, type_name(type),
                     (PyObject *)PyArray_DESCR(a));
        return NULL;
    }
    if (PyArray_NDIM(a) != nd) {
        PyErr_Format(PyExc_ValueError, "%s: expected %d dimension(s), got %d", name, nd, PyArray_NDIM(a));
        return NULL;
    }
    if (!PyArray_ISALIGNED(a) || !PyArray_ISNOTSWAPPED(a)) {
        PyErr_Format(PyExc_ValueError, "%s: must be aligned and in native byte order", name);
        return NULL;
    }
    if (access == ARR_WRITE && !PyArray_ISWRITEABLE(a)) {
        PyErr_Format(PyExc_ValueError, "%s: is read-only", name);
        return NULL;
    }
    return a;
}

PyArrayObject *arr_want(PyObject *o, const char *name, int type, int nd, int access) {
    PyArrayObject *a = arr_kind(o, name, type, nd, access);
    if (a && !PyArray_IS_C_CONTIGUOUS(a)) {
        PyErr_Format(PyExc_ValueError, "%s: must be C-contiguous (numpy.ascontiguousarray)", name);
        return NULL;
    }
    return a;
}

PyArrayObject *arr_rows(PyObject *o, const char *name, int type, int access, size_t *ld) {
    PyArrayObject *a = arr_kind(o, name, type, 2, access);
    if (!a) return NULL;
    const npy_intp rows = PyArray_DIM(a, 0), cols = PyArray_DIM(a, 1), item = PyArray_ITEMSIZE(a);
    *ld = (size_t)cols;
    if (rows == 0 || cols == 0) return a; /* strides of empty arrays mean nothing */
    const npy_intp down = PyArray_STRIDE(a, 0), across = PyArray_STRIDE(a, 1);
    if ((cols > 1 && across != item) || (rows > 1 && (down < cols * item || down % item != 0))) {
        PyErr_Format(PyExc_ValueError, "%s: rows must be contiguous and must not overlap (numpy.ascontiguousarray)",
                     name);
        return NULL;
    }
    if (rows > 1) *ld = (size_t)(down / item);
    return a;
}

static int bad_shape(PyArrayObject *a, const char *name, const char *wanted) {
    PyObject *shape = PyObject_GetAttrString((PyObject *)a, "shape");
    if (shape) {
        PyErr_Format(PyExc_ValueError, "%s: expected shape %s, got %R", name, wanted, shape);
        Py_DECREF(shape);
    }
    return -1;
}

int arr_len(PyArrayObject *a, const char *name, npy_intp n0) {
    if (PyArray_DIM(a, 0) == n0) return 0;
    char text[48];
    PyOS_snprintf(text, sizeof text, "(%lld,)", (long long)n0);
    return bad_shape(a, name, text);
}

int arr_shape2(PyArrayObject *a, const char *name, npy_intp n0, npy_intp n1) {
    if (PyArray_DIM(a, 0) == n0 && PyArray_DIM(a, 1) == n1) return 0;
    char text[64];
    PyOS_snprintf(text, sizeof text, "(%lld, %lld)", (long long)n0, (long long)n1);
    return bad_shape(a, name, text);
}

int arg_count(const char *function, Py_ssize_t given, Py_ssize_t wanted) {
    if (given == wanted) return 0;
    PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments (%zd given)", function, wanted, given);
    return -1;
}

/* An int or anything with __index__ (numpy integers), as a new reference. */
static PyObject *as_index(PyObject *o, const char *name) {
    PyObject *i = PyNumber_Index(o);
    if (!i && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "%s: expected an integer, got %R", name, o);
    }
    return i;
}

int arg_index(PyObject *o, const char *name, long long least, long long most, long long *out) {
    PyObject *i = as_index(o, name);
    if (!i) return -1;
    int overflow = 0;
    *out = PyLong_AsLongLongAndOverflow(i, &overflow);
    if (overflow || *out < least || *out > most)
        PyErr_Format(PyExc_ValueError, "%s: expected %lld to %lld, got %S", name, least, most, i);
    Py_DECREF(i);
    return PyErr_Occurred() ? -1 : 0;
}

int arg_u64(PyObject *o, const char *name, uint64_t *out) {
    PyObject *i = as_index(o, name);
    if (!i) return -1;
    *out = PyLong_AsUnsignedLongLong(i);
    if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_OverflowError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "%s: expected 0 to 2**64 - 1, got %S", name, i);
    }
    Py_DECREF(i);
    return PyErr_Occurred() ? -1 : 0;
}

int arg_double(PyObject *o, const char *name, double *out) {
    *out = PyFloat_AsDouble(o);
    if (*out != -1.0 || !PyErr_Occurred()) return 0;
    if (PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "%s: expected a number, got %R", name, o);
    } else if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "%s: too large for a float64", name);
    }
    return -1;
}
