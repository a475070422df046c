"""Cache in front of a search: a hit answers, a miss asks the database once however many ask at the same time.

In-flight misses are points, not hash keys: a miss within the tolerance of a query that is being retrieved waits for that
one's result ("single-flight"). One table serves threads and asyncio together. No lock is held while the database is
asked, so a callback may use the cache again; a thread or task that is itself retrieving never waits for another, so
callbacks cannot wait in a circle.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .._check import integer
from . import rerank
from .arrays import found_ids, split_result, vector
from .guarantee import GuaranteedTolerance, recall_loss
from .seam import CacheLike, Floats, Ids, Namespace, Vectors

Retrieve = Callable[[Floats, int], Any]


class Answer(NamedTuple):
    """ids: int64 (<= k,). distances: to the new query, or None where unknown. hit: from the cache or a shared call."""

    ids: Ids
    distances: Floats | None
    hit: bool
    certified: bool = False
    key_distance: float = float("nan")


@dataclass(frozen=True)
class Found:
    """What the database said of one query: ids (<= m,), and distances (same shape, metric's units) or None."""

    ids: Ids
    distances: Floats | None


def read_found(result: Any, m: int) -> Found:
    """Takes what `retrieve` returned. Its distances are left out: their unit is unknown (FAISS's are squared)."""
    return Found(found_ids(split_result(result)[1], m), None)


@dataclass
class Request:
    """One question to the cache, and how to go on from a miss.

    m: ids to fetch and store, rerank_factor * k. read: result of `retrieve` -> Found. store: puts a result in the cache.
    ranks: metric of the database, where it is not the cache's. exact: re-ranked hits can be certified.
    """

    cache: CacheLike
    q: Floats
    k: int
    m: int
    retrieve: Retrieve
    vectors: Vectors | None = None
    namespace: Namespace = None
    ranks: str | None = None
    exact: bool = False
    read: Callable[[Any, int], Found] = read_found
    store: Callable[[Request, Found], int | None] | None = None

    def served(self, stored: Ids, stored_distances: Floats | None, key_distance: float) -> Answer:
        """The answer that an entry gives to this query: re-ranked where vectors are known, else as it is."""
        if self.vectors is None or not len(stored):
            return Answer(stored[: self.k], None, True, False, key_distance)
        metric = self.ranks or self.cache.metric
        ids, d = rerank.best(self.q, stored, self.vectors, self.k, metric)
        sure = (
            self.exact
            and metric == self.cache.metric  # the triangle is drawn in one metric
            and stored_distances is not None
            and len(ids) == self.k
            and rerank.certified(float(d[-1]), float(stored_distances[-1]), key_distance, metric)
        )
        return Answer(ids, d, True, sure, key_distance)

    def fresh(self, found: Found) -> Answer:
        """The answer of the database itself."""
        d = None if found.distances is None else found.distances[: self.k]
        return Answer(found.ids[: self.k], d, False)

    def keep(self, found: Found, generation: int) -> None:
        """Stores a result, unless the cache was cleared since (`generation`, from before the database was asked).

        A learned tolerance forgets what it knew of the slot's former entry.
        """
        if self.cache.generation != generation:
            return
        if self.store is not None:
            slot = self.store(self, found)
        else:
            slot = self.cache.insert(self.q, found.ids, distances=found.distances, k=self.m, namespace=self.namespace)
        learned = self.cache.tolerance
        if slot is not None and isinstance(learned, GuaranteedTolerance):
            learned.forget(slot)


@dataclass(eq=False)
class Flight:
    """A retrieval under way: who leads it, for which query, and where its result will be."""

    request: Request
    loop: asyncio.AbstractEventLoop | None
    future: Future[Found] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.future.set_running_or_notify_cancel()  # a follower that is cancelled does not cancel the leader


class Flights:
    """The retrievals under way of one cache."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.flying: list[Flight] = []
        self.landed = 0  # how many have ended: a change means that the cache may know more than at the last lookup

    def find(self, r: Request, tolerance: float) -> Flight | None:
        """The flight nearest to this query within the tolerance, same namespace, at least as many ids."""
        fit = [f for f in self.flying if f.request.namespace == r.namespace and f.request.m >= r.m]
        if not fit:
            return None
        d = rerank.distances(r.q, np.stack([f.request.q for f in fit]), r.cache.metric)
        d[np.isnan(d)] = np.inf
        i = int(np.argmin(d))
        return fit[i] if d[i] <= tolerance else None

    def detach(self) -> None:
        """No new query joins a flight that is under way: what it will bring may be out of date (a document is gone)."""
        with self.lock:
            self.flying.clear()
            self.landed += 1

    def land(self, flight: Flight) -> None:
        with self.lock:
            self.landed += 1
            if flight in self.flying:
                self.flying.remove(flight)


_tables: weakref.WeakKeyDictionary[CacheLike, Flights] = weakref.WeakKeyDictionary()
_tables_lock = threading.Lock()
_leading: contextvars.ContextVar[bool] = contextvars.ContextVar("collegium_leading", default=False)


def flights(cache: CacheLike) -> Flights:
    """The table of retrievals under way of this cache."""
    with _tables_lock:
        return _tables.setdefault(cache, Flights())


def distance(a: Floats, b: Floats, metric: str) -> float:
    """Distance of two queries in the metric's units ("ip": minus the inner product)."""
    return float(rerank.distances(a, b[None], metric)[0])


def tolerance_now(cache: CacheLike, q: Floats, namespace: Namespace) -> float:
    """The tolerance as a number; an object is asked for this query, and may say None: share nothing."""
    t = cache.tolerance
    if hasattr(t, "threshold"):
        t = t.threshold(cache, q, namespace)
    return -np.inf if t is None else float(t)


class Audit(NamedTuple):
    """A query whose database call measures what its nearest entry would have served."""

    would: Answer
    distance: float
    slot: int
    uniform: bool  # drawn at the audit rate, whatever the distance
    was_hit: bool  # it would have been served: it leaves the cache as it is


def look(r: Request) -> tuple[Answer | None, Audit | None]:
    """Asks the cache: (the answer of a hit or None, what to learn from the database's answer or None)."""
    learned = r.cache.tolerance
    if not isinstance(learned, GuaranteedTolerance):
        hit = r.cache.lookup(r.q, r.m, r.namespace)
        return (None if hit is None else r.served(hit.stored[: r.m], hit.stored_distances, hit.key_distance)), None
    coin = learned.coin()  # before the distance is known: an audit must not depend on it
    near = r.cache.nearest(r.q, r.namespace)
    if near is None:
        return None, None
    d, slot = near
    serve, explore, uniform = learned.decide(coin, d, slot)
    # Just above d, whose square root has been rounded.
    hit = r.cache.lookup(r.q, r.m, r.namespace, tolerance=d * (1 + 1e-6)) if serve or explore else None
    if hit is None or hit.slot != slot:  # evicted in between, or filled with fewer ids than asked for now
        return None, None
    answer = r.served(hit.stored[: r.m], hit.stored_distances, hit.key_distance)
    if not explore:
        return answer, None
    return None, Audit(answer, d, slot, uniform, serve)


def learn(r: Request, audit: Audit, found: Found, generation: int) -> Answer:
    """Tells the learned tolerance how much of the database's answer the nearest entry would have missed. Returns it."""
    loss = recall_loss(audit.would.ids, found.ids[: r.k])
    bad = r.cache.tolerance.observe(audit.distance, loss, slot=audit.slot, uniform=audit.uniform, served=audit.was_hit)
    r.cache.note("audited", 1)
    if bad and not audit.was_hit:
        r.keep(found, generation)
    return r.fresh(found)


@contextmanager
def _as_leader() -> Iterator[None]:
    token = _leading.set(True)
    try:
        yield
    finally:
        _leading.reset(token)


@contextmanager
def _flying(table: Flights, flight: Flight) -> Iterator[None]:
    """Around the leader's retrieval: whatever happens, followers are woken and the table is left clean."""
    try:
        with _as_leader():
            yield
    except BaseException as e:
        table.land(flight)
        flight.future.set_exception(e)
        raise
    table.land(flight)


def _join(r: Request, loop: asyncio.AbstractEventLoop | None, seen: int) -> tuple[Flight, bool] | None:
    """(flight, whether it is ours) for a miss; None if a flight ended since the lookup, which is then to be repeated."""
    table = flights(r.cache)
    tolerance = tolerance_now(r.cache, r.q, r.namespace)
    with table.lock:
        if table.landed != seen:
            return None
        flight = None if _leading.get() else table.find(r, tolerance)
        if flight is not None and not (loop is None and _blocks(flight)):
            return flight, False
        flight = Flight(r, loop)
        table.flying.append(flight)
        return flight, True


def _blocks(flight: Flight) -> bool:
    """Waiting in this thread would stop the very event loop that the leader runs on."""
    try:
        return flight.loop is asyncio.get_running_loop()
    except RuntimeError:
        return False


def _fetch(r: Request) -> Found:
    return r.read(r.retrieve(r.q, r.m), r.m)


async def _afetch(r: Request) -> Found:
    if inspect.iscoroutinefunction(r.retrieve):
        result = await r.retrieve(r.q, r.m)
    else:
        result = await asyncio.to_thread(r.retrieve, r.q, r.m)
        if inspect.isawaitable(result):
            result = await result
    return r.read(result, r.m)


def _from_leader(r: Request, flight: Flight, found: Found) -> Answer:
    r.cache.note("coalesced", 1)
    d = distance(r.q, flight.request.q, r.cache.metric)
    return r.served(found.ids[: r.m], None if found.distances is None else found.distances[: r.m], d)


def _give_up(e: BaseException, failures: int) -> bool:
    """A follower tries again after one failure of a leader, and takes the second as its own. A leader that was
    cancelled or interrupted says nothing of the database, so that does not count."""
    return isinstance(e, Exception) and failures >= 2


def answer(r: Request) -> Answer:
    """The answer to a request: from the cache, from a retrieval under way, or from the database."""
    failures = 0
    while True:
        seen, generation = flights(r.cache).landed, r.cache.generation
        hit, audit = look(r)
        if hit is not None:
            return hit
        if audit is not None:  # never shared: it needs the database's answer to this very query
            with _as_leader():
                found = _fetch(r)
            return learn(r, audit, found, generation)
        joined = _join(r, None, seen)
        if joined is None:
            continue
        flight, ours = joined
        if ours:
            with _flying(flights(r.cache), flight):
                found = _fetch(r)
                r.keep(found, generation)
            flight.future.set_result(found)
            return r.fresh(found)
        try:
            found = flight.future.result()
        except BaseException as e:
            if not flight.future.done() or flight.future.exception() is not e:
                raise  # our own interruption, not the leader's failure
            failures += isinstance(e, Exception)
            if _give_up(e, failures):
                raise
            continue
        return _from_leader(r, flight, found)


async def aanswer(r: Request) -> Answer:
    """As `answer`, without blocking the event loop. A plain `retrieve` runs in a thread of its own."""
    failures = 0
    loop = asyncio.get_running_loop()
    while True:
        seen, generation = flights(r.cache).landed, r.cache.generation
        hit, audit = look(r)
        if hit is not None:
            return hit
        if audit is not None:
            with _as_leader():
                found = await _afetch(r)
            return learn(r, audit, found, generation)
        joined = _join(r, loop, seen)
        if joined is None:
            continue
        flight, ours = joined
        if ours:
            with _flying(flights(r.cache), flight):
                found = await _afetch(r)
                r.keep(found, generation)
            flight.future.set_result(found)
            return r.fresh(found)
        try:
            found = await asyncio.wrap_future(flight.future)
        except BaseException as e:
            if not flight.future.done() or flight.future.exception() is None:
                raise  # we were cancelled
            failures += isinstance(e, Exception)
            if _give_up(e, failures):
                raise
            continue
        return _from_leader(r, flight, found)


def request(
    cache: CacheLike,
    q: Any,
    k: int,
    retrieve: Retrieve,
    rerank_factor: int = 1,
    vectors: Any = None,
    namespace: Namespace = None,
) -> Request:
    """A checked Request. Raises TypeError and ValueError."""
    k = integer(k, "k", 1)
    rho = integer(rerank_factor, "rerank_factor", 1)
    if not callable(retrieve):
        raise TypeError(f"retrieve: expected a function of (query, k), got {type(retrieve).__name__}")
    if rho > 1 and vectors is None:
        raise ValueError("vectors: expected a function of ids or an array, which rerank_factor > 1 needs, got None")
    return Request(cache, vector(q, "q", cache.dim), k, rho * k, retrieve, vectors, namespace)


def get_or_retrieve(
    cache: CacheLike,
    q: Any,
    k: int,
    retrieve: Retrieve,
    rerank_factor: int = 1,
    vectors: Any = None,
    namespace: Namespace = None,
) -> Ids:
    """The ids of the k documents for query q: from the cache if a cached query is near enough, else from `retrieve`.

    q: float32 (dim,); other floats are copied. retrieve: (q, m) -> ids (<= m,), or (distances, ids); -1 is left out.
    rerank_factor: a miss fetches and stores m = rerank_factor * k ids, and a hit returns the best k of them for the NEW
      query, which needs vectors: a function of ids, or an array with row i for id i.
    namespace: hits and shared calls stay inside it (tenant, filter, model); any hashable value.
    Concurrent misses within the tolerance of one under way share its call. If that call fails, the caller that made it
    gets the exception unchanged, and one of those waiting tries again; if that fails too, the others get its exception.
    Nothing is stored of a failed call. Returns int64 (<= k,): fewer if the database has fewer.
    Raises TypeError, ValueError, and what `retrieve` raises.
    """
    return answer(request(cache, q, k, retrieve, rerank_factor, vectors, namespace)).ids


async def aget_or_retrieve(
    cache: CacheLike,
    q: Any,
    k: int,
    retrieve: Callable[[Floats, int], Any],
    rerank_factor: int = 1,
    vectors: Any = None,
    namespace: Namespace = None,
) -> Ids:
    """`get_or_retrieve` for asyncio. retrieve: a coroutine function, or a plain function, which runs in a thread.

    Shares calls with threads that use the same cache. A cancelled caller wakes the others, one of which goes on.
    """
    return (await aanswer(request(cache, q, k, retrieve, rerank_factor, vectors, namespace))).ids
