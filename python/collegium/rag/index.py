"""A cache in front of a vector index, as the index itself: search, add, remove_ids."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._check import choice, integer
from . import batch, flight, rerank
from .adapters import Adapter, adapt, count, dimension
from .arrays import asarray, matrix
from .request import Answer, Found, Request
from .seam import CacheLike, Floats, Ids, Namespace

_TRIES = 4  # of a search whose index changes under it, before the index alone is asked


class SearchResult(tuple[Floats, Ids]):
    """The pair (D, I) of a search, as FAISS returns it, which knows more when asked.

    hit_mask: bool (B,), rows that the index was not asked for. certified: bool (B,), rows that came from the cache and
    are provably the index's own k nearest, but for the choice between equally near ones. key_distance:
    float32 (B,) to the cached query, NaN on a miss.
    """

    hit_mask: NDArray[np.bool_]
    certified: NDArray[np.bool_]
    key_distance: Floats

    def __new__(cls, D: Floats, I: Ids, answer: batch.BatchAnswer) -> SearchResult:
        self = super().__new__(cls, (D, I))
        self.hit_mask, self.certified, self.key_distance = answer.hit_mask, answer.certified, answer.key_distance
        return self


@dataclass(frozen=True)
class _Dated(Found):
    """What the index said, and in which epoch."""

    epoch: int


class _Gate:
    """Searches together, changes alone: FAISS allows no search beside an add. Changes that wait go first."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._searching = 0
        self._changing = 0
        self._mine = threading.local()  # depth: searches of this thread, one inside the other (through its callbacks)

    @contextmanager
    def search(self) -> Iterator[None]:
        depth = getattr(self._mine, "depth", 0)
        with self._free:
            # A search inside a search goes on: the change that waits, waits for the outer one.
            self._free.wait_for(lambda: depth or not self._changing)
            self._searching += 1
        self._mine.depth = depth + 1
        try:
            yield
        finally:
            self._mine.depth = depth
            with self._free:
                self._searching -= 1
                self._free.notify_all()

    @contextmanager
    def change(self) -> Iterator[None]:
        if getattr(self._mine, "depth", 0):
            raise RuntimeError("index: cannot be changed from inside one of its own searches")
        with self._free:
            self._free.wait_for(lambda: not self._changing)
            self._changing = 1
        try:
            with self._free:
                self._free.wait_for(lambda: not self._searching)
            yield
        finally:
            with self._free:
                self._changing = 0
                self._free.notify_all()


class CachedIndex:
    """Drop-in for a vector index: the same search(x, k), answered from `cache` where a cached query is near enough.

    index: FAISS (CPU), hnswlib, usearch, or anything with search(x, k) -> (D, I).
    cache: a `ProximityCache` of the index's dimension. Its metric may be another one (L2 between queries in front of an
      inner-product index is what the paper runs); hits are then never certified.
    rerank_factor: a miss fetches and keeps rerank_factor * k ids, a hit returns the best k of them for the new query.
    mode: of batches, see `get_or_retrieve_batch`. namespace: of all entries made here.
    unit, vectors, exact: of the index, where they cannot be found out (`adapters.adapt`): unit of D ("l2sq", "l2",
      "ip", "1-ip", "cosine"), ids -> vectors, whether it is exact (then hits may be certified).
    Ids that name two vectors (an IndexIDMap2 allows them) have one vector here, so certified hits may be wrong.
    GPU indexes of FAISS are not thread-safe even for search: use them from one thread.
    Raises TypeError, ValueError.
    """

    def __init__(
        self,
        index: Any,
        cache: CacheLike,
        *,
        rerank_factor: int = 1,
        mode: batch.Mode = "coalesce",
        namespace: Namespace = None,
        unit: str | None = None,
        vectors: Any = None,
        exact: bool | None = None,
    ) -> None:
        self.adapter: Adapter = adapt(index, unit, vectors, exact)
        self.cache = cache
        self.rerank_factor = integer(rerank_factor, "rerank_factor", 1)
        self.mode = choice(mode, "mode", batch.MODES)
        self.namespace = namespace
        dim = dimension(index)
        if dim not in (None, cache.dim):
            raise ValueError(f"cache: expected dim {dim}, the index's, got {cache.dim}")
        if rerank_factor > 1 and self.adapter.vectors is None:
            raise ValueError(
                "rerank_factor: expected 1, since the index cannot give its vectors back (pass vectors=), "
                f"got {rerank_factor}"
            )
        self._gate = _Gate()
        self._epoch = 0  # of the index: counts changes

    @property
    def index(self) -> Any:
        """The index behind the cache."""
        return self.adapter.index

    def search(self, x: Any, k: int) -> SearchResult:
        """(D, I) for queries x, float32 (B, dim) or (dim,); B may be 0. The result also has hit_mask and certified.

        I: int64 (B, k), -1 where there is no more. D: float32 (B, k) in the index's own units, to the query asked, also
        on a hit: with the index's vectors hits are ranked by it; without them D is NaN on a hit, never the distances of
        the cached query.
        Raises TypeError, ValueError, and what the index raises.
        """
        one = asarray(x, "x").ndim == 1
        Q = matrix(asarray(x, "x")[None] if one else x, "x", self.cache.dim)
        r = Request(
            self.cache,
            np.zeros(self.cache.dim, np.float32),
            integer(k, "k", 1),
            self.rerank_factor * k,
            self._search,
            self._vectors if self.adapter.vectors is not None else None,
            self.namespace,
            self.adapter.metric,
            self.adapter.exact,
            store=self._store,
        )
        # A single query goes through the single-flight table, a batch shares its calls inside itself.
        mode = "sequential" if len(Q) == 1 else self.mode
        for _ in range(_TRIES):
            epoch = self._epoch
            try:
                a = batch.run(r, Q, mode, self._search, self._read)
            except Exception:
                if self._epoch == epoch:
                    raise
                continue  # a hit whose document was removed before its vector was read
            # Between a hit and the reading of its vectors the index may have changed: an id may be another document.
            if self._epoch == epoch or not a.hit_mask.any():
                break
        else:
            found = self._read(self._search(Q, r.k), len(Q), r.k)
            a = batch.rows_of([Answer(f.ids, f.distances, False) for f in found], r.k, len(Q))
        D, I = self.adapter.from_cache(a.distances), a.ids
        return SearchResult(D[0], I[0], a) if one else SearchResult(D, I, a)

    def warm(self, queries: Any, k: int = 10) -> int:
        """Fills the cache from a log of queries, float32 (N, dim), oldest first. Returns how many searches it took."""
        Q = matrix(queries, "queries", self.cache.dim)
        return sum(int((~self.search(Q[i : i + 256], k).hit_mask).sum()) for i in range(0, len(Q), 256))

    def add(self, x: Any, ids: Any = None) -> int:
        """Adds vectors, float32 (n, dim), with the index's own ids or those given; drops the entries they change.

        An entry is dropped if a new vector is nearer to its key than the last id it holds: exactly those whose list the
        new documents change, if the index is exact. Where the cache has another metric than the index nothing can be
        said of an entry, and all are dropped. Entries that hold an id the index uses for them are dropped too: it may
        put the new vectors in place of the old. Returns how many. Raises TypeError where the index cannot add, and what
        the index raises: then all entries are dropped, since it may have added a part.
        """
        if self.adapter.add is None:
            raise TypeError(f"index: expected one with add(x), got {type(self.index).__name__}")
        X = matrix(x, "x", self.cache.dim)
        if not np.isfinite(X).all():
            raise ValueError("x: expected finite values, got NaN or infinity")
        numbers = None if ids is None else np.ascontiguousarray(asarray(ids, "ids"), np.int64)
        if numbers is not None and numbers.shape != (len(X),):
            raise ValueError(f"ids: expected shape ({len(X)},), got {numbers.shape}")
        before = len(self.cache)
        with self._change():
            used = self.adapter.add(X, numbers)
            # A zero vector has no direction: where cosine puts it is the index's own choice.
            placed = self.adapter.metric != "cosine" or X.any(axis=1).all()
            if self.adapter.metric == self.cache.metric and placed:
                dropped = len(self.cache.stale_after_add(X))
                if used is not None:
                    dropped += self.cache.remove_ids(used)
            else:
                dropped = before
                self.cache.clear()
        return dropped

    def remove_ids(self, ids: Any) -> int:
        """Removes documents by id. Entries that hold one are dropped first, so no later search returns one of them.

        All entries are dropped where the index numbers the remaining documents anew (FAISS does, unless it is an
        IndexIDMap or an IVF). Returns how many. Raises TypeError where the index cannot remove, and what the index
        raises: then all entries are dropped.
        """
        if self.adapter.remove is None:
            raise TypeError(f"index: expected one with remove_ids(ids), got {type(self.index).__name__}")
        numbers = np.ascontiguousarray(np.atleast_1d(asarray(ids, "ids")), np.int64)
        with self._change():
            if self.adapter.renumbers:
                dropped = len(self.cache)
                self.cache.clear()
            else:
                dropped = self.cache.remove_ids(numbers)
            self.adapter.remove(numbers)
        return dropped

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Around a change of the index: searches under way are done, and nothing they brought is stored or shared."""
        with self._gate.change():
            try:
                yield
            except BaseException:
                self.cache.clear()
                raise
            finally:
                self._epoch += 1
                flight.flights(self.cache).detach()

    @property
    def ntotal(self) -> int:
        """Documents in the index. Raises TypeError where it does not tell."""
        n = count(self.index)
        if n is None:
            raise TypeError(f"index: expected one that counts its documents, got {type(self.index).__name__}")
        return n

    @property
    def d(self) -> int:
        """Dimension of the vectors."""
        return self.cache.dim

    def _search(self, Q: Floats, m: int) -> tuple[int, Any]:
        with self._gate.search():
            return self._epoch, self.adapter.search(Q, m)

    def _read(self, result: tuple[int, Any], rows: int, m: int) -> list[Found]:
        epoch, (D, I) = result
        d = np.asarray(D, np.float32)
        found = batch.read_rows((D, I), rows, m)
        if d.shape != np.shape(I):
            raise ValueError(f"index: expected distances of shape {np.shape(I)}, got {d.shape}")
        return [_Dated(f.ids, self.adapter.to_cache(row[np.asarray(i) != -1]), epoch) for f, row, i in zip(found, d, I)]

    def _store(self, r: Request, found: Found) -> int | None:
        """Not if the index changed since it was asked: the result may be out of date, and was not yet there to drop."""
        with self._gate.search():
            if not isinstance(found, _Dated) or found.epoch != self._epoch:
                return None
            d = found.distances
            if d is not None and len(d):
                d = d.copy()
                d[-1] = rerank.at_most(float(d[-1]), r.q, r.cache.metric)
            return r.cache.insert(r.q, found.ids, distances=d, k=r.m, namespace=r.namespace)

    def _vectors(self, ids: Ids) -> Any:
        assert self.adapter.vectors is not None
        with self._gate.search():
            return self.adapter.vectors(ids)
