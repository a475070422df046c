/* cuda/dlpack_py.c -- DLPack capsules opened: what a tensor says of itself, and an owner that gives it back.
 *
 * The layout is DLPack 1.x (dmlc/dlpack, include/dlpack/dlpack.h); both kinds of capsule are taken, "dltensor" and
 * "dltensor_versioned". A capsule is opened once: it is renamed to "used_..." and its deleter is called when the owner
 * goes. Nothing here touches a device. */
#include "bind.h"

#include <string.h>

typedef struct dl_tensor {
    void *data;
    int32_t device_type, device_id;
    int32_t ndim;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *shape, *strides; /* in elements; strides NULL: contiguous */
    uint64_t byte_offset;
} dl_tensor;

typedef struct dl_managed {
    dl_tensor tensor;
    void *context;
    void (*deleter)(struct dl_managed *);
} dl_managed;

typedef struct dl_versioned {
    uint32_t major, minor;
    void *context;
    void (*deleter)(struct dl_versioned *);
    uint64_t flags; /* bit 0: read-only */
    dl_tensor tensor;
} dl_versioned;

static const char PLAIN[] = "dltensor", VERSIONED[] = "dltensor_versioned";
static const char USED_PLAIN[] = "used_dltensor", USED_VERSIONED[] = "used_dltensor_versioned";
static const char OWNER_PLAIN[] = "collegium.dltensor", OWNER_VERSIONED[] = "collegium.dltensor_versioned";

/* A deleter may run Python code: an exception on its way must not meet it. */
static void delete_plain(PyObject *owner) {
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    dl_managed *const m = PyCapsule_GetPointer(owner, OWNER_PLAIN);
    if (m->deleter) m->deleter(m);
    PyErr_Restore(type, value, trace);
}

static void delete_versioned(PyObject *owner) {
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    dl_versioned *const m = PyCapsule_GetPointer(owner, OWNER_VERSIONED);
    if (m->deleter) m->deleter(m);
    PyErr_Restore(type, value, trace);
}

static PyObject *tuple_of(const int64_t *values, int32_t n) {
    PyObject *const t = PyTuple_New(n);
    for (int32_t i = 0; t && i < n; i++) {
        PyObject *const v = PyLong_FromLongLong(values[i]);
        if (!v || PyTuple_SetItem(t, i, v) < 0) { /* steals v either way */
            Py_DECREF(t);
            return NULL;
        }
    }
    return t;
}

/* (address, device type, device, type code, bits, lanes, shape, strides or None, read-only, owner) */
static PyObject *describe(const dl_tensor *t, int readonly, PyObject *owner) {
    if (t->ndim < 0 || (t->ndim > 0 && !t->shape)) {
        PyErr_Format(PyExc_BufferError, "DLPack capsule: %d dimensions without a shape", (int)t->ndim);
        return NULL;
    }
    PyObject *const shape = tuple_of(t->shape, t->ndim);
    PyObject *const strides = t->strides ? tuple_of(t->strides, t->ndim) : Py_NewRef(Py_None);
    if (!shape || !strides) {
        Py_XDECREF(shape);
        Py_XDECREF(strides);
        return NULL;
    }
    const unsigned long long at = (unsigned long long)(uintptr_t)t->data + t->byte_offset;
    return Py_BuildValue("(KiiiiiNNOO)", at, (int)t->device_type, (int)t->device_id, (int)t->code, (int)t->bits,
                         (int)t->lanes, shape, strides, readonly ? Py_True : Py_False, owner);
}

static PyObject *open_plain(PyObject *capsule) {
    dl_managed *const m = PyCapsule_GetPointer(capsule, PLAIN);
    PyObject *const owner = m ? PyCapsule_New(m, OWNER_PLAIN, NULL) : NULL;
    if (!owner) return NULL;
    PyObject *result = NULL;
    if (PyCapsule_SetName(capsule, USED_PLAIN) == 0 && PyCapsule_SetDestructor(owner, delete_plain) == 0)
        result = describe(&m->tensor, 0, owner);
    Py_DECREF(owner); /* the result holds it, or the tensor goes back now */
    return result;
}

static PyObject *open_versioned(PyObject *capsule) {
    dl_versioned *const m = PyCapsule_GetPointer(capsule, VERSIONED);
    PyObject *const owner = m ? PyCapsule_New(m, OWNER_VERSIONED, NULL) : NULL;
    if (!owner) return NULL;
    PyObject *result = NULL;
    if (PyCapsule_SetName(capsule, USED_VERSIONED) == 0 && PyCapsule_SetDestructor(owner, delete_versioned) == 0) {
        if (m->major != 1) /* of another major version only the place of the deleter is known */
            PyErr_Format(PyExc_BufferError, "DLPack capsule: expected version 1, got %u.%u", m->major, m->minor);
        else
            result = describe(&m->tensor, (int)(m->flags & 1), owner);
    }
    Py_DECREF(owner);
    return result;
}

static PyObject *py_dlpack_open(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    (void)module;
    if (nargs != 1) return PyErr_Format(PyExc_TypeError, "dlpack_open() takes 1 argument (%zd given)", nargs);
    PyObject *const capsule = args[0];
    if (!PyCapsule_CheckExact(capsule))
        return PyErr_Format(PyExc_TypeError, "expected a DLPack capsule, got %R", (PyObject *)Py_TYPE(capsule));
    if (PyCapsule_IsValid(capsule, PLAIN)) return open_plain(capsule);
    if (PyCapsule_IsValid(capsule, VERSIONED)) return open_versioned(capsule);
    const char *const name = PyCapsule_GetName(capsule);
    if (!name && PyErr_Occurred()) return NULL;
    if (name && strncmp(name, "used_", 5) == 0)
        return PyErr_Format(PyExc_ValueError, "expected a DLPack capsule, got one that was opened before");
    return PyErr_Format(PyExc_ValueError, "expected a DLPack capsule, got one named %s", name ? name : "(none)");
}

PyMethodDef cg_cuda_dlpack_methods[] = {
    CG_FASTCALL(dlpack_open, "(capsule, /)"),
    {0},
};
