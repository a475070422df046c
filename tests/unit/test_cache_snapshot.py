"""Files of a cache: the same cache again, or a clear error; never half of one."""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

from collegium import rag
from collegium._files import load_tensors, save_tensors

KIND = "proximity-cache"


def filled(index="flat", metric="l2", n=120, dim=19, **options):
    rng = np.random.default_rng(1)
    limit = {"min_similarity": 0.5} if metric == "ip" else {"tolerance": 0.3}
    cache = rag.ProximityCache(
        dim, None if index == "lsh" else n, metric=metric, index=index, n_bits=3, bucket_capacity=n, probes=2,
        model="encoder", **limit, **options,
    )  # fmt: skip
    for i, key in enumerate(rng.standard_normal((n, dim)).astype(np.float32) * 0.3):
        cache.insert(
            key, np.arange(i % 7) + i if i % 7 else [i], distances=np.arange(max(1, i % 7)) if i % 3 else None, k=9,
            namespace="tenant" if i % 5 == 0 else None, filter=3 if i % 10 == 0 else None,
            tolerance=0.4 if i % 4 == 0 and metric != "ip" else None, ttl=60.0 if i % 6 == 0 else None,
        )  # fmt: skip
    return cache


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
@pytest.mark.parametrize("index", ["flat", "lsh"])
def test_a_reloaded_cache_gives_the_same_hits(tmp_path, index, metric):
    """T11: 10,000 queries; the hyperplanes are in the file, not only their seed."""
    cache = filled(index, metric)
    cache.save(tmp_path / "cache")
    again = rag.ProximityCache.load(tmp_path / "cache", {"dim": 19, "metric": metric, "model": "encoder"})
    assert repr(again) == repr(cache) and again.probes == 2 and again.model == "encoder"
    rng = np.random.default_rng(2)
    queries = (rng.standard_normal((10_000, 19)) * 0.3).astype(np.float32)
    queries[::2] = cache.keys()[rng.integers(0, 120, 5000)] + (rng.standard_normal((5000, 19)) * 0.04).astype("f4")
    for space in (None, "tenant"):
        a, b = cache.lookup_batch(queries, 1, space), again.lookup_batch(queries, 1, space)
        assert a[0].sum() > 100
        for x, y in zip(a, b):
            np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(cache.keys(), again.keys())
    for x, y in zip(cache.entries(), again.entries()):
        assert (x.ids.tolist(), x.k, x.namespace, x.filter, x.tolerance) == (
            y.ids.tolist(), y.k, y.namespace, y.filter, y.tolerance,
        )  # fmt: skip
        assert (x.distances is None) == (y.distances is None) and abs(x.age - y.age) < 5
        if x.distances is not None:
            np.testing.assert_array_equal(x.distances, y.distances)
    again.insert(np.ones(19), [1], namespace="another")  # numbers of namespaces go on after the saved ones
    assert again.lookup(np.ones(19), namespace="another", tolerance=0 if metric != "ip" else -1).ids.tolist() == [1]


def test_time_goes_on_while_the_cache_is_a_file(tmp_path):
    cache = rag.ProximityCache(1, 9, 0.1)
    cache.insert([0.0], [0], ttl=0.05)
    cache.insert([1.0], [1], ttl=60)
    cache.insert([2.0], [2])
    cache.save(tmp_path / "cache")
    time.sleep(0.1)
    again = rag.ProximityCache.load(tmp_path / "cache")
    assert [e.ids[0] for e in again.entries()] == [1, 2] and again.entries()[0].expires_in < 59.95
    assert 0.1 <= again.lookup([2.0]).age < 30


def test_empty_and_full_caches(tmp_path):
    for cache in (rag.ProximityCache(3, 5, 0.1), rag.ProximityCache(3, None, 0.1, index="lsh")):
        cache.save(tmp_path / "empty")
        again = rag.ProximityCache.load(tmp_path / "empty")
        assert len(again) == 0 and again.capacity == cache.capacity
        again.insert([0, 0, 0], [1])
        assert again.lookup([0, 0, 0]) is not None


def test_objects_are_not_saved(tmp_path):
    class Rule:
        def threshold(self, cache, q, namespace):
            return 0.5

    cache = rag.ProximityCache(1, 2, Rule())
    cache.insert([0.0], [1])
    cache.save(tmp_path / "cache")
    with pytest.raises(ValueError, match="the saved tolerance was an object, give tolerance="):
        rag.ProximityCache.load(tmp_path / "cache")
    assert rag.ProximityCache.load(tmp_path / "cache", tolerance=0.1).tolerance == 0.1
    assert rag.ProximityCache.load(tmp_path / "cache", tolerance=Rule()).lookup([0.4]) is not None
    cache.insert([0.0], [1], namespace=("a", 1))
    with pytest.raises(ValueError, match=r"namespace: only JSON values .* can be saved, got \('a', 1\)"):
        cache.save(tmp_path / "cache")
    assert len(rag.ProximityCache.load(tmp_path / "cache", tolerance=0.1)) == 1


@pytest.mark.parametrize(
    "expect, message",
    [
        ({"dim": 20}, "expected dim 20, got 19"),
        ({"metric": "cosine"}, "expected metric 'cosine', got 'l2'"),
        ({"model": "other"}, "expected model 'other', got 'encoder'"),
        ({"tolerance": 0.4}, "expected tolerance 0.4, got 0.3"),
        ({"colour": 1}, "expect: 'colour' is not an argument"),
    ],
)
def test_what_the_file_must_say(tmp_path, expect, message):
    filled().save(tmp_path / "cache")
    with pytest.raises(ValueError, match=message):
        rag.ProximityCache.load(tmp_path / "cache", expect)


def change(path, columns=None, meta=None):
    """Writes the file anew with some values replaced, and a checksum that fits."""
    old, text = load_tensors(path, KIND)
    save_tensors(path, KIND, {**old, **(columns or {})}, {**text, **(meta or {})})


@pytest.mark.parametrize(
    "columns, meta, message",
    [
        ({}, {"version": 2}, "expected version 1 of the file, got 2"),
        ({}, {"dim": 18}, r"keys: expected shape \(120, 18\)"),
        ({}, {"capacity": 7}, "more entries than the capacity"),
        ({}, {"eviction": "random"}, "eviction: expected one of"),
        ({}, {"spaces": 3}, "not a cache"),
        ({"k": np.zeros(120, np.uint32)}, {}, r"count\[0\]: expected at most k = 0"),
        ({"k": np.zeros(120, np.int32)}, {}, "k: expected dtype uint32, got int32"),
        ({"count": np.full(120, 9, np.uint32), "measured": np.zeros(120, np.uint32)}, {}, "more ids than"),
        ({"signature": np.ones(120, np.uint32)}, {}, r"signature\[0\]: expected below 2\*\*0, got 1"),
        ({"where": np.ones(120, np.uint8)}, {}, r"where\[0\]: no such queue: 1"),
        ({"where": np.full(120, 9, np.uint8)}, {"eviction": "s3fifo"}, r"where\[0\]: no such queue: 9"),
        ({"keys": np.full((120, 19), np.nan, np.float32)}, {}, r"keys\[0\]: expected finite values"),
        ({"ids": np.zeros(3, np.int64)}, {}, r"distances: expected shape \(3,\)|more ids than"),
        ({"ghost": np.zeros(3, np.uint64)}, {}, r"ghost: expected shape \(0,\)"),
        ({"ghost": np.zeros(1, np.uint64), "ghost_signature": np.ones(1, np.uint32)}, {}, "ghost_signature"),
    ],
)
def test_files_with_a_good_checksum_and_impossible_contents(tmp_path, columns, meta, message):
    filled().save(tmp_path / "cache")
    change(tmp_path / "cache", columns, meta)
    with pytest.raises(ValueError, match=message):
        rag.ProximityCache.load(tmp_path / "cache")


def test_any_values_of_the_policies_are_safe(tmp_path):
    """Marks, uses, hands, orders and times may be anything: the cache still works."""
    rng = np.random.default_rng(3)
    for eviction in ("lru", "lfu", "clock", "sieve", "s3fifo"):
        filled(eviction=eviction).save(tmp_path / "cache")
        wild = {n: rng.integers(0, 255, 120).astype(np.uint8) for n in ("mark", "hand")}
        wild["use"], wild["seq"] = (rng.integers(0, 2**63, 120).astype(np.uint64) * np.uint64(2) for _ in range(2))
        wild["born"] = rng.integers(-(2**62), 2**62, 120)
        change(tmp_path / "cache", wild)
        cache = rag.ProximityCache.load(tmp_path / "cache")
        for i in range(400):
            cache.insert(rng.standard_normal(19).astype(np.float32), [i])
            cache.lookup(rng.standard_normal(19).astype(np.float32))
        assert len(cache) == 120


def test_a_fuzzed_file_is_an_error_or_the_same_cache(tmp_path):
    """Cut at every byte of the header and around it, and with random bytes changed: ValueError or an equal cache."""
    cache = filled(n=20)
    path, bad = tmp_path / "cache", tmp_path / "bad"
    cache.save(path)
    whole = path.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    rng = random.Random(4)
    cuts = [*range(header + 9), *(rng.randrange(header, len(whole)) for _ in range(200))]
    cases = [whole[:n] for n in cuts]
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 8))):
            data[rng.randrange(header if rng.random() < 0.5 else len(data))] = rng.randrange(256)
        cases.append(bytes(data))
    cases += [whole + b"x", b"", b"{}", json.dumps({}).encode()]
    same = 0
    for data in cases:
        bad.write_bytes(data)
        try:
            again = rag.ProximityCache.load(bad)
        except ValueError as e:
            assert str(bad) in str(e)
            continue
        same += 1
        np.testing.assert_array_equal(again.keys(), cache.keys())
        assert [e.ids.tolist() for e in again.entries()] == [e.ids.tolist() for e in cache.entries()]
    assert same < 60  # bytes that were drawn as they were, or blanks of the header


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        rag.ProximityCache.load(tmp_path / "none")
    save_tensors(tmp_path / "other", "checkpoint", {"x": np.zeros(3)}, {})
    with pytest.raises(ValueError, match="not a proximity-cache file"):
        rag.ProximityCache.load(tmp_path / "other")
    with pytest.raises(OSError):
        filled().save(tmp_path / "no folder" / "cache")


SAVER = """
import sys, numpy as np
from collegium import rag
a, b = (rag.ProximityCache(256, 3000, 0.1) for _ in range(2))
rng = np.random.default_rng(0)
for i in range(3000):
    a.insert(rng.standard_normal(256).astype("f4"), [i])
    b.insert(rng.standard_normal(256).astype("f4"), [i, i])
a.save(sys.argv[1])
print("ready", flush=True)
while True:
    b.save(sys.argv[1])
    a.save(sys.argv[1])
"""


def test_kill_during_save_leaves_a_whole_file(tmp_path):
    """The old file or the new one, never neither."""
    rng = random.Random(5)
    widths = set()
    for _ in range(12):
        process = subprocess.Popen([sys.executable, "-c", SAVER, tmp_path / "cache"], stdout=subprocess.PIPE)
        try:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0, 0.05))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(30)
            process.stdout.close()
        cache = rag.ProximityCache.load(tmp_path / "cache")
        assert len(cache) == 3000
        widths.add(cache.entries()[0].ids.size)
    assert widths <= {1, 2}


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    filled(n=20).save(tmp_path / "cache")
    before = (tmp_path / "cache").read_bytes()

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        filled(n=30).save(tmp_path / "cache")
    assert (tmp_path / "cache").read_bytes() == before and os.listdir(tmp_path) == ["cache"]


@pytest.mark.parametrize("hours, alive", [(-5, True), (0, True), (5, False)])
def test_the_clock_of_the_machine_jumps_between_save_and_load(tmp_path, monkeypatch, hours, alive):
    """Files hold absolute times. A clock set back must not give an entry more than its ttl, forward ends it."""
    from collegium.rag import _snapshot

    cache = rag.ProximityCache(4, 2, tolerance=0.1, ttl=3600)
    cache.insert(np.ones(4, np.float32), [1])
    cache.save(tmp_path / "c")
    now = time.time_ns()
    monkeypatch.setattr(_snapshot.time, "time_ns", lambda: now + hours * 3600 * 10**9)
    again = rag.ProximityCache.load(tmp_path / "c")
    assert (again.lookup(np.ones(4, np.float32)) is not None) == alive
    left = again._export(True)["left"]
    assert (left <= 3600 * 10**9).all()


def test_a_running_cache_does_not_look_at_the_clock_of_the_machine(monkeypatch):
    cache = rag.ProximityCache(4, 2, tolerance=0.1, ttl=3600)
    cache.insert(np.ones(4, np.float32), [1])
    for ahead in (-(10**6), 10**6):
        monkeypatch.setattr(time, "time", lambda a=ahead: a)
        monkeypatch.setattr(time, "time_ns", lambda a=ahead: a * 10**9)
        assert cache.lookup(np.ones(4, np.float32)).age < 60
