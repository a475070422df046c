"""Thresholds with a guarantee, and the report beside its baselines, for any router."""

import warnings

import numpy as np
import pytest

from collegium.rag.evaluation import auc, evaluate, scores
from collegium.rag.router import SourceRouter
from collegium.rag.routing import Router
from collegium.rag.source import Source
from collegium.rag.tuning import recalls, tune, youden


class Told(Router):
    """Scores are the queries themselves."""

    name = "told"

    def __init__(self, N, **policy):
        self.sources = [Source(f"s{i}", dim=N) for i in range(N)]
        for key, value in policy.items():
            setattr(self, key, value)

    def _scores(self, Q):
        return Q[""]


def draw(rng, n, N=4, sharp=3.0):
    """Scores, labels and counts of a population: documents lie where scores are high, more or less."""
    strength = rng.gamma(0.6, size=(n, N))
    P = 1 / (1 + np.exp(-(np.log(strength + 1e-9) + rng.normal(size=(n, N)) / sharp)))
    share = strength / strength.sum(1, keepdims=True)
    counts = np.array([rng.multinomial(10, p) for p in share])
    return P.astype("f4"), (counts > 0).astype("u1"), counts


# ---- Youden ----


def test_youden_against_all_thresholds():
    rng = np.random.default_rng(0)
    for _ in range(20):
        P = rng.integers(0, 12, (40, 3)).astype("f4") / 12
        Y = (rng.random((40, 3)) < P).astype("u1")
        t = youden(P, Y)

        def gain(t, P=P, Y=Y):
            return np.mean(P[Y == 1] > t) - np.mean(P[Y == 0] > t)

        assert gain(t) == pytest.approx(max(gain(v) for v in np.linspace(-0.1, 1.1, 300)))
        assert t not in P


def test_youden_against_sklearn(need):
    roc_curve = need("sklearn.metrics").roc_curve
    P, Y, _ = draw(np.random.default_rng(1), 300)
    fpr, tpr, at = roc_curve(Y.ravel(), P.ravel(), drop_intermediate=False)
    best = at[np.argmax(tpr - fpr)]
    t = youden(P, Y)
    assert t < best
    assert not ((t < P) & (best > P)).any()


def test_youden_between_neighbours():
    """The midpoint of two adjacent float32 is one of them: it must be the lower."""
    low = np.float32(0.3)
    for _ in range(2):  # the midpoint rounds to even: once down, once up
        high = np.nextafter(low, np.float32(1))
        P = np.array([[low, high]], "f4")
        assert (P > np.float32(youden(P, np.array([[0, 1]], "u1")))).tolist() == [[False, True]]
        low = high


def test_youden_warns_and_clamps():
    P = np.array([[0.1, 0.9]], "f4")
    with pytest.warns(UserWarning, match="infinity"):
        assert youden(P, np.array([[1, 0]], "u1")) == pytest.approx(0.9)
    with pytest.warns(UserWarning, match=r"0\.5 is taken"):
        assert youden(P, np.array([[1, 1]], "u1")) == 0.5


# ---- target recall ----


@pytest.mark.parametrize("policy", [{}, {"on_empty": "none"}, {"on_empty": "all"}, {"max_sources": 3}])
def test_target_recall_holds_with_the_confidence(policy):
    """Of 300 draws of validation queries, at most a tenth (and luck) gives a threshold whose true recall is too low."""
    target, confidence, draws = 0.85, 0.9, 300 if policy == {} else 60
    rng = np.random.default_rng(5)
    P, _, counts = draw(rng, 40_000)
    population = counts.astype("f8")
    router = Told(4, **policy)
    missed, sources, reached = 0, [], 0
    for _ in range(draws):
        p, y, c = draw(rng, 300)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = router.tune(p, y, target_recall=target, confidence=confidence, counts=c)
        reached += found.reached
        mask = router.choose(P)
        sources.append(mask.sum(1).mean())
        missed += recalls(mask, population).mean() < target
    assert missed <= draws * (1 - confidence) + 3 * np.sqrt(draws * 0.09)
    if policy.get("max_sources") is None:
        assert reached > 0.9 * draws
        assert np.mean(sources) < 3.7  # it does cut


def test_bisection_finds_what_a_walk_finds():
    p, y, c = draw(np.random.default_rng(2), 120)
    fast, slow = Told(4), Told(4, budget=1e9)  # a budget that never binds: the same selections, walked
    a = fast.tune(p, y, target_recall=0.8, counts=c)
    b = slow.tune(p, y, target_recall=0.8, counts=c)
    assert a.threshold == b.threshold
    assert 0.8 <= a.recall_bound <= a.recall
    # one step further is too far, or the last
    above = np.sort(np.unique(p[p > a.threshold]))
    assert len(above)


def test_target_recall_out_of_reach_asks_all():
    p, y, c = draw(np.random.default_rng(2), 30)
    for router in (Told(4), Told(4, max_sources=1)):
        with pytest.warns(UserWarning, match="lets every source through"):
            found = router.tune(p, y, target_recall=0.99, counts=c)
        assert not found.reached
        assert (p > router.threshold).all()
    assert Told(4).select(p, threshold=found.threshold).all()


def test_scores_need_not_be_probabilities():
    p, y, c = draw(np.random.default_rng(2), 400)
    router = Told(4)
    found = router.tune(np.log(p / (1 - p)) * 50, y, target_recall=0.8, counts=c)
    same = Told(4).tune(p, y, target_recall=0.8, counts=c)
    assert found.recall == same.recall
    assert "recall" in str(found)


def test_recall_of_counts_and_of_labels():
    mask = np.array([[True, False], [False, False], [True, True]])
    np.testing.assert_allclose(recalls(mask, np.array([[3.0, 1], [2, 2], [0, 0]])), [0.75, 0, 1])
    p, y, _ = draw(np.random.default_rng(3), 500)
    router = Told(4)
    found = router.tune(p, y, target_recall=0.7)
    assert found.recall == pytest.approx(recalls(router.choose(p), y.astype("f8")).mean())


def test_thresholds_given():
    p, y, _ = draw(np.random.default_rng(3), 100)
    router = Told(4)
    assert tune(router, p, y, threshold=0.25).threshold == 0.25
    vector = np.array([0.1, 0.2, 0.3, 0.4], "f4")
    tune(router, p, y, threshold=vector)
    assert np.array_equal(router.select(p), p > vector) or (~(p > vector).any(1)).any()
    for bad, text in [
        ({"target_recall": 1.5}, "target_recall"), ({"target_recall": 0.9, "confidence": 2.0}, "confidence"),
        ({"target_recall": 0.9, "counts": -np.ones((100, 4))}, "counts: expected finite"),
        ({"target_recall": 0.9, "counts": np.ones((3, 4))}, "counts: expected shape"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=text):
            router.tune(p, y, **bad)


# ---- evaluation ----


def test_auc_against_sklearn_with_ties(need):
    metrics = need("sklearn.metrics")
    rng = np.random.default_rng(0)
    for values in (5, 1000):
        P, Y = rng.integers(0, values, (60, 3)), rng.integers(0, 2, (60, 3))
        assert auc(P, Y) == pytest.approx(metrics.roc_auc_score(Y.ravel(), P.ravel()))
    assert np.isnan(auc(P, np.ones_like(Y)))


def test_scores_by_hand(need):
    metrics = need("sklearn.metrics")
    rng = np.random.default_rng(0)
    mask, Y = rng.random((50, 4)) < 0.4, rng.integers(0, 2, (50, 4)).astype("u1")
    counts = Y * rng.integers(1, 9, Y.shape)
    s = scores(mask, Y, None, counts.astype("f8"))
    a = (Y.ravel(), mask.ravel())
    assert s.accuracy == pytest.approx(metrics.accuracy_score(*a))
    assert s.precision == pytest.approx(metrics.precision_score(*a))
    assert s.recall == pytest.approx(metrics.recall_score(*a))
    assert s.f1 == pytest.approx(metrics.f1_score(*a))
    assert s.cut == pytest.approx(1 - mask.mean())
    assert s.sources == pytest.approx(4 * mask.mean())
    assert s.auc is None


def test_report_has_the_baselines():
    """Trap 11: a source relevant for 98 % of the queries makes an accuracy that needs no query."""
    p, y, c = draw(np.random.default_rng(4), 500)
    y[:, 0] = np.random.default_rng(0).random(500) < 0.98
    other = Told(4, threshold=0.9)
    report = evaluate(Told(4), p, y, counts=c, baselines=[other])
    m = report.methods
    assert next(iter(m)) == "router"
    budget = round(report.router.sources)
    assert {"majority", "prior", f"random {budget}", "all", "oracle", "told"} <= set(m)
    rate = y.mean(0)
    assert m["majority"].accuracy == pytest.approx(np.maximum(rate, 1 - rate).mean())
    assert m["prior"].auc > 0.6
    assert m["all"].cut == 0
    assert m["all"].document_recall == 1
    assert m["oracle"].accuracy == 1
    assert m["oracle"].cut == pytest.approx(report.oracle_cut)
    assert report.oracle_cut == pytest.approx(1 - y.mean())
    assert m[f"random {budget}"].sources == budget
    assert m[f"random {budget}"].auc == pytest.approx(0.5, abs=0.06)
    assert set(report.per_source) == {"s0", "s1", "s2", "s3"}
    assert report.per_source["s0"].auc is not None
    text = str(report)
    assert all(word in text for word in ("majority", "prior", "oracle cut", "doc recall", "auc", "s3"))
    assert len(report.rows()) == len(m) + 4
    assert set(evaluate(Told(4), p, y, baselines=False).methods) == {"router"}
    twice = evaluate(Told(4), p, y, baselines=[other, other])
    assert {"told", "told 2"} <= set(twice.methods)


def fitted(**more):
    rng = np.random.default_rng(0)
    C = rng.standard_normal((3, 8)).astype("f4")
    Y = (rng.random((200, 3)) < 0.4).astype("u1")
    Q = (Y @ C + 0.3 * rng.standard_normal((200, 8))).astype("f4")
    sources = [Source(f"s{i}", centroid=c) for i, c in enumerate(C)]
    return SourceRouter(hidden=(16, 8), epochs=5, validation=0.3).fit(Q, Y, sources=sources, **more), Q, Y


def test_queries_of_fit_are_refused():
    """Trap 2: the authors' own run evaluated the router's training questions."""
    for given, asked in [(None, None), ([f"q{i}" for i in range(200)],) * 2]:
        router, Q, Y = fitted(ids=given)
        rng = np.random.default_rng(9)
        new = rng.standard_normal((20, 8)).astype("f4")
        labels = np.ones((20, 3), "u1")
        router.evaluate(new, labels, ids=None if asked is None else [f"new{i}" for i in range(20)])
        for rows in (slice(0, 20), slice(180, 200)):
            with pytest.raises(ValueError, match=r"20 of 20 queries were used in fit.*allow_train"):
                router.evaluate(Q[rows], Y[rows], ids=None if asked is None else asked[rows])
        leaked, names = new.copy(), [f"new{i}" for i in range(20)]
        leaked[7], names[7] = Q[3], "q3"
        with pytest.raises(ValueError, match="1 of 20"):
            router.evaluate(leaked, labels, ids=None if asked is None else names)
        report = router.evaluate(Q, Y, ids=asked, allow_train=True)
        assert "used in fit" in str(report)
    by_vector = fitted(ids=[f"q{i}" for i in range(200)])[0]
    assert by_vector.seen(Q).all()
    assert by_vector.seen(Q, [f"n{i}" for i in range(200)]).all()  # other names do not make them new


def test_prior_is_that_of_training():
    router, _, _ = fitted()
    new = np.random.default_rng(9).standard_normal((40, 8)).astype("f4")
    report = router.evaluate(new, np.ones((40, 3), "u1"))
    assert report.methods["majority"].accuracy < 0.5  # the rates of fit, below a half, not those of these labels


def test_tune_with_what_fit_held_out():
    router, Q, _ = fitted(counts=np.ones((200, 3)))
    found = router.tune(target_recall=0.5, confidence=0.8)
    assert found.queries == 60
    assert router.threshold == found.threshold
    assert router.tune().threshold == pytest.approx(router.tune(threshold="youden").threshold)
    other = router.tune(Q[:50] + 1, np.ones((50, 3), "u1"), threshold=0.3)
    assert other.queries == 50
    assert router.threshold == 0.3


def test_bad_evaluation():
    router, Q, Y = fitted()
    with pytest.raises(ValueError, match="Y: expected shape"):
        router.evaluate(Q + 1, Y[:, :2])
    with pytest.raises(ValueError, match="finite"):
        router.evaluate(Q * np.nan, Y)


def test_a_budget_orders_by_what_a_source_gives_for_its_cost():
    from collegium.rag.routing import choose

    P = np.array([[-1.0, -2.0, -3.0]], np.float32)
    cost = [1.0, 100.0, 1.0]
    assert choose(P, -9.0, cost=cost, budget=100.0).tolist() == [[True, False, True]]  # 100 would leave nothing for 0
    P = np.array([[0.9, 0.8, 0.1]], np.float32)
    assert choose(P, 0.05, cost=[10, 1, 1], budget=2).tolist() == [[False, True, True]]
    assert not choose(P, 0.95, cost=[10, 10, 10], budget=2).any()  # a budget is never exceeded


def test_a_budget_does_not_make_tuning_endless():
    rng = np.random.default_rng(0)
    P, Y = rng.random((1000, 10)).astype(np.float32), (rng.random((1000, 10)) < 0.2).astype(np.uint8)
    assert tune(Told(10, budget=9.0), P, Y, target_recall=0.5).recall >= 0.5


def test_routers_of_texts_and_of_rows_stand_beside_others():
    from collegium.rag.baselines import CORIRouter, OracleRouter

    router, _, _ = fitted()
    rng = np.random.default_rng(9)
    Q, Y = rng.standard_normal((3, 8)).astype("f4"), np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], "u1")
    words = {"s0": ["apple pear"], "s1": ["iron zinc"], "s2": ["rain snow"]}
    cori = CORIRouter(words, m=1).fit(None, None, router.sources)
    oracle = OracleRouter(Y, router.sources)
    with pytest.raises(ValueError, match="texts: expected the queries as texts, which CORIRouter takes"):
        evaluate(router, Q, Y, baselines=[cori])
    report = evaluate(router, Q, Y, baselines=[cori, oracle], texts=["pear", "zinc", "snow"])
    assert report.methods["CORIRouter"].f1 == report.methods["OracleRouter"].f1 == 1
    assert "CentroidRouter" in evaluate(router, Q, Y).methods
