"""Fusion of results whose scores mean different things."""

from __future__ import annotations

import numpy as np
import pytest

from collegium.rag.fusion import fuse

IDS = np.array([[[10, 11, 12]], [[20, 21, 22]], [[30, 31, -1]]])
SCORES = np.array([[[9.0, 8.0, 1.0]], [[0.5, 0.4, 0.3]], [[100.0, 50.0, 0.0]]], "f4")


def hits(got, b=0):
    return [i for i in got.ids[b].tolist() if i >= 0]


def test_rrf_over_disjoint_sources_is_round_robin():
    """Trap 18: with equal weights the result interleaves, with a router's the likelier source leads."""
    got = fuse(IDS, k=9)
    assert hits(got) == [10, 20, 30, 11, 21, 31, 12, 22] and got.source[0, -1] == -1
    assert got.D[0, :4].tolist() == pytest.approx([1 / 61] * 3 + [1 / 62]) and got.counts.tolist() == [[3, 3, 2]]
    likely = fuse(IDS, weights=[0.1, 0.2, 0.9], k=9)
    assert hits(likely) == [30, 31, 20, 21, 22, 10, 11, 12]
    assert likely.D[0, 2] == pytest.approx(0.2 / 61)


def test_interleaving_takes_turns_and_the_likelier_source_begins():
    assert hits(fuse(IDS, method="interleave", weights=[0.1, 0.2, 0.9], k=9)) == [30, 20, 10, 31, 21, 11, 22, 12]
    assert hits(fuse(IDS, method="interleave", k=4)) == [10, 20, 30, 11]


def test_every_query_has_weights_of_its_own():
    two = np.tile(IDS, (1, 2, 1))
    got = fuse(two, weights=[[1, 0, 0], [0, 1, 0]], k=3)
    assert hits(got, 0) == [10, 11, 12] and hits(got, 1) == [20, 21, 22]


def test_minmax():
    got = fuse(IDS, SCORES, method="minmax", weights=[1, 1, 0.5], k=9)
    want = {10: 1, 11: 7 / 8, 12: 0, 20: 1, 21: 0.5, 22: 0, 30: 0.5, 31: 0}
    assert hits(got) == [10, 20, 11, 21, 30, 12, 22, 31]
    assert got.D[0, :8].tolist() == pytest.approx([want[i] for i in hits(got)], abs=1e-6)
    down = fuse(IDS, -SCORES, method="minmax", weights=[1, 1, 0.5], k=9, larger_is_better=False)
    assert hits(down) == hits(got)
    mixed = SCORES * np.array([1, -1, 1], "f4")[:, None, None]
    assert hits(fuse(IDS, mixed, method="minmax", weights=[1, 1, 0.5], k=9, larger_is_better=[1, 0, 1])) == hits(got)
    single = fuse([[[1]], [[2]]], [[[5.0]], [[7.0]]], method="minmax", weights=[0.2, 0.4])
    assert single.D[0, 0] == np.float32(0.4) and hits(single) == [2]


def test_cori():
    got = fuse(IDS, SCORES, method="cori", source_scores=[0.4, 0.6, 0.5], k=9)
    c = {1: 0.0, 2: 1.0, 3: 0.5}
    d = {10: 1, 11: 7 / 8, 12: 0, 20: 1, 21: 0.5, 22: 0, 30: 1, 31: 0}
    want = {i: (d[i] + 0.4 * d[i] * c[i // 10]) / 1.4 for i in d}
    assert hits(got) == sorted(want, key=lambda i: (-round(want[i], 6), i))
    assert got.D[0, :8].tolist() == pytest.approx([want[i] for i in hits(got)], abs=1e-6)
    assert (fuse(IDS, SCORES, method="cori", weights=[0.4, 0.6, 0.5], k=9).D == got.D).all()


def test_scores_that_are_missing_or_infinite():
    D = [np.array([[np.nan, 3.0, 2.0]], "f4"), np.array([[np.inf, 1.0]], "f4")]
    got = fuse([[[1, 2, 3]], [[4, 5]]], D, method="rrf", k=5)
    assert hits(got) == [2, 4, 3, 5], "the rank counts those that are there"
    got = fuse([[[1, 2, 3]], [[4, 5]]], D, method="minmax", k=5)
    assert sorted(hits(got)) == [2, 3, 4, 5] and np.isfinite(got.D[0, :4]).all()
    nothing = fuse([[[-1]], [[-1]]], [[[0.0]], [[0.0]]], method="minmax")
    assert nothing.ids.tolist() == [[-1]] and nothing.counts.tolist() == [[0, 0]]


def test_bad_input():
    for kind, text, options in (
        (
            ValueError,
            "method: expected one of 'rrf', .*, got 'oracle'",
            {"method": "oracle"},
        ),
        (ValueError, "D: expected scores for method 'minmax', got None", {"method": "minmax"}),
        (ValueError, r"weights: expected shape \(3,\) or \(1, 3\), got \(2,\)", {"weights": [1, 2]}),
        (ValueError, "weights: expected at least 0, got -1", {"weights": [1, -1, 0]}),
        (ValueError, "weights: expected finite", {"weights": [1, np.nan, 0]}),
        (ValueError, "k: expected at least 0", {"k": -1}),
        (ValueError, r"source_scores: expected shape", {"D": SCORES, "method": "cori", "source_scores": [1]}),
    ):
        with pytest.raises(kind, match=text):
            fuse(IDS, **options)
