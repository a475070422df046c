"""What a federated search found, who answered, who did not and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .routing import Mask
from .seam import Floats, Ids

_BY_ROW = (
    "ids", "scores", "source", "passages", "probabilities", "selected_mask", "answered_mask", "from_cache",
)  # fmt: skip


class Hit(NamedTuple):
    """One document. id: in its source. score: in the metric of the sources, or of the fusion; NaN from the cache."""

    source: str
    id: int
    score: float
    passage: Any

    @property
    def text(self) -> str:
        """The passage, or its field "text"; empty where there is none."""
        text = self.passage.get("text") if isinstance(self.passage, Mapping) else self.passage
        return "" if text is None else str(text)

    @property
    def metadata(self) -> dict[str, Any]:
        """The other fields of the passage, and source, id and score."""
        more = self.passage if isinstance(self.passage, Mapping) else {}
        return {
            **{n: v for n, v in more.items() if n != "text"},
            "source": self.source,
            "id": self.id,
            "score": self.score,
        }


class AllSourcesFailed(ConnectionError):
    """No selected source answered (on_failure="raise"). reasons: {source: reason}; result: what there is."""

    def __init__(self, result: FederatedResult) -> None:
        listed = ", ".join(f"{name}: {reason}" for name, reason in result.reasons.items())
        super().__init__(f"none of the selected sources answered ({listed})")
        self.reasons, self.result = result.reasons, result


@dataclass(frozen=True, eq=False)
class FederatedResult:
    """The best k documents of all that answered. A single query has arrays without the leading B.

    ids: int64 (B, k), of a document in its source, best first, -1 where there is no more. source: int32 (B, k), index
    into `names`, -1 likewise. scores: float32 (B, k), NaN likewise, and for answers from the cache. passages: lists of
    the same shape, None where there is none. names: of the N sources.
    probabilities: float32 (B, N), the router's scores. selected_mask, answered_mask: bool (B, N), who was asked and who
    answered; sources asked in place of one that failed are in the second only.
    failed: {name: reason} of those asked. skipped: {name: reason} of those not asked: "not selected", "breaker open".
    details: {name: sentence} for some of these. from_cache: bool (B,), no source was asked: an answer from the cache,
    or another query's that was under way, partial or not.
    timings: s: encode, select, retrieve, merge, total, and sources: {name: {t_connect, t_first, t_total}} from the
    source's request on, NaN where it did not come so far. bytes_in, bytes_out: on the wire of all requests, headers
    included; 0 for sources in this process.
    """

    ids: Ids
    scores: Floats
    source: NDArray[np.int32]
    passages: list[Any]
    names: tuple[str, ...]
    probabilities: Floats
    selected_mask: Mask
    answered_mask: Mask
    failed: dict[str, str]
    skipped: dict[str, str]
    details: dict[str, str]
    timings: dict[str, Any]
    bytes_in: int = 0
    bytes_out: int = 0
    from_cache: Any = False

    @property
    def sources(self) -> list[Any]:
        """Names in the shape of `ids`, None where there is no document."""
        named = [[self.names[s] if s >= 0 else None for s in row] for row in np.atleast_2d(self.source).tolist()]
        return named if self.ids.ndim == 2 else named[0]

    @property
    def selected(self) -> tuple[str, ...]:
        """Names of the sources selected for any query."""
        return self._named(self.selected_mask)

    @property
    def answered(self) -> tuple[str, ...]:
        """Names of the sources that answered for any query."""
        return self._named(self.answered_mask)

    @property
    def partial(self) -> NDArray[np.bool_]:
        """bool (B,): queries that a selected source did not answer, whatever others did in its place."""
        return np.asarray((np.atleast_2d(self.selected_mask) & ~np.atleast_2d(self.answered_mask)).any(axis=1))

    @property
    def is_partial(self) -> bool:
        """Whether a selected source did not answer."""
        return bool(self.partial.any())

    @property
    def reasons(self) -> dict[str, str]:
        """{name: reason} of the sources that should have answered and did not."""
        return {**{n: r for n, r in self.skipped.items() if r != "not selected"}, **self.failed}

    def hits(self, row: int = 0) -> list[Hit]:
        """The documents of one query, best first."""
        ids, source, scores = (np.atleast_2d(a)[row].tolist() for a in (self.ids, self.source, self.scores))
        passages = self.passages[row] if self.ids.ndim == 2 else self.passages
        return [Hit(self.names[s], i, d, p) for s, i, d, p in zip(source, ids, scores, passages) if i >= 0]

    def row(self, i: int) -> FederatedResult:
        """The result of one query of a batch; reasons, timings and bytes stay those of the batch."""
        return replace(self, **{name: getattr(self, name)[i] for name in _BY_ROW})

    def rows(self, i: int) -> FederatedResult:
        """The same, as a batch of one."""
        return replace(self, **{name: getattr(self, name)[i : i + 1] for name in _BY_ROW})

    def _named(self, mask: Mask) -> tuple[str, ...]:
        return tuple(self.names[s] for s in np.flatnonzero(np.atleast_2d(mask).any(axis=0)))

    def __repr__(self) -> str:
        found = int((self.ids >= 0).sum())
        who = "cache" if np.all(self.from_cache) else f"{len(self.answered)} of {len(self.selected)} sources"
        trouble = f", failed={self.reasons}" if self.reasons else ""
        return f"FederatedResult({found} documents from {who}, {1e3 * self.timings['total']:.1f} ms{trouble})"


def stacked(parts: Sequence[FederatedResult]) -> FederatedResult:
    """Batches as one. Reasons are those of all parts; of the same request, which rows may share, bytes count once."""
    if len(parts) == 1:
        return parts[0]
    whole = {id(p.timings): p for p in parts}.values()
    columns: dict[str, Any] = {n: np.concatenate([getattr(p, n) for p in parts]) for n in _BY_ROW if n != "passages"}
    for name in ("failed", "details", "timings"):
        columns[name] = {key: value for p in whole for key, value in getattr(p, name).items()}
    why = [(n, r) for p in whole for n, r in p.skipped.items()]
    asked = {n for p in whole for n in (*p.selected, *p.answered)} | {n for n, r in why if r != "not selected"}
    columns["skipped"] = {
        n: r for n, r in why if n not in columns["failed"] and (r != "not selected" or n not in asked)
    }  # fmt: skip
    return replace(
        parts[0], **columns, passages=[row for p in parts for row in p.passages],
        bytes_in=sum(p.bytes_in for p in whole), bytes_out=sum(p.bytes_out for p in whole),
    )  # fmt: skip
