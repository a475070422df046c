"""A ProximityCache in front of a federated retriever: a query near an earlier one asks no source at all.

The cache stores numbers, so a document (source, id) gets one that depends on nothing else. Kept with it: the passage,
for as long as an entry of the cache names it. Not kept: scores (they were those of the earlier query) and who answered.
Partial answers are never stored. Concurrent queries near each other share one question to the sources, and its answer
even if it is partial: asking again would begin when most of the time is over.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from .caller import Caller
from .federated_result import AllSourcesFailed, FederatedResult, stacked
from .flight import Shared
from .payloads import Payloads, check_cache, number
from .request import age_of, request
from .seam import CacheLike, Floats, Ids

# (float32 (B, d), monotonic s where the deadline starts, None: where the search's does) -> a result for B queries
Fetch = Callable[[Floats, float | None], Awaitable[FederatedResult]]


class _Kept(NamedTuple):
    source: int
    id: int
    passage: Any


class _Partial(Shared):
    """Carries an answer past the cache, also to those who wait for the same: what raises is not stored. refused: the
    retriever raises where nobody answered."""

    def __init__(self, result: FederatedResult, refused: bool = False) -> None:
        super().__init__()
        self.result, self.refused = result, refused


class CacheFront:
    """cache: of the queries' dimension. names: of the sources, in the order of the results."""

    def __init__(self, cache: Any, names: Sequence[str]) -> None:
        self.cache: CacheLike = check_cache(cache)
        self._names = tuple(names)
        self._table: Payloads[_Kept] = Payloads()

    def clear(self) -> None:
        """Forgets everything; what is being retrieved now is not stored."""
        self.cache.clear()

    async def search(self, Q: Floats, k: int, fetch: Fetch, caller: Caller) -> FederatedResult:
        """The result for float32 (B, d). A learned tolerance makes a batch go query by query, each with a deadline of
        its own: under one, the last would be asked with no time left."""
        if len(Q) == 1:
            return await self._one(Q, k, fetch, caller, None)
        if hasattr(self.cache.tolerance, "threshold"):
            return stacked([await self._one(q[None], k, fetch, caller, time.monotonic()) for q in Q])
        hit, ids, _ = self.cache.lookup_batch(Q, k)
        found = [self._table.get(self.cache, row[row >= 0]) if h else None for h, row in zip(hit, ids)]
        misses = [i for i, kept in enumerate(found) if kept is None]
        rows = [None if kept is None else self._cached(kept, k) for kept in found]
        if misses:
            age = age_of(self.cache)
            fresh = await fetch(Q[misses], None)
            for j, i in enumerate(misses):
                rows[i] = fresh.rows(j)
                if not fresh.partial[j] and age_of(self.cache) == age:
                    self.cache.insert(Q[i], self._store(fresh, j), k=k)
        return stacked([r for r in rows if r is not None])

    async def _one(self, q: Floats, k: int, fetch: Fetch, caller: Caller, began: float | None) -> FederatedResult:
        fresh: list[FederatedResult] = []

        async def retrieve(_: Any, __: int) -> Ids:
            try:
                fresh.append(await fetch(q, began))
            except AllSourcesFailed as e:
                fresh.append(e.result)
                raise _Partial(e.result, refused=True) from None
            return self._store(fresh[-1], 0)

        r = request(self.cache, q[0], k, retrieve)
        while True:
            try:
                a = await caller.answer(r)
            except _Partial as p:
                result = p.result if fresh and p.result is fresh[-1] else _followed(p.result, k)
                if p.refused:
                    raise AllSourcesFailed(result) from None
                return result
            kept = self._table.get(self.cache, a.ids)
            if kept is not None:  # else the table was swept in between, or the cache came from a file: ask again
                return fresh[-1] if fresh and not a.hit else self._cached(kept, k)

    def _store(self, result: FederatedResult, row: int) -> Ids:
        if result.partial[row]:
            raise _Partial(result)
        at = result.ids[row] >= 0
        ids, sources = result.ids[row][at].tolist(), result.source[row][at].tolist()
        numbers = [number(f"{i} {self._names[s]}") for s, i in zip(sources, ids)]
        return self._table.put(self.cache, numbers, [_Kept(*d) for d in zip(sources, ids, result.passages[row])])

    def _cached(self, kept: Sequence[_Kept], k: int) -> FederatedResult:
        n = len(self._names)
        pad = [_Kept(-1, -1, None)] * (k - len(kept))
        sources, ids, passages = zip(*kept[:k], *pad)
        nobody = np.zeros((1, n), bool)
        return FederatedResult(
            np.array([ids], np.int64), np.full((1, k), np.nan, np.float32), np.array([sources], np.int32),
            [list(passages)], self._names, np.full((1, n), np.nan, np.float32), nobody, nobody, {}, {}, {},
            {"sources": {}, "total": 0.0}, from_cache=np.array([True]),
        )  # fmt: skip


def _followed(result: FederatedResult, k: int) -> FederatedResult:
    """A partial answer for one who waited for it: to a query near its own, of at least k documents, at no cost."""
    return replace(
        result, ids=result.ids[:, :k], source=result.source[:, :k], passages=[row[:k] for row in result.passages],
        scores=np.full_like(result.scores[:, :k], np.nan), from_cache=np.ones(len(result.ids), bool),
        bytes_in=0, bytes_out=0,
    )  # fmt: skip
