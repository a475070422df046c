"""One door to vector databases: anything with search(x, k), FAISS, hnswlib and usearch indexes, by what they can do.

Found by their methods, never by import: none of these packages is needed for the others.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import asarray, matrix
from .seam import Floats, Ids, Vectors

# How an index words its distances: (to the cache's, smaller is nearer; back).
_UNITS: dict[str, tuple[str, Callable[[Floats], Floats], Callable[[Floats], Floats]]] = {
    "l2sq": ("l2", lambda d: np.sqrt(np.maximum(d, 0)), lambda d: d * d),
    "l2": ("l2", lambda d: d, lambda d: d),
    "ip": ("ip", lambda d: -d, lambda d: -d),
    "1-ip": ("ip", lambda d: d - 1, lambda d: d + 1),
    "cosine": ("cosine", lambda d: d, lambda d: d),
}
UNITS = tuple(_UNITS)


@dataclass
class Adapter:
    """index: what it was made from. search: (Q, k) -> (D, I), both (B, k), -1 where there is no more.

    unit: of D, one of "l2sq", "l2", "ip" (larger is nearer), "1-ip", "cosine". vectors: ids -> stored vectors, or None.
    exact: the index compares with every vector, uncompressed. add: (x, ids or None) -> the ids it used, or None for ids
    that were free. remove: ids. Either is None where the index cannot.
    renumbers: after `remove` the remaining documents have other ids. ids: () -> all ids that are there, or None where
    the index cannot list them.
    """

    index: Any
    search: Callable[[Floats, int], tuple[Any, Any]]
    unit: str
    vectors: Vectors | None
    exact: bool
    add: Callable[..., Any] | None
    remove: Callable[[Ids], Any] | None
    renumbers: bool = False
    ids: Callable[[], Ids] | None = None

    @property
    def metric(self) -> str:
        """ "l2", "cosine" or "ip"."""
        return _UNITS[self.unit][0]

    def to_cache(self, d: Floats) -> Floats:
        """Distances of the index in the cache's units (plain L2, cosine distance, minus the inner product)."""
        return _UNITS[self.unit][1](d)

    def from_cache(self, d: Floats) -> Floats:
        """The other way."""
        return _UNITS[self.unit][2](d)


def adapt(index: Any, unit: str | None = None, vectors: Any = None, exact: bool | None = None) -> Adapter:
    """An Adapter for an index. unit, vectors, exact: what cannot be found out, or is to be overruled.

    An unknown object with search(x, k) is taken to return (D, I) with D in squared L2 ("l2sq") and to be approximate.
    Raises TypeError for what has no search.
    """
    if unit is not None and unit not in UNITS:
        raise ValueError(f"unit: expected one of {', '.join(map(repr, UNITS))}, got {unit!r}")
    if hasattr(index, "knn_query"):
        a = _hnswlib(index, unit)
    elif hasattr(index, "metric_type") and hasattr(index, "ntotal"):
        a = _faiss(index)
    elif hasattr(index, "metric_kind") and hasattr(index, "search"):
        a = _usearch(index)
    elif callable(getattr(index, "search", None)):
        a = Adapter(index, index.search, "l2sq", None, False, _generic_add(index), getattr(index, "remove_ids", None))
    else:
        raise TypeError(f"index: expected an object with search(x, k), got {type(index).__name__}")
    if unit is not None:
        a.unit = unit
    if vectors is not None:
        a.vectors = vectors if callable(vectors) else asarray(vectors, "vectors").__getitem__
    if exact is not None:
        a.exact = exact
    return a


def dimension(index: Any) -> int | None:
    """Of an index's vectors, None where it does not tell."""
    for name in ("d", "dim", "ndim"):
        value = getattr(index, name, None)
        if isinstance(value, int):
            return value
    return None


def count(index: Any) -> int | None:
    """Documents in an index (hnswlib counts those marked as deleted too), None where it does not tell."""
    if hasattr(index, "ntotal"):
        return int(index.ntotal)
    if hasattr(index, "get_current_count"):
        return int(index.get_current_count())
    return len(index) if hasattr(index, "__len__") else None


def _faiss(index: Any) -> Adapter:
    """metric_type 0: inner product, 1: squared L2. Names tell kinds apart without importing faiss."""
    if index.metric_type not in (0, 1):
        raise TypeError(f"index: expected a FAISS index by L2 or inner product, got metric {index.metric_type}")
    # A transformed vector is not the one asked for, and a refined list is as approximate as what it refines.
    inner = _inner(index) if type(index).__name__.startswith("IndexIDMap") else index
    exact = type(inner).__name__ in ("IndexFlat", "IndexFlatL2", "IndexFlatIP")
    # FAISS closes the gaps, except where it keeps ids: in inverted lists and under an IndexIDMap.
    keeps = _inner(index) if type(index).__name__ == "IndexPreTransform" else index
    renumbers = not type(keeps).__name__.startswith(("IndexIDMap", "IndexIVF"))

    def add(x: Floats, ids: Ids | None) -> Ids | None:
        if ids is None:
            index.add(x)
        else:
            index.add_with_ids(x, ids)
        return ids

    unit = "ip" if index.metric_type == 0 else "l2sq"
    return Adapter(index, index.search, unit, _faiss_vectors(index), exact, add, index.remove_ids, renumbers)


def _inner(index: Any) -> Any:
    """What a FAISS index wraps, as its own class: the attribute itself is typed as the base class."""
    return sys.modules[type(index).__module__].downcast_index(index.index)


def _faiss_vectors(index: Any) -> Vectors | None:
    """reconstruct_batch where the index has it. IVF needs a direct map: the user's to make, since with one it refuses
    ids of the caller's own, and removal. An IndexIDMap has no way from ids back, an IndexIDMap2 does."""
    kind = type(index).__name__
    if kind == "IndexIDMap" or not hasattr(index, "reconstruct_batch"):
        return None
    inner = index
    while type(inner).__name__.startswith(("IndexIDMap", "IndexPreTransform")):
        inner = _inner(inner)
    if hasattr(inner, "direct_map") and inner.direct_map.no():
        return None
    if index.ntotal and kind != "IndexIDMap2":
        try:
            index.reconstruct_batch(np.zeros(1, np.int64))
        except RuntimeError:
            return None
    return lambda ids: index.reconstruct_batch(ids)


def _generic_add(index: Any) -> Callable[..., Any] | None:
    if not hasattr(index, "add"):
        return None

    def add(x: Floats, ids: Ids | None) -> Ids | None:
        if ids is None:
            index.add(x)
        else:
            index.add(x, ids)
        return ids

    return add


def _hnswlib(index: Any, unit: str | None) -> Adapter:
    """Its l2 is squared, its ip is 1 - inner product, its cosine is 1 - cos (and it stores unit vectors). BFIndex, its
    exact one, does not tell its space."""
    exact = not hasattr(index, "mark_deleted")
    if unit is None:
        space = getattr(index, "space", None)
        if space is None:
            raise TypeError(
                "unit: expected 'l2sq', '1-ip' or 'cosine', which hnswlib's BFIndex does not tell, got None"
            )
        unit = {"l2": "l2sq", "ip": "1-ip", "cosine": "cosine"}[space]
    deleted: set[int] = set()  # marked ones are counted by the index, and not found

    def search(Q: Floats, k: int) -> tuple[Any, Any]:
        # It raises for more than it holds; FAISS's way is to fill up with -1.
        have = min(k, index.get_current_count() - len(deleted))
        labels, d = index.knn_query(Q, have) if have else (np.empty((len(Q), 0)), np.empty((len(Q), 0), np.float32))
        pad = ((0, 0), (0, k - have))
        return np.pad(d, pad, constant_values=np.inf), np.pad(labels.astype(np.int64), pad, constant_values=-1)

    def add(x: Floats, ids: Ids | None) -> Ids | None:
        if ids is None:  # its own choice, which may be those of documents that are there
            ids = index.get_current_count() + np.arange(len(x))
        index.add_items(x, ids)
        deleted.difference_update(ids.tolist())
        return ids

    def remove(ids: Ids) -> None:
        for i in ids.tolist():
            if exact:
                index.delete_vector(i)
            else:
                index.mark_deleted(i)
                deleted.add(i)

    vectors = (lambda ids: np.asarray(index.get_items(ids, "numpy"))) if hasattr(index, "get_items") else None

    def ids() -> Ids:
        return np.array([i for i in index.get_ids_list() if i not in deleted], np.int64)

    listed = ids if hasattr(index, "get_ids_list") else None
    return Adapter(index, search, unit, vectors, exact, add, remove, ids=listed)


def _usearch(index: Any) -> Adapter:
    """Its l2sq is squared, its ip is 1 - inner product, its cos is 1 - cos; one query gives one row."""
    kind = str(getattr(index.metric_kind, "name", index.metric_kind)).lower()
    units = {"l2sq": "l2sq", "ip": "1-ip", "cos": "cosine"}
    if kind not in units:
        raise TypeError(f"index: expected a usearch index by l2sq, ip or cos, got {kind}")

    def search(Q: Floats, k: int) -> tuple[Any, Any]:
        found = index.search(Q, k)
        ids = np.asarray(found.keys).astype(np.int64).reshape(len(Q), -1)
        d = np.asarray(found.distances, np.float32).reshape(len(Q), -1).copy()
        for row, counted in enumerate(np.atleast_1d(getattr(found, "counts", np.full(len(Q), ids.shape[1])))):
            ids[row, counted:], d[row, counted:] = -1, np.inf
        return d, ids

    def add(x: Floats, ids: Ids | None) -> Ids | None:
        return np.asarray(index.add(ids, x)).astype(np.int64)

    def remove(ids: Ids) -> None:
        index.remove(ids)

    def vectors(ids: Ids) -> Floats:
        return matrix(index.get(ids), "vectors")

    # It gives int8 and bits back as codes, which are no vectors beside a query, but for their direction.
    floats = str(getattr(index.dtype, "name", index.dtype)).lower() in ("f64", "f32", "f16", "bf16") or kind == "cos"

    def listed() -> Ids:
        return np.asarray(index.keys).astype(np.int64)

    return Adapter(index, search, units[kind], vectors if floats else None, False, add, remove, ids=listed)
