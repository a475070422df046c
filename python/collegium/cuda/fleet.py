"""What is asked of a fleet of models on a device: mean and spread, a weighted average, the first NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .aggregate import overlap
from .array import empty, from_numpy, like, to_host_sync
from .door import current_stream, need, one_device, ordered, view
from .door import stream as use

_COLUMNS = 32  # of a block of consensus_index.h
_PIECE = 4096  # columns of a block of nonfinite_index.h
_NOWHERE = 2**64 - 1


def consensus(X: Any, rows: Any = None) -> tuple[Any, Any]:
    """The mean of the rows, float64 (P,), and float64 (1,): sum_i ||x_i - mean||^2, both on X's device.

    X: float32 (n, P), rows contiguous. rows: the rows that count, a row that stands twice counts twice; None: all.
    The mean has the bits of `_core.consensus`; the sum differs by at most (k + P) eps64 relative.
    Raises TypeError, ValueError naming the argument, RuntimeError where CUDA is off. Nothing waits for the device.
    """
    stream = current_stream(X)
    x = view(X, "X", np.float32, 2, stream=stream)
    picked = _rows(rows, x.shape[0])
    if x.shape[0] == 0 or (picked is not None and len(picked) == 0):
        raise ValueError("rows: expected at least one, got none")
    module, device = need(), one_device(X=x)
    mean, total = (like(X, (size,), np.float64, device, stream) for size in (x.shape[1], 1))
    with use(stream):
        part = empty((-(-x.shape[1] // _COLUMNS),), np.float64, device=device)
        chosen = None if picked is None else from_numpy(picked, device=device)
    m, t = (view(a, "out", np.float64, 1, stream=stream, write=True) for a in (mean, total))
    k = x.shape[0] if picked is None else len(picked)
    with ordered(module, device, stream, x):
        module.consensus(
            device, stream, x.shape[1], x.address, x.strides[0], k, None if chosen is None else chosen.address,
            m.address, part.address, t.address,
        )  # fmt: skip
    return mean, total


def consensus_sync(X: Any, rows: Any = None) -> tuple[NDArray[np.float64], float]:
    """`consensus` with its results on the host, as `_core.consensus` returns them. Waits for the device."""
    mean, total = consensus(X, rows)
    return to_host_sync(mean), float(to_host_sync(total)[0])


def average(X: Any, weights: Any, rows: Any = None, out: Any = None) -> Any:
    """The weighted average sum_i weights[i] x_i of rows, float32 (P,), on X's device: returns out, of X's kind.

    X: float32 (n, P), rows contiguous. weights: (k,) numbers on the host, cast to float32; an average needs sum 1 (not
    checked). rows: k row numbers, None: all. The bits are those of a mixing row with these entries, in this order.
    Raises TypeError, ValueError naming the argument, RuntimeError where CUDA is off. Nothing waits for the device.
    """
    stream = current_stream(X) if out is None else current_stream(X, out)
    x = view(X, "X", np.float32, 2, stream=stream)
    picked = _rows(rows, x.shape[0])
    k = x.shape[0] if picked is None else len(picked)
    w = np.ascontiguousarray(weights, np.float32)
    if w.shape != (k,):
        raise ValueError(f"weights: expected shape ({k},), got {w.shape}")
    module, device = need(), one_device(X=x)
    result = like(X, (x.shape[1],), np.float32, device, stream) if out is None else out
    y = view(result, "out", np.float32, 1, stream=stream, write=True)
    if y.shape != (x.shape[1],):
        raise ValueError(f"out: expected shape ({x.shape[1]},), got {y.shape}")
    if overlap(x, y):
        raise ValueError("out: overlaps X")
    one_device(X=x, out=y)
    with use(stream):
        chosen = None if picked is None else from_numpy(picked, device=device)
        given = from_numpy(w, device=device)
    with ordered(module, device, stream, x, y):
        module.average(
            device, stream, x.shape[1], x.address, x.strides[0], k, None if chosen is None else chosen.address,
            given.address, y.address,
        )  # fmt: skip
    return result


def find_nonfinite_sync(X: Any, rows: Any = None) -> tuple[int, int] | None:
    """The first NaN or infinity as (row, column), in the order of `rows` and then of columns; None: all is finite.

    As `_core.find_nonfinite`. X, rows: as for `consensus`; no row is no finding. Waits for the device.
    """
    stream = current_stream(X)
    x = view(X, "X", np.float32, 2, stream=stream)
    picked = _rows(rows, x.shape[0])
    n, size = x.shape[0] if picked is None else len(picked), x.shape[1]
    if n == 0 or size == 0:
        return None
    module, device = need(), one_device(X=x)
    with use(stream):
        part = empty((n * -(-size // _PIECE) + 1,), np.uint64, device=device)
        chosen = None if picked is None else from_numpy(picked, device=device)
    out = part.part(len(part) - 1, (1,), (1,))
    with ordered(module, device, stream, x):
        module.find_nonfinite(
            device, stream, size, x.address, x.strides[0], n, None if chosen is None else chosen.address,
            part.address, out.address,
        )  # fmt: skip
    at = int(out.numpy_sync()[0])
    if at == _NOWHERE:
        return None
    i, column = divmod(at, size)
    return (i if picked is None else int(picked[i])), column


def _rows(rows: Any, n: int) -> NDArray[np.int64] | None:
    if rows is None:
        return None
    picked = np.asarray(rows)
    if picked.size and picked.dtype.kind not in "iu":
        raise TypeError(f"rows: expected integers, got dtype {picked.dtype}")
    if picked.ndim != 1:
        raise ValueError(f"rows: expected 1 dimension, got {picked.ndim}")
    bad = np.flatnonzero((picked < 0) | (picked >= n))
    if len(bad):
        raise ValueError(f"rows[{bad[0]}]: expected 0 to {n - 1}, got {picked[bad[0]]}")
    return np.ascontiguousarray(picked, np.int64)
