"""From scores of sources to a selection: one interface for the learned router and every baseline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._check import choice, integer, real
from .seam import Floats
from .source import Queries, Source, queries

Mask = NDArray[np.bool_]
ON_EMPTY = ("top1", "all", "none")


def choose(
    P: Floats,
    threshold: Any,
    *,
    on_empty: str = "top1",
    min_sources: int = 0,
    max_sources: int | None = None,
    cost: Any = None,
    budget: float | None = None,
) -> Mask:
    """Which sources to ask, bool (B, N), from scores P float32 (B, N), larger is likelier.

    A source is chosen if its score exceeds the threshold (a number, or one a source, (N,)). Then: at least min_sources
    and at most max_sources of the best by score, of equal scores the first. on_empty: a row without any takes its best
    source ("top1"), "all", or "none". A budget comes last and is never exceeded, so it may leave less than min_sources,
    or nothing: of the chosen, sources are taken in the order of score / cost (scores counted from the row's lowest
    where any is negative) while their summed cost fits. Raises ValueError, TypeError.
    """
    N = P.shape[1]
    choice(on_empty, "on_empty", ON_EMPTY)
    least = integer(min_sources, "min_sources", 0, N)
    most = N if max_sources is None else integer(max_sources, "max_sources", 1, N)
    if least > most:
        raise ValueError(f"min_sources: expected at most max_sources, {most}, got {least}")
    mask: Mask = np.asarray(P > np.asarray(threshold, np.float32))
    rank = _ranks(P)
    mask |= rank < least
    mask &= rank < max(most, least)
    empty = ~mask.any(axis=1)
    if on_empty == "top1":
        mask[empty] = rank[empty] == 0
    elif on_empty == "all":
        mask[empty] = rank[empty] < most
    if budget is not None:
        mask = _within(mask, P, np.ones(N) if cost is None else np.asarray(cost, np.float64), real(budget, "budget", 0))
    return mask


def _ranks(P: Floats) -> NDArray[np.int64]:
    order = np.argsort(-P, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(P.shape[1])[None], axis=1)
    return rank


def _within(mask: Mask, P: Floats, cost: NDArray[np.float64], budget: float) -> Mask:
    gain = P - np.minimum(P.min(axis=1, keepdims=True), 0) if P.size else P
    value = np.where(mask, gain / np.maximum(cost, 1e-12), -np.inf)
    out, left, rows = np.zeros_like(mask), np.full(len(P), budget), np.arange(len(P))
    for s in np.argsort(-value, axis=1, kind="stable").T:  # of every row the best, then of every row the next
        fits = mask[rows, s] & (cost[s] <= left)
        out[rows, s] = fits
        left -= np.where(fits, cost[s], 0.0)
    return out


class Router(ABC):
    """Chooses sources for queries. `SourceRouter` learns to; the baselines (`collegium.rag.baselines`) are others.

    sources: what is known of each, in the order of all columns. threshold: of `select`, a number or (N,).
    on_empty, min_sources, max_sources, budget: the policy of `select`, see `choose`; attributes, changed at will.
    """

    threshold: Any = 0.5
    on_empty: str = "top1"
    min_sources: int = 0
    max_sources: int | None = None
    budget: float | None = None
    sources: Sequence[Source] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sources, (N,)."""
        return tuple(s.name for s in self.sources)

    @abstractmethod
    def _scores(self, Q: Queries) -> Floats:
        """float32 (B, N), larger is likelier."""

    def predict_proba(self, Q: Any) -> Floats:
        """A score of every source for every query, float32 (B, N), larger is likelier; probabilities where learned.

        Q: float32 (B, d) or (d,), or {encoder: (B, d)}. Raises ValueError before anything is computed.
        """
        return self._scores(queries(Q, self.sources))

    def select(self, Q: Any, **policy: Any) -> Mask:
        """The sources to ask, bool (B, N). policy: threshold, on_empty, min_sources, max_sources, budget, for this
        call only."""
        return self.choose(self.predict_proba(Q), **policy)

    def choose(self, P: Floats, **policy: Any) -> Mask:
        """`select` from scores already at hand."""
        rule = {
            "on_empty": self.on_empty,
            "min_sources": self.min_sources,
            "max_sources": self.max_sources,
            "budget": self.budget,
        }
        unknown = set(policy) - {*rule, "threshold"}
        if unknown:
            raise TypeError(f"select: expected threshold, {', '.join(rule)}, got {', '.join(sorted(unknown))}")
        threshold = policy.pop("threshold", self.threshold)
        return choose(P, threshold, cost=[s.cost for s in self.sources], **{**rule, **policy})

    def tune(self, Q: Any, Y: Any, **how: Any) -> Any:
        """Sets the threshold from held-out queries, see `collegium.rag.tuning.tune`."""
        from .tuning import tune

        return tune(self, Q, Y, **how)

    def evaluate(self, Q: Any, Y: Any, **how: Any) -> Any:
        """The selection against labels and baselines, see `collegium.rag.evaluation.evaluate`."""
        from .evaluation import evaluate

        return evaluate(self, Q, Y, **how)
