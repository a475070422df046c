"""The cache under threads, a spinning interpreter, and fork."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import sys
import threading
import time
import weakref

import numpy as np
import pytest

from collegium import rag


def together(*functions, seconds=1.0):
    """Runs the functions in threads of their own, again and again; the first exception fails the test."""
    failures, end = [], time.monotonic() + seconds

    def loop(function, number):
        rng = np.random.default_rng(number)
        try:
            while time.monotonic() < end and not failures:
                function(rng)
        except BaseException as e:  # the main thread says it
            failures.append(e)

    threads = [threading.Thread(target=loop, args=(f, i)) for i, f in enumerate(functions)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
        assert not t.is_alive()
    if failures:
        raise failures[0]


@pytest.mark.parametrize(
    "index, capacity, dim", [("flat", 40, 64), ("flat", 6000, 384), ("lsh", None, 64), ("flat", 17, 7)]
)
@pytest.mark.parametrize("eviction", ["fifo", "lru", "sieve", "s3fifo"])
def test_readers_never_see_half_an_entry(index, capacity, dim, eviction):
    """T13: 8 readers, 2 writers; the value is a function of the key. 6000 keys are scanned without the GIL."""
    pool = np.random.default_rng(0).standard_normal((500, dim)).astype(np.float32)
    cache = rag.ProximityCache(
        dim, capacity, 0.01, index=index, n_bits=3, bucket_capacity=10, probes=2, eviction=eviction
    )
    copies = 12 if capacity == 6000 else 1

    def lists_of(i):
        return np.arange(i % 40 + 1) * 1000 + i

    def write(rng):
        for i in rng.integers(0, 500, 50 * copies):
            key = pool[i] + np.float32(rng.integers(0, copies))
            cache.insert(key, lists_of(i), distances=lists_of(i) if i % 2 else None)
        what = rng.random()
        if what < 0.2:
            cache.remove_ids(rng.integers(0, 500, 3))
        elif what < 0.25:
            cache.clear()

    def read(rng):
        for i in rng.integers(0, 500, 50):
            q = pool[i] + np.float32(rng.normal(0, 1e-4))
            hit = cache.lookup(q)
            if hit is not None:
                assert hit.ids.tolist() == lists_of(i).tolist()
                assert hit.key_distance <= 0.01
                if hit.stored_distances is not None:
                    assert i % 2 and hit.stored_distances.tolist() == lists_of(i).tolist()

    def read_batches(rng):
        which = rng.integers(0, 500, 30)
        found, ids, _ = cache.lookup_batch(pool[which], 1)
        assert all(ids[j, 0] == which[j] for j in np.flatnonzero(found))
        assert len(cache) <= cache.capacity and len(cache.entries()) <= cache.capacity

    old = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        together(*[write] * 2, *[read] * 6, *[read_batches] * 2, seconds=0.6)
    finally:
        sys.setswitchinterval(old)
    for entry in cache.entries():  # and nothing is left in disorder
        i = int(entry.ids[0])
        assert entry.ids.tolist() == lists_of(i).tolist()
    stats = cache.stats()
    gone = stats["evictions"] + stats["invalidated"] + stats["expired"]
    assert stats["hits"] > 0 and stats["insertions"] - gone == len(cache)


def test_a_short_lookup_keeps_the_gil():
    """T14: where another thread computes, giving up the GIL costs the switch interval; a lookup of 1 us must not.

    One lookup in a burst may lose its turn to the interpreter; if each gave up the GIL, every one would.
    """
    cache = rag.ProximityCache(384, 300, 0.4)
    rng = np.random.default_rng(1)
    for i in range(300):
        cache.insert(rng.standard_normal(384), [i])
    q = rng.standard_normal(384).astype(np.float32)
    stop = threading.Event()

    def spin():
        while not stop.is_set():
            sum(range(200))

    spinner = threading.Thread(target=spin)
    old = sys.getswitchinterval()
    sys.setswitchinterval(0.02)
    spinner.start()
    try:
        long = 0
        for _ in range(2000):
            start = time.perf_counter()
            cache.lookup(q)
            long += time.perf_counter() - start > 0.01
    finally:
        stop.set()
        spinner.join()
        sys.setswitchinterval(old)
    assert long < 100


def test_a_long_lookup_releases_it():
    """Others run while 40 MB are scanned."""
    cache = rag.ProximityCache(1024, 10_000, 1e3)
    for i in range(10_000):
        cache.insert(np.full(1024, i, np.float32), [i])
    q, ticks = np.full(1024, 2e4, np.float32), [0]
    stop = threading.Event()

    def tick():
        while not stop.is_set():
            ticks[0] += 1
            time.sleep(1e-4)  # gives way at once

    ticker = threading.Thread(target=tick)
    ticker.start()
    old = sys.getswitchinterval()
    sys.setswitchinterval(10)  # nobody is made to give way
    try:
        for _ in range(20):
            cache.nearest(q)
        before = ticks[0]
        for _ in range(20):
            cache.nearest(q)
        after = ticks[0]
    finally:
        sys.setswitchinterval(old)
        stop.set()
        ticker.join()
    assert after > before


@pytest.mark.parametrize("index", ["flat", "lsh"])
def test_a_forked_child_reads_and_writes(index):
    cache = rag.ProximityCache(8, 400, 0.1, index=index)
    keys = np.random.default_rng(2).standard_normal((100, 8)).astype(np.float32)
    for i, key in enumerate(keys):
        cache.insert(key, [i])
    writing = threading.Event()

    def write(rng):
        writing.set()
        cache.insert(keys[rng.integers(0, 100)], [int(rng.integers(0, 9))], namespace="other")
        cache.stale_after_add(np.zeros((1, 8)), remove=False)  # holds the lock without the GIL

    failures = []

    def fork(rng):
        writing.wait(10)
        pid = os.fork()
        if pid == 0:
            try:
                for i, key in enumerate(keys):
                    hit = cache.lookup(key)  # all of it, or nothing if a writer was inside at the fork
                    if hit is not None and hit.ids[0] != i:
                        os._exit(1)
                cache.insert(keys[0], [7], namespace="child")
                ok = cache.lookup(keys[0], namespace="child").ids[0] == 7 and cache.lookup_batch(keys, 1)[0].size == 100
                os._exit(0 if ok and len(cache) > 0 else 2)
            except BaseException:
                os._exit(3)
        deadline = time.monotonic() + 20
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            if time.monotonic() > deadline:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
                failures.append("the child hangs")
                return
            time.sleep(0.002)
        if status:
            failures.append(status)

    together(write, fork, seconds=1.0)
    assert not failures
    assert all(cache.lookup(key).ids[0] == i for i, key in enumerate(keys))


def test_caches_are_collected_and_their_memory_given_back():
    class Rule:
        def threshold(self, cache, q, namespace):
            return 0.5

    rule = Rule()
    cache = rag.ProximityCache(4, 4, rule)
    rule.cache = cache  # a cycle through the core
    gone = weakref.ref(rule)
    del cache, rule
    gc.collect()
    assert gone() is None
    before = sys.getrefcount(rag.ProximityCache), sys.getrefcount(rag.Hit)
    for _ in range(100):
        cache = rag.ProximityCache(4, 4, 0.5)
        cache.insert(np.zeros(4), [1])
        hit = cache.lookup(np.zeros(4))
    del cache, hit
    assert (sys.getrefcount(rag.ProximityCache), sys.getrefcount(rag.Hit)) == before


def test_a_cache_is_not_copied_by_accident():
    """save() and load() copy one; pickle would make an object without a core."""
    cache = rag.ProximityCache(4, 4, 0.5)
    for call in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot pickle"):
            call(cache)
