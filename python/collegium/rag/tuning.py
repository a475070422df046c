"""Thresholds from validation queries: Youden's, or the largest one that keeps a target of document recall.

Works on any `Router`, with the policy (on_empty, min_sources, ...) in force. The recall of a query is the share of its
global top-k documents that the selected sources hold, known from `counts`; without counts every relevant source weighs
the same. Sources: W. Youden, Cancer 1950; S. Bates et al., "Distribution-free, risk-controlling prediction sets", JACM
2021, theorem 1 with the Hoeffding-Bentkus bound of `bounds`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._check import real
from .arrays import asarray
from .bounds import hoeffding_bentkus_p, hoeffding_bentkus_upper
from .routing import Mask, Router
from .seam import Floats


@dataclass(frozen=True)
class Tuning:
    """A threshold and what it does on the queries it was tuned on.

    recall: mean document recall. recall_bound: held-out mean recall is at least this with the confidence (None for
    thresholds that were not tuned for recall). sources: mean number of selected sources. reached: False where no
    threshold meets the target, so that all sources are asked.
    """

    threshold: Any
    queries: int
    recall: float
    recall_bound: float | None
    confidence: float | None
    sources: float
    reached: bool = True

    def __str__(self) -> str:
        bound = "" if self.recall_bound is None else f", at least {self.recall_bound:.3f} ({self.confidence:.0%} sure)"
        threshold = np.array2string(np.asarray(self.threshold), precision=4)
        return f"threshold {threshold}: recall {self.recall:.3f}{bound}, {self.sources:.2f} sources a query"


def checked_labels(Y: Any, rows: int, sources: int, name: str = "Y") -> NDArray[np.uint8]:
    """uint8 (rows, sources) of zeros and ones. Raises ValueError."""
    array = asarray(Y, name)
    if array.shape != (rows, sources):
        raise ValueError(f"{name}: expected shape ({rows}, {sources}), a row a query and a column a source, "
                         f"got {array.shape}")  # fmt: skip
    if not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name}: expected zeros and ones, got {np.setdiff1d(array, (0, 1))[:3].tolist()} among them")
    return np.ascontiguousarray(array, np.uint8)


def checked_counts(counts: Any, Y: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What recall counts, float64 (n, N): documents, or the labels where counts is None."""
    array = Y if counts is None else asarray(counts, "counts")
    if array.shape != Y.shape:
        raise ValueError(f"counts: expected shape {Y.shape}, got {array.shape}")
    out = array.astype(np.float64)
    if not np.isfinite(out).all() or (out < 0).any():
        raise ValueError("counts: expected finite numbers, at least 0")
    return out


def recalls(mask: Mask, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Document recall of every query, float64 (n,); 1 where there is nothing to find."""
    total = counts.sum(axis=1)
    return np.where(total > 0, (counts * mask).sum(axis=1) / np.maximum(total, 1e-300), 1.0)


def youden(P: Floats, Y: NDArray[np.uint8]) -> float:
    """The threshold with the largest difference of true and false positive rates over all (query, source) pairs.

    Selection is P > threshold, so it lies halfway between the scores on its two sides. Where no threshold beats none
    (the textbook answer is infinity), or a class is missing: a warning, and the largest score.
    """
    y = Y.ravel()
    values, at = np.unique(P.ravel(), return_inverse=True)
    positives = np.bincount(at, y, len(values))[::-1].cumsum()[::-1]  # pairs with a score of at least values[i]
    negatives = np.bincount(at, 1 - y, len(values))[::-1].cumsum()[::-1]
    if len(y) == 0 or positives[0] == 0 or negatives[0] == 0:
        warnings.warn("threshold: Youden's needs positive and negative labels; 0.5 is taken", stacklevel=3)
        return 0.5
    gain = positives / positives[0] - negatives / negatives[0]
    best = len(values) - 1 - int(np.argmax(gain[::-1]))  # of equal ones the largest
    if gain[best] <= 0:
        warnings.warn("threshold: no score separates the labels; Youden's threshold, infinity, becomes the largest "
                      "score", stacklevel=3)  # fmt: skip
        return float(values[-1])
    return _between(values, best) if best else float(np.nextafter(values[0], np.float32(-np.inf)))


def tune(
    router: Router,
    Q: Any,
    Y: Any,
    *,
    threshold: Any = "youden",
    target_recall: float | None = None,
    confidence: float = 0.95,
    counts: Any = None,
) -> Tuning:
    """Sets router.threshold from queries that were not used in fit. Returns what came of it.

    Q, Y: as in `evaluate`. threshold: "youden", a number, or one a source, (N,). target_recall: instead, the largest
    threshold for which P(mean recall of such queries >= target_recall) >= confidence, whatever the distribution; a
    threshold that asks every source, and a warning, where that cannot be shown. counts: (n, N), how many of the
    query's global top-k documents each source holds; better than the labels, which weigh sources alike.
    Raises ValueError, TypeError.
    """
    P = router.predict_proba(Q)
    return from_scores(router, P, Y, threshold, target_recall, confidence, counts)


def from_scores(
    router: Router, P: Floats, Y: Any, threshold: Any, target_recall: float | None, confidence: float, counts: Any
) -> Tuning:
    """`tune` from scores already at hand."""
    labels = checked_labels(Y, *P.shape)
    weights = checked_counts(counts, labels)
    if target_recall is None:
        value = youden(P, labels) if isinstance(threshold, str) and threshold == "youden" else threshold
        mask = router.choose(P, threshold=value)  # raises before anything has changed
        router.threshold = value
        return Tuning(router.threshold, len(P), _mean(recalls(mask, weights)), None, None, _mean(mask.sum(axis=1)))
    target = real(target_recall, "target_recall", 0.0, 1.0)
    delta = 1 - real(confidence, "confidence", 0.0, 1.0)
    found = _largest(router, P, weights, 1 - target, delta)
    reached = found is not None
    if found is None:
        warnings.warn(f"target_recall: {target} cannot be shown with confidence {confidence} on {len(P)} queries: "
                      "the threshold lets every source through", stacklevel=3)  # fmt: skip
        found = _ask_all(P)
    router.threshold = found
    mask = router.choose(P)
    recall = recalls(mask, weights)
    bound = 1 - hoeffding_bentkus_upper(1 - min(1.0, _mean(recall)), len(P), delta) if len(P) and delta > 0 else 0.0
    return Tuning(found, len(P), _mean(recall), bound, confidence, _mean(mask.sum(axis=1)), reached)


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _ask_all(P: Floats) -> float:
    """Below every score, also those of other queries."""
    return -1.0 if P.size == 0 or P.min() >= 0 else -float(np.finfo(np.float32).max)


_STEPS = 512  # thresholds to test where they cannot be bisected


def _largest(router: Router, P: Floats, counts: NDArray[np.float64], limit: float, delta: float) -> float | None:
    """Thresholds are tested from the lowest upward, each for "the expected loss exceeds `limit`", up to the first that
    is not rejected; the loss is 1 - recall. The tests need no correction: to end beyond the first threshold that is
    truly too high, the test at that one threshold has to err."""
    if limit <= 0 or delta <= 0 or len(P) == 0:
        return None
    steps, n = np.unique(P), len(P)
    monotone = router.on_empty != "all" and router.budget is None  # a higher threshold selects less
    if not monotone and len(steps) > _STEPS:  # each is tested in turn
        steps = steps[np.linspace(0, len(steps) - 1, _STEPS).astype(int)]

    def threshold(i: int) -> float:
        """Between steps i - 1 and i every threshold selects the same; i = 0: below all scores."""
        return _ask_all(P) if i == 0 else float(steps[i - 1]) if i == len(steps) else _between(steps, i)

    def passes(i: int) -> bool:
        losses = 1 - recalls(router.choose(P, threshold=np.float32(threshold(i))), counts)
        return hoeffding_bentkus_p(max(0.0, float(losses.mean())), n, limit) <= delta

    if not passes(0):
        return None
    if monotone:  # bisection
        low, high = 0, len(steps) + 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if passes(middle) else (low, middle)
        return threshold(low)
    best = 0
    while best < len(steps) and passes(best + 1):
        best += 1
    return threshold(best)


def _between(steps: Floats, i: int) -> float:
    """A float32 at least steps[i - 1] and below steps[i]."""
    middle = np.float32((float(steps[i - 1]) + float(steps[i])) / 2)
    return float(middle if middle < steps[i] else steps[i - 1])
