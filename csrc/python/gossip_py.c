/* csrc/python/gossip_py.c */
#include "arrays.h"
#include "families.h"

PyMethodDef cg_gossip_methods[] = {
    {0},
};
