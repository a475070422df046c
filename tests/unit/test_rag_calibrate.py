"""Calibration: the replay against a cache run for real, the choice, units."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from rag_model import ModelCache

from collegium.rag import batch, calibrate, measure

rng = np.random.default_rng(2)
DOCS = rng.normal(size=(300, 8)).astype(np.float32)
CENTRE = rng.normal(size=(15, 8))
Q = (CENTRE[rng.integers(15, size=200)] + 0.3 * rng.normal(size=(200, 8)) * rng.random((200, 1))).astype(np.float32)


def search(X, k):
    return np.stack([np.argsort(((DOCS - q) ** 2).sum(1), kind="stable")[:k] for q in X])


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("capacity", [None, 7])
def test_the_replay_is_what_a_cache_does(metric, capacity):
    grid = [0.1, 0.3, 0.6] if metric == "l2" else [0.002, 0.02, 0.08]
    report = calibrate.calibrate_tolerance(Q, search, 5, metric=metric, tolerances=grid, capacity=capacity)
    assert report.tolerances.tolist() == [0.0, *grid]
    for t, hit_rate, recall, of_hits in zip(report.tolerances, report.hit_rate, report.recall, report.recall_hits):
        cache = ModelCache(8, capacity or 300, tolerance=t, metric=metric)
        m = measure.evaluate(cache, Q, search(Q, 5), k=5)
        assert (m.hit_rate, m.recall) == (pytest.approx(hit_rate), pytest.approx(recall))
        assert m.recall_hits == pytest.approx(of_hits, nan_ok=True)


def test_it_chooses_the_largest_tolerance_that_is_good_enough():
    report = calibrate.calibrate_tolerance(Q, search, 5, 0.8)
    good = np.nan_to_num(report.recall_hits, nan=1.0) >= 0.8
    i = report.tolerances.tolist().index(report.tolerance)
    assert good[: i + 1].all() and not good[i + 1] and 0 < report.tolerance == float(report)
    looser = calibrate.calibrate_tolerance(Q, search, 5, 0.8, over="all")
    assert looser.tolerance >= report.tolerance
    assert calibrate.calibrate_tolerance(Q, search, 5, 0.0).tolerance == report.tolerances[-1]
    assert calibrate.calibrate_tolerance(Q, lambda X, k: rng.integers(10**9, size=(len(X), k)), 5).tolerance == 0
    shown = str(report)
    assert sum(line.startswith(">") for line in shown.splitlines()) == 1 and "recall@5" in shown


def test_units_t5_the_same_tolerance_everywhere():
    unit = Q / np.linalg.norm(Q, axis=1, keepdims=True)
    by_l2 = calibrate.calibrate_tolerance(unit, search, 5, tolerances=[calibrate.tolerance_from_cosine(0.98)])
    by_cos = calibrate.calibrate_tolerance(
        unit, search, 5, metric="cosine", tolerances=[calibrate.tolerance_from_cosine(0.98, "cosine")]
    )
    np.testing.assert_allclose(by_l2.hit_rate, by_cos.hit_rate)
    cache = ModelCache(8, tolerance=calibrate.tolerance_from_cosine(0.98))
    hits = batch.get_or_retrieve_batch(cache, unit, 5, search, mode="sequential").hit_mask
    assert hits.mean() == pytest.approx(by_l2.hit_rate[-1])
    assert calibrate.tolerance_from_cosine(1.0) == 0 and calibrate.tolerance_from_cosine(-1.0) == 2
    assert calibrate.tolerance_from_cosine(0.05) == pytest.approx(np.sqrt(1.9))  # a similarity, not a distance


def test_zero_vectors_never_match_by_cosine():
    Z = np.zeros((4, 8), np.float32)
    report = calibrate.calibrate_tolerance(Z, search, 5, metric="cosine", tolerances=[2.0])
    assert (report.hit_rate == 0).all()


def test_frame(need):
    pandas = need("pandas")
    frame = calibrate.calibrate_tolerance(Q, search, 5, tolerances=[0.1]).frame()
    assert isinstance(frame, pandas.DataFrame) and list(frame) == ["tolerance", "hit_rate", "recall", "recall_hits"]


def test_bad_arguments():
    for args, named, text in (
        ((Q[:1], search), {}, "Q_sample: expected at least 2"),
        ((Q[0], search), {}, r"Q_sample: expected shape \(rows, dim\)"),
        ((np.full((3, 2), np.nan), search), {}, "Q_sample: expected finite"),
        ((Q, search, 0), {}, "k: expected at least 1"),
        ((Q, search, 5, 1.5), {}, "min_recall: expected at most 1"),
        ((Q, search), {"metric": "ip"}, "metric: expected one of 'l2', 'cosine'"),
        ((Q, search), {"tolerances": [-1]}, "tolerances: expected"),
        ((Q, search), {"capacity": 0}, "capacity: expected at least 1"),
        ((Q, lambda X, k: search(X[:3], k)), {}, "retrieve: expected ids of shape"),
    ):
        with pytest.raises(ValueError, match=text):
            calibrate.calibrate_tolerance(*args, **named)
    with pytest.raises(ValueError, match="similarity: expected at most 1"):
        calibrate.tolerance_from_cosine(1.1)
