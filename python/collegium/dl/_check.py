"""Arguments that name themselves in their errors."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt

INT32_MAX = 2**31 - 1


def integer(value: object, name: str, least: int, most: int | None = None) -> int:
    """`value` as an int in [least, most]; TypeError for anything that is not an integer (bool and float included)."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {value!r}") from None
    if number < least or (most is not None and number > most):
        wanted = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(f"{name}: expected {wanted}, got {number}")
    return number


def int32(values: npt.ArrayLike, name: str) -> npt.NDArray[np.int32]:
    """`values` as a contiguous one-dimensional int32 array: any integer type whose values fit, nothing else."""
    array: npt.NDArray[Any] = np.asarray(values)
    if array.size == 0 and not isinstance(values, np.ndarray):
        array = array.astype(np.int32)  # an empty list has no type of its own
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers, got dtype {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name}: expected 1 dimension, got {array.ndim}")
    if array.size and (int(array.min()) < -INT32_MAX or int(array.max()) > INT32_MAX):
        raise ValueError(f"{name}: expected values below 2**31, got {int(array.min())} to {int(array.max())}")
    return np.ascontiguousarray(array, dtype=np.int32)


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array itself if nobody can write to it, else a read-only copy."""
    if not array.flags.writeable and array.flags.c_contiguous:
        return array
    copy = np.array(array, order="C")
    copy.flags.writeable = False
    return copy
