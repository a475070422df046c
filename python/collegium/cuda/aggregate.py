"""Mixing on a device: the twin of csrc/aggregate's kernel."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._check import owned
from .._where import library_of
from .array import empty, from_numpy, like
from .door import LEGACY, View, current_stream, need, one_device, ordered, ordinal, view
from .door import stream as use
from .recent import Recent

Csr = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]
_ENTRY = np.dtype([("from", np.uint32), ("weight", np.float32)])
_SLICE = 8  # rows of a slice of mix_index.h


class MixPlan:
    """Mixing matrices checked, packed and put on a device: one a round and column block, equal ones once.

    table: [round][block] -> (indptr int32 (n + 1,), indices int32, weights float32), as `dl.MixingMatrix` holds them.
    columns: (blocks + 1,) boundaries 0 ... P of the column blocks. n: rows of the matrix of models.
    Entries of weight 0 are left out: they cost nothing and carry no NaN. Dead edges are masked by the weights
    (`dl.MixingMatrix`): a mask changes a few kilobytes, which go with the plan.
    Raises TypeError (dtype), ValueError (a matrix that is not one, boundaries), RuntimeError where CUDA is off.
    """

    def __init__(
        self, table: Sequence[Sequence[Csr]], columns: NDArray[np.int64], n: int, *, device: int | str = 0
    ) -> None:
        self.columns = _boundaries(columns)
        self.n, self.rounds, self.blocks, self.device = n, len(table), len(columns) - 1, ordinal(device)
        _check_blocks(table, self.blocks)
        which, start, entries = pack(table, n)
        self._module = need()
        self.width, self.fused = self._module.mix_tile(self.device, n, self.rounds)
        self.first_tile = tiles(self.columns, self.width)
        parts = [self.columns.astype(np.uint64), self.first_tile, entries, start, which]
        self._blob = from_numpy(np.concatenate([p.reshape(-1).view(np.uint8) for p in parts]), device=self.device)
        ends = np.cumsum([0, *(p.nbytes for p in parts)])
        self._at = [self._blob.address + int(e) for e in ends[:-1]]

    def run(self, x: View, y: View, stream: int) -> None:
        """Y = W[rounds - 1] ... W[0] X on the stream. x, y: float32 (n, P), of `view`; y may be x where `fused`.

        Raises ValueError (shape).
        """
        wanted = self.n, int(self.columns[-1])
        for name, v in (("x", x), ("y", y)):
            if v.shape != wanted:
                raise ValueError(f"{name}: expected shape {wanted}, got {v.shape}")
        col_start, first_tile, entries, start, which = self._at
        ldx, ldy = x.strides[0], y.strides[0]
        work = None
        if not self.fused and self.rounds > 1:
            with use(stream):
                work = empty((self.n, ldy), device=self.device)
        with ordered(self._module, self.device, stream, x, y, self._blob._as_view()):
            self._module.mix(
                self.device, stream, self.n, self.rounds, self.blocks, int(self.columns[-1]), col_start, first_tile,
                which, start, entries, int(self.first_tile[-1]), self.width, self.fused, x.address, ldx, y.address, ldy,
                work.address if work is not None else None,
            )  # fmt: skip


def mix(X: Any, table: Sequence[Sequence[Csr]], columns: NDArray[np.int64], out: Any = None) -> Any:
    """`dl.mix` on a device: the same arguments, checked and taken apart; returns out, of X's kind.

    X: float32 (n, P), rows contiguous. out: like X, or X itself (in place), or None.
    Bits are those of the CPU's kernels that have FMA (AVX2, AVX-512). Memory-bound: 8 n P bytes whatever the rounds,
    while n is at most about 3,600 (2,600 on sm_80; one round: nearly twice that), and 8 n P bytes a round beyond.
    Nothing waits for the device; matrices that are new to it are copied there first. On the default stream the last few
    whose arrays nobody can write to, as those of a `dl.MixingMatrix`, stay. Raises RuntimeError while torch records a
    CUDA graph.
    """
    stream = current_stream(X) if out is None else current_stream(X, out)
    x = view(X, "X", np.float32, 2, stream=stream)
    y = None if out is None else view(out, "out", np.float32, 2, stream=stream, write=True)
    n, size = x.shape
    if y is not None and y.shape != x.shape:
        raise ValueError(f"out: expected shape {x.shape}, got {y.shape}")
    _check_numbers(columns, "col_start", np.int64)
    if int(columns[-1]) != size:
        raise ValueError(f"col_start: expected to end at {size} (the columns), got {int(columns[-1])}")
    in_place = y is not None and (y.address, y.strides) == (x.address, x.strides)
    if y is not None and not in_place and overlap(x, y):
        raise ValueError("y: overlaps x; only x itself, in place, is allowed")
    device = one_device(X=x) if y is None else one_device(X=x, out=y)
    if n == 0 or size == 0:
        return like(X, (n, size), np.float32, device, stream) if out is None else out
    _check_blocks(table, len(columns) - 1)
    plan = _plan(X, table, columns, n, device, stream)
    result: Any = out
    if y is None:
        result = like(X, (n, size), np.float32, device, stream)
        y = view(result, "out", np.float32, 2, stream=stream, write=True)
    if in_place and not plan.fused:
        _direct_in_place(plan, x, stream)
    else:
        plan.run(x, y, stream)
    return result


_plans: Recent[MixPlan] = Recent(8)
_LARGE = 1 << 24  # bytes of matrices that are not kept


def _plan(
    X: Any, table: Sequence[Sequence[Csr]], columns: NDArray[np.int64], n: int, device: int, stream: int
) -> MixPlan:
    """A plan made on `stream`. Packing one takes longer than mixing: it is kept where nobody can write to a matrix and
    the stream is the default one, which stays."""
    if library_of(X) == "torch":
        _refuse_capture(X)

    def make() -> MixPlan:
        with use(stream):
            return MixPlan(table, columns, n, device=device)

    arrays = [a for row in table for csr in row for a in csr]
    kept = stream == LEGACY and all(isinstance(a, np.ndarray) and owned(a) for a in arrays)
    if not kept or sum(a.nbytes for a in arrays) > _LARGE:
        return make()
    key = need(), device, stream, n, columns.tobytes(), len(table), *map(id, arrays)
    return _plans.get(key, arrays, make)


def _refuse_capture(X: Any) -> None:
    """A graph would copy a plan from host memory that is gone when it is replayed."""
    torch = sys.modules["torch"]
    with torch.cuda.device(X.device):
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError("mix: cannot be recorded in a CUDA graph: its matrices are copied from the host")


def _direct_in_place(plan: MixPlan, x: View, stream: int) -> None:
    """Too many rows for a tile in shared memory: by way of a copy."""
    with use(stream):
        copy = empty(x.shape, device=plan.device)
    module, width, rows = need(), x.shape[1] * 4, x.shape[0]
    with ordered(module, plan.device, stream, x):
        module.copy(plan.device, stream, copy.address, copy.strides[0] * 4, x.address, x.strides[0] * 4, width, rows)
    plan.run(view(copy, "copy", np.float32, 2, stream=stream), x, stream)


def overlap(a: View, b: View) -> bool:
    """Whether two arrays share a byte, by the range they cover."""
    (a0, a1), (b0, b1) = a.span, b.span
    return a0 < b1 and b0 < a1


def tiles(columns: NDArray[np.int64], width: int) -> NDArray[np.uint64]:
    """(blocks + 1,) tiles of `width` columns before each block's; no tile spans two blocks."""
    counts = -(-np.diff(columns) // width)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)


def pack(table: Sequence[Sequence[Csr]], n: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.void]]:
    """(which uint32 (rounds, blocks), start uint32 (matrices, slices + 1), entries), as cg_mix_plan holds them: every
    distinct matrix once, checked as `_core.mix` checks it, zero weights left out."""
    known: dict[tuple[int, int, int], int] = {}
    which = np.empty((len(table), len(table[0])), np.uint32)
    starts: list[NDArray[np.uint32]] = []
    entries: list[NDArray[np.void]] = []
    kept = 0
    for r, row in enumerate(table):
        for b, csr in enumerate(row):
            key = (id(csr[0]), id(csr[1]), id(csr[2]))
            if key not in known:
                known[key] = len(starts)
                start, packed = _pack_one(csr, n, f"table[{r}][{b}]")
                starts.append((start + kept).astype(np.uint32))
                entries.append(packed)
                kept += len(packed)
            which[r, b] = known[key]
    if kept >= 2**32:
        raise ValueError(f"W: expected fewer than 2**32 entries in all, rows filled up, got {kept}")
    return which, np.stack(starts), np.concatenate(entries)


def _pack_one(csr: Csr, n: int, name: str) -> tuple[NDArray[np.int64], NDArray[np.void]]:
    indptr, indices, weights = csr
    _check_numbers(indptr, f"{name}: indptr", np.int32)
    _check_numbers(indices, f"{name}: indices", np.int32, least=0)
    _check_numbers(weights, f"{name}: weights", np.float32, least=0)
    if len(indptr) != n + 1:
        raise ValueError(f"{name}: expected {n} rows, got {len(indptr) - 1}")
    if indptr[0] != 0:
        raise ValueError(f"{name}: indptr: expected to start at 0, got {indptr[0]}")
    down = np.flatnonzero(np.diff(indptr) < 0)
    if len(down):
        i = int(down[0])
        raise ValueError(f"{name}: indptr[{i + 1}]: expected {indptr[i]} or more, got {indptr[i + 1]}")
    nnz = int(indptr[-1])
    if len(indices) != nnz or len(weights) != nnz:
        raise ValueError(f"{name}: expected {nnz} indices and weights, got {len(indices)} and {len(weights)}")
    bad = np.flatnonzero((indices < 0) | (indices >= n))
    if len(bad):
        raise ValueError(f"{name}: indices[{bad[0]}]: expected 0 to {n - 1}, got {indices[bad[0]]}")
    keep = weights != 0
    before = np.concatenate([[0], np.cumsum(keep)])[indptr]  # entries that are kept, before each row
    return _slices(np.diff(before), indices[keep], weights[keep])


def _slices(
    counts: NDArray[np.int64], indices: NDArray[np.int32], weights: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.void]]:
    """Where each slice of rows starts, and the entries: a slice holds the first entry of its rows, then the second of
    each, ... up to its longest row; gaps are zero. counts: entries of each row."""
    n = len(counts)
    longest = np.zeros(-(-n // _SLICE) * _SLICE, np.int64)
    longest[:n] = counts
    start = np.concatenate([[0], np.cumsum(longest.reshape(-1, _SLICE).max(axis=1) * _SLICE)])
    row = np.repeat(np.arange(n), counts)
    nth = np.arange(len(row)) - (np.cumsum(counts) - counts)[row]
    packed = np.zeros(int(start[-1]), _ENTRY)
    at = start[row // _SLICE] + nth * _SLICE + row % _SLICE
    packed["from"][at], packed["weight"][at] = indices, weights
    return start, packed


def _check_blocks(table: Sequence[Sequence[Csr]], blocks: int) -> None:
    """A matrix for each round and column block, neither more nor less."""
    if len(table) == 0:
        raise ValueError("table: expected at least one round, got 0")
    if blocks == 0:
        raise ValueError("col_start: expected at least one column block, got none")
    for r, row in enumerate(table):
        if len(row) != blocks:
            raise ValueError(f"table[{r}]: expected {blocks} matrices, one a column block, got {len(row)}")


def _check_numbers(a: Any, name: str, dtype: Any, least: int = 1) -> None:
    """A NumPy vector of `dtype`, of `least` elements or more: nothing is cast."""
    if not isinstance(a, np.ndarray):
        raise TypeError(f"{name}: expected a NumPy array, got {type(a).__name__}")
    if a.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {np.dtype(dtype)}, got {a.dtype}")
    if a.ndim != 1:
        raise ValueError(f"{name}: expected 1 dimension(s), got {a.ndim}")
    if len(a) < least:
        raise ValueError(f"{name}: expected at least one value, got none")


def _boundaries(columns: NDArray[np.int64]) -> NDArray[np.int64]:
    _check_numbers(columns, "col_start", np.int64)
    if columns[0] != 0:
        raise ValueError(f"col_start: expected to start at 0, got {columns[0]}")
    down = np.flatnonzero(np.diff(columns) < 0)
    if len(down):
        b = int(down[0])
        raise ValueError(f"col_start[{b + 1}]: expected {columns[b]} or more, got {columns[b + 1]}")
    return columns
