"""Schedules: who trains in which round."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from .._check import integer


class Schedule(Protocol):
    """Slot: who trains when.

    A schedule of your own is one method. It must not look at anything but its arguments, so that every process, and a
    resumed run, computes the same plan::

        class Fridays:
            def plan(self, rounds, n, seed=0):
                actions = np.zeros((rounds, n), np.uint8)
                actions[4::7] = 1
                return actions
    """

    def plan(self, rounds: int, n: int, seed: int = 0) -> NDArray[np.uint8]:
        """The action matrix (rounds, n): 1 where a node trains, 0 where it only exchanges."""


class DPSGD:
    """Every node trains in every round (Lian et al., NeurIPS 2017): the baseline."""

    def plan(self, rounds: int, n: int, seed: int = 0) -> NDArray[np.uint8]:
        """All ones, (rounds, n)."""
        return _plan(rounds, n, 1, 0, None, None, seed)

    def __repr__(self) -> str:
        return "DPSGD()"


class SkipTrain:
    """Blocks of training rounds, then blocks of rounds that only synchronize (SkipTrain, section on coordinated rounds).

    Round t is a training round iff (t mod (gamma_train + gamma_sync)) < gamma_train: a period starts with training.

    gamma_train: at least 1.  gamma_sync: at least 0; 0 is D-PSGD.  budget: rounds each node can afford to train, (n,)
    integers; None for no limit. With a budget, node i trains in a training round with probability
    min(budget_i / T_train, 1), a coin of its own, until its budget is spent (SkipTrain-constrained); T_train is the
    exact number of training rounds in the run, so the plan depends on the total number of rounds.
    """

    def __init__(self, gamma_train: int, gamma_sync: int, budget: ArrayLike | None = None) -> None:
        self.gamma_train = integer(gamma_train, "gamma_train", 1)
        self.gamma_sync = integer(gamma_sync, "gamma_sync", 0)
        self.budget = None if budget is None else _budget(budget)

    @property
    def period(self) -> int:
        """Rounds in a period."""
        return self.gamma_train + self.gamma_sync

    def training_rounds(self, rounds: int) -> int:
        """T_train: training rounds among the first `rounds`."""
        whole, rest = divmod(integer(rounds, "rounds", 0), self.period)
        return whole * self.gamma_train + min(rest, self.gamma_train)

    def probabilities(self, rounds: int) -> NDArray[np.float64] | None:
        """(n,) chance of a node to train in a training round, or None without budgets."""
        if self.budget is None:
            return None
        return np.minimum(self.budget / max(self.training_rounds(rounds), 1), 1.0)

    def plan(self, rounds: int, n: int, seed: int = 0) -> NDArray[np.uint8]:
        """The action matrix, (rounds, n)."""
        p = self.probabilities(rounds)
        threshold = None if p is None else np.floor(p * 2.0**32).astype(np.uint64)
        return _plan(rounds, n, self.gamma_train, self.gamma_sync, threshold, self.budget, seed)

    def __repr__(self) -> str:
        budget = "" if self.budget is None else f", budget={_short(self.budget)}"
        return f"SkipTrain({self.gamma_train}, {self.gamma_sync}{budget})"


class Greedy:
    """Every node trains in every round until its budget is spent, then only exchanges: SkipTrain-constrained's baseline.

    budget: rounds each node can afford to train, (n,) integers, at least 0.
    """

    def __init__(self, budget: ArrayLike) -> None:
        self.budget = _budget(budget)

    def plan(self, rounds: int, n: int, seed: int = 0) -> NDArray[np.uint8]:
        """The action matrix, (rounds, n)."""
        return _plan(rounds, n, 1, 0, None, self.budget, seed)

    def __repr__(self) -> str:
        return f"Greedy({_short(self.budget)})"


def checked_plan(schedule: Schedule, rounds: int, n: int, seed: int) -> NDArray[np.uint8]:
    """`schedule.plan(...)`, refused unless it is a (rounds, n) matrix of zeros and ones."""
    actions = np.ascontiguousarray(schedule.plan(rounds, n, seed))
    if actions.shape != (rounds, n):
        raise ValueError(f"{schedule!r}.plan: expected shape {(rounds, n)}, got {actions.shape}")
    out = actions.astype(np.uint8)
    if not np.array_equal(out, actions) or out.max(initial=0) > 1:
        raise ValueError(f"{schedule!r}.plan: expected zeros and ones, got other values")
    return out


def _plan(
    rounds: int,
    n: int,
    gamma_train: int,
    gamma_sync: int,
    threshold: NDArray[np.uint64] | None,
    budget: NDArray[np.int64] | None,
    seed: int,
) -> NDArray[np.uint8]:
    rounds, n = integer(rounds, "rounds", 1), integer(n, "n", 1)
    if budget is not None and budget.shape != (n,):
        raise ValueError(f"budget: expected one number a node, shape ({n},), got {budget.shape}")
    return _core.schedule(rounds, n, gamma_train, gamma_sync, threshold, budget, seed, 0)


def _budget(budget: Any) -> NDArray[np.int64]:
    given = np.asarray(budget)
    if given.ndim != 1 or given.dtype.kind not in "iuf":
        raise TypeError(f"budget: expected a sequence of integers, got {budget!r}")
    if given.dtype.kind == "f" and not np.all(np.isfinite(given)):
        i = int(np.flatnonzero(~np.isfinite(given))[0])
        raise ValueError(f"budget: expected whole numbers, got {given[i]} at node {i}")
    out = given.astype(np.int64)
    wrong = np.flatnonzero((out != given) | (out < 0))
    if wrong.size:
        raise ValueError(f"budget: expected whole numbers of at least 0, got {given[wrong[0]]} at node {wrong[0]}")
    return out


def _short(budget: NDArray[np.int64]) -> str:
    return np.array2string(budget, threshold=6, edgeitems=2, separator=", ")
