#include "bind.h"
#include <limits.h>
#include <stdarg.h>
#include <string.h>

static int one(PyObject *o, char kind, va_list *out) {
    if (kind == 'p' && o == Py_None) {
        *va_arg(*out, void **) = NULL;
        return 0;
    }
    if (kind == 'd') {
        const double v = PyFloat_AsDouble(o);
        if (v == -1.0 && PyErr_Occurred()) return -1;
        *va_arg(*out, double *) = v;
        return 0;
    }
    if (kind == 'i') {
        const long v = PyLong_AsLong(o);
        if (v == -1 && PyErr_Occurred()) return -1;
        if (v < INT_MIN || v > INT_MAX) {
            PyErr_Format(PyExc_OverflowError, "expected an int of 32 bits, got %ld", v);
            return -1;
        }
        *va_arg(*out, int *) = (int)v;
        return 0;
    }
    const unsigned long long v = PyLong_AsUnsignedLongLong(o);
    if (v == ULLONG_MAX && PyErr_Occurred()) return -1;
    if (kind == 'z')
        *va_arg(*out, size_t *) = (size_t)v;
    else if (kind == 'u')
        *va_arg(*out, uint64_t *) = (uint64_t)v;
    else
        *va_arg(*out, void **) = (void *)(uintptr_t)v;
    return 0;
}

int cg_bind(const char *function, PyObject *const *args, Py_ssize_t nargs, const char *format, ...) {
    const Py_ssize_t wanted = (Py_ssize_t)strlen(format);
    if (nargs != wanted) {
        PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments (%zd given)", function, wanted, nargs);
        return -1;
    }
    va_list out;
    va_start(out, format);
    int rc = 0;
    for (Py_ssize_t i = 0; i < nargs && rc == 0; i++) rc = one(args[i], format[i], &out);
    va_end(out);
    return rc;
}

PyObject *cg_bind_raise(PyObject *module, const cg_err *err) {
    PyObject *type = NULL;
    if (err->code == CG_ECUDA)
        type = PyObject_GetAttrString(module, "CudaError");
    else
        type = Py_NewRef(err->code == CG_ENOMEM ? PyExc_MemoryError : PyExc_ValueError);
    if (type) PyErr_SetString(type, err->text);
    Py_XDECREF(type);
    return NULL;
}

PyObject *cg_bind_done(PyObject *module, int rc, const cg_err *err) {
    if (rc != CG_OK) return cg_bind_raise(module, err);
    Py_RETURN_NONE;
}
