"""Nearest keys and the router on a device whose kernels run on the CPU, against the CPU's own answers."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cuda_twin import DlpackArray, InterfaceArray

from collegium import _core, cuda, rag
from collegium.cuda.nearest import squared


def direct(q: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Squared distances (B, c) in float64."""
    return ((q[:, None].astype(np.float64) - k[None].astype(np.float64)) ** 2).sum(2)


# ---- nearest keys ----


@pytest.mark.parametrize("kind", [InterfaceArray, DlpackArray, cuda.from_numpy])
@pytest.mark.parametrize("batch, keys, dim", [(1, 1, 1), (7, 200, 20), (130, 129, 33)])
def test_nearest(twin, kind, batch, keys, dim):
    rng = np.random.default_rng(batch)
    q, k = (rng.normal(size=(n, dim)).astype(np.float32) for n in (batch, keys))
    index, distance = (a.numpy_sync() for a in cuda.nearest(kind(q), kind(k)))
    want = direct(q, k)
    assert np.array_equal(index, want.argmin(1))
    assert np.allclose(distance, np.sqrt(want.min(1)), rtol=1e-5)
    assert (index.dtype, distance.dtype) == (np.int64, np.float32)


def test_nearest_agrees_with_the_cache_to_the_bit(twin):
    rng = np.random.default_rng(1)
    k = rng.normal(size=(150, 24)).astype(np.float32)
    q = k[rng.integers(150, size=40)] + np.float32(0.1) * rng.normal(size=(40, 24)).astype(np.float32)
    tolerance = 0.5
    cache = rag.ProximityCache(dim=24, capacity=150, tolerance=tolerance)
    for i, key in enumerate(k):
        cache.insert(key, [i])
    hit, ids, d = cache.lookup_batch(q, 1)
    index, distance = (a.numpy_sync() for a in cuda.nearest(cuda.from_numpy(q), cuda.from_numpy(k), tolerance))
    assert 0 < hit.sum() < 40
    assert np.array_equal(index, np.where(hit, ids[:, 0], -1))
    if _core.isa() == "base":
        assert np.allclose(distance[hit], d[hit], rtol=1e-6)
    else:
        assert np.array_equal(distance[hit], d[hit])
    assert np.isinf(distance[~hit]).all()


def test_ties_nan_and_tolerance(twin):
    k = np.zeros((300, 9), np.float32)
    k[:, 0] = 5
    k[[17, 210]] = 1  # equal, in different tiles
    k[3] = np.nan
    q = np.ones((4, 9), np.float32)
    q[1, 4] = np.nan
    q[2] = 100
    q[3] = k[0]
    table = cuda.KeyTable(cuda.from_numpy(k))
    assert len(table) == 300
    index, distance = (a.numpy_sync() for a in table.nearest(cuda.from_numpy(q), tolerance=1.0))
    assert index.tolist() == [17, -1, -1, 0]
    assert distance.tolist() == [0, math.inf, math.inf, 0]
    index, _ = table.nearest(cuda.from_numpy(q), tolerance=0)
    assert index.numpy_sync().tolist() == [17, -1, -1, 0]


def test_nearest_of_nothing(twin):
    q, none = cuda.from_numpy(np.ones((3, 4), np.float32)), cuda.empty((0, 4))
    assert [a.numpy_sync().tolist() for a in cuda.nearest(q, none)] == [[-1] * 3, [math.inf] * 3]
    assert [a.numpy_sync().shape for a in cuda.nearest(none, q)] == [(0,), (0,)]


@pytest.mark.parametrize("tolerance", [0.0, 1e-30, 0.1, 0.3, 0.7, 1.0, 3.0, 1e18])
def test_comparing_squares_decides_as_comparing_distances(tolerance):
    b = np.float32(squared(tolerance))
    assert float(np.sqrt(b)) <= tolerance < float(np.sqrt(np.nextafter(b, np.float32(np.inf))))


def test_nearest_refuses(twin):
    x = cuda.from_numpy(np.ones((3, 4), np.float32))
    with pytest.raises(ValueError, match=r"queries: expected shape \(B, 4\), got \(3, 3\)"):
        cuda.nearest(cuda.from_numpy(np.ones((3, 3), np.float32)), x)
    with pytest.raises(ValueError, match="tolerance: expected at least 0, got -1"):
        cuda.nearest(x, x, -1)
    with pytest.raises(TypeError, match="keys: expected dtype float32, got float64"):
        cuda.nearest(x, cuda.from_numpy(np.ones((3, 4))))
    with pytest.raises(TypeError, match="queries: expected an array on a CUDA device, got one on the CPU"):
        cuda.nearest(np.ones((3, 4), np.float32), x)


def test_the_cache_takes_queries_from_a_device(twin):
    rng = np.random.default_rng(0)
    k = rng.normal(size=(20, 8)).astype(np.float32)
    cache = rag.ProximityCache(dim=8, capacity=20, tolerance=0.5)
    for i, key in enumerate(k):
        cache.insert(InterfaceArray(key), [i])
    hit, ids, _ = cache.lookup_batch(DlpackArray(k), 1)
    assert hit.all()
    assert ids[:, 0].tolist() == list(range(20))
    assert np.array_equal(cuda.to_host_sync(DlpackArray(k[:, 2:5])), k[:, 2:5])


# ---- router ----


def network(w, x):
    """RAGRoute's network on unfolded rows, in float64."""

    def layer(z, gain, bias):
        z = (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-5)
        return np.maximum(gain * z + bias, 0)

    h1 = layer(x, w["gain1"], w["bias1"])
    h2 = layer(h1 @ w["w2"].T + w["b2"], w["gain2"], w["bias2"])
    return 1 / (1 + np.exp(-(h2 @ w["w3"] + w["b3"][0])))


@pytest.mark.parametrize("crossed", [False, True])
@pytest.mark.parametrize("batch", [1, 37])
def test_router(twin, batch, crossed, monkeypatch):
    monkeypatch.setattr("collegium.cuda.router._ROWS", 30)  # several pieces
    rng = np.random.default_rng(batch)
    h1, h2, dims, of = 50, 20, [12, 7], [1, 0, 0, 1, 0]
    d, n = max(dims), len(of)
    f = lambda *shape: rng.normal(size=shape).astype(np.float32)
    w = {"gain1": f(h1), "bias1": f(h1), "w2": f(h2, h1), "b2": f(h2), "gain2": f(h2), "bias2": f(h2)}
    w |= {"w3": f(h2), "b3": f(1)}
    wq, shift, cross, centroids = f(h1, d), f(n, h1), f(h1), f(n, d)
    tail = np.concatenate([v.ravel() for v in w.values()])
    extra = (cross, centroids) if crossed else (None, None)
    queries = [f(batch, k) for k in dims]
    forward = cuda.RouterForward(dims, of, wq, shift, *extra, tail, h2)
    p = forward([cuda.from_numpy(q, padded=True) for q in queries]).numpy_sync()
    assert p.shape == (batch, n)
    for s, e in enumerate(of):
        z = queries[e] @ wq[:, : dims[e]].T.astype(np.float64) + shift[s]
        if crossed:
            z += (queries[e] @ centroids[s, : dims[e]])[:, None] * cross
        assert np.allclose(p[:, s], network(w, z), atol=1e-5)


def test_router_refuses(twin):
    f = lambda *shape: np.zeros(shape, np.float32)
    make = lambda **k: cuda.RouterForward(
        **{"dims": [4], "encoder": [0, 0], "wq": f(3, 4), "shift": f(2, 3), "cross": None, "centroids": None}
        | {"tail": f(2 * 3 + 7 * 2 + 1), "hidden2": 2}
        | k
    )
    for wrong, text in [
        ({"dims": [5]}, "dims: expected 0 to 4"),
        ({"encoder": [0, 1]}, "encoder: expected 0 to 0"),
        ({"shift": f(3, 2)}, r"shift: expected shape \(2, 3\), got \(3, 2\)"),
        ({"tail": f(3)}, r"tail: expected shape \(21,\), got \(3,\)"),
        ({"cross": f(3)}, "cross, centroids: expected both or neither"),
        ({"hidden2": 0}, "hidden2: expected at least 1"),
    ]:
        with pytest.raises(ValueError, match=text):
            make(**wrong)
    for wrong, text in [
        ({"wq": [[0.0] * 4] * 3}, "wq: expected a NumPy array of float32, got list"),
        ({"shift": np.zeros((2, 3))}, "shift: expected a NumPy array of float32, got float64"),
        ({"cross": [0.0] * 3, "centroids": f(2, 4)}, "cross: expected a NumPy array of float32, got list"),
    ]:
        with pytest.raises(TypeError, match=text):
            make(**wrong)
    with pytest.raises(ValueError, match=r"wq: expected 2 dimension\(s\), got 1"):
        make(wq=f(12))
    assert make(device="cuda:0").device == 0
    with pytest.raises(ValueError, match=r"queries: expected 1 array\(s\), one an encoder, got 2"):
        make()([cuda.empty((1, 4))] * 2)
    with pytest.raises(ValueError, match=r"queries\[0\]: expected shape \(1, 4\), got \(1, 5\)"):
        make()([cuda.empty((1, 5))])
    with pytest.raises(TypeError, match="queries: expected a sequence of arrays, one an encoder, got Array"):
        make()(cuda.empty((1, 4)))


@pytest.mark.parametrize("features", [("query", "centroid", "onehot"), ("query", "dot", "count")])
def test_a_router_takes_queries_on_a_device(twin, features):
    rng = np.random.default_rng(5)
    known = [rag.Source(f"s{i}", centroid=rng.normal(size=24).astype(np.float32), count=10 + i) for i in range(3)]
    Q = rng.normal(size=(70, 24)).astype(np.float32)
    router = rag.SourceRouter(features, (16, 8), epochs=2, seed=0).fit(Q, rng.integers(2, size=(70, 3)), known)
    there = router.predict_proba(cuda.from_numpy(Q, padded=True))
    assert isinstance(there, cuda.Array)
    np.testing.assert_allclose(there.numpy_sync(), router.predict_proba(Q), atol=1e-5)
    assert (router.select(cuda.from_numpy(Q, padded=True)) == router.select(Q)).mean() > 0.99  # copied to the host
    router.remove_source("s1")  # other weights: not those of before
    np.testing.assert_allclose(
        router.predict_proba(cuda.from_numpy(Q, padded=True)).numpy_sync(), router.predict_proba(Q), atol=1e-5
    )
    one = router.predict_proba(cuda.from_numpy(Q[3])).numpy_sync()
    np.testing.assert_allclose(one, router.predict_proba(Q[3]), atol=1e-5)
    with pytest.raises(ValueError, match=r"^Q: expected shape \(70, 24\), got \(70, 23\)"):
        router.predict_proba(cuda.from_numpy(np.ascontiguousarray(Q[:, 1:]), padded=True))
    with pytest.raises(TypeError, match="^Q: expected dtype float32, got float64"):
        router.predict_proba(cuda.from_numpy(Q.astype(np.float64)))


def two_encoders():
    """A router over sources of two encoders, and queries of both."""
    rng = np.random.default_rng(6)
    known = [rag.Source(f"s{i}", encoder="ab"[i % 2], dim=12 + i % 2, count=10 + i) for i in range(4)]
    Q = {e: rng.normal(size=(60, d)).astype(np.float32) for e, d in (("a", 12), ("b", 13))}
    return rag.SourceRouter(("query", "count"), (16, 8), epochs=1, seed=0).fit(
        Q, rng.integers(2, size=(60, 4)), known
    ), Q


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_queries_that_are_not_finite(twin, value):
    """The host's words for a selection, which needs the host anyway; probabilities on the device are NaN."""
    router, Q = two_encoders()
    Q["b"][5, 2] = value
    there = {e: cuda.from_numpy(q) for e, q in Q.items()}
    P = router.predict_proba(there).numpy_sync()
    assert np.isnan(P[5, [1, 3]]).all()
    assert np.isnan(P).sum() == 2
    for ask in (router.select, lambda q: router.select(q, max_sources=2)):
        for q in (Q, there):
            with pytest.raises(ValueError, match=r"Q: expected finite values for encoder 'b' \(source 's1'\)"):
                ask(q)


def test_queries_of_encoders_are_named(twin):
    router, Q = two_encoders()
    with pytest.raises(ValueError, match=r"^Q\['b'\]: expected shape \(60, 13\), got \(60, 12\)"):
        router.predict_proba({"a": cuda.from_numpy(Q["a"]), "b": cuda.from_numpy(Q["a"])})


def test_weights_are_copied_to_the_device_of_the_queries(twin, monkeypatch):
    router, Q = two_encoders()
    made, real = [], cuda.RouterForward

    def on_the_living_one(*weights, device):  # the twin's second device is dead
        made.append(device)
        forward = real(*weights)
        forward.device = device
        return lambda queries, names: forward

    monkeypatch.setattr(cuda, "RouterForward", on_the_living_one)
    for device in (0, 1, 1, 0):
        there = {e: DlpackArray(q, device=(2, device)) for e, q in Q.items()}
        assert router.predict_proba(there).device == device
    assert made == [0, 1]
