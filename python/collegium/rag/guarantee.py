"""A tolerance that is learned, with a bound on what it costs.

The label is free: ask the database on a would-be hit, and the loss of recall of the cached list is known exactly.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from .._check import choice, integer, real
from . import bounds, logistic

_LEAST = 6  # observations of an entry before its curve is used at all (vCache)
_KEPT = 256  # observations of an entry that are kept, the newest
_NODE = 2**32 - 1  # the coins' address: no node of a network has this number
_BLOCK = 1024  # coins are drawn this many at a time


def recall_loss(served: ArrayLike, truth: ArrayLike) -> float:
    """1 - recall: the share of the ids in `truth` that are not in `served`; 0 where `truth` is empty."""
    truth = np.asarray(truth)
    return float(1 - np.isin(truth, np.asarray(served)).mean()) if truth.size else 0.0


@dataclass(frozen=True)
class GuaranteeReport:
    """threshold: served now. grid, audits, loss: per grid tolerance the audits within it and their mean loss.

    audited: audits in all. served_audits: audits, at the audit rate, of queries that would have been served;
    recall_lcb: lower confidence bound on the mean recall of what was served so far, from those alone (0: none yet);
    with min_recall, on the share of answers that reach it.
    """

    threshold: float
    grid: NDArray[np.float64]
    audits: NDArray[np.int64]
    loss: NDArray[np.float64]
    audited: int
    served_audits: int
    recall_lcb: float


class GuaranteedTolerance:
    """As ``tolerance=`` of a `ProximityCache`: serves only what audits have shown to be good enough.

    mode="global": one tolerance for all entries, the largest of a grid for which the mean loss of recall of would-be
      hits is at most max_loss, with probability `confidence` over the audits. Every query is audited while nothing is
      certified (each would be a database call anyway); then a share `audit_rate`, drawn before its distance is known.
      With min_recall the loss is yes or no: recall below min_recall (Clopper-Pearson; else Hoeffding-Bentkus).
    mode="per_entry": a curve per cached entry of how likely its list is right (recall at least min_recall, 0.8 if not
      given) at a distance. The database is asked just often enough that at most max_loss of all answers are expected
      to be wrong, and at least at audit_rate; always before an entry has six observations. `confidence` is used for
      recall_lcb alone.
    grid: increasing tolerances to choose from, in the metric's units. Left out: 16 quantiles of the first `pilot`
      audited distances, which are then not used again.
    testing: "union" pays for the size of the grid and may certify any of it; "sequence" tests from the smallest upward
      at no such price, and stops at the first that fails.
    window: only the newest audits count (None: all), and the confidence is that of each moment, not of all together.
    seed: of the coins.

    The global bound is tested each time the audits have grown by half, and the confidence is shared over these tests,
    so it holds at all times together. It needs exchangeable queries: audits of the past must stand for queries to come.
    When they drift, it fails until new audits outnumber the old; `window` shortens that. `recall_lcb`, of what WAS
    served, needs no such thing. The global mode needs some 150 audited hits without a loss to certify 5 % at all.
    It needs the database: `get_or_retrieve` and `CachedIndex` audit; a plain `lookup` only uses the tolerance reached.
    One object serves one cache. Metrics "l2" and "cosine": losses are taken to begin at distance 0. Thread-safe. Raises
    TypeError, ValueError.
    Source: S. Bates et al., JACM 2021; A. Angelopoulos et al., "Learn then test", 2021; vCache, arXiv 2502.03771.
    """

    metrics = ("l2", "cosine")

    def __init__(
        self,
        max_loss: float = 0.05,
        confidence: float = 0.95,
        audit_rate: float = 0.05,
        mode: Literal["global", "per_entry"] = "global",
        *,
        min_recall: float | None = None,
        grid: Sequence[float] | NDArray[Any] | None = None,
        testing: Literal["union", "sequence"] = "union",
        pilot: int = 64,
        window: int | None = None,
        seed: int = 0,
    ) -> None:
        self.max_loss = _open_unit(max_loss, "max_loss")
        self.confidence = _open_unit(confidence, "confidence")
        self.audit_rate = real(audit_rate, "audit_rate", 0.0, 1.0, positive=True)
        self.mode = choice(mode, "mode", ("global", "per_entry"))
        self.min_recall = None if min_recall is None else real(min_recall, "min_recall", 0.0, 1.0, positive=True)
        if self.mode == "per_entry" and min_recall is None:
            self.min_recall = 0.8
        self.testing = choice(testing, "testing", ("union", "sequence"))
        self.pilot = integer(pilot, "pilot", 16)
        self.window = None if window is None else integer(window, "window", 64)
        self.seed = integer(seed, "seed", 0)
        self._grid = None if grid is None else _increasing(grid)
        self._lock = threading.Lock()
        self._coins = np.empty(0, np.float32)
        self._drawn = 0
        self._pilot: list[float] = []
        self._distances: list[float] = []
        self._losses: list[float] = []
        self._audited = 0
        self._tests = 0
        self._next_test = 64
        self._threshold = 0.0
        self._served: list[float] = []
        self._entries: dict[int, list[tuple[float, float]]] = {}
        self._moved_in: dict[int, int] = {}
        self.tenants = 0  # entries that have moved into slots so far
        self._curves: dict[int, logistic.Curves] = {}

    def __repr__(self) -> str:
        return (
            f"GuaranteedTolerance(max_loss={self.max_loss}, confidence={self.confidence}, "
            f"audit_rate={self.audit_rate}, mode={self.mode!r}): {self._audited} audits, "
            f"tolerance {self._threshold:.4g}"
        )

    # ---- what the layers in front of the database call ----

    def threshold(self, cache: Any = None, q: Any = None, namespace: Any = None) -> float:
        """What a plain lookup of `q` serves: within this distance. 0 (exact repeats) while nothing is certified.

        mode="per_entry": that of the nearest entry; 0 without a cache to look in.
        """
        if self.mode == "global" or cache is None:
            return self._threshold
        near = cache.nearest(q, namespace)
        return 0.0 if near is None else self.entry_threshold(near[1])

    def entry_threshold(self, slot: int) -> float:
        """mode="per_entry": the distance up to which the entry in `slot` is served but for the audit rate."""
        with self._lock:
            curves = self._curve(slot)
            if curves is None:
                return 0.0
            low, high = 0.0, max(float(curves.midpoint[0]), 0.0)
            if not high > 0 or self._explore(curves, 0.0) > 0:
                return 0.0
            while high - low > 1e-6 * high:
                middle = (low + high) / 2
                low, high = (middle, high) if self._explore(curves, middle) <= 0 else (low, middle)
            return low

    def coin(self) -> float:
        """The next number in [0, 1) that decides over an audit. Taken before the distance is known."""
        with self._lock:
            i = self._drawn % _BLOCK
            if i == 0:
                self._coins = _core.random_f32(self.seed, _core.FOR_COIN, _NODE, 0, self._drawn, _BLOCK)
            self._drawn += 1
            return float(self._coins[i])

    def decide(self, coin: float, distance: float, slot: int) -> tuple[bool, bool, bool]:
        """(serve, explore, uniform) for a query whose nearest key is at `distance`.

        serve: near enough to be answered from the cache. explore: ask the database all the same, and observe().
        uniform: drawn at the audit rate, whatever the distance.
        """
        uniform = coin < self.audit_rate
        with self._lock:
            if self.mode == "global":
                return distance <= self._threshold, uniform or self._threshold == 0, uniform
            curves = self._curve(slot)
            p = 1.0 if curves is None else self._explore(curves, distance)
            # Either part of the coin, stretched, is uniform again: one that is audited stands for those that are not.
            part = coin / self.audit_rate if uniform else (coin - self.audit_rate) / (1 - self.audit_rate)
            return part >= p, uniform or part < p, uniform

    def observe(
        self,
        distance: float,
        loss: float,
        *,
        slot: int | None = None,
        uniform: bool = True,
        served: bool = False,
        tenant: int | None = None,
    ) -> bool:
        """An audit: the nearest entry, at `distance`, lost `loss` of the recall. O(1), but for the few tests.

        slot: of the entry. tenant: `tenants` from when it was looked up: another entry in its slot learns nothing.

        Returns whether that is too much, so that the query deserves an entry of its own. One that would have got a
        good answer gets none, as if it had been served: else the cache fills with near-duplicates while nothing is
        certified, and the audits measure a denser cache than the one that will serve.
        """
        if not (0.0 <= loss <= 1.0 and distance >= 0):
            raise ValueError(f"loss, distance: expected in [0, 1] and at least 0, got {loss} and {distance}")
        if self.min_recall is not None:
            loss = float(1 - loss < self.min_recall - 1e-12)
        with self._lock:
            self._audited += 1
            if uniform and served:
                self._served.append(loss)
            if self.mode == "per_entry":
                if slot is None:
                    raise ValueError("slot: expected the entry's slot with mode='per_entry', got None")
                if tenant is not None and self._moved_in.get(slot, 0) > tenant:
                    return loss > self.max_loss
                seen = self._entries.setdefault(slot, [])
                seen.append((distance, 1.0 - loss))
                del seen[:-_KEPT]
                self._curves.pop(slot, None)
                return loss > self.max_loss
            if self._grid is None:
                self._pilot.append(distance)
                if len(self._pilot) == self.pilot:
                    self._grid = _quantiles(self._pilot)
                return loss > self.max_loss
            self._distances.append(distance)
            self._losses.append(loss)
            if len(self._losses) >= self._next_test:
                self._test()
            return loss > self.max_loss

    def forget(self, slot: int) -> None:
        """The slot holds another entry now."""
        with self._lock:
            self.tenants += 1
            if self.mode == "per_entry":
                self._moved_in[slot] = self.tenants
            self._entries.pop(slot, None)
            self._curves.pop(slot, None)

    def report(self) -> GuaranteeReport:
        """What was audited, what is served, and what can be said of it."""
        with self._lock:
            grid = np.empty(0) if self._grid is None else self._grid
            n, total = self._per_tolerance(grid)
            return GuaranteeReport(
                self._threshold,
                grid.copy(),
                n,
                np.divide(total, n, out=np.full(len(grid), np.nan), where=n > 0),
                self._audited,
                len(self._served),
                self._recall_lcb(),
            )

    # ---- the bound ----

    def _per_tolerance(self, grid: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        d, loss = np.array(self._distances), np.array(self._losses)
        within = d[None, :] <= grid[:, None]
        return within.sum(1), (within * loss).sum(1)

    def _p_value(self, mean: float, n: int) -> float:
        p = bounds.hoeffding_bentkus_p if self.min_recall is None else bounds.clopper_pearson_p
        return p(mean, n, self.max_loss) if n else 1.0

    def _test(self) -> None:
        """Chooses the tolerance anew. Test number j may err with probability (1 - confidence) / (j (j + 1)): in all at
        most 1 - confidence. With a window the tests never end, and none could pay for all: each stands for itself."""
        assert self._grid is not None
        if self.window is not None:
            del self._distances[: -self.window], self._losses[: -self.window]
            self._next_test = self.window + self.window // 2
        else:
            self._next_test = math.ceil(1.5 * len(self._losses))
        level = 1 - self.confidence
        if self.window is None:
            self._tests += 1
            level /= self._tests * (self._tests + 1)
        if self.testing == "union":
            level /= len(self._grid)
        n, total = self._per_tolerance(self._grid)
        self._threshold = 0.0
        for tau, count, loss in zip(self._grid, n, total):
            if self._p_value(float(loss) / max(int(count), 1), int(count)) <= level:
                self._threshold = float(tau)
            elif self.testing == "sequence":
                break

    def _recall_lcb(self) -> float:
        if not self._served:
            return 0.0
        upper = bounds.hoeffding_bentkus_upper if self.min_recall is None else bounds.clopper_pearson_upper
        return 1 - upper(float(np.mean(self._served)), len(self._served), 1 - self.confidence)

    # ---- per entry ----

    def _curve(self, slot: int) -> logistic.Curves | None:
        seen = self._entries.get(slot, [])
        if len(seen) < _LEAST:
            return None
        if slot not in self._curves:
            d, right = np.array(seen, np.float64).T
            self._curves[slot] = logistic.fit(d[None], right[None], np.ones((1, len(d))))
        return self._curves[slot]

    def _explore(self, curves: logistic.Curves, distance: float) -> float:
        return float(logistic.explore_probability(curves, np.array([distance]), self.max_loss)[0])


def _open_unit(value: Any, name: str) -> float:
    out = real(value, name, 0.0, 1.0, positive=True)
    if out == 1:
        raise ValueError(f"{name}: expected below 1, got {out}")
    return out


def _increasing(grid: Any) -> NDArray[np.float64]:
    out = np.array(grid, np.float64)
    if out.ndim != 1 or not out.size or not np.isfinite(out).all() or out[0] <= 0 or (np.diff(out) <= 0).any():
        raise ValueError(f"grid: expected increasing tolerances above 0, got {grid!r}")
    return out


def _quantiles(distances: list[float]) -> NDArray[np.float64]:
    q = np.quantile(distances, np.linspace(1 / 16, 1, 16))
    q = np.unique(q[q > 0])  # exact repeats need no certificate
    return q if q.size else np.array([np.finfo(np.float32).tiny], np.float64)
