"""The cache's rules: what is a hit, what it says, what bad input does. T1, T2, ...: known traps of such caches."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from collegium import _core, rag


def cache_of(keys, tolerance=0.5, capacity=None, **options):
    """A cache that holds the rows of `keys`, row i with the ids [i, 10 i]."""
    cache = rag.ProximityCache(keys.shape[1], capacity or max(len(keys), 1), tolerance, **options)
    for i, key in enumerate(keys):
        cache.insert(key, [i, 10 * i])
    return cache


def unit(rng, n, dim):
    x = rng.standard_normal((n, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def brute(keys, q, metric="l2"):
    """Distances in float64."""
    keys, q = keys.astype(np.float64), np.asarray(q, np.float64)
    if metric == "l2":
        return np.sqrt(((keys - q) ** 2).sum(1))
    if metric == "ip":
        return -keys @ q
    return 1 - keys @ q / np.linalg.norm(keys, axis=1) / np.linalg.norm(q)


def same_hit(a, b):
    assert (a is None) == (b is None)
    if a is not None:
        assert a.key_distance == b.key_distance and a.slot == b.slot
        np.testing.assert_array_equal(a.ids, b.ids)


# ---- distances and decisions ----


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("index", ["flat", "lsh"])
def test_an_exact_repeat_is_at_distance_zero(isa, threads, metric, index):
    """T1: tolerance 0 must hit, on every path and instruction set."""
    rng = np.random.default_rng(1)
    for dim in (1, 3, 16, 17, 100, 768):
        keys = (rng.standard_normal((40, dim)) * 30).astype(np.float32)
        cache = cache_of(keys, 0.0, 640, metric=metric, index=index, n_bits=3, bucket_capacity=80)
        found, ids, distance = cache.lookup_batch(keys, 2)
        for i, key in enumerate(keys):
            hit = cache.lookup(key)
            assert hit.key_distance == 0.0 and hit.certified and cache.nearest(key) == (0.0, hit.slot)
            assert found[i] and distance[i] == 0.0 and ids[i].tolist() == hit.ids.tolist()
            if dim > 1:
                assert hit.ids.tolist() == [i, 10 * i]


@pytest.mark.parametrize("norm", [1, 10, 30])
def test_small_distances_of_long_vectors(isa, norm):
    """T2: no cancellation. The decision is float64's, unless within 1e-5 relative of the tolerance."""
    rng = np.random.default_rng(2)
    for d in (0.01, 0.1, 0.5):
        for _ in range(100):
            key = (unit(rng, 1, 384)[0] * norm).astype(np.float32)
            q = key + (unit(rng, 1, 384)[0] * np.float32(d)).astype(np.float32)
            exact = float(brute(key[None], q)[0])
            cache = cache_of(key[None], 1.0)
            assert cache.lookup(q).key_distance == pytest.approx(exact, rel=3e-6)
            assert cache.lookup(q, tolerance=exact * (1 + 1e-5)) is not None
            assert cache.lookup(q, tolerance=exact * (1 - 1e-5)) is None


def test_the_nearest_and_then_the_oldest(isa):
    """T3: not the first within reach; of equally near keys the older, wherever they lie."""
    rng = np.random.default_rng(3)
    q = unit(rng, 1, 50)[0]
    far, near = q + np.float32(0.02), q + np.float32(0.01)
    assert cache_of(np.stack([far, near])).lookup(q).ids[0] == 1
    for n in (2, 15, 16, 17, 40):
        cache = rag.ProximityCache(50, n, 1.0)
        for i in range(2 * n):  # slots are used again, so the older one is often behind the younger
            cache.insert(q + np.float32(0.01 if i % 2 else -0.01), [i], namespace=i)
        # Two keys in one namespace, mirror images of each other around q: the same distance to the last bit.
        plus, minus = np.zeros(50, np.float32), np.zeros(50, np.float32)
        plus[7], minus[7] = 0.25, -0.25
        cache.clear()
        first, last = (plus, minus) if n % 2 else (minus, plus)
        for filler in range(n - 2):
            cache.insert(np.full(50, 9 + filler, np.float32), [99])
        cache.insert(first, [1])
        cache.insert(last, [2])
        cache.insert(np.full(50, 7, np.float32), [98]) if n > 2 else None
        assert cache.lookup(np.zeros(50)).ids[0] == 1
        assert cache.lookup_batch(np.zeros((3, 50)), 1)[1][:, 0].tolist() == [1, 1, 1]


@pytest.mark.parametrize("dim", [1, 7, 8, 63, 64, 65, 100, 384, 768, 769, 1536])
def test_against_brute_force(isa, dim):
    """T4: early abandon, padding and the last row, thousands of cases an instruction set and dimension."""
    rng = np.random.default_rng(dim)
    for n in (1, 15, 16, 17, 33, 100):
        keys = unit(rng, n, dim)
        cache = cache_of(keys, 0.5)
        queries = np.concatenate([unit(rng, 30, dim), keys[rng.integers(0, n, 60)], keys[-1:].repeat(10, 0)])
        queries[30:] += (rng.standard_normal((70, dim)) * rng.uniform(0, 0.7, (70, 1)) / math.sqrt(dim)).astype("f4")
        for q in queries:
            exact = brute(keys, q)
            for tau in (0.1, 0.5, 0.9):
                hit = cache.lookup(q, tolerance=tau)
                if abs(exact.min() - tau) < 1e-5 * tau:
                    continue
                assert (hit is not None) == (exact.min() <= tau)
                if hit is not None:
                    assert exact[hit.ids[0]] <= exact.min() * (1 + 1e-5) + 1e-7
                    assert hit.key_distance == pytest.approx(exact.min(), rel=1e-5, abs=1e-7)
            distance, slot = cache.nearest(q)
            assert distance == pytest.approx(exact.min(), rel=1e-5, abs=1e-7) and slot < n


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
@pytest.mark.parametrize("index", ["flat", "lsh"])
def test_tolerance_means_the_same_everywhere(isa, threads, metric, index):
    """T5: a greatest distance in the metric's unit: not squared, not a similarity; in every call."""
    rng = np.random.default_rng(5)
    keys = (unit(rng, 60, 40) * rng.uniform(0.5, 2, (60, 1))).astype(np.float32)
    noise = rng.standard_normal((200, 40)) * rng.uniform(0, 0.1, (200, 1)) * rng.integers(0, 2, (200, 1))
    queries = (keys[rng.integers(0, 60, 200)] + noise).astype(np.float32)
    for tau in (0.05, 0.3, 0.9):
        limit = {"min_similarity": 1 - tau} if metric == "ip" else {"tolerance": tau}
        cache = rag.ProximityCache(40, 960, metric=metric, index=index, n_bits=2, bucket_capacity=60, probes=2, **limit)
        for i, key in enumerate(keys):
            cache.insert(key, [i])
        reach = tau - 1 if metric == "ip" else tau
        assert cache.tolerance == pytest.approx(reach)
        found, ids, distance = cache.lookup_batch(queries, 1)
        for i, q in enumerate(queries):
            hit = cache.lookup(q)
            same_hit(hit, cache.lookup(q, tolerance=reach))
            near = cache.nearest(q)
            if hit is None:
                assert not found[i] and ids[i, 0] == -1 and np.isnan(distance[i])
                assert near is None or near[0] > reach
                continue
            assert found[i] and ids[i, 0] == hit.ids[0] and distance[i] == hit.key_distance
            assert near == (hit.key_distance, hit.slot) and hit.key_distance <= reach
            assert hit.key_distance == pytest.approx(brute(keys, q, metric)[hit.ids[0]], rel=1e-4, abs=1e-6)
            assert cache.lookup(q, tolerance=hit.key_distance) is not None  # what a hit says is what was tested
            below = float(np.nextafter(np.float32(hit.key_distance), np.float32(-9)))
            if metric == "ip" or hit.key_distance > 0:
                assert cache.lookup(q, tolerance=below) is None
        assert found.sum() > 10


def test_instruction_sets_agree_to_rounding():
    rng = np.random.default_rng(6)
    keys, queries = unit(rng, 50, 333), unit(rng, 50, 333)
    seen = {}
    old = _core.isa()
    for name in _core.isas():
        _core.force_isa(name)
        cache = cache_of(keys)
        seen[name] = np.array([cache.nearest(q)[0] for q in queries], np.float32)
    _core.force_isa(old)
    for distances in seen.values():
        np.testing.assert_allclose(distances, seen["base"], rtol=2e-6)
    if {"avx2", "avx512"} <= set(seen):
        np.testing.assert_array_equal(seen["avx2"], seen["avx512"])  # the same lanes, the same order


def test_inner_product_is_a_similarity_under_another_name():
    cache = rag.ProximityCache(2, 4, metric="ip", min_similarity=2.0)
    cache.insert([3.0, 0.0], [1])
    cache.insert([1.0, 0.0], [2])
    assert cache.lookup([1.0, 0.0]).ids[0] == 1  # the longer key answers, not the equal one: no distance
    assert cache.lookup([1.0, 0.0]).key_distance == -3.0 and not cache.lookup([1.0, 0.0]).certified
    assert cache.lookup([0.5, 0.0]) is None and cache.lookup([2 / 3 + 1e-6, 0.0]).ids[0] == 1
    with pytest.raises(ValueError, match="tolerance: metric 'ip' is a similarity, give min_similarity"):
        rag.ProximityCache(2, 4, 0.5, metric="ip")
    with pytest.raises(ValueError, match="min_similarity: only for metric 'ip'"):
        rag.ProximityCache(2, 4, metric="l2", min_similarity=0.5)


def test_opposite_unit_vectors_are_within_two():
    rng = np.random.default_rng(7)
    for key in unit(rng, 200, 37):
        cache = cache_of(key[None], 2.0, metric="cosine")
        assert cache.lookup(-key).key_distance == pytest.approx(2.0)


# ---- what an entry remembers ----


def test_what_a_hit_says():
    cache = rag.ProximityCache(3, 4, 0.5)
    slot = cache.insert([1, 0, 0], [7, 5, 9], distances=[0.1, 0.2, 0.3], k=4)
    time.sleep(0.01)
    hit = cache.lookup(np.array([1, 0.25, 0]), k=2)
    assert isinstance(hit, rag.Hit) and hit._fields[0] == "ids"
    assert hit.ids.tolist() == [7, 5] and hit.ids.dtype == np.int64 and hit.stored.tolist() == [7, 5, 9]
    assert hit.key_distance == 0.25 and hit.slot == slot and 0.01 <= hit.age < 10 and hit.certified is False
    np.testing.assert_array_equal(hit.stored_distances, np.float32([0.1, 0.2, 0.3]))
    hit.stored[:] = 0
    assert cache.lookup([1, 0, 0]).ids.tolist() == [7, 5, 9]  # a copy
    assert cache.lookup([1, 0, 0]).stored_distances is not None and cache.lookup([1, 0, 0]).certified
    assert cache.lookup([1, 0, 0], k=4).ids.tolist() == [7, 5, 9]  # the database had no fourth


def test_k_is_part_of_the_key():
    """T12: filled with 5, it does not answer 10; filled again, it does."""
    cache = rag.ProximityCache(2, 4, 0.5)
    cache.insert([0, 0], range(5))
    assert cache.lookup([0, 0.1], k=5).ids.tolist() == [0, 1, 2, 3, 4] and cache.lookup([0, 0.1], k=3).ids.size == 3
    assert cache.lookup([0, 0.1], k=6) is None and cache.lookup_batch([[0, 0.1]], 6)[0].tolist() == [False]
    cache.insert([0, 0.1], range(10))
    assert len(cache) == 2 and cache.lookup([0, 0], k=10).ids.size == 10  # past the nearer one, which has too few
    cache.insert([0, 0], range(20))
    assert len(cache) == 2 and cache.lookup([0, 0], k=20).stored.size == 20 and cache.stats()["updates"] == 1


def test_namespaces_and_filters_are_never_crossed():
    """T12, and tenants."""
    cache = rag.ProximityCache(2, 9, 0.5)
    assert cache.lookup([0, 0], namespace="a") is None
    spaces = [(None, None), ("a", None), ("b", None), (None, "a"), ("a", "x"), (3, None)]
    for i, (space, only) in enumerate(spaces):
        assert cache.insert([0, 0], [i], namespace=space, filter=only) == i
    for i, (space, only) in enumerate(spaces):
        assert cache.lookup([0, 0], namespace=space, filter=only).ids.tolist() == [i]
        assert cache.lookup_batch([[0, 0]], 1, space, filter=only)[1].tolist() == [[i]]
        assert cache.nearest([0, 0], space, only)[0] == 0.0
    assert cache.lookup([0, 0], namespace="c") is None and cache.nearest([0, 0], "c") is None
    assert not cache.lookup_batch([[0, 0]], 1, "c")[0][0] and cache.stats()["misses"] == 3
    with pytest.raises(TypeError, match="unhashable"):
        cache.lookup([0, 0], namespace=[1])


def test_entries_with_their_own_tolerance():
    """Nearest among those that the query is near enough to, each by its own measure."""
    cache = rag.ProximityCache(1, 9, 0.1)
    cache.insert([0.0], [0], tolerance=0.01)
    cache.insert([1.0], [1], tolerance=5.0)
    cache.insert([4.0], [2])
    assert cache.lookup([0.05]).ids[0] == 1  # 0 is nearer, but wants to be nearer still
    assert cache.lookup([0.005]).ids[0] == 0 and cache.lookup([4.05]).ids[0] == 2 and cache.lookup([4.5]).ids[0] == 1
    assert cache.lookup([7.0]) is None
    assert cache.lookup([0.05], tolerance=0.1).ids[0] == 0  # given with the call, it holds for all
    assert cache.lookup([4.05], tolerance=0.01) is None
    assert [e.tolerance for e in cache.entries()] == [pytest.approx(0.01), pytest.approx(5.0), None]
    cache.tolerance = 0.6
    assert cache.lookup([4.5]).ids[0] == 2 and cache.tolerance == 0.6


def test_a_tolerance_that_is_an_object_is_asked_each_time():
    class Rule:
        asked = 0

        def threshold(self, cache, q, namespace):
            self.asked += 1
            assert isinstance(cache, rag.ProximityCache) and len(cache) == 1  # it may use the cache
            return {None: 0.5, "strict": 0.0, "never": None}[namespace]

    rule = Rule()
    cache = rag.ProximityCache(1, 1, rule)
    cache.insert([0.0], [1])
    assert cache.tolerance is rule
    assert cache.lookup([0.4]) is not None and cache.lookup([0.6]) is None and rule.asked == 2
    assert cache.lookup_batch([[0.4], [0.6]], 1)[0].tolist() == [True, False] and rule.asked == 4
    assert cache.lookup([0.6], tolerance=1.0) is not None and rule.asked == 4
    cache.insert([0.0], [1], namespace="never")
    assert cache.lookup([0.0], namespace="never") is None
    assert cache.stats()["misses"] == 3

    class Broken:
        def threshold(self, cache, q, namespace):
            raise KeyError("no")

    with pytest.raises(KeyError):
        rag.ProximityCache(1, 1, Broken()).lookup([0.0])


def test_time_to_live():
    cache = rag.ProximityCache(1, 3, 0.5, ttl=60)
    cache.insert([0.0], [0], ttl=0.02)
    cache.insert([0.1], [1])
    assert cache.lookup([0.0]).ids[0] == 0
    time.sleep(0.03)
    assert cache.lookup([0.0]).ids[0] == 1  # the nearest of those that are left
    assert [e.expires_in is not None and 59 < e.expires_in <= 60 for e in cache.entries()] == [True]
    assert len(cache) == 1 and cache.stats()["expired"] == 1
    # When it is full, what is over goes before what the policy would choose.
    cache = rag.ProximityCache(1, 2, 0.0)
    cache.insert([0.0], [0])
    cache.insert([1.0], [1], ttl=0.01)
    time.sleep(0.02)
    cache.insert([2.0], [2])
    assert cache.lookup([0.0]) is not None and cache.stats()["evictions"] == 0
    cache.insert([0.0], [0], ttl=0.01)  # a new value has a new time
    time.sleep(0.02)
    assert cache.lookup([0.0]) is None
    cache.insert([0.0], [5])
    assert cache.lookup([0.0]).ids[0] == 5


def test_generations_clear_and_removal():
    rng = np.random.default_rng(8)
    keys = unit(rng, 40, 20)
    cache = cache_of(keys, 0.1)
    assert cache.remove_ids([3, 70, 12345]) == 2 and cache.remove_ids([]) == 0 and cache.remove_ids(5) == 1
    for i, key in enumerate(keys):
        assert (cache.lookup(key) is None) == (i in (3, 5, 7))
    for _ in range(3):  # emptied slots are used again
        for i in (3, 5, 7):
            assert cache.insert(keys[i], [i]) in (3, 5, 7)
        assert len(cache) == 40 and cache.remove_ids([3, 5, 7]) == 3
    assert cache.invalidate(0) is True and cache.invalidate(0) is False and cache.invalidate(10**9) is False
    before = cache.generation
    assert cache.bump_generation() == before + 1 == cache.generation
    assert len(cache) == 0 and cache.lookup(keys[1]) is None and cache.nearest(keys[1]) is None
    assert cache.keys().shape == (0, 20) and cache.entries() == []
    cache.insert(keys[1], [1])
    assert cache.lookup(keys[1]).ids[0] == 1 and len(cache) == 1
    cache.clear()
    assert len(cache) == 0 and cache.stats()["invalidated"] == 3 + 9 + 1 + 36 + 1


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("index", ["flat", "lsh"])
def test_new_documents_make_exactly_the_changed_entries_stale(isa, threads, metric, index):
    """T20, against an exact database."""
    rng = np.random.default_rng(9)
    documents, new, keys = unit(rng, 300, 24), unit(rng, 12, 24), unit(rng, 80, 24)
    cache = rag.ProximityCache(24, None if index == "lsh" else 80, 0.5, metric=metric, index=index, bucket_capacity=80)

    def search(q, database):
        distances = brute(database, q, metric)
        order = np.argsort(distances, kind="stable")[:5]
        return order, distances[order]

    slots = {}
    for i, key in enumerate(keys):
        ids, distances = search(key, documents)
        slots[cache.insert(key, ids, distances=distances)] = i
    changed = {
        i for i, key in enumerate(keys) if set(search(key, documents)[0]) != set(search(key, np.r_[documents, new])[0])
    }
    assert 5 < len(changed) < 75
    stale = cache.stale_after_add(new, remove=False)
    assert {slots[int(s)] for s in stale} == changed and len(cache) == 80
    assert cache.stale_after_add(new).tolist() == stale.tolist() and len(cache) == 80 - len(changed)
    assert cache.stale_after_add(new).size == 0 and cache.stale_after_add(np.empty((0, 24))).size == 0


def test_entries_that_say_nothing_of_distances_are_stale():
    cache = rag.ProximityCache(1, 9, 0.5)
    cache.insert([0.0], [1, 2], distances=[0.1, 0.2])
    cache.insert([0.1], [1, 2])
    cache.insert([0.2], [1, 2], distances=[0.1, 0.2], k=3)
    assert cache.stale_after_add([[99.0]]).tolist() == [1, 2] and len(cache) == 1
    assert cache.stale_after_add([[0.2]]).size == 0  # as near as the last one: ties stay with the older document
    with pytest.raises(ValueError, match="vectors: expected finite values"):
        cache.stale_after_add([[np.nan]])


# ---- batches ----


@pytest.mark.parametrize("eviction", ["fifo", "lru", "s3fifo"])
@pytest.mark.parametrize("index", ["flat", "lsh"])
def test_a_batch_is_a_loop_of_lookups(isa, threads, eviction, index):
    """The same hits, the same counters, and the same entries evicted afterwards."""
    rng = np.random.default_rng(10)
    keys = unit(rng, 300, 65)
    options = {"eviction": eviction, "index": index, "n_bits": 3, "bucket_capacity": 300, "probes": 2}
    a, b = cache_of(keys, 0.4, **options), cache_of(keys, 0.4, **options)
    queries = keys[rng.integers(0, 300, 500)] + (rng.standard_normal((500, 65)) * rng.uniform(0, 0.1, (500, 1))).astype(
        np.float32
    )
    found, ids, distance = a.lookup_batch(queries, 2)
    assert found.dtype == bool and ids.dtype == np.int64 and distance.dtype == np.float32
    assert 50 < found.sum() < 500
    for i, q in enumerate(queries):
        hit = b.lookup(q, 2)
        assert found[i] == (hit is not None)
        if hit is not None:
            assert distance[i] == hit.key_distance and ids[i].tolist() == hit.ids.tolist()
    counters = ("hits", "misses", "insertions")
    assert [a.stats()[c] for c in counters] == [b.stats()[c] for c in counters]
    for i, q in enumerate(queries[:250]):
        assert a.insert(q, [i]) == b.insert(q, [i])
    assert [e.slot for e in a.entries()] == [e.slot for e in b.entries()]


def test_batches_pad_with_minus_one():
    cache = rag.ProximityCache(1, 4, 0.1)
    cache.insert([0.0], [5], k=3)
    found, ids, distance = cache.lookup_batch([[0.0], [9.0]], k=3)
    assert found.tolist() == [True, False] and ids.tolist() == [[5, -1, -1], [-1, -1, -1]]
    assert distance[0] == 0.0 and np.isnan(distance[1])
    found, ids, distance = cache.lookup_batch([], 2)
    assert found.shape == (0,) and ids.shape == (0, 2) and distance.shape == (0,)


# ---- inputs ----


def test_arrays_of_all_kinds_are_taken(need):
    key = np.arange(4, dtype=np.float32)
    cache = cache_of(key[None], 0.01)
    strided, column = np.repeat(key, 3)[::3], np.asfortranarray(np.stack([key, key]).T)[:, 1]
    for q in (key, list(key), key.astype("f8"), key.astype("f2"), key.astype(">f4"), strided, column, key.astype(int)):
        assert cache.lookup(q) is not None
        assert cache.insert(q, (3,)) == 0
    read_only = key.copy()
    read_only.flags.writeable = False
    assert cache.lookup(read_only) is not None
    misaligned = np.frombuffer(b"x" + key.tobytes(), np.float32, 4, 1)
    assert cache.lookup(misaligned) is not None
    torch = need("torch")
    for dtype in (torch.float32, torch.float64, torch.float16):
        assert cache.lookup(torch.tensor(key, dtype=dtype, requires_grad=True)) is not None
        assert cache.lookup_batch(torch.tensor(key, dtype=dtype)[None], 1)[0][0]
    assert cache.insert(torch.tensor(key), torch.tensor([4])) == 0


@pytest.mark.parametrize(
    "q, message",
    [
        (np.zeros(3), r"q: expected shape \(4,\), got \(3,\)"),
        (np.zeros((1, 4)), r"q: expected shape \(4,\), got \(1, 4\)"),
        (np.float32(1), r"q: expected shape \(4,\), got \(\)"),
        (np.zeros(4, complex), "q: expected numbers, got dtype complex128"),
        ("word", "q: expected numbers, got dtype <U4"),
        ([[1, 2], [3]], "q: expected an array of numbers, got list"),
        ([1, 2, 3, np.nan], "q: expected finite values, got NaN or infinity"),
        (np.float64([1, 2, 3, 1e300]), "q: expected finite values, got NaN or infinity"),
        (np.float32([-np.inf, 2, 3, 1]), "q: expected finite values, got NaN or infinity"),
    ],
)
def test_bad_vectors(q, message):
    cache = cache_of(np.zeros((1, 4), np.float32))
    for call in (cache.lookup, cache.nearest, lambda x: cache.insert(x, [1])):
        with pytest.raises(ValueError, match=message):
            call(q)
    assert len(cache) == 1 and cache.lookup(np.zeros(4)) is not None


@pytest.mark.parametrize(
    "Q, message",
    [
        (np.zeros((2, 3)), r"Q: expected shape \(n, 4\), got \(2, 3\)"),
        (np.zeros(4), r"Q: expected shape \(n, 4\), got \(4,\)"),
        (np.zeros((1, 1, 4)), r"Q: expected shape \(n, 4\), got \(1, 1, 4\)"),
        ([[0, 0, 0, 0], [0, 0, np.inf, 0]], r"queries\[1\]: expected finite values"),
    ],
)
def test_bad_batches(Q, message):
    cache = cache_of(np.zeros((1, 4), np.float32))
    with pytest.raises(ValueError, match=message):
        cache.lookup_batch(Q, 1)
    assert cache.stats()["hits"] == 0


def test_bad_arguments_of_calls():
    cache = cache_of(np.zeros((1, 2), np.float32))
    zero = [0.0, 0.0]
    for call, message in [
        (lambda: cache.lookup(zero, k=0), "k: expected 1 to"),
        (lambda: cache.lookup(zero, tolerance=-1), "tolerance: expected at least 0, got -1"),
        (lambda: cache.lookup(zero, tolerance=math.nan), "tolerance: expected at least 0, got nan"),
        (lambda: cache.lookup_batch([zero], 0), "k: expected at least 1|k: expected 1 to"),
        (lambda: cache.insert(zero, [[1]]), r"ids: expected shape \(n,\), got \(1, 1\)"),
        (lambda: cache.insert(zero, [1.5]), "ids: expected integers, got dtype float64"),
        (lambda: cache.insert(zero, np.uint64([2**63])), r"ids: expected values below 2\*\*63"),
        (lambda: cache.insert(zero, [1, 2], distances=[1]), r"distances: expected shape \(2,\), got \(1,\)"),
        (
            lambda: cache.insert(zero, [1, 2], distances=[1, np.nan]),
            r"distances\[1\]: expected a finite value, got nan",
        ),
        (lambda: cache.insert(zero, [1, 2], k=1), "k: expected 2 to"),
        (lambda: cache.insert(zero, [1], tolerance=-1), "tolerance: expected at least 0, got -1"),
        (lambda: cache.insert(zero, [1], ttl=0), "ttl: expected a number above 0, got 0"),
        (lambda: setattr(cache, "tolerance", -1), "tolerance: expected at least 0, got -1"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    for wrong, message in [
        (lambda: cache.lookup(), "misses the argument 'q'"),
        (lambda: cache.lookup(zero, q=zero), "several values for argument 'q'"),
        (lambda: cache.lookup(zero, kk=1), "unexpected keyword argument 'kk'"),
        (lambda: cache.lookup(zero, 1, 2, 3, 4, 5), "at most 5 arguments"),
        (lambda: cache.lookup(zero, k="5"), "k: expected an integer, got '5'"),
        (lambda: cache.lookup(zero, tolerance="5"), "tolerance: expected a number, got '5'"),
    ]:
        with pytest.raises(TypeError, match=message):
            wrong()
    assert len(cache) == 1 and cache.lookup(zero).ids.tolist() == [0, 0]


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"tolerance": -0.1}, ValueError, "tolerance: expected at least 0"),
        ({"tolerance": math.nan}, ValueError, "tolerance: expected a finite number"),
        ({"tolerance": None}, TypeError, "tolerance: expected a number, got None"),
        ({"dim": 0}, ValueError, "dim: expected at least 1, got 0"),
        ({"dim": 2.0}, TypeError, "dim: expected an integer"),
        ({"capacity": 0}, ValueError, "capacity: expected 1 to"),
        ({"capacity": None}, ValueError, "capacity: expected an integer, got None"),
        ({"n_bits": 0, "index": "lsh"}, ValueError, "n_bits: expected 1 to 24, got 0"),
        ({"n_bits": 25, "index": "lsh"}, ValueError, "n_bits: expected 1 to 24, got 25"),
        ({"bucket_capacity": 0, "index": "lsh"}, ValueError, "bucket_capacity: expected 1 to"),
        ({"probes": 9, "index": "lsh"}, ValueError, "probes: expected 0 to 8, got 9"),
        ({"metric": "dot"}, ValueError, "metric: expected one of 'l2', 'cosine', 'ip', got 'dot'"),
        ({"eviction": "mru"}, ValueError, "eviction: expected one of"),
        ({"index": "hnsw"}, ValueError, "index: expected one of"),
        ({"on_nan": "ignore"}, ValueError, "on_nan: expected one of"),
        ({"ttl": 0}, ValueError, "ttl: expected a number above 0"),
        ({"seed": np.zeros((2, 2), "f4"), "index": "lsh"}, ValueError, r"planes: expected shape \(8, 4\)"),
        ({"capacity": 2**30, "dim": 2**20}, MemoryError, "no memory for 1073741824 keys of 1048576 dimensions"),
    ],
)
def test_bad_arguments_of_the_class(arguments, error, message):
    with pytest.raises(error, match=message):
        rag.ProximityCache(**{"dim": 4, "capacity": 10, "tolerance": 0.5, **arguments})


def test_nan_can_miss_instead():
    cache = rag.ProximityCache(2, 4, 9.0, on_nan="miss")
    assert cache.insert([np.nan, 0], [1]) is None and len(cache) == 0
    cache.insert([0, 0], [1])
    assert cache.lookup([np.inf, 0]) is None and cache.nearest([np.inf, 0]) is None
    assert cache.lookup_batch([[0, 0], [np.nan, 0]], 1)[0].tolist() == [True, False]
    assert cache.stats()["nonfinite"] == 3


def test_zero_vectors_have_no_direction():
    cache = rag.ProximityCache(2, 4, 2.0, metric="cosine")
    assert cache.insert([0, 0], [1]) is None
    cache.insert([0, 3], [1])
    assert cache.lookup([0.0, -0.0]) is None and cache.lookup([1, -5]) is not None
    assert cache.lookup_batch([[0, 0]], 1)[0].tolist() == [False] and cache.stats()["zero_vectors"] == 3


def test_minus_zero_is_zero():
    cache = rag.ProximityCache(2, 4, 0.0)
    assert cache.insert([0.0, 1.0], [1]) == cache.insert([-0.0, 1.0], [2]) and len(cache) == 1


def test_short_and_empty_results():
    """FAISS pads with -1."""
    cache = rag.ProximityCache(1, 4, 0.1)
    cache.insert([0.0], [4, -1, 7, -1], distances=[1, 9, 2, 9], k=4)
    hit = cache.lookup([0.0], k=4)
    assert hit.ids.tolist() == [4, 7] and hit.stored_distances.tolist() == [1, 2]
    assert cache.insert([5.0], []) is None and cache.insert([5.0], [-1, -1], k=2) is None and len(cache) == 1
    cache = rag.ProximityCache(1, 4, 0.1, cache_empty=True)
    assert cache.insert([5.0], [-1, -1], k=2) == 0 and cache.lookup([5.0], k=2).ids.tolist() == []


def test_lists_of_any_length():
    cache = rag.ProximityCache(1, 40, 0.0)
    lengths = [1, 2, 500, 3, 1000, 40]
    for i, n in enumerate(lengths):
        cache.insert([float(i)], np.arange(n) + i, distances=np.arange(n) if i % 2 else None)
    for i, n in enumerate(lengths):
        hit = cache.lookup([float(i)])
        np.testing.assert_array_equal(hit.ids, np.arange(n) + i)
        assert (hit.stored_distances is not None) == bool(i % 2)
        if i % 2:
            np.testing.assert_array_equal(hit.stored_distances, np.arange(n))


# ---- what it tells ----


def test_stats_notes_and_repr():
    cache = rag.ProximityCache(8, 10, 0.5, model="m")
    assert math.isnan(cache.stats()["hit_rate"]) and math.isnan(cache.stats()["p50_us"])
    cache.insert(np.zeros(8), [1])
    for _ in range(3):
        cache.lookup(np.zeros(8))
    cache.lookup(np.ones(8))
    cache.nearest(np.ones(8))
    cache.note("coalesced")
    cache.note("coalesced", 4)
    s = cache.stats()
    assert (s["hits"], s["misses"], s["hit_rate"], s["coalesced"]) == (3, 1, 0.75, 5)
    assert s["entries"] == 1 and s["bytes"] > 16 * 16 * 4 and 0 < s["p50_us"] <= s["p99_us"] < 1e6
    assert "entries=1" in repr(cache) and cache.model == "m"


def test_keys_and_entries_are_in_the_order_of_insertion():
    rng = np.random.default_rng(11)
    keys = unit(rng, 30, 6)
    cache = cache_of(keys, 0.1, capacity=20)
    np.testing.assert_array_equal(cache.keys(), keys[10:])
    assert [e.ids[0] for e in cache.entries()] == list(range(10, 30))
    cosine = rag.ProximityCache(6, 20, 0.1, metric="cosine")
    cosine.insert(5 * keys[0], [1], namespace="n", filter="f", distances=[0.5])
    np.testing.assert_allclose(cosine.keys(), keys[:1], rtol=1e-6)
    entry = cosine.entries()[0]
    assert (entry.namespace, entry.filter, entry.k, entry.distances.tolist()) == ("n", "f", 1, [0.5])


def test_a_core_that_was_not_made():
    bare = rag.ProximityCache.__new__(rag.ProximityCache)
    for call in (lambda: bare.lookup([0.0]), lambda: len(bare), lambda: bare.clear(), lambda: bare.generation):
        with pytest.raises(RuntimeError, match="not initialised"):
            call()
