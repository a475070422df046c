"""The batched torch learner: many nodes' modules trained in one call."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .. import cuda
from .._check import choice, integer
from ..cuda.door import LEGACY
from ..data.datasets import Parts
from ..engine import Context, Rows
from .learners import Rate, learning_rate
from .population import Population
from .torch_feed import Batch, Plan, Source
from .torch_graphs import Graphs
from .torch_learner import TorchLearner
from .torch_rowconv import tf32
from .torch_rows import Loss, RowModule, Tensors, each, examine

_ON_CPU = 4  # nodes at once, by default


class BatchedTorchLearner(TorchLearner):
    """Local SGD on torch modules, all nodes (or `chunk` of them) at once: `torch.func.vmap` over the population's rows.

    Same models, samples and batches as `dl.TorchLearner`; results differ from its by rounding. Meant for a GPU, where a
    step of all nodes is a handful of launches; on the CPU it is usually slower than one node after another.

    model, parts, batch_size, lr, momentum, weight_decay, nesterov, reset_optimizer, loss: as `dl.TorchLearner`'s. There
      is no optimizer but SGD, no scheduler, no gradient_hook, and buffers must not change in training.
    transform, test_transform: functions of a batch x, here of the samples of all nodes of a chunk at once.
    device: where training happens, "cpu", "cuda", "cuda:N", or "auto", a GPU where torch finds one. `Simulation` puts
      the population there too, and it is trained in place, without a copy where the rows that train are neighbours.
      Other rows, or those of a population elsewhere, are copied there and back.
    chunk: nodes trained at once; None: all on a GPU, four on the CPU, where activations that leave the caches cost more
      than calls. They take the memory of chunk * batch_size samples; out of memory, torch says so: take fewer.
    cuda_graph: "auto", "on" or "off": replay a step as one CUDA graph from its third time on. "auto" goes without where
      it cannot be recorded, and on the CPU; "on" raises there.

    One step of two nodes is tried when the learner is made. Refused then, with the module's name: what torch.func
    cannot do, such as control flow that depends on data; and buffers that training changes, BatchNorm's running
    statistics first of all (take GroupNorm). Batches of unequal size are padded, with weight 0; where samples of a
    batch see each other or the loss is not the cross-entropy of labels, nodes go in groups of one batch size instead.
    An operator that torch.func knows no batched form of runs row by row; torch warns once with its name.

    Dropout gives every node its own masks, from torch's generator seeded by (seed; the chunk's first node, round): not
    TorchLearner's masks, but the same in every run with the same chunk and device, and after a resume.
    Raises TypeError or ValueError naming the argument.
    """

    def __init__(
        self,
        model: Callable[[], nn.Module] | nn.Module,
        parts: Parts,
        *,
        batch_size: int = 32,
        lr: Rate = 0.1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        reset_optimizer: str = "never",
        loss: Loss | None = None,
        transform: Callable[[Any], Any] | None = None,
        test_transform: Callable[[Any], Any] | None = None,
        device: str | torch.device = "cpu",
        chunk: int | None = None,
        cuda_graph: str = "auto",
    ) -> None:
        super().__init__(
            model, parts, batch_size=batch_size, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov,
            reset_optimizer=reset_optimizer, loss=loss, transform=transform, test_transform=test_transform,
        )  # fmt: skip
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: needs momentum above 0")
        self.device = _device(device)
        default = _ON_CPU if self.device.type == "cpu" else self.n
        self.chunk = min(default if chunk is None else integer(chunk, "chunk", 1), self.n)
        graphs = choice(cuda_graph, "cuda_graph", ("auto", "on", "off"))
        if graphs == "on" and self.device.type != "cuda":
            raise ValueError(f"cuda_graph: 'on' needs device='cuda', got {str(self.device)!r}")
        self._of_rows = RowModule(self._worker, self.shapes, loss)
        self._x_names: list[str] | None = None  # of samples that are mappings
        self._padded = self._examined()
        if graphs == "on" and not self._padded:
            raise ValueError("cuda_graph: 'on' needs batches of one size: samples see each other, or loss= is given")
        self._train_source = Source(parts.dataset, False, self.device)
        self._test_source = Source(parts.dataset, True, self.device)
        on_graphs = self.device.type == "cuda" and graphs != "off" and self._padded
        self._graphs = Graphs(self._step, graphs == "on") if on_graphs else None
        self._decay = self._decays()
        self._velocity: torch.Tensor | None = None
        self._copies: dict[str, torch.Tensor] = {}

    def __repr__(self) -> str:
        return f"Batched{super().__repr__()[:-1]}, {self.chunk} at once on {self.device})"

    def _examined(self) -> bool:
        samples = np.resize(np.concatenate(self.parts.indices)[:3], 3).astype(np.int64)
        with _at_work(self.device):
            x, y = self._batch(samples)
            self._x_names = list(x) if isinstance(x, Mapping) else None
            labels = y.ndim == 1 and int(self.parts.dataset.y.min()) >= 0  # cross-entropy leaves out negative ones
            return examine(self._of_rows, x, y, self.device) and labels

    def _decays(self) -> torch.Tensor | None:
        """(P,) weight decay of each parameter: none where torch.optim.SGD has no gradient."""
        if not self.weight_decay:
            return None
        each_one = [torch.full((size,), 0.0 if name in self._of_rows.still else self.weight_decay)
                    for name, size in zip(self.shapes, self._sizes)]  # fmt: skip
        return torch.cat(each_one).to(self.device)

    def bind(self, population: Population, seed: int) -> None:
        """Takes the matrix to train and the seed. The matrix may be on another device."""
        if population.n != self.n:
            raise ValueError(f"data: expected one part a node ({population.n}), got {self.n}")
        if self._population is not None:
            raise RuntimeError("learner: it trains another population already: make one for each simulation")
        self._population, self._seed = population, seed
        self._rows = _tensor(population.X)
        self._local = [self._own_buffers(self._worker) for _ in range(self.n)]
        self._velocity = torch.zeros(self.n, population.size, device=self.device) if self.momentum else None
        if self.device.type == "cuda":  # what was made on this stream is used on others
            torch.cuda.current_stream(self.device).synchronize()

    def module(self, i: int) -> nn.Module:
        """A module whose parameters are node i's, in place, where the population lies. Buffers are copies on a GPU."""
        i = integer(i, "i", 0, self.n - 1)
        row = self._bound_rows()[i]
        self._wait_for_exchange()
        module = copy.deepcopy(self._worker).to(row.device)
        self._point(module, row, each(self._local[i], lambda b: b.to(row.device)))
        return module.eval()

    # ---- training ----

    def train(self, rows: Rows, steps: int, ctx: Context) -> NDArray[np.float64]:
        """`steps` local steps on each row, in place; mean training loss of each (NaN without samples)."""
        losses = np.full(len(rows), np.nan)
        stale = self._resets.rows(rows, ctx.round)
        if self._velocity is not None and stale.size:
            self._velocity[torch.from_numpy(stale).to(self.device)] = 0
        rate = torch.tensor(learning_rate(self.lr, ctx.round), dtype=torch.float32, device=self.device)
        busy = np.flatnonzero(self.parts.sizes[rows] > 0)
        self._worker.train()
        with _at_work(self.device):
            self._wait_for_exchange()
            for start in range(0, len(busy), self.chunk):
                some = busy[start : start + self.chunk]
                losses[some] = self._train_rows(rows[some], steps, rate, ctx.round)
        return losses

    def _wait_for_exchange(self) -> None:
        """What is put on torch's stream from now on waits for the stream that models on a device are mixed on. (The
        other way round the host waits: for the losses.)"""
        matrix = None if self._population is None else self._population.X
        if isinstance(matrix, cuda.Array):
            stream = torch.cuda.current_stream(self._bound_rows().device).cuda_stream or LEGACY
            cuda.need().stream_wait(matrix.number, stream, matrix.stream)

    def _train_rows(self, rows: Rows, steps: int, rate: torch.Tensor, round: int) -> NDArray[np.float64]:
        _seed(self.device, self._torch_seed(int(rows[0]), round + 1))
        parts = [self.parts.indices[i] for i in rows.tolist()]
        plan = Plan(self._seed, rows, parts, self.steps_done[rows], steps, self.batch_size)
        batches = plan.batches(self._train_source, self._transform, self.device, self._padded, self._graphs is not None)
        buffers = self._stacked(self._local[i] for i in rows.tolist())
        total = torch.zeros(len(rows), dtype=torch.float64, device=self.device)
        with self._held(self._rows, rows, "rows") as p, self._held(self._velocity, rows, "velocity") as v:
            assert p is not None
            for step in batches:
                for batch in step:
                    at = slice(None) if batch.rows is None else batch.rows
                    total[at] += self._apply(batch, p, v, buffers, rate)
        self.steps_done[rows] += steps
        return total.cpu().numpy() / steps  # type: ignore[no-any-return]

    def _apply(
        self, batch: Batch, p: torch.Tensor, v: torch.Tensor | None, buffers: Tensors, rate: torch.Tensor
    ) -> torch.Tensor:
        """One step of the batch's rows among p; their losses."""
        if batch.rows is not None:
            some, velocity = p[batch.rows], None if v is None else v[batch.rows]
            losses = self._apply(
                batch._replace(rows=None), some, velocity, each(buffers, lambda b: b[batch.rows]), rate
            )
            p[batch.rows] = some
            if v is not None:
                v[batch.rows] = velocity
            return losses
        x = [batch.x] if self._x_names is None else [batch.x[name] for name in self._x_names]
        inputs = rate, batch.y, batch.weight, *buffers.values(), *x
        if self._graphs is None:
            return self._step(p, v, *inputs)
        return self._graphs((p, v), inputs)

    def _step(
        self, p: torch.Tensor, v: torch.Tensor | None, rate: torch.Tensor, y: torch.Tensor,
        weight: torch.Tensor | None, *rest: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """torch.optim.SGD's step on p (k, P) with velocities v (k, P), in place; losses (k,)."""
        names = list(self._local[0])
        buffers, samples = dict(zip(names, rest)), rest[len(names) :]
        x = samples[0] if self._x_names is None else dict(zip(self._x_names, samples))
        g, losses = self._of_rows.gradients(p, buffers, x, y, weight)
        if self._decay is not None:
            g = torch.addcmul(g, p, self._decay)
        if v is not None:
            v.mul_(self.momentum).add_(g)
            g = g.add(v, alpha=self.momentum) if self.nesterov else v
        p.sub_(g * rate)
        return losses

    @contextmanager
    def _held(self, matrix: torch.Tensor | None, rows: Rows, name: str) -> Iterator[torch.Tensor | None]:
        """Rows of a matrix on the device: a view of neighbours that are there already, else a copy that is put back."""
        if matrix is None:
            yield None
        elif matrix.device == self.device and len(rows) == rows[-1] - rows[0] + 1 and (np.diff(rows) == 1).all():
            yield matrix[int(rows[0]) : int(rows[-1]) + 1]
        else:
            if name not in self._copies:  # the same memory every round: graphs know it by its address
                self._copies[name] = torch.empty(self.chunk, matrix.shape[1], device=self.device)
            copies = self._copies[name][: len(rows)]
            at = torch.from_numpy(rows).to(matrix.device)
            copies.copy_(matrix.index_select(0, at))
            yield copies
            matrix[at] = copies.to(matrix.device)

    def _stacked(self, buffers: Any) -> Tensors:
        if not self._local[0]:
            return {}
        rows = list(buffers)
        return {name: torch.stack([r[name] for r in rows]).to(self.device) for name in self._local[0]}

    # ---- evaluation ----

    def evaluate(
        self, X: NDArray[np.float32], samples: NDArray[np.int64] | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """Accuracy (of classifiers) and mean loss of the models X (m, P), each (m,), on the test set or these of it.

        Models that are not the population's own rows (the average of all, say) get the mean of the local floating
        buffers, and node 0's integer ones.
        """
        order = np.arange(self.test_size) if samples is None else samples
        matrix, own = _tensor(X), self._bound_rows()
        is_own = matrix.shape == own.shape and matrix.data_ptr() == own.data_ptr()
        local = self._local if is_own else [self._mean_buffers()] * len(X)
        right, loss, counted = np.zeros(len(X)), np.zeros(len(X)), True
        self._worker.eval()
        with torch.no_grad(), _at_work(self.device):
            for start in range(0, len(X), self.chunk):
                some = slice(start, min(start + self.chunk, len(X)))
                right[some], loss[some] = self._scores(matrix[some].to(self.device), self._stacked(local[some]), order)
                counted = counted and self._of_rows.classifies
        total = max(len(order), 1)
        return ({"accuracy": right / total} if counted else {}) | {"loss": loss / total}

    def _scores(
        self, p: torch.Tensor, buffers: Tensors, order: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Right answers and summed losses of the models p."""
        _seed(self.device, self._torch_seed(0, 0))  # for transforms that are random
        right = torch.zeros(len(p), dtype=torch.float64, device=self.device)
        loss = torch.zeros_like(right)
        width = max(1, self.chunk * self.batch_size // len(p))  # as many samples of models at once as in training
        for start in range(0, len(order), width):
            x, y = self._test_source(order[start : start + width], self._test_transform)
            losses, hits = self._of_rows.scores(p, buffers, x, y)
            loss += losses.double() * len(y)
            right += hits
        return right.cpu().numpy(), loss.cpu().numpy()

    # ---- state ----

    def state_dict(self) -> dict[str, Any]:
        """What training changed beside X: step counters, momentum."""
        state: dict[str, Any] = {"steps_done": self.steps_done, "last_round": self._resets.last}
        for i, local in enumerate(self._local):
            state |= {f"buffer/{i}/{name}": b.numpy() for name, b in local.items()}
        return state if self._velocity is None else {**state, "velocity": self._velocity.cpu().numpy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.steps_done[...] = state["steps_done"]
        self._resets.last[...] = state["last_round"]
        for name, value in state.items():
            if name.startswith("buffer/"):
                _, i, buffer = name.split("/", 2)
                self._local[int(i)][buffer] = torch.from_numpy(np.array(value))
        if self._velocity is not None:
            self._velocity.copy_(torch.from_numpy(np.array(state["velocity"])))

    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for a run to go on; torch's version, device, the chunk and how convolutions are done
        change the bits."""
        on_gpu = self.device.type == "cuda"
        own = {"own convolutions": cuda.status()[0] is not None, "tf32": tf32()} if on_gpu else {}
        return {**super().fingerprint(), "device": self.device.type, "chunk": self.chunk, **own}


def _device(name: str | torch.device) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as e:
        raise ValueError(f"device: expected 'cpu' or 'cuda', got {name!r}") from e
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected 'cpu' or 'cuda', got {name!r}")
    if device.type == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        built = "torch was built without CUDA" if torch.version.cuda is None else "torch finds no GPU"
        raise ValueError(f"device: {name!r} cannot be used here: {built}")
    return torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)


def _tensor(X: Any) -> torch.Tensor:
    """The same memory as a tensor: of an array, a tensor, or anything that speaks DLPack."""
    if isinstance(X, torch.Tensor):
        return X
    return torch.from_numpy(X) if isinstance(X, np.ndarray) else torch.from_dlpack(X)


def _seed(device: torch.device, seed: int) -> None:
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(seed)


@contextmanager
def _at_work(device: torch.device) -> Iterator[None]:
    """The device is torch's current one. Leaves torch's generators, of the CPU and of this device, as they were."""
    on_gpu = device.type == "cuda"
    current, kept = torch.cuda.device(device) if on_gpu else nullcontext(), [device.index] if on_gpu else []
    with current, torch.random.fork_rng(kept):
        yield
