"""A torch module as a function of a row of the population, and of many rows at once (torch.func)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad_and_value, vmap

from .torch_fast import fast
from .torch_learner import _classifies, _logits

Tensors = dict[str, torch.Tensor]
Loss = Callable[[Any, torch.Tensor], torch.Tensor]


class RowModule:
    """What a module computes from k rows, each with samples of its own, in one call.

    By vmap's own rules: convolutions of k rows become one grouped convolution, linear layers one batched product. Some
    layers go by better ones (torch_fast.py).
    module: is left as it is.  shapes: of its parameters, in the order of a row.  loss: (output, y) -> scalar; None:
      cross-entropy on the output, or on its `.logits`.
    still: parameters without a gradient, frozen or unused.
    """

    def __init__(self, module: nn.Module, shapes: Mapping[str, tuple[int, ...]], loss: Loss | None) -> None:
        self.module, self.shapes, self.loss = module, dict(shapes), loss
        self.sizes = [torch.Size(s).numel() for s in self.shapes.values()]
        self.still = {name for name, p in module.named_parameters() if not p.requires_grad}
        self._gradients = vmap(grad_and_value(self._weighted_loss), randomness="different")
        self._plain_gradients = vmap(grad_and_value(self._mean_loss), randomness="different")
        self._scores = vmap(self._score, in_dims=(0, 0, None, None), randomness="different")
        self.classifies = True  # of the last `scores`
        self.fast = True  # layers go by torch_fast.py's rules
        self.one_by_one = False  # evaluate so: there are operators that torch.func batches in training only

    def _layers(self) -> Any:
        return fast() if self.fast else nullcontext()

    def gradients(
        self, rows: torch.Tensor, buffers: Tensors, x: Any, y: torch.Tensor, weight: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients (k, P) and losses (k,) of rows (k, P) on x (k, b, ...), y (k, b, ...); buffers (k, ...) each.

        weight: (k, b), what each sample's cross-entropy counts; None: the loss itself.
        """
        with self._layers():
            if weight is None:
                return self._plain_gradients(rows, buffers, x, y)  # type: ignore[no-any-return]
            return self._gradients(rows, buffers, x, y, weight)  # type: ignore[no-any-return]

    def scores(
        self, rows: torch.Tensor, buffers: Tensors, x: Any, y: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean losses (m,) of rows (m, P) on the same samples x (b, ...), y (b, ...), and right answers (m,): zeros
        where this is no classification."""
        if self.one_by_one:
            models = [(row, {name: b[k] for name, b in buffers.items()}) for k, row in enumerate(rows)]
            losses, right = zip(*(self._score(*model, x, y) for model in models))
            return torch.stack(losses), torch.stack(right)
        with self._layers():
            return self._scores(rows, buffers, x, y)  # type: ignore[no-any-return]

    def output(self, row: torch.Tensor, buffers: Tensors, x: Any) -> Any:
        """Of the module with the parameters of one row (P,)."""
        state = dict(buffers)
        for (name, shape), part in zip(self.shapes.items(), row.split(self.sizes)):
            state[name] = part.detach().view(shape) if name in self.still else part.view(shape)
        if isinstance(x, Mapping):
            return functional_call(self.module, state, (), dict(x))
        return functional_call(self.module, state, (x,))

    def _mean_loss(self, row: torch.Tensor, buffers: Tensors, x: Any, y: torch.Tensor) -> torch.Tensor:
        return self.loss_of(self.output(row, buffers, x), y)

    def _weighted_loss(
        self, row: torch.Tensor, buffers: Tensors, x: Any, y: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        logits = _logits(self.output(row, buffers, x))
        return nn.functional.cross_entropy(logits, y, reduction="none") @ weight

    def _score(self, row: torch.Tensor, buffers: Tensors, x: Any, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        output = self.output(row, buffers, x)
        logits = _logits(output)
        self.classifies = _classifies(logits, y)
        right = (logits.argmax(dim=1) == y).sum() if self.classifies else torch.zeros((), device=row.device)
        return self.loss_of(output, y), right

    def loss_of(self, output: Any, y: torch.Tensor) -> torch.Tensor:
        """The loss of one row's output."""
        return nn.functional.cross_entropy(_logits(output), y) if self.loss is None else self.loss(output, y)


def each(x: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """`function` of a batch, or of every tensor of a batch that is a mapping."""
    return {k: function(v) for k, v in x.items()} if isinstance(x, Mapping) else function(x)


def examine(rows: RowModule, x: Any, y: torch.Tensor, device: torch.device) -> bool:
    """One training step of two rows, to refuse at once what cannot be trained in batches; x, y: a batch of two or more.

    Marks unused parameters as `still`, and models to be evaluated one by one. Returns whether batches may be padded:
    samples do not see each other, and the loss is the mean cross-entropy of labels.
    Raises ValueError naming the module and what torch said.
    """
    module = copy.deepcopy(rows.module).train()
    for name, m in module.named_modules():
        if getattr(m, "track_running_stats", False):
            raise ValueError(
                _no_place(f"running statistics of {name!r} ({type(m).__name__})", "GroupNorm or LayerNorm")
            )
    before = {name: b.clone() for name, b in module.named_buffers()}
    output = _run(module, x)
    for name, b in module.named_buffers():
        if not torch.equal(b, before[name]):
            raise ValueError(_no_place(f"buffer {name!r}", "a model without it"))
    rows.loss_of(output, y).backward()
    rows.still |= {name for name, p in module.named_parameters() if p.grad is None}
    flat = torch.cat([p.detach().reshape(-1) for p in module.parameters()])

    def twice(t: torch.Tensor) -> torch.Tensor:
        return torch.stack([t, t]).to(device)

    two, buffers = twice(flat), each(before, twice)
    rows.module.train()
    try:
        rows.gradients(two, buffers, each(x, twice), twice(y), None)
    except Exception:  # a gradient of a gradient, a vmap within: torch's own rules may know
        rows.fast = False
        with _explained(rows.module):
            rows.gradients(two, buffers, each(x, twice), twice(y), None)
    rows.module.eval()
    try:
        with torch.no_grad():
            rows.scores(two, buffers, each(x, lambda t: t.to(device)), y.to(device))
    except RuntimeError:  # nn.LSTM
        rows.one_by_one = True
    return rows.loss is None and _classifies(_logits(output), y) and _independent(module, x)


def _run(module: nn.Module, x: Any) -> Any:
    return module(**x) if isinstance(x, Mapping) else module(x)


def _independent(module: nn.Module, x: Any) -> bool:
    """Whether the output of a batch's first samples stays when the last one changes."""
    outputs = []
    with torch.no_grad():
        for batch in (x, each(x, lambda t: torch.cat([t[:-1], t[:1]]))):
            torch.default_generator.manual_seed(0)  # the same dropout
            outputs.append(_logits(_run(module, batch))[:-1])
    return bool(torch.allclose(*outputs, rtol=1e-5, atol=1e-6))


def _no_place(what: str, instead: str) -> str:
    return (
        f"model: training changes the {what}, which batched training has no place for: use {instead}, or "
        "dl.TorchLearner, which trains one node at a time"
    )


@contextmanager
def _explained(module: nn.Module) -> Iterator[None]:
    """Turns what torch.func refuses into a sentence with the name of the innermost module that was running."""
    names = {m: f"{name!r} ({type(m).__name__})" if name else type(m).__name__ for name, m in module.named_modules()}
    running: list[str] = []

    def enter(m: nn.Module, *_: Any) -> None:
        running.append(names[m])

    def leave(*_: Any) -> None:
        running.pop()

    hooks = [h for m in names for h in (m.register_forward_pre_hook(enter), m.register_forward_hook(leave))]
    try:
        yield
    except Exception as e:
        where = running[-1] if running else "the loss or the backward pass"
        said = str(e).strip().split("\n")[0]
        raise ValueError(
            f"model: torch.func cannot train it in batches, in {where}: {said}; use dl.TorchLearner, which trains one "
            "node at a time"
        ) from e
    finally:
        for hook in hooks:
            hook.remove()
