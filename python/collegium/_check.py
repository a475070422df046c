"""Argument checks with one wording: the argument's name, what was wanted, what came."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

INT32_MAX = 2**31 - 1


def integer(value: Any, name: str, least: int | None = None, most: int | None = None) -> int:
    """`value` as an int in [least, most]; bools and floats are refused."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    try:
        out = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {value!r}") from None
    if (least is not None and out < least) or (most is not None and out > most):
        wanted = f"at least {least}" if most is None else f"at most {most}" if least is None else f"{least} to {most}"
        raise ValueError(f"{name}: expected {wanted}, got {out}")
    return out


def real(
    value: Any, name: str, least: float | None = None, most: float | None = None, *, positive: bool = False
) -> float:
    """`value` as a finite float in [least, most], or above 0 with positive=True."""
    if isinstance(value, (bool, np.bool_, str)):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    try:
        out = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number, got {value!r}") from None
    if not np.isfinite(out):
        raise ValueError(f"{name}: expected a finite number, got {out}")
    if positive and out <= 0:
        raise ValueError(f"{name}: expected a number above 0, got {out}")
    if least is not None and out < least:
        raise ValueError(f"{name}: expected at least {least}, got {out}")
    if most is not None and out > most:
        raise ValueError(f"{name}: expected at most {most}, got {out}")
    return out


def choice(value: Any, name: str, options: Sequence[str]) -> str:
    """`value` if it is one of `options`."""
    if value not in options:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, options))}, got {value!r}")
    return str(value)


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


def owned(array: npt.NDArray[Any]) -> bool:
    """Whether it is read-only, and no view of what others may write to."""
    return not array.flags.writeable and (
        array.base is None or (isinstance(array.base, np.ndarray) and owned(array.base))
    )


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array itself if nobody can write to it, else a read-only copy."""
    if owned(array) and array.flags.c_contiguous:
        return array
    copy = np.array(array, order="C")
    copy.flags.writeable = False
    return copy
