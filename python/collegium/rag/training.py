"""Fitting the router's network: loss weights, learning rates, the loop with validation, and the native trainer.

Source: RAGRoute (arXiv 2502.19280) and its reference implementation: batches of 128 rows, Adam with L2 1e-5, gradient
norm clipped to 1, and the checkpoint that is best on the validation queries.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._check import real
from .features import Rows
from .seam import Floats, Ids

Labels = NDArray[np.uint8]
SCHEDULES = ("constant", "paper")
CHUNK = 32  # batches a native call: long against the call, short enough for Ctrl-C


@dataclass(frozen=True)
class Recipe:
    """How to train. Units: lr a step, dropout a share, clip an L2 norm (0: none); see `SourceRouter`."""

    hidden: tuple[int, int]
    dropout: float
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    clip: float
    pos_weight: float
    schedule: str
    patience: int | None
    keep: str
    seed: int
    progress: bool


def weight_of_positives(pos_weight: Any, Y: Labels) -> float:
    """The factor of the positive branch of the loss, from None (1), "balanced" (negatives / positives over the rows,
    not rows / positives), a number, or ("balanced", number), which multiplies the two."""
    if pos_weight is None:
        return 1.0
    rule, factor = pos_weight if isinstance(pos_weight, tuple) and len(pos_weight) == 2 else (pos_weight, 1.0)
    if not isinstance(rule, str):
        return real(pos_weight, "pos_weight", positive=True)
    if rule != "balanced":
        raise ValueError(f"pos_weight: expected None, 'balanced', ('balanced', factor) or a number, got {pos_weight!r}")
    positives = int(Y.sum())
    balance = (Y.size - positives) / positives if 0 < positives < Y.size else 1.0
    return real(factor, "pos_weight", positive=True) * balance


def learning_rates(schedule: str, lr: float, first: int, steps: int, per_epoch: int) -> NDArray[np.float64]:
    """Rates of the steps first ... first + steps - 1, float64 (steps,).

    "paper": stepped per batch, not per epoch. A triangle between lr and 5 lr, 10 batches up and 10 down, its amplitude
    halved each cycle; from epoch 115 on the rate of that moment, times 0.05 for every 50 batches since.
    """
    t = np.arange(first, first + steps, dtype=np.float64)
    if schedule == "constant":
        return np.full(steps, lr)
    late = np.maximum(t - 115 * per_epoch, 0)
    t = t - late
    cycle = np.floor(1 + t / 20)
    height = np.maximum(0, 1 - np.abs(t / 10 - 2 * cycle + 1))
    return np.asarray((lr + 4 * lr * height * 0.5 ** (cycle - 1)) * 0.05 ** (late // 50))


def initial(sizes: tuple[int, int, int, int, int], seed: int) -> Floats:
    """torch's default start, plain order: uniform within 1 / sqrt(inputs), LayerNorm 1 and 0; addressed by tensor."""
    d, f, x, h1, h2 = sizes
    parts: list[Any] = []

    def linear(outputs: int, inputs: int) -> None:
        for n in (outputs * inputs, outputs):
            u = _core.random_f32(seed, _core.FOR_INIT, 0, len(parts), 0, n)
            parts.append((2 * u - 1) * np.float32(1 / np.sqrt(inputs)))

    for outputs, inputs in ((h1, d + f + x), (h2, h1)):
        linear(outputs, inputs)
        parts.extend([np.ones(outputs, np.float32), np.zeros(outputs, np.float32)])
    linear(1, h2)
    return np.concatenate(parts)


class Trainer(Protocol):
    """A network under training: `_core`'s or torch's."""

    def steps(self, rows: NDArray[np.int32], lr: NDArray[np.float64]) -> float:
        """One step a batch of `rows` (query * N + source); the sum of the rows' losses."""

    def plain(self) -> Floats:
        """A copy of the parameters, torch's order."""


class Native:
    """The trainer of `_core`: packed parameters, Adam's moments, the number of steps."""

    def __init__(self, recipe: Recipe, rows: Rows, Y: Labels) -> None:
        self.recipe, self.rows, self.Y = recipe, rows, Y
        crosses = 0 if rows.crosses is None else 1
        self.sizes = (rows.queries.shape[2], rows.statics.shape[1], crosses, *recipe.hidden)
        self.count, packed = _core.router_sizes(self.sizes)
        self.state = [np.zeros(packed, np.float32) for _ in range(3)]
        _core.router_load(self.sizes, initial(self.sizes, recipe.seed), self.state[0])
        self.done = 0

    def steps(self, rows: NDArray[np.int32], lr: NDArray[np.float64]) -> float:
        r, d = self.recipe, self.rows
        loss = _core.router_train(
            self.sizes, d.queries, d.encoder, d.statics, d.crosses, self.Y, r.seed, r.dropout, r.pos_weight,
            r.weight_decay, r.clip, rows, r.batch_size, lr, self.done, *self.state,
        )  # fmt: skip
        self.done += len(lr)
        return loss

    def plain(self) -> Floats:
        out = np.empty(self.count, np.float32)
        _core.router_store(self.sizes, self.state[0], out)
        return out


def accuracy(P: Floats, Y: Labels) -> float:
    return float(np.mean((P > 0.5) == Y)) if Y.size else 0.0


def f1(P: Floats, Y: Labels) -> float:
    mask = P > 0.5
    return float(2 * np.sum(mask & (Y == 1)) / max(1, int(mask.sum()) + int(Y.sum())))


SCORES: dict[str, Callable[[Floats, Labels], float]] = {"accuracy": accuracy, "f1": f1}


@dataclass
class Fitted:
    """What training left. plain: the best parameters; history: one entry an epoch; best: its epoch, from 0.
    interrupted: by Ctrl-C."""

    plain: Floats | None
    history: list[dict[str, float]]
    best: int = -1
    interrupted: bool = False


def train(trainer: Trainer, recipe: Recipe, rows: int, validate: Callable[[Floats], Floats], Y: Labels) -> Fitted:
    """Epochs over `rows` shuffled rows; keeps the parameters that are best on the validation queries (of equal ones
    those of the smaller loss; the last ones where there are none).

    validate: parameters -> probabilities of the validation queries; Y: their labels.

    Ctrl-C ends it between two chunks of batches, with the best so far. Raises RuntimeError where the loss is no longer
    finite.
    """
    fitted, best = Fitted(None, []), (-np.inf, -np.inf)
    per_epoch = -(-rows // recipe.batch_size)
    try:
        with _bar(recipe) as tick:
            for epoch in range(recipe.epochs):
                order = _core.random_permutation(recipe.seed, _core.FOR_SHUFFLE, 0, epoch, rows)
                rates = learning_rates(recipe.schedule, recipe.lr, epoch * per_epoch, per_epoch, per_epoch)
                loss = _epoch(trainer, order, rates, recipe.batch_size) / rows
                if not np.isfinite(loss):
                    raise RuntimeError(f"training diverged in epoch {epoch}: the loss is {loss}; lower lr")
                entry = {"loss": loss}
                now = (0.0, float(epoch))
                if len(Y):
                    P = validate(trainer.plain())
                    entry["validation_loss"] = _cross_entropy(P, Y)
                    entry[f"validation_{recipe.keep}"] = SCORES[recipe.keep](P, Y)
                    now = (entry[f"validation_{recipe.keep}"], -entry["validation_loss"])
                fitted.history.append(entry)
                if now > best:
                    best, fitted.plain, fitted.best = now, trainer.plain(), epoch
                tick(entry)
                if recipe.schedule == "constant" and epoch - fitted.best >= (recipe.patience or recipe.epochs):
                    break
    except KeyboardInterrupt:
        fitted.interrupted = True
    return fitted


def _epoch(trainer: Trainer, order: NDArray[np.int32], rates: NDArray[np.float64], batch: int) -> float:
    return sum(
        trainer.steps(order[i * batch : (i + CHUNK) * batch], rates[i : i + CHUNK]) for i in range(0, len(rates), CHUNK)
    )


def _cross_entropy(P: Floats, Y: Labels) -> float:
    p = np.clip(np.where(Y == 1, P, 1 - P).astype(np.float64), 1e-12, 1)
    return float(-np.log(p).mean())


@contextmanager
def _bar(recipe: Recipe) -> Iterator[Callable[[dict[str, float]], None]]:
    if not recipe.progress:
        yield lambda entry: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=recipe.epochs, desc="router", unit="epoch") as bar:

        def tick(entry: dict[str, float]) -> None:
            bar.set_postfix({k: f"{v:.4f}" for k, v in entry.items()}, refresh=False)
            bar.update()

        yield tick


def split_queries(n: int, validation: float, seed: int) -> tuple[Ids, Ids]:
    """Indices of training and of validation queries: never rows, all rows of a query stay together."""
    order = _core.random_permutation(seed, _core.FOR_PARTITION, 0, 0, n).astype(np.int64)
    held = round(n * validation)
    if validation > 0:
        held = min(max(held, 1), n - 1)
    return np.sort(order[held:]), np.sort(order[:held])


def warn_of_labels(Y: Labels, Y_validation: Labels, names: tuple[str, ...]) -> None:
    """What is legal and rarely meant."""
    if len(Y) < 50:
        warnings.warn(f"Y: {len(Y)} training queries; expected at least 50 for more than noise", stacklevel=3)
    rate = Y.mean(axis=0) if len(Y) else np.zeros(len(names))
    for name, r in zip(names, rate, strict=True):
        if r in (0.0, 1.0):
            what = "every" if r else "no"
            warnings.warn(f"Y: source {name!r} is relevant for {what} training query: its prediction is constant",
                          stacklevel=3)  # fmt: skip
    if len(Y_validation) and not Y_validation.any():
        warnings.warn("Y: no positive label among the validation queries: thresholds mean nothing", stacklevel=3)
