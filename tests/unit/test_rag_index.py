"""CachedIndex over real indexes: drop-in results, honest distances, certified hits, documents that come and go."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from rag_model import ModelCache

from collegium.rag import rerank
from collegium.rag.adapters import adapt
from collegium.rag.index import CachedIndex

DIM, K = 16, 5
rng = np.random.default_rng(0)
DOCS = rng.normal(size=(400, DIM)).astype(np.float32)
Q = rng.normal(size=(30, DIM)).astype(np.float32)
NEAR = (Q + 0.02 * rng.normal(size=Q.shape)).astype(np.float32)


def exact(q, k, metric="l2", docs=DOCS):
    return np.argsort(rerank.distances(q, docs, metric), kind="stable")[:k]


class Plain:
    """The least that is an index."""

    def __init__(self):
        self.calls = 0

    def search(self, x, k):
        self.calls += len(x)
        ids = np.stack([exact(q, k) for q in x]) if len(x) else np.empty((0, k), np.int64)
        return np.stack([((DOCS[i] - q) ** 2).sum(1) for i, q in zip(ids, x)]) if len(x) else ids * 1.0, ids


def faiss_index(need, kind):
    faiss = need("faiss")
    if kind == "flat":
        index = faiss.IndexFlatL2(DIM)
    elif kind == "flat ip":
        index = faiss.IndexFlatIP(DIM)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(DIM, 32)
        index.hnsw.efSearch = 200
    elif kind == "ivf":
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(DIM), DIM, 4)
        index.nprobe = 4
        index.train(DOCS)
        index.make_direct_map()
    elif kind == "idmap":
        index = faiss.IndexIDMap2(faiss.IndexFlatL2(DIM))
    index.add_with_ids(DOCS, np.arange(400)) if kind == "idmap" else index.add(DOCS)
    return index


def other_index(need, kind):
    name, _, space = kind.partition(" ")
    if name == "hnswlib":
        index = need("hnswlib").Index(space=space, dim=DIM)
        index.init_index(1000, M=32, ef_construction=200)
        index.set_ef(300)
        index.add_items(DOCS, np.arange(400))
        return index
    index = need("usearch.index").Index(
        ndim=DIM, metric={"l2": "l2sq", "cosine": "cos", "ip": "ip"}[space], dtype="f32"
    )
    index.expansion_search = 300
    index.add(np.arange(400), DOCS)
    return index


KINDS = [
    "flat", "flat ip", "hnsw", "ivf", "idmap",
    "hnswlib l2", "hnswlib cosine", "hnswlib ip", "usearch l2", "usearch cosine", "usearch ip",
]  # fmt: skip


def make(need, kind):
    return faiss_index(need, kind) if kind in KINDS[:5] else other_index(need, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_real_indexes_miss_then_hit(need, kind):
    index = make(need, kind)
    cached = CachedIndex(index, ModelCache(DIM, tolerance=0.5))
    adapter = cached.adapter
    D, I = first = cached.search(Q, K)
    wanted_d, wanted_i = adapter.search(Q, K)
    np.testing.assert_array_equal(I, wanted_i)
    np.testing.assert_allclose(D, wanted_d, rtol=1e-5, atol=1e-5)
    assert not first.hit_mask.any() and np.isnan(first.key_distance).all()

    D, I = again = cached.search(NEAR, K)
    assert again.hit_mask.all() and (again.key_distance < 0.5).all()
    # Distances are those of the new query, in the index's own units, and rows are ranked by them.
    for d, i, q in zip(D, I, NEAR):
        np.testing.assert_allclose(
            d, adapter.from_cache(rerank.distances(q, DOCS[i], adapter.metric)), rtol=1e-4, atol=1e-5
        )
    ranked = np.diff(adapter.to_cache(D), axis=1)
    assert (ranked >= 0).all()
    assert np.mean([np.isin(exact(q, K, adapter.metric), i).mean() for q, i in zip(NEAR, I)]) > 0.9


def test_units_of_faiss_are_kept(need):
    index = make(need, "flat ip")
    cached = CachedIndex(index, ModelCache(DIM, tolerance=0.5))
    cached.search(Q, K)
    D, I = cached.search(NEAR, K)
    np.testing.assert_allclose(D, np.einsum("ijk,ik->ij", DOCS[I], NEAR), rtol=1e-4)
    assert (np.diff(D, axis=1) <= 0).all()


def test_without_vectors_distances_of_a_hit_are_nan_never_the_old_ones():
    cached = CachedIndex(Plain(), ModelCache(DIM, tolerance=0.5))
    cached.search(Q[:3], K)
    D, I = r = cached.search(np.concatenate([NEAR[:2], Q[5:6]]), K)
    np.testing.assert_array_equal(r.hit_mask, [True, True, False])
    assert np.isnan(D[:2]).all() and np.isfinite(D[2]).all() and (I >= 0).all()
    cached = CachedIndex(Plain(), ModelCache(DIM, tolerance=0.5), vectors=DOCS)
    cached.search(Q[:3], K)
    assert np.isfinite(cached.search(NEAR[:2], K)[0]).all()


@pytest.mark.parametrize("mode", ["sequential", "snapshot", "coalesce"])
def test_shapes(mode):
    cached = CachedIndex(Plain(), ModelCache(DIM, tolerance=0.5), mode=mode)
    D, I = cached.search(np.empty((0, DIM), np.float32), K)
    assert D.shape == I.shape == (0, K)
    D, I = cached.search(Q[0], K)
    assert D.shape == I.shape == (K,)
    D, I = cached.search(Q[:4].astype(np.float64), K)
    assert D.shape == (4, K) and D.dtype == np.float32 and I.dtype == np.int64
    for bad in (Q[:2, :3], Q[None], np.float32(1)):
        with pytest.raises(ValueError, match="x: expected shape"):
            cached.search(bad, K)
    with pytest.raises(ValueError, match="k: expected at least 1"):
        cached.search(Q, 0)


def test_a_database_smaller_than_k_is_padded_as_faiss_does(need):
    for kind in ("flat", "hnswlib l2", "usearch l2"):
        if kind == "flat":
            index = need("faiss").IndexFlatL2(DIM)
            index.add(DOCS[:3])
        else:
            index = other_index(need, kind)
            if kind.startswith("usearch"):
                index.reset()
                index.add(np.arange(3), DOCS[:3])
            else:
                index = need("hnswlib").Index(space="l2", dim=DIM)
                index.init_index(10)
                index.add_items(DOCS[:3])
        cached = CachedIndex(index, ModelCache(DIM, tolerance=0.5))
        for _ in range(2):
            r = cached.search(Q[:2], K)
            assert (np.sort(r[1], axis=1)[:, :2] == -1).all() and (np.sort(r[1], axis=1)[:, 2:] == [0, 1, 2]).all()
        assert r.hit_mask.all()


def test_reranking_recovers_what_the_old_ranking_loses(need):
    index = make(need, "flat")
    far = (Q + 0.25 * rng.normal(size=Q.shape)).astype(np.float32)
    recall = []
    for rho in (1, 2, 4, 8):
        cached = CachedIndex(index, ModelCache(DIM, tolerance=3.0), rerank_factor=rho)
        cached.cache.tolerance = 0.0
        cached.search(Q, K)
        cached.cache.tolerance = 3.0
        r = cached.search(far, K)
        assert r.hit_mask.all()
        recall.append(np.mean([np.isin(exact(q, K), i).mean() for q, i in zip(far, r[1])]))
    assert recall[0] < recall[1] < recall[2] <= recall[3] and recall[3] > 0.95


@pytest.mark.parametrize("kind", ["flat", "flat ip", "hnsw", "hnswlib cosine"])
def test_certified_hits_are_never_wrong(need, kind):
    index = make(need, kind)
    metric = "cosine" if "cosine" in kind else "l2"
    certified = 0
    for scale in (0.0, 0.002, 0.01, 0.05):
        cached = CachedIndex(index, ModelCache(DIM, tolerance=3.0, metric=metric), rerank_factor=6, exact=None)
        cached.cache.tolerance = 0.0
        cached.search(Q, K)
        cached.cache.tolerance = 3.0 if metric == "l2" else 0.5
        moved = (Q + scale * rng.normal(size=Q.shape)).astype(np.float32)
        r = cached.search(moved, K)
        for q, ids in zip(moved[r.certified], r[1][r.certified]):
            np.testing.assert_array_equal(ids, exact(q, K, metric))
        certified += int(r.certified.sum())
    assert (certified > 30) == (kind == "flat")  # approximate or inner-product databases prove nothing


def test_certificate_of_cosine_follows_from_the_triangle():
    assert rerank.certified(0.1, 0.9, 0.05, "cosine") and not rerank.certified(0.5, 0.9, 0.3, "cosine")
    assert not rerank.certified(0.1, 0.9, 0.05, "ip") and not rerank.certified(0.1, np.inf, 0.05, "l2")
    assert not rerank.certified(0.5, 0.6, 0.1001, "l2") and rerank.certified(0.5, 0.6, 0.0999, "l2")


# ---- documents that come and go ----


def test_t20_new_documents_drop_exactly_the_entries_they_change(need):
    index = make(need, "flat")
    cached = CachedIndex(index, ModelCache(DIM, tolerance=0.0))
    cached.search(Q, K)
    new = np.concatenate([rng.normal(size=(40, DIM)), Q[:3] + 0.1]).astype(np.float32)
    before = {e.slot: e.key for e in cached.cache.entries()}
    dropped = cached.add(new)
    left = {e.slot for e in cached.cache.entries()}
    together = np.concatenate([DOCS, new])
    changed = {s for s, q in before.items() if (exact(q, K) != exact(q, K, docs=together)).any()}
    assert changed == set(before) - left and dropped == len(changed)
    assert 3 <= dropped < len(Q)
    np.testing.assert_array_equal(cached.search(Q[0], K)[1], exact(Q[0], K, docs=together))


def test_new_documents_drop_everything_where_nothing_can_be_said(need):
    cached = CachedIndex(make(need, "flat ip"), ModelCache(DIM, tolerance=0.0))  # L2 keys, inner-product lists
    cached.search(Q, K)
    assert cached.add(0.001 * Q[:1]) == len(Q) and len(cached.cache) == 0


def test_a_removed_document_is_never_returned_again(need):
    index = make(need, "flat")
    cached = CachedIndex(index, ModelCache(DIM, tolerance=0.5))
    gone = cached.search(Q[:10], K)[1][:, 0]
    # A flat index renumbers on removal, so the ids of this test come from IDMap2.
    index = make(need, "idmap")
    cached = CachedIndex(index, ModelCache(DIM, tolerance=0.5))
    cached.search(Q, K)
    assert cached.remove_ids(gone) >= 10
    for _ in range(2):
        assert not np.isin(cached.search(NEAR, K)[1], gone).any()


def test_a_search_under_way_does_not_bring_a_removed_document_back():
    class Slow(Plain):
        def __init__(self):
            super().__init__()
            self.gone, self.inside, self.go = set(), threading.Event(), threading.Event()

        def search(self, x, k):
            D, I = super().search(x, k + len(self.gone))
            keep = [~np.isin(i, list(self.gone)) for i in I]
            self.inside.set()
            return np.stack([d[m][:k] for d, m in zip(D, keep)]), np.stack([i[m][:k] for i, m in zip(I, keep)])

        def remove_ids(self, ids):
            self.gone.update(ids.tolist())

    index = Slow()
    cached = CachedIndex(index, ModelCache(DIM, tolerance=0.5))
    gone = exact(Q[0], 1)

    # Between the answer of the index and its insertion into the cache, the document is removed.
    insert = cached._store

    def late(r, found):
        worker = threading.Thread(target=cached.remove_ids, args=(gone,))
        worker.start()
        worker.join(10)
        assert not worker.is_alive()
        return insert(r, found)

    cached._store = late
    cached.search(Q[0], K)
    cached._store = insert
    assert len(cached.cache) == 0
    assert gone[0] not in cached.search(Q[0], K)[1]


def test_concurrent_searches_and_changes(need):
    faiss = need("faiss")
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(DIM))
    index.add_with_ids(DOCS, np.arange(400))
    cached = CachedIndex(index, ModelCache(DIM, capacity=20, tolerance=0.3))
    errors, removed, stop = [], set(), threading.Event()

    def read(seed):
        r = np.random.default_rng(seed)
        try:
            while not stop.is_set():
                known = set(removed)
                ids = cached.search(Q[r.integers(30)], K)[1]
                assert not known & set(ids.tolist()), "a removed document came back"
        except Exception as e:
            errors.append(e)

    readers = [threading.Thread(target=read, args=(s,)) for s in range(4)]
    for t in readers:
        t.start()
    for i in range(60):
        victim = int(exact(Q[i % 30], 400)[i // 30])
        if victim not in removed:
            cached.remove_ids([victim])
            removed.add(victim)
        cached.add(rng.normal(size=(1, DIM)).astype(np.float32), [1000 + i])
    stop.set()
    for t in readers:
        t.join(20)
    assert not errors, errors[0]


def test_what_does_not_fit_says_so(need):
    with pytest.raises(TypeError, match=r"index: expected an object with search\(x, k\), got int"):
        adapt(3)
    with pytest.raises(ValueError, match="unit: expected one of 'l2sq'"):
        adapt(Plain(), unit="metres")
    with pytest.raises(ValueError, match="rerank_factor: expected 1"):
        CachedIndex(Plain(), ModelCache(DIM), rerank_factor=2)
    with pytest.raises(TypeError, match="index: expected one with add"):
        CachedIndex(Plain(), ModelCache(DIM)).add(Q)
    with pytest.raises(TypeError, match="index: expected one with remove_ids"):
        CachedIndex(Plain(), ModelCache(DIM)).remove_ids([1])
    with pytest.raises(ValueError, match="cache: expected dim 16"):
        CachedIndex(make(need, "flat"), ModelCache(8))
    with pytest.raises(ValueError, match=r"ids: expected shape \(2,\)"):
        CachedIndex(make(need, "idmap"), ModelCache(DIM)).add(Q[:2], [1])


def test_a_list_longer_than_asked_for_proves_nothing_more(need):
    """An entry filled with 100 ids serves the best of its first k: its last distance says nothing of those between."""
    faiss = need("faiss")
    index = faiss.IndexFlatL2(DIM)
    index.add(DOCS)
    cached = CachedIndex(index, ModelCache(DIM, tolerance=2.0), rerank_factor=2)
    cached.search(Q, 50)
    far = (Q + 0.3 * rng.normal(size=Q.shape)).astype(np.float32)
    got = cached.search(far, 5)
    assert got.hit_mask.all()
    for q, ids, sure in zip(far, got[1], got.certified):
        assert not sure or set(ids) == set(exact(q, 5))


def test_ids_that_move_after_a_removal_drop_everything(need):
    """FAISS's flat index closes the gap: id 7 is another document afterwards."""
    index = faiss_index(need, "flat")
    cached = CachedIndex(index, ModelCache(DIM, tolerance=0.5))
    cached.search(Q, K)
    assert cached.adapter.renumbers and cached.remove_ids([0]) == len(Q) and len(cached.cache) == 0
    np.testing.assert_array_equal(cached.search(Q, K)[1], index.search(Q, K)[1])
    kept = CachedIndex(faiss_index(need, "idmap"), ModelCache(DIM, tolerance=0.5))
    assert not kept.adapter.renumbers


def test_an_inverted_file_is_left_as_it_is(need):
    faiss = need("faiss")
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(DIM), DIM, 4)
    index.train(DOCS)
    cached = CachedIndex(index, ModelCache(DIM, tolerance=0.5))
    assert index.direct_map.no() and cached.adapter.vectors is None
    cached.add(DOCS, ids=np.arange(400) + 1000)  # which FAISS refuses with a direct map
    assert cached.search(Q, K)[1].min() >= 1000
    cached.remove_ids([1000])
    assert index.ntotal == cached.ntotal == 399 and cached.d == DIM
    with pytest.raises(ValueError, match="pass vectors="):
        CachedIndex(index, ModelCache(DIM), rerank_factor=2)


def test_a_document_that_takes_the_place_of_another(need):
    """hnswlib's add with an id that is there moves that document: entries that hold it are out of date."""
    index = make(need, "hnswlib l2")
    cached = CachedIndex(index, ModelCache(DIM, tolerance=0.1))
    nearest = int(cached.search(Q[0], K)[1][0])
    cached.search(Q[1], K)
    assert cached.add(np.full((1, DIM), 50, np.float32), ids=[nearest]) >= 1
    assert nearest not in cached.search(Q[0], K)[1]


def test_a_change_that_fails_halfway_drops_everything():
    class Half(Plain):
        def add(self, x):
            raise RuntimeError("disk full")

        def remove_ids(self, ids):
            raise RuntimeError("disk full")

    for change in (lambda c: c.add(DOCS[:2]), lambda c: c.remove_ids([3])):
        cached = CachedIndex(Half(), ModelCache(DIM, tolerance=0.5))
        cached.search(Q, K)
        with pytest.raises(RuntimeError, match="disk full"):
            change(cached)
        assert len(cached.cache) == 0


def test_a_refined_index_is_not_exact(need):
    faiss = need("faiss")
    base = faiss.IndexFlatL2(DIM)
    index = faiss.IndexRefineFlat(base)
    index.add(DOCS)
    assert not adapt(index).exact and adapt(base).exact
    assert adapt(faiss.IndexIDMap2(faiss.IndexFlatL2(DIM))).exact
