"""Kernels on a device against the CPU: bit for bit where that is promised, within stated bounds elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

from collegium import _core, cuda, dl, rag


def models(n: int, p: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, p)).astype(np.float32)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal bits, NaN like NaN, where the CPU's kernels fuse as the device does; else within their bound."""
    if _core.isa() == "base":
        return np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)
    nan = np.isnan(b)
    return np.array_equal(np.isnan(a), nan) and np.array_equal(a[~nan].view(np.int32), b[~nan].view(np.int32))


# ---- randomness: integers and noise have the CPU's bits ----


@pytest.mark.parametrize("first, n", [(0, 1), (3, 6), (1021, 100_003), (2**34 - 5, 11), (2**50 - 7, 7)])
def test_noise(first, n):
    at = (2**63 + 12345, _core.FOR_USER, 7, 2**32 - 1)
    assert np.array_equal(cuda.random_u32(*at, first, n).numpy_sync(), _core.random_u32(*at, first, n))
    assert np.array_equal(cuda.random_f32(*at, first, n).numpy_sync(), _core.random_f32(*at, first, n))
    normal = cuda.normal_f32(*at, first, n).numpy_sync()
    assert np.array_equal(normal.view(np.int32), _core.random_normal(*at, first, n).view(np.int32))


def test_ten_million_normals():
    at = (1, _core.FOR_USER, 0, 0)
    x = cuda.normal_f32(*at, 0, 10_000_019).numpy_sync()
    assert np.array_equal(x.view(np.int32), _core.random_normal(*at, 0, 10_000_019).view(np.int32))


# ---- mixing ----


# 1,000 and 2,000 nodes: narrower tiles in shared memory; 5,000: one round fits, more go one launch a round, as all of
# 8,000 nodes do.
@pytest.mark.parametrize("n, p", [(2, 1), (12, 37), (255, 1031), (1000, 333), (2000, 65), (5000, 301), (8000, 65)])
@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_mix(n, p, rounds):
    X = models(n, p)
    W = dl.topology.ring(n).mixing() if n < 12 else dl.topology.regular(n, 6, seed=1).mixing()
    want = dl.mix(X, W, rounds)
    x = cuda.from_numpy(X, padded=True)
    assert same(dl.mix(x, W, rounds).numpy_sync(), want)
    dl.mix(x, W, rounds, out=x)
    assert same(x.numpy_sync(), want)


# Rows that are not aligned to 16 bytes, apart from each other or from their first column on.
@pytest.mark.parametrize("p", [64, 1002, 1003])
@pytest.mark.parametrize("pitch, first", [(1004, 0), (1004, 1), (1005, 0), (1006, 2), (1007, 3)])
@pytest.mark.parametrize("rounds", [1, 3])
def test_mix_of_rows_of_any_alignment(p, pitch, first, rounds):
    n = 60
    X, W = models(n, p), dl.topology.regular(n, 6, seed=1).mixing()
    columns = [0, p // 3, p]
    table = [[W, dl.topology.ring(n).mixing()]] * rounds
    want = dl.mix(X, table, rounds, columns=columns)

    def within() -> tuple[cuda.Array, cuda.Array]:
        whole = cuda.from_numpy(np.full((n, pitch + 4), -7, np.float32))
        return whole, whole.part(first, (n, p), (pitch, 1))

    whole, y = within()
    dl.mix(cuda.from_numpy(X, padded=True), table, rounds, columns=columns, out=y)
    assert same(y.numpy_sync(), want)
    rest = np.delete(whole.numpy_sync().reshape(-1), first + (np.arange(n)[:, None] * pitch + np.arange(p)).reshape(-1))
    assert (rest == -7).all()
    _, x = within()
    x.fill_from(X)
    dl.mix(x, table, rounds, columns=columns, out=x)
    assert same(x.numpy_sync(), want)
    assert same(
        dl.mix(y.part(0, (n, p), (pitch, 1)), table, rounds, columns=columns).numpy_sync(),
        dl.mix(want, table, rounds, columns=columns),
    )


def test_mix_with_a_matrix_a_round_and_block():
    X = models(40, 1000)
    A, B = (dl.topology.regular(40, 4, seed=s).mixing() for s in (1, 2))
    W, columns = [[A, B, A, B], [B, B, A, A], [A, A, B, A]], [0, 1, 333, 333, 1000]
    got = dl.mix(cuda.from_numpy(X), W, 3, columns=columns).numpy_sync()
    assert same(got, dl.mix(X, W, 3, columns=columns))


def test_dead_edges_carry_no_nan():
    n = 64
    X, W = models(n, 500), dl.topology.regular(n, 6, seed=1).mixing()
    alive = np.ones(len(W.weights), np.uint8)
    alive[W.indices == 3] = 0
    X[3] = np.nan
    masked = (W.indptr, W.indices, _core.mask_edges(W.indptr, W.indices, W.weights, alive))
    got = dl.mix(cuda.from_numpy(X), masked, 3).numpy_sync()
    assert not np.isnan(np.delete(got, 3, 0)).any()
    assert same(got, dl.mix(X, masked, 3))


def test_nan_goes_where_arithmetic_takes_it():
    X, W = models(20, 300), dl.topology.ring(20).mixing()
    X[4, 17], X[9, 250] = np.nan, np.inf
    assert same(dl.mix(cuda.from_numpy(X), W, 2).numpy_sync(), dl.mix(X, W, 2))


# ---- consensus, average ----


@pytest.mark.parametrize("n, p", [(1, 1), (9, 127), (256, 10_007)])
def test_consensus_and_average(n, p):
    X, rows = models(n, p), np.random.default_rng(1).integers(n, size=n + 1)
    for picked in (None, rows):
        mean, total = cuda.consensus_sync(cuda.from_numpy(X), picked)
        want_mean, want = _core.consensus(X, picked)
        assert np.array_equal(mean, want_mean)
        assert total == pytest.approx(want, rel=(n + 1 + p) * 2.3e-16)
        assert cuda.consensus_sync(cuda.from_numpy(X), picked)[1] == total  # the same from run to run
    w = np.random.default_rng(2).random(n).astype(np.float32)
    csr = (np.array([0] + [n] * n, np.int32), np.arange(n, dtype=np.int32), w)
    assert same(cuda.average(cuda.from_numpy(X), w).numpy_sync(), dl.mix(X, csr)[0])


def test_find_nonfinite():
    X = models(50, 10_001)
    assert cuda.find_nonfinite_sync(cuda.from_numpy(X)) is None
    for i, c in [(49, 10_000), (49, 3), (20, 4096), (0, 10_000)]:
        X[i, c] = np.nan
        assert cuda.find_nonfinite_sync(cuda.from_numpy(X)) == (i, c)


def test_population():
    shapes = {"w": (30, 11), "b": (30,)}
    host, device = dl.Population(50, shapes), dl.Population(50, shapes, device="cuda")
    rng = np.random.default_rng(0)
    for i in range(50):
        state = {name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}
        host.load_row(i, state)
        device.load_row(i, state)
    assert device.digest() == host.digest()
    W = dl.topology.regular(50, 6, seed=1).mixing()
    dl.mix(host, W, 4, out=host)
    dl.mix(device, W, 4, out=device)
    assert same(device.numpy(), host.X)
    assert device.consensus()[1] == pytest.approx(host.consensus()[1], rel=1e-6)


# ---- nearest keys ----


@pytest.mark.parametrize(
    "batch, keys, dim", [(1, 1, 1), (7, 1000, 20), (130, 129, 33), (129, 4099, 100), (257, 5003, 768)]
)
def test_nearest_agrees_with_the_cache_to_the_bit(batch, keys, dim):
    rng = np.random.default_rng(batch)
    k = rng.normal(size=(keys, dim)).astype(np.float32)
    q = k[rng.integers(keys, size=batch)] + np.float32(0.1) * rng.normal(size=(batch, dim)).astype(np.float32)
    tolerance = 0.1 * math.sqrt(dim)
    cache = rag.ProximityCache(dim=dim, capacity=keys, tolerance=tolerance)
    for i, key in enumerate(k):
        cache.insert(key, [i])
    hit, ids, d = cache.lookup_batch(q, 1)
    index, distance = (a.numpy_sync() for a in cuda.nearest(cuda.from_numpy(q), cuda.from_numpy(k), tolerance))
    assert np.array_equal(index, np.where(hit, ids[:, 0], -1))
    if _core.isa() != "base":
        assert np.array_equal(distance[hit], d[hit])


def test_ties_and_nan():
    k = np.zeros((300, 9), np.float32)
    k[:, 0] = 5
    k[[17, 210]] = 1
    k[3] = np.nan
    q = np.ones((3, 9), np.float32)
    q[1, 4] = np.nan
    q[2] = 1e30
    index, distance = (a.numpy_sync() for a in cuda.nearest(cuda.from_numpy(q), cuda.from_numpy(k)))
    assert index.tolist() == [17, -1, -1]  # a distance that overflows is none
    assert distance.tolist() == [0, math.inf, math.inf]


def test_unrelated_keys_and_keys_nearly_alike():
    """Many keys as near as the filter can tell, or all of them; the truth in float64."""
    rng = np.random.default_rng(5)
    for k in (rng.normal(size=(1500, 96)), 1 + 1e-3 * rng.normal(size=(1500, 96))):
        q = (k[rng.integers(1500, size=100)] + (k.std() * rng.normal(size=(100, 96)))).astype(np.float32)
        k = k.astype(np.float32)
        index, distance = (a.numpy_sync() for a in cuda.nearest(cuda.from_numpy(q), cuda.from_numpy(k)))
        square = ((q[:, None].astype(np.float64) - k[None].astype(np.float64)) ** 2).sum(2)
        least = square.min(1)
        assert (square[np.arange(100), index] <= least * (1 + 1e-5)).all()
        assert np.allclose(distance, np.sqrt(least), rtol=1e-5)


def test_keys_that_a_product_cannot_tell_apart():
    """||k|| is 10^6 times their distances: only the direct ones decide."""
    rng = np.random.default_rng(0)
    k = (100 + 1e-4 * rng.normal(size=(2000, 64))).astype(np.float32)
    q = k[rng.integers(2000, size=300)]
    index, distance = (a.numpy_sync() for a in cuda.nearest(cuda.from_numpy(q), cuda.from_numpy(k)))
    assert (distance == 0).all()
    assert np.array_equal(k[index], q)


# ---- products, router ----


@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (5, 130, 3), (129, 257, 65), (512, 300, 768)])
def test_gemm(m, n, k):
    a, b = models(m, k, 1), models(n, k, 2)
    x, y = cuda.from_numpy(a, padded=True), cuda.from_numpy(b)
    out = cuda.empty((m, n))
    cuda.need().gemm(0, out.stream, m, n, k, x.address, x.strides[0], y.address, k, out.address, n)
    bound = (k + 1) * 2.0**-24 * (np.abs(a) @ np.abs(b).T)
    want = a.astype(np.float64) @ b.T.astype(np.float64)
    assert (np.abs(out.numpy_sync() - want) <= bound + 1e-30).all()
    try:
        cuda.library("cublas")
    except RuntimeError as e:
        pytest.skip(str(e))
    assert (np.abs(cuda.sgemm(x, y).numpy_sync() - want) <= bound + 1e-30).all()


def test_router():
    rng = np.random.default_rng(0)
    f = lambda *shape: rng.normal(size=shape).astype(np.float32) / np.float32(math.sqrt(shape[-1]))
    h1, h2, dims, of = 256, 128, [768, 384], np.array([0, 1, 1, 0, 0, 1, 0])
    wq, shift, cross, centroids = f(h1, 768), f(7, h1), f(h1), f(7, 768)
    w2, vectors = f(h2, h1), [f(h1), f(h1), f(h2), f(h2), f(h2), f(h2), f(1)]
    g1, c1, b2, g2, c2, w3, b3 = vectors
    tail = np.concatenate([g1, c1, w2.ravel(), b2, g2, c2, w3, b3])
    queries = [f(333, d) for d in dims]
    p = cuda.RouterForward(dims, of, wq, shift, cross, centroids, tail, h2)([cuda.from_numpy(q) for q in queries])

    def layer(z, gain, bias):
        z = (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-5)
        return np.maximum(gain * z + bias, 0)

    for s, e in enumerate(of):
        q = queries[e].astype(np.float64)
        z = q @ wq[:, : dims[e]].T + shift[s] + (q @ centroids[s, : dims[e]])[:, None] * cross
        h = layer(layer(z, g1, c1) @ w2.T + b2, g2, c2)
        assert np.allclose(p.numpy_sync()[:, s], 1 / (1 + np.exp(-(h @ w3 + b3))), atol=1e-5)
