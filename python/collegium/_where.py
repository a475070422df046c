"""Where an array's data is, asked without importing anything."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

DLPACK_CUDA = (2, 13)  # kDLCUDA, kDLCUDAManaged


def library_of(x: Any) -> str:
    """ "torch" or "cupy" for their arrays and arrays made of these, else ""."""
    return _library_of(type(x))  # type: ignore[arg-type]  # types are hashable


@functools.lru_cache(256)
def _library_of(kind: type) -> str:
    names = (c.__module__.partition(".")[0] for c in kind.__mro__)
    return next((n for n in names if n in ("torch", "cupy")), "")


def on_host(x: Any, name: str) -> Any:
    """`x`, or what it holds copied to the host as a NumPy array if that is on a CUDA device. name: for errors."""
    if isinstance(x, np.ndarray) or not on_device(x):
        return x
    from .cuda import to_host_sync

    return to_host_sync(x, name)


def on_device(x: Any) -> bool:
    """Whether `x` says that its data is in a CUDA device's memory: a CUDA tensor of torch, an array of CuPy or
    `collegium.cuda`, anything with `__cuda_array_interface__` or a DLPack device that says so. NumPy arrays do not."""
    if hasattr(type(x), "__dlpack_device__"):
        return int(x.__dlpack_device__()[0]) in DLPACK_CUDA
    return hasattr(x, "__cuda_array_interface__")
