"""Argument checks with one wording: the argument's name, what was wanted, what came."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np


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
