"""Batches of queries: one by one, all lookups first, or misses that are near each other sharing a database call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._check import choice
from . import flight, request, rerank
from .arrays import asarray, matrix, split_result
from .guarantee import GuaranteedTolerance
from .request import Answer, Found, Request
from .seam import CacheLike, Floats, Ids, Namespace

Mode = Literal["sequential", "snapshot", "coalesce"]
MODES = ("sequential", "snapshot", "coalesce")


class BatchAnswer(NamedTuple):
    """Row i answers query i.

    ids: int64 (B, k), -1 where the database has no more. distances: float32 (B, k) to the NEW query, NaN where unknown.
    hit_mask: bool (B,), not asked of the database for this very query. certified: bool (B,), hits that are provably the
    database's own answer. key_distance: float32 (B,) to the cached query, NaN on a miss. calls: queries sent.
    """

    ids: Ids
    distances: Floats
    hit_mask: NDArray[np.bool_]
    certified: NDArray[np.bool_]
    key_distance: Floats
    calls: int


def read_rows(result: Any, rows: int, m: int) -> list[Found]:
    """What a search of several queries returned, row by row. Raises TypeError, ValueError as `request.read_found`."""
    ids = asarray(split_result(result)[1], "retrieve")
    if ids.ndim != 2 or len(ids) != rows:
        raise ValueError(f"retrieve: expected ids of shape ({rows}, <= {m}), got {ids.shape}")
    return [request.read_found(row, m) for row in ids]


def run(
    r: Request,
    Q: Floats,
    mode: str,
    search: Callable[[Floats, int], Any],
    read: Callable[[Any, int, int], list[Found]] = read_rows,
) -> BatchAnswer:
    """Answers the rows of Q as `r` says (its own query is not used). search: (Q, m) -> what `read` understands."""
    answers: list[Answer | None] = [None] * len(Q)
    calls, age = 0, request.age_of(r.cache)

    def one(q: Floats, m: int) -> Any:
        nonlocal calls
        calls += 1
        return search(q[None], m)

    requests = [replace(r, q=q, retrieve=one, read=lambda result, m: read(result, 1, m)[0]) for q in Q]
    # Audits are drawn query by query, so a learned tolerance makes every mode sequential.
    if mode == "sequential" or isinstance(r.cache.tolerance, GuaranteedTolerance):
        return rows_of([flight.answer(s) for s in requests], r.k, calls)

    if r.vectors is None:
        hit, ids, d = r.cache.lookup_batch(Q, r.m, r.namespace)
        for i in np.flatnonzero(hit).tolist():
            answers[i] = Answer(ids[i][ids[i] >= 0][: r.k], None, True, False, float(d[i]))
    else:
        answers = [request.look(s)[0] for s in requests]
    misses = [i for i, a in enumerate(answers) if a is None]
    leader = _leaders(Q, misses, r.cache, r.namespace) if mode == "coalesce" else {i: i for i in misses}
    asked = [i for i in misses if leader[i] == i]
    if asked:
        found = dict(zip(asked, read(search(Q[asked], r.m), len(asked), r.m)))
        for i in asked:
            requests[i].keep(found[i], age)
            answers[i] = requests[i].fresh(found[i])
        for i in misses:
            if leader[i] != i:
                f, d_key = found[leader[i]], request.distance(Q[i], Q[leader[i]], r.cache.metric)
                answers[i] = requests[i].served(f.ids, f.distances, d_key)
        if len(asked) < len(misses):
            r.cache.note("coalesced", len(misses) - len(asked))
    return rows_of([a for a in answers if a is not None], r.k, len(asked))


def _leaders(Q: Floats, misses: list[int], cache: CacheLike, namespace: Namespace) -> dict[int, int]:
    """For each miss, the nearest earlier miss within the tolerance that is itself asked for, or itself."""
    leader: dict[int, int] = {}
    asked: list[int] = []
    for i in misses:
        leader[i] = i
        if asked:
            d = rerank.distances(Q[i], Q[asked], cache.metric)
            d[np.isnan(d)] = np.inf
            nearest = int(np.argmin(d))
            if d[nearest] <= request.tolerance_now(cache, Q[i], namespace):
                leader[i] = asked[nearest]
                continue
        asked.append(i)
    return leader


def rows_of(answers: list[Answer], k: int, calls: int) -> BatchAnswer:
    ids = np.full((len(answers), k), -1, np.int64)
    distances = np.full((len(answers), k), np.nan, np.float32)
    for i, a in enumerate(answers):
        ids[i, : len(a.ids)] = a.ids
        if a.distances is not None:
            distances[i, : len(a.distances)] = a.distances
    return BatchAnswer(
        ids,
        distances,
        np.array([a.hit for a in answers], bool),
        np.array([a.certified for a in answers], bool),
        np.array([a.key_distance for a in answers], np.float32),
        calls,
    )


def get_or_retrieve_batch(
    cache: CacheLike,
    Q: Any,
    k: int,
    retrieve: Callable[[Floats, int], Any],
    rerank_factor: int = 1,
    vectors: Any = None,
    namespace: Namespace = None,
    mode: Mode = "coalesce",
) -> BatchAnswer:
    """`get_or_retrieve` for the rows of Q, float32 (B, dim); B may be 0.

    retrieve: (Q (b, dim), m) -> ids (b, <= m), or (distances, ids); -1 for "no more".
    mode: "sequential" is exactly a loop of `get_or_retrieve`. "snapshot" looks all rows up before it inserts any, and
      sends every miss. "coalesce" does too, but a miss within the tolerance of an earlier miss shares its call: no more
      calls than "sequential", unless an eviction inside the batch would have moved its keys.
    If `retrieve` raises, nothing of the batch is stored (sequential: nothing after that row).
    A learned tolerance makes every mode sequential. Raises TypeError, ValueError, and what `retrieve` raises.
    Source: snapshot batches of 32 are what the authors' harness does.
    """
    choice(mode, "mode", MODES)
    rows = matrix(Q, "Q", cache.dim)
    r = request.request(cache, np.zeros(cache.dim, np.float32), k, retrieve, rerank_factor, vectors, namespace)
    return run(r, rows, mode, retrieve)


def warm(
    cache: CacheLike,
    queries: Any,
    search: Callable[[Floats, int], Any],
    k: int = 10,
    *,
    rerank_factor: int = 1,
    namespace: Namespace = None,
    batch: int = 256,
) -> int:
    """Fills the cache from a log of queries, oldest first, float32 (N, dim). Returns how many it had to ask for.

    search: (Q, m) -> (distances, ids) or ids, as an index's own `search`. A query within the tolerance of one before
    takes no entry. rerank_factor: as the later lookups will use, so that entries hold enough ids.
    """
    Q = matrix(queries, "queries", cache.dim)
    r = request.request(cache, np.zeros(cache.dim, np.float32), k, search, rerank_factor, lambda ids: 0, namespace)
    r.vectors = None  # nothing is served here, so nothing is re-ranked
    return sum(run(r, Q[i : i + batch], "coalesce", search).calls for i in range(0, len(Q), batch))
