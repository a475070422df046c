"""CachedIndex over real indexes: drop-in results, honest distances, certified hits, documents that come and go."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from rag_model import ModelCache

from collegium.rag import rerank
from collegium.rag.adapters import adapt
from collegium.rag.cache import ProximityCache
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
    def sure(kth, farthest, between, metric, length=1.0):
        return rerank.certified(kth, farthest, between, metric, length, DIM)

    assert sure(0.1, 0.9, 0.05, "cosine") and not sure(0.5, 0.9, 0.3, "cosine")
    assert not sure(0.1, 0.9, 0.05, "ip") and not sure(0.1, np.inf, 0.05, "l2")
    assert not sure(0.5, 0.6, 0.1001, "l2") and sure(0.5, 0.6, 0.0995, "l2")
    assert not sure(0.5, 0.6, 0.0995, "l2", length=100.0)  # the database's float32 cannot tell these apart


def test_near_equal_vectors_far_from_the_origin(need):
    """T2: FAISS computes distances of batches by expansion, and loses them to cancellation. Nothing is certified that
    an exact search in float64 contradicts, and no new document is missed."""
    faiss = need("faiss")
    threshold = faiss.cvar.distance_compute_blas_threshold
    X, N, queries = ((30 + 0.02 * rng.normal(size=(n, 64))).astype(np.float32) for n in (400, 40, 64))
    index = faiss.IndexFlatL2(64)
    index.add(X)
    cached = CachedIndex(index, ModelCache(64, tolerance=0.05), rerank_factor=4)
    try:
        faiss.cvar.distance_compute_blas_threshold = 20
        cached.search(queries, 5)
    finally:
        faiss.cvar.distance_compute_blas_threshold = threshold
    near = (queries + 1e-3 * rng.normal(size=queries.shape)).astype(np.float32)
    answers = cached.search(near, 5)
    for q, ids, sure in zip(near, answers[1], answers.certified):
        assert not sure or set(ids) == set(np.argsort(((X.astype(float) - q) ** 2).sum(1))[:5])
    cached.add(N)
    both = np.concatenate([X, N]).astype(float)
    again = cached.search(queries, 5)
    for q, ids, hit in zip(queries, again[1], again.hit_mask):
        best = set(np.argsort(((both - q) ** 2).sum(1))[:5])
        assert not hit or not {i for i in best if i >= 400} - set(ids)


def test_ids_below_zero_are_ids(need):
    faiss = need("faiss")
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(DIM))
    index.add_with_ids(DOCS, -7 * np.arange(400) - 5)
    cached = CachedIndex(index, ModelCache(DIM, tolerance=0.5))
    wanted = index.search(Q, K)[1]
    assert wanted.max() < -1
    for _ in range(2):
        np.testing.assert_array_equal(cached.search(Q, K)[1], wanted)


def test_an_index_renumbered_between_a_hit_and_its_vectors(need):
    """The ids of the hit are other documents by then: the search starts again."""
    index = faiss_index(need, "flat")

    class Interrupted(ModelCache):
        hook = None

        def lookup(self, *args, **named):
            found, hook = super().lookup(*args, **named), self.hook
            if found is not None and hook is not None:
                self.hook = None
                worker = threading.Thread(target=hook)
                worker.start()
                worker.join()
            return found

    cache = Interrupted(DIM, tolerance=0.5)
    cached = CachedIndex(index, cache, rerank_factor=20)
    cached.search(Q[0], 3)
    cache.hook = lambda: cached.remove_ids([0])
    np.testing.assert_array_equal(cached.search(NEAR[0], 3)[1], index.search(NEAR[:1], 3)[1][0])
    assert index.ntotal == 399


def test_an_index_that_changes_all_the_time_is_asked_itself(need):
    index = faiss_index(need, "flat")
    cache = ModelCache(DIM, tolerance=0.5)
    cached = CachedIndex(index, cache)
    cached.search(Q, K)
    lookup = cache.lookup
    cache.lookup = lambda *a, **n: (setattr(cached, "_epoch", cached._epoch + 1), lookup(*a, **n))[1]
    got = cached.search(Q[0], K)
    assert not got.hit_mask.any()
    np.testing.assert_array_equal(got[1], index.search(Q[:1], K)[1][0])


@pytest.mark.parametrize("add", ["own ids", "given ids"])
def test_hnswlib_writes_over_labels_and_hides_deleted_ones(need, add):
    index = need("hnswlib").Index(space="l2", dim=DIM)
    index.init_index(100)
    index.add_items(DOCS[:3], [4, 5, 6])
    cached = CachedIndex(index, ModelCache(DIM, tolerance=0.1))
    assert cached.search(DOCS[0], 1)[1][0] == 4
    cached.add(DOCS[:1] + np.float32([[9], [8], [7], [6]]), ids=None if add == "own ids" else [3, 4, 5, 6])
    assert not cached.search(DOCS[0], 1).hit_mask[0]
    assert len(set(cached.search(DOCS[0], 4)[1].tolist())) == 4
    cached.remove_ids([4])
    I = cached.search(DOCS[0], 4)[1]
    assert I[3] == -1 and 4 not in I


def test_hnswlibs_exact_index(need):
    index = need("hnswlib").BFIndex(space="l2", dim=DIM)
    index.init_index(500)
    index.add_items(DOCS, np.arange(400))
    with pytest.raises(TypeError, match="unit: expected 'l2sq', '1-ip' or 'cosine'"):
        CachedIndex(index, ModelCache(DIM, tolerance=0.5))
    cached = CachedIndex(index, ModelCache(DIM, tolerance=0.5), unit="l2sq", vectors=DOCS)
    cached.search(Q, K)
    nearest = int(cached.search(NEAR[0], K)[1][0])
    cached.remove_ids([nearest])
    assert nearest not in cached.search(NEAR[0], K)[1]


def test_codes_are_no_vectors(need):
    index = need("usearch.index").Index(ndim=DIM, metric="l2sq", dtype="i8")
    index.add(np.arange(400), DOCS / 8)
    cached = CachedIndex(index, ModelCache(DIM, tolerance=0.5))
    assert cached.adapter.vectors is None
    cached.search(Q, K)
    assert np.isnan(cached.search(Q, K)[0]).all()


def test_inverted_lists_behind_a_map_of_ids_give_no_vectors(need):
    faiss = need("faiss")
    index = faiss.IndexIDMap2(faiss.IndexIVFFlat(faiss.IndexFlatL2(DIM), DIM, 4))
    index.train(DOCS)
    index.add_with_ids(DOCS, np.arange(400) + 7)
    cached = CachedIndex(index, ModelCache(DIM, tolerance=0.5))
    assert cached.adapter.vectors is None
    np.testing.assert_array_equal(cached.search(Q, K)[1], cached.search(Q, K)[1])


def test_a_vector_that_is_no_number_is_refused_before_the_index_sees_it(need):
    index = faiss_index(need, "flat")
    cached = CachedIndex(index, ModelCache(DIM, tolerance=0.5))
    with pytest.raises(ValueError, match="x: expected finite"):
        cached.add(np.full((1, DIM), np.nan, np.float32))
    assert index.ntotal == 400


def test_an_interrupt_while_a_change_waits_leaves_the_index_usable():
    cached = CachedIndex(Plain(), ModelCache(DIM, tolerance=0.5))
    gate = cached._gate
    with gate.search():
        worker_says = []

        def change():
            wait_for = gate._free.wait_for
            calls = []

            def interrupted(ready, timeout=None):
                calls.append(1)
                if len(calls) == 2:
                    raise KeyboardInterrupt
                return wait_for(ready, timeout)

            gate._free.wait_for = interrupted
            try:
                with gate.change():
                    pass
            except KeyboardInterrupt:
                worker_says.append("interrupted")
            finally:
                gate._free.wait_for = wait_for

        worker = threading.Thread(target=change)
        worker.start()
        worker.join(10)
    assert worker_says == ["interrupted"]
    with gate.change():
        pass


def test_vectors_that_search_the_same_index_while_a_change_waits():
    plain, waiting = Plain(), threading.Event()
    plain.add = lambda x, ids=None: None

    def vectors(ids):
        if worker.ident is None:  # the change makes the search start again: once is enough
            worker.start()
            while not cached._gate._changing:
                time.sleep(0.001)
            cached.search(DOCS[0], K)
            waiting.set()
        return DOCS[ids]

    cached = CachedIndex(plain, ModelCache(DIM, tolerance=0.5), rerank_factor=2, vectors=vectors)
    worker = threading.Thread(target=lambda: cached.add(DOCS[:1]))
    cached.search(Q[0], K)
    cached.search(NEAR[0], K)
    worker.join(10)
    assert waiting.is_set() and not worker.is_alive()
    plain.add = lambda x: None
    with pytest.raises(RuntimeError, match="inside one of its own searches"), cached._gate.search():
        cached.add(DOCS[:1])


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
    cached = CachedIndex(index, ProximityCache(DIM, capacity=20, tolerance=0.3))  # the model is not for threads
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
