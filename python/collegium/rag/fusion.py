"""Merging results of sources whose scores cannot be compared: by rank, or by scores put on one scale."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._check import choice, integer
from .arrays import asarray
from .merge import Merged, merge_topk, stack

METHODS = ("rrf", "minmax", "cori", "interleave")
_RRF = 60.0  # Cormack, Clarke and Buettcher, SIGIR 2009
_Real = NDArray[np.float64]


def fuse(
    I: Any,
    D: Any = None,
    *,
    weights: Any = None,
    method: str = "rrf",
    larger_is_better: Any = True,
    source_scores: Any = None,
    k: int | None = None,
) -> Merged:
    """The best k of all sources by rank or by scores on one scale; Merged.D are the fused scores, larger is better.

    I, D: ids and scores, (S, B, k) each or sequences of S arrays (B, k_s), every list best first as its source sent
    it. D may be None for "rrf" and "interleave", which go by rank. Ids below 0 are skipped, and with D NaN scores.
    weights: w_s of each source, (S,) or (B, S), at least 0: a router's probabilities; 1 by default.
    method: "rrf" w_s / (60 + rank): the same for every first result unless weights differ, since an id belongs to one
    source only, so without weights it is "interleave", one of each source in turn, the heavier source first.
    "minmax": w_s times the score as its share of its list's range. "cori": (D' + 0.4 D' C') / 1.4 of the score D' and
    the source's score C', both so scaled (over its list, over the query's sources); no weights.
    larger_is_better: of D, one bool or one a source. source_scores: C of "cori", (S,) or (B, S); default: weights.
    Equal fused scores fall by source, then id. Raises TypeError, ValueError.
    """
    choice(method, "method", METHODS)
    if D is None and method in ("minmax", "cori"):
        raise ValueError(f"D: expected scores for method {method!r}, got None")
    by_rank = [np.zeros(np.shape(i), np.float32) for i in I] if D is None else D
    scores, ids = stack(np.array(by_rank) if isinstance(I, np.ndarray) and D is None else by_rank, I)
    S, B, _ = ids.shape
    there = (ids >= 0) & ~np.isnan(scores)
    w = _by_query(weights, "weights", B, S)
    if w.size and w.min() < 0:
        raise ValueError(f"weights: expected at least 0, got {w.min()}")
    if method in ("rrf", "interleave"):
        rank = np.maximum(np.cumsum(there, axis=2), 1).astype(np.float64)  # from 1, among those that are there
        if method == "rrf":
            fused = w.T[:, :, None] / (_RRF + rank)
        else:
            turn = np.argsort(np.argsort(-w, axis=1, kind="stable"), axis=1)  # of each source within a round
            fused = 1 / (rank + turn.T[:, :, None] / max(S, 1))
    else:
        sign = np.where(np.broadcast_to(np.asarray(larger_is_better, bool), S), 1.0, -1.0)
        scaled = _unit_range(sign[:, None, None] * scores.astype(np.float64), there, axis=2)
        if method == "minmax":
            fused = w.T[:, :, None] * scaled
        else:
            c = w if source_scores is None else _by_query(source_scores, "source_scores", B, S)
            c = _unit_range(c, np.ones_like(c, bool), axis=1)
            fused = scaled * (1 + 0.4 * c.T[:, :, None]) / 1.4
    fused = np.where(there, fused, np.nan).astype(np.float32)
    return merge_topk(fused, ids, True, None if k is None else integer(k, "k", 0))


def _by_query(value: Any, name: str, B: int, S: int) -> _Real:
    array = np.ones(S) if value is None else asarray(value, name).astype(np.float64)
    if array.shape not in ((S,), (B, S)):
        raise ValueError(f"{name}: expected shape ({S},) or ({B}, {S}), got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers")
    return np.broadcast_to(array, (B, S)).astype(np.float64)


def _unit_range(x: _Real, there: NDArray[np.bool_], axis: int) -> _Real:
    """x from its smallest, 0, to its largest, 1, along the axis; 1 where they are equal. Infinities count as the
    nearest finite value."""
    finite = there & np.isfinite(x)
    low = np.where(finite, x, np.inf).min(axis=axis, keepdims=True, initial=np.inf)
    high = np.where(finite, x, -np.inf).max(axis=axis, keepdims=True, initial=-np.inf)
    spread = np.where(high > low, high - low, 1.0)
    base = np.where(high > low, low, high - 1.0)
    with np.errstate(invalid="ignore"):
        out: _Real = np.clip((x - base) / spread, 0.0, 1.0)
    return out
