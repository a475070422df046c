"""Re-ranking: stored candidates scored against the new query, and the proof that nothing better exists.

Source: Proximity (Middleware 2025) names a re-ranking factor; the procedure here is ours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import matrix
from .seam import Floats, Ids, Vectors


def distances(q: Floats, X: Floats, metric: str) -> Floats:
    """float32 (rows,): distance of q (dim,) to each row of X, in the metric's units; smaller is nearer.

    metric: "l2" (not squared), "cosine" (1 - cos, 0 ... 2), "ip" (minus the inner product, so that smaller is nearer).
    Computed directly from differences: no cancellation for near-equal vectors. A zero vector has no direction: NaN.
    """
    if metric == "l2":
        out: NDArray[Any] = X - q
        out = np.sqrt(np.einsum("ij,ij->i", out, out))
    elif metric == "cosine":
        with np.errstate(invalid="ignore", divide="ignore"):
            out = X / np.linalg.norm(X, axis=1, keepdims=True) - q / np.linalg.norm(q)
        out = 0.5 * np.einsum("ij,ij->i", out, out)  # |a - b|^2 = 2 - 2 cos
    else:
        out = -(X @ q)
    return out.astype(np.float32)


def best(q: Floats, ids: Ids, vectors: Vectors | NDArray[Any], k: int, metric: str) -> tuple[Ids, Floats]:
    """(ids, distances), both (<= k,): the k candidates nearest to q, nearest first; ties keep their stored order.

    ids: int64 (m,). vectors: a function of ids that returns their vectors (m, dim), or an array with row i for id i.
    Raises ValueError where the vectors do not fit, and whatever `vectors` raises. O(m dim).
    """
    X = matrix(vectors(ids) if callable(vectors) else vectors[ids], "vectors", len(q))
    if len(X) != len(ids):
        raise ValueError(f"vectors: expected {len(ids)} rows, got {len(X)}")
    d = distances(q, X, metric)
    order = np.argsort(d, kind="stable")[:k]
    return ids[order], d[order]


def slack(reach: float, dim: int) -> float:
    """Bound on the error of a squared distance that a database computes as |x|^2 - 2 x.q + |q|^2 in float32, as FAISS
    does for batches; reach: |x| + |q|."""
    return dim * 2.0**-23 * reach * reach


def at_most(farthest: float, q: Floats, metric: str) -> float:
    """The farthest stored document may really be this far: the bound that a new document must beat to be left out."""
    if not np.isfinite(farthest):
        return farthest
    if metric == "l2":
        return float(np.sqrt(farthest**2 + slack(2 * float(np.linalg.norm(q)) + farthest, len(q))))
    if metric == "cosine":
        return farthest + slack(2.0, len(q)) / 2
    return farthest + len(q) * 2.0**-23 * abs(farthest)


def certified(kth: float, farthest: float, key_distance: float, metric: str, length: float, dim: int) -> bool:
    """Whether re-ranked candidates are provably the exact database's own top k for the new query, but for the order of
    documents that are equally near.

    kth: distance of the k-th re-ranked candidate to the query; farthest: of the last stored one to the cached key;
    key_distance: between query and key. Whatever is not stored is at least `farthest` from the key, so by the triangle
    inequality at least farthest - key_distance from the query. Cosine goes through the chord of unit vectors; inner
    products obey no triangle inequality and are never certified. length: |q|, which with dim bounds what float32
    rounding does to the database's distances: near-equal vectors far from the origin are not certified.
    """
    if metric == "ip" or not np.isfinite(kth + farthest + key_distance):
        return False
    if key_distance == 0:
        return True  # the same query: the list is its own
    if metric == "cosine":
        kth, farthest, key_distance = (float(np.sqrt(2 * max(d, 0.0))) for d in (kth, farthest, key_distance))
        length = 1.0
    # Thrice: `farthest` may have been raised by at_most, which undoes it and leaves the bound itself.
    error = 3 * slack(2 * length + kth + key_distance, dim)
    return kth <= float(np.sqrt(max(farthest**2 - error, 0.0))) - key_distance - 1e-6 * max(farthest, 1e-30)
