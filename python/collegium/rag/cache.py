"""The cache itself: nearest stored query within a tolerance, eviction, namespaces, time to live, invalidation."""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _check, _core
from . import _arrays, _snapshot, flight
from ._snapshot import Entry

METRICS = ("l2", "cosine", "ip")
EVICTIONS = ("fifo", "lru", "lfu", "clock", "sieve", "s3fifo")  # numbers of csrc/cache/policy.h
INDEXES = ("flat", "lsh")
UNKNOWN = 2**32 - 1  # number of a namespace that nothing was ever stored under


__all__ = ["Entry", "Hit", "ProximityCache"]


class Hit(NamedTuple):
    """What a lookup found."""

    ids: NDArray[np.int64]  # the first k stored ids, in the order of the stored query
    key_distance: float  # from the query to the stored one, in the metric's unit
    slot: int  # where it is: for invalidate()
    age: float  # seconds since it was stored
    certified: bool  # provably what an exact, unchanged database would answer: here, the very same query
    stored: NDArray[np.int64]  # all stored ids; the same array as `ids` where those are all
    stored_distances: NDArray[np.float32] | None  # of the stored ids to the stored query, if given


class ProximityCache(_core.Cache):
    """Query embeddings with the document ids a database gave, for queries near enough to one of them.

    dim: of the embeddings. capacity: entries; None with index="lsh" is bucket_capacity * 2**n_bits.
    tolerance: greatest distance of a hit, in the metric's own unit; or an object whose
    ``threshold(cache, q, namespace)`` gives it for each query (None: do not serve). It depends on the embedding model:
    there is no default.
    metric: "l2" (not squared), "cosine" (1 - cos, 0 to 2), or "ip": inner product, a similarity. With "ip" give
    ``min_similarity`` in place of the tolerance; distances and tolerances of single calls are then minus the product.
    eviction: "fifo", "lru", "lfu", "clock", "sieve" or "s3fifo". All but "lru" and "lfu" evict in constant time.
    index: "flat" scans all keys; "lsh" the bucket of the query's signature of n_bits random hyperplanes, each
    with room for bucket_capacity keys and its own eviction, and `probes` neighbouring buckets. It misses some
    neighbours: at angle t a key shares the bucket with probability (1 - t/pi)**n_bits.
    seed: of the hyperplanes, or float32 (n_bits, dim): the hyperplanes.
    ttl: seconds an entry lives. on_nan: NaN or Inf in a query raise ValueError, or "miss" (also not stored).
    cache_empty: store empty results too. model: name of the embedding model, kept in snapshots and checked by load().

    Lookups from any number of threads take no lock; a hit changes nothing but the policy's mark. The query that hit is
    not stored. Distances count to `<=`, so tolerance 0 is exact repetition; of equal distances the older entry wins.
    Do not share a cache between tenants who may not see each other's questions: use namespaces, or a cache each.

    Raises ValueError and TypeError naming the argument, MemoryError for a capacity that does not fit.
    Source: Algorithm 1 of arXiv 2503.05530; CLOCK, SIEVE, S3-FIFO, multi-probe LSH: see csrc/cache.
    """

    def __init__(
        self,
        dim: int,
        capacity: int | None = 300,
        tolerance: Any = None,
        metric: str = "l2",
        eviction: str = "fifo",
        index: str = "flat",
        n_bits: int = 8,
        bucket_capacity: int = 20,
        probes: int = 0,
        seed: int | NDArray[np.float32] = 0,
        ttl: float | None = None,
        on_nan: str = "raise",
        cache_empty: bool = False,
        model: str | None = None,
        min_similarity: float | None = None,
    ) -> None:
        self.dim = _check.integer(dim, "dim", 1)
        self.metric = _check.choice(metric, "metric", METRICS)
        self.eviction = _check.choice(eviction, "eviction", EVICTIONS)
        self.index = _check.choice(index, "index", INDEXES)
        self.on_nan = _check.choice(on_nan, "on_nan", ("raise", "miss"))
        self.cache_empty = bool(cache_empty)
        self.model = model
        self.ttl = None if ttl is None else _check.real(ttl, "ttl", positive=True)
        lsh = index == "lsh"
        self.n_bits = _check.integer(n_bits, "n_bits", 1, 24)
        self.bucket_capacity = _check.integer(bucket_capacity, "bucket_capacity", 1, 2**20)
        self.probes = _check.integer(probes, "probes", 0, self.n_bits)
        if capacity is None and not lsh:
            raise ValueError("capacity: expected an integer, got None (only index='lsh' does without)")
        self.capacity = (
            self.bucket_capacity << self.n_bits if capacity is None else _check.integer(capacity, "capacity", 1, 2**30)
        )
        self._limited = capacity is not None
        self._planes: NDArray[np.float32] | None = None
        self.seed: int | None = None
        if isinstance(seed, np.ndarray):
            self._planes = seed
        else:
            self.seed = _check.integer(seed, "seed", 0)
            if lsh:
                rng = np.random.default_rng(self.seed)
                self._planes = rng.standard_normal((self.n_bits, self.dim), np.float32)
        self._spaces: dict[tuple[Hashable, Hashable], int] = {}
        self._numbers = itertools.count(1)
        self._notes: dict[str, int] = {}
        self.changes = 0  # how often entries were declared out of date
        self.changing = threading.Lock()  # held while that is counted, and while a retrieved result is stored
        self._notes_lock = threading.Lock()
        self._tolerance = self._first_tolerance(tolerance, min_similarity)
        dynamic = hasattr(self._tolerance, "threshold")
        super().__init__(
            self.dim, self.capacity if self._limited else 0, self.bucket_capacity, self.n_bits if lsh else 0,
            self.probes if lsh else 0, self._planes, METRICS.index(metric), EVICTIONS.index(eviction),
            0.0 if dynamic else self._tolerance, _nanoseconds(self.ttl), on_nan == "miss", self._spaces, Hit,
        )  # fmt: skip
        if dynamic:
            self._set_tolerance(self._tolerance)

    def _first_tolerance(self, tolerance: Any, min_similarity: float | None) -> Any:
        if hasattr(tolerance, "threshold"):
            return self._object(tolerance)
        if self.metric == "ip":
            if tolerance is not None:
                raise ValueError("tolerance: metric 'ip' is a similarity, give min_similarity instead")
            return -_check.real(min_similarity, "min_similarity")
        if min_similarity is not None:
            raise ValueError(f"min_similarity: only for metric 'ip', {self.metric!r} takes a tolerance")
        if tolerance is None:
            raise TypeError("tolerance: expected a number, got None (it depends on the embedding model)")
        return _check.real(tolerance, "tolerance", 0.0)

    def _object(self, tolerance: Any) -> Any:
        """A tolerance object, which may name the metrics it can work with in `metrics`."""
        metrics = getattr(tolerance, "metrics", METRICS)
        if self.metric not in metrics:
            raise ValueError(
                f"tolerance: {type(tolerance).__name__} is for metric {' or '.join(map(repr, metrics))}, "
                f"got {self.metric!r}"
            )
        return tolerance

    def _add_spaces(self, spaces: Iterable[tuple[tuple[Hashable, Hashable], int]]) -> None:
        """Namespaces and filters under the numbers they have in a snapshot."""
        self._spaces.update(spaces)
        self._numbers = itertools.count(max(self._spaces.values(), default=0) + 1)

    @property
    def tolerance(self) -> Any:
        """The tolerance of lookups that give none, a number (metric "ip": minus the least product) or an object."""
        return self._tolerance

    @tolerance.setter
    def tolerance(self, value: Any) -> None:
        dynamic = hasattr(value, "threshold")
        self._set_tolerance(self._object(value) if dynamic else value)
        self._tolerance = value if dynamic else float(value)

    def _query(self, q: Any) -> NDArray[np.float32]:
        return _arrays.vector(q, self.dim, "q")

    def insert(
        self,
        q: ArrayLike,
        ids: ArrayLike,
        *,
        distances: ArrayLike | None = None,
        k: int | None = None,
        tolerance: float | None = None,
        ttl: float | None = None,
        namespace: Hashable = None,
        filter: Hashable = None,
    ) -> int | None:
        """Stores what the database gave for q. Returns the slot, or None where nothing was stored.

        q: float32 (dim,); other numbers by one copy. ids: integers (m,) in the database's order; -1 (no document, as
        FAISS writes it) is left out. distances: (m,) of the documents to q, ascending, in the metric's unit: stored for
        stale_after_add(). k: documents asked for, at least m; len(ids) if None. tolerance, ttl (s): the entry's own.
        namespace, filter: hashable; only lookups with equal ones find the entry.
        The same q again (same bits, namespace and filter) replaces the value and counts as a use.
        Not stored: an empty result without cache_empty; a query that never matches (NaN with on_nan="miss", a zero
        vector with "cosine"). Raises ValueError, TypeError, MemoryError; the cache is then unchanged.
        """
        found = _arrays.document_ids(ids, "ids")
        at = None if distances is None else _arrays.vector(distances, found.size, "distances")
        asked = max(found.size, 1) if k is None else _check.integer(k, "k", max(found.size, 1), _check.INT32_MAX)
        there = found != -1
        if not there.all():
            found, at = found[there], None if at is None else at[there]
        if at is not None and at.size > 1 and np.any(at[1:] < at[:-1]):
            raise ValueError("distances: expected ascending values, as a search gives them, got a smaller one later")
        if found.size == 0 and not self.cache_empty:
            return None
        own = None if tolerance is None else float(tolerance)
        seconds = self.ttl if ttl is None else _check.real(ttl, "ttl", positive=True)
        space = 0
        if namespace is not None or filter is not None:
            space = self._spaces.setdefault((namespace, filter), next(self._numbers))
        slot: int | None = self._insert(q, found, at, asked, own, _nanoseconds(seconds), space)
        if slot is not None and hasattr(self._tolerance, "forget"):
            self._tolerance.forget(slot)  # what was learned there was of the entry before
        return slot

    def lookup_batch(
        self,
        Q: ArrayLike,
        k: int,
        namespace: Hashable = None,
        *,
        tolerance: float | None = None,
        filter: Hashable = None,
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.float32]]:
        """Looks up all rows before anything else changes, on the thread pool. Returns (hit, ids, distance).

        Q: float32 (B, dim). hit: bool (B,). ids: int64 (B, k), -1 where missed or beyond what was stored. distance:
        float32 (B,) to the stored query, NaN where missed. The same for any number of threads.
        With a tolerance object and no `tolerance` here, the object is asked for each row. Raises as lookup().
        """
        rows = _arrays.matrix(Q, self.dim, "Q")
        wanted = _check.integer(k, "k", 1, _check.INT32_MAX)
        found, distance = np.zeros(len(rows), np.uint8), np.full(len(rows), np.nan, np.float32)
        ids = np.full((len(rows), wanted), -1, np.int64)
        plain = namespace is None and filter is None
        space = 0 if plain else self._spaces.get((namespace, filter), UNKNOWN)
        if tolerance is None and hasattr(self._tolerance, "threshold"):
            for i, q in enumerate(rows):
                hit = self.lookup(q, wanted, namespace, filter=filter)
                if hit is not None:
                    found[i], distance[i] = 1, hit.key_distance
                    ids[i, : hit.ids.size] = hit.ids
        else:
            self._lookup_batch(rows, wanted, space, tolerance, found, ids, distance)
        return found.view(np.bool_), ids, distance

    def remove_ids(self, ids: ArrayLike) -> int:
        """Removes all entries that hold one of these documents. Returns how many; O(entries * k).

        What a retrieval brings that is under way may hold them too: it is not stored, and no further query joins it.
        """
        numbers = np.unique(_arrays.document_ids([ids] if np.ndim(ids) == 0 else ids, "ids"))
        self._outdate()
        return self._remove_ids(numbers)

    def invalidate(self, slot: int) -> bool:
        """Removes the entry in a slot. Returns whether there was one. Retrievals under way as with remove_ids()."""
        self._outdate()
        return super().invalidate(slot)

    def _outdate(self) -> None:
        """Results of retrievals under way are neither stored nor shared with further queries."""
        with self.changing:
            self.changes += 1
        flight.flights(self).detach()

    def clear(self) -> None:
        """Removes all entries, in constant time. Counters and namespaces stay."""
        self.bump_generation()

    def bump_generation(self) -> int:
        """All entries stop matching, in constant time: the index was rebuilt. Returns the new generation's number."""
        len(self)  # an object that was not made has no lock either: the core says so
        with self.changing:
            generation: int = self._bump()
        flight.flights(self).detach()
        return generation

    def stale_after_add(self, vectors: ArrayLike, *, remove: bool = True) -> NDArray[np.int64]:
        """Slots of the entries whose own list the new documents change; those are removed unless remove=False.

        vectors: float32 (n, dim), the new documents. An entry is stale if one of them is nearer to its key than the
        last stored distance. Entries stored without `distances`, or with fewer documents than asked for, are stale too:
        nothing can be said of them. Exact for an exact database. O(n * entries * dim) at most.
        """
        rows = _arrays.matrix(vectors, self.dim, "vectors")
        if not np.isfinite(rows).all():
            raise ValueError("vectors: expected finite values, got NaN or infinity")
        if remove:
            self._outdate()
        return self._stale(rows, remove)

    def keys(self) -> NDArray[np.float32]:
        """The stored queries, a copy (n, dim) in the order of insertion; unit vectors with metric "cosine"."""
        columns = self._export(True)
        keys: NDArray[np.float32] = columns["keys"][np.argsort(columns["seq"])]
        return keys

    def entries(self) -> list[Entry]:
        """What is stored, in the order of keys()."""
        return _snapshot.entries(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes everything to one safetensors file with a checksum; the old file stays until the new one is whole.

        Keys, lists, remaining times, queues and marks of the policy, hyperplanes; not the counters, nor which bucket
        of an "lsh" index with a capacity gives way next. Namespaces and
        filters must be JSON values (str, int, float, bool, None), else ValueError. Raises OSError.
        """
        _snapshot.save(self, path)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], expect: Mapping[str, Any] | None = None, *, tolerance: Any = None
    ) -> ProximityCache:
        """A cache from a file of save(): the same hits; slots are numbered anew.

        expect: what the file must say, {"dim": 768, "metric": "l2", "model": ...} (any argument of the class).
        tolerance: in place of the saved one; needed where that was an object. Raises ValueError for another kind of
        file, another version, damage, or what was not expected; OSError; MemoryError.
        """
        return _snapshot.load(cls, path, expect or {}, tolerance)

    def note(self, name: str, count: int = 1) -> None:
        """Adds to a counter of the caller's own, which stats() shows."""
        with self._notes_lock:
            self._notes[name] = self._notes.get(name, 0) + count

    def stats(self) -> dict[str, Any]:
        """Counters since the start, entries, buckets, bytes, hit_rate (hits of all lookups, NaN before the first).

        Under a learned tolerance a query is a hit only if it was served from here: those whose nearest entry was not
        served ("unserved"), or was found but audited or replaced meanwhile ("set_aside"), are misses. A query that
        looks again, since a retrieval it waited for has ended ("looked_again"), counts once. "coalesced" are answers
        from another query's retrieval, "audited" finished audits, and recall_lcb bounds the recall of what was served
        (`GuaranteeReport`).
        p50_us, p99_us: of a lookup within the core, from every sixteenth, within 20 %. Further names come from note().
        """
        out = self._stats()
        aside, unserved = (self._notes.get(name, 0) for name in ("set_aside", "unserved"))
        again = self._notes.get("looked_again", 0)
        hits, misses = out["hits"] - aside, out["misses"] + aside + unserved - again
        rate = hits / (hits + misses) if hits + misses else math.nan
        learned = {"recall_lcb": self._tolerance.report().recall_lcb} if hasattr(self._tolerance, "report") else {}
        counted = {"coalesced": 0, "audited": 0, **self._notes}
        return {**out, "hits": hits, "misses": misses, "hit_rate": rate, **counted, **learned}

    def get_or_retrieve(
        self,
        q: ArrayLike,
        k: int,
        retrieve: Callable[[NDArray[np.float32], int], Any],
        rerank_factor: int = 1,
        vectors: Any = None,
        namespace: Hashable = None,
    ) -> NDArray[np.int64]:
        """The ids of the k documents for q, from here or from `retrieve`: see `flight.get_or_retrieve`."""
        return flight.get_or_retrieve(self, q, k, retrieve, rerank_factor, vectors, namespace)

    async def aget_or_retrieve(
        self,
        q: ArrayLike,
        k: int,
        retrieve: Callable[[NDArray[np.float32], int], Any],
        rerank_factor: int = 1,
        vectors: Any = None,
        namespace: Hashable = None,
    ) -> NDArray[np.int64]:
        """`get_or_retrieve` for asyncio; `retrieve` may be a coroutine function."""
        return await flight.aget_or_retrieve(self, q, k, retrieve, rerank_factor, vectors, namespace)

    def __repr__(self) -> str:
        return (
            f"ProximityCache(dim={self.dim}, capacity={self.capacity}, tolerance={self._tolerance!r}, "
            f"metric={self.metric!r}, eviction={self.eviction!r}, index={self.index!r}, entries={len(self)})"
        )


def _nanoseconds(seconds: float | None) -> int | None:
    return None if seconds is None else max(1, min(round(seconds * 1e9), 2**62))
