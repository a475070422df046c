"""From the best of every source to the best of all: merging by score, and passages that several sources hold."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._check import integer
from .arrays import asarray
from .seam import Floats, Ids
from .source import Source

Key = Callable[[int, int], Hashable | None]


class Merged(NamedTuple):
    """Results of B queries, best first. Beyond the last result of a row: D the worst infinity, source -1, ids -1.

    D: float32 (B, k), scores. source: int32 (B, k), which source each is from. ids: int64 (B, k), its id there.
    counts: int32 (B, S), how many results each source gave; `counts > 0` are a router's labels.
    """

    D: Floats
    source: NDArray[np.int32]
    ids: Ids
    counts: NDArray[np.int32]


def merge_topk(D: Any, I: Any, larger_is_better: bool = True, k: int | None = None) -> Merged:
    """The best k results of all sources together, from each source's own results.

    D, I: float (S, B, k) scores and integer (S, B, k) ids, or sequences of S arrays (B, k_s). An id below 0 is no
    result, whatever its score; NaN scores are dropped; a list out of order is sorted. k: results a query, by default
    the largest k_s. If each source gives its own best k, the result is that of an exact search in the union.
    Order: score, then source, then id; it depends on neither threads nor the order in which results came.
    Raises TypeError, ValueError. Source: arXiv 2502.19280, section 3 (merging); here O(S k + k log S) a query.
    """
    scores, ids = stack(D, I)
    S, B, width = scores.shape
    k = width if k is None else integer(k, "k", 0)
    out = Merged(
        np.empty((B, k), np.float32), np.empty((B, k), np.int32), np.empty((B, k), np.int64), np.empty((B, S), np.int32)
    )
    _core.merge_topk(scores, ids, bool(larger_is_better), *out)
    return out


def stack(D: Any, I: Any) -> tuple[Floats, Ids]:
    """float32 and int64 (S, B, k) of arrays, or of one array (B, k_s) a source; shorter ones end in id -1."""
    if isinstance(D, np.ndarray) and isinstance(I, np.ndarray):
        if D.ndim != 3 or D.shape != I.shape:
            raise ValueError(f"D, I: expected equal shapes (S, B, k), got {D.shape}, {I.shape}")
        _check_types(D, I, "")
        return np.ascontiguousarray(D, np.float32), np.ascontiguousarray(I, np.int64)
    ds = [asarray(d, f"D[{s}]") for s, d in enumerate(D)]
    ids = [asarray(i, f"I[{s}]") for s, i in enumerate(I)]
    if len(ds) != len(ids):
        raise ValueError(f"I: expected {len(ds)} sources, those of D, got {len(ids)}")
    for s, (d, i) in enumerate(zip(ds, ids, strict=True)):
        if d.ndim != 2 or d.shape != i.shape or len(d) != len(ds[0]):
            raise ValueError(f"D, I: expected equal shapes (B, k), got {d.shape}, {i.shape} of source {s}")
        _check_types(d, i, f" of source {s}")
    B, k = (len(ds[0]) if ds else 0), max((d.shape[1] for d in ds), default=0)
    scores, out = np.full((len(ds), B, k), np.nan, np.float32), np.full((len(ds), B, k), -1, np.int64)
    for s, (d, i) in enumerate(zip(ds, ids, strict=True)):
        scores[s, :, : d.shape[1]], out[s, :, : d.shape[1]] = d, i
    return scores, out


def _check_types(d: NDArray[Any], i: NDArray[Any], where: str) -> None:
    if d.dtype.kind not in "fiu":
        raise TypeError(f"D: expected floats, got dtype {d.dtype}{where}")
    if i.dtype.kind not in "iu" and i.size:
        raise TypeError(f"I: expected integer ids, got dtype {i.dtype}{where}")
    if i.dtype == np.uint64 and np.any((i >= 2**63) & (i != 2**64 - 1)):  # the last is -1
        raise ValueError(f"I: expected ids below 2**63, got {int(i[i != 2**64 - 1].max())}{where}")


def deduplicate(
    result: Merged, keys: Key | Sequence[Sequence[Hashable | None]], k: int, larger_is_better: bool = True
) -> Merged:
    """The best k results a query that differ in their key: of those with an equal key, the best.

    result: merged with more than k results (`merge_topk(..., k=all)`), so that duplicates can be made up for.
    keys: what is the same passage: function(source, id), or (B, K) of keys beside result.ids. None is like no other.
    larger_is_better: only says how a short row is filled up.
    """
    k = integer(k, "k", 0)
    B, K = result.ids.shape
    out = Merged(
        np.full((B, k), -np.inf if larger_is_better else np.inf, np.float32),
        np.full((B, k), -1, np.int32),
        np.full((B, k), -1, np.int64),
        np.zeros_like(result.counts),
    )
    for b in range(B):
        seen: set[Hashable] = set()
        at = 0
        for j in range(K):
            source, i = int(result.source[b, j]), int(result.ids[b, j])
            if at == k or i < 0:
                break
            key = keys(source, i) if callable(keys) else keys[b][j]
            if key is not None and key in seen:
                continue
            seen.add(key)
            out.D[b, at], out.source[b, at], out.ids[b, at] = result.D[b, j], source, i
            out.counts[b, source] += 1
            at += 1
    return out


def comparable(sources: Sequence[Source]) -> bool:
    """Whether larger scores are better, for sources whose scores can be merged.

    Raises ValueError where encoder, metric or (but for the cosine) normalisation differ: then scores of two sources
    mean different things, and `fuse` goes by ranks.
    """
    first = sources[0] if sources else None
    for s in sources:
        assert first is not None
        for what in ("metric", "encoder", "dim", "normalised"):
            a, b = getattr(first, what), getattr(s, what)
            if what == "normalised" and s.metric == "cosine":
                continue
            if a != b and a is not None and b is not None:
                raise ValueError(
                    f"sources: scores of {first.name!r} and {s.name!r} cannot be merged, {what} is {a!r} and {b!r}: "
                    "choose a fusion method, collegium.rag.fuse"
                )
    return first is None or first.larger_is_better
