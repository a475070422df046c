/* csrc/python/cache_py.c -- the type _core.Cache, which rag.ProximityCache extends.
 *
 * `lookup` is the whole call path of a lookup: one METH_FASTCALL from Python to the kernel, None on a miss. It keeps
 * the GIL while a lookup is expected to be short: giving it up in front of a computing thread can cost the switch
 * interval, 5 ms, for a scan of 1 us. Defaults, conversions and rare errors are Python's (methods with an underscore).
 */
#include "arrays.h" /* first: Python.h sets the feature macros */

#include "../base/buf.h"
#include "../cache/bucket.h"
#include "../cache/cache.h"
#include "../cache/lsh.h"
#include "../cache/state.h"
#include "families.h"
#include <math.h>

typedef struct cache_object {
    PyObject_HEAD cg_cache *cache;
    size_t dim, dpad;
    int exact_is_certain; /* distance 0 is the same query */
    int miss_on_nan;
    PyObject *spaces;  /* dict: (namespace, filter) -> int */
    PyTypeObject *hit; /* a tuple type */
    PyObject *rule;    /* object with threshold(cache, query, namespace), or NULL */
} cache_object;

enum { STACK_FLOATS = 4096, STACK_IDS = 128, KEEP_GIL_NS = 50000 };

static PyObject *fail(const cg_err *err) {
    PyErr_SetString(err->code == CG_ENOMEM ? PyExc_MemoryError : PyExc_ValueError, err->text);
    return NULL;
}

static cache_object *alive(PyObject *o) {
    cache_object *const self = (cache_object *)o;
    if (self->cache) return self;
    PyErr_SetString(PyExc_RuntimeError, "the cache is not initialised: call __init__ first");
    return NULL;
}

/* ---- arguments ---- */

/* Positional and keyword arguments into out[0 ... n-1], borrowed; NULL where absent. The first must be there. */
static int parse(const char *function, const char *const *names, Py_ssize_t n, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames, PyObject **out) {
    if (nargs > n) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %zd arguments (%zd given)", function, n, nargs);
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) out[i] = i < nargs ? args[i] : NULL;
    const Py_ssize_t keywords = kwnames ? PyTuple_Size(kwnames) : 0;
    for (Py_ssize_t i = 0; i < keywords; i++) {
        PyObject *const name = PyTuple_GetItem(kwnames, i);
        Py_ssize_t j = 0;
        while (j < n && PyUnicode_CompareWithASCIIString(name, names[j]) != 0) j++;
        if (j == n || out[j]) {
            PyErr_Format(PyExc_TypeError,
                         j == n ? "%s() got an unexpected keyword argument %R"
                                : "%s() got several values for argument %R",
                         function, name);
            return -1;
        }
        out[j] = args[nargs + i];
    }
    if (out[0]) return 0;
    PyErr_Format(PyExc_TypeError, "%s() misses the argument '%s'", function, names[0]);
    return -1;
}

static int is_none(PyObject *o) { return !o || o == Py_None; }

/* The row as it is, or what Python's _query makes of it; a new reference. */
static PyArrayObject *query_array(cache_object *self, PyObject *q) {
    if (PyArray_Check(q)) {
        PyArrayObject *const a = (PyArrayObject *)q;
        if (PyArray_TYPE(a) == NPY_FLOAT32 && PyArray_NDIM(a) == 1 && (size_t)PyArray_DIM(a, 0) == self->dim &&
            PyArray_IS_C_CONTIGUOUS(a) && PyArray_ISALIGNED(a) && PyArray_ISNOTSWAPPED(a))
            return (PyArrayObject *)Py_NewRef(q);
    }
    PyObject *const made = PyObject_CallMethod((PyObject *)self, "_query", "O", q);
    PyArrayObject *const a = made ? arr_want(made, "q", NPY_FLOAT32, 1, ARR_READ) : NULL;
    if (a && arr_len(a, "q", (npy_intp)self->dim) == 0) return a;
    Py_XDECREF(made);
    return NULL;
}

/* The number of (namespace, filter): 0 without either; *known = 0 where nothing was ever stored under it. */
static int space_of(cache_object *self, PyObject *space, PyObject *filter, uint32_t *number, int *known) {
    *number = 0;
    *known = 1;
    if (is_none(space) && is_none(filter)) return 0;
    PyObject *const key = PyTuple_Pack(2, space ? space : Py_None, filter ? filter : Py_None);
    PyObject *const found = key ? PyDict_GetItemWithError(self->spaces, key) : NULL;
    Py_XDECREF(key);
    if (!found) {
        *known = 0;
        return PyErr_Occurred() ? -1 : 0;
    }
    const unsigned long n = PyLong_AsUnsignedLong(found);
    if (PyErr_Occurred()) return -1;
    *number = (uint32_t)n;
    return 0;
}

static int tolerance_of(PyObject *o, cg_metric metric, double *out) {
    if (arg_double(o, "tolerance", out) < 0) return -1;
    if (!isnan(*out) && (metric == CG_IP || *out >= 0.0)) return 0;
    PyErr_Format(PyExc_ValueError, "tolerance: expected %s, got %R", metric == CG_IP ? "a number" : "at least 0", o);
    return -1;
}

/* Time to live in nanoseconds: an int, or None for ever. */
static int ttl_of(PyObject *o, int64_t *ttl) {
    long long ns = CG_NEVER;
    if (o != Py_None && arg_index(o, "ttl", 1, INT64_MAX, &ns) < 0) return -1;
    *ttl = ns;
    return 0;
}

/* ---- a query in aligned memory ---- */

typedef struct query {
    float *q, *owned;
} query;

/* 1 good, 0 never matches (the caller says what that means), -1 with an exception. */
static int take_query(cache_object *self, PyObject *o, float *stack, int quiet, query *out) {
    PyArrayObject *const a = query_array(self, o);
    out->owned = NULL;
    out->q = stack;
    if (!a) return -1;
    if (self->dpad > STACK_FLOATS) {
        out->q = out->owned = cg_buf_alloc(self->dpad * sizeof(float));
        if (!out->owned) {
            Py_DECREF(a);
            PyErr_NoMemory();
            return -1;
        }
    }
    const cg_query kind = cg_cache_prepare(self->cache, PyArray_DATA(a), out->q, quiet);
    Py_DECREF(a);
    if (kind == CG_QUERY_GOOD) return 1;
    if (kind == CG_QUERY_ZERO || self->miss_on_nan) return 0;
    PyErr_SetString(PyExc_ValueError, "q: expected finite values, got NaN or infinity");
    return -1;
}

static void drop_query(query *q) { cg_buf_free(q->owned); }

/* ---- lookup ---- */

static PyObject *new_copy(int type, const void *from, size_t n, size_t item) {
    npy_intp dims[1] = {(npy_intp)n};
    PyObject *const a = PyArray_SimpleNew(1, dims, type);
    if (a && n) memcpy(PyArray_DATA((PyArrayObject *)a), from, n * item);
    return a;
}

static PyObject *make_hit(cache_object *self, const cg_hit *hit, size_t k, const int64_t *ids, const float *distances) {
    const size_t all = hit->count, first = k && k < all ? k : all;
    PyObject *result = NULL, *fields = NULL;
    PyObject *const stored = new_copy(NPY_INT64, ids, all, sizeof *ids);
    PyObject *const served = first == all ? Py_XNewRef(stored) : new_copy(NPY_INT64, ids, first, sizeof *ids);
    PyObject *const found_at =
        hit->measured ? new_copy(NPY_FLOAT32, distances, hit->measured, sizeof *distances) : Py_NewRef(Py_None);
    if (stored && served && found_at)
        fields = Py_BuildValue("((OdKdOOO))", served, (double)hit->distance, (unsigned long long)hit->slot,
                               (double)hit->age * 1e-9,
                               self->exact_is_certain && hit->distance == 0.0f ? Py_True : Py_False, stored, found_at);
    if (fields) { /* tuple.__new__(Hit, (...)): a NamedTuple without a call into Python */
        const newfunc make = (newfunc)PyType_GetSlot(&PyTuple_Type, Py_tp_new);
        result = make(self->hit, fields, NULL);
    }
    Py_XDECREF(fields);
    Py_XDECREF(stored);
    Py_XDECREF(served);
    Py_XDECREF(found_at);
    return result;
}

typedef struct lists {
    int64_t *ids;
    float *distances;
    size_t room;
    void *owned;
} lists;

/* Looks up, with as much room as the hit turns out to need: 1, 0, or -1 with an exception. */
static int look(cache_object *self, const float *q, const cg_ask *ask, cg_hit *hit, lists *to) {
    for (;;) {
        int rc;
        if (cg_cache_expected_ns(self->cache) < KEEP_GIL_NS) {
            rc = cg_cache_lookup(self->cache, q, ask, hit, to->ids, to->distances, to->room);
        } else {
            Py_BEGIN_ALLOW_THREADS
                rc = cg_cache_lookup(self->cache, q, ask, hit, to->ids, to->distances, to->room);
            Py_END_ALLOW_THREADS
        }
        if (!rc || hit->count <= to->room) return rc;
        const size_t room = hit->count, bytes = room * (sizeof *to->ids + sizeof *to->distances);
        PyMem_Free(to->owned);
        to->owned = PyMem_Malloc(bytes);
        if (!to->owned) {
            PyErr_NoMemory();
            return -1;
        }
        *to = (lists){to->owned, (float *)((int64_t *)to->owned + room), room, to->owned};
    }
}

/* A rule's answer: 1 and *tolerance, 0 for "do not serve", -1 with an exception. */
static int ask_rule(cache_object *self, PyObject *q, PyObject *space, double *tolerance) {
    PyObject *const rule = Py_NewRef(self->rule); /* it may be replaced while it runs */
    PyObject *const said = PyObject_CallMethod(rule, "threshold", "OOO", (PyObject *)self, q, space ? space : Py_None);
    Py_DECREF(rule);
    if (!said) return -1;
    const int serve = said != Py_None;
    const int rc = serve ? tolerance_of(said, cg_cache_metric(self->cache), tolerance) : 0;
    Py_DECREF(said);
    return rc < 0 ? -1 : serve;
}

static PyObject *cache_lookup(PyObject *o, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const char *const names[] = {"q", "k", "namespace", "tolerance", "filter"};
    cache_object *const self = alive(o);
    PyObject *in[5];
    if (!self || parse("lookup", names, 5, args, nargs, kwnames, in) < 0) return NULL;
    cg_ask ask = {.tolerance = (double)NAN};
    long long k = 0;
    int serve;
    if (!is_none(in[1]) && arg_index(in[1], "k", 1, INT32_MAX, &k) < 0) return NULL;
    ask.k = (uint32_t)k;
    if (space_of(self, in[2], in[4], &ask.space, &serve) < 0) return NULL;
    if (!is_none(in[3])) {
        if (tolerance_of(in[3], cg_cache_metric(self->cache), &ask.tolerance) < 0) return NULL;
    } else if (self->rule && serve) {
        serve = ask_rule(self, in[0], in[2], &ask.tolerance);
        if (serve < 0) return NULL;
    }

    _Alignas(CG_LINE) float stack[STACK_FLOATS];
    query q;
    const int good = take_query(self, in[0], stack, 0, &q);
    if (good < 0) return NULL;
    PyObject *result = NULL;
    if (good && serve) {
        int64_t ids[STACK_IDS];
        float distances[STACK_IDS];
        lists to = {ids, distances, STACK_IDS, NULL};
        cg_hit hit;
        const int rc = look(self, q.q, &ask, &hit, &to);
        if (rc > 0) result = make_hit(self, &hit, (size_t)k, to.ids, to.distances);
        if (rc == 0) result = Py_NewRef(Py_None);
        PyMem_Free(to.owned);
    } else {
        if (good) cg_cache_count_miss(self->cache);
        result = Py_NewRef(Py_None);
    }
    drop_query(&q);
    return result;
}

static PyObject *cache_nearest(PyObject *o, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const char *const names[] = {"q", "namespace", "filter"};
    cache_object *const self = alive(o);
    PyObject *in[3];
    if (!self || parse("nearest", names, 3, args, nargs, kwnames, in) < 0) return NULL;
    cg_ask ask = {.tolerance = (double)INFINITY, .quiet = 1};
    int known;
    if (space_of(self, in[1], in[2], &ask.space, &known) < 0) return NULL;
    _Alignas(CG_LINE) float stack[STACK_FLOATS];
    query q;
    const int good = take_query(self, in[0], stack, 1, &q);
    if (good < 0) return NULL;
    int64_t ids[STACK_IDS];
    float distances[STACK_IDS];
    lists to = {ids, distances, STACK_IDS, NULL};
    cg_hit hit;
    const int rc = good && known ? look(self, q.q, &ask, &hit, &to) : 0;
    PyMem_Free(to.owned);
    drop_query(&q);
    if (rc < 0) return NULL;
    if (rc == 0) Py_RETURN_NONE;
    return Py_BuildValue("dK", (double)hit.distance, (unsigned long long)hit.slot);
}

/* _lookup_batch(queries, k, space, tolerance or None, found, ids, distances): fills the last three. */
static PyObject *cache_lookup_batch(PyObject *o, PyObject *const *args, Py_ssize_t nargs) {
    cache_object *const self = alive(o);
    long long k, space;
    cg_ask ask = {.tolerance = (double)NAN};
    if (!self || arg_count("_lookup_batch", nargs, 7) < 0 || arg_index(args[1], "k", 1, INT32_MAX, &k) < 0 ||
        arg_index(args[2], "space", 0, UINT32_MAX, &space) < 0 ||
        (args[3] != Py_None && tolerance_of(args[3], cg_cache_metric(self->cache), &ask.tolerance) < 0))
        return NULL;
    ask.k = (uint32_t)k;
    ask.space = (uint32_t)space;
    PyArrayObject *x = arr_want(args[0], "queries", NPY_FLOAT32, 2, ARR_READ);
    PyArrayObject *found = x ? arr_want(args[4], "found", NPY_UINT8, 1, ARR_WRITE) : NULL;
    PyArrayObject *ids = found ? arr_want(args[5], "ids", NPY_INT64, 2, ARR_WRITE) : NULL;
    PyArrayObject *distance = ids ? arr_want(args[6], "distances", NPY_FLOAT32, 1, ARR_WRITE) : NULL;
    if (!distance) return NULL;
    const npy_intp n = PyArray_DIM(x, 0);
    if (arr_shape2(x, "queries", n, (npy_intp)self->dim) < 0 || arr_len(found, "found", n) < 0 ||
        arr_shape2(ids, "ids", n, (npy_intp)k) < 0 || arr_len(distance, "distances", n) < 0)
        return NULL;
    const float *const rows = PyArray_DATA(x);
    uint8_t *const f = PyArray_DATA(found);
    int64_t *const i = PyArray_DATA(ids);
    float *const d = PyArray_DATA(distance);
    cg_err err;
    int rc;
    if ((double)n * cg_cache_expected_ns(self->cache) < KEEP_GIL_NS) {
        rc = cg_cache_lookup_batch(self->cache, (size_t)n, rows, &ask, !self->miss_on_nan, f, i, d, &err);
    } else {
        Py_BEGIN_ALLOW_THREADS
            rc = cg_cache_lookup_batch(self->cache, (size_t)n, rows, &ask, !self->miss_on_nan, f, i, d, &err);
        Py_END_ALLOW_THREADS
    }
    if (rc) return fail(&err);
    Py_RETURN_NONE;
}

/* ---- changes ---- */

/* _insert(q, ids, distances or None, k, tolerance or None, ttl in ns or None, space): the slot, or None where the query
 * can never match. */
static PyObject *cache_insert(PyObject *o, PyObject *const *args, Py_ssize_t nargs) {
    cache_object *const self = alive(o);
    long long k, space;
    cg_new_entry entry = {.tolerance = (double)NAN};
    if (!self || arg_count("_insert", nargs, 7) < 0) return NULL;
    PyArrayObject *ids = arr_want(args[1], "ids", NPY_INT64, 1, ARR_READ), *distances = NULL;
    if (!ids) return NULL;
    if (args[2] != Py_None) {
        distances = arr_want(args[2], "distances", NPY_FLOAT32, 1, ARR_READ);
        if (!distances || arr_len(distances, "distances", PyArray_DIM(ids, 0)) < 0) return NULL;
        entry.distances = PyArray_DATA(distances);
    }
    if (arg_index(args[3], "k", 1, INT32_MAX, &k) < 0 || ttl_of(args[5], &entry.ttl) < 0 ||
        (args[4] != Py_None && tolerance_of(args[4], cg_cache_metric(self->cache), &entry.tolerance) < 0) ||
        arg_index(args[6], "space", 0, UINT32_MAX, &space) < 0)
        return NULL;
    entry.space = (uint32_t)space;
    entry.k = (uint32_t)k;
    entry.count = (size_t)PyArray_DIM(ids, 0);
    entry.ids = PyArray_DATA(ids);
    _Alignas(CG_LINE) float stack[STACK_FLOATS];
    query q;
    const int good = take_query(self, args[0], stack, 0, &q);
    if (good < 0) return NULL;
    uint64_t slot = 0;
    cg_err err;
    const int rc = good ? cg_cache_insert(self->cache, q.q, &entry, &slot, &err) : CG_OK;
    drop_query(&q);
    if (rc) return fail(&err);
    if (!good) Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(slot);
}

static PyObject *cache_remove_ids(PyObject *o, PyObject *sorted) {
    cache_object *const self = alive(o);
    PyArrayObject *const ids = self ? arr_want(sorted, "ids", NPY_INT64, 1, ARR_READ) : NULL;
    if (!ids) return NULL;
    const size_t n = (size_t)PyArray_DIM(ids, 0);
    const int64_t *const p = PyArray_DATA(ids);
    size_t removed;
    Py_BEGIN_ALLOW_THREADS
        removed = cg_cache_remove_ids(self->cache, n, p);
    Py_END_ALLOW_THREADS
    return PyLong_FromSize_t(removed);
}

static PyObject *cache_invalidate(PyObject *o, PyObject *arg) {
    cache_object *const self = alive(o);
    long long slot;
    if (!self || arg_index(arg, "slot", 0, INT64_MAX, &slot) < 0) return NULL;
    return PyBool_FromLong(cg_cache_invalidate(self->cache, (uint64_t)slot));
}

static PyObject *cache_bump(PyObject *o, PyObject *unused) {
    (void)unused;
    cache_object *const self = alive(o);
    return self ? PyLong_FromUnsignedLong(cg_cache_bump(self->cache)) : NULL;
}

/* _stale(vectors, remove): slots of the entries whose lists the new documents change, ascending. */
static PyObject *cache_stale(PyObject *o, PyObject *const *args, Py_ssize_t nargs) {
    cache_object *const self = alive(o);
    if (!self || arg_count("_stale", nargs, 2) < 0) return NULL;
    PyArrayObject *const x = arr_want(args[0], "vectors", NPY_FLOAT32, 2, ARR_READ);
    if (!x || arr_shape2(x, "vectors", PyArray_DIM(x, 0), (npy_intp)self->dim) < 0) return NULL;
    const int remove = PyObject_IsTrue(args[1]);
    if (remove < 0) return NULL;
    const size_t n = (size_t)PyArray_DIM(x, 0), room = cg_cache_size(self->cache);
    uint64_t *const slots = PyMem_Malloc((room + 1) * sizeof *slots);
    if (!slots) return PyErr_NoMemory();
    const float *const rows = PyArray_DATA(x);
    size_t count;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_cache_stale(self->cache, n, rows, remove, slots, room, &count, &err);
    Py_END_ALLOW_THREADS
    PyObject *const result = rc ? fail(&err) : new_copy(NPY_INT64, slots, count < room ? count : room, sizeof *slots);
    PyMem_Free(slots);
    return result;
}

/* ---- what is in it ---- */

static Py_ssize_t cache_length(PyObject *o) {
    cache_object *const self = alive(o);
    return self ? (Py_ssize_t)cg_cache_size(self->cache) : -1;
}

static int put(PyObject *dict, const char *name, PyObject *value) {
    const int rc = value ? PyDict_SetItemString(dict, name, value) : -1;
    Py_XDECREF(value);
    return rc;
}

static PyObject *cache_stats(PyObject *o, PyObject *unused) {
    (void)unused;
    static const char *const names[] = {
#define X(name) #name,
        CG_CACHE_COUNTERS(X)
#undef X
    };
    cache_object *const self = alive(o);
    PyObject *const dict = self ? PyDict_New() : NULL;
    if (!dict) return NULL;
    cg_cache_stats s;
    cg_cache_read_stats(self->cache, &s);
    int rc = 0;
    for (int i = 0; i < CG_COUNTERS && rc == 0; i++)
        rc = put(dict, names[i], PyLong_FromUnsignedLongLong(s.counters[i]));
    if (rc < 0 || put(dict, "entries", PyLong_FromSize_t(s.entries)) < 0 ||
        put(dict, "buckets", PyLong_FromSize_t(s.buckets)) < 0 || put(dict, "bytes", PyLong_FromSize_t(s.bytes)) < 0 ||
        put(dict, "p50_us", PyFloat_FromDouble(s.p50_ns * 1e-3)) < 0 ||
        put(dict, "p99_us", PyFloat_FromDouble(s.p99_ns * 1e-3)) < 0) {
        Py_DECREF(dict);
        return NULL;
    }
    return dict;
}

static PyObject *get_generation(PyObject *o, void *unused) {
    (void)unused;
    cache_object *const self = alive(o);
    return self ? PyLong_FromUnsignedLong(cg_cache_generation(self->cache)) : NULL;
}

/* ---- all of it ---- */

/* The columns of cg_cache_rows as arrays, in a dict. */
typedef struct column {
    const char *name;
    int type;
    void **data;
    size_t length;
} column;

enum { COLUMNS = 19 };

static void columns_of(cg_cache_rows *r, column out[COLUMNS]) {
    const column all[COLUMNS] = {
        {"keys", NPY_FLOAT32, (void **)&r->keys, r->n}, /* first: (n, dim) */
        {"slot", NPY_UINT64, (void **)&r->slot, r->n},
        {"signature", NPY_UINT32, (void **)&r->signature, r->n},
        {"seq", NPY_UINT64, (void **)&r->seq, r->n},
        {"age", NPY_INT64, (void **)&r->age, r->n},
        {"left", NPY_INT64, (void **)&r->left, r->n},
        {"bound", NPY_FLOAT32, (void **)&r->bound, r->n},
        {"k", NPY_UINT32, (void **)&r->k, r->n},
        {"count", NPY_UINT32, (void **)&r->count, r->n},
        {"measured", NPY_UINT32, (void **)&r->measured, r->n},
        {"space", NPY_UINT32, (void **)&r->space, r->n},
        {"where", NPY_UINT8, (void **)&r->where, r->n},
        {"mark", NPY_UINT8, (void **)&r->mark, r->n},
        {"hand", NPY_UINT8, (void **)&r->hand, r->n},
        {"use", NPY_UINT64, (void **)&r->use, r->n},
        {"ids", NPY_INT64, (void **)&r->ids, r->lists},
        {"distances", NPY_FLOAT32, (void **)&r->distances, r->lists},
        {"ghost_signature", NPY_UINT32, (void **)&r->ghost_signature, r->ghosts},
        {"ghost", NPY_UINT64, (void **)&r->ghost, r->ghosts},
    };
    memcpy(out, all, sizeof all);
}

static PyObject *new_columns(cache_object *self, cg_cache_rows *r, int keys) {
    PyObject *const dict = PyDict_New();
    column columns[COLUMNS];
    columns_of(r, columns);
    for (int i = keys ? 0 : 1; dict && i < COLUMNS; i++) {
        npy_intp dims[2] = {(npy_intp)columns[i].length, (npy_intp)self->dim};
        PyObject *const a = PyArray_SimpleNew(i == 0 ? 2 : 1, dims, columns[i].type);
        if (a) *columns[i].data = PyArray_DATA((PyArrayObject *)a);
        if (put(dict, columns[i].name, a) < 0) {
            Py_DECREF(dict);
            return NULL;
        }
    }
    return dict;
}

/* _export(keys): the dict of columns, with (n, dim) keys or without. */
static PyObject *cache_export(PyObject *o, PyObject *with_keys) {
    cache_object *const self = alive(o);
    const int keys = self ? PyObject_IsTrue(with_keys) : -1;
    if (keys < 0) return NULL;
    for (;;) {
        cg_cache_rows rows = {0};
        cg_cache_measure(self->cache, &rows);
        PyObject *const dict = new_columns(self, &rows, keys);
        if (!dict) return NULL;
        int done;
        Py_BEGIN_ALLOW_THREADS
            done = cg_cache_export(self->cache, &rows);
        Py_END_ALLOW_THREADS
        if (done) return dict;
        Py_DECREF(dict); /* somebody wrote in between */
    }
}

/* _restore(columns): fills an empty cache. */
static PyObject *cache_restore(PyObject *o, PyObject *dict) {
    cache_object *const self = alive(o);
    if (!self) return NULL;
    if (!PyDict_Check(dict)) return PyErr_Format(PyExc_TypeError, "columns: expected a dict, got %R", dict);
    cg_cache_rows rows = {0};
    column columns[COLUMNS];
    columns_of(&rows, columns);
    npy_intp n = -1, list_items = -1, ghosts = -1;
    for (int i = 0; i < COLUMNS; i++) {
        PyObject *const value = PyDict_GetItemString(dict, columns[i].name);
        if (!value) return PyErr_Format(PyExc_ValueError, "%s: missing", columns[i].name);
        PyArrayObject *const a = arr_want(value, columns[i].name, columns[i].type, i == 0 ? 2 : 1, ARR_READ);
        if (!a) return NULL;
        npy_intp *const length = i < COLUMNS - 4 ? &n : i < COLUMNS - 2 ? &list_items : &ghosts;
        if (*length < 0) *length = PyArray_DIM(a, 0);
        if (i == 0 ? arr_shape2(a, "keys", n, (npy_intp)self->dim) < 0 : arr_len(a, columns[i].name, *length) < 0)
            return NULL;
        *columns[i].data = PyArray_DATA(a);
    }
    rows.n = (size_t)n;
    rows.lists = (size_t)list_items;
    rows.ghosts = (size_t)ghosts;
    cg_err err;
    int rc;
    Py_BEGIN_ALLOW_THREADS
        rc = cg_cache_restore(self->cache, &rows, &err);
    Py_END_ALLOW_THREADS
    if (rc) return fail(&err);
    Py_RETURN_NONE;
}

/* _set_tolerance(number or an object with threshold(cache, query, namespace)) */
static PyObject *cache_set_tolerance(PyObject *o, PyObject *value) {
    cache_object *const self = alive(o);
    if (!self) return NULL;
    PyObject *const old = self->rule;
    if (PyObject_HasAttrString(value, "threshold")) {
        self->rule = Py_NewRef(value);
    } else {
        double tolerance;
        if (tolerance_of(value, cg_cache_metric(self->cache), &tolerance) < 0) return NULL;
        cg_cache_set_tolerance(self->cache, tolerance);
        self->rule = NULL;
    }
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

/* ---- the type ---- */

/* Cache(dim, capacity, bucket_capacity, bits, probes, planes or None, metric, eviction, tolerance, ttl in ns or None,
 *       miss_on_nan, spaces, hit) */
static int cache_init(PyObject *o, PyObject *args, PyObject *kwargs) {
    cache_object *const self = (cache_object *)o;
    PyObject *in[13];
    long long dim, capacity, bucket_capacity, bits, probes, metric, eviction;
    cg_cache_config config = {0};
    if (kwargs && PyDict_Size(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Cache() takes no keyword arguments");
        return -1;
    }
    if (arg_count("Cache", PyTuple_Size(args), 13) < 0) return -1;
    for (Py_ssize_t i = 0; i < 13; i++) in[i] = PyTuple_GetItem(args, i);
    if (self->cache) {
        PyErr_SetString(PyExc_RuntimeError, "the cache is initialised already");
        return -1;
    }
    if (arg_index(in[0], "dim", 1, INT32_MAX, &dim) < 0 || arg_index(in[1], "capacity", 0, UINT32_MAX, &capacity) < 0 ||
        arg_index(in[2], "bucket_capacity", 0, UINT32_MAX, &bucket_capacity) < 0 ||
        arg_index(in[3], "n_bits", 0, CG_BITS_MOST, &bits) < 0 ||
        arg_index(in[4], "probes", 0, UINT32_MAX, &probes) < 0 ||
        arg_index(in[6], "metric", 0, CG_METRICS - 1, &metric) < 0 ||
        arg_index(in[7], "eviction", 0, CG_EVICTIONS - 1, &eviction) < 0 ||
        tolerance_of(in[8], (cg_metric)metric, &config.tolerance) < 0 || ttl_of(in[9], &config.ttl) < 0)
        return -1;
    if (!PyDict_Check(in[11]) || !PyType_Check(in[12]) || !PyType_IsSubtype((PyTypeObject *)in[12], &PyTuple_Type)) {
        PyErr_SetString(PyExc_TypeError, "spaces, hit: expected a dict and a tuple type");
        return -1;
    }
    if (bits) {
        PyArrayObject *const planes = arr_want(in[5], "planes", NPY_FLOAT32, 2, ARR_READ);
        if (!planes || arr_shape2(planes, "planes", (npy_intp)bits, (npy_intp)dim) < 0) return -1;
        config.planes = PyArray_DATA(planes);
    }
    const int miss = PyObject_IsTrue(in[10]);
    if (miss < 0) return -1;
    config.dim = (size_t)dim;
    config.capacity = (uint32_t)capacity;
    config.bucket_capacity = (uint32_t)bucket_capacity;
    config.bits = (uint32_t)bits;
    config.probes = (uint32_t)probes;
    config.metric = (cg_metric)metric;
    config.eviction = (cg_eviction)eviction;
    cg_err err;
    self->cache = cg_cache_new(&config, &err);
    if (!self->cache) {
        fail(&err);
        return -1;
    }
    self->dim = config.dim;
    self->dpad = cg_cache_padded(self->cache);
    self->exact_is_certain = metric != CG_IP;
    self->miss_on_nan = miss;
    self->spaces = Py_NewRef(in[11]);
    self->hit = (PyTypeObject *)Py_NewRef(in[12]);
    return 0;
}

static int cache_traverse(PyObject *o, visitproc visit, void *arg) {
    cache_object *const self = (cache_object *)o;
    Py_VISIT(Py_TYPE(o));
    Py_VISIT(self->spaces);
    Py_VISIT(self->hit);
    Py_VISIT(self->rule);
    return 0;
}

static int cache_clear(PyObject *o) {
    cache_object *const self = (cache_object *)o;
    Py_CLEAR(self->rule);
    return 0;
}

static void cache_dealloc(PyObject *o) {
    cache_object *const self = (cache_object *)o;
    PyTypeObject *const type = Py_TYPE(o);
    PyObject_GC_UnTrack(o);
    cg_cache_free(self->cache);
    Py_XDECREF(self->spaces);
    Py_XDECREF(self->hit);
    Py_XDECREF(self->rule);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(o);
    Py_DECREF(type);
}

#define KEYWORDS(f) ((PyCFunction)(void (*)(void))(f)), METH_FASTCALL | METH_KEYWORDS

static PyMethodDef methods[] = {
    {"lookup", KEYWORDS(cache_lookup),
     "lookup($self, /, q, k=None, namespace=None, tolerance=None, filter=None)\n--\n\n"
     "The nearest stored query within the tolerance: a Hit, or None.\n\n"
     "q: float32 (dim,), read in place if C-contiguous; other numbers are converted by one copy. k: documents wanted;\n"
     "entries that asked the database for fewer do not answer, and ids are the first k. namespace, filter: as at\n"
     "insertion. tolerance: in place of the entries' and the cache's own. Raises ValueError (shape, NaN, range)."},
    {"nearest", KEYWORDS(cache_nearest),
     "nearest($self, /, q, namespace=None, filter=None)\n--\n\n"
     "(distance, slot) of the nearest live key, however far, or None. Changes and counts nothing."},
    {"invalidate", cache_invalidate, METH_O,
     "invalidate($self, slot, /)\n--\n\nRemoves the entry of a slot; False if there is none."},
    {"_lookup_batch", FASTCALL(cache_lookup_batch), METH_FASTCALL, NULL},
    {"_insert", FASTCALL(cache_insert), METH_FASTCALL, NULL},
    {"_remove_ids", cache_remove_ids, METH_O, NULL},
    {"_bump", cache_bump, METH_NOARGS, NULL},
    {"_stale", FASTCALL(cache_stale), METH_FASTCALL, NULL},
    {"_export", cache_export, METH_O, NULL},
    {"_restore", cache_restore, METH_O, NULL},
    {"_stats", cache_stats, METH_NOARGS, NULL},
    {"_set_tolerance", cache_set_tolerance, METH_O, NULL},
    {0},
};

static PyGetSetDef properties[] = {
    {"generation", get_generation, NULL, "Number of the current generation: bump_generation() raises it.", NULL},
    {0},
};

static PyType_Slot type_slots[] = {
    {Py_tp_init, cache_init},
    {Py_tp_dealloc, cache_dealloc},
    {Py_tp_traverse, cache_traverse},
    {Py_tp_clear, cache_clear},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {Py_sq_length, cache_length},
    {Py_tp_doc, "The core of collegium.rag.ProximityCache."},
    {0, NULL},
};

static PyType_Spec type_spec = {
    .name = "collegium._core.Cache",
    .basicsize = sizeof(cache_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = type_slots,
};

int cg_cache_add_type(PyObject *module) {
    PyObject *const type = PyType_FromModuleAndSpec(module, &type_spec, NULL);
    const int rc = type ? PyModule_AddObjectRef(module, "Cache", type) : -1;
    Py_XDECREF(type);
    return rc;
}
