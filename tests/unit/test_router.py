"""SourceRouter: fit, folding, selection, sources that come and go, and the paper's traps by their numbers."""

import _thread
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from router_model import QUICK, plain_rows, quiet, world

from collegium import _core
from collegium.rag.evaluation import auc
from collegium.rag.features import FEATURES, Layout, checked_features, measure
from collegium.rag.router import SourceRouter, described
from collegium.rag.source import Source
from collegium.rag.training import learning_rates, split_queries, weight_of_positives

# ---- learning ----


@pytest.mark.parametrize("backend", ["c", "torch"])
def test_learns_what_can_be_learned(backend, need):
    if backend == "torch":
        need("torch")
    Q, Y, sources = world(800)
    test = world(300, seed=1)
    router = SourceRouter(epochs=25, hidden=(64, 32), backend=backend).fit(Q, Y, sources=sources)
    report = router.evaluate(*test[:2])
    assert report.router.auc > 0.97
    assert report.router.f1 > 0.85
    assert router.history[-1]["loss"] < router.history[0]["loss"]


@pytest.mark.parametrize("features", [("query", "centroid", "onehot"), ("query", "onehot"), ("dot",), FEATURES])
def test_features(features):
    Q, Y, sources = world(600)
    router = quiet(Q, Y, sources, features=features, epochs=20)
    assert router.evaluate(*world(200, seed=1)[:2], baselines=False).router.auc > (
        0.75 if features == ("dot",) else 0.9
    )


def test_shuffled_labels_teach_nothing():
    """Trap 1: the control."""
    Q, Y, sources = world(600)
    T, truth, _ = world(400, seed=1)
    found = []
    for seed in range(30):  # by chance a shuffle agrees a little with the truth: many average out
        shuffled = np.random.default_rng(seed).permuted(Y, axis=0)  # each source keeps its rate, and nothing else
        P = quiet(Q, shuffled, sources, seed=seed, epochs=8).predict_proba(T)
        found += [auc(p, y) for p, y in zip(P.T, truth.T, strict=True)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.04)
    assert np.std(found) > 0.01


def test_splits_are_by_query():
    """Trap 1: a query is in one split, with all its rows."""
    for n, share in [(100, 0.1), (7, 0.5), (2, 0.9), (50, 0.0)]:
        train, held = split_queries(n, share, 3)
        assert sorted([*train, *held]) == list(range(n))
        assert len(train) >= 1
        assert len(held) == (0 if share == 0 else max(1, min(n - 1, round(n * share))))


def test_deterministic(threads):
    Q, Y, sources = world()
    a, b = (quiet(Q, Y, sources, seed=4) for _ in range(2))
    old = _core.num_threads()
    _core.set_num_threads(3 - threads)
    c = quiet(Q, Y, sources, seed=4)
    _core.set_num_threads(old)
    assert np.array_equal(a.plain, b.plain)
    assert np.array_equal(a.plain, c.plain)
    assert a.threshold == b.threshold == c.threshold
    assert not np.array_equal(a.plain, quiet(Q, Y, sources, seed=5).plain)


def test_paper_schedule():
    """Trap 20: stepped per batch; the first 60 steps in closed form, then torch's CyclicLR."""
    rate = learning_rates("paper", 1e-3, 0, 60, 86)
    for t in range(60):
        cycle, at = t // 20, t % 20
        height = at / 10 if at <= 10 else 2 - at / 10
        assert rate[t] == pytest.approx(1e-3 + 4e-3 * height / 2**cycle, rel=1e-12)
    assert rate.max() == pytest.approx(5e-3)
    late = learning_rates("paper", 1e-3, 115 * 86, 120, 86)
    assert late[0] == pytest.approx(1e-3, rel=1e-6)
    np.testing.assert_allclose(late[[49, 50, 99, 100]] / late[0], [1, 0.05, 0.05, 0.0025])
    pieces = [learning_rates("paper", 1e-3, i, 7, 86) for i in range(0, 70, 7)]
    np.testing.assert_array_equal(np.concatenate(pieces)[:60], rate)
    np.testing.assert_array_equal(learning_rates("constant", 2e-3, 5, 3, 2), [2e-3] * 3)


def test_paper_schedule_against_torch(need):
    torch = need("torch")
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    cyclic = torch.optim.lr_scheduler.CyclicLR(
        optimizer, 1e-3, 5e-3, step_size_up=10, mode="triangular2", cycle_momentum=False
    )
    want = []
    for _ in range(250):
        want.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cyclic.step()
    np.testing.assert_allclose(learning_rates("paper", 1e-3, 0, 250, 86), want, rtol=1e-9)


def test_paper_schedule_runs_all_epochs():
    Q, Y, sources = world(120)
    assert len(quiet(Q, Y, sources, schedule="paper", epochs=12, patience=1).history) == 12
    assert len(quiet(Q, Y, sources, epochs=60, patience=2).history) < 60


def test_pos_weight():
    """Trap 5: negatives / positives, not rows / positives."""
    Y = np.zeros((10, 4), "u1")
    Y[:8, 0] = 1
    assert weight_of_positives(None, Y) == 1
    assert weight_of_positives("balanced", Y) == 4
    assert weight_of_positives(("balanced", 5.0), Y) == 20
    assert weight_of_positives(2.5, Y) == 2.5
    for bad in ("balance", ("balanced", 0.0), -1.0, float("nan")):
        with pytest.raises(ValueError, match="pos_weight"):
            weight_of_positives(bad, Y)


def test_more_pos_weight_selects_more():
    Q, Y, sources = world(500, noise=2.0)
    few, many = (quiet(Q, Y, sources, pos_weight=w, threshold=0.5) for w in (None, ("balanced", 5.0)))
    T = world(200, seed=1)[0]
    assert many.select(T).sum() > few.select(T).sum()


# ---- folding ----


@pytest.mark.parametrize("features", [("query", "centroid", "onehot"), ("query",), ("dot", "count"), FEATURES])
@pytest.mark.parametrize(("encoders", "standardise"), [(1, True), (3, True), (1, False), (3, False)])
def test_folded_against_rows(need, isa, features, encoders, standardise):
    """Trap 4: padding, slices, constant columns and the fold itself against the network on whole rows."""
    torch = need("torch")
    Q, Y, sources = world(200, encoders=encoders, N=5)
    for a in Q.values() if encoders > 1 else [Q]:
        a[:, 1] = 0.25  # no variance where there is one encoder
    router = quiet(Q, Y, sources, features=features, standardise=standardise, epochs=2)
    few = {e: a[:20] for e, a in Q.items()} if encoders > 1 else Q[:20]
    P = router.predict_proba(few)
    with torch.no_grad():
        z = router.to_torch()(torch.from_numpy(plain_rows(router, few).astype("f4"))).numpy()
    clear = np.abs(z) < 8
    assert np.abs(np.log(P / (1 - P)) - z)[clear].max() < 2e-4
    want = 1 / (1 + np.exp(-z))
    assert np.abs(P - want).max() < 1e-4
    mask = router.select(few, threshold=0.5, on_empty="none")
    sure = np.abs(want - 0.5) > 1e-4
    assert np.array_equal(mask[sure], (want > 0.5)[sure])


def test_scaler_is_that_of_sklearn_on_rows(need):
    StandardScaler = need("sklearn.preprocessing").StandardScaler
    for encoders in (1, 3):
        Q, _, sources = world(60, encoders=encoders)
        if encoders == 1:
            Q[:, 2] = 1.5
        Q = Q if encoders > 1 else {"": Q}
        layout = Layout(FEATURES, tuple(s.name for s in sources), {e: a.shape[1] for e, a in Q.items()})
        got = measure(layout, Q, sources)
        router = SourceRouter(FEATURES)
        router.layout, router.sources, router.hidden = layout, sources, (1, 1)
        router.plain = np.zeros(layout.width + 9, "f4")
        router.scaler = type(got)(np.zeros(layout.width), np.ones(layout.width))
        rows = plain_rows(router, Q).reshape(-1, layout.width)[:, layout.order]
        want = StandardScaler().fit(rows)
        np.testing.assert_allclose(got.mean, want.mean_, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(got.scale, want.scale_, rtol=1e-5)


def test_same_bits_alone_and_in_a_batch(isa, threads):
    """Trap 21."""
    Q, Y, sources = world(100, encoders=3)
    router = quiet(Q, Y, sources, features=FEATURES, epochs=2)
    P, mask = router.predict_proba(Q), router.select(Q)
    assert np.array_equal(P, router.predict_proba(Q))
    for b in (0, 50, 99):
        one = {e: a[b] for e, a in Q.items()}
        assert np.array_equal(router.predict_proba(one)[0], P[b])
        assert np.array_equal(router.select(one)[0], mask[b])


# ---- selection ----


def test_select_is_choose_of_probabilities():
    Q, Y, sources = world(150)
    router = quiet(Q, Y, sources)
    P = router.predict_proba(Q)
    for change in [
        {"threshold": 0.99}, {"threshold": [0.1, 0.9, 0.5, 0.99]}, {"on_empty": "all", "threshold": 0.99},
        {"min_sources": 2}, {"max_sources": 1}, {"budget": 1.0},
    ]:  # fmt: skip
        other = quiet(Q, Y, sources)
        for name, value in change.items():
            setattr(other, name, value)
        assert np.array_equal(other.select(Q), other.choose(P))
        assert np.array_equal(router.select(Q, **change), router.choose(P, **change))
        assert np.array_equal(other.select(Q.astype("f8")), other.select(Q))


def test_empty_selection_follows_the_policy():
    """Trap 17."""
    Q, Y, sources = world(50)
    router = quiet(Q, Y, sources)
    router.threshold = 1.0
    assert np.array_equal(router.select(Q).argmax(1), router.predict_proba(Q).argmax(1))
    assert router.select(Q).sum(1).tolist() == [1] * 50
    router.on_empty = "all"
    assert router.select(Q).all()
    router.on_empty = "none"
    assert not router.select(Q).any()


# ---- bad input ----


def test_bad_queries_name_source_and_encoder():
    Q, Y, sources = world(60)
    router = quiet(Q, Y, sources)
    bad = Q.copy()
    bad[3, 4] = np.inf
    for call in (router.predict_proba, router.select):
        with pytest.raises(ValueError, match=r"finite values for encoder '' \(source 's0'\)"):
            call(bad)
        with pytest.raises(ValueError, match=r"expected shape \(B, 16\) for encoder ''"):
            call(Q[:, :15])
        with pytest.raises((TypeError, ValueError), match="Q: expected"):
            call(np.array([["a"] * 16]))
    assert np.array_equal(router.predict_proba(Q.astype("f8")[::-1][::-1]), router.predict_proba(Q))
    assert router.predict_proba(Q[:0]).shape == (0, 4)
    assert np.array_equal(router.predict_proba(np.asfortranarray(Q)), router.predict_proba(Q))
    several = quiet(*world(60, encoders=2))
    with pytest.raises(ValueError, match="mapping"):
        several.predict_proba(Q)
    with pytest.raises(ValueError, match="encoder 'e1'"):
        several.predict_proba({"e0": Q})


def test_not_fitted():
    for call in (SourceRouter().predict_proba, SourceRouter().select, SourceRouter().save):
        with pytest.raises(RuntimeError, match="not fitted"):
            call(np.zeros((1, 3), "f4"))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"hidden": (0, 3)}, "hidden: expected at least 1"),
        ({"features": ("query", "color")}, "features: expected"),
        ({"features": ("centroid",)}, "'query' or 'dot'"),
        ({"dropout": 1.0}, "dropout"),
        ({"epochs": 0}, "epochs"),
        ({"lr": 0.0}, "lr"),
        ({"schedule": "cosine"}, "schedule"),
        ({"backend": "jax"}, "backend"),
        ({"keep": "auc"}, "keep"),
        ({"validation": 1.0}, "validation"),
        ({"threshold": "roc"}, "threshold: expected 'youden'"),
        ({"threshold": float("nan")}, "threshold"),
    ],
)
def test_bad_options(change, text):
    with pytest.raises(ValueError, match=text):
        SourceRouter(**change)


def test_bad_labels():
    Q, Y, sources = world(60)
    for bad, text in [
        (Y[:-1], r"Y: expected shape \(60, 4\)"), (Y[:, :3], "Y: expected shape"), (Y * 2, "zeros and ones"),
        (Y * 0.5, "zeros and ones"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=text):
            SourceRouter().fit(Q, bad, sources=sources)
    with pytest.raises(ValueError, match="at least 2"):
        SourceRouter().fit(Q[:1], Y[:1], sources=sources)
    with pytest.raises(ValueError, match="ids: expected 60"):
        SourceRouter().fit(Q, Y, sources=sources, ids=["a"])
    with pytest.raises(ValueError, match="expected unique names"):
        SourceRouter().fit(Q, Y, sources=[*sources[:3], sources[0]])
    with pytest.raises(ValueError, match="expected a centroid of 's1'"):
        SourceRouter().fit(Q, Y, sources=[sources[0], Source("s1", dim=16), *sources[2:]])
    with pytest.raises(ValueError, match="counts: expected shape"):
        SourceRouter().fit(Q, Y, sources=sources, counts=np.ones((3, 4)))


def test_warnings_of_labels():
    Q, Y, sources = world(80)
    Y[:, 1], Y[:, 2] = 1, 0
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        router = SourceRouter(**QUICK).fit(Q, Y, sources=sources)
    texts = [str(w.message) for w in seen]
    assert any("'s1' is relevant for every" in t for t in texts)
    assert any("'s2' is relevant for no" in t for t in texts)
    assert np.isfinite(router.predict_proba(Q)).all()
    with pytest.warns(UserWarning, match="at least 50"):
        SourceRouter(**QUICK).fit(Q[:20], Y[:20], sources=sources)
    with pytest.warns(UserWarning, match="no positive label among the validation") as seen:
        SourceRouter(**QUICK).fit(Q, 0 * Y, sources=sources)
    assert any("Youden's needs positive and negative" in str(w.message) for w in seen)
    with pytest.warns(UserWarning, match="no validation queries"):
        SourceRouter(**QUICK, validation=0.0).fit(Q, Y, sources=sources)


def test_divergence_is_an_error():
    Q, Y, sources = world(80)
    with pytest.raises(RuntimeError, match="diverged"):
        quiet(Q, Y, sources, lr=1e30, clip=0.0)


def test_progress_goes_to_stderr(capsys):
    Q, Y, sources = world(80)
    quiet(Q, Y, sources, progress=True)
    out = capsys.readouterr()
    assert "validation_accuracy" in out.err
    assert out.out == ""
    quiet(Q, Y, sources)
    assert capsys.readouterr().err == ""


# ---- Ctrl-C ----


def test_interrupted_fit_keeps_the_best_so_far(monkeypatch):
    from collegium.rag import training

    Q, Y, sources = world(200)
    calls, steps = [], training.Native.steps

    def interrupted(self, rows, lr):
        calls.append(len(rows))
        if len(calls) == 4:
            _thread.interrupt_main()
        return steps(self, rows, lr)

    monkeypatch.setattr(training.Native, "steps", interrupted)
    router = SourceRouter(hidden=(24, 12), epochs=1000, batch_size=64, patience=None)
    with pytest.raises(KeyboardInterrupt):
        router.fit(Q, Y, sources=sources)
    assert 1 <= len(router.history) < 1000
    assert router.predict_proba(Q).shape == (200, 4)
    calls.clear()
    calls.extend([0] * 3)
    fresh = SourceRouter(**QUICK)
    with pytest.raises(KeyboardInterrupt):
        fresh.fit(Q, Y, sources=sources)
    with pytest.raises(RuntimeError, match="not fitted"):
        fresh.predict_proba(Q)


# ---- sources come and go ----


def test_check_warns_of_what_changed():
    """Traps 10 and 12."""
    Q, Y, sources = world(60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        router = SourceRouter(**QUICK).fit(Q, Y, sources=sources, k=10, template="{question}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        router.check(sources[::-1], k=10, template="{question}")
        router.check(sources[2:])
    with pytest.warns(UserWarning, match="k=10, got 32"):
        router.check(sources, k=32)
    with pytest.warns(UserWarning, match="template: trained on '{question}'"):
        router.check(sources, template="{question}\n{options}")
    s = sources[0]
    for new, text in [
        (Source("s0", s.centroid, count=s.count + 1), "count changed"),
        (Source("s0", s.centroid, count=s.count, version="2"), "version changed"),
        (Source("s0", s.centroid + 1, count=s.count), "centroid changed"),
        (Source("s0", s.centroid, count=s.count, encoder="other"), "encoder '' became 'other'"),
    ]:
        with pytest.warns(UserWarning, match=text):
            router.check([new])
    with pytest.raises(ValueError, match="names among"):
        router.check([Source("new", s.centroid)])
    with pytest.raises(ValueError, match="expected dimension 16 of 's0'"):
        router.check([Source("s0", s.centroid[:9])])


def test_refresh_centroids():
    Q, Y, sources = world(60)
    router, other = quiet(Q, Y, sources), quiet(Q, Y, sources)
    P = router.predict_proba(Q)
    assert np.array_equal(router.refresh_centroids(sources[::-1]).predict_proba(Q), P)
    moved = Source("s2", sources[2].centroid + 1, version="2", count=5)
    router.refresh_centroids([moved])
    assert router.sources[2].version == "2"
    after = router.predict_proba(Q)
    assert np.array_equal(after[:, [0, 1, 3]], P[:, [0, 1, 3]])
    assert not np.array_equal(after[:, 2], P[:, 2])
    with pytest.raises(ValueError, match="dimension"):
        other.refresh_centroids([Source("s2", sources[2].centroid[:5])])
    assert np.array_equal(other.predict_proba(Q), P)


def test_remove_and_add_a_source():
    Q, Y, sources = world(60)
    router = quiet(Q, Y, sources, threshold=[0.1, 0.2, 0.3, 0.4])
    P = router.predict_proba(Q)
    router.remove_source("s1")
    assert router.names == ("s0", "s2", "s3")
    assert np.array_equal(router.predict_proba(Q), P[:, [0, 2, 3]])
    np.testing.assert_allclose(router.threshold, [0.1, 0.3, 0.4])
    assert router.select(Q).shape == (60, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        router.add_source(sources[1])  # it has its one-hot column from fit
    assert np.array_equal(router.predict_proba(Q), P[:, [0, 2, 3, 1]])
    with pytest.warns(UserWarning, match="one-hot columns are 0"):
        router.add_source(Source("new", sources[0].centroid + 0.1))
    assert router.predict_proba(Q).shape == (60, 5)
    with pytest.raises(ValueError, match="taken"):
        router.add_source(sources[1])
    with pytest.raises(ValueError, match="expected an encoder"):
        router.add_source(Source("odd", np.ones(3, "f4")))
    with pytest.raises(ValueError, match="name: expected one of"):
        router.remove_source("s9")
    with pytest.raises(ValueError, match="held out"):
        router.tune()


def test_removing_the_last_source_of_an_encoder():
    Q, Y, sources = world(60, encoders=2, N=3)
    router = quiet(Q, Y, sources)
    P = router.predict_proba(Q)
    router.remove_source("s1")
    assert np.array_equal(router.predict_proba(Q), P[:, [0, 2]])
    assert np.array_equal(router.predict_proba({"e0": Q["e0"]}), P[:, [0, 2]])
    assert np.array_equal(router.predict_proba(Q["e0"]), P[:, [0, 2]])


def test_described():
    class Shop:
        name = "inner"

        def describe(self):
            return Source("inner", dim=3)

    assert [s.name for s in described({"inner": Shop(), "b": Source("x")})] == ["inner", "b"]
    assert [s.name for s in described([Shop()])] == ["inner"]
    assert checked_features({"density", "query"}) == ("query", "density")


def test_queries_of_fit_are_known_by_either_name():
    """New ids do not hide old vectors, nor does an encoder that has gone with its only source."""
    Q, Y, sources = world(60)
    router = SourceRouter(**QUICK).fit(Q, Y, sources, ids=np.arange(len(Q)))
    assert router.seen(Q, np.arange(len(Q)) + 10**6).all() and router.seen(Q + 1, np.arange(len(Q))).all()
    assert not router.seen(Q + 1, np.arange(len(Q)) + 10**6).any()
    two = {"a": Q, "b": Q[:, :2] + 1}
    known = [Source("x", encoder="a", centroid=Q[0]), Source("y", encoder="b", centroid=Q[0, :2])]
    router = SourceRouter(**QUICK).fit(two, Y[:, :2], known).remove_source("y")
    assert router.seen({"a": Q}).all()


def test_numpy_scalars_are_saved(tmp_path):
    Q, Y, sources = world(60)
    sources = [Source(s.name, centroid=s.centroid, count=np.int64(5), cost=np.float32(1)) for s in sources]
    router = SourceRouter(
        **QUICK, max_sources=np.int64(2), pos_weight=np.float32(2), budget=np.float32(3)
    ).fit(Q, Y, sources)  # fmt: skip
    router.save(tmp_path / "r")
    again = SourceRouter.load(tmp_path / "r")
    assert (again.predict_proba(Q) == router.predict_proba(Q)).all() and again.budget == 3


@pytest.mark.parametrize(
    "wrong",
    [{"on_empty": "bogus"}, {"max_sources": -3}, {"min_sources": -1}, {"budget": -1.0}, {"threshold": [0.5] * 9}],
)
def test_a_policy_that_cannot_be_is_refused_before_training(wrong):
    Q, Y, sources = world(60)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SourceRouter(**QUICK, **wrong).fit(Q, Y, sources)
