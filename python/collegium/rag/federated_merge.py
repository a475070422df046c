"""From the replies of a fan-out to the best k: by score or by fusion, duplicates out, passages beside the ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._check import choice
from . import fusion
from .fanout import Ask
from .merge import Merged, deduplicate, merge_topk
from .routing import Mask
from .seam import Floats, Ids
from .wire import best_first

MOST = 1000  # documents a query that every server gives unless told otherwise
METHODS = ("score", *fusion.METHODS)
Passages = Sequence[Mapping[int, Any]]  # for each source: id -> passage


class Merger:
    """method: one of METHODS, None is "score". dedup_key: passage -> key, or the name of a field of it."""

    def __init__(self, method: str | None, dedup_key: Callable[[Any], Any] | str | None) -> None:
        self.method = choice("score" if method is None else method, "fusion", METHODS)
        if dedup_key is not None and not callable(dedup_key) and not isinstance(dedup_key, str):
            raise TypeError(f"dedup_key: expected a function or the name of a field, got {dedup_key!r}")
        self._key = _field(dedup_key) if isinstance(dedup_key, str) else dedup_key

    def wanted(self, k: int) -> int:
        """How many documents to ask a source for: duplicates that go are made up for by what comes after them."""
        return k if self._key is None else max(k, min(2 * k, MOST))

    def merge(self, asks: Sequence[Ask], P: Floats, k: int, larger: Sequence[bool]) -> tuple[Merged, Passages]:
        """(the best k, passages by source). P: float32 (B, N), weights of a fusion. larger: of each source's scores.

        Every reply has its place by source and row: the order in which they came is nowhere.
        """
        (B, N), width = P.shape, self.wanted(k)
        D, I = np.full((N, B, width), np.nan, np.float32), np.full((N, B, width), -1, np.int64)
        passages: list[dict[int, Any]] = [{} for _ in range(N)]
        for ask in asks:
            if ask.reply is not None:
                found = _once(ask.reply.D, ask.reply.I, larger[ask.source])
                if self.method != "score":  # a fusion goes by their order, merge_topk sorts them
                    found = best_first(*found, larger[ask.source])
                got = found[1].shape[1]  # less than `width` of a source that refuses so many
                D[ask.source, ask.rows, :got], I[ask.source, ask.rows, :got] = found
                passages[ask.source].update(ask.reply.passages)
        most = k if self._key is None else N * width
        if self.method == "score":
            merged = merge_topk(D, I, larger[0], most)  # the same for all, or scores would not compare
        else:
            weights = _weights(P, asks)
            merged = fusion.fuse(I, D, weights=weights, method=self.method, larger_is_better=larger, k=most)
        if self._key is not None:
            key = self._key

            def of(source: int, i: int) -> Any:
                passage = passages[source].get(i)
                value = None if passage is None else key(passage)
                try:
                    hash(value)
                except TypeError:
                    raise TypeError(f"dedup_key: expected hashable keys, got {type(value).__name__}") from None
                return value

            merged = deduplicate(merged, of, k)
        # An infinity where there is no document would be the best of all for distances.
        return merged._replace(D=np.where(merged.ids >= 0, merged.D, np.float32(np.nan))), passages


def _once(D: Floats, I: Ids, larger: bool) -> tuple[Floats, Ids]:
    """Without the ids that a source repeats in a row: the best of them stays."""
    order = np.argsort(I, axis=1, kind="stable")
    if not _repeats(np.take_along_axis(I, order, axis=1)).any():
        return D, I
    D, I = best_first(D, I, larger)
    order = np.argsort(I, axis=1, kind="stable")
    gone = np.zeros(I.shape, bool)
    np.put_along_axis(gone, order, _repeats(np.take_along_axis(I, order, axis=1)), axis=1)
    return np.where(gone, np.float32(np.nan), D), np.where(gone, -1, I)


def _repeats(ordered: Ids) -> Mask:
    """Which ids (B, k) are those of the place before."""
    out = np.zeros(ordered.shape, bool)
    out[:, 1:] = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    return out


def _weights(P: Floats, asks: Sequence[Ask]) -> Floats:
    """float32 (B, N): each query's scores of the sources that it was sent to, which neither other queries nor other
    sources have a say in. Scores of a router that are no probabilities may be negative: then all weigh the same."""
    asked = np.zeros(P.shape, bool)
    for ask in asks:
        asked[ask.rows, ask.source] = True
    weighed = np.where(asked, P, np.inf)
    least = weighed.min(axis=1, keepdims=True, initial=np.inf)
    usable = np.isfinite(np.where(asked, P, 0)).all(axis=1, keepdims=True) & (least >= 0) & asked.any(1, keepdims=True)
    # The others get the least weight: "cori" puts the weights of a query on one scale.
    return np.where(usable, np.where(asked, P, least), 1).astype(np.float32)


def _field(name: str) -> Callable[[Any], Any]:
    return lambda passage: passage.get(name) if isinstance(passage, Mapping) else getattr(passage, name, None)
