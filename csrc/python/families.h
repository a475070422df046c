/* csrc/python/families.h -- each <family>_py.c gives the module one table of functions. */
#ifndef CG_PY_FAMILIES_H
#define CG_PY_FAMILIES_H
#include <Python.h>

extern PyMethodDef cg_base_methods[];
extern PyMethodDef cg_aggregate_methods[];
extern PyMethodDef cg_gossip_methods[];
extern PyMethodDef cg_local_methods[];
extern PyMethodDef cg_mf_methods[];
extern PyMethodDef cg_noise_methods[];
/* The cache is an object: a type. 0, or -1 with an exception. */
int cg_cache_add_type(PyObject *module);
#endif
