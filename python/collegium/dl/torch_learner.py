"""The torch learner: any module, its parameters views into the rows of the population."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .. import _core
from .._check import choice, integer, real
from ..data.datasets import Parts
from ..engine import Context, Rows
from ._describe import describe
from .learners import GradientHook, Rate, Resets, checked_rate, learning_rate
from .population import Population


class TorchLearner:
    """Local training of torch modules, one process, one copy of the data, no copy of a model.

    There is one module; to train node i its parameters are pointed at row i of the population, so the optimizer writes
    there. `module(i)` gives a module of one's own on row i.

    model: a function returning an nn.Module of float32 parameters, called under a seeded generator; or a module, whose
      weights every node then starts from.
    parts: who holds which samples (Parts of arrays or of a torch Dataset); evaluated on the data set's test samples.
    batch_size: of training.  optimizer: function of the parameters, `lambda p: torch.optim.Adam(p, 1e-3)`, one
      optimizer a node; default SGD with lr (a number, or a function of the round), momentum, weight_decay, nesterov.
    scheduler: function of an optimizer returning an LRScheduler, stepped once after each of its node's training rounds.
    reset_optimizer: when its state is forgotten: "never", "every_round", "after_sync" (before the first training after
      rounds without).
    loss: function (output, y) -> scalar; default cross-entropy on the output, or on its `.logits`.
    transform, test_transform: function of a batch x; default scales uint8 to 0 ... 1 and leaves other types alone.
    buffers: "local", every node keeps its own; "average": floating ones (BatchNorm's statistics) are part of the row
      and travel with it. Integer ones are always local.
    gradient_hook: see `GradientHook`; called for one node at a time, with the gradients of the parameters.
    eval_batch_size: samples at once in evaluation.

    Only parameters and buffers belong to a node: whatever else a module remembers (plain attributes it changes in
    forward) is shared by all nodes, and lost on resume.

    Samples are the native learner's: the same permutations, step counters and batches. Dropout and random transforms
    draw from torch's generator, seeded by (seed; node, round) and left as it was afterwards. The number of torch's
    threads is left alone. Raises TypeError or ValueError naming the argument.
    """

    def __init__(
        self,
        model: Callable[[], nn.Module] | nn.Module,
        parts: Parts,
        *,
        batch_size: int = 32,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
        lr: Rate = 0.1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
        reset_optimizer: str = "never",
        loss: Callable[[Any, torch.Tensor], torch.Tensor] | None = None,
        transform: Callable[[Any], Any] | None = None,
        test_transform: Callable[[Any], Any] | None = None,
        buffers: str = "local",
        gradient_hook: GradientHook | None = None,
        eval_batch_size: int = 256,
    ) -> None:
        self._factory = model
        self._worker = _made(model, 0)
        self.average_buffers = choice(buffers, "buffers", ("local", "average")) == "average"
        self._parameters = dict(self._worker.named_parameters())
        self._shapes_of_parameters()
        self.parts, self.n = parts, len(parts)
        self.batch_size = integer(batch_size, "batch_size", 1)
        self.eval_batch_size = integer(eval_batch_size, "eval_batch_size", 1)
        self.lr = checked_rate(lr)
        self.momentum = real(momentum, "momentum", 0.0)
        self.weight_decay = real(weight_decay, "weight_decay", 0.0)
        self.nesterov = bool(nesterov)
        if optimizer is not None and (self.lr, self.momentum, self.weight_decay, self.nesterov) != (
            0.1,
            0.0,
            0.0,
            False,
        ):
            raise ValueError("optimizer: set lr, momentum, weight_decay and nesterov in it, not beside it")
        self._optimizer, self._scheduler = optimizer, scheduler
        self._loss = loss
        self._transform, self._test_transform = transform or scaled, test_transform or transform or scaled
        self.gradient_hook = gradient_hook
        self._resets = Resets(reset_optimizer, self.n)
        self.test_size = parts.dataset.test_size
        if not self.test_size:
            raise ValueError("test: the data set has no test set; pass test=(x, y)")
        self.steps_done = np.zeros(self.n, np.int64)
        self._scheduled = np.zeros(self.n, np.int64)  # steps of each node's scheduler
        self._optimizers: dict[int, tuple[torch.optim.Optimizer, Any]] = {}
        self._seed = 0
        self._population: Population | None = None
        self._rows: torch.Tensor | None = None
        self._local: list[dict[str, torch.Tensor]] = []

    def __repr__(self) -> str:
        return f"TorchLearner({type(self._worker).__name__}, {self.n} nodes, {sum(self._sizes):,} parameters)"

    # ---- layout ----

    def _shapes_of_parameters(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        for name, p in self._parameters.items():
            if isinstance(p, nn.parameter.UninitializedParameter):
                raise TypeError(
                    f"model: expected parameters with a shape, {name!r} of a lazy module has none yet: run it once"
                )
            if p.dtype != torch.float32 or p.device.type != "cpu":
                raise TypeError(
                    f"model: expected float32 parameters on the CPU, got {p.dtype} on {p.device} in {name!r}"
                )
            self.shapes[name] = tuple(p.shape)
        if not self.shapes:
            raise ValueError("model: expected parameters, got none")
        self._travelling: list[str] = []  # buffers that are part of the row, behind the parameters
        whole = [name for name, b in self._worker.named_buffers() if not b.is_floating_point()]
        for name, b in self._worker.named_buffers():
            if self.average_buffers and name not in whole:
                if b.dtype != torch.float32:
                    raise TypeError(f"buffers: expected float32 to average, got {b.dtype} in {name!r}")
                self._travelling.append(name)
                self.shapes[name] = tuple(b.shape)
        if self.average_buffers and whole:
            warnings.warn(
                f"buffers: {', '.join(map(repr, whole))} hold integers and are not averaged; every node keeps its own",
                stacklevel=4,
            )
        self._sizes = [int(np.prod(s, dtype=np.int64)) for s in self.shapes.values()]

    def bind(self, population: Population, seed: int) -> None:
        """Takes the matrix to train and the seed."""
        if population.n != self.n:
            raise ValueError(f"data: expected one part a node ({population.n}), got {self.n}")
        if self._population is not None:
            raise RuntimeError("learner: it trains another population already: make one for each simulation")
        self._population, self._seed = population, seed
        self._rows = torch.from_numpy(population.X)
        self._local = [self._own_buffers(self._worker) for _ in range(self.n)]

    def _own_buffers(self, module: nn.Module) -> dict[str, torch.Tensor]:
        return {k: b.detach().clone() for k, b in module.named_buffers() if k not in self._travelling}

    def _views(self, row: torch.Tensor) -> dict[str, torch.Tensor]:
        return {k: v.view(s) for (k, s), v in zip(self.shapes.items(), row[: sum(self._sizes)].split(self._sizes))}

    def init(self, mode: str) -> None:
        """The model's own initialisation: the same in every row ("common"), or one of its own in each ("own")."""
        rows = self._bound_rows()
        if mode == "own" and isinstance(self._factory, nn.Module):
            raise ValueError("init: 'own' needs a function that makes a model, got a module")
        module = self._worker
        for i in range(self.n):
            if i == 0 or mode == "own":
                module = _made(self._factory, self._torch_seed(i, 0))
                self._same_layout(module, i)
            state = dict(module.named_parameters()) | dict(module.named_buffers())
            with torch.no_grad():
                for name, view in self._views(rows[i]).items():
                    view.copy_(state[name])
            self._local[i] = self._own_buffers(module)

    def _same_layout(self, module: nn.Module, i: int) -> None:
        got = {k: tuple(p.shape) for k, p in module.named_parameters()}
        want = {k: self.shapes[k] for k in self._parameters}
        if got != want:
            wrong = sorted(set(got.items()) ^ set(want.items()))
            raise ValueError(f"model: expected the same parameters for every node, node {i} differs in {wrong[0][0]!r}")

    def warm_start(self, state: Mapping[str, Any]) -> None:
        """Every node starts from this state_dict of the module. Raises ValueError for missing or unknown names."""
        tensors = {k: torch.as_tensor(v) for k, v in state.items()}
        own = self._worker.state_dict().keys()
        if tensors.keys() != own:
            missing, unknown = sorted(own - tensors.keys()), sorted(tensors.keys() - own)
            raise ValueError(f"init: missing {missing}, not known here {unknown}")
        module = copy.deepcopy(self._worker)
        for k, t in module.state_dict().items():
            if t.shape != tensors[k].shape:
                raise ValueError(f"init[{k!r}]: expected shape {tuple(t.shape)}, got {tuple(tensors[k].shape)}")
        self._detach(module)
        module.load_state_dict(tensors)
        state = dict(module.named_parameters()) | dict(module.named_buffers())
        with torch.no_grad():
            for i in range(self.n):
                for name, view in self._views(self._bound_rows()[i]).items():
                    view.copy_(state[name])
                self._local[i] = self._own_buffers(module)

    @staticmethod
    def _detach(module: nn.Module) -> None:
        for p in module.parameters():
            p.data = p.data.clone()
        for b in module.buffers():
            b.data = b.data.clone()

    def module(self, i: int) -> nn.Module:
        """A module whose parameters are node i's, in place: what is written to it is written to the population."""
        i = integer(i, "i", 0, self.n - 1)
        module = copy.deepcopy(self._worker)
        self._point(module, self._bound_rows()[i], self._local[i])
        return module.eval()

    def _point(
        self, module: nn.Module, row: torch.Tensor, local: Mapping[str, torch.Tensor], copied: bool = False
    ) -> None:
        """copied: buffers are copies, so that a forward that changes them changes no node."""
        views = self._views(row)
        for name, p in module.named_parameters():
            p.data = views[name]
        for name, b in module.named_buffers():
            kept = views[name] if name in views else local[name]
            b.data = kept.clone() if copied else kept

    # ---- training ----

    def train(self, rows: Rows, steps: int, ctx: Context) -> NDArray[np.float64]:
        """`steps` local steps on each row, in place; mean training loss of each (NaN without samples)."""
        losses = np.full(len(rows), np.nan)
        stale = set(self._resets.rows(rows, ctx.round).tolist())
        self._worker.train()
        with _generator_kept():
            for k, i in enumerate(rows.tolist()):
                if len(self.parts.indices[i]):
                    losses[k] = self._train_node(i, steps, ctx, i in stale)
        return losses

    def _train_node(self, i: int, steps: int, ctx: Context, reset: bool) -> float:
        own = self.parts.indices[i]
        row, local = self._bound_rows()[i], self._local[i]
        self._point(self._worker, row, local)
        optimizer, scheduler = self._of_node(i)
        if reset:
            optimizer.state.clear()
        if self._optimizer is None and callable(self.lr):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(self.lr, ctx.round)
        torch.default_generator.manual_seed(self._torch_seed(i, ctx.round + 1))
        picked, starts = _core.sample_batches(self._seed, i, int(self.steps_done[i]), steps, len(own), self.batch_size)
        total = torch.zeros((), dtype=torch.float64)
        for t in range(steps):
            x, y = self._batch(own[picked[starts[t] : starts[t + 1]]])

            def closure(x: Any = x, y: torch.Tensor = y) -> torch.Tensor:
                optimizer.zero_grad()
                loss = self._loss_of(self._worker, x, y)
                loss.backward()
                if self.gradient_hook is not None:
                    self._call_hook(i, ctx)
                return loss.detach()

            total += optimizer.step(closure)
        optimizer.zero_grad()
        if scheduler is not None:
            scheduler.step()
            self._scheduled[i] += 1
        self.steps_done[i] += steps
        self._still_views(i)
        return float(total) / steps

    def _of_node(self, i: int) -> tuple[torch.optim.Optimizer, Any]:
        if i not in self._optimizers:
            parameters = list(self._worker.parameters())
            if self._optimizer is None:
                optimizer: torch.optim.Optimizer = torch.optim.SGD(
                    parameters, lr=learning_rate(self.lr, 0), momentum=self.momentum, weight_decay=self.weight_decay,
                    nesterov=self.nesterov,
                )  # fmt: skip
            else:
                optimizer = self._optimizer(parameters)
                if not isinstance(optimizer, torch.optim.Optimizer):
                    raise TypeError(f"optimizer: expected a torch.optim.Optimizer, got {type(optimizer).__name__}")
            self._optimizers[i] = optimizer, None if self._scheduler is None else self._made_scheduler(optimizer)
        return self._optimizers[i]

    def _made_scheduler(self, optimizer: torch.optim.Optimizer) -> Any:
        assert self._scheduler is not None
        scheduler = self._scheduler(optimizer)
        if not callable(getattr(scheduler, "step", None)):
            raise TypeError(f"scheduler: expected a torch LRScheduler, got {type(scheduler).__name__}")
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            raise TypeError("scheduler: ReduceLROnPlateau needs a metric at every step, and there is none; use another")
        return scheduler

    def _batch(self, samples: NDArray[np.int64]) -> tuple[Any, torch.Tensor]:
        x, y = self.parts.dataset.fetch(samples)
        return self._transform(_tensors(x)), torch.as_tensor(y)

    def _loss_of(self, module: nn.Module, x: Any, y: torch.Tensor) -> torch.Tensor:
        output = module(**x) if isinstance(x, Mapping) else module(x)
        if self._loss is not None:
            return self._loss(output, y)
        return nn.functional.cross_entropy(_logits(output), y)

    def _call_hook(self, i: int, ctx: Context) -> None:
        assert self.gradient_hook is not None and self._population is not None
        parameters = list(self._parameters.values())
        flat = torch.zeros(self._population.size)  # buffers that travel with the row have no gradient
        pieces = flat.split(self._sizes)
        for p, piece in zip(parameters, pieces):
            if p.grad is not None:
                piece.copy_(p.grad.reshape(-1))
        self.gradient_hook(flat.numpy()[None], X=self._population.X, rows=np.array([i], np.int64), ctx=ctx)
        for p, piece in zip(parameters, pieces):
            if p.requires_grad:
                p.grad = piece.view_as(p)

    def _still_views(self, i: int) -> None:
        """Refuses to go on if somebody replaced what the module trains; takes over buffers that were replaced."""
        row, why = self._bound_rows()[i], "after training: .to(), a parametrization or an optimizer replaced it"
        now = dict(self._worker.named_parameters())
        if now.keys() != self._parameters.keys():
            changed = sorted(now.keys() ^ self._parameters.keys())
            raise RuntimeError(f"model: the parameters {changed} came or went {why}; change the model in its function")
        at = row.data_ptr()
        for (name, p), size in zip(now.items(), self._sizes):
            if size and (
                p.data_ptr() != at
                or p.dtype != torch.float32
                or not p.is_contiguous()
                or p is not self._parameters[name]
            ):
                raise RuntimeError(f"model: {name!r} of node {i} is no longer a view of its row {why}")
            at += 4 * size
        views, local = self._views(row), self._local[i]
        for name, b in self._worker.named_buffers():
            kept = views[name] if name in self._travelling else local[name]
            if b.data_ptr() != kept.data_ptr() or b.shape != kept.shape:
                if name in self._travelling:
                    kept.copy_(b)
                else:
                    local[name] = b.detach().clone()

    # ---- evaluation ----

    def evaluate(
        self, X: NDArray[np.float32], samples: NDArray[np.int64] | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """Accuracy (of classifiers) and mean loss of the models X (m, P), each (m,), on the test set or these of it.

        Models that are not the population's own rows (the average of all, say) get the mean of the local floating
        buffers, and node 0's integer ones.
        """
        assert self._population is not None
        order = np.arange(self.test_size) if samples is None else samples
        own = X.shape == self._population.X.shape and np.may_share_memory(X, self._population.X)
        rows = self._bound_rows() if own else torch.from_numpy(np.ascontiguousarray(X))
        local = self._local if own else [self._mean_buffers()] * len(X)
        right, counted = np.zeros(len(X)), True
        loss = np.zeros(len(X))
        self._worker.eval()
        with torch.inference_mode(), _generator_kept():
            torch.default_generator.manual_seed(self._torch_seed(0, 0))  # for transforms that are random
            for start in range(0, len(order), self.eval_batch_size):
                x, y = self.parts.dataset.fetch_test(order[start : start + self.eval_batch_size])
                x, y = self._test_transform(_tensors(x)), torch.as_tensor(y)
                for i in range(len(X)):
                    self._point(self._worker, rows[i], local[i], copied=True)
                    output = self._worker(**x) if isinstance(x, Mapping) else self._worker(x)
                    logits = _logits(output)
                    cost = nn.functional.cross_entropy(logits, y) if self._loss is None else self._loss(output, y)
                    loss[i] += float(cost) * len(y)
                    counted = counted and _classifies(logits, y)
                    if counted:
                        right[i] += int((logits.argmax(dim=1) == y).sum())
        total = max(len(order), 1)
        return ({"accuracy": right / total} if counted else {}) | {"loss": loss / total}

    def _mean_buffers(self) -> dict[str, torch.Tensor]:
        out = {}
        for name, first in self._local[0].items():
            own = [local[name] for local in self._local]
            out[name] = torch.stack(own).mean(0) if first.is_floating_point() else first.clone()
        return out

    # ---- state ----

    def state_dict(self) -> dict[str, Any]:
        """What training changed beside X: step counters, optimizers, schedulers, local buffers."""
        state: dict[str, Any] = {"steps_done": self.steps_done, "last_round": self._resets.last}
        for i, local in enumerate(self._local):
            state |= {f"buffer/{i}/{name}": b.numpy() for name, b in local.items()}
        for i, (optimizer, _) in self._optimizers.items():
            state[f"optimizer/{i}"] = _stored(optimizer.state_dict(), f"optimizer/{i}", state)
        state["scheduled"] = self._scheduled
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.steps_done[...] = state["steps_done"]
        self._resets.last[...] = state["last_round"]
        self._scheduled[...] = state["scheduled"]
        self._optimizers.clear()
        for name, value in state.items():
            kind, *where = name.split("/", 2)
            if kind == "buffer":
                self._local[int(where[0])][where[1]] = torch.from_numpy(np.array(value))
            elif kind == "optimizer" and len(where) == 1:
                i = int(where[0])
                self._point(self._worker, self._bound_rows()[i], self._local[i])
                optimizer, scheduler = self._of_node(i)
                # A scheduler is walked to where it was: what its own state_dict holds need not survive as JSON.
                with warnings.catch_warnings():
                    warnings.filterwarnings(
                        "ignore", message="Detected call of `lr_scheduler.step", category=UserWarning
                    )
                    for _ in range(self._scheduled[i]):
                        scheduler.step()
                optimizer.load_state_dict(_restored(value, state))

    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for a run to go on; torch's version and threads change the bits."""
        return {
            "model": repr(self._worker), "data": self.parts.digest(), "test": self.parts.dataset.digest(test=True),
            "batch_size": self.batch_size, "lr": describe(self.lr),
            "momentum": self.momentum, "weight_decay": self.weight_decay, "nesterov": self.nesterov,
            "optimizer": describe(self._optimizer), "scheduler": describe(self._scheduler),
            "reset_optimizer": self._resets.mode, "loss": describe(self._loss), "transform": describe(self._transform),
            "test_transform": describe(self._test_transform),
            "buffers": "average" if self.average_buffers else "local", "gradient_hook": describe(self.gradient_hook),
            "torch": torch.__version__, "torch threads": torch.get_num_threads(),
        }  # fmt: skip

    def _torch_seed(self, node: int, round: int) -> int:
        low, high = _core.random_u32(self._seed, _core.FOR_TORCH, node, round, 0, 2)
        return int(low) | int(high) << 32

    def _bound_rows(self) -> torch.Tensor:
        if self._rows is None:
            raise RuntimeError("bind(population, seed) must be called first; Simulation does it")
        return self._rows


def _stored(value: Any, name: str, arrays: dict[str, Any]) -> Any:
    """`value` as JSON, with its tensors put into `arrays` under names that begin with `name`."""
    if isinstance(value, torch.Tensor):
        arrays[name] = value.detach().contiguous().numpy().copy()
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"items": [[k, _stored(v, f"{name}/{k}", arrays)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_stored(v, f"{name}/{k}", arrays) for k, v in enumerate(value)]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"optimizer: its state holds a {type(value).__name__} in {name!r}, which no checkpoint can keep")


def _restored(value: Any, arrays: Mapping[str, Any]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, held),) = value.items()
    if kind == "tensor":
        return torch.from_numpy(np.array(arrays[held]))
    if kind == "items":
        return {k: _restored(v, arrays) for k, v in held}
    return (list if kind == "list" else tuple)(_restored(v, arrays) for v in held)


def scaled(x: Any) -> Any:
    """uint8 pixels as float32 in 0 ... 1; anything else as it is."""
    return x.to(torch.float32).div_(255) if isinstance(x, torch.Tensor) and x.dtype == torch.uint8 else x


@contextmanager
def _generator_kept() -> Iterator[None]:
    """Leaves torch's CPU generator as it was."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)


def _made(factory: Callable[[], nn.Module] | nn.Module, seed: int) -> nn.Module:
    if isinstance(factory, nn.Module):
        return copy.deepcopy(factory)
    with _generator_kept():
        torch.default_generator.manual_seed(seed)
        module = factory()
    if not isinstance(module, nn.Module):
        hint = "; call it" if callable(module) else ""
        raise TypeError(
            f"model: expected a function returning a torch.nn.Module, it returned {type(module).__name__}{hint}"
        )
    return module


def _tensors(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return torch.from_numpy(x)
    if isinstance(x, Mapping):
        return {k: _tensors(v) for k, v in x.items()}
    return x


def _logits(output: Any) -> torch.Tensor:
    out = getattr(output, "logits", output)
    if not isinstance(out, torch.Tensor):
        raise TypeError(f"model: expected a tensor or an output with .logits, got {type(out).__name__}; pass loss=")
    return out


def _classifies(logits: torch.Tensor, y: torch.Tensor) -> bool:
    return logits.ndim == 2 and y.ndim == 1 and not y.is_floating_point()
