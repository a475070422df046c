"""Routers to compare with, against plain NumPy in float64."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from collegium.rag import baselines as b
from collegium.rag.labels import build_labels
from collegium.rag.lexical import Lexicon, words
from collegium.rag.local_source import FaissSource, VectorSource
from collegium.rag.source import Source


def corpus(sizes=(40, 400, 7), d=12, n=90, seed=0, metric="ip"):
    """Sources around centres of their own, and queries near them."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(len(sizes), d))
    docs = [(c + rng.normal(size=(m, d))).astype("f4") for c, m in zip(centre, sizes, strict=True)]
    sources = [VectorSource(x, name=f"s{i}", metric=metric) for i, x in enumerate(docs)]
    Q = (centre[rng.integers(0, len(sizes), n)] + rng.normal(size=(n, d))).astype("f4")
    return sources, docs, Q


def fitted(sources, Q):
    Y = build_labels(sources, Q, 10)
    texts = {f"s{i}": [f"word{i} and common"] for i in range(3)}
    return [
        router.fit(Q, Y, sources)
        for router in (
            b.AllRouter(),
            b.RandomRouter(2, seed=3),
            b.PriorRouter(),
            b.CentroidRouter(2),
            b.LogisticRouter(),
            b.ReDDERouter(2),
            b.CRCSRouter(2),
            b.CORIRouter(texts, 2),
        )
    ]


def test_one_interface_and_the_same_answer_every_time(need):
    need("sklearn")
    sources, _, Q = corpus()
    for one, two in zip(fitted(sources, Q), fitted({s.name: s for s in sources}, Q), strict=True):
        q = ["word1 of common", "word0"] * 4 if isinstance(one, b.CORIRouter) else Q[:8]
        P = one.predict_proba(q)
        assert P.shape == (8, 3) and P.dtype == np.float32 and one.names == ("s0", "s1", "s2")
        assert (P == two.predict_proba(q)).all() and np.allclose(P[3:5], one.predict_proba(q[3:5]), atol=1e-6)
        mask = one.select(q)
        if one.max_sources is not None:
            assert (mask.sum(axis=1) == 2).all() and (P[mask].min() >= 0 or isinstance(one, b.CentroidRouter))
            assert (one.select(q, max_sources=1).sum(axis=1) == 1).all()
        assert type(one).__name__ in repr(one)


def test_all_and_random():
    sources, _, Q = corpus()
    assert b.AllRouter().fit(None, None, sources).select(Q).all()
    mask = b.RandomRouter(1, seed=1).fit(None, None, sources).select(np.tile(Q, (10, 1)) + 0)
    assert (mask[:90] == mask[90:180]).all(), "a function of the query"
    rng = np.random.default_rng(0)
    many = rng.normal(size=(3000, 12)).astype("f4")
    share = b.RandomRouter(1, seed=1).fit(None, None, sources).select(many).mean(axis=0)
    assert np.abs(share - 1 / 3).max() < 0.05
    other = b.RandomRouter(1, seed=2).fit(None, None, sources).select(many)
    assert (other != b.RandomRouter(1, seed=1).fit(None, None, sources).select(many)).any()


def test_prior_is_the_majority_of_training():
    """Trap 11: it needs no query at all."""
    sources, _, Q = corpus(n=5)
    Y = np.array([[1, 0, 1], [1, 0, 0], [1, 1, 0], [1, 0, 1], [1, 0, 1]])
    router = b.PriorRouter().fit(None, Y, sources)
    assert router.predict_proba(Q)[2].tolist() == pytest.approx([1, 0.2, 0.6])
    assert router.select(Q).tolist() == [[True, False, True]] * 5
    assert b.PriorRouter(1).fit(None, Y, sources).select(Q).tolist() == [[True, False, False]] * 5


@pytest.mark.parametrize("metric", ["ip", "cosine", "l2"])
def test_centroids(metric):
    sources, docs, Q = corpus()
    c = np.stack([x.astype("f8").mean(axis=0) for x in docs])
    q = Q.astype("f8")
    want = {
        "ip": q @ c.T,
        "cosine": q @ c.T / np.linalg.norm(q, axis=1)[:, None] / np.linalg.norm(c, axis=1),
        "l2": -np.square(q[:, None] - c).sum(axis=2),
    }[metric]
    router = b.CentroidRouter(1, metric=metric).fit(None, None, sources)
    assert np.allclose(router.predict_proba(Q), want, atol=1e-4)
    assert (router.select(Q).argmax(axis=1) == want.argmax(axis=1)).all()
    with pytest.raises(ValueError, match="expected a centroid of every source, got none of 'x'"):
        b.CentroidRouter(1).fit(None, None, [Source("x", dim=2)])
    zero = b.CentroidRouter(1).fit(None, None, [Source("x", centroid=[0, 0])])
    assert zero.predict_proba(np.ones((1, 2))).tolist() == [[0]]


def test_every_encoder_has_its_queries():
    sources = [Source("a", centroid=[1, 0], encoder="e"), Source("b", centroid=[0, 0, 2], encoder="f")]
    Q = {"e": np.array([[3.0, 4.0]]), "f": np.array([[0.0, 0.0, 1.0]])}
    assert np.allclose(b.CentroidRouter(1).fit(None, None, sources).predict_proba(Q), [[0.6, 1.0]])
    vectors = [VectorSource(np.ones((2, 3)), name=e, encoder=e) for e in "ef"]
    with pytest.raises(ValueError, match="encoder is 'e' and 'f'"):
        b.ReDDERouter(1).fit(None, None, vectors)


def test_logistic_regression(need):
    need("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    sources, _, Q = corpus(n=200)
    Y = build_labels(sources, Q, 10)
    Y[:, 0] = 1
    with pytest.warns(UserWarning, match="'s0' is relevant to every query in training: a constant"):
        router = b.LogisticRouter(C=0.5).fit(Q[:150], Y[:150], sources)
    P = router.predict_proba(Q[150:])
    for j in (1, 2):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=1000))
        model.fit(Q[:150].astype("f8"), Y[:150, j])
        assert np.allclose(P[:, j], model.predict_proba(Q[150:].astype("f8"))[:, 1], atol=1e-4)
    assert len(set(P[:, 0].tolist())) == 1 and 0.99 < P[0, 0] < 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (router.predict_proba(1000 * Q) <= 1).all()


def test_redde_and_crcs_against_the_definition():
    sources, _, Q = corpus()
    sample = [s.sample(300, 5) for s in sources]
    assert [len(s) for s in sample] == [40, 300, 7]
    pool, of = np.concatenate(sample).astype("f8"), np.repeat([0, 1, 2], [40, 300, 7])
    weight = np.array([1, 400 / 300, 1])
    order = np.argsort(-(Q.astype("f8") @ pool.T), axis=1)
    for router, votes in (
        (b.ReDDERouter(2, seed=5), np.ones(4)),  # 1 % of 347, rounded up
        (b.ReDDERouter(2, seed=5, top=0.02), np.ones(7)),
        (b.CRCSRouter(2, seed=5), 50.0 - np.arange(50)),
        (b.CRCSRouter(2, seed=5, kind="e"), 1.2 * np.exp(-0.28 * np.arange(50))),
    ):
        want = np.zeros((len(Q), 3))
        for row, ranked in enumerate(order):
            for r, vote in enumerate(votes):
                want[row, of[ranked[r]]] += vote * weight[of[ranked[r]]]
        want /= want.sum(axis=1, keepdims=True)
        P = router.fit(None, None, sources).predict_proba(Q)
        assert np.allclose(P, want, atol=1e-5) and np.allclose(P.sum(axis=1), 1, atol=1e-5)


def test_sources_of_very_unequal_size():
    """Trap 22: the same documents spread 100 : 1. Most results lie in the large source, whose sample is no larger."""
    rng = np.random.default_rng(2)
    large, small = rng.normal(size=(30000, 8)).astype("f4"), rng.normal(size=(300, 8)).astype("f4")
    sources = [VectorSource(small, name="small"), VectorSource(large, name="large")]
    Q = rng.normal(size=(60, 8)).astype("f4")
    _, counts = build_labels(sources, Q, 10, return_counts=True)
    assert counts[:, 1].mean() > 9.5
    redde = b.ReDDERouter(1).fit(None, None, sources).predict_proba(Q)
    crcs = b.CRCSRouter(1).fit(None, None, sources).predict_proba(Q)
    assert abs(redde[:, 1].mean() - counts[:, 1].mean() / 10) < 0.05 and crcs[:, 1].mean() > 0.95
    # without the weights: half and half, as for a rule that sees centroids only
    centroid = b.CentroidRouter(1).fit(None, None, sources).select(Q)
    assert 0.2 < centroid[:, 0].mean() < 0.8


def test_samples_come_from_indexes_too(need):
    faiss = need("faiss")
    sources, docs, Q = corpus()
    indexes = []
    for s, x in zip(sources, docs, strict=True):
        index = faiss.IndexFlatIP(12)
        index.add(x)
        indexes.append(FaissSource(index, name=s.name))
    for router in (b.ReDDERouter, b.CRCSRouter):
        same = [router(2, sample=20).fit(None, None, s).predict_proba(Q) for s in (sources, indexes)]
        assert np.allclose(*same)
    assert len(np.unique(sources[1].sample(100, 1), axis=0)) == 100
    assert (sources[1].sample(100, 1) == sources[1].sample(100, 1)).all()
    assert (sources[1].sample(100, 1) != sources[1].sample(100, 2)).any()
    with pytest.raises(TypeError, match=r"expected searchables with sample\(size, seed\)"):
        b.ReDDERouter(1).fit(None, None, [Source("a", count=3)])


TEXTS = {
    "fish": ["the salmon swims", "Salmon and trout, salmon", "a trout"],
    "birds": ["the eagle flies", "an eagle and a sparrow", "sparrow", "a trout eaten by the eagle"],
}


def test_words_of_texts():
    assert words("Salmon, and TROUT_2!") == ["salmon", "and", "trout_2"]
    lexicon = Lexicon.of(TEXTS["fish"])
    assert lexicon.df["salmon"] == 2 and lexicon.df["trout"] == 2 and lexicon.words == 9
    with pytest.raises(TypeError, match="expected an iterable of texts, got one text"):
        Lexicon.of("salmon")


def test_cori_against_the_definition():
    router = b.CORIRouter(TEXTS, 1)
    df = {"salmon": (2, 0), "trout": (2, 1), "eagle": (0, 3)}
    cw = np.array([9, 15])
    for query in ("salmon", "trout", "Eagle trout", "salmon unheard"):
        want = np.zeros(2)
        for word in query.lower().split():
            for j in range(2):
                if word not in df:
                    want[j] += 0.4
                    continue
                T = df[word][j] / (df[word][j] + 50 + 150 * cw[j] / cw.mean())
                cf = sum(n > 0 for n in df[word])
                want[j] += 0.4 + 0.6 * T * np.log(2.5 / cf) / np.log(3)
        assert router.predict_proba(query)[0].tolist() == pytest.approx((want / len(query.split())).tolist(), abs=1e-6)
    assert router.select(["salmon", "eagle"]).tolist() == [[True, False], [False, True]]
    assert router.fit(None, None, [Source("birds"), Source("fish")]).select("salmon").tolist() == [[False, True]]
    assert np.allclose(router.predict_proba(""), 0.4)
    with pytest.raises(TypeError, match="Q: expected texts, got ndarray"):
        router.predict_proba(np.ones((1, 3)))
    with pytest.raises(ValueError, match=r"expected texts of every source, got none of \['cats'\]"):
        router.fit(None, None, [Source("cats")])


def test_the_oracle_answers_for_rows_it_holds_only():
    """Trap 19: there is no way to search with it."""
    sources, _, Q = corpus()
    Y = build_labels(sources, Q, 10)
    oracle = b.OracleRouter(Y, sources)
    assert (oracle.select(np.arange(90)) == Y.astype(bool)).all()
    assert oracle.predict_proba([3, 1]).tolist() == Y[[3, 1]].tolist()
    for ask in (oracle.predict_proba, oracle.select):
        with pytest.raises(TypeError, match=r"Q: expected row numbers \(B,\) of the labelled queries"):
            ask(Q)
        with pytest.raises(TypeError, match="it cannot answer for a query"):
            ask({"": Q})
        with pytest.raises(ValueError, match="Q: expected 0 to 89, got -1 to -1"):
            ask([-1])
        with pytest.raises(ValueError, match="Q: expected 0 to 89, got 0 to 90"):
            ask([0, 90])


def test_bad_input(need):
    need("sklearn")
    sources, _, Q = corpus()
    Y = build_labels(sources, Q, 10)
    for kind, text, call in (
        (ValueError, r"Y: expected shape \(90, 3\), a row a query", lambda: b.LogisticRouter().fit(Q, Y[:5], sources)),
        (ValueError, r"Y: expected shape \(n, 3\)", lambda: b.PriorRouter().fit(Q, Y[:, :2], sources)),
        (ValueError, "Y: expected 0 and 1 only", lambda: b.PriorRouter().fit(Q, 2 * Y, sources)),
        (ValueError, "Q: expected", lambda: b.LogisticRouter().fit(Q[:, :4], Y, sources)),
        (ValueError, "m: expected 1 to 3, got 4", lambda: b.RandomRouter(4).fit(None, None, sources)),
        (ValueError, "m: expected at least 1, got 0", lambda: b.CentroidRouter(0)),
        (ValueError, "kind: expected one of 'l', 'e', got 'x'", lambda: b.CRCSRouter(kind="x")),
        (ValueError, "top: expected a number above 0", lambda: b.ReDDERouter(top=0)),
        (ValueError, "sources: expected at least one", lambda: b.AllRouter().fit(None, None, [])),
        (ValueError, "sources: expected unique names", lambda: b.AllRouter().fit(None, None, [sources[0]] * 2)),
        (TypeError, r"sources\[0\]: expected a Source or a searchable, got int", lambda: b.AllRouter().fit(0, 0, [3])),
        (ValueError, "NaN|finite", lambda: b.AllRouter().fit(0, 0, sources).select(np.full((1, 12), np.nan))),
    ):
        with pytest.raises(kind, match=text):
            call()
