"""The router's forward pass for batches of queries on a device: csrc/router/forward.h, from the same arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._check import integer
from .array import Array, empty, from_numpy, like
from .door import View, current_stream, need, ordered, ordinal, view
from .door import stream as use

_ROWS = 1 << 18  # (query, source) rows at once: 256 MB of the first layer at 256 units


class RouterForward:
    """The folded router's weights on a device: probabilities of all sources for batches of queries.

    The arguments are those of the CPU's packed router: dims int64 (M,) widths of the encoders' queries; encoder int64
    (N,) of each source; wq (h1, d), d the widest; shift (N, h1); cross (h1,) and centroids (N, d), or None both; tail,
    all plain parameters after fc1: ln1 gain and bias (h1 each), fc2 weight (h2, h1) and bias (h2), ln2 gain and bias,
    fc3 weight (h2) and bias (1). All float32 on the host, copied.
    Raises TypeError, ValueError naming the argument, RuntimeError where CUDA is off, MemoryError.
    Source: RAGRoute, arXiv 2502.19280; the fold of csrc/router/forward.h.
    """

    def __init__(
        self,
        dims: Any,
        encoder: Any,
        wq: NDArray[np.float32],
        shift: NDArray[np.float32],
        cross: NDArray[np.float32] | None,
        centroids: NDArray[np.float32] | None,
        tail: NDArray[np.float32],
        hidden2: int,
        *,
        device: int | str = 0,
    ) -> None:
        self.dims = np.asarray(dims, np.int64)
        of = np.asarray(encoder, np.int64)
        given = {"wq": wq, "shift": shift, "cross": cross, "centroids": centroids, "tail": tail}
        for name, array in given.items():
            if array is not None and (not isinstance(array, np.ndarray) or array.dtype != np.float32):
                what = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
                raise TypeError(f"{name}: expected a NumPy array of float32, got {what}")
        if wq.ndim != 2:
            raise ValueError(f"wq: expected 2 dimension(s), got {wq.ndim}")
        h1, d, sources, h2 = wq.shape[0], wq.shape[1], len(of), integer(hidden2, "hidden2", 1)
        if len(self.dims) < 1 or self.dims.min() < 0 or self.dims.max() > d:
            raise ValueError(f"dims: expected 0 to {d} (the columns of wq), got {self.dims.tolist()}")
        if sources < 1 or of.min() < 0 or of.max() >= len(self.dims):
            raise ValueError(f"encoder: expected 0 to {len(self.dims) - 1}, got {of.tolist()}")
        if (cross is None) != (centroids is None):
            raise ValueError("cross, centroids: expected both or neither")
        wanted = {"shift": (shift, (sources, h1)), "tail": (tail, (2 * h1 + (h1 + 4) * h2 + 1,))}
        if cross is not None and centroids is not None:
            wanted |= {"cross": (cross, (h1,)), "centroids": (centroids, (sources, d))}
        for name, (array, shape) in wanted.items():
            if array.shape != shape:
                raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
        self.sources, self.h1, self.h2, self.device = sources, h1, h2, ordinal(device)
        self._module = need()
        up = self._up
        self._wq, self._cross = up(wq), None if cross is None else up(cross)
        names = ("gain1", "bias1", "w2", "b2", "gain2", "bias2", "w3", "b3")
        cuts = np.cumsum([h1, h1, h1 * h2, h2, h2, h2, h2])
        self._tail = {name: up(part) for name, part in zip(names, np.split(np.asarray(tail), cuts), strict=True)}
        self._members = [np.flatnonzero(of == e) for e in range(len(self.dims))]
        self._shift = [up(shift[m]) for m in self._members]
        self._column = [from_numpy(m.astype(np.int32), device=self.device) for m in self._members]
        self._centroids = [None if centroids is None else up(centroids[m]) for m in self._members]

    def __call__(self, queries: Sequence[Any], *, names: Sequence[str] | None = None) -> Any:
        """Probabilities float32 (B, N), on the device, of the first array's kind.

        queries: one float32 (B, dims[e]) an encoder, or (dims[e],) for one query, rows contiguous, all on the weights'
        device. names: of the queries, for errors. Values within 1e-5 of the CPU's (sums in other orders); a query with
        NaN or infinity gives NaN. Raises TypeError, ValueError naming the argument. Nothing waits.
        """
        if not isinstance(queries, Sequence):
            raise TypeError(f"queries: expected a sequence of arrays, one an encoder, got {type(queries).__name__}")
        if len(queries) != len(self.dims):
            raise ValueError(f"queries: expected {len(self.dims)} array(s), one an encoder, got {len(queries)}")
        names = [f"queries[{e}]" for e in range(len(queries))] if names is None else names
        stream = current_stream(*queries)
        views = [_rows(q, name, stream) for q, name in zip(queries, names, strict=True)]
        batch = views[0].shape[0]
        for name, v, dim in zip(names, views, self.dims.tolist(), strict=True):
            if v.shape != (batch, dim):
                raise ValueError(f"{name}: expected shape {(batch, dim)}, got {v.shape}")
            if v.device not in (None, self.device):
                raise ValueError(f"{name}: expected an array on cuda:{self.device}, got one on cuda:{v.device}")
        out = like(queries[0], (batch, self.sources), np.float32, self.device, stream)
        p = view(out, "out", np.float32, 2, stream=stream, write=True)
        weights = self._wq._as_view()  # the others were put on the same stream
        with use(stream), ordered(self._module, self.device, stream, weights, *views):
            for e, v in enumerate(views):
                group = len(self._members[e])
                step = max(1, _ROWS // max(group, 1))
                for first in range(0, batch if group else 0, step):
                    self._encoder(e, v, first, min(step, batch - first), p, stream)
        return out

    def _encoder(self, e: int, q: View, first: int, count: int, p: View, stream: int) -> None:
        """Columns of the sources of encoder e, for `count` queries from `first` on."""
        at, group, dim = q.address + 4 * first * q.strides[0], len(self._members[e]), int(self.dims[e])
        rows, tail = count * group, self._tail
        z1 = self._product(count, self.h1, dim, at, q.strides[0], self._wq, stream)
        dots = None
        if self._centroids[e] is not None:
            dots = self._product(count, group, dim, at, q.strides[0], self._centroids[e], stream)
        h1 = empty((rows, self.h1), device=self.device)
        self._layer(rows, self.h1, group, z1, self._shift[e], dots, tail["gain1"], tail["bias1"], h1, stream)
        z2 = self._product(rows, self.h2, self.h1, h1.address, self.h1, tail["w2"], stream, ldb=self.h1)
        self._layer(rows, self.h2, 1, z2, tail["b2"], None, tail["gain2"], tail["bias2"], z2, stream)
        self._module.router_head(
            self.device, stream, rows, self.h2, group, z2.address, tail["w3"].address, tail["b3"].address,
            self.sources, self._column[e].address, p.address + 4 * first * p.strides[0],
        )  # fmt: skip

    def _product(
        self, m: int, n: int, k: int, a: int, lda: int, b: Array | None, stream: int, ldb: int | None = None
    ) -> Array:
        assert b is not None
        out = empty((m, n), device=self.device)
        ld = b.strides[0] if ldb is None else ldb
        self._module.gemm(self.device, stream, m, n, k, a, lda, b.address, ld, out.address, n)
        return out

    def _layer(
        self,
        rows: int,
        width: int,
        group: int,
        z: Array,
        shift: Array,
        dots: Array | None,
        gain: Array,
        bias: Array,
        out: Array,
        stream: int,
    ) -> None:
        crossed = dots is not None and self._cross is not None
        self._module.router_layer(
            self.device, stream, rows, width, group, z.address, width, shift.address,
            dots.address if dots is not None else None, self._cross.address if crossed and self._cross else None,
            gain.address, bias.address, out.address,
        )  # fmt: skip

    def _up(self, values: NDArray[np.float32]) -> Array:
        return from_numpy(np.ascontiguousarray(values, np.float32), device=self.device)


def _rows(q: Any, name: str, stream: int) -> View:
    """Queries of an encoder; one query is a batch of one."""
    if getattr(q, "ndim", 2) != 1:
        return view(q, name, np.float32, 2, stream=stream)
    v = view(q, name, np.float32, 1, stream=stream)
    return v._replace(shape=(1, *v.shape), strides=(v.shape[0], 1))
