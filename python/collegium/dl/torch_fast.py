"""Layers of many rows' models by functions whose vmap rules are one launch for all rows.

Within `fast()` torch's convolutions on a device become torch_rowconv.py's, its group normalisations anywhere
torch_groupnorm.py's. Everything else goes torch's way.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import Any, SupportsIndex

import torch
from torch.overrides import TorchFunctionMode

from ..cuda.door import status
from . import torch_groupnorm as norms
from . import torch_rowconv as convolutions


class fast(TorchFunctionMode):  # type: ignore[misc]
    """Within it, layers that can go by rows do."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        taken = _TAKEN.get(func)
        made = taken(*args, **(kwargs or {})) if taken else None
        return func(*args, **(kwargs or {})) if made is None else made


def usable(t: torch.Tensor) -> bool:
    """Whether a tensor is where our kernels are."""
    return t.is_cuda and status()[0] is not None


def _convolution(
    input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> torch.Tensor | None:  # fmt: skip
    if not usable(input) or torch.is_autocast_enabled(input.device.type):
        return None
    if isinstance(padding, str) or groups != 1 or _pair(stride) != (1, 1) or _pair(dilation) != (1, 1):
        return None
    arguments = input, weight, bias, _pair(padding)
    return convolutions.Convolution.apply(*arguments) if convolutions.takes(*arguments) else None


def _norm(
    input: torch.Tensor, num_groups: int, weight: torch.Tensor | None = None, bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> torch.Tensor | None:  # fmt: skip
    if torch.is_autocast_enabled(input.device.type) or not norms.takes(input, num_groups, weight, bias):
        return None
    return norms.GroupNorm.apply(input, weight, bias, num_groups, eps)[0]


def _pair(value: Any) -> tuple[int, int]:
    values = (value,) if isinstance(value, SupportsIndex) else tuple(value)
    return index(values[0]), index(values[-1])


_TAKEN: dict[Any, Callable[..., Any]] = {torch.conv2d: _convolution, torch.nn.functional.group_norm: _norm}
