/* cuda/bind.h -- what the bindings of collegium._cuda share.
 *
 * Arguments are numbers: addresses, sizes, strides in elements. Whether an address is a device's, of the right type and
 * long enough is checked where names and shapes are known, in collegium.cuda; nobody else calls these functions. */
#ifndef CG_CUDA_BIND_H
#define CG_CUDA_BIND_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../csrc/base/err.h"
#include <stddef.h>
#include <stdint.h>

/* Reads all positional arguments, one format character each: i int, z size_t, u uint64_t, d double, p void *
 * (None: NULL). 0, or
 * -1 with TypeError or OverflowError. */
int cg_bind(const char *function, PyObject *const *args, Py_ssize_t nargs, const char *format, ...);
/* Raises the exception a cg_err stands for; returns NULL. */
PyObject *cg_bind_raise(PyObject *module, const cg_err *err);
/* None, or the exception of a call that returned rc. */
PyObject *cg_bind_done(PyObject *module, int rc, const cg_err *err);

#define CG_FASTCALL(name, signature)                                                                                   \
    {#name, (PyCFunction)(void (*)(void))py_##name, METH_FASTCALL, #name signature "\n--\n\n"}

extern PyMethodDef cg_cuda_device_methods[], cg_cuda_dlpack_methods[], cg_cuda_kernel_methods[],
    cg_cuda_library_methods[];
#endif
