"""collegium.data: the shipped digits, data sets, partitioners (trap 15)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium import data


def test_digits_are_the_real_ones():
    ds = data.digits()
    assert ds.x.shape == (1437, 64) and ds.x.dtype == np.float32 and ds.x_test.shape == (360, 64)
    assert ds.y.dtype == np.int64 and ds.classes == 10 and len(ds) == 1437
    everything = np.concatenate([ds.y, ds.y_test])
    assert np.bincount(everything).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert 0 <= ds.x.min() and ds.x.max() == 1.0 and float(ds.x.sum() + ds.x_test.sum()) * 16 == 561718
    other = data.digits(seed=1)
    assert not np.array_equal(other.y_test, ds.y_test)
    np.testing.assert_array_equal(data.digits().x_test, ds.x_test)


@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=120),
    n=st.integers(1, 12),
    kind=st.sampled_from(["iid", "shards", "dirichlet", "groups"]),
    seed=st.integers(0, 50),
    alpha=st.sampled_from([1e-4, 0.1, 1.0, 100.0]),
)
def test_every_sample_is_in_exactly_one_part(labels, n, kind, seed, alpha):
    y = np.array(labels)
    options = {"groups": np.arange(len(y)) // 3} if kind == "groups" else {}
    if kind == "dirichlet":
        options["alpha"] = alpha
    most = len(y) // 2 if kind == "shards" else -(-len(y) // 3) if kind == "groups" else len(y)
    if n > most:
        with pytest.raises(ValueError, match=r"^(n|shards): expected"):
            data.partition(y, n, kind, seed=seed, **options)
        return
    parts = data.partition(y, n, kind, seed=seed, **options)
    assert len(parts) == n and all(p.dtype == np.int64 for p in parts)
    assert all(len(p) > 0 for p in parts)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(y)))
    again = data.partition(y, n, kind, seed=seed, **options)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again))


def test_shards_hold_few_labels():
    ds = data.digits()
    parts = ds.partition(32, kind="shards", shards=2, seed=1)
    labels = (parts.class_counts() > 0).sum(axis=1)
    # Two runs of the sorted labels; each run of 22 samples crosses at most one of the nine borders.
    assert labels.max() <= 4 and (labels > 2).sum() <= 9
    assert parts.sizes.min() >= 44 and parts.sizes.max() <= 46 and parts.sizes.sum() == 1437
    assert not np.array_equal(parts.indices[0], ds.partition(32, kind="shards", shards=2, seed=2).indices[0])


def test_dirichlet_skew_grows_as_alpha_falls():
    y = np.repeat(np.arange(10), 500)
    top = {}
    for alpha in (0.1, 100.0):
        parts = data.partition(y, 20, "dirichlet", alpha=alpha, seed=3)
        top[alpha] = np.mean([np.bincount(y[p], minlength=10).max() / len(p) for p in parts])
    assert top[0.1] > 0.5 and top[100.0] < 0.2


def test_groups_stay_together_and_balance():
    g = np.repeat(np.arange(30), np.arange(1, 31))
    parts = data.partition(np.zeros(len(g), int), 7, "groups", groups=g, seed=0)
    owners = {}
    for i, p in enumerate(parts):
        for group in np.unique(g[p]):
            assert owners.setdefault(group, i) == i
    assert len(owners) == 30
    assert max(map(len, parts)) <= 2 * min(map(len, parts))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"n": 0}, ValueError, "n: expected at least 1, got 0"),
        ({"n": 11}, ValueError, r"n: expected at most one node a sample \(10\), got 11"),
        ({"n": 2, "kind": "random"}, ValueError, "kind: expected one of 'iid', 'shards', 'dirichlet', 'groups'"),
        ({"n": 4, "kind": "shards", "shards": 3}, ValueError, "shards: expected n . shards of at most 10 samples"),
        ({"n": 2, "kind": "dirichlet", "alpha": 0}, ValueError, "alpha: expected a number above 0, got 0.0"),
        ({"n": 2, "kind": "dirichlet", "alpha": float("nan")}, ValueError, "alpha: expected a finite number"),
        ({"n": 2, "kind": "groups"}, ValueError, "groups: kind='groups' needs"),
        ({"n": 2, "kind": "groups", "groups": [1, 2]}, ValueError, r"groups: expected shape \(10,\), got \(2,\)"),
        ({"n": 2, "seed": -1}, ValueError, "seed: expected at least 0, got -1"),
    ],
)
def test_partition_refuses(arguments, error, text):
    with pytest.raises(error, match=text):
        data.partition(np.arange(10) % 3, **arguments)
    with pytest.raises(TypeError, match="labels: expected a 1-D integer array"):
        data.partition(np.linspace(0, 1, 5), 2)


def test_dataset_and_parts_check_their_arguments():
    x, y = np.zeros((6, 2), np.float32), np.arange(6)
    with pytest.raises(TypeError, match="x: expected float32, uint8 or int64, got float64"):
        data.Dataset(x.astype(float), y)
    with pytest.raises(ValueError, match=r"x, y: expected \(N, ...\) and \(N,\), got \(6, 2\) and \(5,\)"):
        data.Dataset(x, y[:5])
    with pytest.raises(TypeError, match="y: expected integers"):
        data.Dataset(x, y.astype(float))
    with pytest.raises(ValueError, match="x_test, y_test: expected both or neither"):
        data.Dataset(x, y, x)
    with pytest.raises(ValueError, match=r"x_test: expected float32 samples of shape \(2,\)"):
        data.Dataset(x, y, np.zeros((3, 3), np.float32), y[:3])
    ds = data.Dataset(x, y)
    with pytest.raises(ValueError, match=r"indices\[1\]: expected 0 to 5, got 0 to 6"):
        data.Parts(ds, [[0], [0, 6]])
    with pytest.raises(TypeError, match=r"indices\[0\]: expected a 1-D integer array"):
        data.Parts(ds, [[0.5]])
    with pytest.raises(ValueError, match="at least one part"):
        data.Parts(ds, [])
    with pytest.raises(TypeError, match="got a Dataset: call dataset.partition"):
        data.as_parts(ds)
    with pytest.raises(TypeError, match="data: expected parts"):
        data.as_parts(3)


def test_pairs_become_parts():
    pairs = [(np.full((k, 2), k, np.float32), np.full(k, k)) for k in (1, 3, 2)]
    parts = data.as_parts(pairs)
    assert parts.sizes.tolist() == [1, 3, 2]
    for (x, y), (x2, y2) in zip(parts, pairs):
        np.testing.assert_array_equal(x, x2)
        np.testing.assert_array_equal(y, y2)
    pointers, flat = parts.flat()
    assert pointers.tolist() == [0, 1, 4, 6] and flat.tolist() == list(range(6))
    assert len(parts[0:2]) == 2
