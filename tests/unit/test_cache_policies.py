"""The six eviction policies against plain models of them, 100,000 random operations each, FLAT and in LSH buckets."""

from __future__ import annotations

import random

import numpy as np
import pytest

from collegium import rag

KEYS, DIM = 60, 9
VECTORS = np.random.default_rng(3).standard_normal((KEYS, DIM)).astype(np.float32)


class Fifo:
    """The order of insertion, and what the others add to it. A model is a list and loops, nothing clever."""

    def __init__(self, capacity):
        self.capacity, self.queue = capacity, []

    def touch(self, key):
        pass

    def add(self, key):
        self.queue.append(key)

    def remove(self, key):
        self.queue.remove(key)

    def evict(self):
        return self.queue.pop(0)

    def __contains__(self, key):
        return key in self.queue

    def __len__(self):
        return len(self.queue)


class Lru(Fifo):
    def touch(self, key):
        self.queue.remove(key)
        self.queue.append(key)


class Lfu(Fifo):
    def __init__(self, capacity):
        super().__init__(capacity)
        self.uses = {}

    def touch(self, key):
        self.uses[key] += 1

    def add(self, key):
        super().add(key)
        self.uses[key] = 1

    def evict(self):
        key = min(self.queue, key=lambda k: self.uses[k])  # the first of equals
        self.queue.remove(key)
        return key


class Clock(Fifo):
    def __init__(self, capacity):
        super().__init__(capacity)
        self.used = set()

    def touch(self, key):
        self.used.add(key)

    def add(self, key):
        super().add(key)
        self.used.discard(key)

    def evict(self):
        while self.queue[0] in self.used:
            self.used.discard(self.queue[0])
            self.queue.append(self.queue.pop(0))
        return self.queue.pop(0)


class Sieve(Clock):
    def __init__(self, capacity):
        super().__init__(capacity)
        self.hand = None  # a key

    def _after(self, key):
        i = self.queue.index(key) + 1
        return self.queue[i] if i < len(self.queue) else None

    def remove(self, key):
        if self.hand == key:
            self.hand = self._after(key)
        super().remove(key)

    def evict(self):
        key = self.queue[0] if self.hand is None else self.hand
        while key in self.used:
            self.used.discard(key)
            key = self.queue[0] if self._after(key) is None else self._after(key)
        self.hand = self._after(key)
        self.queue.remove(key)
        return key


class S3Fifo:
    def __init__(self, capacity):
        self.capacity, self.small_capacity = capacity, max(1, capacity // 10)
        self.small, self.main, self.ghosts, self.uses = [], [], [], {}

    def touch(self, key):
        self.uses[key] = min(3, self.uses[key] + 1)

    def add(self, key):
        (self.main if key in self.ghosts else self.small).append(key)
        self.uses[key] = 0

    def remove(self, key):
        (self.small if key in self.small else self.main).remove(key)

    def evict(self):
        while True:
            if len(self.small) >= self.small_capacity or not self.main:
                key = self.small.pop(0)
                if self.uses[key] < 2:
                    self.ghosts = [*self.ghosts, key][-(self.capacity - self.small_capacity) :]
                    if self.capacity == self.small_capacity:
                        self.ghosts = []
                    return key
                self.main.append(key)
                self.uses[key] = 0
            else:
                key = self.main.pop(0)
                if self.uses[key] == 0:
                    return key
                self.uses[key] -= 1
                self.main.append(key)

    def __contains__(self, key):
        return key in self.small or key in self.main

    def __len__(self):
        return len(self.small) + len(self.main)


MODELS = {"fifo": Fifo, "lru": Lru, "lfu": Lfu, "clock": Clock, "sieve": Sieve, "s3fifo": S3Fifo}


def stored(cache):
    return sorted(int(e.ids[0]) for e in cache.entries())


def run(cache, bucket_of, make, operations, seed):
    """Random operations on the cache and on a model a bucket; the same entries must be there all the time."""
    rng = random.Random(seed)
    models = {b: make() for b in set(bucket_of)}
    evictions = 0
    for step in range(operations):
        key = min(int(rng.expovariate(0.06)), KEYS - 1)  # some are popular
        model, what = models[bucket_of[key]], rng.random()
        if what < 0.55:
            hit = cache.lookup(VECTORS[key])
            assert (hit is not None) == (key in model), step
            if hit is not None:
                assert hit.ids[0] == key
                model.touch(key)
        elif what < 0.96:
            cache.insert(VECTORS[key], [key, 1000 + step])
            if key in model:
                model.touch(key)
            else:
                if len(model) == model.capacity:
                    model.evict()
                    evictions += 1
                model.add(key)
        elif what < 0.98:
            assert cache.remove_ids([key]) == (key in model)
            if key in model:
                model.remove(key)
        elif what < 0.9995:
            near = cache.nearest(VECTORS[key])
            if near is not None and near[0] == 0.0:
                assert key in model and cache.invalidate(near[1])
                model.remove(key)
        else:
            cache.clear() if what < 0.9998 else cache.bump_generation()
            models = {b: make() for b in models}
        if step % 500 == 0:
            assert stored(cache) == sorted(k for k in range(KEYS) if k in models[bucket_of[k]]), step
            assert len(cache) == sum(map(len, models.values())) <= cache.capacity
    assert stored(cache) == sorted(k for k in range(KEYS) if k in models[bucket_of[k]])
    assert cache.stats()["evictions"] == evictions > operations / 100
    return models


@pytest.mark.parametrize("eviction", MODELS)
def test_flat_against_the_model(eviction):
    """T6: duplicate insertion too, which never makes it larger or evicts anything else."""
    cache = rag.ProximityCache(DIM, 20, 1e-3, eviction=eviction)
    run(cache, [0] * KEYS, lambda: MODELS[eviction](20), 100_000, seed=1)


@pytest.mark.parametrize("eviction", MODELS)
def test_lsh_buckets_against_the_model(eviction):
    cache = rag.ProximityCache(DIM, None, 1e-3, eviction=eviction, index="lsh", n_bits=2, bucket_capacity=5)
    bits = (VECTORS @ cache._planes.T >= 0) @ [1, 2]
    assert len(set(bits)) == 4
    run(cache, list(bits), lambda: MODELS[eviction](5), 20_000, seed=2)


@pytest.mark.parametrize("capacity", [1, 2, 3, 11, 16, 17])
@pytest.mark.parametrize("eviction", MODELS)
def test_small_capacities(eviction, capacity):
    cache = rag.ProximityCache(DIM, capacity, 1e-3, eviction=eviction)
    run(cache, [0] * KEYS, lambda: MODELS[eviction](capacity), 1500, seed=capacity)


@pytest.mark.parametrize("eviction", MODELS)
def test_a_saved_cache_evicts_as_the_one_it_was(eviction, tmp_path):
    """Queues, marks, counts, hand and ghosts are in the file."""
    for seed in range(4):
        cache = rag.ProximityCache(DIM, 20, 1e-3, eviction=eviction)
        model = run(cache, [0] * KEYS, lambda: MODELS[eviction](20), 400, seed=seed)[0]
        cache.save(tmp_path / "cache")
        cache = rag.ProximityCache.load(tmp_path / "cache")
        rng = random.Random(seed)
        for step in range(300):
            key = rng.randrange(KEYS)
            assert (cache.lookup(VECTORS[key]) is not None) == (key in model), step
            if key in model:
                model.touch(key)
            else:
                if len(model) == 20:
                    model.evict()
                cache.insert(VECTORS[key], [key])
                model.add(key)


def test_fifo_ignores_hits_and_lru_does_not():
    """T7: A B C at capacity 3, hit A, insert D."""
    for eviction, gone in (("fifo", 0), ("lru", 1), ("lfu", 1), ("clock", 1), ("sieve", 1)):
        cache = rag.ProximityCache(DIM, 3, 0.0, eviction=eviction)
        for key in range(3):
            cache.insert(VECTORS[key], [key])
        assert cache.lookup(VECTORS[0]).ids.tolist() == [0]
        assert len(cache) == 3  # the query that hit is not stored
        cache.insert(VECTORS[3], [3])
        assert stored(cache) == sorted({0, 1, 2, 3} - {gone}), eviction


def test_a_capacity_over_all_buckets():
    cache = rag.ProximityCache(DIM, 12, 1e-3, index="lsh", n_bits=4, bucket_capacity=5)
    for step in range(300):
        key = step % KEYS
        cache.insert(VECTORS[key], [key])
        assert cache.lookup(VECTORS[key]).ids[0] == key  # what came last is there
        assert len(cache) == min(step + 1, 12)
    assert cache.stats()["evictions"] == 288
