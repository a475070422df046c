#include "arrays.h" /* first: Python.h sets the feature macros */

#include "address.h"

int arg_address(PyObject *const *args, cg_address *at) {
    long long purpose, node, round;
    if (arg_u64(args[0], "seed", &at->seed) < 0 || arg_index(args[1], "purpose", 0, 0xFFFF, &purpose) < 0 ||
        arg_index(args[2], "node", 0, UINT32_MAX, &node) < 0 || arg_index(args[3], "round", 0, UINT32_MAX, &round) < 0)
        return -1;
    at->purpose = (uint32_t)purpose;
    at->node = (uint32_t)node;
    at->round = (uint32_t)round;
    return 0;
}

int arg_words(PyObject *const *args, long long *first, long long *n) {
    const long long words = (long long)CG_ADDRESS_WORDS;
    if (arg_index(args[0], "first", 0, words, first) < 0) return -1;
    return arg_index(args[1], "n", 0, words - *first, n);
}
