"""A retriever over several sources: chooses whom to ask, asks them at once, merges what comes, survives the rest."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from .._check import choice, integer, real
from .arrays import asarray
from .breaker import Breaker
from .caller import Awaiting, Blocking, Caller, now
from .fanout import Ask, FanOut
from .federated_cache import CacheFront
from .federated_merge import Merger
from .federated_result import AllSourcesFailed, FederatedResult, Hit
from .federated_sources import Federation
from .http_client import Client
from .routing import Mask
from .seam import Floats
from .source import Queries, Source

__all__ = ["AllSourcesFailed", "FederatedResult", "FederatedRetriever", "Hit"]

log = logging.getLogger("collegium.rag.federated")
ON_FAILURE = ("partial", "raise", "next")


@dataclass(frozen=True)
class _Question:
    """queries: checked, by encoder. single: one query, the result has no leading dimension. began: monotonic s, after
    encoding: here the deadline starts. encoded: s that the encoder took."""

    queries: Queries
    k: int
    single: bool
    began: float
    encoded: float

    @property
    def rows(self) -> int:
        return len(next(iter(self.queries.values())))


class FederatedRetriever:
    """Searches several sources as one.

    sources: a list, or {name: source}; each an `HttpSource`, anything Searchable, or an index (FAISS, hnswlib,
      usearch) or array, which needs a name. Their statistics are read here, for at most `deadline`; one that does
      not answer is described when it first does.
    router: who is asked: a `SourceRouter` or baseline, matched to the sources by name; "all", "none", "random" (half
      of the sources), "centroid" (the two with the nearest centroids; of sources that are down at the start, all that
      have not told theirs since are asked too). on_empty: "top1", "all" or "none", in place of
      the router's own policy. seed: of "random".
    k: documents a query. timeout: s for each source, unless it has its own. deadline: s for selection and all sources;
      of a batch, except behind a cache with a learned tolerance, where each query has its own.
    on_failure: "partial": whoever answered counts; "raise": AllSourcesFailed where nobody did; "next": the likeliest
      sources not yet asked are asked in place of those that failed, inside the deadline.
    hedge: s after which an unanswered request is sent once more, the first answer counts (HTTP; costs up to twice).
    fusion: "score" merges by score (default), which needs one encoder, metric and normalisation; else a method of
      `collegium.rag.fuse`: "rrf", "minmax", "cori", "interleave", weighted by the router's scores; all alike for
      a query where that of a source it was sent to is negative.
    dedup_key: passage -> key, or the name of a field: of documents with equal keys the best stays, and others move up:
      sources are asked for 2 k, or k if they refuse. A result is short where these held too few different ones.
    encoder: text -> vector, or text -> {encoder: vector}; then queries may be strings.
    breaker: makes a source's `Breaker`; None: none.
    cache: a `ProximityCache` in front; cleared when a source's version changes. See `federated_cache` for what is kept.

    Threads may share it. Blocking calls work inside a running event loop too, and block it; `asearch` does not.
    close() it, or use ``with``. Attributes: `names`, `router`, `breakers` {name: Breaker}, `counters` (a plain dict,
    Prometheus style), `cache`, `on_version_change` (list of callables: name, old tag, new tag; one that raises is
    logged).
    Raises ValueError, TypeError; SourceError where a source without a name does not tell it.
    Source: section 3 of arXiv 2502.19280; partial results as Elasticsearch's cross-cluster search words them.
    """

    def __init__(
        self,
        sources: Any,
        router: Any = "all",
        k: int = 32,
        *,
        timeout: float = 1.0,
        deadline: float = 2.0,
        on_failure: str = "partial",
        on_empty: str | None = None,
        hedge: float | None = None,
        fusion: str | None = None,
        dedup_key: Callable[[Any], Any] | str | None = None,
        encoder: Callable[[str], Any] | None = None,
        breaker: Callable[[], Breaker] | None = Breaker,
        cache: Any = None,
        seed: int = 0,
    ) -> None:
        self.k = integer(k, "k", 1)
        self.timeout = real(timeout, "timeout", positive=True)
        self.deadline = real(deadline, "deadline", positive=True)
        self.on_failure = choice(on_failure, "on_failure", ON_FAILURE)
        self.hedge = None if hedge is None else real(hedge, "hedge", positive=True)
        if encoder is not None and not callable(encoder):
            raise TypeError(f"encoder: expected a function of a text, got {type(encoder).__name__}")
        self.encoder = encoder
        self.on_version_change: list[Callable[[str, str, str], Any]] = []
        self.counters: dict[str, float] = {}
        self._lock = threading.Lock()
        self._merger = Merger(fusion, dedup_key)
        self._client = Client()
        try:
            self._federation = Federation(sources, self._client, self._merger.method == "score", self.deadline)
            self.names = self._federation.names
            self.router, self._select = self._federation.routing(router, on_empty, self.k, seed)
            self._front = None if cache is None else CacheFront(cache, self.names)
        except BaseException:
            self.close()
            raise
        self.breakers = {name: breaker() for name in self.names} if breaker is not None else {}
        self._fan = FanOut(
            self._federation.endpoints, [self.breakers.get(n) for n in self.names], self._client,
            self.timeout, self.deadline, self.hedge,
        )  # fmt: skip
        self._versions = {n: s.version for n, s in self.sources.items() if s is not None}
        self.cache = cache

    @property
    def sources(self) -> dict[str, Source | None]:
        """What is known of each source; None for one that has not answered yet."""
        return dict(zip(self.names, self._federation.known))

    def search(self, q: Any, k: int | None = None) -> FederatedResult:
        """The best k documents for q: float32 (d,) or (B, d), {encoder: array}, a text or a list of texts.

        Returns by the deadline, whatever the sources do. A request that the deadline cut short, with less time than
        the source's timeout, is no failure to its breaker. Raises ValueError and TypeError for a bad query, naming the
        source or encoder, before anything is sent; AllSourcesFailed with on_failure="raise"; RuntimeError when closed,
        also while it waits; TypeError for a key of dedup_key that is not hashable.
        """
        return now(self._search(q, k, Blocking(self._client)))

    async def asearch(self, q: Any, k: int | None = None) -> FederatedResult:
        """As search(), from any event loop, which stays free. Cancelling it cancels the requests."""
        return await self._search(q, k, Awaiting(self._client))

    def refresh(self) -> dict[str, Source]:
        """Reads the statistics of all sources again; of one that does not answer, the old ones stay.

        Changed version tags call `on_version_change`. Raises ValueError for a source whose dimension changed.
        """
        known = {s.name: s for s in self._federation.refresh()}
        for name, s in known.items():
            self._see(name, s.version)
        return known

    async def _search(self, q: Any, k: int | None, caller: Caller) -> FederatedResult:
        started = time.perf_counter()
        question = await self._read(q, self.k if k is None else integer(k, "k", 1), caller)
        if self._front is None or not question.rows:
            result = await self._fetch(question, caller)
        else:
            encoder, key = self._cache_key(question)

            async def fetch(Q: Floats, began: float | None) -> FederatedResult:
                start = question.began if began is None else began
                return await self._fetch(replace(question, queries={encoder: Q}, began=start), caller)

            result = await self._front.search(key, question.k, fetch, caller)
        total = time.perf_counter() - started
        result = replace(result, timings={**result.timings, "encode": question.encoded, "total": total})
        return result.row(0) if question.single else result

    async def _read(self, q: Any, k: int, caller: Caller) -> _Question:
        began = time.perf_counter()
        texts = [q] if isinstance(q, str) else q
        single = isinstance(q, str)
        if isinstance(texts, (list, tuple)) and texts and all(isinstance(t, str) for t in texts):
            encode = self.encoder
            if encode is None:
                raise TypeError("q: expected vectors, or a retriever with encoder=, got a text")
            q = _side_by_side([await caller.slow(partial(encode, t)) for t in texts])
        elif isinstance(q, Mapping):
            single = all(asarray(a, "q").ndim == 1 for a in q.values())
        else:
            q = asarray(q, "q")
            single = q.ndim == 1
        queries = self._federation.check(q)
        return _Question(queries, k, single, time.monotonic(), time.perf_counter() - began)

    def _cache_key(self, question: _Question) -> tuple[str, Floats]:
        if len(question.queries) > 1:
            raise ValueError(f"cache: expected sources of one encoder, got {', '.join(sorted(question.queries))}")
        return next(iter(question.queries.items()))

    async def _fetch(self, question: _Question, caller: Caller) -> FederatedResult:
        """Selects, asks, merges. The result is a batch."""
        began = time.perf_counter()
        P, mask = self._select(question.queries, question.rows)
        selected = time.perf_counter()
        vectors, order = self._federation.vectors(question.queries), P if self.on_failure == "next" else None
        wanted = self._merger.wanted(question.k)
        asks = await caller.run(self._fan.run(vectors, mask, wanted, question.began, order, question.k))
        retrieved = time.perf_counter()
        merged, passages = self._merger.merge(asks, P, question.k, self._federation.larger_is_better())
        given = [
            [passages[s].get(i) if i >= 0 else None for s, i in zip(*row)]
            for row in zip(merged.source.tolist(), merged.ids.tolist())
        ]
        seconds = {
            "select": selected - began, "retrieve": retrieved - selected, "merge": time.perf_counter() - retrieved,
            "sources": {self.names[a.source]: _seconds(a) for a in asks if a.usages},
        }  # fmt: skip
        result = FederatedResult(
            merged.ids, merged.D, merged.source, given, self.names, P, mask, _answered(asks, mask.shape),
            **self._reasons(asks, mask), timings=seconds, bytes_in=sum(u.bytes_in for a in asks for u in a.usages),
            bytes_out=sum(u.bytes_out for a in asks for u in a.usages), from_cache=np.zeros(len(mask), bool),
        )  # fmt: skip
        self._count(asks, result)
        for ask in asks:
            if ask.reply is not None and ask.reply.version is not None:
                self._see(self.names[ask.source], ask.reply.version)
        if self.on_failure == "raise" and (mask.any(axis=1) & ~result.answered_mask.any(axis=1)).any():
            raise AllSourcesFailed(result)
        return result

    def _reasons(self, asks: list[Ask], mask: Mask) -> dict[str, dict[str, str]]:
        skipped = {n: "not selected" for n, asked in zip(self.names, np.any(mask, axis=0).tolist()) if not asked}
        failed: dict[str, str] = {}
        details: dict[str, str] = {}
        for a in asks:
            name = self.names[a.source]
            if skipped.get(name) == "not selected":
                del skipped[name]  # it was asked in place of another
            if a.reason is not None:
                (skipped if a.skipped else failed)[name] = a.reason
                if a.detail:
                    details[name] = a.detail
        skipped = {n: r for n, r in skipped.items() if n not in failed}
        return {"failed": failed, "skipped": skipped, "details": details}

    def _count(self, asks: list[Ask], result: FederatedResult) -> None:
        def add(name: str, amount: float = 1, **labels: str) -> None:
            text = ",".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in labels.items())
            full = f"collegium_federated_{name}_total" + (f"{{{text}}}" if text else "")
            self.counters[full] = self.counters.get(full, 0) + amount

        with self._lock:
            add("queries", len(result.ids))
            add("partial", int(result.partial.sum()))
            add("bytes_in", result.bytes_in)
            add("bytes_out", result.bytes_out)
            for a in asks:
                add("requests", len(a.usages), source=self.names[a.source])
                if a.reason is not None:
                    add("failures", source=self.names[a.source], reason=a.reason)

    def _see(self, name: str, version: str) -> None:
        """Takes notice of a source's version tag."""
        with self._lock:
            old = self._versions.get(name)
            self._versions[name] = version
        if old not in (None, version):
            if self._front is not None:
                self._front.clear()
            for callback in list(self.on_version_change):
                try:
                    callback(name, old, version)
                except Exception:  # the answer is there, and others want to know as well
                    log.warning("on_version_change: %r raised for source %r", callback, name, exc_info=True)

    def close(self) -> None:
        """Cancels what runs; closes connections and threads. A second call does nothing."""
        self._client.close()
        if hasattr(self, "_federation"):
            self._federation.close()

    def __enter__(self) -> FederatedRetriever:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> FederatedRetriever:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        cached = "" if self.cache is None else f", cache={self.cache!r}"
        return (
            f"FederatedRetriever({len(self.names)} sources: {', '.join(self.names)}; router={self.router!r}, "
            f"k={self.k}, "
            f"timeout={self.timeout:g}, deadline={self.deadline:g}, on_failure={self.on_failure!r}{cached})"
        )


def _side_by_side(encoded: list[Any]) -> Any:
    """Vectors, or mappings of vectors, of several texts as one batch."""
    if isinstance(encoded[0], Mapping):
        return {name: np.stack([asarray(e[name], "encoder") for e in encoded]) for name in encoded[0]}
    return np.stack([asarray(e, "encoder") for e in encoded])


def _seconds(ask: Ask) -> dict[str, float]:
    u = ask.usages[-1]
    return {"t_connect": u.t_connect, "t_first": u.t_first, "t_total": u.t_total}


def _answered(asks: list[Ask], shape: tuple[int, ...]) -> Mask:
    out = np.zeros(shape, bool)
    for a in asks:
        if a.reply is not None:
            out[a.rows, a.source] = True
    return out
