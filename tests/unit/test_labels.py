"""Labels: which sources hold results of the union."""

from __future__ import annotations

import numpy as np
import pytest

from collegium.rag.given import searchables
from collegium.rag.labels import build_labels
from collegium.rag.local_source import VectorSource


def corpus(metric="ip", seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 4, (240, 10)).astype("f4")
    parts = np.split(x, [3, 100, 101])
    Q = rng.integers(-3, 4, (50, 10)).astype("f4")
    return x, [VectorSource(p, name=f"s{i}", metric=metric) for i, p in enumerate(parts)], Q


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
@pytest.mark.parametrize("k", [1, 10, 120])
def test_labels_are_those_of_a_search_in_the_union(threads, metric, k):
    x, sources, Q = corpus(metric)
    _, I = VectorSource(x, name="all", metric=metric).search(Q, k)
    of = np.repeat(np.arange(4), [3, 97, 1, 139])
    counts = np.stack([np.bincount(of[row[row >= 0]], minlength=4) for row in I])
    for batch in (7, 256):
        Y, C = build_labels(sources, Q, k, batch=batch, return_counts=True)
        assert Y.dtype == np.uint8 and Y.shape == (50, 4)
        assert (C == counts).all() and (Y == (counts > 0)).all()
    assert (build_labels(sources, Q, k) == Y).all()


def test_labels_depend_on_k():
    """Trap 10."""
    _, sources, Q = corpus()
    sizes = [build_labels(sources, Q, k).sum() for k in (1, 10, 50)]
    assert sizes[0] == 50 and sizes[0] < sizes[1] < sizes[2]


def test_sources_by_name(need):
    faiss = need("faiss")
    x, sources, Q = corpus()
    index = faiss.IndexFlatIP(10)
    index.add(x[101:])
    mixed = {"s0": x[:3], "s1": sources[1], "s2": x[100:101].astype("f8"), "s3": index}
    assert (build_labels(mixed, Q, 10) == build_labels(sources, Q, 10)).all()
    assert (build_labels(mixed, {"": Q}, 10, progress=True) == build_labels(sources, Q, 10)).all()


def test_scores_that_mean_different_things_are_refused():
    _, sources, Q = corpus()
    other = VectorSource(np.ones((4, 10), "f4"), name="o", metric="l2")
    with pytest.raises(ValueError, match="scores of 's0' and 'o' cannot be merged, metric is 'ip' and 'l2'"):
        build_labels([*sources, other], Q, 3)
    other = VectorSource(np.ones((4, 10), "f4"), name="o", encoder="bert")
    with pytest.raises(ValueError, match="encoder is '' and 'bert'"):
        build_labels([*sources, other], {"": Q, "bert": Q}, 3)


def test_bad_input():
    x, sources, Q = corpus()
    with pytest.raises(ValueError, match="sources: expected unique names, got 's0' more than once"):
        build_labels([sources[0], sources[0]], Q, 1)
    with pytest.raises(ValueError, match="sources: expected at least one"):
        build_labels([], Q, 1)
    with pytest.raises(TypeError, match=r"sources\[0\]: expected search\(Q, k\) and describe\(\), got ndarray"):
        searchables([x])
    renamed = searchables({"a": sources[0]})[0]  # the key is the name
    assert renamed.name == renamed.describe().name == "a" and renamed.sample(3).shape == (3, x.shape[1])
    np.testing.assert_array_equal(renamed.search(Q, 2)[1], sources[0].search(Q, 2)[1])
    with pytest.raises(ValueError, match="k: expected at least 1"):
        build_labels(sources, Q, 0)
    with pytest.raises(ValueError, match="Q: expected"):
        build_labels(sources, Q[:, :4], 3)
    assert build_labels(sources, Q[:0], 3).shape == (0, 4)
