/* csrc/python/address.h -- the arguments of every random function. 0, or -1 with an exception. */
#ifndef CG_PY_ADDRESS_H
#define CG_PY_ADDRESS_H
#include <Python.h>

#include "../base/philox.h"

/* args[0..3]: seed, purpose, node, round. */
int arg_address(PyObject *const *args, cg_address *at);
/* args[0..1]: first, n, a range of the words of one address. */
int arg_words(PyObject *const *args, long long *first, long long *n);
#endif
