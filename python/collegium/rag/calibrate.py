"""Choosing a tolerance from a sample of queries: what each tolerance would have saved, and cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._check import choice, integer, real
from . import rerank
from .arrays import matrix
from .batch import read_rows
from .seam import Floats, Ids


@dataclass(frozen=True)
class Calibration:
    """A row per tolerance: hit_rate; recall over all queries (a miss has 1); recall_hits over hits alone (NaN: none).

    tolerance: the largest whose recall (`over` all queries or hits) is at least min_recall, as are all smaller ones;
    float(report) is the same. str(report) is a table. Arrays float64 (T,).
    """

    tolerance: float
    tolerances: NDArray[np.float64]
    hit_rate: NDArray[np.float64]
    recall: NDArray[np.float64]
    recall_hits: NDArray[np.float64]
    k: int
    queries: int
    min_recall: float
    over: str

    def __float__(self) -> float:
        return self.tolerance

    def __str__(self) -> str:
        rows = [f"{self.queries} queries, recall@{self.k} over {self.over} at least {self.min_recall:g}"]
        rows.append("  tolerance   hit rate     recall   of hits")
        for t, h, r, s in zip(self.tolerances, self.hit_rate, self.recall, self.recall_hits):
            rows.append(f"{'>' if t == self.tolerance else ' '} {t:9.4g} {h:10.3f} {r:10.3f} {s:9.3f}")
        return "\n".join(rows)

    def frame(self) -> Any:
        """pandas: tolerance, hit_rate, recall, recall_hits. Raises ImportError."""
        import pandas

        return pandas.DataFrame(
            {
                "tolerance": self.tolerances,
                "hit_rate": self.hit_rate,
                "recall": self.recall,
                "recall_hits": self.recall_hits,
            }
        )


def tolerance_from_cosine(similarity: float, metric: Literal["l2", "cosine"] = "l2") -> float:
    """The tolerance of unit vectors that are at least this similar: sqrt(2 - 2 s) for "l2", 1 - s for "cosine".

    similarity: cosine, -1 ... 1. Raises ValueError.
    """
    s = real(similarity, "similarity", -1.0, 1.0)
    return 1 - s if choice(metric, "metric", ("l2", "cosine")) == "cosine" else float(np.sqrt(2 - 2 * s))


def calibrate_tolerance(
    Q_sample: Any,
    search: Callable[[Floats, int], Any],
    k: int = 10,
    min_recall: float = 0.95,
    *,
    metric: Literal["l2", "cosine"] = "l2",
    tolerances: Sequence[float] | None = None,
    capacity: int | None = None,
    over: Literal["hits", "all"] = "hits",
) -> Calibration:
    """Replays a sample of queries, in their order, through a cache at each tolerance, against the database's answers.

    Q_sample: float32 (N, dim), as they come in practice: repeats and near-repeats are what is measured. search: (Q, k)
    -> ids (N, k), or (distances, ids), as an index's own `search`; called once.
    min_recall: of recall@k over "hits" (what a served list holds of the database's own), or over "all" queries.
    tolerances: to try, in the metric's units; 0 is always tried (exact repeats). Default: 20 quantiles of the distances
      from each query to the nearest one before it. capacity: of the cache (FIFO); None: everything is kept.
    This is the mean over a sample, without a bound: for one, see `GuaranteedTolerance`. O(N^2 dim), N^2 floats.
    Raises TypeError, ValueError, what `search` raises.
    """
    choice(metric, "metric", ("l2", "cosine"))
    choice(over, "over", ("hits", "all"))
    k = integer(k, "k", 1)
    min_recall = real(min_recall, "min_recall", 0.0, 1.0)
    Q = matrix(Q_sample, "Q_sample")
    if len(Q) < 2:
        raise ValueError(f"Q_sample: expected at least 2 queries, got {len(Q)}")
    if not np.isfinite(Q).all():
        raise ValueError("Q_sample: expected finite numbers, got NaN or infinity")
    if capacity is not None:
        capacity = integer(capacity, "capacity", 1)
    truth = [found.ids for found in read_rows(search(Q, k), len(Q), k)]
    D = np.stack([rerank.distances(q, Q, metric) for q in Q])
    D[np.isnan(D)] = np.inf  # a zero vector never matches
    grid = _grid(D) if tolerances is None else np.array(tolerances, np.float64)
    if grid.ndim != 1 or not np.isfinite(grid).all() or (grid < 0).any():
        raise ValueError(f"tolerances: expected numbers of at least 0, got {tolerances!r}")
    grid = np.unique(np.append(grid, 0.0))
    replayed = np.array([_replay(D, truth, float(t), capacity) for t in grid])
    hits, kept = replayed.T
    with np.errstate(invalid="ignore"):
        recall_hits = kept / hits  # 0 / 0: no hits, nothing lost
    recall = (len(Q) - hits + kept) / len(Q)
    good = (recall if over == "all" else np.nan_to_num(recall_hits, nan=1.0)) >= min_recall - 1e-12
    chosen = float(grid[np.argmin(good) - 1]) if good[0] and not good.all() else float(grid[-1] if good.all() else 0.0)
    return Calibration(chosen, grid, hits / len(Q), recall, recall_hits, k, len(Q), min_recall, over)


def _grid(D: Floats) -> NDArray[np.float64]:
    before = np.where(np.tri(len(D), k=-1, dtype=bool), D, np.inf).min(1)
    return np.unique(np.quantile(before[np.isfinite(before)], np.linspace(0.05, 1, 20))).astype(np.float64)


def _replay(D: Floats, truth: list[Ids], tolerance: float, capacity: int | None) -> tuple[int, float]:
    """(hits, sum of their recalls) of a FLAT FIFO cache that sees the queries one by one."""
    keys: list[int] = []
    hits, kept = 0, 0.0
    for i, row in enumerate(D):
        if keys:
            nearest = keys[int(np.argmin(row[keys]))]
            if row[nearest] <= tolerance:
                hits += 1
                kept += np.isin(truth[i], truth[nearest]).mean() if len(truth[i]) else 1.0
                continue
        keys.append(i)
        if capacity is not None:
            del keys[:-capacity]
    return hits, kept
