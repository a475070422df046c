"""The new-document test: which cached lists would a new document have entered?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import rerank
from .seam import CacheLike, Floats

# Distances of the index and ours come from different float32 sums. A tie within this is taken as a change: dropping an
# entry too many costs one database call.
_TIE = 1e-6


def stale_mask(keys: Floats, farthest: Floats, X: Floats, metric: str) -> NDArray[np.bool_]:
    """bool (n,): whether one of the new vectors is nearer to the key than the last document its entry holds.

    keys: float32 (n, dim). farthest: float32 (n,), distance of the last stored document in the metric's units
    (inf where the list was not full, NaN where unknown: always stale). X: float32 (m, dim). O(n m dim), one GEMM as a
    filter; pairs near the limit are computed again from differences.
    """
    if not len(X) or not len(keys):
        return np.zeros(len(keys), bool)
    if metric == "cosine":
        keys, X = (a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-30) for a in (keys, X))
    dots = keys @ X.T
    if metric == "ip":
        found, error = -dots, 1e-5 * np.linalg.norm(keys, axis=1)[:, None] * np.linalg.norm(X, axis=1)
        limit = farthest[:, None].astype(np.float64)
    else:
        squares = np.einsum("ij,ij->i", keys, keys)[:, None] + np.einsum("ij,ij->i", X, X)
        found, error = squares - 2 * dots, 1e-5 * squares
        limit = (2 * farthest if metric == "cosine" else farthest.astype(np.float64) ** 2)[:, None]
    stale = (found < limit - error).any(1) | ~np.isfinite(farthest)
    near = (np.abs(found - limit) <= error) & ~stale[:, None]
    for i in np.flatnonzero(near.any(1)):
        d = rerank.distances(keys[i], X[near[i]], metric)
        stale[i] = bool((d < farthest[i] + _TIE * abs(farthest[i])).any())
    return np.asarray(stale)


def drop_stale(cache: CacheLike, X: Floats, metric: str) -> int:
    """Invalidates the entries of `cache` whose list the new vectors change; returns how many.

    metric: the database's. A cosine cache keeps its keys as unit vectors, from which other distances cannot be had:
    then every entry is dropped.
    """
    entries: list[Any] = list(cache.entries())
    if not entries or not len(X):
        return 0
    lost = cache.metric == "cosine" and metric != "cosine"
    farthest = np.array([np.nan if lost else _farthest(e) for e in entries], np.float32)
    stale = stale_mask(np.stack([e.key for e in entries]).astype(np.float32), farthest, X, metric)
    for i in np.flatnonzero(stale):
        cache.invalidate(entries[i].slot)
    return int(stale.sum())


def _farthest(entry: Any) -> float:
    if len(entry.ids) < entry.k:
        return np.inf  # the database had no more: any new document enters
    return np.nan if entry.distances is None else float(entry.distances[-1])
