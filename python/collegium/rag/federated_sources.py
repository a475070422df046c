"""The sources of a federated retriever by name: wrapping, statistics, whose scores compare, whom a router means."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._check import choice
from .baselines import CentroidRouter, RandomRouter
from .endpoint import Endpoint, LocalEndpoint
from .given import searchables
from .http_client import Client
from .http_source import HttpSource, SourceError
from .merge import comparable
from .routing import Mask, Router
from .seam import Floats
from .source import Queries, Searchable, Source, queries

ANY = "?"  # encoder of queries where no source is known yet
Select = Callable[[Queries, int], tuple[Floats, Mask]]  # (queries, rows) -> (P, mask), both (rows, N)


class Federation:
    """Sources, in one order, and what is known of them.

    sources: list or {name: source}. score: their scores will be compared. timeout: s that describing may take.
    Attributes: names (N,), endpoints (N,), known: statistics (N,), None of those that have not told them yet.
    """

    def __init__(self, sources: Any, client: Client, score: bool, timeout: float) -> None:
        given = list(sources.items()) if isinstance(sources, Mapping) else [(None, s) for s in sources]
        if not given:
            raise ValueError("sources: expected at least one, got none")
        several = sum(not isinstance(s, HttpSource) for _, s in given) > 1
        self._client, self._score, self._timeout = client, score, timeout
        self.endpoints: list[Endpoint] = []
        self.names: tuple[str, ...] = ()
        self.known: list[Source | None] = []
        try:
            for name, source in given:
                self.endpoints.append(_endpoint(source, name, several))
            trouble = self._describe()
            self.names = tuple(_name(n, s, t) for (n, s), t in zip(given, trouble))
            if len(set(self.names)) < len(self.names):
                raise ValueError(f"sources: expected different names, got {', '.join(self.names)}")
            self.known = [self._told(s) for s in range(len(given))]
            self._compare()
        except BaseException:
            self.close()
            raise

    def _describe(self) -> list[BaseException | None]:
        """Asks all at once; returns why not, a source. Who does not answer in time is asked again when searched."""

        async def all_of_them() -> list[Any]:
            asking = [asyncio.ensure_future(e.adescribe(self._client)) for e in self.endpoints]
            _, late = await asyncio.wait(asking, timeout=self._timeout)
            for task in late:
                task.cancel()
            return await asyncio.gather(*asking, return_exceptions=True)

        return [e if isinstance(e, BaseException) else None for e in self._client.run(all_of_them())]

    def _told(self, s: int) -> Source | None:
        """What the source says of itself, under the name it has here."""
        told = self.endpoints[s].known
        return told if told is None or told.name == self.names[s] else replace(told, name=self.names[s])

    def _compare(self, *more: Source) -> None:
        sources = [*(s for s in self.known if s is not None), *more]
        for encoder in {s.encoder for s in sources}:
            dims = {s.name: s.dim for s in sources if s.encoder == encoder and s.dim is not None}
            if len(set(dims.values())) > 1:
                raise ValueError(f"sources: expected one dim for encoder {encoder!r}, got {dims}")
        if self._score:
            comparable(sources)

    def refresh(self) -> list[Source]:
        """Reads the statistics again. Returns all that are known. Raises ValueError for a source whose dim changed, or
        that no longer compares with the others; then the old statistics stay."""
        self._describe()
        before, now = self.known, [self._told(s) for s in range(len(self.names))]
        for old, new in zip(before, now):
            if old is not None and new is not None and old.dim != new.dim:
                raise ValueError(f"source {old.name!r}: expected dim {old.dim}, as before, got {new.dim}")
        self.known = now
        try:
            self._compare()
        except ValueError:
            self.known = before
            raise
        return [s for s in now if s is not None]

    def check(self, Q: Any) -> Queries:
        """Checked queries by encoder; under ANY where no source has told its encoder. Raises ValueError naming the
        encoder or a source."""
        for s, known in enumerate(self.known):
            if known is None and self._told(s) is not None:
                with contextlib.suppress(ValueError):  # of one that does not fit, its next failure tells
                    self._learn(s)
        sources = [s for s in self.known if s is not None]
        if isinstance(Q, Mapping):  # a source that is not known yet may need the others
            sources += [Source(self.names[0], encoder=e) for e in Q if all(s.encoder != e for s in sources)]
        return queries(Q, sources or [Source(self.names[0], encoder=ANY)], "q")

    def _learn(self, s: int) -> Source:
        told = self._told(s)
        assert told is not None
        self._compare(told)
        self.known[s] = told
        return told

    def vectors(self, Q: Queries) -> Callable[[int, NDArray[np.int64]], Floats]:
        """(source, rows) -> its queries. Raises SourceError for a source that was unknown so far and does not fit."""

        def of(s: int, rows: NDArray[np.int64]) -> Floats:
            name = self.names[s]
            try:
                about = self.known[s] or self._learn(s)
            except ValueError as e:
                raise SourceError(name, "not comparable", str(e)) from e
            array = Q.get(about.encoder, Q.get(ANY))
            if array is None:
                raise SourceError(name, "wrong encoder", f"expected one of {sorted(Q)}, got {about.encoder!r}")
            if about.dim not in (None, array.shape[1]):
                raise SourceError(name, "wrong dimension", f"expected {array.shape[1]}, the query's, got {about.dim}")
            return array[rows]

        return of

    def larger_is_better(self) -> list[bool]:
        """The direction of each source's scores; of one that is not known yet, the direction of those that are."""
        known = next((s.larger_is_better for s in self.known if s is not None), True)
        return [known if s is None else s.larger_is_better for s in self.known]

    def routing(self, router: Any, on_empty: str | None, k: int, seed: int) -> tuple[Router | str, Select]:
        """(the router, how it selects). Raises ValueError for names that do not match."""
        n = len(self.names)
        if router in ("all", "none") if isinstance(router, str) else False:
            return router, lambda Q, rows: (np.ones((rows, n), np.float32), np.full((rows, n), router == "all"))
        if isinstance(router, str) and router == "centroid" and None in self.known:
            return router, self._nearest
        if isinstance(router, str):
            router = self._baseline(router, seed)
        if not isinstance(router, Router):
            raise TypeError(f"router: expected a Router, 'all', 'none', 'random' or 'centroid', got {router!r}")
        missing, unknown = sorted(set(router.names) - set(self.names)), sorted(set(self.names) - set(router.names))
        if missing or unknown:
            raise ValueError(
                f"router: expected sources {', '.join(self.names)}, got {', '.join(router.names)} "
                f"({', '.join(missing or unknown)} {'cannot be searched' if missing else 'is not routed to'})"
            )
        self._warn(router, k)
        columns = [router.names.index(name) for name in self.names]
        policy = {} if on_empty is None else {"on_empty": on_empty}

        def select(Q: Queries, rows: int) -> tuple[Floats, Mask]:
            P = router.predict_proba(next(iter(Q.values())) if len(Q) == 1 else Q)
            return P[:, columns], router.choose(P, **policy)[:, columns]

        router.choose(np.zeros((1, n), np.float32), **policy)  # a wrong on_empty is an error now
        return router, select

    def _baseline(self, name: str, seed: int) -> Router:
        choice(name, "router", ("all", "none", "random", "centroid"))
        encoder = next((s.encoder for s in self.known if s is not None), "")
        sources = [s or Source(n, encoder=encoder) for n, s in zip(self.names, self.known)]
        n = len(sources)
        baseline = RandomRouter(max(1, n // 2), seed) if name == "random" else CentroidRouter(min(2, n))
        return baseline.fit(None, None, sources)

    def _nearest(self, Q: Queries, rows: int) -> tuple[Floats, Mask]:
        """The two sources with the nearest centroids, and all that did not tell theirs yet, or they never would; their
        score is NaN."""
        P, mask = np.full((rows, len(self.names)), np.nan, np.float32), np.ones((rows, len(self.names)), bool)
        known = list(self.known)  # other threads learn of sources too
        told = [i for i, s in enumerate(known) if s is not None and s.centroid is not None and s.encoder in Q]
        if told and rows:
            sources = [s for s in (known[i] for i in told) if s is not None]
            router = CentroidRouter(min(2, len(told))).fit(None, None, sources)
            P[:, told] = router.predict_proba(Q)
            mask[:, told] = router.choose(P[:, told])
        return P, mask

    def _warn(self, router: Router, k: int) -> None:
        trained = getattr(router, "k", None)
        if trained is not None and trained != k:
            warnings.warn(f"router: it was trained for k={trained}, k={k} makes other sources relevant", stacklevel=5)
        now = dict(zip(self.names, self.known))
        for then in router.sources:
            s = now[then.name]
            if s is not None and s.dim is not None and then.dim not in (None, s.dim):
                raise ValueError(f"source {s.name!r}: expected dim {then.dim}, the router's, got {s.dim}")
            if s is not None and s.encoder != then.encoder and s.encoder and then.encoder:
                warnings.warn(
                    f"source {s.name!r}: the router was fitted for encoder {then.encoder!r}, not {s.encoder!r}",
                    stacklevel=5,
                )
            if s is not None and (s.version, s.count) != (then.version, then.count) and then.count is not None:
                warnings.warn(
                    f"source {s.name!r} changed since the router was fitted: version {then.version!r} -> "
                    f"{s.version!r}, count {then.count} -> {s.count}; see router.refresh_centroids()",
                    stacklevel=5,
                )

    def close(self) -> None:
        """Ends the threads of sources in this process."""
        for e in self.endpoints:
            if isinstance(e, LocalEndpoint):
                e.close()


def _endpoint(source: Any, name: str | None, several: bool) -> Endpoint:
    if name is not None and (not isinstance(name, str) or not name):
        raise TypeError(f"sources: expected names as non-empty strings, got {name!r}")
    if isinstance(source, HttpSource):
        return source
    if not callable(getattr(source, "describe", None)):
        if name is None:
            raise TypeError(f"sources: expected {{name: source}} for what has no name, got {type(source).__name__}")
        source = searchables({name: source})[0]
    searchable: Searchable = source
    return LocalEndpoint(searchable, name or searchable.name, several)


def _name(name: str | None, source: Any, trouble: BaseException | None) -> str:
    if name is not None:
        return name
    if isinstance(source, HttpSource) and source.label == source.url:
        reason = trouble.reason if isinstance(trouble, SourceError) else "timeout"
        raise SourceError(source.url, reason, "its name is not known: give HttpSource(url, name=...)") from trouble
    return source.label if isinstance(source, HttpSource) else str(source.name)
