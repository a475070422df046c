"""A cache in plain Python with the methods of `ProximityCache` that the layers above call: FLAT, FIFO, slow."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np


class Hit(NamedTuple):
    ids: np.ndarray
    key_distance: float
    slot: int
    age: float
    certified: bool
    stored: np.ndarray
    stored_distances: np.ndarray | None


class Entry(NamedTuple):
    slot: int
    key: np.ndarray
    ids: np.ndarray
    distances: np.ndarray | None
    k: int
    namespace: object


class ModelCache:
    def __init__(self, dim, capacity=300, tolerance=0.0, metric="l2"):
        self.dim, self.capacity, self.tolerance, self.metric = dim, capacity, tolerance, metric
        self.slots: dict[int, Entry] = {}  # oldest first
        self.free = list(range(capacity))
        self.counters: Counter[str] = Counter()
        self.generation = 0

    def _distance(self, q, key):
        if self.metric == "l2":
            return float(np.sqrt(((q.astype(float) - key) ** 2).sum()))
        dot = float(q.astype(float) @ key)
        return -dot if self.metric == "ip" else 1 - dot / float(np.linalg.norm(q) * np.linalg.norm(key))

    def nearest(self, q, namespace=None):
        found = [(self._distance(q, e.key), s) for s, e in self.slots.items() if e.namespace == namespace]
        return min(found, key=lambda f: f[0]) if found else None

    def lookup(self, q, k=None, namespace=None, tolerance=None):
        t = self.tolerance if tolerance is None else tolerance
        t = t.threshold(self, q, namespace) if hasattr(t, "threshold") else t
        near = self.nearest(np.asarray(q, np.float32), namespace)
        if near is not None and near[0] <= t:
            e = self.slots[near[1]]
            if k is None or k <= e.k:
                self.counters["hits"] += 1
                return Hit(e.ids[:k], near[0], near[1], 0.0, False, e.ids, e.distances)
        self.counters["misses"] += 1
        return None

    def insert(self, q, ids, *, distances=None, k=None, namespace=None):
        ids = np.array(ids, np.int64)
        if not len(ids):
            return None
        if not self.free:
            self.invalidate(next(iter(self.slots)))
        slot = self.free.pop(0)
        self.slots[slot] = Entry(slot, np.array(q, np.float32), ids, distances, k or len(ids), namespace)
        self.counters["insertions"] += 1
        if hasattr(self.tolerance, "forget"):
            self.tolerance.forget(slot)
        return slot

    def lookup_batch(self, Q, k, namespace=None):
        hits = [self.lookup(q, k, namespace) for q in Q]
        ids = np.full((len(hits), k), -1, np.int64)
        for row, h in zip(ids, hits):
            if h is not None:
                row[: len(h.ids)] = h.ids
        found = np.array([h is not None for h in hits], bool)
        return found, ids, np.array([np.nan if h is None else h.key_distance for h in hits], np.float32)

    def invalidate(self, slot):
        del self.slots[slot]
        self.free.append(slot)

    def entries(self):
        return list(self.slots.values())

    def remove_ids(self, ids):
        gone = [s for s, e in self.slots.items() if np.isin(e.ids, ids).any()]
        for s in gone:
            self.invalidate(s)
        return len(gone)

    def clear(self):
        self.generation += 1
        for s in list(self.slots):
            self.invalidate(s)

    def stale_after_add(self, vectors):
        stale = []
        for s, e in list(self.slots.items()):
            known = e.distances is not None and len(e.ids) == e.k
            if not known or min(self._distance(v, e.key) for v in vectors) < e.distances[-1]:
                stale.append(s)
                self.invalidate(s)
        return np.array(stale, np.int64)

    def note(self, name, count=1):
        self.counters[name] += count

    def __len__(self):
        return len(self.slots)
