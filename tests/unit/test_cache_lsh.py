"""The LSH index: signatures, probes, and that a lookup is FLAT over the buckets it looks into."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from collegium import _core, rag


def lsh(dim, tolerance=9.0, n_bits=4, probes=0, bucket_capacity=200, **options):
    return rag.ProximityCache(
        dim, None, tolerance, index="lsh", n_bits=n_bits, probes=probes, bucket_capacity=bucket_capacity, **options
    )


def cheapest_flips(projections, probes):
    """All sets of bits to flip, by the sum of their |projection|: the plain way, 2^bits of them."""
    bits = range(len(projections))
    sets = [s for n in range(1, len(projections) + 1) for s in itertools.combinations(bits, n)]
    sets.sort(key=lambda s: sum(abs(projections[b]) for b in s))
    return sets[:probes]


def signature(projections):
    return sum(1 << b for b, p in enumerate(projections) if p >= 0)


@pytest.mark.parametrize("n_bits, probes", [(1, 0), (1, 1), (3, 0), (3, 2), (4, 4), (5, 3), (8, 8)])
def test_a_lookup_is_flat_over_the_probed_buckets(isa, threads, n_bits, probes):
    """T9: whatever it misses lies in another bucket; what it finds is the nearest in those it probes."""
    rng = np.random.default_rng(n_bits)
    dim = 21
    keys, queries = (rng.standard_normal((300, dim)).astype(np.float32) for _ in range(2))
    cache = lsh(dim, 4.0, n_bits, probes)
    for i, key in enumerate(keys):
        cache.insert(key, [i])
    planes = cache._planes.astype(np.float64)
    bucket = np.array([signature(planes @ key) for key in keys])
    answers = cache.lookup_batch(queries, 1)
    hits = 0
    for i, q in enumerate(queries):
        p = planes @ q
        probed = [signature(p)] + [signature(p) ^ sum(1 << b for b in s) for s in cheapest_flips(p, probes)]
        distances = np.where(np.isin(bucket, probed), np.linalg.norm(keys - q, axis=1), np.inf)
        hit = cache.lookup(q)
        assert (hit is not None) == (distances.min() <= 4.0) == answers[0][i]
        if hit is not None:
            assert hit.ids[0] == distances.argmin() == answers[1][i, 0]
            hits += 1
    assert hits > 20


def test_enough_probes_are_flat():
    rng = np.random.default_rng(1)
    keys, queries = (rng.standard_normal((100, 12)).astype(np.float32) for _ in range(2))
    flat = rag.ProximityCache(12, 100, 9.0)
    one_bit = lsh(12, n_bits=1, probes=1)
    for i, key in enumerate(keys):
        flat.insert(key, [i])
        one_bit.insert(key, [i])
    for q in queries:
        a, b = flat.lookup(q), one_bit.lookup(q)
        assert a.ids == b.ids and a.key_distance == b.key_distance


@pytest.mark.parametrize("n_bits", [4, 8])
def test_how_often_neighbours_share_a_bucket(n_bits):
    """T9: (1 - theta / pi)^L, within three standard errors, over many draws of hyperplanes."""
    rng = np.random.default_rng(2)
    n, dim = 3000, 32
    for r in (0.3, 0.7):
        theta = 2 * math.asin(r / 2)
        expected = (1 - theta / math.pi) ** n_bits
        shared = 0
        for seed in range(n // 100):
            cache = lsh(dim, 9.0, n_bits, bucket_capacity=1, seed=seed)
            for _ in range(100):
                a, b = np.linalg.qr(rng.standard_normal((dim, 2)))[0].T
                cache.clear()
                cache.insert(a, [1])
                shared += cache.lookup(math.cos(theta) * a + math.sin(theta) * b) is not None
        assert abs(shared / n - expected) < 3 * math.sqrt(expected * (1 - expected) / n) + 1e-9


def test_signatures_have_one_order_of_sums():
    """T10: a projection within rounding of zero must not move a key to another bucket under another instruction set."""
    rng = np.random.default_rng(3)
    for dim in (7, 48, 385):
        cache = lsh(dim, 0.0, n_bits=12, bucket_capacity=4)
        planes = cache._planes.astype(np.float64)
        old = _core.isa()
        for trial in range(60):
            x = rng.standard_normal(dim)
            for plane in planes[: min(3, dim - 1)]:  # almost on the hyperplanes
                x -= plane * (x @ plane) / (plane @ plane)
            x = x.astype(np.float32)
            _core.force_isa(_core.isas()[trial % len(_core.isas())])
            cache.insert(x, [trial])
            for name in _core.isas():
                _core.force_isa(name)
                assert cache.lookup(x).ids[0] == trial
        _core.force_isa(old)


def test_zero_projections_are_one_bits():
    """T10: w . q = 0 gives bit 1, for 0 and for -0."""
    cache = lsh(2, 99.0, n_bits=1, seed=np.array([[0.0, 1.0]], np.float32))
    cache.insert([5.0, 0.0], [1])
    assert cache.lookup([5.0, 3.0]).ids[0] == 1 and cache.lookup([5.0, -0.0]).ids[0] == 1
    assert cache.lookup([5.0, -1e-30]) is None


def test_buckets_are_made_on_first_use():
    """24 bits are 16 million buckets, and none of them takes memory before it is used."""
    cache = lsh(16, 0.1, n_bits=24, bucket_capacity=20)
    rng = np.random.default_rng(4)
    keys = rng.standard_normal((50, 16)).astype(np.float32)
    for i, key in enumerate(keys):
        assert cache.lookup(key) is None
        cache.insert(key, [i])
        assert cache.lookup(key).ids[0] == i and cache.lookup(key).slot == i * 20
    assert cache.stats()["buckets"] == len(cache) == 50 and cache.capacity == 20 << 24


def test_the_same_seed_gives_the_same_buckets():
    for options in ({"seed": 5}, {"seed": lsh(8, seed=5)._planes}):
        np.testing.assert_array_equal(lsh(8, **options)._planes, lsh(8, seed=5)._planes)
    assert not np.array_equal(lsh(8, seed=6)._planes, lsh(8, seed=5)._planes)
