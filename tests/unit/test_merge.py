"""Merging the results of sources: exact, in one order, whatever the sources send."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collegium import _core
from collegium.rag.local_source import VectorSource
from collegium.rag.merge import Merged, comparable, deduplicate, merge_topk
from collegium.rag.source import Source


def reference(D, ids, larger, k):
    """A sort of everything, in Python."""
    S, B = D.shape[:2]
    rows = []
    for b in range(B):
        hits = [
            (-float(d) if larger else float(d), s, int(i))
            for s in range(S)
            for d, i in zip(D[s][b], ids[s][b], strict=True)
            if i >= 0 and not np.isnan(d)
        ]
        rows.append(sorted(hits)[:k])
    return [[(s, i) for _, s, i in row] for row in rows], [[-d if larger else d for d, _, _ in row] for row in rows]


def check(D, ids, larger, k):
    got = merge_topk(D, ids, larger, k)
    hits, scores = reference(D, ids, larger, k)
    for b, row in enumerate(hits):
        n = len(row)
        assert list(zip(got.source[b, :n].tolist(), got.ids[b, :n].tolist(), strict=True)) == row
        assert got.D[b, :n].tolist() == scores[b]
        assert (got.ids[b, n:] == -1).all() and (got.source[b, n:] == -1).all()
        assert (got.D[b, n:] == (-np.inf if larger else np.inf)).all()
        assert got.counts[b].tolist() == [sum(s == t for s, _ in row) for t in range(len(D))]
    return got


SCORES = st.sampled_from([0.0, -0.0, 1.0, 1.5, -2.0, 1e30, float("inf"), float("-inf"), float("nan")])


@settings(max_examples=150)
@given(st.data())
def test_any_lists_come_out_in_order(data):
    S, B, k = (data.draw(st.integers(0, n)) for n in (5, 3, 6))
    D = np.array([data.draw(SCORES) for _ in range(S * B * k)], "f4").reshape(S, B, k)
    ids = np.array([data.draw(st.integers(-2, 4)) for _ in range(S * B * k)], "i8").reshape(S, B, k)
    check(D, ids, data.draw(st.booleans()), data.draw(st.integers(0, 12)))


@pytest.mark.parametrize("larger", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 7), (17, 40, 5), (3, 5, 100)])
def test_sizes_threads_and_instruction_sets(isa, threads, larger, shape):
    rng = np.random.default_rng(0)
    D = rng.integers(0, 20, shape).astype("f4")  # many ties
    D.sort(axis=2)
    if larger:
        D = D[:, :, ::-1].copy()
    ids = rng.integers(-1, 50, shape)
    for k in (1, shape[2], shape[0] * shape[2] + 3):
        check(D, ids, larger, k)


def test_sources_may_give_different_numbers_of_results():
    """Trap 7: a source with three documents, k = 10."""
    small = VectorSource(np.eye(3, 5, dtype="f4"), name="small")
    large = VectorSource(np.random.default_rng(0).normal(size=(40, 5)).astype("f4"), name="large")
    Q = np.ones((2, 5), "f4")
    found = [s.search(Q, 10) for s in (small, large)]
    assert (found[0][1][:, 3:] == -1).all()
    got = merge_topk([d for d, _ in found], [i for _, i in found], k=50)
    assert got.counts.tolist() == [[3, 10]] * 2
    assert (got.ids[got.source == 0] >= 0).all() and got.ids.shape == (2, 50)
    got = merge_topk([np.zeros((1, 2), "f4"), np.ones((1, 1), "f4")], [[[4, 5]], [[6]]])
    assert got.ids.tolist() == [[6, 4]] and got.source.tolist() == [[1, 0]]


def test_a_negative_id_is_no_result_whatever_its_score():
    got = merge_topk(np.array([[[9.0, 1.0]]], "f4"), np.array([[[-1, 3]]]), k=2)
    assert got.ids.tolist() == [[3, -1]] and got.counts.tolist() == [[1]]


def test_ties_fall_by_source_then_id_and_not_by_arrival():
    """Trap 8."""
    D = np.zeros((3, 1, 4), "f4")
    ids = np.array([[[3, 2, 1, 0]], [[0, 1, 2, 3]], [[2, 0, 3, 1]]])
    want = [(s, i) for s in range(3) for i in range(4)]
    got = merge_topk(D, ids, k=12)
    assert list(zip(got.source[0].tolist(), got.ids[0].tolist(), strict=True)) == want
    rng = np.random.default_rng(1)
    for _ in range(5):  # each list in another order of arrival
        order = np.argsort(rng.random(ids.shape), axis=2)
        again = merge_topk(np.take_along_axis(D, order, 2), np.take_along_axis(ids, order, 2), k=12)
        assert all((a == b).all() for a, b in zip(got, again, strict=True))


def union(rng, metric, n=300, d=9, sources=5, copies=True):
    """Vectors with exact ties across and within sources, and where each source begins."""
    x = rng.integers(-2, 3, (n, d)).astype("f4") if copies else rng.normal(size=(n, d)).astype("f4")
    return x, np.sort(rng.integers(0, n + 1, sources - 1))


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
@pytest.mark.parametrize("copies", [True, False])
def test_merged_is_the_search_in_the_union(isa, threads, metric, copies):
    """The theorem behind labels and federated search: bit for bit, ties included, since both break them alike."""
    rng = np.random.default_rng(3)
    x, cuts = union(rng, metric, copies=copies)
    Q = rng.integers(-2, 3, (33, x.shape[1])).astype("f4") if copies else rng.normal(size=(33, 9)).astype("f4")
    starts = np.concatenate([[0], cuts])
    parts = [VectorSource(p, name=f"s{i}", metric=metric) for i, p in enumerate(np.split(x, cuts))]
    for k in (1, 10, 400):
        found = [p.search(Q, k) for p in parts]
        got = merge_topk([d for d, _ in found], [i for _, i in found], metric != "l2", k)
        D, I = VectorSource(x, name="all", metric=metric).search(Q, k)
        assert (np.where(got.ids < 0, -1, got.ids + starts[got.source]) == I).all()
        assert (got.D == D).all()


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_merged_is_what_faiss_finds_in_the_union(need, metric):
    """Trap 6, score direction. FAISS breaks ties differently for the two metrics: sets are compared, up to the ties."""
    faiss = need("faiss")
    rng = np.random.default_rng(4)
    x, cuts = union(rng, metric)
    Q, k, starts = rng.integers(-2, 3, (20, x.shape[1])).astype("f4"), 10, np.concatenate([[0], cuts])
    make = faiss.IndexFlatIP if metric == "ip" else faiss.IndexFlatL2
    found = []
    for part in np.split(x, cuts):
        index = make(x.shape[1])
        index.add(np.ascontiguousarray(part))
        found.append(index.search(Q, k))
    whole = make(x.shape[1])
    whole.add(x)
    D, I = whole.search(Q, k)
    got = merge_topk([d for d, _ in found], [i for _, i in found], metric == "ip", k)
    assert (got.D == D).all()
    for b in range(len(Q)):
        sure = D[b] != D[b, -1]  # the last score's ties may be any of them
        ours = set((got.ids + starts[got.source])[b, sure].tolist())
        assert ours == set(I[b, sure].tolist())


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 12), st.integers(0, 2**31), st.booleans())
def test_the_theorem_for_any_partition(n, sources, k, seed, larger):
    rng = np.random.default_rng(seed)
    x = rng.integers(-1, 2, (n, 3)).astype("f4")
    q = rng.integers(-1, 2, (2, 3)).astype("f4")
    of = np.sort(rng.integers(0, sources, n))  # some are empty
    metric = "ip" if larger else "l2"
    found = [VectorSource(x[of == s], name=str(s), metric=metric).search(q, k) for s in range(sources)]
    got = merge_topk([d for d, _ in found], [i for _, i in found], larger, k)
    start = np.searchsorted(of, np.arange(sources))
    D, I = VectorSource(x, name="all", metric=metric).search(q, k)
    assert (np.where(got.ids < 0, -1, got.ids + start[got.source]) == I).all() and (got.D == D).all()


def test_duplicates_go_after_merging_and_the_list_is_filled_up():
    """Trap 9: Wikipedia in two stores."""
    D = [np.array([[9.0, 7.0, 5.0]], "f4"), np.array([[8.0, 6.0, 4.0]], "f4")]
    merged = merge_topk(D, [[[0, 1, 2]], [[0, 1, 2]]], k=6)
    title = {(0, 0): "a", (1, 0): "a", (0, 1): "b", (1, 1): "c", (0, 2): "c", (1, 2): None}
    got = deduplicate(merged, lambda s, i: title[s, i], 4)
    assert got.D.tolist() == [[9.0, 7.0, 6.0, 4.0]] and got.source.tolist() == [[0, 0, 1, 1]]
    assert got.counts.tolist() == [[2, 2]]
    by_place = [[title[s, i] for s, i in zip(merged.source[0].tolist(), merged.ids[0].tolist(), strict=True)]]
    assert all((a == b).all() for a, b in zip(got, deduplicate(merged, by_place, 4), strict=True))
    short = deduplicate(merged, lambda s, i: "same", 3, larger_is_better=False)
    assert short.ids.tolist() == [[0, -1, -1]] and short.D[0, 1] == np.inf


def test_scores_that_mean_different_things_are_not_merged():
    a = Source("a", metric="l2", encoder="e", normalised=True)
    assert comparable([a, Source("b", metric="l2", encoder="e")]) is False and comparable([Source("a")]) is True
    for other, what in ((Source("b", metric="ip", encoder="e"), "metric"), (Source("b", metric="l2"), "encoder")):
        with pytest.raises(ValueError, match=f"scores of 'a' and 'b' cannot be merged, {what}"):
            comparable([a, other])
    with pytest.raises(ValueError, match="normalised is True and False"):
        comparable([a, Source("b", metric="l2", encoder="e", normalised=False)])
    with pytest.raises(ValueError, match="dim is 3 and 4"):
        comparable([Source("a", dim=3), Source("b", dim=4)])
    cosine = [Source("a", metric="cosine", normalised=True), Source("b", metric="cosine", normalised=False)]
    assert comparable(cosine) is True


def test_bad_input():
    d, i = np.zeros((2, 1, 3), "f4"), np.zeros((2, 1, 3), "i8")
    for D, ids, kind, text in (
        (d[0], i, ValueError, r"D, I: expected equal shapes \(S, B, k\), got \(1, 3\), \(2, 1, 3\)"),
        (list(d), i[:1], ValueError, "I: expected 2 sources, those of D, got 1"),
        ([0.5], [1], ValueError, r"D, I: expected equal shapes \(B, k\), got \(\), \(\) of source 0"),
        (list(d), [i[0], i[1, :, :2]], ValueError, r"D, I: expected equal shapes \(B, k\), .* of source 1"),
        (list(d), list(i.astype("f4")), TypeError, "I: expected integer ids, got dtype float32 of source 0"),
        (d, i.astype("f4"), TypeError, "I: expected integer ids, got dtype float32"),
        (d.astype(bool), i, TypeError, "D: expected floats, got dtype bool"),
    ):
        with pytest.raises(kind, match=text):
            merge_topk(D, ids)
    with pytest.raises(ValueError, match="k: expected at least 0, got -1"):
        merge_topk(d, i, k=-1)
    out = Merged(np.empty((1, 3), "f4"), np.empty((1, 3), "i4"), np.empty((1, 3), "i8"), np.empty((1, 1), "i4"))
    with pytest.raises(ValueError, match=r"counts: expected shape \(1, 2\), got \(1, 1\)"):
        _core.merge_topk(d, i, True, *out)
    with pytest.raises(ValueError, match=r"I: expected the shape of D, \(2, 1, 3\), got \(2, 1, 2\)"):
        _core.merge_topk(d, i[:, :, :2].copy(), True, *out)


def test_unsigned_ids():
    D, I = np.array([[[0.9, 0.5]]], np.float32), np.array([[[5, 2**64 - 1]]], np.uint64)
    assert merge_topk(D, I, k=2).ids.tolist() == [[5, -1]]
    with pytest.raises(ValueError, match="I: expected ids below 2\\*\\*63, got 9223372036854775809"):
        merge_topk(D, np.array([[[5, 2**63 + 1]]], np.uint64), k=2)
