"""Exact search and statistics of a source's vectors, and sources over indexes."""

from __future__ import annotations

import threading
import types

import numpy as np
import pytest

from collegium import _core
from collegium.rag.local_source import FaissSource, VectorSource, single_threaded_faiss
from collegium.rag.source import METRICS, Source
from collegium.rag.stats import Statistics, source_stats


def scores64(x, q, metric):
    """(B, n) in float64, larger is better."""
    x, q = x.astype("f8"), q.astype("f8")
    if metric == "l2":
        return -np.square(q[:, None] - x[None]).sum(2)
    if metric == "cosine":
        x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
        q = q / np.maximum(np.linalg.norm(q, axis=1, keepdims=True), 1e-300)
    return q @ x.T


def error(x, q, metric):
    """Bound on a score's rounding, (B, 1)."""
    eps, d = np.finfo("f4").eps, x.shape[1]
    length = np.linalg.norm(x.astype("f8"), axis=1).max(initial=0), np.linalg.norm(q.astype("f8"), axis=1)[:, None]
    terms = {"ip": length[0] * length[1], "l2": (length[0] + length[1]) ** 2, "cosine": 1 + 0 * length[1]}[metric]
    return (d / 16 + 24) * eps * terms


def check(x, q, metric, k):
    D, I = VectorSource(x, name="s", metric=metric).search(q, k)
    assert D.dtype == np.float32 and I.dtype == np.int64 and D.shape == I.shape == (len(q), k)
    kept, all_scores, slack = min(k, len(x)), scores64(x, q, metric), error(x, q, metric)
    assert (I[:, kept:] == -1).all() and (D[:, kept:] == (np.inf if metric == "l2" else -np.inf)).all()
    got = D[:, :kept] * (-1 if metric == "l2" else 1)
    assert (np.diff(got, axis=1) <= 0).all()
    same = got[:, 1:] == got[:, :-1]
    assert (np.diff(I[:, :kept], axis=1)[same] > 0).all(), "ties go to the lower row"
    assert all(len(set(row)) == kept for row in I[:, :kept].tolist())
    assert (np.abs(np.take_along_axis(all_scores, I[:, :kept], 1) - got) <= slack).all()
    best = -np.sort(-all_scores, axis=1)[:, :kept]
    assert (np.abs(best - got) <= slack).all(), "no better row was left out"
    return D, I


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", [0, 1, 3, 95, 97, 2500])
def test_the_best_rows_of_every_query(isa, threads, metric, n):
    rng = np.random.default_rng(n)
    for d in (1, 7, 16, 63, 64, 130):
        x = (rng.normal(size=(n, d)) + 0.3).astype("f4")
        for b, k in ((1, 5), (5, 1), (7, 10), (8, 3), (70, 10)):
            check(x, rng.normal(size=(b, d)).astype("f4"), metric, k)
    check(x, rng.normal(size=(9, d)).astype("f4"), metric, n + 4)


@pytest.mark.parametrize("metric", METRICS)
def test_a_score_depends_on_its_row_and_query_only(isa, metric):
    """The batch, the threads, and the place of the row change no bit; what batches sort out beforehand never shows."""
    rng = np.random.default_rng(5)
    x, q = rng.normal(size=(5000, 48)).astype("f4"), rng.normal(size=(130, 48)).astype("f4")
    x[4000:] = x[:1000]  # ties
    x += 3  # little difference between rows against their length: the sieve has to be right
    source = VectorSource(x, name="s", metric=metric)
    old = _core.num_threads()
    try:
        _core.set_num_threads(1)
        one = [source.search(row, 20) for row in q]
        for threads in (1, 2, 3):
            _core.set_num_threads(threads)
            D, I = source.search(q, 20)
            assert (D == np.concatenate([d for d, _ in one])).all()
            assert (I == np.concatenate([i for _, i in one])).all()
    finally:
        _core.set_num_threads(old)


@pytest.mark.parametrize("metric", METRICS)
def test_rows_that_differ_by_rounding_only(isa, metric):
    """All scores lie within the bound by which the packed product sorts rows out."""
    rng = np.random.default_rng(6)
    x = (100 + 1e-5 * rng.normal(size=(700, 40))).astype("f4")
    q = (100 + 1e-5 * rng.normal(size=(64, 40))).astype("f4")
    source = VectorSource(x, name="s", metric=metric)
    D, I = source.search(q, 30)
    for b in range(0, 64, 9):
        d, i = source.search(q[b], 30)
        assert (d == D[b]).all() and (i == I[b]).all()


def test_scores_of_special_values(isa, threads):
    """NaN and the worst infinity are never returned, alone or in a batch."""
    x = np.zeros((200, 4), "f4")
    x[:, 0] = np.arange(200)
    x[7], x[9, 0], x[11, 0] = np.nan, np.inf, -np.inf
    norms = np.linalg.norm(x, axis=1).astype("f4")
    q = np.zeros((20, 4), "f4")
    q[:, 0] = 1
    for b in (1, 20):
        D, I = np.empty((b, 200), "f4"), np.empty((b, 200), "i8")
        _core.search_flat(0, x, norms, q[:b], D, I)
        assert I[0, :3].tolist() == [9, 199, 198]
        assert not np.isin(I, [7, 11]).any() and not np.isnan(D).any()
        _core.search_flat(1, x, norms, q[:b], D, I)
        assert not np.isin(I, [7, 9, 11]).any() and (np.sort(I[0])[:3] == -1).all()


def test_cosine_of_a_zero_vector_is_zero():
    x = np.array([[0, 0], [-1, 0], [3, 0]], "f4")
    source = VectorSource(x, name="s", metric="cosine")
    for q in (np.array([[5, 0]], "f4"), np.tile(np.array([[5, 0]], "f4"), (12, 1))):
        D, I = source.search(q, 3)
        assert I[0].tolist() == [2, 0, 1] and D[0].tolist() == [1, 0, -1]
    assert source.search(np.zeros((1, 2)), 3)[0].tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_against_faiss(need, metric):
    faiss = need("faiss")
    rng = np.random.default_rng(8)
    x, q = rng.normal(size=(3000, 40)).astype("f4"), rng.normal(size=(50, 40)).astype("f4")
    index = (faiss.IndexFlatIP if metric == "ip" else faiss.IndexFlatL2)(40)
    index.add(x)
    D, I = VectorSource(x, name="s", metric=metric).search(q, 10)
    d, i = index.search(q, 10)
    assert (I == i).all() and np.allclose(D, d, rtol=1e-5, atol=1e-4)


def test_float32_is_used_in_place_and_rows_may_be_apart():
    x = np.random.default_rng(0).normal(size=(50, 8)).astype("f4")
    source = VectorSource(x, name="s")
    assert np.shares_memory(source._vectors, x)
    wide = np.zeros((50, 20), "f4")
    wide[:, :8] = x
    norms = np.linalg.norm(x, axis=1).astype("f4")
    out = [(np.empty((9, 4), "f4"), np.empty((9, 4), "i8")) for _ in range(2)]
    _core.search_flat(0, x, norms, x[:9], *out[0])
    _core.search_flat(0, wide[:, :8], norms, wide[:9, :8], *out[1])
    assert (out[0][0] == out[1][0]).all() and (out[0][1] == out[1][1]).all()


def test_ids_vectors_and_passages():
    x = np.eye(4, dtype="f4")
    text = ["a", {"text": "b"}, "c", "d"]
    source = VectorSource(x, name="s", passages=text, ids=[30, 10, 20, 40])
    _, I = source.search([[0, 1, 0, 0]], 6)
    assert I.tolist() == [[10, 30, 20, 40, -1, -1]]
    assert source.passages(I[0]) == [{"text": "b"}, "a", "c", "d", None, None]
    assert (source.vectors([20, 30]) == x[[2, 0]]).all()
    with pytest.raises(KeyError, match="no vector with id 5"):
        source.vectors([5])
    with pytest.raises(KeyError, match="no passage with id 5"):
        source.passages([5])
    plain = VectorSource(x, name="s", passages={0: "zero", "3": "three"})
    assert plain.passages([3, 0, -1]) == ["three", "zero", None]
    with pytest.raises(KeyError, match="expected 0 to 3, got -1 to -1"):
        plain.vectors([-1])  # trap 7
    assert VectorSource(x, name="s").passages([2]) == [None]
    nothing = VectorSource(x[:0], name="s", ids=np.empty(0, int), passages=[])
    assert nothing.search(x[:1], 2)[1].tolist() == [[-1, -1]] and nothing.sample(5).shape == (0, 4)


def test_bad_vectors_and_queries():
    x = np.ones((3, 2), "f4")
    for kind, text, options in (
        (ValueError, r"vectors: expected shape \(rows, dim\), got \(3,\)", {"vectors": x[:, 0]}),
        (ValueError, "NaN or infinity in row 1", {"vectors": [[1, 2], [np.nan, 0], [np.inf, 0]]}),
        (ValueError, "metric: expected one of 'ip', 'l2', 'cosine', got 'dot'", {"metric": "dot"}),
        (ValueError, "passages: expected 3, one a vector, got 2", {"passages": ["a", "b"]}),
        (TypeError, "passages: expected a sequence or a mapping, got str", {"passages": "abc"}),
        (ValueError, "ids: expected unique values", {"ids": [1, 1, 2]}),
        (ValueError, r"ids: expected integers of shape \(3,\)", {"ids": [1.0, 2.0, 3.0]}),
        (TypeError, "name: expected a non-empty string", {"name": ""}),
    ):
        with pytest.raises(kind, match=text):
            VectorSource(**{"vectors": x, "name": "s", **options})
    source = VectorSource(x, name="s")
    with pytest.raises(ValueError, match=r"Q: expected shape \(rows, 2\), got \(1, 3\)"):
        source.search(np.ones((1, 3)), 1)
    with pytest.raises(ValueError, match="Q: expected finite values"):
        source.search([[np.nan, 1]], 1)
    with pytest.raises(ValueError, match="k: expected at least 1, got 0"):
        source.search(x, 0)
    with pytest.raises(ValueError, match=r"norms: expected shape \(3,\), got \(2,\)"):
        _core.search_flat(0, x, np.ones(2, "f4"), x, np.empty((3, 1), "f4"), np.empty((3, 1), "i8"))
    with pytest.raises(ValueError, match="metric: expected 0 to 2, got 3"):
        _core.search_flat(3, x, np.ones(3, "f4"), x, np.empty((3, 1), "f4"), np.empty((3, 1), "i8"))


# ---- statistics ----


def test_statistics_against_float64(isa, threads):
    rng = np.random.default_rng(9)
    for n, d in ((1, 1), (5, 3), (257, 17), (1030, 64)):
        x = (rng.normal(size=(n, d)) + 1).astype("f4")
        if n > 3:
            x[2] = 0
        got = source_stats(x, name="s", encoder="e", version="v", cost=2.0, metric="l2")
        mean = x.astype("f8").mean(0)
        lengths = np.linalg.norm(x.astype("f8"), axis=1)
        cosines = x @ mean / np.maximum(lengths, 1e-300) / np.linalg.norm(mean)
        assert (got.centroid == mean.astype("f4")).all() and got.count == n and not got.normalised
        assert got.density == pytest.approx(cosines.mean(), abs=1e-6)
        assert (got.encoder, got.version, got.cost, got.metric) == ("e", "v", 2.0, "l2")
        assert np.allclose(Statistics(d).add(x), lengths, rtol=1e-6)


def test_statistics_are_the_same_on_every_instruction_set_and_number_of_threads():
    x = np.random.default_rng(1).normal(size=(1500, 37)).astype("f4")
    old, seen = (_core.isa(), _core.num_threads()), set()
    try:
        for isa in _core.isas():
            for threads in (1, 2):
                _core.force_isa(isa)
                _core.set_num_threads(threads)
                s, u, norms = np.zeros(37), np.zeros(37), np.empty(1500, "f4")
                _core.source_stats(x, s, u, norms)
                seen.add((s.tobytes(), u.tobytes(), norms.tobytes()))
    finally:
        _core.force_isa(old[0])
        _core.set_num_threads(old[1])
    assert len(seen) == 1


def test_statistics_of_chunks_and_of_an_index(need):
    faiss = need("faiss")
    x = np.random.default_rng(2).normal(size=(1000, 12)).astype("f4")
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    whole = source_stats(x, name="s")
    index = faiss.IndexFlatIP(12)
    index.add(x)
    for other in (
        source_stats(iter([x[:1], x[1:700], x[700:]]), name="s"),
        source_stats(index, name="s", chunk=130),
        FaissSource(index, name="s").describe(),
        VectorSource(x, name="s").describe(),
    ):
        assert np.allclose(other.centroid, whole.centroid, rtol=0, atol=1e-8)
        assert other.density == pytest.approx(whole.density, abs=1e-12)
        assert other.count == 1000 and other.normalised is True


def test_the_centroid_of_unit_vectors_is_not_a_unit_vector():
    """Trap 13: both are kept, and the density is a cosine."""
    s = source_stats(np.eye(4, dtype="f4"), name="s")
    assert s.normalised and np.linalg.norm(s.centroid) == pytest.approx(0.5)
    assert np.linalg.norm(s.direction) == pytest.approx(1) and s.density == pytest.approx(0.5)


def test_statistics_of_nothing_and_of_nonsense():
    empty = source_stats(np.empty((0, 3), "f4"), name="s")
    assert empty.count == 0 and empty.centroid is None and empty.dim == 3
    balanced = source_stats(np.array([[1.0], [-1.0]]), name="s")
    assert balanced.density == 0 and balanced.direction is None
    x = np.ones((600, 2), "f4")
    x[300, 1] = np.inf
    with pytest.raises(ValueError, match="NaN or infinity in row 299, of the chunk after 1 rows of 's'"):
        source_stats(iter([x[:1], x[1:]]), name="s")
    with pytest.raises(ValueError, match="expected at least one chunk"):
        source_stats(iter([]), name="s")
    with pytest.raises(ValueError, match=r"expected shape \(rows, 2\)"):
        source_stats(iter([x[:1], np.ones((1, 3))]), name="s")
    s, u = np.zeros(2), np.zeros(2)
    with pytest.raises(ValueError, match="row 300"):
        _core.source_stats(x, s, u, np.empty(600, "f4"))
    assert not s.any() and not u.any()
    large = np.full((3, 2), 3e38, "f4")  # its length is beyond float32, it is finite all the same
    assert source_stats(large, name="s").count == 3


# ---- indexes ----


@pytest.mark.parametrize("kind", ["faiss ip", "faiss l2", "hnswlib l2", "hnswlib ip", "hnswlib cosine", "usearch cos"])
def test_indexes_speak_the_units_of_a_source(need, kind):
    library, space = kind.split()
    module = need({"usearch": "usearch.index"}.get(library, library))
    rng = np.random.default_rng(7)
    x, q = rng.normal(size=(200, 16)).astype("f4"), rng.normal(size=(3, 16)).astype("f4")
    if library == "faiss":
        index = (module.IndexFlatIP if space == "ip" else module.IndexFlatL2)(16)
        index.add(x)
    elif library == "hnswlib":
        index = module.Index(space=space, dim=16)
        index.init_index(200, ef_construction=400)
        index.set_ef(200)
        index.add_items(x, np.arange(200))
    else:
        index = module.Index(ndim=16, metric=space, dtype="f32", expansion_add=400, expansion_search=400)
        index.add(np.arange(200), x, threads=1)  # several at once leave vectors that no search reaches
    source = FaissSource(index, name="s", passages=[str(i) for i in range(200)])
    metric = {"cos": "cosine"}.get(space, space)
    assert source.describe().metric == metric and source.describe().count == 200
    D, I = source.search(q, 5)
    d, i = VectorSource(x, name="s", metric=metric).search(q, 5)
    assert (I == i).all() and np.allclose(D, d, rtol=1e-4, atol=1e-4)
    assert source.passages(I[0]) == [str(v) for v in I[0]]


def test_an_index_with_ids_of_its_own(need):
    faiss = need("faiss")
    x = np.eye(3, dtype="f4")
    for kind in (faiss.IndexIDMap, faiss.IndexIDMap2):
        index = kind(faiss.IndexFlatIP(3))
        index.add_with_ids(x, np.array([7, 8, 9]))
        source = FaissSource(index, name="s", encoder="e", passages={7: "seven", 8: "eight", 9: "nine"})
        s = source.describe()
        assert np.allclose(s.centroid, 1 / 3) and s.count == 3 and s.encoder == "e" and s.normalised
        _, I = source.search(x[:1], 5)
        assert I[0, 0] == 7 and (I[0, 3:] == -1).all() and source.passages(I[0, [0, 3]]) == ["seven", None]
    source = FaissSource(index, name="t", vectors=lambda ids: x[ids - 7])
    assert (source.vectors([8]) == x[1]).all()
    with pytest.raises(KeyError, match="at least 0"):
        source.vectors([-1])
    with pytest.raises(ValueError, match=r"Q: expected shape \(rows, 3\)"):
        source.search(np.ones((1, 2)), 1)


def test_an_index_that_keeps_no_vectors(need):
    faiss = need("faiss")
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(3), 3, 1, faiss.METRIC_INNER_PRODUCT)  # not without a direct map
    index.train(np.eye(3, dtype=np.float32))
    index.add(np.eye(3, dtype=np.float32))
    s = FaissSource(index, name="s").describe()
    assert s.centroid is None and s.count == 3 and s.dim == 3
    known = FaissSource(index, name="t", source=Source("s", centroid=[1, 0, 0], count=3, cost=2.0, encoder="e"))
    s = known.describe()
    assert (s.name, s.count, s.cost, s.encoder) == ("t", 3, 2.0, "e")
    with pytest.raises(ValueError, match="source: expected metric 'ip', the index's, got 'l2'"):
        FaissSource(index, name="t", source=Source("s", metric="l2"))


class Compressed:
    """An index that has the methods and cannot: in FAISS, reconstruct_n would end the process."""

    ntotal, d = 2, 3

    def search(self, q, k):
        raise NotImplementedError

    def reconstruct(self, i):
        raise RuntimeError("reconstruct not implemented for this type of index")

    def reconstruct_n(self, start, n):
        raise AssertionError("never called")


def test_an_index_that_cannot_reconstruct():
    source = FaissSource(Compressed(), name="s")
    assert source.describe().centroid is None and source.describe().count == 2
    with pytest.raises(TypeError, match="cannot give its vectors back; pass vectors= to FaissSource"):
        source.vectors([0])
    with pytest.raises(TypeError, match="vectors: Compressed cannot give its vectors back; pass the array itself"):
        source_stats(Compressed(), name="s")


def test_anything_that_searches():
    index = types.SimpleNamespace(search=lambda q, k: (np.full((len(q), k), 2.0), np.zeros((len(q), k), int)))
    source = FaissSource(index, name="s", unit="cosine")
    D, I = source.search([[1.0, 2.0]], 2)
    assert D.tolist() == [[-1, -1]] and I.dtype == np.int64 and source.describe().centroid is None
    with pytest.raises(TypeError, match=r"index: expected an object with search\(x, k\), got int"):
        FaissSource(3, name="s")


def test_one_faiss_thread_inside_the_block_only(need):
    """Trap 16: the number is the calling thread's own."""
    faiss = need("faiss")
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        inside, outside = [], []

        def work():
            with single_threaded_faiss():
                inside.append(faiss.omp_get_max_threads())
            outside.append(faiss.omp_get_max_threads())

        with single_threaded_faiss():
            assert faiss.omp_get_max_threads() == 1
            worker = threading.Thread(target=work)
            worker.start()
            worker.join()
            assert faiss.omp_get_max_threads() == 1
        assert inside == [1] and faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)
