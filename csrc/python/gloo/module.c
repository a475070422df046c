/* csrc/python/gloo/module.c -- collegium._gloo: gloo's process groups for Python. Apart from collegium._core, because
 * importing it loads libgloo, which may be absent. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../../net/gloo.h"

static PyObject *py_version(PyObject *module, PyObject *none) {
    (void)module, (void)none;
    return PyUnicode_FromString(cg_gloo_version());
}

static PyMethodDef methods[] = {
    {"version", py_version, METH_NOARGS, "version()\n--\n\n"},
    {0},
};

static PyModuleDef_Slot slots[] = {
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED}, /* one group table a process */
#endif
    {0, NULL},
};

static PyModuleDef def = {
    PyModuleDef_HEAD_INIT, .m_name = "collegium._gloo", .m_doc = "Process groups over gloo.", .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__gloo(void);
PyMODINIT_FUNC PyInit__gloo(void) { return PyModuleDef_Init(&def); }
