"""What users pass as vectors and ids, as the arrays the core takes: in place where it can be, else by one copy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._where import on_host


def _numbers(value: Any, name: str) -> NDArray[Any]:
    """`value` as a NumPy array of numbers; a torch CPU tensor shares its memory, an array on a CUDA device is copied to
    the host, where the keys are."""
    value = on_host(value, name)
    if hasattr(value, "detach"):
        value = value.detach()  # torch refuses tensors that require a gradient
    try:
        array: NDArray[Any] = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as e:  # ragged lists; tensors of another device or of bfloat16
        raise ValueError(f"{name}: expected an array of numbers, got {type(value).__name__} ({e})") from e
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name}: expected numbers, got dtype {array.dtype}")
    return array


def vector(value: Any, dim: int, name: str) -> NDArray[np.float32]:
    """float32 (dim,), C-contiguous. Raises ValueError."""
    array = _numbers(value, name)
    if array.shape != (dim,):
        raise ValueError(f"{name}: expected shape ({dim},), got {array.shape}")
    return _float32(array)


def matrix(value: Any, dim: int, name: str) -> NDArray[np.float32]:
    """float32 (n, dim), C-contiguous, n may be 0. Raises ValueError."""
    array = _numbers(value, name)
    if array.size == 0 and array.shape != (0, dim) and array.ndim <= 2 and array.shape[0] == 0:
        array = array.reshape(0, dim)  # an empty list has no width of its own
    if array.ndim != 2 or array.shape[1] != dim:
        raise ValueError(f"{name}: expected shape (n, {dim}), got {array.shape}")
    return _float32(array)


def _float32(array: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes an infinity, which the core reports
        return np.require(array, np.float32, ["C", "A"])


def document_ids(value: Any, name: str) -> NDArray[np.int64]:
    """int64 (n,), C-contiguous, of any integers that fit. Raises ValueError."""
    array: NDArray[Any] = np.asarray(value.detach() if hasattr(value, "detach") else value)
    if array.size == 0 and not isinstance(value, np.ndarray):
        array = array.astype(np.int64)  # an empty list has no type of its own
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected integers, got dtype {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name}: expected shape (n,), got {array.shape}")
    if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"{name}: expected values below 2**63, got {int(array.max())}")
    return np.require(array, np.int64, ["C", "A"])
