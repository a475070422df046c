"""collegium.data: the shipped digits, data sets, partitioners (trap 15)."""

from __future__ import annotations

from collections.abc import Sequence

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


def test_other_kinds_of_samples_and_labels():
    ratings = data.Dataset(np.zeros((4, 2), np.int64), np.ones(4, np.float32), groups=[5, 5, 6, 6], name="r")
    assert ratings.x.dtype == np.int64 and ratings.y.dtype == np.float32 and "r: 4 + 0 test" in repr(ratings)
    parts = ratings.partition(2, kind="groups")
    assert sorted(p.tolist() for p in parts.indices) == [[0, 1], [2, 3]]
    parts = ratings.partition(2, kind="groups", groups=[0, 1, 0, 1])
    assert sorted(p.tolist() for p in parts.indices) == [[0, 2], [1, 3]]
    x, y = np.zeros((3, 1), np.float32), np.arange(3)
    with pytest.raises(TypeError, match="y_test: expected int64 as in y, got float32"):
        data.Dataset(x, y, x, np.ones(3, np.float32))
    with pytest.raises(ValueError, match="y: expected finite values, got NaN or Inf"):
        data.Dataset(x, np.array([0, np.nan, 1], np.float32))
    with pytest.raises(TypeError, match="groups: expected integers, got float64"):
        data.Dataset(x, y, groups=[0.5, 1, 2])
    with pytest.raises(ValueError, match=r"groups_test: expected shape \(0,\), got \(3,\)"):
        data.Dataset(x, y, groups_test=[0, 1, 2])
    with pytest.raises(ValueError, match="groups: kind='groups' needs the group of each sample"):
        data.Dataset(x, y).partition(2, kind="groups")


def test_any_sequence_of_pairs_will_do():
    class Own(Sequence):
        def __len__(self):
            return 2

        def __getitem__(self, i):
            return [(np.zeros((2, 1), np.float32), np.arange(2)), (np.ones((1, 1), np.float32), np.arange(1))][i]

    assert data.as_parts(Own()).sizes.tolist() == [2, 1]
    assert data.as_parts(iter(Own())).sizes.tolist() == [2, 1]


def test_samples_are_not_copied(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(24, dtype=np.uint8).reshape(4, 6))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    y = np.arange(4)
    y.flags.writeable = False
    ds = data.Dataset(x, y, x[:2], y[:2])
    assert np.shares_memory(ds.x, x) and np.shares_memory(ds.x_test, x) and np.shares_memory(ds.y, y)
    assert not ds.x.flags.writeable
    mine = np.arange(4)
    ds = data.Dataset(x, mine)
    mine[0] = 9
    assert ds.y[0] == 0  # labels that can change under us are copied


def test_fetch():
    ds = data.digits()
    x, y = ds.fetch([5, 0, 5])
    np.testing.assert_array_equal(x, ds.x[[5, 0, 5]])
    np.testing.assert_array_equal(y, ds.y[[5, 0, 5]])
    x, y = ds.fetch_test(np.arange(ds.test_size))
    np.testing.assert_array_equal(x, ds.x_test)
    assert ds.test_size == len(y) == 360 and len(ds.fetch([])[0]) == 0
    for bad, error in (([-1], ValueError), ([1437], ValueError), ([0.5], TypeError), ([[0]], TypeError)):
        with pytest.raises(error, match="indices: expected"):
            ds.fetch(bad)
    with pytest.raises(ValueError, match="test: the data set has no test set"):
        data.Dataset(ds.x, ds.y).fetch_test([0])


def test_another_test_set():
    ds = data.digits()
    parts = ds.partition(3)
    other = data.as_parts(parts, test=(ds.x[:5], ds.y[:5]))
    assert other.dataset.test_size == 5 and ds.test_size == 360 and other.digest() == parts.digest()
    assert data.as_parts([(ds.x, ds.y)], test=(ds.x[:7], ds.y[:7])).dataset.test_size == 7
    with pytest.raises(TypeError, match=r"test: expected \(x, y\), got int"):
        data.as_parts(parts, test=3)
    with pytest.raises(ValueError, match="x_test: expected float32 samples"):
        ds.with_test((ds.x[:, :5], ds.y))


@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=6),
    fraction=st.sampled_from([0.0, 0.1, 0.5, 0.99]),
    seed=st.integers(0, 9),
)
def test_holdout_loses_nothing(sizes, fraction, seed):
    ends = np.cumsum(sizes)
    n = int(ends[-1])
    ds = data.Dataset(np.zeros((n, 1), np.float32), np.zeros(n, np.int64))
    parts = data.Parts(ds, [np.arange(e - s, e) for e, s in zip(ends, sizes)])
    kept, held = data.holdout(parts, fraction, seed)
    assert kept.dataset is ds and held.dataset is ds
    for all_, a, b in zip(parts.indices, kept.indices, held.indices):
        np.testing.assert_array_equal(np.sort(np.concatenate([a, b])), all_)
        assert len(a) >= min(1, len(all_)) and len(b) == min(round(fraction * len(all_)), max(len(all_) - 1, 0))
    again = data.holdout(parts, fraction, seed)
    assert again[0].digest() == kept.digest() and again[1].digest() == held.digest()


def test_holdout_draws_by_seed_and_node():
    parts = data.digits().partition(4)
    held = [data.holdout(parts, 0.2, seed)[1] for seed in (0, 1)]
    assert held[0].digest() != held[1].digest()
    places = [np.searchsorted(parts.indices[i], held[0].indices[i])[:20] for i in (1, 2)]
    assert not np.array_equal(*places)
    for fraction, text in (
        (1.0, "expected below 1"),
        (-0.1, "expected at least 0"),
        (float("nan"), "expected a finite"),
    ):
        with pytest.raises(ValueError, match=f"fraction: {text}"):
            data.holdout(parts, fraction)
    with pytest.raises(TypeError, match="parts: expected Parts, got list"):
        data.holdout([1])


def test_picture_of_a_partition(need):
    need("matplotlib")
    parts = data.digits().partition(12, kind="shards", seed=1)
    top, main = parts.plot().axes
    counts = parts.class_counts()
    (bubbles,) = main.collections
    drawn = np.zeros_like(counts, dtype=float)
    for (node, label), area in zip(bubbles.get_offsets().astype(int), bubbles.get_sizes()):
        drawn[node, label] = area
    np.testing.assert_allclose(drawn / drawn.max(), counts / counts.max())
    assert [bar.get_height() for bar in top.patches] == parts.sizes.tolist()
    ratings = data.Dataset(np.zeros((4, 2), np.int64), np.ones(4, np.float32))
    with pytest.raises(TypeError, match="y: classes need integer labels"):
        ratings.partition(2).plot()
