"""Cache in front of a search: a hit answers, a miss asks the database once however many ask at the same time.

In-flight misses are points, not hash keys: a miss within the tolerance of a query that is being retrieved waits for
that one's result ("single-flight"). One table serves threads and asyncio together. No lock is held while the database
is asked, so a callback may use the cache again; a thread or task that is itself retrieving never waits for another, so
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
from typing import Any

import numpy as np

from . import rerank
from .request import Answer, Found, Request, Retrieve, age_of, distance, learn, look, request, tolerance_now
from .seam import CacheLike, Floats, Ids, Namespace


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
        if isinstance(e, StopIteration):  # no future takes it
            flight.future.set_exception(RuntimeError("retrieve: raised StopIteration"))
        else:
            # A leader that was cancelled or interrupted says nothing of the database.
            flight.future.set_exception(e if isinstance(e, Exception) else _LeaderGone())
        raise
    table.land(flight)


class Shared(Exception):
    """A leader's failure that its followers take as theirs at once, instead of trying again."""


class _LeaderGone(Exception):
    """What followers get of a leader's cancellation: never that exception itself, so their own can be told from it."""


def _join(r: Request, loop: asyncio.AbstractEventLoop | None, seen: int) -> tuple[Flight, bool] | None:
    """(flight, whether it is ours) for a miss; None if a flight ended since the lookup: look again."""
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
        result = await asyncio.to_thread(_no_stop, r.retrieve, r.q, r.m)
        if inspect.isawaitable(result):
            result = await result
    return r.read(result, r.m)


def _no_stop(retrieve: Retrieve, q: Floats, m: int) -> Any:
    try:
        return retrieve(q, m)
    except StopIteration as e:  # a future that is given one never ends
        raise RuntimeError("retrieve: raised StopIteration") from e


def _from_leader(r: Request, flight: Flight, found: Found) -> Answer:
    r.cache.note("coalesced", 1)
    d = distance(r.q, flight.request.q, r.cache.metric)
    return r.served(found.ids[: r.m], None if found.distances is None else found.distances[: r.m], d)


def _again(r: Request) -> None:
    """The query looks into the cache a second time."""
    r.cache.note("looked_again", 1)


def answer(r: Request) -> Answer:
    """The answer to a request: from the cache, from a retrieval under way, or from the database.

    A follower tries again after one failure of a leader, and takes the second as its own.
    """
    failures = 0
    while True:
        seen, age = flights(r.cache).landed, age_of(r.cache)
        hit, audit = look(r)
        if hit is not None:
            return hit
        if audit is not None:  # never shared: it needs the database's answer to this very query
            with _as_leader():
                found = _fetch(r)
            return learn(r, audit, found, age)
        joined = _join(r, None, seen)
        if joined is None:
            _again(r)
            continue
        flight, ours = joined
        if ours:
            with _flying(flights(r.cache), flight):
                found = _fetch(r)
                r.keep(found, age)
            flight.future.set_result(found)
            return r.fresh(found)
        try:
            found = flight.future.result()
        except Exception as e:
            if not flight.future.done() or flight.future.exception() is not e:
                raise  # our own interruption, not the leader's failure
            failures += not isinstance(e, _LeaderGone)
            if failures == 2 or isinstance(e, Shared):
                raise
            _again(r)
            continue
        return _from_leader(r, flight, found)


async def aanswer(r: Request) -> Answer:
    """As `answer`, without blocking the event loop. A plain `retrieve` runs in a thread of its own."""
    failures = 0
    loop = asyncio.get_running_loop()
    while True:
        seen, age = flights(r.cache).landed, age_of(r.cache)
        hit, audit = look(r)
        if hit is not None:
            return hit
        if audit is not None:
            with _as_leader():
                found = await _afetch(r)
            return learn(r, audit, found, age)
        joined = _join(r, loop, seen)
        if joined is None:
            _again(r)
            continue
        flight, ours = joined
        if ours:
            with _flying(flights(r.cache), flight):
                found = await _afetch(r)
                r.keep(found, age)
            flight.future.set_result(found)
            return r.fresh(found)
        try:
            found = await asyncio.wrap_future(flight.future)
        except Exception as e:  # our own cancellation is none
            failures += not isinstance(e, _LeaderGone)
            if failures == 2 or isinstance(e, Shared):
                raise
            _again(r)
            continue
        return _from_leader(r, flight, found)


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
