"""How well a router selects: beside the baselines without which its accuracy means nothing.

Pairs are all (query, source). A source that is relevant for 98 % of the queries makes accuracies look good that need no
query: majority, prior, oracle and all are printed in the same table. Source: RAGRoute (arXiv 2502.19280), metrics.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .baselines import CentroidRouter
from .routing import Mask, Router, choose
from .seam import Floats
from .source import queries
from .tuning import checked_counts, checked_labels, recalls

Labels = NDArray[np.uint8]


def auc(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """Area under the ROC curve; equal scores count half. NaN where a class is missing."""
    y = labels.ravel()
    positives = int(y.sum())
    negatives = y.size - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, at, sizes = np.unique(scores.ravel(), return_inverse=True, return_counts=True)
    rank = np.cumsum(sizes) - (sizes - 1) / 2  # of a group of equal scores, from 1
    return float((rank[at][y == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


@dataclass(frozen=True)
class Scores:
    """Of one method, over all pairs; or of one source. All but `sources` are shares.

    cut: share of the N queries to sources that is saved. document_recall: mean share of a query's top-k documents held
    by the selected sources, None without counts. auc: None for a selection without scores.
    """

    accuracy: float
    precision: float
    recall: float
    f1: float
    auc: float | None
    cut: float
    sources: float
    document_recall: float | None = None


def scores(mask: Mask, Y: Labels, P: Floats | None = None, counts: NDArray[np.float64] | None = None) -> Scores:
    """The scores of a selection, bool (n, N). Precision and recall are 1 where there is nothing to be wrong about."""
    hit, chosen, relevant = int((mask & (Y == 1)).sum()), int(mask.sum()), int(Y.sum())
    return Scores(
        accuracy=float(np.mean(mask == (Y == 1))) if Y.size else float("nan"),
        precision=hit / chosen if chosen else 1.0,
        recall=hit / relevant if relevant else 1.0,
        f1=2 * hit / (chosen + relevant) if chosen + relevant else 1.0,
        auc=None if P is None else auc(P, Y),
        cut=1 - chosen / mask.size if mask.size else float("nan"),
        sources=chosen / len(mask) if len(mask) else float("nan"),
        document_recall=None if counts is None else float(recalls(mask, counts).mean()) if len(mask) else None,
    )


@dataclass(frozen=True)
class RouterReport:
    """What `evaluate` found. methods: name -> Scores, "router" first; per_source: source -> Scores of the router;
    oracle_cut: the cut of exactly the relevant sources; k: of the labels, if known."""

    queries: int
    methods: dict[str, Scores]
    per_source: dict[str, Scores]
    oracle_cut: float
    k: int | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def router(self) -> Scores:
        return self.methods["router"]

    def rows(self) -> list[dict[str, Any]]:
        """One flat row a method, then one a source: for a data frame."""
        of = [("method", n, s) for n, s in self.methods.items()] + [("source", n, s) for n, s in
                                                                    self.per_source.items()]  # fmt: skip
        return [{"kind": kind, "name": name, **vars(s)} for kind, name, s in of]

    def __str__(self) -> str:
        lines = [f"{self.queries} queries, {len(self.per_source)} sources, oracle cut {self.oracle_cut:.3f}"]
        for title, table in (("method", self.methods), ("source", self.per_source)):
            width = max(len(title), *(len(n) for n in table))
            columns = list(Scores.__dataclass_fields__)
            heads = [c.replace("document_recall", "doc recall") for c in columns]
            lines.append("  ".join([title.ljust(width), *(h.rjust(9) for h in heads)]))
            for name, s in table.items():
                cells = [getattr(s, c) for c in columns]
                text = ["-" if v is None else f"{v:.3f}" for v in cells]
                lines.append(
                    "  ".join([name.ljust(width), *(t.rjust(max(9, len(h))) for t, h in zip(text, heads, strict=True))])
                )
        return "\n".join([*lines, *self.notes])


def evaluate(
    router: Router,
    Q: Any,
    Y: Any,
    *,
    ids: Any = None,
    counts: Any = None,
    baselines: bool | Iterable[Router] = True,
    allow_train: bool = False,
    texts: Any = None,
) -> RouterReport:
    """The router's selection, with its own policy, against labels Y (n, N) of zeros and ones.

    Q: float32 (n, d) or {encoder: (n, d)}. ids: names of the queries, to know again those of fit; without, queries are
    known by their vectors. counts: (n, N) documents of each query's global top-k by source. baselines: False for none;
    True for majority, prior, oracle, all, random and (where the centroids are known) centroid of the same budget;
    routers, to have them beside all these but the centroid (ReDDE and CRCS need documents, and are given fitted).
    texts: the queries as texts, for CORI. allow_train: evaluate
    queries that the router was fitted on, which flatters it; refused otherwise. Raises ValueError, TypeError.
    """
    arrays = queries(Q, router.sources)
    P = router.predict_proba(arrays)
    labels = checked_labels(Y, *P.shape)
    weights = None if counts is None else checked_counts(counts, labels)
    seen = getattr(router, "seen", None)
    known = int(np.sum(seen(arrays, ids))) if seen else 0
    if known and not allow_train:
        raise ValueError(f"Q: {known} of {len(P)} queries were used in fit and would flatter the router; evaluate "
                         "held-out queries, or pass allow_train=True")  # fmt: skip
    mask = router.choose(P)
    methods = {"router": scores(mask, labels, P, weights)}
    if baselines is not False:
        methods |= _trivial(router, mask, labels, weights)
    beside: list[Any] = [] if isinstance(baselines, bool) else list(baselines)
    if baselines is True and all(s.centroid is not None for s in router.sources):
        m = max(1, round(methods["router"].sources)) if len(P) else 1
        beside.append(CentroidRouter(min(m, len(router.sources))).fit(None, None, router.sources))
    for other in beside:
        if getattr(other, "queries_are", None) == "texts" and texts is None:
            raise ValueError(f"texts: expected the queries as texts, which {type(other).__name__} takes, got None")
        asked = {"texts": texts, "rows": np.arange(len(P))}.get(getattr(other, "queries_are", ""), arrays)
        p = other.predict_proba(asked)
        methods[_unused(_name(other), methods)] = scores(other.choose(p), labels, p, weights)
    per_source = {name: scores(mask[:, [s]], labels[:, [s]], P[:, [s]]) for s, name in enumerate(router.names)}
    notes = (f"{known} of the queries were used in fit: these figures flatter the router",) if known else ()
    return RouterReport(len(P), methods, per_source, float(1 - labels.mean()), getattr(router, "k", None), notes)


def _trivial(router: Router, mask: Mask, Y: Labels, counts: NDArray[np.float64] | None) -> dict[str, Scores]:
    """What needs no query. Majority and prior know each source's rate of relevance: that of fit, or of Y itself."""
    n, N = Y.shape
    prior = getattr(router, "prior", None)
    rate = np.asarray(Y.mean(axis=0) if prior is None else prior, np.float32)
    P = np.broadcast_to(rate, (n, N)).astype(np.float32)
    m = min(N, max(1, round(float(mask.sum(axis=1).mean())))) if n else 1
    keys = _core.random_f32(0, _core.FOR_EVAL, 0, 0, 0, n * N).reshape(n, N)
    everything = np.ones((n, N), bool)
    return {
        "majority": scores(P > 0.5, Y, None, counts),
        "prior": scores(choose(P, 0.5), Y, P, counts),
        f"random {m}": scores(choose(keys, 2.0, min_sources=m), Y, keys, counts),
        "all": scores(everything, Y, None, counts),
        "oracle": scores(Y == 1, Y, None, counts),
    }


def _name(router: Router) -> str:
    name = getattr(router, "name", None)
    return name if isinstance(name, str) else type(router).__name__


def _unused(name: str, taken: dict[str, Scores]) -> str:
    return next(c for c in (name, *(f"{name} {i}" for i in range(2, len(taken) + 2))) if c not in taken)
