"""One question to a cache: what is asked, what a hit serves, what an audit learns."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
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


Age = tuple[int, int]
_NO_LOCK: AbstractContextManager[Any] = nullcontext()


def age_of(cache: CacheLike) -> Age:
    """How often the cache was cleared, and entries were declared out of date."""
    return cache.generation, getattr(cache, "changes", 0)


@dataclass
class Request:
    """One question to the cache, and how to go on from a miss.

    m: ids to fetch and store, rerank_factor * k. read: result of `retrieve` -> Found. store: puts it in the cache.
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
            and rerank.certified(
                float(d[-1]),
                float(stored_distances[-1]),
                key_distance,
                metric,
                float(np.linalg.norm(self.q)),
                len(self.q),
            )
        )
        return Answer(ids, d, True, sure, key_distance)

    def fresh(self, found: Found) -> Answer:
        """The answer of the database itself."""
        d = None if found.distances is None else found.distances[: self.k]
        return Answer(found.ids[: self.k], d, False)

    def keep(self, found: Found, age: Age) -> None:
        """Stores a result, unless the cache was cleared, or entries declared out of date, since (`age`, from before the
        database was asked): the result may hold what is gone."""
        if self.store is not None:
            if age_of(self.cache) == age:
                self.store(self, found)
            return
        with getattr(self.cache, "changing", _NO_LOCK):  # else a change may fall between the question and the insertion
            if age_of(self.cache) == age:
                self.cache.insert(self.q, found.ids, distances=found.distances, k=self.m, namespace=self.namespace)


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
    tenant: int  # of the slot when it was looked at: it may hold another entry when the database has answered


def look(r: Request) -> tuple[Answer | None, Audit | None]:
    """Asks the cache: (the answer of a hit or None, what to learn from the database's answer or None)."""
    learned = r.cache.tolerance
    if not isinstance(learned, GuaranteedTolerance):
        hit = r.cache.lookup(r.q, r.m, r.namespace)
        return (None if hit is None else _of_hit(r, hit)), None
    tenants = learned.tenants  # before the slot is known: an entry that moves in later is not taken for this one
    coin = learned.coin()  # before the distance is known: an audit must not depend on it
    near = r.cache.nearest(r.q, r.namespace)
    if near is None:
        r.cache.note("unserved", 1)
        return None, None
    d, slot = near
    serve, explore, uniform = learned.decide(coin, d, slot)
    if not (serve or explore):
        r.cache.note("unserved", 1)
    # Just above d, whose square root has been rounded.
    hit = r.cache.lookup(r.q, r.m, r.namespace, tolerance=d * (1 + 1e-6)) if serve or explore else None
    if hit is not None and (explore or hit.slot != slot):
        r.cache.note("set_aside", 1)
    if hit is None or hit.slot != slot:  # evicted in between, or filled with fewer ids than asked for now
        return None, None
    answer = _of_hit(r, hit)
    if not explore:
        return answer, None
    return None, Audit(answer, d, slot, uniform, serve, tenants)


def _of_hit(r: Request, hit: Any) -> Answer:
    """What an entry serves, as if it had been filled for m ids: its further distances prove nothing of these."""
    d = hit.stored_distances
    return r.served(hit.stored[: r.m], None if d is None else d[: r.m], hit.key_distance)


def learn(r: Request, audit: Audit, found: Found, age: Age) -> Answer:
    """Tells the learned tolerance how much of the database's answer the nearest entry would have missed. Returns it."""
    loss = recall_loss(audit.would.ids, found.ids[: r.k])
    bad = r.cache.tolerance.observe(
        audit.distance, loss, slot=audit.slot, uniform=audit.uniform, served=audit.was_hit, tenant=audit.tenant
    )
    r.cache.note("audited", 1)
    if bad and not audit.was_hit:
        r.keep(found, age)
    return r.fresh(found)


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
