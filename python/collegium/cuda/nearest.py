"""The nearest of many keys for batches of queries on a device: the cache's scan, where both are already there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._check import real
from .array import empty, like
from .door import View, current_stream, need, one_device, ordered, view
from .door import stream as use

_GROUP = 32  # keys that share a bound, of nearest_index.h


class KeyTable:
    """Keys on a device with their norms, ready for `nearest`.

    keys: float32 (c, d), rows contiguous, on a CUDA device; kept, not copied: keys that change need a new table. For
    cosine distance pass unit keys and queries: d^2 = 2 - 2 cos.
    Raises TypeError, ValueError naming the argument, RuntimeError where CUDA is off. Nothing waits for the device.
    """

    def __init__(self, keys: Any) -> None:
        stream = current_stream(keys)
        self.keys = view(keys, "keys", np.float32, 2, stream=stream)
        self.device = one_device(keys=self.keys)
        self._module = need()
        with use(stream):
            self._norms = empty((len(self),), device=self.device)
        with ordered(self._module, self.device, stream, self.keys):
            self._square(self.keys, stream, self._norms.address)

    def __len__(self) -> int:
        return self.keys.shape[0]

    def nearest(self, queries: Any, tolerance: float | None = None) -> tuple[Any, Any]:
        """(index int64 (B,), distance float32 (B,)) of the nearest key of each query, on the device, of its kind.

        queries: float32 (B, d), rows contiguous, on the keys' device. tolerance: the largest distance that counts,
        None: any. Index -1 and distance infinity where no key is that near; a distance that is not finite never counts.
        Exact: the answer is that of a scan in float32 with the bits of the CPU's FMA kernels, of equal distances the
        lower index. 2 B c d flops as a product, then one or two groups of 32 keys a query measured directly.
        One query is faster on the CPU (`rag.ProximityCache`): this is for batches, or for keys on the device anyway.
        Raises TypeError, ValueError naming the argument, MemoryError. Nothing waits for the device.
        """
        stream = current_stream(queries)
        q = view(queries, "queries", np.float32, 2, stream=stream)
        batch, dim = q.shape
        if dim != self.keys.shape[1]:
            raise ValueError(f"queries: expected shape (B, {self.keys.shape[1]}), got {q.shape}")
        one_device(keys=self.keys, queries=q)
        bound = math.inf if tolerance is None else squared(real(tolerance, "tolerance", 0))
        groups = -(-len(self) // _GROUP)
        with use(stream):
            work = empty((batch, 1 + 2 * groups), device=self.device)  # norms, then lower and upper bounds
        lo = work.address + 4 * batch
        index, distance = (like(queries, (batch,), t, self.device, stream) for t in (np.int64, np.float32))
        i = view(index, "index", np.int64, 1, stream=stream, write=True)
        d = view(distance, "distance", np.float32, 1, stream=stream, write=True)
        with ordered(self._module, self.device, stream, q, self.keys, self._norms._as_view()):
            self._square(q, stream, work.address)
            self._module.nearest(
                self.device, stream, batch, len(self), dim, q.address, q.strides[0], self.keys.address,
                self.keys.strides[0], work.address, self._norms.address, lo,
                lo + 4 * batch * groups, bound, i.address, d.address,
            )  # fmt: skip
        return index, distance

    def _square(self, x: View, stream: int, out: int) -> None:
        """The rows' squared norms."""
        self._module.norms(self.device, stream, *x.shape, x.address, x.strides[0], out)


def nearest(queries: Any, keys: Any, tolerance: float | None = None) -> tuple[Any, Any]:
    """`KeyTable(keys).nearest(queries, tolerance)`, for keys that are used once."""
    return KeyTable(keys).nearest(queries, tolerance)


def squared(tolerance: float) -> float:
    """The largest float32 b whose square root, in float32, is at most `tolerance`: comparing squares decides as
    comparing distances does (csrc/cache, cg_cache_bound)."""
    infinity = np.float32(np.inf)
    with np.errstate(over="ignore"):
        b = np.float32(tolerance * tolerance)
    while float(np.sqrt(b)) > tolerance:
        b = np.nextafter(b, -infinity)
    while np.isfinite(b) and float(np.sqrt(np.nextafter(b, infinity))) <= tolerance:
        b = np.nextafter(b, infinity)
    return float(b)
