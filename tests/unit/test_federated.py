"""The federated retriever over sources of this process: whom it asks, what it merges, what it says of the rest."""

from __future__ import annotations

import asyncio
import gc
import itertools
import subprocess
import sys
import threading
import time
import warnings
import weakref

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'collegium[rag]'")

from collegium import rag
from collegium.rag.breaker import Breaker
from collegium.rag.cache import ProximityCache
from collegium.rag.endpoint import LocalEndpoint
from collegium.rag.federated import AllSourcesFailed, FederatedRetriever
from collegium.rag.http_source import SourceError
from collegium.rag.local_source import FaissSource, VectorSource
from collegium.rag.routing import Router
from collegium.rag.source import Source

D = 8
RNG = np.random.default_rng(0)
X = [RNG.standard_normal((n, D)).astype(np.float32) for n in (40, 3, 60, 50)]
Q = RNG.standard_normal((6, D)).astype(np.float32)


def sources(metric="ip", X=X, **named):
    return [
        VectorSource(x, name=f"s{i}", metric=metric, passages=[f"{i}/{j}" for j in range(len(x))], **named)
        for i, x in enumerate(X)
    ]


class Wrapped:
    """A source that counts its calls, waits, and fails on demand."""

    def __init__(self, base, wait=0.0, fail=None):
        self.base, self.wait, self.fail = base, wait, fail
        self.name, self.asked, self.version = base.name, [], base.describe().version

    def search(self, Q, k):
        self.asked.append(np.array(Q))
        time.sleep(self.wait(len(self.asked)) if callable(self.wait) else self.wait)
        if self.fail:
            raise self.fail
        return self.base.search(Q, k)

    def describe(self):
        return self.base.describe()

    def passages(self, ids):
        return self.base.passages(ids)


class Down(Wrapped):
    """A source that does not even describe itself until it is up."""

    up = False

    def search(self, Q, k):
        if not self.up:
            raise OSError("down")
        return super().search(Q, k)

    def describe(self):
        if not self.up:
            raise OSError("down")
        return super().describe()


class Fixed(Router):
    """The same scores for every query."""

    def __init__(self, scores, **policy):
        self.scores = scores
        self.sources = [Source(n) for n in scores]
        for name, value in policy.items():
            setattr(self, name, value)

    def _scores(self, Q):
        rows = len(next(iter(Q.values())))
        return np.tile(np.array(list(self.scores.values()), np.float32), (rows, 1))


def union(q, which, k, metric="ip"):
    scores = [(X[i] @ q if metric == "ip" else -np.square(X[i] - q).sum(axis=1)) for i in which]
    at = [(i, j) for i in which for j in range(len(X[i]))]
    return [at[j] for j in np.argsort(-np.concatenate(scores), kind="stable")[:k]]


def found(result, row=0):
    return [(int(h.source[1:]), h.id) for h in result.hits(row)]


def threads_end(before):
    until = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() <= before


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_the_union_is_searched(metric):
    """Traps 6 and 7: both directions, and a source of 3 documents asked for 10."""
    with FederatedRetriever(sources(metric), k=10) as fr:
        batch = fr.search(Q)
        assert batch.ids.shape == batch.scores.shape == batch.source.shape == (6, 10) and batch.ids.dtype == np.int64
        for i, q in enumerate(Q):
            one = fr.search(q)
            assert found(one) == found(batch, i) == union(q, range(4), 10, metric)
            assert one.ids.shape == (10,) and one.ids.tolist() == batch.ids[i].tolist()
            assert one.passages == batch.passages[i] == [f"{s}/{i}" for s, i in found(one)]
            assert one.sources == batch.sources[i] == [f"s{s}" for s, _ in found(one)]
            assert batch.row(i).ids.tolist() == one.ids.tolist()
        assert one.answered == one.selected == ("s0", "s1", "s2", "s3") and not one.is_partial and not one.reasons
        assert one.bytes_in == one.bytes_out == 0 and one.from_cache is np.False_
    with FederatedRetriever([sources(metric)[1]], k=10) as fr:
        r = fr.search(Q[0])
        assert r.ids.tolist()[3:] == [-1] * 7 and r.passages[3:] == r.sources[3:] == [None] * 7 and len(r.hits()) == 3
        assert fr.search(np.empty((0, D), np.float32)).ids.shape == (0, 10)


@pytest.mark.parametrize("fusion", ["score", "minmax"])
def test_a_source_that_is_down_does_not_turn_the_order_round(fusion):
    parts = sources("l2")
    parts[0] = Down(parts[0])
    with FederatedRetriever(parts, k=5, fusion=fusion, breaker=None) as fr:
        assert fr.sources["s0"] is None
        r = fr.search(Q[0])
        assert r.answered == ("s1", "s2", "s3")
        assert fusion != "score" or found(r) == union(Q[0], (1, 2, 3), 5, "l2")
        parts[0].up = True
        r = fr.search(Q[0])
        assert r.answered == ("s0", "s1", "s2", "s3")
        assert fusion != "score" or found(r) == union(Q[0], range(4), 5, "l2")


def test_order_of_arrival_is_nowhere_in_the_answer():
    """Trap 8, with ties between sources."""
    same = [X[0], X[0], X[0]]
    answers = []
    for waits in itertools.permutations((0.0, 0.03, 0.06)):
        parts = [Wrapped(s, w) for s, w in zip(sources(X=same), waits)]
        with FederatedRetriever(parts, k=9) as fr:
            r = fr.search(Q[:2])
            answers.append((r.ids.tolist(), r.source.tolist(), r.scores.tolist(), r.passages))
    assert all(a == answers[0] for a in answers)
    assert answers[0][1][0] == [0, 1, 2] * 3


def test_sources_are_matched_by_name():
    asked = [Wrapped(s) for s in sources()]
    router = Fixed({"s3": 0.9, "s1": 0.1, "s0": 0.6, "s2": 0.2})
    with FederatedRetriever(asked, router, k=5) as fr:
        r = fr.search(Q[0])
        assert r.selected == r.answered == ("s0", "s3") and found(r) == union(Q[0], (0, 3), 5)
        assert r.probabilities.tolist() == pytest.approx([0.6, 0.1, 0.2, 0.9])
        assert r.skipped == {"s1": "not selected", "s2": "not selected"} and not r.reasons and not r.is_partial
        assert [len(s.asked) for s in asked] == [1, 0, 0, 1] and fr.router is router
    with pytest.raises(ValueError, match="s9 cannot be searched"):
        FederatedRetriever(asked, Fixed({"s0": 1, "s1": 1, "s2": 1, "s3": 1, "s9": 1}))
    with pytest.raises(ValueError, match="s3 is not routed to"):
        FederatedRetriever(asked, Fixed({"s0": 1, "s1": 1, "s2": 1}))


def test_each_row_has_its_sources():
    class ByRow(Fixed):
        def _scores(self, Q):
            return np.eye(4, dtype=np.float32)[[0, 2, 2, 3, 0, 1]]

    asked = [Wrapped(s) for s in sources()]
    with FederatedRetriever(asked, ByRow(dict.fromkeys(["s0", "s1", "s2", "s3"], 0)), k=3) as fr:
        r = fr.search(Q)
        for i, s in enumerate([0, 2, 2, 3, 0, 1]):
            assert found(r, i) == union(Q[i], (s,), 3)
        assert asked[2].asked[0].tolist() == Q[1:3].tolist() and [len(s.asked) for s in asked] == [1] * 4
        assert r.selected_mask.sum() == 6 and r.skipped == {}


@pytest.mark.parametrize("policy, chosen", [("top1", ("s2",)), ("all", ("s0", "s1", "s2", "s3")), ("none", ())])
def test_an_empty_selection_follows_the_policy(policy, chosen):
    """Trap 17."""
    router = Fixed({"s0": 0.1, "s1": 0.2, "s2": 0.3, "s3": 0.0})
    with FederatedRetriever(sources(), router, k=4, on_empty=policy) as fr:
        r = fr.search(Q[0])
        assert r.selected == chosen and not r.is_partial and len(r.hits()) == (4 if chosen else 0)
    with pytest.raises(ValueError, match="on_empty: expected one of"):
        FederatedRetriever(sources(), router, on_empty="some")


def test_named_routers():
    with FederatedRetriever(sources(), "none", k=3) as fr:
        r = fr.search(Q)
        assert r.ids.tolist() == [[-1] * 3] * 6 and r.selected == () and not r.is_partial
    masks = []
    for seed in (0, 0, 1):
        with FederatedRetriever(sources(), "random", k=3, seed=seed) as fr:
            masks.append(fr.search(Q).selected_mask)
    assert (masks[0] == masks[1]).all() and (masks[0] != masks[2]).any() and (masks[0].sum(axis=1) == 2).all()
    with FederatedRetriever(sources(), "centroid", k=3) as fr:
        cosine = [[q @ x.mean(0) / np.linalg.norm(x.mean(0)) for x in X] for q in Q]
        best = np.sort(np.argsort(-np.array(cosine), axis=1)[:, :2], axis=1)
        assert [np.flatnonzero(row).tolist() for row in fr.search(Q).selected_mask] == best.tolist()
    with pytest.raises(ValueError, match="router: expected one of"):
        FederatedRetriever(sources(), "best")
    with pytest.raises(TypeError, match="router: expected a Router"):
        FederatedRetriever(sources(), object())


def test_centroids_of_a_source_that_is_down_at_first():
    """It is asked until it has told its centroid, then chosen like the others."""
    parts = sources()
    parts[0] = Down(parts[0])
    with FederatedRetriever(sources(), "centroid", k=3) as fr:
        nearest = fr.search(Q).selected_mask
    with FederatedRetriever(parts, "centroid", k=3, breaker=None) as fr:
        r = fr.search(Q)
        assert r.selected_mask[:, 0].all() and (r.selected_mask.sum(axis=1) == 3).all() and r.failed == {"s0": "failed"}
        assert np.isnan(r.probabilities[:, 0]).all() and np.isfinite(r.probabilities[:, 1:]).all()
        parts[0].up = True
        assert "s0" in fr.search(Q[0]).answered
        assert fr.search(Q).selected_mask.tolist() == nearest.tolist() and fr.search(Q[0]).ids.shape == (3,)
    down = [Down(s) for s in sources()]
    with FederatedRetriever(down, "centroid", k=3, fusion="rrf", breaker=None) as fr:
        assert fr.search(Q[0]).selected == ("s0", "s1", "s2", "s3")
        for s in down[:3]:
            s.up = True
        assert fr.search(Q[0]).answered == ("s0", "s1", "s2")
        assert (fr.search(Q).selected_mask.sum(axis=1) == 3).all()


@pytest.mark.parametrize(
    "q, error, message",
    [
        (np.ones(D + 1), ValueError, "s0"),
        (np.ones((2, 2, D)), ValueError, "s0"),
        (np.full(D, np.nan), ValueError, "finite values for encoder '' .*s0"),
        (np.ones(D, bool), ValueError, "expected floats, got dtype bool"),
        ("a text", TypeError, "encoder"),
        (object(), TypeError, "q: expected an array"),
        ({"other": np.ones(D)}, ValueError, "expected queries of encoder ''"),
    ],
)
def test_bad_queries_reach_no_source(q, error, message):
    asked = [Wrapped(s) for s in sources()]
    with FederatedRetriever(asked, k=3) as fr:
        with pytest.raises(error, match=message):
            fr.search(q)
        with pytest.raises(error, match=message):
            asyncio.run(fr.asearch(q))
        with pytest.raises(ValueError, match="k: expected at least 1, got 0"):
            fr.search(Q[0], 0)
        assert not any(s.asked for s in asked)
        assert found(fr.search(np.asfortranarray(Q.astype(np.float64))[1], 3)) == union(Q[1], range(4), 3)


@pytest.mark.parametrize(
    "wrong, error, message",
    [
        ({"k": 0}, ValueError, "k: expected at least 1"),
        ({"timeout": 0}, ValueError, "timeout: expected a number above 0"),
        ({"deadline": -1}, ValueError, "deadline: expected a number above 0"),
        ({"on_failure": "ignore"}, ValueError, "on_failure: expected one of 'partial', 'raise', 'next'"),
        ({"hedge": 0}, ValueError, "hedge: expected a number above 0"),
        ({"fusion": "magic"}, ValueError, "fusion: expected one of 'score', 'rrf'"),
        ({"dedup_key": 3}, TypeError, "dedup_key: expected a function"),
        ({"encoder": "minilm"}, TypeError, "encoder: expected a function"),
        ({"cache": "yes"}, TypeError, "cache: expected a ProximityCache"),
    ],
)
def test_bad_arguments(wrong, error, message):
    before = threading.active_count()
    with pytest.raises(error, match=message):
        FederatedRetriever(sources(), **wrong)
    threads_end(before)
    with pytest.raises(ValueError, match="sources: expected at least one"):
        FederatedRetriever([])
    with pytest.raises(ValueError, match="sources: expected different names"):
        FederatedRetriever([sources()[0]] * 2)
    with pytest.raises(TypeError, match="sources: expected {name: source}"):
        FederatedRetriever([X[0]])


def test_what_cannot_be_compared_is_not_merged_by_score():
    for other in ({"metric": "l2"}, {"encoder": "other"}):
        mixed = [sources()[0], VectorSource(X[2], **{"name": "s2", **other})]
        with pytest.raises(ValueError, match="fusion"):
            FederatedRetriever(mixed)
    unit = X[2] / np.linalg.norm(X[2], axis=1, keepdims=True)
    with pytest.raises(ValueError, match="normalised"):
        FederatedRetriever([sources()[0], VectorSource(unit, name="s2")])
    with pytest.raises(ValueError, match="expected one dim for encoder"):
        FederatedRetriever([sources()[0], VectorSource(np.ones((4, 5), np.float32), name="b")], fusion="rrf")


@pytest.mark.parametrize("method", ["rrf", "minmax", "cori", "interleave"])
def test_fusion_of_two_encoders_and_metrics(method):
    a = VectorSource(X[0], name="s0", encoder="a")
    b = VectorSource(X[2][:, :5], name="s2", encoder="b", metric="l2")
    queries = {"a": Q[0], "b": Q[1][:5]}
    router = Fixed({"s0": 0.6, "s2": 0.9})
    router.sources = [Source("s0", encoder="a"), Source("s2", encoder="b")]
    with FederatedRetriever([a, b], router, k=6, fusion=method) as fr:
        r = fr.search(queries)
        best = {0: [i for _, i in union(Q[0], (0,), 6)],
                2: np.argsort(np.square(X[2][:, :5] - Q[1][:5]).sum(axis=1), kind="stable").tolist()}  # fmt: skip
        for s in (0, 2):  # each source's own order is kept
            mine = [i for t, i in found(r) if t == s]
            assert mine == best[s][: len(mine)]
            assert mine or method == "rrf"  # there a weight half as large again outweighs 30 ranks
        assert found(r)[0] == (2, best[2][0])  # the likelier source leads (trap 18)
        with pytest.raises(ValueError, match="expected a mapping"):
            fr.search(Q[0])


@pytest.mark.parametrize("method", ["rrf", "minmax", "cori", "interleave"])
def test_weights_of_a_query_are_its_own(method):
    """Neither other queries of the batch nor sources that were not selected change them."""

    class ByRow(Fixed):
        rows = np.array([[0.6, -1.0, 0.9, 0.1], [-0.5, 0.7, -0.2, 0.8], [0.7, 0.8, 0.9, 0.0], [-2, -1, -3, -4]])

        def _scores(self, Q):
            at = [int(np.flatnonzero((Q[""][i] == globals()["Q"]).all(axis=1))[0]) for i in range(len(Q[""]))]
            return self.rows[at].astype(np.float32)

    router = ByRow(dict.fromkeys(["s0", "s1", "s2", "s3"], 0))
    with FederatedRetriever(sources(), router, k=8, fusion=method) as fr:
        batch = fr.search(Q[:4])
        for i in range(4):
            one = fr.search(Q[i])
            assert found(one) == found(batch, i)
            np.testing.assert_array_equal(one.scores, batch.scores[i])
        assert batch.selected_mask[0].tolist() == [True, False, True, False]
        first = found(batch, 0)[0]
        assert first == union(Q[0], (2,), 1)[0]  # the weights counted
        router.rows = np.where(batch.selected_mask[:4], ByRow.rows, [[-9.0], [0.4], [0.1], [-9.0]])
        again = fr.search(Q[:4])
        np.testing.assert_array_equal(again.ids, batch.ids)
        np.testing.assert_array_equal(again.scores, batch.scores)


@pytest.mark.parametrize("named", [{}, {"dedup_key": "doc"}, {"fusion": "rrf"}, {"fusion": "rrf", "dedup_key": "doc"}])
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_there_is_no_score_where_there_is_no_document(metric, named):
    with FederatedRetriever(sources(metric)[1:2], k=10, **named) as fr:
        for r in (fr.search(Q[0]), fr.search(Q)):
            assert (np.isnan(r.scores) == (r.ids < 0)).all() and (r.ids < 0).any() and (r.ids >= 0).any()
            assert r.scores.dtype == np.float32
    with FederatedRetriever(sources(metric), "none", k=10, **named) as fr:
        assert np.isnan(fr.search(Q).scores).all()


def test_duplicates_go_and_others_move_up():
    """Trap 9: the same passage planted in two sources."""
    x = np.concatenate([X[0][:5], X[2]])
    a = VectorSource(X[0], name="s0", passages=[{"doc": f"a{j}"} for j in range(40)])
    b = VectorSource(x, name="s1", passages=[{"doc": f"a{j}" if j < 5 else f"b{j}"} for j in range(65)])
    for key in ("doc", lambda p: p["doc"]):
        with FederatedRetriever([a, b], k=20, dedup_key=key) as fr:
            hits = fr.search(Q[0]).hits()
            docs = [h.passage["doc"] for h in hits]
            assert len(docs) == 20 == len(set(docs))
            scores = [h.score for h in hits]
            assert scores == sorted(scores, reverse=True)
            everything = np.unique(np.concatenate([X[0] @ Q[0], X[2] @ Q[0]]))[::-1][:20]
            assert np.allclose(scores, everything, rtol=1e-5)


def test_duplicates_within_a_source_are_made_up_for():
    s = VectorSource(np.repeat(X[0], 2, axis=0), name="s0", passages=[{"doc": j // 2} for j in range(80)])
    with FederatedRetriever([s], k=10, dedup_key="doc") as fr:
        assert [h.passage["doc"] for h in fr.search(Q[0]).hits()] == [j for _, j in union(Q[0], (0,), 10)]

    class Limited(Wrapped):
        def search(self, Q, k):
            self.ks.append(k)
            if k > 6:
                raise SourceError("s0", "http 413", "k: expected at most 6")
            return super().search(Q, k)

    class Direct(LocalEndpoint):
        async def ask(self, client, Q, k, usage):
            return self._search(Q, k)

    limited = Limited(s)
    limited.ks = []
    with FederatedRetriever([limited], k=6, dedup_key="doc") as fr:
        fr._fan.endpoints[0].__class__ = Direct  # as over HTTP: the refusal comes as it is
        for _ in range(2):
            r = fr.search(Q[0])
            assert [h.passage["doc"] for h in r.hits()] == [j for _, j in union(Q[0], (0,), 3)] and not r.is_partial
        assert limited.ks == [12, 6, 6]
        r = fr.search(Q[0], 7)
        assert r.failed == {"s0": "http 413"} and fr.breakers["s0"].in_a_row == 0


@pytest.mark.parametrize("fusion", ["score", "rrf", "minmax"])
def test_an_id_that_a_source_repeats_is_one_document(fusion):
    class Repeats(Wrapped):
        def search(self, Q, k):
            rows = np.tile([1.0, 3.0, 3.0, 2.0, 2.0, 1.0], (len(Q), 1)), np.tile([1, 1, 7, 1, 4, -1], (len(Q), 1))
            return tuple(a[:, :k] for a in rows)

    with FederatedRetriever([Repeats(sources()[0])], k=6, fusion=fusion) as fr:
        for r in (fr.search(Q[0]), fr.search(Q).row(2)):
            assert r.ids.tolist() == [1, 7, 4, -1, -1, -1]
            assert fusion != "score" or r.scores[:3].tolist() == [3, 3, 2]


def test_a_failing_and_a_stuck_source():
    parts = sources()
    stuck, failing = Wrapped(parts[0], 30), Wrapped(parts[2], fail=KeyError("no such shard"))
    with FederatedRetriever([stuck, parts[1], failing, parts[3]], k=5, timeout=0.1, deadline=5) as fr:
        for _ in range(3):
            r = fr.search(Q[0])
            assert r.failed == {"s0": "timeout", "s2": "failed"} and found(r) == union(Q[0], (1, 3), 5)
            assert "no such shard" in r.details["s2"] and r.is_partial and r.answered == ("s1", "s3")
            assert r.timings["sources"]["s3"]["t_total"] >= 0 and r.timings["total"] >= r.timings["retrieve"]
        r = fr.search(Q[0])
        assert r.skipped == {"s0": "breaker open", "s2": "breaker open"} == r.reasons and not r.failed and r.is_partial
        assert "3 failures in a row, last: timeout" in r.details["s0"]
        assert fr.breakers["s0"].state == "open" and "open" in repr(fr.breakers)
        assert fr.counters['collegium_federated_failures_total{source="s0",reason="timeout"}'] == 3
        assert fr.counters["collegium_federated_queries_total"] == 4 == fr.counters["collegium_federated_partial_total"]
        assert "4 sources" in repr(fr) and "breaker open" in repr(r)


def test_the_deadline_holds_for_all():
    parts = [Wrapped(s, 30) for s in sources()]
    with FederatedRetriever(parts, k=5, timeout=10, deadline=0.1) as fr:
        began = time.monotonic()
        r = fr.search(Q)
        assert r.failed == {f"s{i}": "deadline" for i in range(4)} and time.monotonic() - began < 10
        assert r.partial.tolist() == [True] * 6


def test_next_asks_the_likeliest_of_the_rest():
    parts = [Wrapped(s) for s in sources()]
    parts[0].fail = parts[3].fail = OSError("down")
    router = Fixed({"s0": 0.9, "s1": 0.2, "s2": 0.4, "s3": 0.3})
    with FederatedRetriever(parts, router, k=5, on_failure="next") as fr:
        for i in range(4):
            r = fr.search(Q[:2])
            assert found(r) == union(Q[0], (2,), 5) and r.selected == ("s0",) and r.answered == ("s2",)
            assert r.is_partial and r.reasons == {"s0": "failed" if i < 3 else "breaker open"}
        parts[2].fail = OSError("down too")
        r = fr.search(Q[0])  # s0 is open, s2 fails, s3 fails, s1 is left
        assert r.answered == ("s1",) and set(r.reasons) == {"s0", "s2", "s3"}
        assert r.failed == {"s2": "failed", "s3": "failed"} and r.skipped == {"s0": "breaker open"}
        parts[1].fail = OSError("down as well")
        assert fr.search(Q[0]).answered == ()
    down = [Wrapped(s, fail=OSError()) for s in sources()]
    match = "s0: failed, s1: failed, s2: failed, s3: failed"
    with FederatedRetriever(down, k=5, on_failure="raise") as fr, pytest.raises(AllSourcesFailed, match=match):
        fr.search(Q[0])


def test_a_source_is_named_once():
    """Asked in place of another and failed, it was not skipped; in a batch put together of several searches too."""

    class ByRow(Fixed):
        def _scores(self, Q):
            return np.array([[0.9, 0.2, 0.1, 0.0], [0.1, 0.9, 0.0, 0.2]], np.float32)[
                (Q[""][:, 0] != X0[0]).astype(int)
            ]

    X0 = Q[0]
    parts = [Wrapped(s) for s in sources()]
    parts[0].fail = parts[1].fail = OSError("down")
    router = ByRow(dict.fromkeys(["s0", "s1", "s2", "s3"], 0.0))
    named = {"on_failure": "next", "breaker": lambda: Breaker(failures=2, backoff=60)}
    with FederatedRetriever(parts, router, k=5, **named) as fr:
        one = fr.search(Q[0])
        assert one.failed == {"s0": "failed", "s1": "failed"} and one.skipped == {"s3": "not selected"}
        assert one.answered == ("s2",)
    cache = ProximityCache(D, 100, rag.GuaranteedTolerance())
    with FederatedRetriever(parts, router, k=5, cache=cache, **named) as fr:
        several = fr.search(Q[:3])  # the third finds the breakers open
        assert several.failed == {"s0": "failed", "s1": "failed"} and several.skipped == {}
        assert several.answered == ("s2", "s3")


def test_a_hedged_request_answers_first():
    slow = Wrapped(sources()[0], wait=lambda n: 5.0 if n == 1 else 0.0)
    with FederatedRetriever([slow], k=3, timeout=4, deadline=4.5, hedge=0.05) as fr:
        r = fr.search(Q[0])
        assert found(r) == union(Q[0], (0,), 3) and not r.is_partial and len(slow.asked) == 2
        assert fr.counters['collegium_federated_requests_total{source="s0"}'] == 2
        assert r.timings["total"] < 3
        fr.search(Q[0])
        assert len(slow.asked) == 3  # fast enough: no second request


def test_texts_are_encoded():
    def encode(text):
        return Q[int(text[-1])]

    with FederatedRetriever(sources(), k=3, encoder=encode) as fr:
        assert found(fr.search("query 1")) == union(Q[1], range(4), 3)
        r = asyncio.run(fr.asearch(["query 2", "query 4"]))
        assert found(r, 1) == union(Q[4], range(4), 3) and r.timings["encode"] >= 0
    a, b = VectorSource(X[0], name="s0", encoder="a"), VectorSource(X[2], name="s2", encoder="b")
    with FederatedRetriever([a, b], k=2, fusion="interleave", encoder=lambda t: {"a": Q[0], "b": Q[1]}) as fr:
        assert found(fr.search("x")) == [union(Q[0], (0,), 1)[0], union(Q[1], (2,), 1)[0]]


def test_any_event_loop_and_many_threads():
    with FederatedRetriever(sources(), k=5) as fr:

        async def inside():  # as in a notebook: a loop runs in this thread
            blocking = fr.search(Q[0])
            several = await asyncio.gather(*(fr.asearch(q) for q in Q))
            return blocking, several

        for _ in range(2):  # and another loop
            one, several = asyncio.run(inside())
            assert found(one) == union(Q[0], range(4), 5)
            assert [found(r) for r in several] == [union(q, range(4), 5) for q in Q]
        wrong = []

        def work(i):
            for _ in range(20):
                if found(fr.search(Q[i])) != union(Q[i], range(4), 5):
                    wrong.append(i)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not wrong

        async def scope():
            async with FederatedRetriever(sources(), k=5) as other:
                return found(await other.asearch(Q[0]))

        assert asyncio.run(scope()) == union(Q[0], range(4), 5)


def test_a_cancelled_search_leaves_nothing_behind():
    parts = [Wrapped(s, 0.3) for s in sources()]
    with FederatedRetriever(parts, k=5) as fr:

        async def give_up():
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(fr.asearch(Q[0]), 0.05)

        asyncio.run(give_up())
        assert all(b.in_a_row == 0 for b in fr.breakers.values())
        assert found(fr.search(Q[1])) == union(Q[1], range(4), 5)


def test_closing():
    before = threading.active_count()
    fr = FederatedRetriever(sources(), k=5)
    fr.search(Q)
    fr.close()
    fr.close()
    with pytest.raises(RuntimeError, match="closed"):
        fr.search(Q)
    fr = FederatedRetriever(sources(), k=5)  # not closed, only forgotten
    fr.search(Q)
    gone = weakref.ref(fr)
    del fr
    gc.collect()
    assert gone() is None
    threads_end(before)


def test_closing_ends_what_is_being_searched():
    fr = FederatedRetriever([Wrapped(s, 30) for s in sources()], k=5, timeout=20, deadline=20)
    raised = []

    def blocking():
        try:
            fr.search(Q[0])
        except BaseException as e:
            raised.append(e)

    async def awaiting():
        try:
            await fr.asearch(Q[0])
        except BaseException as e:
            raised.append(e)

    threads = [threading.Thread(target=t) for t in (blocking, lambda: asyncio.run(awaiting()))]
    for t in threads:
        t.start()
    time.sleep(0.3)
    fr.close()
    for t in threads:
        t.join(10)
    assert [type(e) for e in raised] == [RuntimeError] * 2 and all("closed" in str(e) for e in raised)
    assert all(b.in_a_row == 0 for b in fr.breakers.values())


def test_a_callback_that_raises_loses_no_answer(caplog):
    parts = [Wrapped(s) for s in sources(version="v1")]
    seen = []

    def wrong(*change):
        raise KeyError("no such index")

    with FederatedRetriever(parts, k=5) as fr:
        fr.on_version_change += [wrong, lambda *change: seen.append(change)]
        parts[1].version = "v2"
        assert found(fr.search(Q[0])) == union(Q[0], range(4), 5)
        assert seen == [("s1", "v1", "v2")]
        assert "on_version_change" in caplog.text and "'s1'" in caplog.text and "no such index" in caplog.text


def test_keys_that_cannot_be_compared():
    s = VectorSource(X[0], name="s0", passages=[{"doc": [j]} for j in range(40)])
    match = "dedup_key: expected hashable keys, got list"
    with FederatedRetriever([s], k=5, dedup_key="doc") as fr, pytest.raises(TypeError, match=match):
        fr.search(Q[0])


def test_a_stuck_source_does_not_keep_the_process():
    code = (
        "import time, numpy as np\n"
        "from collegium.rag.federated import FederatedRetriever\n"
        "from collegium.rag.source import Source\n"
        "class Stuck:\n"
        "    name = 's'\n"
        "    def search(self, Q, k): time.sleep(600)\n"
        "    def describe(self): return Source('s', dim=4)\n"
        "fr = FederatedRetriever([Stuck()], timeout=0.05)\n"
        "print(fr.search(np.ones(4)).reasons)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout == "{'s': 'timeout'}\n" and done.stderr == ""


def test_a_forked_child_starts_its_own_threads():
    code = (
        "import os, numpy as np\n"
        "from collegium.rag.federated import FederatedRetriever\n"
        "from collegium.rag.local_source import VectorSource\n"
        "fr = FederatedRetriever([VectorSource(np.eye(4, dtype='f4'), name='s')], k=1, timeout=5, deadline=5)\n"
        "assert fr.search(np.eye(4)[2]).ids.tolist() == [2]\n"
        "child = os.fork()\n"
        "found = fr.search(np.eye(4)[1]).ids.tolist()\n"
        "if child == 0:\n"
        "    fr.close()\n"
        "    os._exit(found == [1])\n"
        "assert found == [1] and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "", done.stderr


def test_indexes_are_sources_and_openmp_uses_one_thread(need):
    """Trap 16."""
    faiss = need("faiss")
    used = []

    class Index(faiss.IndexFlatIP):
        def search(self, x, k):
            used.append(faiss.omp_get_max_threads())
            return super().search(x, k)

    index = Index(D)
    index.add(X[0])
    outside = faiss.omp_get_max_threads()
    plain = faiss.IndexFlatIP(D)
    plain.add(X[2])
    with FederatedRetriever({"s0": index, "s2": FaissSource(plain, name="s2"), "s3": X[3]}, k=5) as fr:
        assert found(fr.search(Q[0])) == union(Q[0], (0, 2, 3), 5)
        assert used == [1] and faiss.omp_get_max_threads() == outside
    with FederatedRetriever({"s0": index}, k=5) as fr:
        fr.search(Q[0])
        assert used[-1] >= 1


def cached(parts, **named):
    cache = ProximityCache(D, 100, 0.05)
    return FederatedRetriever(parts, k=5, cache=cache, **named), cache


def test_a_cache_in_front_answers_without_asking():
    parts = [Wrapped(s) for s in sources()]
    fr, cache = cached(parts)
    with fr:
        first = fr.search(Q[0])
        again = fr.search(Q[0] + 1e-4)
        assert not first.from_cache and again.from_cache and [len(s.asked) for s in parts] == [1] * 4
        assert found(first) == found(again) and again.passages == first.passages and again.sources == first.sources
        assert np.isnan(again.scores).all() and again.bytes_out == 0 and again.selected == () and not again.is_partial
        assert "from cache" in repr(again) and again.timings["total"] > 0
        r = fr.search(np.stack([Q[1], Q[0], Q[2]]))  # only what is not there is asked for
        assert r.from_cache.tolist() == [False, True, False] and parts[0].asked[-1].tolist() == Q[1:3].tolist()
        assert [found(r, i) for i in range(3)] == [union(Q[j], range(4), 5) for j in (1, 0, 2)]
        assert asyncio.run(fr.asearch(Q[1])).from_cache and fr.search(Q[1:3]).from_cache.all()
        assert fr.search(Q[2], k=3).ids.shape == (3,) and len(parts[0].asked) == 2
        assert not fr.search(Q[2], k=7).from_cache  # more than was stored
        assert cache.stats()["hits"] >= 5


def test_partial_answers_are_not_cached():
    parts = [Wrapped(s) for s in sources()]
    fr, cache = cached(parts, breaker=None)
    with fr:
        parts[2].fail = OSError("down")
        assert fr.search(Q[0]).is_partial and fr.search(Q[:2]).is_partial and len(cache) == 0
        parts[2].fail = None
        assert not fr.search(Q[0]).is_partial and fr.search(Q[0]).from_cache and len(cache) == 1
        parts[2].fail = OSError("down")
        r = fr.search(Q[:2])
        assert r.from_cache.tolist() == [True, False] and r.partial.tolist() == [False, True] and r.reasons


@pytest.mark.parametrize("fail", [None, OSError("down")])
def test_concurrent_misses_share_one_question(fail):
    parts = [Wrapped(s, 0.2, fail if i == 2 else None) for i, s in enumerate(sources())]
    which = range(4) if fail is None else (0, 1, 3)
    fr, _ = cached(parts, breaker=None)
    with fr:
        results = []
        threads = [threading.Thread(target=lambda: results.append(fr.search(Q[0]))) for _ in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(results) == 6
        assert all(found(r) == union(Q[0], which, 5) for r in results)
        assert all(r.is_partial == (fail is not None) for r in results)
        if fail is None:
            assert len(parts[0].asked) == 1 and sum(r.from_cache for r in results) == 5

        async def several():
            return await asyncio.gather(*(fr.asearch(Q[3]) for _ in range(5)))

        assert all(found(r) == union(Q[3], which, 5) for r in asyncio.run(several()))


def test_those_who_wait_get_the_partial_answer():
    """Asked again, the sources would have no time left."""
    parts = [Wrapped(s) for s in sources()]
    parts[2].wait = 30
    fr, cache = cached(parts, timeout=0.4, deadline=0.5)
    with fr:
        ks = [5] * 4 + [3]
        results = [None] * 5

        def ask(i):
            time.sleep(0.0 if i == 0 else 0.15)
            results[i] = fr.search(Q[0], ks[i])

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(5)]
        began = time.monotonic()
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert time.monotonic() - began < 5 and len(cache) == 0
        assert all(found(r) == union(Q[0], (0, 1, 3), k) and r.is_partial for r, k in zip(results, ks))
        assert [r.ids.shape for r in results] == [(k,) for k in ks]
        assert all(r.failed == {"s2": "timeout"} for r in results)
        assert [bool(r.from_cache) for r in results] == [False] + [True] * 4 and np.isnan(results[1].scores).all()
        assert [len(s.asked) for s in parts] == [1] * 4
        assert {n: b.in_a_row for n, b in fr.breakers.items()} == {"s0": 0, "s1": 0, "s2": 1, "s3": 0}


def test_those_who_wait_where_nobody_answers_are_told():
    parts = [Wrapped(s, 0.2, OSError("down")) for s in sources()]
    fr, _ = cached(parts, on_failure="raise")
    with fr:
        raised = []

        def ask():
            with pytest.raises(AllSourcesFailed, match="s0: failed") as e:
                fr.search(Q[0])
            raised.append(e.value)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(raised) == 4 and [len(s.asked) for s in parts] == [1] * 4


def test_a_request_without_time_is_no_failure():
    class Slow(Fixed):
        def _scores(self, Q):
            time.sleep(0.3)
            return super()._scores(Q)

    names = ["s0", "s1", "s2", "s3"]
    stuck = [Wrapped(s, 30) for s in sources()]
    with FederatedRetriever(stuck, Slow(dict.fromkeys(names, 1.0)), k=5, timeout=0.3, deadline=0.4) as fr:
        for _ in range(4):
            assert fr.search(Q[0]).failed == dict.fromkeys(names, "deadline")
        assert all(b.state == "closed" and b.in_a_row == 0 for b in fr.breakers.values())
    stuck = [Wrapped(s, 30) for s in sources()]
    with FederatedRetriever(stuck, k=5, timeout=1, deadline=0.1) as fr:  # all the time that there is
        for _ in range(3):
            assert fr.search(Q[0]).failed == dict.fromkeys(names, "deadline")
        assert all(b.state == "open" for b in fr.breakers.values())


def test_with_a_learned_tolerance_each_query_has_its_deadline():
    """And so the last of a batch has the time of the first."""
    parts = [Wrapped(s) for s in sources()]
    parts[2].wait = 30
    cache = ProximityCache(D, 100, rag.GuaranteedTolerance())
    with FederatedRetriever(parts, k=5, cache=cache, timeout=0.2, deadline=0.25, breaker=None) as fr:
        r = fr.search(Q)
        assert [found(r, i) for i in range(6)] == [union(q, (0, 1, 3), 5) for q in Q]
        assert r.failed == {"s2": "timeout"} and r.answered_mask[:, [0, 1, 3]].all()


def test_a_new_version_clears_the_cache_and_calls_back():
    parts = [Wrapped(s) for s in sources(version="v1")]
    fr, cache = cached(parts)
    seen = []
    fr.on_version_change.append(lambda *change: seen.append(change))
    with fr:
        fr.search(Q[0])
        assert len(cache) == 1 and not seen
        parts[1].version = "v2"
        fr.search(Q[1])  # the reply tells it
        assert seen == [("s1", "v1", "v2")] and len(cache) == 0
        assert not fr.search(Q[0]).from_cache and fr.search(Q[0]).from_cache
        parts[1].base = VectorSource(X[1], name="s1", version="v3")
        parts[1].version = "v3"
        assert fr.refresh()["s1"].version == "v3"
        assert seen[1:] == [("s1", "v2", "v3")] and len(cache) == 0
        parts[1].base = VectorSource(np.ones((3, D + 1), np.float32), name="s1")
        with pytest.raises(ValueError, match=f"source 's1': expected dim {D}, as before, got {D + 1}"):
            fr.refresh()
        parts[1].base = VectorSource(X[1], name="s1", metric="l2")
        with pytest.raises(ValueError, match="metric"):
            fr.refresh()
        assert fr.sources["s1"].metric == "ip"


def test_the_cache_needs_one_encoder():
    a, b = VectorSource(X[0], name="s0", encoder="a"), VectorSource(X[2], name="s2", encoder="b")
    fr, _ = cached([a, b], fusion="rrf")
    with fr, pytest.raises(ValueError, match="cache: expected sources of one encoder"):
        fr.search({"a": Q[0], "b": Q[0]})


def test_a_router_of_other_times_warns():
    router = Fixed(dict.fromkeys(["s0", "s1", "s2", "s3"], 1.0))
    router.k = 10
    with pytest.warns(UserWarning, match="trained for k=10, k=5"), FederatedRetriever(sources(), router, k=5):
        pass
    router = Fixed(dict.fromkeys(["s0", "s1", "s2", "s3"], 1.0))
    router.sources = [s.describe() for s in sources()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FederatedRetriever(sources(), router, k=5).close()
    with pytest.warns(UserWarning, match="'s0' changed since the router was fitted: version '' -> 'v2'"):
        FederatedRetriever([*sources(version="v2")[:1], *sources()[1:]], router, k=5).close()
    router.sources = [Source("s0", encoder="old")]
    with pytest.warns(UserWarning, match="fitted for encoder 'old', not 'new'"):
        FederatedRetriever([VectorSource(X[0], name="s0", encoder="new")], router, k=5).close()
    router.sources = [Source(f"s{i}", dim=D + 1) for i in range(4)]
    with pytest.raises(ValueError, match=f"expected dim {D + 1}, the router's, got {D}"):
        FederatedRetriever(sources(), router, k=5)


def test_a_breaker_of_ones_own():
    parts = sources()
    bad = Wrapped(parts[0], fail=OSError())
    with FederatedRetriever([bad, parts[2]], k=5, breaker=lambda: Breaker(failures=1, backoff=60)) as fr:
        assert [fr.search(Q[0]).reasons["s0"] for _ in range(2)] == ["failed", "breaker open"] and len(bad.asked) == 1
    with FederatedRetriever([bad, parts[2]], k=5, breaker=None) as fr:
        assert {fr.search(Q[0]).reasons["s0"] for _ in range(5)} == {"failed"} and fr.breakers == {}


def test_adapters(need):
    need("langchain_core")
    from collegium.rag import langchain

    texts = [VectorSource(X[i], name=f"s{i}", passages=[{"text": f"{i}/{j}", "page": j} for j in range(len(X[i]))])
             for i in (0, 2)]  # fmt: skip
    with FederatedRetriever(texts, k=4, encoder=lambda text: Q[0], cache=ProximityCache(D, 9, 0.01)) as fr:
        want = [f"{s}/{i}" for s, i in union(Q[0], (0, 2), 4)]
        r = langchain.FederatedRetriever(federated=fr)
        docs = r.invoke("x")
        assert [d.page_content for d in docs] == want
        assert docs[0].metadata["source"] == f"s{want[0][0]}" and docs[0].metadata["page"] == docs[0].metadata["id"]
        assert [d.page_content for d in asyncio.run(r.ainvoke("x"))] == want
        need("llama_index.core")
        from collegium.rag import llamaindex

        r = llamaindex.FederatedRetriever(fr, k=2)
        assert [n.text for n in r.retrieve("x")] == want[:2] and r.retrieve("x")[0].score is None
        assert [n.text for n in asyncio.run(r.aretrieve("x"))] == want[:2]


def test_a_router_over_ones_own_indices_in_ten_lines(need):
    """The README's example: a FAISS index, an hnswlib one and an array, past questions, and nothing else."""
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(3, 32))

    def near(which):
        x = centre[which] + rng.normal(size=(len(which), 32))
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    faiss_index = need("faiss").IndexFlatIP(32)
    faiss_index.add(near(np.zeros(400, int)))
    hnswlib_index = need("hnswlib").Index("ip", 32)
    hnswlib_index.init_index(1000)
    hnswlib_index.add_items(near(np.ones(400, int)), 7 + np.arange(400))
    vectors, past_questions = near(np.full(400, 2)), near(rng.integers(3, size=600))
    question = near(np.array([1]))[0]

    sources = {"wiki": faiss_index, "tickets": hnswlib_index, "code": vectors}
    Y, counts = rag.build_labels(sources, past_questions, k=10, return_counts=True)
    router = rag.SourceRouter(epochs=20, seed=0).fit(past_questions, Y, sources, counts=counts, k=10)
    router.tune(target_recall=0.9)
    with rag.FederatedRetriever(sources, router, k=10, cache=rag.ProximityCache(32, tolerance=0.3)) as retriever:
        answer = retriever.search(question)
        assert answer.selected == answer.answered == ("tickets",) and set(answer.sources) == {"tickets"}
        assert answer.ids.min() >= 7 and not answer.is_partial
        again = retriever.search(question)
    assert again.from_cache and (again.ids == answer.ids).all() and again.sources == answer.sources


def test_statistics_of_indexes_that_list_their_ids(need):
    X = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    index = need("hnswlib").Index("l2", 8)
    index.init_index(100)
    index.add_items(X, 3 * np.arange(50))
    source = rag.FaissSource(index, name="h")
    np.testing.assert_allclose(source.describe().centroid, X.mean(axis=0), atol=1e-6)
    assert source.describe().count == 50 and source.sample(20).shape == (20, 8)
    other = need("usearch.index").Index(ndim=8, metric="l2sq", dtype="f32")
    other.add(3 * np.arange(50), X)
    np.testing.assert_allclose(rag.FaissSource(other, name="u").describe().centroid, X.mean(axis=0), atol=1e-6)
    empty = need("hnswlib").Index("l2", 8)
    empty.init_index(10)
    assert rag.FaissSource(empty, name="e").describe().centroid is None
