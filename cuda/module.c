/* cuda/module.c -- collegium._cuda: the CUDA back end. Imports without a driver; device_count() says what there is. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "device.h"

static PyObject *py_device_count(PyObject *module, PyObject *none) {
    (void)module, (void)none;
    int count, code;
    char text[256];
    Py_BEGIN_ALLOW_THREADS /* the first call starts the driver: tenths of a second */
        count = cg_cuda_device_count(&code, text, sizeof text);
    Py_END_ALLOW_THREADS
    return Py_BuildValue("(iis)", count, code, text);
}

static PyObject *py_runtime_version(PyObject *module, PyObject *none) {
    (void)module, (void)none;
    return PyLong_FromLong(cg_cuda_runtime_version());
}

static PyMethodDef methods[] = {
    {"device_count", py_device_count, METH_NOARGS, "device_count()\n--\n\n"},
    {"runtime_version", py_runtime_version, METH_NOARGS, "runtime_version()\n--\n\n"},
    {0},
};

static PyModuleDef_Slot slots[] = {
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED}, /* as NumPy */
#endif
    {0, NULL},
};

static PyModuleDef def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "collegium._cuda",
    .m_doc = "The CUDA back end of collegium.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__cuda(void);
PyMODINIT_FUNC PyInit__cuda(void) { return PyModuleDef_Init(&def); }
