"""The learner of matrix factorization: every node's ratings, trained by the C core in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._check import choice, integer, real
from ..data.datasets import Parts
from ..engine import Context, Rows
from ._describe import describe
from .models import MatrixFactorization
from .population import Population

INIT_BOUND = np.float32(0.05)  # factors start in U(-0.05, 0.05), as in the papers' code; biases at 0

Metrics = dict[str, NDArray[np.float64]]


class FactorizationLearner:
    """Local SGD on a matrix factorization, squared error, in C.

    model: a dl.models.MatrixFactorization.
    parts: who holds which ratings (Parts); x int64 (N, 2), columns user and item, y float32 (N,) ratings; evaluated on
      the data set's test samples.
    batch_size: ratings a step; the loss is their mean squared error, without the usual 1/2.
    lr: a number above 0, or a function of the round (ctx.round, from 0) that gives one, or 0.
    weight_decay: as torch.optim.SGD on dense embeddings: all parameters, biases too, shrink by 1 - lr weight_decay at
      every step, not the batch's rows only. lr * weight_decay must stay below 1.
    test_batch_size: batches of "rmse_of_batches"; None: batch_size.

    A batch's gradient is taken at the parameters before the step, also where a user or an item is in it twice, and a
    step costs O(batch_size * factors), whatever P. There is no momentum: it would move all P parameters at every step.
    Node i's batches: each epoch is a fresh permutation of its ratings addressed by (seed, node, epoch), the last batch
    may be smaller; its own step counter walks on from round to round. A node without ratings is left alone.

    Without biases the start, all factors near 0, is close to a saddle: the first rounds may show little progress.
    Raises TypeError or ValueError naming the argument.
    """

    def __init__(
        self,
        model: MatrixFactorization,
        parts: Parts,
        *,
        batch_size: int = 32,
        lr: float | Callable[[int], float] = 0.1,
        weight_decay: float = 0.0,
        test_batch_size: int | None = None,
    ) -> None:
        if not isinstance(model, MatrixFactorization):
            raise TypeError(f"model: expected dl.models.MatrixFactorization, got {type(model).__name__}")
        self.model = model
        self.shapes = model.shapes
        self.batch_size = integer(batch_size, "batch_size", 1)
        self.test_batch_size = (
            self.batch_size if test_batch_size is None else integer(test_batch_size, "test_batch_size", 1)
        )
        self.weight_decay = real(weight_decay, "weight_decay", 0.0)
        self.lr = lr if callable(lr) else self._rate(real(lr, "lr", positive=True))
        self._pairs, self._ratings = self._samples(parts.dataset.x, parts.dataset.y, "data")
        x_test, y_test = parts.dataset.x_test, parts.dataset.y_test
        if x_test is None or y_test is None:
            raise ValueError("test: the data set has no test set; pass test=(x, y)")
        self._test_pairs, self._test_ratings = self._samples(x_test, y_test, "test")
        self._digests = {"data": parts.digest(), "test": parts.dataset.digest(test=True)}
        self._pointers, self._indices = parts.flat()
        self.steps_done = np.zeros(len(parts), np.int64)
        self.mean = self._mean() if model.mean is None else model.mean
        self._net = (model.users, model.items, model.factors, model.biases, self.mean)
        self._nodes = np.arange(len(parts), dtype=np.int64)
        self._population: Population | None = None
        self._seed = 0

    @property
    def test_size(self) -> int:
        """Number of test ratings."""
        return len(self._test_ratings)

    def bind(self, population: Population, seed: int) -> None:
        """Takes the matrix to train and the seed."""
        if population.n != len(self._nodes):
            raise ValueError(f"data: expected one part a node ({population.n}), got {len(self._nodes)}")
        if population.size != self.model.size:
            raise ValueError(f"population: expected models of {self.model.size} parameters, got {population.size}")
        self._population, self._seed = population, seed

    def init(self, mode: str) -> None:
        """Factors uniform in +-0.05, element k of tensor t at address (seed; FOR_INIT, node, t) [k]; biases 0.

        mode: "common", node 0's in every row, or "own".
        """
        own = choice(mode, "mode", ("common", "own")) == "own"
        X = self._bound().X
        sizes = (self.model.users * self.model.factors, self.model.items * self.model.factors)
        X[:, sum(sizes) :] = 0
        for i in range(len(X) if own else 1):
            row = [_core.random_f32(self._seed, _core.FOR_INIT, i, t, 0, k) for t, k in enumerate(sizes)]
            X[i if own else slice(None), : sum(sizes)] = (2 * np.concatenate(row) - 1) * INIT_BOUND

    def train(self, rows: Rows, steps: int, ctx: Context) -> NDArray[np.float64]:
        """`steps` local steps on each row, in place; mean squared error of its batches (NaN without ratings)."""
        X = self._bound().X
        lr = self._rate(self.lr(ctx.round)) if callable(self.lr) else self.lr
        return _core.mf_train(
            self._net, self._seed, rows, X, self._pairs, self._ratings, self._pointers, self._indices,
            self._nodes, self.steps_done, steps, self.batch_size, lr, self.weight_decay,
        )  # fmt: skip

    def evaluate(self, X: NDArray[np.float32], samples: NDArray[np.int64] | None = None) -> Metrics:
        """Errors of the models X (m, P) on the test set, each (m,) float64, in units of the ratings.

        samples: int64 (k,) indices into the test set, in the order to take them; None: all.
        "loss": mean squared error.  "rmse": its root.  "rmse_of_batches": root of the mean of the mean squared errors
        of batches of test_batch_size, which the papers' code prints; another number where the last batch is smaller.
        """
        pairs, ratings = self._test_pairs, self._test_ratings
        if samples is not None:
            chosen = self._chosen(samples)
            pairs, ratings = pairs[chosen], ratings[chosen]
        return self._metrics(_core.mf_evaluate(self._net, None, X, pairs, ratings, None, self.test_batch_size))

    def evaluate_own(self, X: NDArray[np.float32]) -> Metrics:
        """The same, of node i's model X[i] on the test ratings of the users in its own part: what the papers report.

        X: (n, P), a row a node. NaN for a node none of whose users has test ratings.
        """
        n = len(self._nodes)
        if X.ndim != 2 or len(X) != n:
            raise ValueError(f"X: expected one model a node ({n}, {self.model.size}), got shape {X.shape}")
        lists, here = [], np.empty(self.model.users, np.bool_)
        for start, end in zip(self._pointers, self._pointers[1:]):
            here[:] = False
            here[self._pairs[self._indices[start:end], 0]] = True
            lists.append(np.flatnonzero(here[self._test_pairs[:, 0]]))
        pointers = np.cumsum([0, *map(len, lists)], dtype=np.int64)
        chosen = np.concatenate(lists)
        pairs, ratings = self._test_pairs[chosen], self._test_ratings[chosen]
        return self._metrics(_core.mf_evaluate(self._net, None, X, pairs, ratings, pointers, self.test_batch_size))

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What a checkpoint must hold besides the models: steps_done, int64 (n,)."""
        return {"steps_done": self.steps_done.copy()}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes what `state_dict` gave. Nothing changes if anything is wrong."""
        if set(state) != {"steps_done"}:
            raise ValueError(f"state: expected steps_done alone, got {sorted(state)}")
        steps = np.asarray(state["steps_done"])
        if steps.dtype != np.int64 or steps.shape != self.steps_done.shape:
            raise ValueError(
                f"state['steps_done']: expected int64 {self.steps_done.shape}, got {steps.dtype} {steps.shape}"
            )
        if steps.min() < 0:
            raise ValueError(f"state['steps_done']: expected at least 0, got {steps.min()}")
        self.steps_done = steps.copy()

    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for a run to go on, for JSON. A function as lr is known by its name only."""
        return {
            "model": {**asdict(self.model), "mean": self.mean}, **self._digests, "lr": describe(self.lr),
            "batch_size": self.batch_size, "weight_decay": self.weight_decay,
        }  # fmt: skip

    def _bound(self) -> Population:
        if self._population is None:
            raise RuntimeError("bind(population, seed) must be called first; Simulation does it")
        return self._population

    def _rate(self, value: Any) -> float:
        lr = real(value, "lr", 0.0)  # a schedule may end at 0
        if lr * self.weight_decay >= 1:
            raise ValueError(f"weight_decay: expected lr * weight_decay below 1, got {lr * self.weight_decay}")
        return lr

    def _mean(self) -> float:
        """Of the ratings that some node holds; 0 without biases."""
        held = self._ratings[np.unique(self._indices)]
        return float(held.mean(dtype=np.float64)) if self.model.biases and len(held) else 0.0

    def _chosen(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        if not isinstance(samples, np.ndarray) or samples.dtype != np.int64 or samples.ndim != 1:
            raise TypeError(f"samples: expected a 1-D int64 array or None, got {samples!r}")
        wrong = np.flatnonzero((samples < 0) | (samples >= self.test_size))
        if len(wrong):
            raise ValueError(f"samples[{wrong[0]}]: expected 0 to {self.test_size - 1}, got {samples[wrong[0]]}")
        return samples

    def _samples(self, x: Any, y: Any, name: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """(user, item) pairs and ratings, checked: int32 halves what a step reads of them."""
        pairs, ratings = np.asarray(x), np.asarray(y)
        if pairs.dtype.kind not in "iu":
            raise TypeError(f"{name}: expected integer ids (user, item), got {pairs.dtype}")
        if pairs.ndim != 2 or pairs.shape[1] != 2:
            raise ValueError(f"{name}: expected (N, 2) ids (user, item), got shape {pairs.shape}")
        if ratings.dtype != np.float32:
            raise TypeError(f"{name}: expected float32 ratings, got {ratings.dtype}")
        if ratings.shape != pairs.shape[:1]:
            raise ValueError(f"{name}: expected one rating a pair ({len(pairs)},), got shape {ratings.shape}")
        for column, (what, most) in enumerate((("user", self.model.users), ("item", self.model.items))):
            wrong = np.flatnonzero((pairs[:, column] < 0) | (pairs[:, column] >= most))
            if len(wrong):
                at = int(wrong[0])
                raise ValueError(f"{name}: expected {what}s 0 to {most - 1}, got {pairs[at, column]} at position {at}")
        wrong = np.flatnonzero(~np.isfinite(ratings))
        if len(wrong):
            raise ValueError(f"{name}: expected finite ratings, got {ratings[wrong[0]]} at position {wrong[0]}")
        return np.ascontiguousarray(pairs, np.int32), np.ascontiguousarray(ratings)

    @staticmethod
    def _metrics(errors: tuple[NDArray[np.float64], NDArray[np.float64]]) -> Metrics:
        mse, of_batches = errors
        return {"loss": mse, "rmse": np.sqrt(mse), "rmse_of_batches": np.sqrt(of_batches)}
