/* cuda/dlpack_py.c -- DLPack capsules opened and made: what a tensor says of itself, and an owner that gives it back.
 *
 * The layout is DLPack 1.x (dmlc/dlpack, include/dlpack/dlpack.h); both kinds of capsule are taken, "dltensor" and
 * "dltensor_versioned". A capsule is opened once: it is renamed to "used_..." and its deleter is called when the owner
 * goes. Nothing here touches a device. */
#include "bind.h"

#include <stdlib.h>
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

/* ---- made ---- */

enum { KDL_CUDA = 2, MOST_DIMENSIONS = 8 };

typedef struct lent { /* a tensor of ours in somebody's hands */
    dl_managed managed;
    int64_t shape[MOST_DIMENSIONS], strides[MOST_DIMENSIONS];
    PyObject *owner;
} lent;

/* May be called by a thread of another library, without the GIL. */
static void returned(dl_managed *m) {
    if (!Py_IsInitialized()) return; /* the interpreter is gone, and the memory with it */
    lent *const l = m->context;
    const PyGILState_STATE gil = PyGILState_Ensure();
    Py_DECREF(l->owner);
    PyGILState_Release(gil);
    free(l);
}

/* A capsule that nobody opened gives the tensor back itself. */
static void forget(PyObject *capsule) {
    if (!PyCapsule_IsValid(capsule, PLAIN)) return;
    dl_managed *const m = PyCapsule_GetPointer(capsule, PLAIN);
    m->deleter(m);
}

/* `n` numbers of a tuple into out; -1 with an exception where it is no such tuple. */
static int numbers_of(PyObject *tuple, Py_ssize_t n, int64_t *out) {
    if (!PyTuple_Check(tuple) || PyTuple_Size(tuple) != n) {
        PyErr_SetString(PyExc_TypeError, "expected tuples of one length");
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        out[i] = PyLong_AsLongLong(PyTuple_GetItem(tuple, i));
        if (out[i] == -1 && PyErr_Occurred()) return -1;
    }
    return 0;
}

static PyObject *py_dlpack_make(PyObject *module, PyObject *const *args, Py_ssize_t nargs) {
    (void)module;
    int device, code, bits;
    void *at;
    if (nargs != 7) return PyErr_Format(PyExc_TypeError, "dlpack_make() takes 7 arguments (%zd given)", nargs);
    if (cg_bind("dlpack_make", args, 4, "piii", &at, &device, &code, &bits) < 0) return NULL;
    const Py_ssize_t ndim = PyTuple_Check(args[4]) ? PyTuple_Size(args[4]) : -1;
    if (ndim < 0 || ndim > MOST_DIMENSIONS)
        return PyErr_Format(PyExc_ValueError, "shape: expected 0 to %d dimensions, got %zd", MOST_DIMENSIONS, ndim);
    lent *const l = malloc(sizeof *l);
    if (!l) return PyErr_NoMemory();
    if (numbers_of(args[4], ndim, l->shape) < 0 || numbers_of(args[5], ndim, l->strides) < 0) {
        free(l);
        return NULL;
    }
    l->managed = (dl_managed){
        {at, KDL_CUDA, device, (int32_t)ndim, (uint8_t)code, (uint8_t)bits, 1, l->shape, l->strides, 0}, l, returned};
    l->owner = Py_NewRef(args[6]);
    PyObject *const capsule = PyCapsule_New(&l->managed, PLAIN, forget);
    if (!capsule) {
        Py_DECREF(l->owner);
        free(l);
    }
    return capsule;
}

PyMethodDef cg_cuda_dlpack_methods[] = {
    CG_FASTCALL(dlpack_make, "(address, device, code, bits, shape, strides, owner, /)"),
    CG_FASTCALL(dlpack_open, "(capsule, /)"),
    {0},
};
