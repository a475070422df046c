"""Layers of many rows' models by functions whose vmap rules are one launch for all rows.

Within `fast()` torch's convolutions on a device become torch_rowconv.py's, its group normalisations anywhere
torch_groupnorm.py's. Everything else goes torch's way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    if isinstance(padding, str) or groups != 1 or _pair(stride) != (1, 1) or _pair(dilation) != (1, 1):
        return None
    arguments = input, weight, bias, _pair(padding)
    if not (usable(input) and convolutions.takes(*arguments)):
        return None
    return convolutions.Convolution.apply(*arguments)


def _norm(
    input: torch.Tensor, num_groups: int, weight: torch.Tensor | None = None, bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> torch.Tensor | None:  # fmt: skip
    if not norms.takes(input, num_groups, weight, bias):
        return None
    return norms.GroupNorm.apply(input, weight, bias, num_groups, eps)[0]


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


_TAKEN: dict[Any, Callable[..., Any]] = {torch.conv2d: _convolution, torch.nn.functional.group_norm: _norm}
