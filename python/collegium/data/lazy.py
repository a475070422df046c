"""Data sets whose samples stay in a map-style torch data set and are read on demand, transforms and all."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .datasets import Dataset, _group_numbers, _indices, _labels


class TorchDataset(Dataset):
    """See `Dataset.from_torch`. ``train`` and ``test`` are the torch data sets; there is no array x."""

    def __init__(self, train: Any, test: Any = None, *, groups: ArrayLike | None = None, name: str = "") -> None:
        self.name = str(name)
        self.train = _checked_set(train, "train")
        self.y = _labels_of(train, "train")
        self.test: Any = None
        if test is not None:
            self._set_torch_test(test)
        self.groups = None if groups is None else _group_numbers(groups, len(self), "groups")
        self.groups_test = None

    def __getattr__(self, name: str) -> Any:
        if name == "x":
            raise AttributeError("x: the samples of a torch data set are read on demand: use fetch(indices)")
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def fetch(self, indices: ArrayLike) -> tuple[Any, Any]:
        """(x, y) of the training samples `indices` (k,), k >= 1, as torch's default_collate stacks them."""
        return _collated(self.train, _indices(indices, len(self)))

    def fetch_test(self, indices: ArrayLike) -> tuple[Any, Any]:
        """(x, y) of the test samples `indices` (k,), as `fetch`. Raises ValueError without a test set."""
        if self.test is None:
            raise ValueError("test: the data set has no test set")
        return _collated(self.test, _indices(indices, self.test_size))

    def with_test(self, test: Any) -> Dataset:
        """The same training samples with another test set. test: a map-style torch data set."""
        other = copy.copy(self)
        other._set_torch_test(test)
        return other

    def __repr__(self) -> str:
        name = f"{self.name}: " if self.name else ""
        return f"Dataset({name}{len(self)} + {self.test_size} test, from {type(self.train).__name__})"

    def _set_torch_test(self, test: Any) -> None:
        self.test = _checked_set(test, "test")
        self.y_test = _labels_of(test, "test")


def concatenated(nodes: Sequence[Any], test: Any = None) -> TorchDataset:
    """One data set of several, end to end, without reading a sample that has its label elsewhere."""
    data = _torch_data()
    return TorchDataset(data.ConcatDataset([_checked_set(d, f"data[{i}]") for i, d in enumerate(nodes)]), test)


def _torch_data() -> Any:
    try:
        import torch.utils.data
    except ImportError:
        raise ImportError("torch data sets need torch: pip install 'collegium[torch]'") from None
    return torch.utils.data


def _checked_set(d: Any, name: str) -> Any:
    """`d` if it is map-style; torch's IterableDataset has items in name only, so it is asked for by type."""
    iterable = isinstance(d, _torch_data().IterableDataset)
    if iterable or not (hasattr(d, "__getitem__") and hasattr(d, "__len__")) or isinstance(d, (tuple, np.ndarray)):
        raise TypeError(f"{name}: expected a map-style torch data set (len and indexing), got {type(d).__name__}")
    return d


def _labels_of(d: Any, name: str) -> NDArray[Any]:
    known = _known_labels(d)
    if known is None:
        known = np.asarray([_pair(d[i], name)[1] for i in range(len(d))])
    if known.dtype == np.float64:
        known = known.astype(np.float32)
    if known.shape != (len(d),):
        raise ValueError(f"{name}: expected one label a sample ({len(d)},), got {known.shape}")
    return _labels(known, f"labels of {name}")


def _known_labels(d: Any) -> NDArray[Any] | None:
    """Labels that can be had without reading samples, or None."""
    if getattr(d, "target_transform", None) is not None:
        return None
    for attribute in ("targets", "labels"):
        found = np.asarray(getattr(d, attribute, None))
        if found.ndim == 1 and found.dtype.kind in "iuf":  # and not, say, a list of class names
            return found
    if hasattr(d, "dataset") and hasattr(d, "indices"):  # Subset, random_split
        inner = _known_labels(d.dataset)
        return None if inner is None else inner[np.asarray(d.indices, dtype=np.int64)]
    if hasattr(d, "datasets"):  # ConcatDataset
        every = [_known_labels(part) for part in d.datasets]
        return None if any(y is None for y in every) else np.concatenate([y for y in every if y is not None])
    return None


def _pair(sample: Any, name: str) -> tuple[Any, Any]:
    if not isinstance(sample, (tuple, list)) or len(sample) != 2:
        raise TypeError(f"{name}: expected samples (x, y), got {type(sample).__name__}")
    return sample[0], sample[1]


def _collated(d: Any, indices: NDArray[np.int64]) -> tuple[Any, Any]:
    if not len(indices):
        raise ValueError("indices: expected at least one sample, got none")
    numbers = [int(i) for i in indices]  # transforms and file lists expect Python's integers
    samples = d.__getitems__(numbers) if hasattr(d, "__getitems__") else [d[i] for i in numbers]
    x, y = _torch_data().default_collate([_pair(s, "data") for s in samples])
    return x, y
