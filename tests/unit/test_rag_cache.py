"""The layers above on the C cache itself: everywhere the answers of the plain Python model."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from rag_model import ModelCache

import collegium
from collegium import rag

DIM, K = 12, 4
rng = np.random.default_rng(3)
DOCS = rng.normal(size=(250, DIM)).astype(np.float32)
CENTRE = rng.normal(size=(25, DIM))
# Near-repeats at distances around 0.35, half of them beyond 0.3.
Q = (CENTRE[rng.integers(25, size=300)] + 0.1 * rng.normal(size=(300, DIM)) * rng.random((300, 1))).astype(np.float32)


def database(X, m):
    return np.stack([np.argsort(((DOCS - q) ** 2).sum(1), kind="stable")[:m] for q in X])


def both(capacity=10, tolerance=0.3, metric="l2"):
    return (
        ModelCache(DIM, capacity, tolerance, metric),
        rag.ProximityCache(DIM, capacity, tolerance=tolerance, metric=metric),
    )


@pytest.mark.parametrize("mode", ["sequential", "snapshot", "coalesce"])
@pytest.mark.parametrize("rho", [1, 3])
@pytest.mark.parametrize("metric, tolerance", [("l2", 0.3), ("cosine", 0.005)])
def test_batches(isa, mode, rho, metric, tolerance):
    answers = []
    for cache in both(tolerance=tolerance, metric=metric):
        rows = [
            rag.get_or_retrieve_batch(cache, Q[i : i + 50], K, database, rho, DOCS if rho > 1 else None, mode=mode)
            for i in range(0, 300, 50)
        ]
        answers.append([np.concatenate(a) for a in list(zip(*rows))[:-1]])
    for model, real in zip(*answers):
        np.testing.assert_allclose(real, model, rtol=1e-4, atol=1e-6)
    assert 0.1 < answers[0][2].mean() < 0.9


def test_inner_product_is_a_similarity():
    cache = rag.ProximityCache(DIM, 10, metric="ip", min_similarity=5.0)
    X = np.concatenate([3 * CENTRE, 3 * CENTRE[::-1]]).astype(np.float32)
    calls = []
    for q in X:
        cache.get_or_retrieve(q, K, lambda q, m: calls.append(1) or database(q[None], m))
    assert 0 < len(calls) < len(X)
    r = rag.get_or_retrieve_batch(
        rag.ProximityCache(DIM, 10, metric="ip", min_similarity=5.0), X[[0, 0, 1]], K, database
    )
    assert r.calls <= 2 and r.key_distance[1] == pytest.approx(-float(X[0] @ X[0]), rel=1e-5)


def test_index_and_measurements():
    class Index:
        d = DIM

        def search(self, x, k):
            ids = database(x, k)
            return np.stack([((DOCS[i] - q) ** 2).sum(1) for i, q in zip(ids, x)]), ids

    measured, searched = [], []
    for cache in both(40):
        cached = rag.CachedIndex(Index(), cache, rerank_factor=3, vectors=DOCS, exact=True)
        parts = [cached.search(Q[i : i + 1], K) for i in range(300)]
        searched.append([np.concatenate(a) for a in zip(*((*p, p.hit_mask, p.certified) for p in parts))])
    for model, real in zip(*searched):
        np.testing.assert_allclose(real, model, rtol=1e-4, atol=1e-5)
    truth = database(Q, K)
    exact = np.array([(i == t).all() for i, t in zip(searched[1][1], truth)])
    certified = searched[1][3]
    assert certified.any() and exact[certified].all() and certified.sum() < searched[1][2].sum()
    questions = rng.integers(3, size=300)
    for cache in both(40):
        measured.append(rag.evaluate(cache, Q, truth, questions, k=K))
    assert measured[0] == measured[1] and 0 < measured[0].same_question < 1


@pytest.mark.parametrize("mode", ["global", "per_entry"])
def test_learned_tolerances_learn_the_same(mode):
    learned = [rag.GuaranteedTolerance(0.2, audit_rate=0.2, mode=mode, seed=2, pilot=16) for _ in range(2)]
    model, real = ModelCache(DIM, 60, learned[0]), rag.ProximityCache(DIM, 60, tolerance=learned[1])
    X = np.concatenate([Q] * 4)
    a, b = (rag.get_or_retrieve_batch(c, X, K, database) for c in (model, real))
    np.testing.assert_array_equal(a.ids, b.ids)
    np.testing.assert_array_equal(a.hit_mask, b.hit_mask)
    assert a.hit_mask.any() and real.stats()["audited"] == learned[1].report().audited > 0
    assert learned[0].report().recall_lcb == learned[1].report().recall_lcb
    # A plain lookup serves what has been learned so far.
    near = real.nearest(Q[0])
    limit = learned[1].threshold(real, Q[0])
    assert (real.lookup(Q[0], K) is not None) == (near[0] <= limit)


def test_t15_through_the_methods():
    for wait in ("threads", "asyncio"):
        cache, calls = rag.ProximityCache(DIM, 10, tolerance=0.1), []

        def ask(q, m, calls=calls):
            calls.append(1)
            time.sleep(0.05)
            return database(q[None], m)

        if wait == "threads":
            with ThreadPoolExecutor(50) as pool:
                futures = [pool.submit(cache.get_or_retrieve, Q[0], K, ask) for _ in range(50)]
                got = [f.result(20) for f in futures]
        else:

            async def main(cache=cache, ask=ask):
                return await asyncio.gather(*(cache.aget_or_retrieve(Q[0], K, ask) for _ in range(50)))

            got = asyncio.run(main())
        assert len(calls) == 1 and all((g == database(Q[:1], K)[0]).all() for g in got)
        stats = cache.stats()
        assert stats.get("coalesced", 0) + stats["hits"] == 49


def test_a_cache_cleared_while_the_database_is_asked_stays_empty():
    cache = rag.ProximityCache(DIM, 10, tolerance=0.1)
    inside, go = threading.Event(), threading.Event()

    def ask(q, m):
        inside.set()
        assert go.wait(10)
        return database(q[None], m)

    worker = threading.Thread(target=cache.get_or_retrieve, args=(Q[0], K, ask))
    worker.start()
    assert inside.wait(10)
    cache.bump_generation()
    go.set()
    worker.join(10)
    assert not worker.is_alive() and len(cache) == 0


def test_nan_bypasses_the_cache_where_allowed():
    bad = np.full(DIM, np.nan, np.float32)
    calls = []
    cache = rag.ProximityCache(DIM, 10, tolerance=0.1, on_nan="miss")
    for _ in range(2):
        cache.get_or_retrieve(bad, K, lambda q, m: calls.append(1) or [1, 2])
    assert len(calls) == 2 and len(cache) == 0
    with pytest.raises(ValueError, match="NaN"):
        rag.ProximityCache(DIM, 10, tolerance=0.1).get_or_retrieve(bad, K, lambda q, m: [1])


def test_a_zero_vector_never_matches_by_cosine():
    calls = []
    cache = rag.ProximityCache(DIM, 10, tolerance=2.0, metric="cosine")
    for _ in range(2):
        cache.get_or_retrieve(np.zeros(DIM, np.float32), K, lambda q, m: calls.append(1) or [1])
    r = rag.get_or_retrieve_batch(cache, np.zeros((3, DIM), np.float32), K, lambda X, m: np.ones((len(X), m), int))
    assert len(calls) == 2 and r.calls == 3


def test_empty_results_only_where_wanted():
    for keep, calls_wanted in ((False, 2), (True, 1)):
        calls = []
        cache = rag.ProximityCache(DIM, 10, tolerance=0.1, cache_empty=keep)
        for _ in range(2):
            got = cache.get_or_retrieve(Q[0], K, lambda q, m, calls=calls: calls.append(1) or [-1, -1])
            assert got.shape == (0,)
        assert len(calls) == calls_wanted


def test_public_names():
    for name in rag.__all__:
        assert getattr(rag, name).__doc__, name
    assert collegium.rag is rag
    with pytest.raises(AttributeError):
        _ = rag.nothing


@contextmanager
def under_way(cache):
    """A retrieval for Q[0] that the database answers, with 0 ... K - 1, only when the function given here is called."""
    asked, go = threading.Event(), threading.Event()

    def slow(q, m):
        asked.set()
        assert go.wait(10)
        return np.arange(m)

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(cache.get_or_retrieve, Q[0], K, slow)
        assert asked.wait(10)
        try:
            yield lambda: (go.set(), answer.result(10))[1]
        finally:
            go.set()


def test_documents_removed_while_the_database_is_asked_are_not_stored():
    cache = rag.ProximityCache(DIM, 10, tolerance=0.3)
    with under_way(cache) as land:
        assert cache.remove_ids([2]) == 0  # nothing there yet, but it is on its way
        # A query that comes now does not share the call that may bring it.
        fresh = cache.get_or_retrieve(Q[0], K, lambda q, m: 100 + np.arange(m))
        land()
    assert fresh[0] == 100 and not any(2 in e.ids for e in cache.entries())


def test_hits_and_misses_add_up_under_a_learned_tolerance():
    cache = rag.ProximityCache(DIM, 50, tolerance=rag.GuaranteedTolerance(0.2, audit_rate=0.2, grid=[0.1, 0.3]))
    calls = []
    for q in np.concatenate([Q, Q, Q, Q]):
        cache.get_or_retrieve(q, K, lambda q, m: calls.append(1) or database(q[None], m)[0])
    stats = cache.stats()
    assert stats["hits"] + stats["misses"] == 4 * len(Q) and stats["misses"] == len(calls) and stats["hits"] > 0
    assert stats["audited"] > 0 and 0 < stats["recall_lcb"] <= 1


def test_an_entry_inserted_by_hand_starts_afresh():
    learned = rag.GuaranteedTolerance(0.1, mode="per_entry")
    cache = rag.ProximityCache(DIM, 1, tolerance=learned)
    slot = cache.insert(Q[0], [1, 2])
    for _ in range(8):
        learned.observe(0.01, 0.0, slot=slot, uniform=False, served=False)
    assert learned._entries[slot]
    cache.insert(Q[100], [3, 4])
    assert slot not in learned._entries


def test_a_tolerance_for_another_metric_is_refused():
    with pytest.raises(ValueError, match="GuaranteedTolerance is for metric 'l2' or 'cosine', got 'ip'"):
        rag.ProximityCache(DIM, 10, metric="ip", tolerance=rag.GuaranteedTolerance())
    cache = rag.ProximityCache(DIM, 10, metric="ip", min_similarity=1.0)
    with pytest.raises(ValueError, match="tolerance"):
        cache.tolerance = rag.GuaranteedTolerance()


def test_distances_out_of_order_are_refused():
    cache = rag.ProximityCache(DIM, 10, tolerance=0.3)
    with pytest.raises(ValueError, match="distances: expected ascending"):
        cache.insert(Q[0], [1, 2], distances=[0.5, 0.2])
    assert len(cache) == 0


CHANGES = {
    "clear": lambda c: c.clear(),
    "bump_generation": lambda c: c.bump_generation(),
    "remove_ids": lambda c: c.remove_ids([0]),
    "stale_after_add": lambda c: c.stale_after_add(np.zeros((1, DIM), np.float32)),
    "invalidate": lambda c: c.invalidate(0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_under_way_when_entries_go_out_of_date_is_neither_shared_nor_stored(change):
    cache = rag.ProximityCache(DIM, 10, tolerance=0.3)
    with under_way(cache) as land:
        CHANGES[change](cache)
        assert cache.get_or_retrieve(Q[0], K, lambda q, m: 100 + np.arange(m))[0] == 100
        assert land()[0] == 0  # its caller asked before
    assert [e.ids[0] for e in cache.entries()] == [100]


def test_a_removal_between_the_check_and_the_insertion_waits():
    class Slow(rag.ProximityCache):
        def insert(self, *args, **named):
            remover.start()
            time.sleep(0.05)
            return super().insert(*args, **named)

    cache = Slow(DIM, 10, tolerance=0.3)
    remover = threading.Thread(target=lambda: cache.remove_ids([1]))
    cache.get_or_retrieve(Q[0], K, lambda q, m: np.arange(m))
    remover.join(10)
    assert len(cache) == 0


def test_an_entry_that_moves_into_a_slot_during_its_audit_learns_nothing():
    learned = rag.GuaranteedTolerance(0.1, mode="per_entry")
    cache = rag.ProximityCache(DIM, 1, tolerance=learned)
    cache.get_or_retrieve(Q[0], K, lambda q, m: np.arange(m))

    def replaced(q, m):
        cache.insert(Q[100], [7, 8])
        return np.arange(m)

    cache.get_or_retrieve(Q[0], K, replaced)
    assert not any(learned._entries.values())


def test_a_query_that_looks_twice_counts_once():
    cache = rag.ProximityCache(DIM, 10, tolerance=0.3)
    barrier = threading.Barrier(8)

    def work(i):
        barrier.wait()
        for q in Q[:40]:
            cache.get_or_retrieve(q, K, lambda q, m: (time.sleep(0.001), database(q[None], m)[0])[1])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    stats = cache.stats()
    assert stats["hits"] + stats["misses"] == 320 and stats["audited"] == 0 and stats["coalesced"] >= 0
