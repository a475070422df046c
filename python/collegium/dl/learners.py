"""The native learner: built-in models trained by the C core, every node in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._check import choice, integer, real
from ..data.datasets import Parts
from ..engine import Context, Rows
from ._describe import describe
from .models import MLP
from .population import Population


class GradientHook(Protocol):
    """Changes gradients before they are applied: clipping, FedProx, Scaffold."""

    def __call__(self, gradients: NDArray[np.float32], *, X: NDArray[np.float32], rows: Rows, ctx: Context) -> None:
        """gradients: (k, P), to be changed in place; X: (n, P) all models; rows: (k,) whose gradients these are."""


Rate = float | Callable[[int], float]
RESETS = ("never", "every_round", "after_sync")


def learning_rate(lr: Rate, round: int) -> float:
    """`lr`, or lr(round) where it is a function. Raises ValueError unless it is a finite number above 0."""
    return real(lr(round), f"lr({round})", positive=True) if callable(lr) else lr


def checked_rate(lr: Rate) -> Rate:
    """`lr` as given to a learner: a function is called when its round comes."""
    return lr if callable(lr) else real(lr, "lr", positive=True)


class Resets:
    """Which rows forget their optimizer's state before they train.

    "never"; "every_round"; "after_sync": rows that did not train in the round before this one, whose models have been
    mixed since without them.
    """

    def __init__(self, mode: str, n: int) -> None:
        self.mode = choice(mode, "reset_optimizer", RESETS)
        self.last = np.full(n, -1, np.int64)  # round in which each row trained last; -1: never

    def rows(self, rows: Rows, round: int) -> Rows:
        """Those of `rows` to reset now; called once for every training round."""
        seen = self.last[rows] >= 0
        stale = {
            "never": np.zeros(len(rows), bool),
            "every_round": seen,
            "after_sync": seen & (self.last[rows] < round - 1),
        }
        out: Rows = rows[stale[self.mode]]
        self.last[rows] = round
        return out


class NativeLearner:
    """Local SGD on an MLP or softmax regression, cross-entropy loss, in C.

    model: the model every node trains.  parts: who holds which samples (Parts); x float32, or uint8 scaled to 0 ... 1;
      evaluated on the data set's test samples.
    batch_size, lr, momentum, weight_decay, nesterov: as torch.optim.SGD; momentum buffers are the learner's own. lr may
      be a function of the round (from 0).
    reset_optimizer: when momentum is forgotten: "never", "every_round" or "after_sync" (before the first training after
      rounds without, when it is stale).
    gradient_hook: called before every local step with the gradients of all rows (then one step at a time, slower).

    Node i's batches: each epoch is a fresh permutation of its samples addressed by (seed, node, epoch), the last batch
    may be smaller; its own step counter walks on from round to round. A node without samples is left alone.
    Raises TypeError or ValueError naming the argument.
    """

    def __init__(
        self,
        model: MLP,
        parts: Parts,
        *,
        batch_size: int = 32,
        lr: Rate = 0.1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        reset_optimizer: str = "never",
        gradient_hook: GradientHook | None = None,
    ) -> None:
        if not isinstance(model, MLP):
            raise TypeError(f"model: expected dl.models.MLP or Softmax, got {type(model).__name__}")
        self.model = model
        self.shapes = model.shapes
        self.batch_size = integer(batch_size, "batch_size", 1)
        self.lr = checked_rate(lr)
        self.momentum = real(momentum, "momentum", 0.0)
        self.weight_decay = real(weight_decay, "weight_decay", 0.0)
        self.nesterov = bool(nesterov)
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: needs momentum above 0")
        self.gradient_hook = gradient_hook
        self._x, self._y = self._samples(parts.dataset.x, parts.dataset.y, "data")
        if parts.dataset.x_test is None:
            raise ValueError("test: the data set has no test set; pass test=(x, y)")
        self._x_test, self._y_test = self._samples(parts.dataset.x_test, parts.dataset.y_test, "test")
        self.test_size = len(self._y_test)
        self._subset: tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]] | None = None
        self._resets = Resets(reset_optimizer, len(parts))
        self._digests = {"data": parts.digest(), "test": parts.dataset.digest(test=True)}
        self._pointers, self._indices = parts.flat()
        self.steps_done = np.zeros(len(parts), np.int64)
        self._nodes = np.arange(len(parts), dtype=np.int64)
        self._velocity: NDArray[np.float32] | None = None
        self._population: Population | None = None
        self._seed = 0

    def bind(self, population: Population, seed: int) -> None:
        """Takes the matrix to train and the seed."""
        if population.n != len(self._nodes):
            raise ValueError(f"data: expected one part a node ({population.n}), got {len(self._nodes)}")
        if self._population is not None:
            raise RuntimeError("learner: it trains another population already: make one for each simulation")
        self._population, self._seed = population, seed
        self._velocity = _core.zeros_rows(population.n, population.size) if self.momentum else None

    def init(self, mode: str) -> None:
        """torch.nn.Linear's default: weights and biases uniform in +-1/sqrt(inputs of the layer)."""
        nodes = self._nodes if mode == "own" else np.zeros_like(self._nodes)
        _core.mlp_init(self.model.sizes, self._seed, nodes, self._bound().X)

    def train(self, rows: Rows, steps: int, ctx: Context) -> NDArray[np.float64]:
        """`steps` local steps on each row, in place; mean training loss of each (NaN without samples)."""
        X = self._bound().X
        lr = learning_rate(self.lr, ctx.round)
        stale = self._resets.rows(rows, ctx.round)
        if self._velocity is not None and stale.size:
            self._velocity[stale] = 0
        if self.gradient_hook is None:
            return _core.mlp_train(
                self.model.sizes, self.model.activation, self._seed, rows, X, self._velocity, self._x, self._y,
                self._pointers, self._indices, self._nodes, self.steps_done, steps, self.batch_size,
                lr, self.momentum, self.weight_decay, self.nesterov,
            )  # fmt: skip
        gradients = np.empty((len(rows), X.shape[1]), np.float32)
        total = np.zeros(len(rows))
        for _ in range(steps):
            total += _core.mlp_gradients(
                self.model.sizes, self.model.activation, self._seed, rows, X, self._x, self._y,
                self._pointers, self._indices, self._nodes, self.steps_done, self.batch_size, gradients,
            )  # fmt: skip
            self.gradient_hook(gradients, X=X, rows=rows, ctx=ctx)
            _core.mlp_apply(
                rows, X, self._velocity, gradients, self._pointers, self.steps_done,
                lr, self.momentum, self.weight_decay, self.nesterov,
            )  # fmt: skip
        return total / steps

    def evaluate(
        self, X: NDArray[np.float32], samples: NDArray[np.int64] | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """Accuracy and mean cross-entropy of the models X (m, P), each (m,), on the test set or these samples of it."""
        x, y = self._x_test, self._y_test
        if samples is not None:
            if self._subset is None or self._subset[0] is not samples:
                self._subset = samples, x[samples], y[samples]
            _, x, y = self._subset
        accuracy, loss = _core.mlp_evaluate(self.model.sizes, self.model.activation, None, X, x, y)
        return {"accuracy": accuracy, "loss": loss}

    def state_dict(self) -> dict[str, Any]:
        """What training changed beside X: step counters, momentum."""
        state = {"steps_done": self.steps_done, "last_round": self._resets.last}
        return state if self._velocity is None else {**state, "velocity": np.ascontiguousarray(self._velocity)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over the arrays of `state_dict`."""
        self.steps_done[...] = state["steps_done"]
        self._resets.last[...] = state["last_round"]
        if self._velocity is not None:
            self._velocity[...] = state["velocity"]

    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for a run to go on."""
        return {
            "model": repr(self.model), **self._digests,
            "batch_size": self.batch_size, "lr": describe(self.lr),
            "momentum": self.momentum, "weight_decay": self.weight_decay, "nesterov": self.nesterov,
            "reset_optimizer": self._resets.mode, "gradient_hook": describe(self.gradient_hook),
        }  # fmt: skip

    def _bound(self) -> Population:
        if self._population is None:
            raise RuntimeError("bind(population, seed) must be called first; Simulation does it")
        return self._population

    def _samples(self, x: Any, y: Any, name: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        a, b = np.asarray(x), np.asarray(y)
        flat = a.reshape(len(a), -1)
        if flat.shape[1] != self.model.sizes[0]:
            raise ValueError(f"{name}: expected {self.model.sizes[0]} values a sample, got shape {a.shape}")
        if flat.dtype == np.uint8:
            flat = flat.astype(np.float32) / 255
        elif flat.dtype != np.float32:
            raise TypeError(f"{name}: expected float32 or uint8 samples, got {a.dtype}")
        if b.ndim != 1 or len(b) != len(a) or (b.size and b.dtype.kind not in "iu"):
            raise ValueError(f"{name}: expected one integer label a sample ({len(a)},), got {b.dtype} {b.shape}")
        if b.size and not (0 <= b.min() and b.max() < self.model.classes):
            raise ValueError(f"{name}: expected labels 0 to {self.model.classes - 1}, got {b.min()} to {b.max()}")
        return np.ascontiguousarray(flat), b.astype(np.int64)
