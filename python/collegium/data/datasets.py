"""Data sets, and their parts: one copy of the arrays, integer indices a node."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from .partition import partition


class Dataset:
    """A labelled training set and its test set.

    x: (N, ...) float32 or uint8.  y: (N,) integers, kept as int64.  x_test, y_test: the same for the test set, or None.
    Raises TypeError or ValueError naming the argument.
    """

    def __init__(
        self, x: ArrayLike, y: ArrayLike, x_test: ArrayLike | None = None, y_test: ArrayLike | None = None
    ) -> None:
        self.x, self.y = _checked(x, y, "x", "y")
        if (x_test is None) != (y_test is None):
            raise ValueError("x_test, y_test: expected both or neither")
        self.x_test: NDArray[Any] | None = None
        self.y_test: NDArray[np.int64] | None = None
        if x_test is not None and y_test is not None:
            self.x_test, self.y_test = _checked(x_test, y_test, "x_test", "y_test")
            if self.x_test.shape[1:] != self.x.shape[1:] or self.x_test.dtype != self.x.dtype:
                raise ValueError(
                    f"x_test: expected {self.x.dtype} samples of shape {self.x.shape[1:]} as in x, "
                    f"got {self.x_test.dtype} {self.x_test.shape[1:]}"
                )

    @property
    def classes(self) -> int:
        """Largest label + 1, over training and test set."""
        return 1 + max(int(y.max(initial=-1)) for y in (self.y, self.y_test) if y is not None)

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        test = 0 if self.y_test is None else len(self.y_test)
        return f"Dataset({len(self)} + {test} test, {self.x.dtype} {self.x.shape[1:]})"

    def partition(self, n: int, kind: str = "iid", *, seed: int = 0, **options: Any) -> Parts:
        """Splits the training samples among n nodes; see `collegium.data.partition` for kinds and options."""
        return Parts(self, partition(self.y, n, kind, seed=seed, **options))


class Parts(Sequence[tuple[NDArray[Any], NDArray[np.int64]]]):
    """A data set split among nodes. ``parts[i]`` is node i's (x, y); ``parts.indices[i]`` its sample numbers.

    indices: one integer array a node; a sample may be in several parts. The arrays of the data set are not copied.
    """

    def __init__(self, dataset: Dataset, indices: Sequence[ArrayLike]) -> None:
        self.dataset = dataset
        self.indices: list[NDArray[np.int64]] = []
        for i, given in enumerate(indices):
            a = np.asarray(given)
            if a.ndim != 1 or (a.size and a.dtype.kind not in "iu"):
                raise TypeError(f"indices[{i}]: expected a 1-D integer array, got {a.dtype} {a.shape}")
            if a.size and not (0 <= a.min() and a.max() < len(dataset)):
                raise ValueError(f"indices[{i}]: expected 0 to {len(dataset) - 1}, got {a.min()} to {a.max()}")
            self.indices.append(a.astype(np.int64))
        if not self.indices:
            raise ValueError("indices: expected at least one part, got none")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        return self.dataset.x[self.indices[i]], self.dataset.y[self.indices[i]]

    def __iter__(self) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
        return (self[i] for i in range(len(self)))

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(n,) samples of each node."""
        return np.array([len(i) for i in self.indices], np.int64)

    def class_counts(self) -> NDArray[np.int64]:
        """(n, classes) samples of each class at each node."""
        k = self.dataset.classes
        return np.stack([np.bincount(self.dataset.y[i], minlength=k) for i in self.indices]).astype(np.int64)

    def flat(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(pointers (n+1,), indices): the parts laid end to end."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64), np.concatenate(self.indices)

    def digest(self) -> str:
        """SHA-256 of who holds which sample."""
        h = hashlib.sha256()
        for a in self.flat():
            h.update(a.data)
        return h.hexdigest()

    def __repr__(self) -> str:
        s = self.sizes
        return f"Parts(n={len(self)}, samples a node {s.min()} to {s.max()}, {self.dataset!r})"


def as_parts(data: Any) -> Parts:
    """`data` itself if it is Parts; else a sequence of (x, y), one a node, copied into one data set."""
    if isinstance(data, Parts):
        return data
    if isinstance(data, Dataset):
        raise TypeError("data: expected the parts of a data set, got a Dataset: call dataset.partition(n, kind=...)")
    try:
        pairs = [(np.asarray(x), np.asarray(y)) for x, y in data]
    except (TypeError, ValueError):
        raise TypeError(f"data: expected parts, or a sequence of (x, y), got {type(data).__name__}") from None
    if not pairs:
        raise ValueError("data: expected at least one node's (x, y), got none")
    ends = np.cumsum([len(x) for x, _ in pairs])
    dataset = Dataset(np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs]))
    return Parts(dataset, [np.arange(e - len(x), e) for e, (x, _) in zip(ends, pairs)])


def shuffled(n: int, seed: int, stream: int = 0) -> NDArray[np.int32]:
    """A permutation of 0 ... n-1, the same on every machine. stream: a number of the caller's own."""
    return _core.random_permutation(seed, _core.FOR_PARTITION, 0, stream, n)


def _checked(x: Any, y: Any, x_name: str, y_name: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    a, b = np.asarray(x), np.asarray(y)
    if a.dtype not in (np.float32, np.uint8):
        raise TypeError(f"{x_name}: expected float32 or uint8, got {a.dtype}")
    if a.ndim < 1 or b.ndim != 1 or len(a) != len(b):
        raise ValueError(f"{x_name}, {y_name}: expected (N, ...) and (N,), got {a.shape} and {b.shape}")
    if b.size and b.dtype.kind not in "iu":
        raise TypeError(f"{y_name}: expected integers, got {b.dtype}")
    return np.ascontiguousarray(a), b.astype(np.int64)
