"""The native learner: built-in models trained by the C core, every node in one call."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from .._check import integer, real
from ..data.datasets import Parts
from ..engine import Context, Rows
from .models import MLP
from .population import Population


class GradientHook(Protocol):
    """Changes gradients before they are applied: clipping, FedProx, Scaffold."""

    def __call__(self, gradients: NDArray[np.float32], *, X: NDArray[np.float32], rows: Rows, ctx: Context) -> None:
        """gradients: (k, P), to be changed in place; X: (n, P) all models; rows: (k,) whose gradients these are."""


class NativeLearner:
    """Local SGD on an MLP or softmax regression, cross-entropy loss, in C.

    model: the model every node trains.  parts: who holds which samples (Parts); x float32, or uint8 scaled to 0 ... 1.
    test: (x, y) to evaluate on; default the data set's own test set.
    batch_size, lr, momentum, weight_decay, nesterov: as torch.optim.SGD; momentum buffers are the learner's own.
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
        test: tuple[ArrayLike, ArrayLike] | None = None,
        batch_size: int = 32,
        lr: float = 0.1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        gradient_hook: GradientHook | None = None,
    ) -> None:
        if not isinstance(model, MLP):
            raise TypeError(f"model: expected dl.models.MLP or Softmax, got {type(model).__name__}")
        self.model = model
        self.shapes = model.shapes
        self.batch_size = integer(batch_size, "batch_size", 1)
        self.lr = real(lr, "lr", positive=True)
        self.momentum = real(momentum, "momentum", 0.0)
        self.weight_decay = real(weight_decay, "weight_decay", 0.0)
        self.nesterov = bool(nesterov)
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: needs momentum above 0")
        self.gradient_hook = gradient_hook
        self._x, self._y = self._samples(parts.dataset.x, parts.dataset.y, "data")
        x_test, y_test = (parts.dataset.x_test, parts.dataset.y_test) if test is None else test
        if x_test is None or y_test is None:
            raise ValueError("test: the data set has no test set; pass test=(x, y)")
        self._x_test, self._y_test = self._samples(x_test, y_test, "test")
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
        self._population, self._seed = population, seed
        self._velocity = _core.zeros_rows(population.n, population.size) if self.momentum else None

    def init(self, mode: str) -> None:
        """torch.nn.Linear's default: weights and biases uniform in +-1/sqrt(inputs of the layer)."""
        nodes = self._nodes if mode == "own" else np.zeros_like(self._nodes)
        _core.mlp_init(self.model.sizes, self._seed, nodes, self._bound().X)

    def train(self, rows: Rows, steps: int, ctx: Context) -> NDArray[np.float64]:
        """`steps` local steps on each row, in place; mean training loss of each (NaN without samples)."""
        X = self._bound().X
        if self.gradient_hook is None:
            return _core.mlp_train(
                self.model.sizes, self.model.activation, self._seed, rows, X, self._velocity, self._x, self._y,
                self._pointers, self._indices, self._nodes, self.steps_done, steps, self.batch_size,
                self.lr, self.momentum, self.weight_decay, self.nesterov,
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
                self.lr, self.momentum, self.weight_decay, self.nesterov,
            )  # fmt: skip
        return total / steps

    def evaluate(self, X: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        """Accuracy and mean cross-entropy of the models X (m, P) on the test set, each (m,)."""
        accuracy, loss = _core.mlp_evaluate(
            self.model.sizes, self.model.activation, None, X, self._x_test, self._y_test
        )
        return {"accuracy": accuracy, "loss": loss}

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
