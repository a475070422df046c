"""What is measured at an evaluation, and on which samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._check import integer, real
from ..engine import Evaluate, Learner, Ledger

if TYPE_CHECKING:
    from .simulation import Simulation

Samples = NDArray[np.int64]
Metrics = dict[str, NDArray[np.float64]]
EvalFn = Callable[["Simulation"], Mapping[str, Any]]


class Evaluation:
    """Divides the learner's test set into what is tested and what is validation, and makes the history's rows.

    validation: share of the test set, or a number of its last samples.  Which samples, and which of them an
    `eval_samples` picks, is addressed by the seed: the same in every run and after a resume.
    """

    def __init__(self, learner: Learner, seed: int, validation: float | int | None) -> None:
        self.learner = learner
        self.validation: Samples | None = None
        self._test: Samples | None = None
        self._seed = seed
        self._picked: dict[tuple[int, int], Samples] = {}
        if validation is None:
            return
        size = self._size("validation")
        if isinstance(validation, int) and not isinstance(
            validation, bool
        ):  # samples that were put behind the test set
            held = np.arange(size - validation, size)
        else:
            share = real(validation, "validation", 0.0, 1.0)
            held = self._order(size)[: round(share * size)]
        if not 0 < len(held) < size:
            raise ValueError(f"validation: expected a part of the {size} test samples, got {len(held)}")
        self.validation = np.sort(held)
        self._test = np.setdiff1d(np.arange(size), self.validation)

    def picked(self, eval_samples: int | None) -> Samples | None:
        """The test samples of a run; None: all of them."""
        if eval_samples is None:
            return self._test
        size = self._size("eval_samples")
        count = integer(eval_samples, "eval_samples", 0)
        return self._some(np.arange(size) if self._test is None else self._test, count)

    def measure(
        self,
        sim: Simulation,
        record: Evaluate,
        samples: Samples | None,
        eval_fn: EvalFn | None,
    ) -> tuple[dict[str, Any], Metrics]:
        """A row of the history, and the metrics of every node."""
        ledger: Ledger = sim.ledger
        mean, consensus = sim.population.consensus()
        nodes: Metrics = {}
        of_mean: Metrics = {}
        if samples is None or len(samples):
            nodes = self._evaluate(sim.population.X, samples)
            of_mean = self._evaluate(mean[None], samples)
        nan = np.full(1, np.nan)
        row: dict[str, Any] = {
            "round": record.round,
            "accuracy": float(nodes.get("accuracy", nan).mean()),
            "accuracy_std": float(nodes.get("accuracy", nan).std()),
            "mean_model_accuracy": float(of_mean.get("accuracy", nan)[0]),
            "loss": float(nodes.get("loss", nan).mean()),
            "consensus": consensus,
            "trainings": ledger.trainings,
            "energy_wh": float("nan") if sim.energy is None else ledger.energy_wh,
            "bytes_sent": ledger.bytes_sent,
        }
        if ledger.communication_wh:
            row["communication_wh"] = ledger.communication_wh
        for name, values in nodes.items():
            if name not in row:
                row[name] = float(values.mean())
                row[f"mean_model_{name}"] = float(of_mean[name][0])
        if self.validation is not None and (samples is None or len(samples)):
            held = self.validation if samples is None else self._some(self.validation, len(samples))
            for name, values in self._evaluate(sim.population.X, held).items():
                row[f"val_{name}"] = float(values.mean())
        if eval_fn is not None:
            self._own_columns(eval_fn(sim), row, nodes, sim.topology.n)
        return row, nodes

    @staticmethod
    def _own_columns(given: Mapping[str, Any], row: dict[str, Any], nodes: Metrics, n: int) -> None:
        if not isinstance(given, Mapping):
            raise TypeError(f"eval_fn: expected it to return name -> number, got {given!r}")
        for name, value in given.items():
            try:
                values = np.asarray(value, np.float64)
            except (TypeError, ValueError):
                raise TypeError(f"eval_fn: {name!r}: expected numbers, got {value!r}") from None
            if values.shape not in ((), (n,)):
                raise ValueError(f"eval_fn: {name!r}: expected a number or shape ({n},), got {values.shape}")
            if name in row:
                raise ValueError(f"eval_fn: {name!r} is a column already")
            row[name] = float(values.mean())
            if values.shape:
                nodes[name] = values

    def _evaluate(self, X: NDArray[np.float32], samples: Samples | None) -> Metrics:
        if samples is None:
            return self.learner.evaluate(X)
        return self.learner.evaluate(X, samples)  # type: ignore[call-arg]

    def _some(self, samples: Samples, count: int) -> Samples:
        """`count` of the samples, the same ones every time; the same array too, so that learners can keep them."""
        if count >= len(samples):
            return samples
        key = len(samples), count
        if key not in self._picked:
            order = self._order(self._size("eval_samples"))
            self._picked[key] = np.sort(order[np.isin(order, samples)][:count])
        return self._picked[key]

    def _size(self, argument: str) -> int:
        size = getattr(self.learner, "test_size", None)
        if size is None:
            raise ValueError(f"{argument}: {type(self.learner).__name__} has no test_size: it evaluates all it has")
        return int(size)

    def _order(self, size: int) -> Samples:
        return _core.random_permutation(self._seed, _core.FOR_EVAL, 0, 0, size).astype(np.int64)
