"""Torch data sets as data: read on demand, transforms and all."""

from __future__ import annotations

import numpy as np
import pytest

from collegium import data


@pytest.fixture
def torch(need):
    return need("torch")


@pytest.fixture
def Squares(torch):
    """Class of a map-style set: sample i is (i^2, label i % 3); it counts what is read."""

    class Squares(torch.utils.data.Dataset):
        def __init__(self, n, start=0, targets=True):
            self.n, self.start, self.read = n, start, []
            if targets:
                self.targets = [(start + i) % 3 for i in range(n)]

        def __len__(self):
            return self.n

        def __getitem__(self, i):
            assert type(i) is int
            if i >= self.n:
                raise IndexError(i)
            self.read.append(i)
            return torch.tensor([float(self.start + i) ** 2]), (self.start + i) % 3

    return Squares


def test_samples_are_read_when_fetched(torch, Squares):
    train, test = Squares(30), Squares(6, start=100)
    ds = data.Dataset.from_torch(train, test, name="squares")
    parts = ds.partition(5, kind="shards", shards=2)
    assert len(ds) == 30 and ds.test_size == 6 and ds.classes == 3 and parts.class_counts().sum() == 30
    assert not train.read and not test.read
    x, y = parts.dataset.fetch(np.array([4, 2, 2]))
    assert train.read == [4, 2, 2] and x.tolist() == [[16], [4], [4]] and y.tolist() == [1, 2, 2]
    assert x.dtype == torch.float32 and y.dtype == torch.int64
    x, y = ds.fetch_test(torch.tensor([5]))
    assert x.tolist() == [[105**2]] and y.tolist() == [0]
    x, y = parts[3]
    assert y.tolist() == ds.y[parts.indices[3]].tolist()
    assert "squares: 30 + 6 test, from Squares" in repr(parts)
    assert len(data.holdout(parts, 0.5)[1].dataset) == 30
    with pytest.raises(AttributeError, match=r"x: .* are read on demand: use fetch\(indices\)"):
        ds.x  # noqa: B018


@pytest.mark.parametrize("how", ["targets", "labels", "none", "transform", "subset", "concat", "names", "float"])
def test_where_labels_come_from(torch, Squares, how):
    train = Squares(9, targets=how in ("targets", "subset", "concat", "transform"))
    expected, reads, whole = [i % 3 for i in range(9)], 9 if how in ("none", "transform", "names") else 0, train
    if how == "labels":
        train.labels = np.array(expected)
    elif how == "transform":  # then targets are not what comes out
        train.targets, train.target_transform = [7] * 9, lambda t: t
    elif how == "names":
        train.labels = ["zero", "one", "two"]
    elif how == "float":
        train.targets = torch.tensor(expected, dtype=torch.float64)
    elif how == "subset":
        whole = torch.utils.data.Subset(train, [8, 1, 2])
        expected = [2, 1, 2]
    elif how == "concat":
        whole = torch.utils.data.ConcatDataset([torch.utils.data.Subset(train, [8]), train])
        expected = [2, *expected]
    ds = data.Dataset.from_torch(whole)
    assert ds.y.tolist() == expected and len(train.read) == reads
    assert ds.y.dtype == (np.float32 if how == "float" else np.int64)
    if how == "subset":
        assert ds.fetch([0])[0].tolist() == [[64]]


def test_one_torch_set_a_node(torch, Squares):
    sets = [Squares(3), Squares(5, start=10), Squares(2, start=20)]
    parts = data.as_parts(sets, test=Squares(4))
    assert parts.sizes.tolist() == [3, 5, 2] and parts.dataset.test_size == 4
    assert not any(s.read for s in sets)
    x, _ = parts.dataset.fetch(parts.indices[1])
    assert x.ravel().tolist() == [k**2 for k in range(10, 15)]
    assert parts.dataset.y.tolist() == [i % 3 for i in (0, 1, 2, 10, 11, 12, 13, 14, 20, 21)]
    other = data.as_parts(parts, test=Squares(7))
    assert other.dataset.test_size == 7 and parts.dataset.test_size == 4
    halves = torch.utils.data.random_split(Squares(10), [6, 4])
    assert data.as_parts(halves).sizes.tolist() == [6, 4]


def test_what_is_refused(torch, Squares):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(())

    class Lone(Squares):
        def __getitem__(self, i):
            return torch.zeros(2, 2)

    for bad in (Stream(), 3, (1, 2)):
        with pytest.raises(TypeError, match="train: expected a map-style torch data set"):
            data.Dataset.from_torch(bad)
    with pytest.raises(TypeError, match="test: expected a map-style torch data set"):
        data.Dataset.from_torch(Squares(3), 3)
    with pytest.raises(TypeError, match=r"train: expected samples \(x, y\), got Tensor"):
        data.Dataset.from_torch(Lone(3, targets=False))
    with pytest.raises(TypeError, match="data: expected one data set a node, got a single Squares"):
        data.as_parts(Squares(3))
    short = Squares(4)
    short.targets = [0]
    with pytest.raises(ValueError, match=r"train: expected one label a sample \(4,\), got \(1,\)"):
        data.Dataset.from_torch(short)
    ds = data.Dataset.from_torch(Squares(4))
    with pytest.raises(ValueError, match="indices: expected at least one sample, got none"):
        ds.fetch([])
    with pytest.raises(ValueError, match="indices: expected 0 to 3, got 4 to 4"):
        ds.fetch([4])
    with pytest.raises(ValueError, match="test: the data set has no test set"):
        ds.fetch_test([0])
    with pytest.raises(ValueError, match=r"groups: expected shape \(4,\)"):
        data.Dataset.from_torch(Squares(4), groups=[1])
