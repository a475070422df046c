"""Routers to compare a learned one with: each a few lines over a source's statistics, labels, samples or words.

All are `Router`s: fit(Q, Y, sources), predict_proba, select. m: how many of the best sources `select` takes; None
selects by the threshold instead. Constants of ReDDE, CRCS and CORI as commonly used.
"""

from __future__ import annotations

import warnings
import zlib
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._check import choice, integer, real
from ._baseline import Baseline, labels
from .given import searchables
from .lexical import CORIRouter
from .local_source import VectorSource
from .merge import comparable
from .seam import Floats
from .source import METRICS, Queries, queries

__all__ = [
    "AllRouter",
    "Baseline",
    "CORIRouter",
    "CRCSRouter",
    "CentroidRouter",
    "LogisticRouter",
    "OracleRouter",
    "PriorRouter",
    "RandomRouter",
    "ReDDERouter",
]


class AllRouter(Baseline):
    """Asks every source."""

    def __init__(self) -> None:
        super().__init__()

    def _scores(self, Q: Queries) -> Floats:
        return np.ones((_rows(Q), len(self.sources)), np.float32)


def _rows(Q: Queries) -> int:
    return len(next(iter(Q.values())))


class RandomRouter(Baseline):
    """m sources at random. The draw is a function of seed and query: another batch or process draws the same."""

    def __init__(self, m: int = 1, seed: int = 0) -> None:
        super().__init__(m)
        self.seed = integer(seed, "seed", 0, 2**64 - 1)

    def _scores(self, Q: Queries) -> Floats:
        address = [zlib.crc32(row.tobytes()) for row in next(iter(Q.values()))]
        drawn = [_core.random_f32(self.seed, _core.FOR_USER, a, 0, 0, len(self.sources)) for a in address]
        return np.array(drawn, np.float32).reshape(len(address), len(self.sources))


class PriorRouter(Baseline):
    """How often a source was relevant in training, whatever the query: with threshold 0.5, "per-source majority"."""

    prior: Floats

    def fit(self, Q: Any, Y: Any, sources: Any) -> PriorRouter:
        """See `Baseline.fit`; Q is not used."""
        super().fit(Q, Y, sources)
        self.prior = labels(Y, self.sources).mean(axis=0).astype(np.float32)
        return self

    def _scores(self, Q: Queries) -> Floats:
        return np.tile(self.prior, (_rows(Q), 1))


class CentroidRouter(Baseline):
    """The sources whose centroids are nearest to the query.

    metric: "cosine" (to the centroid's direction), "ip" (with the centroid as it is, so that a scattered source's
    short one counts less) or "l2" (score: minus the squared distance). Needs no training, and says nothing of how many
    documents a source has.
    """

    def __init__(self, m: int | None = 2, metric: str = "cosine") -> None:
        super().__init__(m)
        self.metric = choice(metric, "metric", METRICS)

    def fit(self, Q: Any, Y: Any, sources: Any) -> CentroidRouter:
        """See `Baseline.fit`; Q and Y are not used. Raises ValueError for a source without a centroid."""
        super().fit(Q, Y, sources)
        for s in self.sources:
            if s.centroid is None:
                raise ValueError(f"sources: expected a centroid of every source, got none of {s.name!r}")
        return self

    def _scores(self, Q: Queries) -> Floats:
        out = np.empty((_rows(Q), len(self.sources)), np.float32)
        for j, s in enumerate(self.sources):
            q, c = Q[s.encoder].astype(np.float64), np.asarray(s.centroid, np.float64)
            if self.metric == "l2":
                out[:, j] = -np.square(q - c).sum(axis=1)
                continue
            out[:, j] = q @ c
            if self.metric == "cosine":
                lengths = np.linalg.norm(q, axis=1) * np.linalg.norm(c)
                out[:, j] = np.divide(q @ c, lengths, out=np.zeros(len(q)), where=lengths > 0)
        return out


class LogisticRouter(Baseline):
    """A logistic regression on the query's embedding for every source: the strongest simple baseline.

    C: inverse strength of the L2 penalty, on standardised columns. weights: float64 (d + 1,) of each source, the
    intercept last, for queries as they come. Needs scikit-learn to fit, and NumPy only to predict.
    """

    def __init__(self, m: int | None = None, C: float = 0.1, max_iter: int = 1000) -> None:
        super().__init__(m)
        self.C = real(C, "C", positive=True)
        self.max_iter = integer(max_iter, "max_iter", 1)
        self.weights: list[NDArray[np.float64]] = []

    def fit(self, Q: Any, Y: Any, sources: Any) -> LogisticRouter:
        """See `Baseline.fit`. A source that is relevant to all queries or to none is constant, with a warning."""
        super().fit(Q, Y, sources)
        by_encoder = queries(Q, self.sources)
        y = labels(Y, self.sources, _rows(by_encoder))
        self.weights = [self._fit(by_encoder[s.encoder], y[:, j], s.name) for j, s in enumerate(self.sources)]
        return self

    def _fit(self, Q: Floats, y: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        share = y.mean()
        if share in (0, 1):
            what = "every query" if share else "no query"
            warnings.warn(f"{name!r} is relevant to {what} in training: a constant", stacklevel=3)
            smoothed = (y.sum() + 0.5) / (len(y) + 1)
            return np.append(np.zeros(Q.shape[1]), np.log(smoothed / (1 - smoothed)))
        try:
            from sklearn.linear_model import LogisticRegression
        except ImportError:
            raise ImportError("LogisticRouter.fit needs scikit-learn: pip install scikit-learn") from None
        x = Q.astype(np.float64)
        mean, scale = x.mean(axis=0), x.std(axis=0)
        scale[scale == 0] = 1
        model = LogisticRegression(C=self.C, max_iter=self.max_iter).fit((x - mean) / scale, y)
        slope = model.coef_[0] / scale
        return np.append(slope, model.intercept_[0] - slope @ mean)

    def _scores(self, Q: Queries) -> Floats:
        z = [Q[s.encoder] @ w[:-1] + w[-1] for s, w in zip(self.sources, self.weights, strict=True)]
        with np.errstate(over="ignore"):
            P: Floats = (1 / (1 + np.exp(-np.stack(z, axis=1)))).astype(np.float32)
        return P


class _SampleRouter(Baseline):
    """Ranks a sample of every source's documents in one central index, and lets the first ones vote for their source.

    sample: documents drawn of each source, with this seed. A vote weighs size / sample of its source: a document of a
    large source stands for more.
    """

    def __init__(self, m: int | None = 2, sample: int = 300, seed: int = 0) -> None:
        super().__init__(m)
        self.sample = integer(sample, "sample", 1)
        self.seed = integer(seed, "seed", 0)

    def fit(self, Q: Any, Y: Any, sources: Any) -> _SampleRouter:
        """See `Baseline.fit`; Q and Y are not used. sources: searchables with sample(size, seed) -> float32 (m, d).
        Raises TypeError for those without, ValueError where their scores cannot be compared."""
        searchable: list[Any] = searchables(sources) if isinstance(sources, Mapping) else list(sources)
        super().fit(Q, Y, searchable)
        for s in searchable:
            if not callable(getattr(s, "sample", None)):
                raise TypeError(f"sources: expected searchables with sample(size, seed), got {s!r}")
        comparable(self.sources)
        drawn = [s.sample(self.sample, self.seed) for s in searchable]
        self._of = np.repeat(np.arange(len(drawn)), [len(d) for d in drawn])
        sizes = [len(d) if s.count is None else s.count for s, d in zip(self.sources, drawn, strict=True)]
        self._weight = np.array([n / max(len(d), 1) for n, d in zip(sizes, drawn, strict=True)])
        self._central = VectorSource(np.concatenate(drawn), name="samples", metric=self.sources[0].metric)
        return self

    @abstractmethod
    def _votes(self, count: int) -> NDArray[np.float64]:
        """float64 (<= count,): the vote of a document by its rank, from the first on."""

    def _scores(self, Q: Queries) -> Floats:
        (q,) = Q.values()
        votes = self._votes(len(self._central))
        _, found = self._central.search(q, max(len(votes), 1))
        of = self._of[found]
        out = np.zeros((len(q), len(self.sources)))
        for j in range(len(self.sources)):
            out[:, j] = self._weight[j] * np.where(of == j, votes, 0).sum(axis=1)
        total = out.sum(axis=1, keepdims=True)
        np.divide(out, total, out=out, where=total > 0)
        return out.astype(np.float32)


class ReDDERouter(_SampleRouter):
    """Each of the first `top` (a share) of all sampled documents is one vote. Scores sum to one: the estimated share
    of the relevant documents. Source: Si and Callan, "Relevant Document Distribution Estimation", SIGIR 2003."""

    def __init__(self, m: int | None = 2, sample: int = 300, seed: int = 0, top: float = 0.01) -> None:
        super().__init__(m, sample, seed)
        self.top = real(top, "top", 0, 1, positive=True)

    def _votes(self, count: int) -> NDArray[np.float64]:
        return np.ones(int(np.ceil(self.top * count)))


class CRCSRouter(_SampleRouter):
    """Votes fall with the rank r = 0, 1, ...: kind "l" max(0, 50 - r), kind "e" 1.2 exp(-0.28 r), of the first 50.
    Source: Shokouhi, "Central-Rank-Based Collection Selection", ECIR 2007."""

    def __init__(self, m: int | None = 2, sample: int = 300, seed: int = 0, kind: str = "l") -> None:
        super().__init__(m, sample, seed)
        self.kind = choice(kind, "kind", ("l", "e"))

    def _votes(self, count: int) -> NDArray[np.float64]:
        rank = np.arange(min(50, count), dtype=np.float64)
        return 50 - rank if self.kind == "l" else 1.2 * np.exp(-0.28 * rank)


class OracleRouter(Baseline):
    """The labels themselves, an upper bound for evaluation: its queries are row numbers of Y, so that it can answer for
    no query whose answer it does not hold, and cannot be used to search."""

    queries_are = "rows"

    def __init__(self, Y: Any, sources: Any) -> None:
        super().__init__()
        self.on_empty = "none"
        super().fit(None, None, sources)
        self._labels = labels(Y, self.sources).astype(np.float32)

    def predict_proba(self, Q: Any) -> Floats:
        """Q: integers (B,), rows of Y -> float32 (B, N). Raises TypeError for queries, ValueError for other rows."""
        rows = np.asarray(Q)
        if rows.dtype.kind not in "iu" or rows.ndim != 1:
            raise TypeError(
                f"Q: expected row numbers (B,) of the labelled queries, got {type(Q).__name__}: "
                "the oracle is for evaluation, it cannot answer for a query"
            )
        if rows.size and not (0 <= rows.min() and rows.max() < len(self._labels)):
            raise ValueError(f"Q: expected 0 to {len(self._labels) - 1}, got {rows.min()} to {rows.max()}")
        P: Floats = self._labels[rows]
        return P

    def _scores(self, Q: Queries) -> Floats:
        raise TypeError("Q: expected row numbers, got embeddings")
