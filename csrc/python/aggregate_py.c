/* csrc/python/aggregate_py.c */
#include "arrays.h"
#include "families.h"

PyMethodDef cg_aggregate_methods[] = {
    {0},
};
