"""cuBLAS and NCCL: found and opened when somebody asks, never on import."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .array import like
from .door import current_stream, need, one_device, ordered, view

# The names the dynamic linker knows, newest first, and the package that brings the library.
_NAMES = {"cublas": ("libcublas.so.13", "libcublas.so.12"), "nccl": ("libnccl.so.2",)}
_TITLES = {"cublas": "cuBLAS", "nccl": "NCCL"}


@functools.cache
def library(name: str) -> str:
    """Opens "cublas" or "nccl" and returns its version, "13.1.0": by name, then in the `nvidia` packages of pip.

    Raises ValueError for another name, RuntimeError with all that was tried where it is not there.
    """
    if name not in _NAMES:
        raise ValueError(f"name: expected one of 'cublas', 'nccl', got {name!r}")
    from .. import _cuda  # opening a library needs no device

    tried = []
    for file in _files(name):
        try:
            v = _cuda.cublas_open(file) if name == "cublas" else _cuda.nccl_open(file)
        except ValueError as e:
            tried.append(str(e))
        else:
            return f"{v // 10000}.{v // 100 % 100}.{v % 100}"
    raise RuntimeError(f"{_TITLES[name]} not found: {'; '.join(tried)}; pip install 'collegium[cuda]'")


def sgemm(a: Any, b: Any) -> Any:
    """a b^T by cuBLAS in plain float32 (no TF32), on the device: the floor our own kernels are measured against.

    a: float32 (m, k), b: float32 (n, k), rows contiguous. Returns (m, n), of a's kind. Nothing waits for the device.
    Raises TypeError, ValueError naming the argument, RuntimeError where CUDA or cuBLAS is not there, CudaError.
    """
    stream = current_stream(a, b)
    x, y = view(a, "a", np.float32, 2, stream=stream), view(b, "b", np.float32, 2, stream=stream)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"b: expected shape (n, {x.shape[1]}), got {y.shape}")
    module, device = need(), one_device(a=x, b=y)
    library("cublas")
    out = like(a, (x.shape[0], y.shape[0]), np.float32, device, stream)
    c = view(out, "out", np.float32, 2, stream=stream, write=True)
    with ordered(module, device, stream, x, y):
        module.cublas_gemm(
            device, stream, *c.shape, x.shape[1], x.address, x.strides[0], y.address, y.strides[0], c.address,
            c.strides[0],
        )  # fmt: skip
    return out


def _files(name: str) -> Iterator[str]:
    yield from _NAMES[name]
    for place in sys.path:
        for file in _NAMES[name]:
            yield from map(str, sorted(Path(place, "nvidia").glob(f"*/lib/{file}")) if place else [])
