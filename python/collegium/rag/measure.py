"""What a cache did to a stream of queries: hit rate with, beside it, recall and the share of same-question hits.

A hit rate alone says nothing of what was served: the published ones pass the share of repeats in their own workload.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._check import integer
from . import batch, flight
from .arrays import asarray, matrix
from .guarantee import recall_loss
from .request import Answer, Found, Request, request
from .seam import CacheLike, Floats, Ids


@dataclass(frozen=True)
class Measured:
    """One cache over one stream. hit_rate: answered without a database call for that query, of all queries.

    same_question: of hits, the share whose key was another wording of the same question (NaN: no hits, or not known).
    recall, recall_hits: mean recall@k against the database's own answers, over all queries and over hits.
    ceiling: the highest hit rate without serving one question's documents to another (NaN: not known).
    """

    hit_rate: float
    same_question: float
    recall: float
    recall_hits: float
    queries: int
    calls: int
    ceiling: float


def ceiling(questions: ArrayLike) -> float:
    """The most that a perfect matcher of unlimited capacity hits: 1 - distinct questions / queries. 0 of none."""
    q = np.asarray(questions)
    return 1 - len(np.unique(q)) / len(q) if len(q) else 0.0


def evaluate(
    cache: CacheLike,
    Q: Any,
    truth: Any,
    questions: ArrayLike | None = None,
    *,
    k: int = 10,
    rerank_factor: int = 1,
    vectors: Any = None,
    mode: batch.Mode = "sequential",
    size: int = 32,
) -> Measured:
    """Sends a stream of queries through a cache and compares what it serves with the database's answers.

    Q: float32 (N, dim). truth: int64 (N, >= rerank_factor * k), the database's answers, best first, -1 padded: they
    also stand in for the database. questions: integers (N,), which question each query words. size: of batches
    ("snapshot", "coalesce"). Raises TypeError, ValueError.
    """
    k = integer(k, "k", 1)
    X = matrix(Q, "Q", cache.dim)
    T: Ids = asarray(truth, "truth")
    if T.ndim != 2 or len(T) != len(X) or T.shape[1] < rerank_factor * k:
        raise ValueError(f"truth: expected shape ({len(X)}, >= {rerank_factor * k}), got {T.shape}")
    asked: NDArray[Any] | None = None if questions is None else np.asarray(questions)
    if asked is not None and asked.shape != (len(X),):
        raise ValueError(f"questions: expected shape ({len(X)},), got {asked.shape}")

    if mode == "sequential":
        ids, hit, same = _one_by_one(cache, X, T, asked, k, rerank_factor, vectors)
    else:
        ids, hit = _in_batches(cache, X, T, k, rerank_factor, vectors, mode, size)
        same = []
    recall = np.array([1 - recall_loss(i, t[:k][t[:k] >= 0]) for i, t in zip(ids, T)])
    return Measured(
        hit_rate=float(hit.mean()) if len(X) else 0.0,
        same_question=float(np.mean(same)) if same else float("nan"),
        recall=float(recall.mean()) if len(X) else 1.0,
        recall_hits=float(recall[hit].mean()) if hit.any() else float("nan"),
        queries=len(X),
        calls=int((~hit).sum()),
        ceiling=float("nan") if asked is None else ceiling(asked),
    )


def _one_by_one(
    cache: CacheLike, X: Floats, T: Ids, asked: NDArray[Any] | None, k: int, rerank_factor: int, vectors: Any
) -> tuple[list[Ids], NDArray[np.bool_], list[bool]]:
    """(ids served, hit or not, whether each hit's key worded the same question)."""
    owner: dict[int, int] = {}  # slot -> row of the query that filled it
    row = 0
    same: list[bool] = []
    answers: list[Answer] = []

    def store(r: Request, found: Found) -> int | None:
        slot = cache.insert(r.q, found.ids, k=r.m, namespace=r.namespace)
        if slot is not None:
            owner[slot] = row
        return slot

    for row in range(len(X)):  # store() reads it
        r = request(cache, X[row], k, lambda _, m: T[row, :m], rerank_factor, vectors)  # noqa: B023
        r.store = store
        near = cache.nearest(X[row]) if asked is not None else None
        answers.append(flight.answer(r))
        if answers[-1].hit and near is not None and asked is not None:
            same.append(bool(asked[owner[near[1]]] == asked[row]))
    return [a.ids for a in answers], np.array([a.hit for a in answers], bool), same


def _in_batches(
    cache: CacheLike, X: Floats, T: Ids, k: int, rerank_factor: int, vectors: Any, mode: batch.Mode, size: int
) -> tuple[list[Ids], NDArray[np.bool_]]:
    ids: list[Ids] = []
    hit: list[NDArray[np.bool_]] = [np.empty(0, bool)]
    row = {q.tobytes(): i for i, q in enumerate(X)}  # equal queries have equal answers

    def database(B: Floats, m: int) -> Ids:
        return T[[row[q.tobytes()] for q in B], :m]

    for start in range(0, len(X), size):
        a = batch.get_or_retrieve_batch(cache, X[start : start + size], k, database, rerank_factor, vectors, mode=mode)
        ids.extend(a.ids)
        hit.append(a.hit_mask)
    return ids, np.concatenate(hit)


class Report:
    """A table of measurements that will not show a hit rate without what it is worth.

    rows: dictionaries with at least "hit_rate" and "recall", or `Measured`; other keys are columns too.
    ceiling: the structural ceiling of the workload; a row's own "ceiling" goes first.
    Raises ValueError for a row without recall, and for one whose hit rate is above the ceiling without a known
    "same_question": such hits serve the documents of other questions, and the reader must see how many.
    """

    def __init__(self, rows: Sequence[dict[str, Any] | Measured], ceiling: float | None = None) -> None:
        self.rows = [asdict(r) if isinstance(r, Measured) else dict(r) for r in rows]
        for i, r in enumerate(self.rows):
            for name in ("hit_rate", "recall"):
                if name not in r:
                    raise ValueError(f"rows[{i}]: expected a column {name!r}, got {sorted(r)}")
            top = r.get("ceiling", np.nan)
            top = ceiling if not np.isfinite(top) and ceiling is not None else top
            if r["hit_rate"] > top + 1e-9 and not np.isfinite(r.get("same_question", np.nan)):
                raise ValueError(
                    f"rows[{i}]: expected a column 'same_question' beside a hit rate of {r['hit_rate']:.1%}, "
                    f"which is above the workload's ceiling of {top:.1%}, got none"
                )

    def __str__(self) -> str:
        if not self.rows:
            return "(no rows)"
        names = list(dict.fromkeys(n for r in self.rows for n in r))
        cells = [names, *([_cell(r.get(n, "")) for n in names] for r in self.rows)]
        width = [max(len(row[i]) for row in cells) for i in range(len(names))]
        lines = ["| " + " | ".join(c.rjust(w) for c, w in zip(row, width)) + " |" for row in cells]
        return "\n".join([lines[0], "|" + "|".join("-" * (w + 1) + ":" for w in width) + "|", *lines[1:]])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.4g}"
    return str(value)
