"""get_or_retrieve: hits, misses, sharing of calls under threads and asyncio, failures, callbacks that misbehave."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from rag_model import ModelCache

from collegium.rag import flight

DOCS = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
Q = np.array([1, 0, 0, 0], np.float32)


def database(q, m):
    return np.argsort(((DOCS - q) ** 2).sum(1), kind="stable")[:m]


class Counted:
    """A database that counts its calls; `fail` first ones raise; each takes `seconds`."""

    def __init__(self, seconds=0.0, fail=0):
        self.calls, self.seconds, self.fail = 0, seconds, fail
        self.lock = threading.Lock()

    def __call__(self, q, m):
        with self.lock:
            self.calls += 1
            call = self.calls
        time.sleep(self.seconds)
        if call <= self.fail:
            raise ConnectionError(f"call {call}")
        return database(q, m)


def threads(n, work):
    """Results or exceptions of n threads that start together; fails rather than hangs."""
    gate = threading.Barrier(n)

    def run(i):
        gate.wait()
        try:
            return work(i)
        except Exception as e:
            return e

    pool = ThreadPoolExecutor(n)
    try:
        return [f.result(timeout=20) for f in [pool.submit(run, i) for i in range(n)]]
    finally:
        pool.shutdown(wait=False)


def test_a_miss_asks_and_a_hit_does_not():
    cache, ask = ModelCache(4, tolerance=0.1), Counted()
    first = flight.get_or_retrieve(cache, Q, 5, ask)
    again = flight.get_or_retrieve(cache, Q + np.float32(0.01), 5, ask)
    assert ask.calls == 1 and first.dtype == np.int64
    np.testing.assert_array_equal(first, database(Q, 5))
    np.testing.assert_array_equal(again, first)
    flight.get_or_retrieve(cache, -Q, 5, ask)
    assert ask.calls == 2


def test_more_than_stored_is_a_miss_and_fewer_is_a_prefix():
    cache, ask = ModelCache(4, tolerance=0.1), Counted()
    flight.get_or_retrieve(cache, Q, 5, ask)
    np.testing.assert_array_equal(flight.get_or_retrieve(cache, Q, 3, ask), database(Q, 3))
    assert ask.calls == 1
    assert len(flight.get_or_retrieve(cache, Q, 8, ask)) == 8 and ask.calls == 2


def test_namespaces_do_not_meet():
    cache, ask = ModelCache(4, tolerance=0.1), Counted()
    for namespace in ("a", "b", "a", ("b", 1)):
        flight.get_or_retrieve(cache, Q, 5, ask, namespace=namespace)
    assert ask.calls == 3


def test_reranked_hits_are_ranked_for_the_new_query():
    cache, ask = ModelCache(4, tolerance=1.0), Counted()
    flight.get_or_retrieve(cache, Q, 2, ask, rerank_factor=4, vectors=DOCS)
    new = Q + np.array([0, 0.5, 0, 0], np.float32)
    got = flight.get_or_retrieve(cache, new, 2, ask, rerank_factor=4, vectors=lambda ids: DOCS[ids])
    candidates = database(Q, 8)
    wanted = candidates[np.argsort(((DOCS[candidates] - new) ** 2).sum(1))[:2]]
    assert ask.calls == 1
    np.testing.assert_array_equal(got, wanted)


# ---- T15: one call for many ----


@pytest.mark.parametrize("spread", [0.0, 1e-3])
def test_fifty_threads_make_one_call(spread):
    cache, ask = ModelCache(4, tolerance=0.1), Counted(0.05)
    got = threads(50, lambda i: flight.get_or_retrieve(cache, Q + np.float32(spread * i / 50), 5, ask))
    assert ask.calls == 1
    for ids in got:
        np.testing.assert_array_equal(ids, got[0])
    assert cache.counters["coalesced"] + cache.counters["hits"] == 49 and len(cache) == 1


def test_far_queries_do_not_wait_for_each_other():
    cache, ask = ModelCache(4, tolerance=0.1), Counted(0.05)
    threads(4, lambda i: flight.get_or_retrieve(cache, Q * (1 + i), 5, ask))
    assert ask.calls == 4


def test_after_a_failed_leader_exactly_one_retries():
    cache, ask = ModelCache(4, tolerance=0.1), Counted(0.05, fail=1)
    got = threads(50, lambda i: flight.get_or_retrieve(cache, Q, 5, ask))
    assert ask.calls == 2
    assert sum(isinstance(g, ConnectionError) for g in got) == 1
    assert sum(isinstance(g, np.ndarray) for g in got) == 49


def test_a_database_that_is_down_is_not_asked_by_everybody_in_turn():
    cache, ask = ModelCache(4, tolerance=0.1), Counted(0.05, fail=99)
    got = threads(20, lambda i: flight.get_or_retrieve(cache, Q, 5, ask))
    assert ask.calls == 2 and all(isinstance(g, ConnectionError) for g in got)
    assert len(cache) == 0 and not flight.flights(cache).flying
    ask.fail = 0
    assert len(flight.get_or_retrieve(cache, Q, 5, ask)) == 5


def test_asyncio_shares_calls_too():
    cache, calls = ModelCache(4, tolerance=0.1), []

    async def ask(q, m):
        calls.append(1)
        await asyncio.sleep(0.05)
        return database(q, m)

    async def main():
        return await asyncio.gather(*(flight.aget_or_retrieve(cache, Q, 5, ask) for _ in range(50)))

    got = asyncio.run(main())
    assert len(calls) == 1 and all((g == database(Q, 5)).all() for g in got)


def test_a_plain_function_does_not_block_the_loop():
    cache, ask = ModelCache(4, tolerance=0.1), Counted(0.2)

    async def main():
        work = asyncio.create_task(flight.aget_or_retrieve(cache, Q, 5, ask))
        await asyncio.sleep(0.02)
        assert not work.done()
        return await work

    assert len(asyncio.run(main())) == 5


def test_a_cancelled_leader_hands_over_and_a_cancelled_follower_does_no_harm():
    cache, calls = ModelCache(4, tolerance=0.1), []

    async def ask(q, m):
        calls.append(1)
        await asyncio.sleep(0.05)
        return database(q, m)

    async def main(which):
        tasks = [asyncio.create_task(flight.aget_or_retrieve(cache, Q, 5, ask)) for _ in range(5)]
        await asyncio.sleep(0.01)
        tasks[which].cancel()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)

    for which, wanted in ((0, 2), (3, 1)):
        cache.slots.clear()
        calls.clear()
        got = asyncio.run(main(which))
        assert isinstance(got.pop(which), asyncio.CancelledError)
        assert len(calls) == wanted and all((g == database(Q, 5)).all() for g in got)


def test_threads_and_a_loop_share_one_call():
    cache, ask = ModelCache(4, tolerance=0.1), Counted(0.1)

    def work(i):
        if i % 2:
            return flight.get_or_retrieve(cache, Q, 5, ask)
        return asyncio.run(flight.aget_or_retrieve(cache, Q, 5, ask))

    got = threads(8, work)
    assert ask.calls == 1 and all((g == database(Q, 5)).all() for g in got)


def test_a_plain_call_inside_a_coroutine_never_waits_for_its_own_loop():
    cache = ModelCache(4, tolerance=0.1)

    async def ask(q, m):
        await asyncio.sleep(0.05)
        return database(q, m)

    async def main():
        leader = asyncio.create_task(flight.aget_or_retrieve(cache, Q, 5, ask))
        await asyncio.sleep(0.01)
        ids = flight.get_or_retrieve(cache, Q, 5, database)
        return ids, await leader

    ids, other = asyncio.run(asyncio.wait_for(main(), 10))
    np.testing.assert_array_equal(ids, other)


# ---- callbacks ----


def test_a_callback_may_use_the_cache_even_for_the_same_query():
    cache = ModelCache(4, tolerance=0.1)

    def ask(q, m):
        cache.insert(-q, [1], k=1)
        return flight.get_or_retrieve(cache, q, m, database)

    got = threads(4, lambda i: flight.get_or_retrieve(cache, Q, 5, ask))
    assert all((g == database(Q, 5)).all() for g in got)


def test_an_exception_passes_unchanged_and_nothing_is_stored():
    cache, error = ModelCache(4, tolerance=0.1), KeyError("down")

    def ask(q, m):
        raise error

    with pytest.raises(KeyError) as caught:
        flight.get_or_retrieve(cache, Q, 5, ask)
    assert caught.value is error and len(cache) == 0 and not flight.flights(cache).flying


@pytest.mark.parametrize(
    "result, error",
    [
        (np.zeros((2, 5), np.int64), ValueError),
        (np.zeros(6, np.int64), ValueError),
        (np.zeros(5, np.float32), TypeError),
        (np.array(["a"]), TypeError),
        ((1, 2, 3), ValueError),
    ],
)
def test_a_wrong_result_is_an_error_and_not_cached(result, error):
    cache = ModelCache(4, tolerance=0.1)
    with pytest.raises(error, match="retrieve: expected"):
        flight.get_or_retrieve(cache, Q, 5, lambda q, m: result)
    assert len(cache) == 0


@pytest.mark.parametrize("shape", ["row", "matrix", "pair"])
def test_faiss_results_and_missing_documents(shape):
    ids = np.array([7, 3, -1, -1, -1])
    result = {"row": ids, "matrix": ids[None], "pair": (np.zeros((1, 5), np.float32), ids[None])}[shape]
    cache = ModelCache(4, tolerance=0.1)
    np.testing.assert_array_equal(flight.get_or_retrieve(cache, Q, 5, lambda q, m: result), [7, 3])
    # Two documents are all there are: the entry answers k = 5 again.
    np.testing.assert_array_equal(flight.get_or_retrieve(cache, Q, 5, lambda q, m: 1 / 0), [7, 3])


def test_an_empty_result_is_returned_and_not_stored():
    cache = ModelCache(4, tolerance=0.1)
    assert flight.get_or_retrieve(cache, Q, 5, lambda q, m: np.full(5, -1)).shape == (0,) and len(cache) == 0


def test_arrays_of_other_libraries(need):
    cache, ask = ModelCache(4, tolerance=0.1), Counted()

    class Shared:  # DLPack and nothing else
        def __dlpack__(self, **named):
            return Q.__dlpack__(**named)

        def __dlpack_device__(self):
            return Q.__dlpack_device__()

    for q in (Q, Q.astype(np.float64), Q.astype(np.float16), list(Q), Shared(), np.repeat(Q, 2)[::2]):
        flight.get_or_retrieve(cache, q, 5, ask)
    assert ask.calls == 1
    torch = need("torch")
    flight.get_or_retrieve(cache, torch.from_numpy(Q), 5, ask)
    assert ask.calls == 1
    with pytest.raises(TypeError, match="q: expected"):
        flight.get_or_retrieve(cache, torch.from_numpy(Q).requires_grad_(), 5, ask)


def test_bad_arguments():
    cache = ModelCache(4, tolerance=0.1)
    for bad, error, text in (
        ({"q": Q[:3]}, ValueError, r"q: expected shape \(4,\), got \(3,\)"),
        ({"q": Q[None]}, ValueError, r"q: expected shape \(4,\), got \(1, 4\)"),
        ({"q": "text"}, TypeError, "q: expected an array of numbers, got str"),
        ({"k": 0}, ValueError, "k: expected at least 1, got 0"),
        ({"k": 1.5}, TypeError, "k: expected an integer"),
        ({"retrieve": None}, TypeError, "retrieve: expected a function"),
        ({"rerank_factor": 0}, ValueError, "rerank_factor: expected at least 1"),
        ({"rerank_factor": 2}, ValueError, "vectors: expected"),
    ):
        with pytest.raises(error, match=text):
            flight.get_or_retrieve(cache, **{"q": Q, "k": 5, "retrieve": database, **bad})


def test_a_follower_cancelled_as_its_leader_fails_is_cancelled():
    """Both happen before the follower runs again: its own cancellation must not be taken for the leader's failure."""
    cache, calls = ModelCache(4, tolerance=0.1), []

    async def main():
        go = asyncio.Event()

        async def ask(q, m):
            calls.append(1)
            await go.wait()
            raise RuntimeError("down")

        leader = asyncio.create_task(flight.aget_or_retrieve(cache, Q, 5, ask))
        await asyncio.sleep(0.01)
        follower = asyncio.create_task(flight.aget_or_retrieve(cache, Q, 5, ask))
        await asyncio.sleep(0.01)
        leader.add_done_callback(lambda _: follower.cancel())
        go.set()
        return await asyncio.wait_for(asyncio.gather(leader, follower, return_exceptions=True), 10)

    led, followed = asyncio.run(main())
    assert isinstance(led, RuntimeError) and isinstance(followed, asyncio.CancelledError) and len(calls) == 1


def test_a_follower_cancelled_after_its_leader_was_is_cancelled():
    """However few steps of the loop lie between: what it waits for raises a cancellation too."""
    for steps in range(5):
        cache, calls = ModelCache(4, tolerance=0.1), []

        async def main(cache=cache, calls=calls, steps=steps):
            async def ask(q, m):
                calls.append(1)
                await asyncio.sleep(0.05)
                return database(q, m)

            leader, follower = (asyncio.create_task(flight.aget_or_retrieve(cache, Q, 5, ask)) for _ in range(2))
            await asyncio.sleep(0.01)
            leader.cancel()
            for _ in range(steps):
                await asyncio.sleep(0)
            follower.cancel()
            await asyncio.wait([leader, follower], timeout=10)
            return leader.cancelled(), follower.cancelled()

        assert asyncio.run(main()) == (True, True), steps


def test_stop_iteration_hangs_nobody():
    cache = ModelCache(4, tolerance=0.1)

    def empty(q, m):
        return next(iter([]))

    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(asyncio.wait_for(flight.aget_or_retrieve(cache, Q, 5, empty), 10))
    with pytest.raises(StopIteration):
        flight.get_or_retrieve(cache, Q, 5, empty)
