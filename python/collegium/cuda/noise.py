"""Addressed randomness on a device: the bits of `_core.random_u32`, `random_f32` and the CPU's normals."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._check import integer
from .array import Array, empty
from .door import need

_U32, _F32, _NORMAL = range(3)
_WORDS = 2**50


def random_u32(seed: int, purpose: int, node: int, round: int, first: int, n: int, *, device: int | str = 0) -> Array:
    """Words first ... first + n - 1 of an address: uint32 (n,). Bits are those of the CPU.

    Raises TypeError, ValueError naming the argument, RuntimeError where CUDA is off, MemoryError.
    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    return _draw(_U32, np.uint32, seed, purpose, node, round, first, n, device)


def random_f32(seed: int, purpose: int, node: int, round: int, first: int, n: int, *, device: int | str = 0) -> Array:
    """Words of an address as float32 in [0, 1), (n,). Bits are those of the CPU. Raises as `random_u32`."""
    return _draw(_F32, np.float32, seed, purpose, node, round, first, n, device)


def normal_f32(seed: int, purpose: int, node: int, round: int, first: int, n: int, *, device: int | str = 0) -> Array:
    """Standard normals of an address: float32 (n,). Bits are those of the CPU. Raises as `random_u32`.

    Source: Box and Muller, 1958, on the same words; csrc/noise/normal_core.h.
    """
    return _draw(_NORMAL, np.float32, seed, purpose, node, round, first, n, device)


def _draw(
    kind: int, dtype: Any, seed: int, purpose: int, node: int, round: int, first: int, n: int, device: int | str
) -> Array:
    seed = integer(seed, "seed", 0, 2**64 - 1)
    purpose = integer(purpose, "purpose", 0, 0xFFFF)
    node, round = integer(node, "node", 0, 2**32 - 1), integer(round, "round", 0, 2**32 - 1)
    first = integer(first, "first", 0, _WORDS)
    n = integer(n, "n", 0, _WORDS - first)
    module = need()
    out = empty((n,), dtype, device=device)
    module.random(out.number, out.stream, kind, seed, purpose, node, round, first, n, out.address)
    return out
