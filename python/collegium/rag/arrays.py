"""Queries, vectors and ids as NumPy arrays, whatever array they came as; errors in one wording."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._where import on_host
from .seam import Floats, Ids


def asarray(value: Any, name: str) -> NDArray[Any]:
    """`value` as a NumPy array: NumPy, torch CPU tensors, anything with ``__array__`` or DLPack, lists.

    No copy where the memory can be shared; what lies on a CUDA device is copied to the host, where the keys are. Raises
    TypeError for what is no array of numbers.
    """
    value = on_host(value, name)
    if isinstance(value, np.ndarray):
        return value
    if not hasattr(value, "__array__") and hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    try:
        out = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as e:  # a tensor that wants gradients, a ragged list
        raise TypeError(f"{name}: expected an array of numbers, got {type(value).__name__}: {e}") from None
    if out.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected an array of numbers, got {type(value).__name__}")
    return out


def _floats(value: Any, name: str) -> Floats:
    array = asarray(value, name)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected floats, got dtype {array.dtype}")
    return np.ascontiguousarray(array, np.float32)  # one copy, unless it is C-contiguous float32 already


def vector(value: Any, name: str, dim: int) -> Floats:
    """float32 (dim,), C-contiguous. Raises ValueError for another shape."""
    out = _floats(value, name)
    if out.shape != (dim,):
        raise ValueError(f"{name}: expected shape ({dim},), got {out.shape}")
    return out


def matrix(value: Any, name: str, dim: int | None = None) -> Floats:
    """float32 (rows, dim), C-contiguous; no rows are fine. Raises ValueError for another shape."""
    out = _floats(value, name)
    if out.ndim != 2 or (dim is not None and out.shape[1] != dim):
        raise ValueError(f"{name}: expected shape (rows, {'dim' if dim is None else dim}), got {out.shape}")
    return out


def split_result(result: Any) -> tuple[Any, Any]:
    """(distances or None, ids) of what a search returned: ids, a pair (D, I), or an object with keys and distances."""
    if isinstance(result, tuple):
        if len(result) != 2:
            raise ValueError(f"retrieve: expected ids or (distances, ids), got a tuple of {len(result)}")
        return result
    if hasattr(result, "keys") and hasattr(result, "distances"):  # usearch
        return result.distances, result.keys
    return None, result


def found_ids(ids: Any, most: int) -> Ids:
    """int64 (<= most,): the ids that a search returned for one query, without FAISS's -1 for "no more".

    Raises TypeError where they are no integers, ValueError for another shape or more than were asked for.
    """
    array = asarray(ids, "retrieve")
    if array.size == 0 and array.ndim <= 2:
        return np.empty(0, np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"retrieve: expected integer ids, got dtype {array.dtype}")
    if array.ndim == 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 1 or array.shape[0] > most:
        raise ValueError(f"retrieve: expected at most {most} ids of one query, got shape {array.shape}")
    out: Ids = np.ascontiguousarray(array, np.int64)
    return out[out != -1] if (out == -1).any() else out
