"""Convolutions of many rows' models under torch.func.vmap, by the kernels of collegium.cuda instead of cuDNN.

vmap's own rule makes one grouped convolution with a group a row, which cuDNN runs group by group; the rule here is one
launch for all rows, as are those of its gradients. For float32 on a device, stride 1, no dilation, no groups, and only
where torch may use TF32 for convolutions, as it does unless it is told otherwise (`torch.backends.cudnn.allow_tf32`).
Work goes on torch's current stream, as that of torch's operators around it does.
"""

from __future__ import annotations

from typing import Any

import torch

from ..cuda.door import LEGACY
from ..cuda.rowconv import RowConv
from .torch_groupnorm import rows_of

Pair = tuple[int, int]
_Info = Any  # of torch's vmap rules: .batch_size


def takes(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, pad: Pair) -> bool:
    """Whether `Convolution` can do it."""
    tensors = (x, weight) if bias is None else (x, weight, bias)
    if x.ndim != 4 or weight.ndim != 4 or (bias is not None and bias.shape != weight.shape[:1]):
        return False
    if any(t.dtype != torch.float32 or t.device != x.device for t in tensors) or not tf32():
        return False
    return x.shape[1] == weight.shape[1] and _problem(x[None], weight[None], pad).fits(_number(x))


def tf32() -> bool:
    """Whether torch may use TF32 for convolutions."""
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:  # set by the newer name, which forbids to read the older one
        return bool(torch.backends.cudnn.conv.fp32_precision == "tf32")


def _stream(t: torch.Tensor) -> int:
    return torch.cuda.current_stream(t.device).cuda_stream or LEGACY if t.is_cuda else LEGACY


def _number(t: torch.Tensor) -> int:
    return t.device.index or 0


def _problem(x: torch.Tensor, weight: torch.Tensor, pad: Pair) -> RowConv:
    outputs, channels, kh, kw = weight.shape[1:]
    return RowConv(x.shape[0], x.shape[1], channels, outputs, x.shape[3], x.shape[4], kh, kw, *pad, x[0].numel())


# ---- rows of tensors: the launches ----


def _dense(t: torch.Tensor, at: int | None, rows: int) -> torch.Tensor:
    return rows_of(t, at, rows).contiguous()


def _pitched(c: RowConv, x: torch.Tensor) -> RowConv:
    return c._replace(pitch=x.stride(0))


def _forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, pad: Pair) -> torch.Tensor:
    c = _pitched(_problem(x, weight, pad), x)
    y = x.new_empty(c.shape)
    _launch(c, x, weight, bias, y, False)
    return y


def _launch(
    c: RowConv, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, y: torch.Tensor, flipped: bool
) -> None:
    device = _number(x)
    work = x.new_empty(c.work(device)[0])
    at, ldb = (None, 0) if bias is None else (bias.data_ptr(), bias.stride(0))
    c.forward(
        device, _stream(x), x.data_ptr(), weight.data_ptr(), weight.stride(0), at, ldb, work.data_ptr(),
        y.data_ptr(), flipped=flipped,
    )  # fmt: skip


def _input_gradient(gy: torch.Tensor, weight: torch.Tensor, shape: torch.Size, pad: Pair) -> torch.Tensor:
    gx = gy.new_empty(gy.shape[0], *shape)
    _launch(_problem(gx, weight, pad).back, gy, weight, None, gx, True)
    return gx


def _weight_gradient(gy: torch.Tensor, x: torch.Tensor, kernel: Pair, pad: Pair) -> torch.Tensor:
    gw = gy.new_empty(x.shape[0], gy.shape[2], x.shape[2], *kernel)
    c, device = _pitched(_problem(x, gw, pad), x), _number(x)
    work = x.new_empty(c.work(device)[1])
    c.weight_gradient(device, _stream(x), gy.data_ptr(), x.data_ptr(), work.data_ptr(), gw.data_ptr())
    return gw


# ---- what autograd and vmap see ----


class Convolution(torch.autograd.Function):  # type: ignore[misc]
    """torch.conv2d(x, weight, bias, padding=pad) of float32, in TF32."""

    @staticmethod
    def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, pad: Pair) -> torch.Tensor:
        rows = None if bias is None else rows_of(bias, None, 1)
        return _forward(rows_of(x, None, 1), rows_of(weight, None, 1), rows, pad)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        x, weight, _, pad = inputs
        ctx.save_for_backward(x, weight)
        ctx.pad, ctx.shape, ctx.kernel = pad, x.shape, weight.shape[2:]

    @staticmethod
    def backward(ctx: Any, gy: torch.Tensor) -> Any:
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            InputGradient.apply(gy, weight, ctx.shape, ctx.pad) if wanted[0] else None,
            WeightGradient.apply(gy, x, ctx.kernel, ctx.pad) if wanted[1] else None,
            gy.sum((2, 3)).sum(0) if wanted[2] else None,
            None,
        )

    @staticmethod
    def vmap(info: _Info, in_dims: Any, x: Any, weight: Any, bias: Any, pad: Pair) -> tuple[torch.Tensor, int]:
        rows = info.batch_size
        of_bias = None if bias is None else rows_of(bias, in_dims[2], rows)
        return _forward(rows_of(x, in_dims[0], rows), rows_of(weight, in_dims[1], rows), of_bias, pad), 0


class InputGradient(torch.autograd.Function):  # type: ignore[misc]
    """Of `Convolution`; not differentiable again."""

    @staticmethod
    def forward(gy: torch.Tensor, weight: torch.Tensor, shape: torch.Size, pad: Pair) -> torch.Tensor:
        return _input_gradient(_dense(gy, None, 1), rows_of(weight, None, 1), shape, pad)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        pass

    @staticmethod
    def vmap(info: _Info, in_dims: Any, gy: Any, weight: Any, shape: Any, pad: Pair) -> tuple[torch.Tensor, int]:
        rows = info.batch_size
        return _input_gradient(_dense(gy, in_dims[0], rows), rows_of(weight, in_dims[1], rows), shape, pad), 0


class WeightGradient(torch.autograd.Function):  # type: ignore[misc]
    """Of `Convolution`; not differentiable again."""

    @staticmethod
    def forward(gy: torch.Tensor, x: torch.Tensor, kernel: Pair, pad: Pair) -> torch.Tensor:
        return _weight_gradient(_dense(gy, None, 1), rows_of(x, None, 1), kernel, pad)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        pass

    @staticmethod
    def vmap(info: _Info, in_dims: Any, gy: Any, x: Any, kernel: Any, pad: Pair) -> tuple[torch.Tensor, int]:
        rows = info.batch_size
        return _weight_gradient(_dense(gy, in_dims[0], rows), rows_of(x, in_dims[1], rows), kernel, pad), 0
