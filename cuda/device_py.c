/* cuda/device_py.c -- bindings: devices, memory, streams. */
#include "bind.h"

#include "device.h"
#include <stdlib.h>

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

static PyObject *py_describe(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device;
    cg_cuda_about a;
    cg_err err;
    if (cg_bind("describe", args, nargs, "i", &device) < 0) return NULL;
    if (cg_cuda_describe(device, &a, &err)) return cg_bind_raise(module, &err);
    return Py_BuildValue("(siiinn)", a.name, a.major, a.minor, a.multiprocessors, (Py_ssize_t)a.shared_bytes,
                         (Py_ssize_t)a.memory_bytes);
}

static PyObject *py_memory(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device;
    size_t left, total;
    cg_err err;
    if (cg_bind("memory", args, nargs, "i", &device) < 0) return NULL;
    if (cg_cuda_memory(device, &left, &total, &err)) return cg_bind_raise(module, &err);
    return Py_BuildValue("(nn)", (Py_ssize_t)left, (Py_ssize_t)total);
}

/* ---- memory, owned by a capsule ---- */

static const char OWNER[] = "collegium.cuda.memory";

typedef struct memory {
    int device;
    void *stream, *at;
} memory;

static void give_back(PyObject *capsule) {
    memory *const m = PyCapsule_GetPointer(capsule, OWNER);
    cg_err err; /* nobody to tell: at the end of a process the driver may be gone already */
    (void)cg_cuda_free(m->device, m->stream, m->at, &err);
    free(m);
}

static PyObject *py_alloc(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device;
    void *stream;
    size_t bytes;
    if (cg_bind("alloc", args, nargs, "ipz", &device, &stream, &bytes) < 0) return NULL;
    memory *const m = malloc(sizeof *m);
    if (!m) return PyErr_NoMemory();
    m->device = device;
    m->stream = stream;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_cuda_alloc(device, stream, bytes, &m->at, &err);
    Py_END_ALLOW_THREADS
    if (rc) {
        free(m);
        return cg_bind_raise(module, &err);
    }
    PyObject *const owner = PyCapsule_New(m, OWNER, give_back);
    if (!owner) {
        (void)cg_cuda_free(device, stream, m->at, &err);
        free(m);
        return NULL;
    }
    return Py_BuildValue("(KN)", (unsigned long long)(uintptr_t)m->at, owner);
}

/* The three copies have the same arguments. */
typedef int copy_fn(int, void *, void *, size_t, const void *, size_t, size_t, size_t, cg_err *);

static PyObject *copied(PyObject *module, PyObject *const *args, Py_ssize_t nargs, const char *name, copy_fn *copy) {
    int device, rc;
    void *stream, *to, *from;
    size_t to_pitch, from_pitch, width, rows;
    if (cg_bind(name, args, nargs, "ippzpzzz", &device, &stream, &to, &to_pitch, &from, &from_pitch, &width, &rows) < 0)
        return NULL;
    cg_err err;
    Py_BEGIN_ALLOW_THREADS
        rc = copy(device, stream, to, to_pitch, from, from_pitch, width, rows, &err);
    Py_END_ALLOW_THREADS
    return cg_bind_done(module, rc, &err);
}

static PyObject *py_copy_in(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    return copied(module, args, nargs, "copy_in", cg_cuda_copy_in);
}

static PyObject *py_copy(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    return copied(module, args, nargs, "copy", cg_cuda_copy);
}

static PyObject *py_copy_out_sync(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    return copied(module, args, nargs, "copy_out_sync", cg_cuda_copy_out_sync);
}

static PyObject *py_zero(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device;
    void *stream, *to;
    size_t bytes;
    cg_err err;
    if (cg_bind("zero", args, nargs, "ippz", &device, &stream, &to, &bytes) < 0) return NULL;
    return cg_bind_done(module, cg_cuda_zero(device, stream, to, bytes, &err), &err);
}

/* ---- streams ---- */

static PyObject *py_stream_wait(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device;
    void *stream, *other;
    cg_err err;
    if (cg_bind("stream_wait", args, nargs, "ipp", &device, &stream, &other) < 0) return NULL;
    return cg_bind_done(module, cg_cuda_stream_wait(device, stream, other, &err), &err);
}

static PyObject *py_stream_sync(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    int device, rc;
    void *stream;
    cg_err err;
    if (cg_bind("stream_sync", args, nargs, "ip", &device, &stream) < 0) return NULL;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_cuda_stream_sync(device, stream, &err);
    Py_END_ALLOW_THREADS
    return cg_bind_done(module, rc, &err);
}

PyMethodDef cg_cuda_device_methods[] = {
    {"device_count", py_device_count, METH_NOARGS, "device_count()\n--\n\n"},
    {"runtime_version", py_runtime_version, METH_NOARGS, "runtime_version()\n--\n\n"},
    CG_FASTCALL(describe, "(device, /)"),
    CG_FASTCALL(memory, "(device, /)"),
    CG_FASTCALL(alloc, "(device, stream, bytes, /)"),
    CG_FASTCALL(copy_in, "(device, stream, to, to_pitch, from_host, from_pitch, width, rows, /)"),
    CG_FASTCALL(copy, "(device, stream, to, to_pitch, from_, from_pitch, width, rows, /)"),
    CG_FASTCALL(copy_out_sync, "(device, stream, to_host, to_pitch, from_, from_pitch, width, rows, /)"),
    CG_FASTCALL(zero, "(device, stream, to, bytes, /)"),
    CG_FASTCALL(stream_wait, "(device, stream, other, /)"),
    CG_FASTCALL(stream_sync, "(device, stream, /)"),
    {0},
};
