/* cuda/module.c -- collegium._cuda: the CUDA back end. Imports without a driver; device_count() says what there is. */
#include "bind.h"

static int cuda_exec(PyObject *module) {
    PyMethodDef *const families[] = {cg_cuda_device_methods, cg_cuda_dlpack_methods, cg_cuda_kernel_methods,
                                     cg_cuda_library_methods};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (PyModule_AddFunctions(module, families[i]) < 0) return -1;
    PyObject *const core = PyImport_ImportModule("collegium._core"); /* one CudaError for both extensions */
    PyObject *const error = core ? PyObject_GetAttrString(core, "CudaError") : NULL;
    const int rc = error ? PyModule_AddObjectRef(module, "CudaError", error) : -1;
    Py_XDECREF(error);
    Py_XDECREF(core);
    return rc;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)cuda_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED}, /* as NumPy */
#endif
    {0, NULL},
};

static PyModuleDef def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "collegium._cuda",
    .m_doc = "The CUDA back end of collegium. Arguments are addresses and sizes; collegium.cuda checks them.",
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__cuda(void);
PyMODINIT_FUNC PyInit__cuda(void) { return PyModuleDef_Init(&def); }
