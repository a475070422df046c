/* csrc/python/module.c -- collegium._core: multi-phase init, state per module, the functions of every family. */
#define CG_MAIN_MODULE /* this file owns the NumPy API table, the others declare it extern */
#include "arrays.h"
#include "families.h"

#include "../base/philox.h"

enum { E_TIMEOUT, E_PEER, E_CUDA, E_COUNT };

typedef struct core_state {
    PyObject *exc[E_COUNT];
} core_state;

PyObject *raise_err(PyObject *module, const cg_err *err) {
    PyObject **exc = ((core_state *)PyModule_GetState(module))->exc;
    PyObject *type = PyExc_ValueError;
    switch (err->code) {
    case CG_ENOMEM: type = PyExc_MemoryError; break;
    case CG_ETIMEOUT: type = exc[E_TIMEOUT]; break;
    case CG_EPEER: type = exc[E_PEER]; break;
    case CG_ECUDA: type = exc[E_CUDA]; break;
    default: break;
    }
    PyErr_SetString(type, err->text);
    return NULL;
}

static const struct {
    const char *name;
    long value;
} purposes[] = {
    {"FOR_COIN", CG_FOR_COIN},         {"FOR_SAMPLE", CG_FOR_SAMPLE},       {"FOR_INIT", CG_FOR_INIT},
    {"FOR_TOPOLOGY", CG_FOR_TOPOLOGY}, {"FOR_PARTITION", CG_FOR_PARTITION}, {"FOR_USER", CG_FOR_USER},
    {"FOR_EVAL", CG_FOR_EVAL},         {"FOR_TORCH", CG_FOR_TORCH},         {"FOR_NOISE", CG_FOR_NOISE},
};

static int core_exec(PyObject *module) {
    static const char *const name[E_COUNT] = {"collegium.Timeout", "collegium.PeerLost", "collegium.CudaError"};
    static const char *const doc[E_COUNT] = {"A peer or a device did not answer in time.",
                                             "A process of the group is gone.", "A CUDA call failed."};
    PyObject *const base[E_COUNT] = {PyExc_TimeoutError, PyExc_ConnectionError, PyExc_RuntimeError};
    PyMethodDef *const families[] = {cg_base_methods,  cg_aggregate_methods, cg_gossip_methods,
                                     cg_local_methods, cg_mf_methods,        cg_noise_methods};
    core_state *state = PyModule_GetState(module);
    if (_import_array() < 0) return -1;
    for (int i = 0; i < E_COUNT; i++) {
        state->exc[i] = PyErr_NewExceptionWithDoc(name[i], doc[i], base[i], NULL);
        if (!state->exc[i] || PyModule_AddObjectRef(module, name[i] + sizeof "collegium", state->exc[i]) < 0) return -1;
    }
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (PyModule_AddFunctions(module, families[i]) < 0) return -1;
    for (size_t i = 0; i < sizeof purposes / sizeof *purposes; i++)
        if (PyModule_AddIntConstant(module, purposes[i].name, purposes[i].value) < 0) return -1;
    return cg_cache_add_type(module);
}

static int core_traverse(PyObject *module, visitproc visit, void *arg) {
    core_state *state = PyModule_GetState(module);
    for (int i = 0; state && i < E_COUNT; i++) Py_VISIT(state->exc[i]);
    return 0;
}

static int core_clear(PyObject *module) {
    core_state *state = PyModule_GetState(module);
    for (int i = 0; state && i < E_COUNT; i++) Py_CLEAR(state->exc[i]);
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)core_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED}, /* as NumPy */
#endif
    {0, NULL},
};

static PyModuleDef def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "collegium._core",
    .m_doc = "The C core of collegium. Arguments are positional and checked, never converted.",
    .m_size = sizeof(core_state),
    .m_slots = slots,
    .m_traverse = core_traverse,
    .m_clear = core_clear,
};

PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&def); }
