"""Data sets, the way a learner reads them, and their parts: one copy of the samples, integer indices a node."""

from __future__ import annotations

import copy
import hashlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from .partition import partition

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Dataset:
    """A labelled training set and its test set.

    x: (N, ...) float32, uint8, or int64 (ids, token numbers).  y: (N,) integers, kept as int64, or float32 (ratings).
    x_test, y_test: the same for the test set, or None.
    groups, groups_test: (N,) integers, who made each sample (writer, user), or None; the default of
      ``partition(n, kind="groups")``.
    name: for reports.
    A contiguous x is not copied: memory-mapped arrays stay on disk. Raises TypeError or ValueError naming the argument.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    x_test: NDArray[Any] | None = None
    y_test: NDArray[Any] | None = None

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        x_test: ArrayLike | None = None,
        y_test: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        groups_test: ArrayLike | None = None,
        name: str = "",
    ) -> None:
        self.name = str(name)
        self.x, self.y = _checked(x, y, "x", "y")
        if (x_test is None) != (y_test is None):
            raise ValueError("x_test, y_test: expected both or neither")
        if x_test is not None and y_test is not None:
            self._set_test(x_test, y_test)
        self.groups = None if groups is None else _group_numbers(groups, len(self), "groups")
        self.groups_test = None if groups_test is None else _group_numbers(groups_test, self.test_size, "groups_test")

    @staticmethod
    def from_torch(train: Any, test: Any = None, *, groups: ArrayLike | None = None, name: str = "") -> Dataset:
        """A data set over map-style torch data sets whose samples are (x, y); transforms and all, read on demand.

        train, test: `torch.utils.data.Dataset` with ``len`` and indexing; test may be None.
        Labels come from ``.targets`` or ``.labels`` (through Subset and ConcatDataset too); a set without them, or
        with a target_transform, is read through once. fetch() returns what torch's default_collate makes of samples.
        Raises TypeError for other objects, ImportError without torch.
        """
        from .lazy import TorchDataset

        return TorchDataset(train, test, groups=groups, name=name)

    @property
    def classes(self) -> int:
        """Largest label + 1, over training and test set. Raises TypeError for labels that are not integers."""
        labels = [y for y in (self.y, self.y_test) if y is not None]
        if any(y.dtype.kind == "f" for y in labels):
            raise TypeError("y: classes need integer labels, got float32")
        return 1 + max(int(y.max(initial=-1)) for y in labels)

    @property
    def test_size(self) -> int:
        """Number of test samples; 0 without a test set."""
        return 0 if self.y_test is None else len(self.y_test)

    def fetch(self, indices: ArrayLike) -> tuple[Any, Any]:
        """(x, y) of the training samples `indices` (k,): new arrays here; torch tensors from a torch data set."""
        i = _indices(indices, len(self))
        return self.x[i], self.y[i]

    def fetch_test(self, indices: ArrayLike) -> tuple[Any, Any]:
        """(x, y) of the test samples `indices` (k,), as `fetch`. Raises ValueError without a test set."""
        if self.x_test is None or self.y_test is None:
            raise ValueError("test: the data set has no test set")
        i = _indices(indices, self.test_size)
        return self.x_test[i], self.y_test[i]

    def with_test(self, test: Any) -> Dataset:
        """The same training samples with another test set. test: (x, y)."""
        try:
            x, y = test
        except (TypeError, ValueError):
            raise TypeError(f"test: expected (x, y), got {type(test).__name__}") from None
        other = copy.copy(self)
        other.groups_test = None
        other._set_test(x, y)
        return other

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        name = f"{self.name}: " if self.name else ""
        return f"Dataset({name}{len(self)} + {self.test_size} test, {self.x.dtype} {self.x.shape[1:]})"

    def digest(self, test: bool = False) -> str:
        """SHA-256 of the training or the test set: types, shapes, all labels, about 64 evenly spaced samples."""
        h = hashlib.sha256()
        x, y = (self.x_test, self.y_test) if test else (getattr(self, "x", None), self.y)
        for a in (y, None if x is None else x[:: max(1, len(x) // 64)]):
            if a is None:
                continue
            h.update(f"{a.dtype} {a.shape}".encode())
            h.update(np.ascontiguousarray(a).reshape(-1).view(np.uint8).data)
        return h.hexdigest()

    def partition(self, n: int, kind: str = "iid", *, seed: int = 0, **options: Any) -> Parts:
        """Splits the training samples among n nodes; see `collegium.data.partition` for kinds and options.

        kind="groups" uses the data set's own groups if none are given.
        """
        if kind == "groups" and options.get("groups") is None:
            options["groups"] = self.groups
        y = self.y
        if y.dtype.kind == "f":
            if kind in ("shards", "dirichlet"):
                raise ValueError(f"kind: {kind!r} needs integer labels, got {y.dtype}; expected 'iid' or 'groups'")
            y = np.zeros(len(y), np.int8)  # these kinds look at the number of samples only
        return Parts(self, partition(y, n, kind, seed=seed, **options))

    def _set_test(self, x: ArrayLike, y: ArrayLike) -> None:
        self.x_test, self.y_test = _checked(x, y, "x_test", "y_test")
        if self.x_test.shape[1:] != self.x.shape[1:] or self.x_test.dtype != self.x.dtype:
            raise ValueError(
                f"x_test: expected {self.x.dtype} samples of shape {self.x.shape[1:]} as in x, "
                f"got {self.x_test.dtype} {self.x_test.shape[1:]}"
            )
        if self.y_test.dtype != self.y.dtype:
            raise TypeError(f"y_test: expected {self.y.dtype} as in y, got {self.y_test.dtype}")


class Parts(Sequence[tuple[Any, Any]]):
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
        return self.dataset.fetch(self.indices[i])

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
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
        """SHA-256 of who holds which sample of what: indices, labels, and some of the samples (all would be read from
        disk)."""
        h = hashlib.sha256(self.dataset.digest().encode())
        for a in self.flat():
            h.update(a.data)
        return h.hexdigest()

    def plot(self) -> Figure:
        """The picture of `collegium.plot.partition`: how many samples of each class each node holds."""
        from ..plot import partition

        return partition(self)

    def __repr__(self) -> str:
        s = self.sizes
        return f"Parts(n={len(self)}, samples a node {s.min()} to {s.max()}, {self.dataset!r})"


def as_parts(data: Any, test: Any = None) -> Parts:
    """`data` as Parts, with `test` as their test set if given.

    data: Parts, used as they are; or one (x, y) a node, copied into one data set; or one map-style torch data set a
      node, read on demand (`Dataset.from_torch`).
    test: (x, y), or a map-style torch data set where data are such.
    Raises TypeError or ValueError naming the argument.
    """
    if isinstance(data, Parts):
        return data if test is None else Parts(data.dataset.with_test(test), data.indices)
    if isinstance(data, Dataset):
        raise TypeError("data: expected the parts of a data set, got a Dataset: call dataset.partition(n, kind=...)")
    torch_data = sys.modules.get("torch.utils.data")  # not imported: then it is none of its sets
    if torch_data is not None and isinstance(data, torch_data.Dataset):
        raise TypeError(
            f"data: expected one data set a node, got a single {type(data).__name__}: "
            "call data.Dataset.from_torch(it).partition(n, kind=...)"
        )
    try:
        nodes = list(data)
    except TypeError:
        raise TypeError(f"data: expected parts, or a sequence of (x, y), got {type(data).__name__}") from None
    if not nodes:
        raise ValueError("data: expected at least one node's (x, y), got none")
    if all(_map_style(d) for d in nodes):
        from .lazy import concatenated

        return _end_to_end(concatenated(nodes, test), [len(d) for d in nodes])
    try:
        pairs = [(np.asarray(x), np.asarray(y)) for x, y in nodes]
    except (TypeError, ValueError):
        raise TypeError(f"data: expected parts, or a sequence of (x, y), got {type(data).__name__}") from None
    dataset = Dataset(np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs]))
    return _end_to_end(dataset if test is None else dataset.with_test(test), [len(x) for x, _ in pairs])


def shuffled(n: int, seed: int, stream: int = 0) -> NDArray[np.int32]:
    """A permutation of 0 ... n-1, the same on every machine. stream: a number of the caller's own."""
    return _core.random_permutation(seed, _core.FOR_PARTITION, 0, stream, n)


def _checked(x: Any, y: Any, x_name: str, y_name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    a, b = np.asarray(x), np.asarray(y)
    if a.dtype not in (np.float32, np.uint8, np.int64):
        raise TypeError(f"{x_name}: expected float32, uint8 or int64, got {a.dtype}")
    if a.ndim < 1 or b.ndim != 1 or len(a) != len(b):
        raise ValueError(f"{x_name}, {y_name}: expected (N, ...) and (N,), got {a.shape} and {b.shape}")
    return np.ascontiguousarray(a), _labels(b, y_name)


def _labels(y: NDArray[Any], name: str) -> NDArray[Any]:
    if y.dtype == np.float32:
        if not np.isfinite(y).all():
            raise ValueError(f"{name}: expected finite values, got NaN or Inf")
        return y
    if y.size and y.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers or float32, got {y.dtype}")
    return y.astype(np.int64, copy=y.flags.writeable)  # read-only labels cannot change under us


def _group_numbers(groups: ArrayLike, n: int, name: str) -> NDArray[np.int64]:
    g = np.asarray(groups)
    if g.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers, got {g.dtype}")
    if g.shape != (n,):
        raise ValueError(f"{name}: expected shape ({n},), got {g.shape}")
    return g.astype(np.int64, copy=g.flags.writeable)


def _indices(indices: ArrayLike, n: int) -> NDArray[np.int64]:
    i = np.asarray(indices)
    if i.ndim != 1 or (i.size and i.dtype.kind not in "iu"):
        raise TypeError(f"indices: expected a 1-D integer array, got {i.dtype} {i.shape}")
    if i.size and not (0 <= i.min() and i.max() < n):
        raise ValueError(f"indices: expected 0 to {n - 1}, got {i.min()} to {i.max()}")
    return i.astype(np.int64, copy=False)


def _end_to_end(dataset: Dataset, sizes: list[int]) -> Parts:
    ends = np.cumsum(sizes)
    return Parts(dataset, [np.arange(e - s, e) for e, s in zip(ends, sizes)])


def _map_style(d: Any) -> bool:
    """Has a length and items and is no plain container: what torch calls a map-style data set."""
    plain = (tuple, list, dict, str, np.ndarray, Parts)
    return hasattr(d, "__len__") and hasattr(d, "__getitem__") and not isinstance(d, plain)
