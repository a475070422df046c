/* csrc/python/local_py.c */
#include "arrays.h"
#include "families.h"

PyMethodDef cg_local_methods[] = {
    {0},
};
