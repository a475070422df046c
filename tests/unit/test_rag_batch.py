"""Batch modes, the paper's oracle tables through them, warming up, and what evaluate() measures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from rag_model import ModelCache

from collegium.data import workloads
from collegium.rag import batch, flight, measure

rng = np.random.default_rng(1)
DOCS = rng.normal(size=(60, 4)).astype(np.float32)
MODES = pytest.mark.parametrize("mode", batch.MODES)

# (n, capacity): hits for seeds 42 and 43 in snapshot batches of 32, FIFO, a perfect matcher. The whole table
# is checked against the C cache in experiments/proximity.
SNAPSHOT = {(131, 10): [40, 30], (131, 300): [378, 375], (200, 50): [138, 122]}


class Database:
    def __init__(self):
        self.calls = 0

    def __call__(self, Q, m):
        self.calls += len(Q)
        return np.stack([np.argsort(((DOCS - q) ** 2).sum(1), kind="stable")[:m] for q in Q])


def stream(n=80):
    """Questions with near-repeats, within 0.1 of each other; questions are further apart than that."""
    centre = 3 * rng.normal(size=(12, 4))
    return (centre[rng.integers(12, size=n)] + 0.01 * rng.normal(size=(n, 4))).astype(np.float32)


@pytest.mark.parametrize("n, capacity", SNAPSHOT)
def test_t8_snapshot_reproduces_the_harness(n, capacity):
    for seed, wanted in zip((42, 43), SNAPSHOT[n, capacity]):
        question = workloads.variants([""] * n, seed=seed).question
        Q = question[:, None].astype(np.float32)  # a point a question: a perfect matcher
        cache = ModelCache(1, capacity, tolerance=0.1)
        hits = 0
        for i in range(0, len(Q), 32):
            block = Q[i : i + 32]
            r = batch.get_or_retrieve_batch(cache, block, 1, lambda B, m: B.astype(np.int64), mode="snapshot")
            np.testing.assert_array_equal(r.ids, block)
            hits += int(r.hit_mask.sum())
        assert hits == wanted


def test_sequential_equals_a_loop_bit_for_bit():
    Q = stream()
    one, two = ModelCache(4, 8, tolerance=0.1), ModelCache(4, 8, tolerance=0.1)
    a, b = Database(), Database()
    r = batch.get_or_retrieve_batch(one, Q, 3, a, 2, DOCS, mode="sequential")
    loop = np.stack([flight.get_or_retrieve(two, q, 3, lambda q, m: b(q[None], m), 2, DOCS) for q in Q])
    np.testing.assert_array_equal(r.ids, loop)
    assert a.calls == b.calls == r.calls == int((~r.hit_mask).sum()) and one.counters == two.counters


@pytest.mark.parametrize("capacity", [4, 300])
@pytest.mark.parametrize("size", [1, 7, 32, 80])
def test_coalesce_makes_no_more_calls_than_sequential(capacity, size):
    Q, calls, served = stream(), {}, {}
    for mode in batch.MODES:
        cache, ask = ModelCache(4, capacity, tolerance=0.1), Database()
        blocks = [batch.get_or_retrieve_batch(cache, Q[i : i + size], 3, ask, mode=mode) for i in range(0, 80, size)]
        calls[mode] = ask.calls
        served[mode] = np.concatenate([b.ids for b in blocks])
        assert sum(b.calls for b in blocks) == ask.calls
    assert calls["coalesce"] <= calls["sequential"] <= calls["snapshot"]
    assert size == 1 or calls["coalesce"] < calls["snapshot"]
    if capacity == 300:
        np.testing.assert_array_equal(served["coalesce"], served["sequential"])


def test_coalesced_rows_are_reranked_for_themselves():
    Q = np.array([[0, 0, 0, 0], [0.5, 0, 0, 0]], np.float32)
    cache, ask = ModelCache(4, tolerance=1.0), Database()
    r = batch.get_or_retrieve_batch(cache, Q, 3, ask, 4, DOCS)
    assert r.calls == 1 and r.hit_mask.tolist() == [False, True] and cache.counters["coalesced"] == 1
    candidates = ask(Q[:1], 12)[0]
    np.testing.assert_array_equal(r.ids[1], candidates[np.argsort(((DOCS[candidates] - Q[1]) ** 2).sum(1))[:3]])
    np.testing.assert_allclose(r.distances[1], np.linalg.norm(DOCS[r.ids[1]] - Q[1], axis=1), rtol=1e-5)
    assert r.key_distance[1] == 0.5


@MODES
def test_empty_batches_and_wrong_results(mode):
    cache = ModelCache(4, tolerance=0.1)
    r = batch.get_or_retrieve_batch(cache, np.empty((0, 4), np.float32), 3, lambda Q, m: 1 / 0, mode=mode)
    assert r.ids.shape == (0, 3) and r.hit_mask.shape == (0,) and r.calls == 0
    for bad in (np.zeros(3, np.int64), np.zeros((3, 3), np.int64), np.zeros((2, 4), np.int64)):
        with pytest.raises(ValueError, match="retrieve: expected"):
            batch.get_or_retrieve_batch(cache, DOCS[:2], 3, lambda Q, m, bad=bad: bad, mode=mode)
    with pytest.raises(TypeError, match="integer ids"):
        batch.get_or_retrieve_batch(cache, DOCS[:1], 3, lambda Q, m: np.zeros((1, 3)), mode=mode)
    assert len(cache) == 0
    with pytest.raises(ValueError, match="mode: expected one of 'sequential'"):
        batch.get_or_retrieve_batch(cache, DOCS, 3, Database(), mode="loop")


@MODES
def test_a_failing_database_stores_nothing(mode):
    cache = ModelCache(4, tolerance=0.1)
    with pytest.raises(ZeroDivisionError):
        batch.get_or_retrieve_batch(cache, DOCS[:5], 3, lambda Q, m: 1 / 0, mode=mode)
    assert len(cache) == 0 and len(batch.get_or_retrieve_batch(cache, DOCS[:5], 3, Database(), mode=mode).ids) == 5


@MODES
def test_fewer_documents_than_asked_for_are_padded(mode):
    cache = ModelCache(4, tolerance=0.1)
    for _ in range(2):
        r = batch.get_or_retrieve_batch(cache, DOCS[:1], 3, lambda Q, m: np.array([[7, -1, -1]]), mode=mode)
        assert r.ids.tolist() == [[7, -1, -1]]
    assert r.hit_mask.all()


def test_warm_takes_one_entry_for_near_repeats():
    cache, ask, Q = ModelCache(4, tolerance=0.1), Database(), stream()
    asked = batch.warm(cache, Q, ask, k=3, rerank_factor=2, batch=16)
    assert asked == len(cache) == ask.calls <= 12
    assert batch.get_or_retrieve_batch(cache, Q, 3, ask, 2, DOCS).hit_mask.all()


def test_evaluate_sees_wrong_questions():
    questions = np.array([0, 0, 1, 1, 2])
    Q = np.array([[0.0], [0.1], [1.0], [1.05], [9.0]], np.float32)
    truth = np.array([[0, 1], [0, 1], [1, 2], [1, 2], [8, 9]])
    m = measure.evaluate(ModelCache(1, tolerance=0.2), Q, truth, questions, k=2)
    assert (m.hit_rate, m.same_question, m.recall, m.calls, m.ceiling) == (0.4, 1.0, 1.0, 3, pytest.approx(0.4))
    m = measure.evaluate(ModelCache(1, tolerance=2.0), Q, truth, questions, k=2)
    assert (m.hit_rate, m.same_question, m.recall, m.recall_hits) == (
        0.6,
        pytest.approx(1 / 3),
        0.8,
        pytest.approx(2 / 3),
    )
    for mode in ("snapshot", "coalesce"):
        m = measure.evaluate(ModelCache(1, tolerance=2.0), Q, truth, questions, k=2, mode=mode, size=5)
        assert m.recall == (1.0 if mode == "snapshot" else 0.8) and np.isnan(m.same_question)
    with pytest.raises(ValueError, match=r"truth: expected shape \(5, >= 4\)"):
        measure.evaluate(ModelCache(1), Q, truth, k=2, rerank_factor=2, vectors=Q)
    with pytest.raises(ValueError, match=r"questions: expected shape \(5,\)"):
        measure.evaluate(ModelCache(1), Q, truth, questions[:2], k=2)


def test_t17_a_report_refuses_vanity():
    with pytest.raises(ValueError, match="expected a column 'recall'"):
        measure.Report([{"hit_rate": 0.5}])
    with pytest.raises(ValueError, match=r"'same_question' beside a hit rate of 93.0%, .* ceiling of 75.0%"):
        measure.Report([{"tolerance": 5.0, "hit_rate": 0.93, "recall": 0.5}], ceiling=0.75)
    with pytest.raises(ValueError, match="same_question"):  # a column without a number is none
        measure.Report([{"hit_rate": 0.93, "recall": 0.5, "same_question": float("nan"), "ceiling": 0.75}])
    shown = str(
        measure.Report([{"tolerance": 5.0, "hit_rate": 0.93, "recall": 0.5, "same_question": 0.4}], ceiling=0.75)
    )
    assert "same_question" in shown and "0.93" in shown
    questions = np.repeat(np.arange(25), 4)
    m = measure.evaluate(ModelCache(1, tolerance=1e9), questions[:, None], questions[:, None], questions, k=1)
    assert m.hit_rate > m.ceiling and "same_question" in str(measure.Report([m]))
