"""Group normalisation of many rows' models under torch.func.vmap, by torch's own fused kernels.

vmap's own rule makes a dozen passes over activations of it. But a batch (k, b, c, ...) of k rows with weights (k, c)
lies in memory as one sample does that has k b c channels with a weight each, in k b times as many groups: one call.
"""

from __future__ import annotations

from typing import Any

import torch

_MOST = 65535  # groups of one call: a GPU's grid
Tensors = tuple[torch.Tensor, ...]


def takes(x: torch.Tensor, groups: int, weight: torch.Tensor | None, bias: torch.Tensor | None) -> bool:
    """Whether `GroupNorm` can do it: (b, c, ...) with weight and bias, of one dtype."""
    if weight is None or bias is None or x.ndim < 3 or x.numel() == 0 or groups < 1 or x.shape[1] % groups:
        return False
    return bool(x.dtype == weight.dtype == bias.dtype and x.shape[0] * groups <= _MOST)


def rows_of(t: torch.Tensor, at: int | None, rows: int) -> torch.Tensor:
    """(rows, ...) with rows that are contiguous in themselves; one for all is not copied."""
    t = t.contiguous().expand(rows, *t.shape) if at is None else t.movedim(at, 0)
    return t if t[0].is_contiguous() else t.contiguous()


def _blocks(x: torch.Tensor, groups: int, *others: torch.Tensor) -> list[Tensors]:
    """x (k, b, c, ...) as (1, k b c, ...), and the others, for as many rows at a time as one call takes."""
    cuts = [t.contiguous().split(max(1, _MOST // (x.shape[1] * groups))) for t in (x, *others)]
    return [(part[0].flatten(0, 2)[None], *part[1:]) for part in zip(*cuts)]


def _each(w: torch.Tensor, b: int) -> torch.Tensor:
    """(k, c) for every sample: (k b c,)."""
    return w[:, None].expand(-1, b, -1).flatten()


def _forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int, eps: float) -> Tensors:
    """y, and mean and 1 / deviation (k, b, groups)."""
    b, area, made = x.shape[1], x[0, 0, 0].numel(), []
    for one, w, shift in _blocks(x, groups, weight, bias):
        many = len(w) * b * groups
        made.append(torch.native_group_norm(one, _each(w, b), _each(shift, b), 1, one.shape[1], area, many, eps))
    y, mean, scale = (torch.cat([t.flatten() for t in ts]) if len(ts) > 1 else ts[0] for ts in zip(*made))
    return y.view(x.shape), mean.view(-1, b, groups), scale.view(-1, b, groups)


def _backward(
    gy: torch.Tensor, x: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor, weight: torch.Tensor, groups: int
) -> Tensors:
    """Gradients of x, weight and bias."""
    (b, c), area, made = x.shape[1:3], x[0, 0, 0].numel(), []
    for one, g, m, s, w in _blocks(x, groups, gy, mean, scale, weight):
        made.append(torch.ops.aten.native_group_norm_backward(
            g.view(one.shape), one, m.view(1, -1), s.view(1, -1), _each(w, b), 1, one.shape[1], area, m.numel(),
            [True, True, True],
        ))  # fmt: skip
    gx, gw, gb = (torch.cat([t.flatten() for t in ts]) if len(ts) > 1 else ts[0] for ts in zip(*made))
    return gx.view(x.shape), gw.view(-1, b, c).sum(1), gb.view(-1, b, c).sum(1)


class GroupNorm(torch.autograd.Function):  # type: ignore[misc]
    """(y, mean, 1 / deviation) of x (b, c, ...), weight and bias (c,), groups and eps."""

    @staticmethod
    def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int, eps: float) -> Tensors:
        x, weight, bias = (rows_of(t, None, 1) for t in (x, weight, bias))
        return tuple(t[0] for t in _forward(x, weight, bias, groups, eps))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        x, weight, _, ctx.groups, _ = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(x, *output[1:], weight)

    @staticmethod
    def backward(ctx: Any, gy: torch.Tensor, *_: Any) -> Any:
        return *GroupNormGradient.apply(gy, *ctx.saved_tensors, ctx.groups), None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Any, weight: Any, bias: Any, groups: int, eps: float) -> Any:
        x, weight, bias = (rows_of(t, at, info.batch_size) for t, at in zip((x, weight, bias), in_dims))
        return _forward(x, weight, bias, groups, eps), (0, 0, 0)


class GroupNormGradient(torch.autograd.Function):  # type: ignore[misc]
    """Of `GroupNorm`; not differentiable again."""

    @staticmethod
    def forward(gy: Any, x: Any, mean: Any, scale: Any, weight: Any, groups: int) -> Tensors:
        gy, x, mean, scale, weight = (rows_of(t, None, 1) for t in (gy, x, mean, scale, weight))
        return tuple(t[0] for t in _backward(gy, x, mean, scale, weight, groups))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        gy, x, mean, scale, weight = (rows_of(t, at, info.batch_size) for t, at in zip(arguments[:-1], in_dims))
        return _backward(gy, x, mean, scale, weight, arguments[-1]), (0, 0, 0)
