"""The aggregate family: mixing, dead edges, consensus, the search for NaN, and the machine floors beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from collegium import _core

F32 = npt.NDArray[np.float32]
Csr = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], F32]
EPS = float(np.finfo(np.float32).eps)
COLUMNS = [0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1000, 4101]


def csr(n: int, seed: int, density: float = 0.3) -> Csr:
    """A random matrix with some empty rows and columns in no order; weights of both signs."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(n)[: rng.binomial(n, density)] for _ in range(n)]
    indptr = np.zeros(n + 1, np.int32)
    indptr[1:] = np.cumsum([len(r) for r in rows])
    indices = np.concatenate([*rows, np.zeros(0, int)]).astype(np.int32)
    return indptr, indices, rng.standard_normal(len(indices)).astype(np.float32)


def gossip(n: int, degree: int, seed: int = 0) -> Csr:
    """A symmetric, doubly stochastic matrix: circulant links of random strides, Metropolis weights, sorted columns.

    The diagonal makes up for the rounding of the other weights to float32: 7 float32(1/7) is 1 + 4.5e-8, a bias that
    would move the mean by that much every round.
    """
    rng = np.random.default_rng(seed)
    links = np.zeros((n, n), bool)
    strides = rng.permutation(np.arange(2, n // 2))[: degree // 2 - 1] if n > 4 else np.zeros(0, int)
    for s in [1, *strides]:
        i = np.arange(n)
        links[i, (i + s) % n] = links[(i + s) % n, i] = True
    np.fill_diagonal(links, False)
    w = (links / (1.0 + links.sum(1).max())).astype(np.float32).astype(float)
    np.fill_diagonal(w, 1.0 - w.sum(1))
    return from_dense(w, links | np.eye(n, dtype=bool))


def from_dense(w: npt.NDArray[Any], pattern: npt.NDArray[np.bool_] | None = None) -> Csr:
    pattern = w != 0 if pattern is None else pattern
    indptr = np.concatenate([[0], np.cumsum(pattern.sum(1))]).astype(np.int32)
    rows, cols = np.nonzero(pattern)
    return indptr, cols.astype(np.int32), w[rows, cols].astype(np.float32)


def dense(w: Csr) -> npt.NDArray[np.float64]:
    n = len(w[0]) - 1
    out = np.zeros((n, n))
    np.add.at(out, (np.repeat(np.arange(n), np.diff(w[0])), w[1]), w[2].astype(float))
    return out


def rows(n: int, p: int, seed: int = 0, pad: float = np.nan) -> F32:
    """A padded population of standard normal values; the padding holds `pad`."""
    x = _core.zeros_rows(n, p)
    if n and p:
        whole(x)[:] = pad
        x[:] = np.random.default_rng(seed).standard_normal((n, p))
    return x


def whole(x: F32) -> F32:
    """All memory between the first and the last row's end, padding included."""
    n, p = x.shape
    ld = x.strides[0] // 4 if n > 1 else p
    return np.lib.stride_tricks.as_strided(x, ((n - 1) * ld + p,), (4,))


def start(*cols: int) -> npt.NDArray[np.int64]:
    return np.array(cols, np.int64)


def mix(x: F32, *rounds: Csr) -> F32:
    y = np.full_like(x, 7.0)
    _core.mix(x, y, [[w] for w in rounds], start(0, x.shape[1]))
    return y


# ---- mix: right ----


@pytest.mark.parametrize("n", [1, 2, 3, 16, 17, 65])
@pytest.mark.parametrize("rounds", [1, 3])
def test_mix_against_float64(isa: str, threads: int, n: int, rounds: int) -> None:
    ws = [csr(n, seed=r) for r in range(rounds)]
    for p in COLUMNS:
        x = rows(n, p)
        y = rows(n, p, seed=1)
        _core.mix(x, y, [[w] for w in ws], start(0, p))
        want, bound = x.astype(float), np.abs(x).astype(float)
        for w in ws:
            want, bound = dense(w) @ want, np.abs(dense(w)) @ bound
        terms = max(np.diff(w[0]).max() for w in ws)
        assert (np.abs(y - want) <= 2 * (terms + 1) * rounds * EPS * bound + 1e-30).all()


def test_mix_empty_rows_give_zeros(isa: str) -> None:
    empty = np.zeros(6, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32)
    assert (mix(rows(5, 70), empty) == 0).all()


def test_mix_identity_keeps_bits(isa: str, threads: int) -> None:
    x = rows(33, 1001)
    assert (mix(x, from_dense(np.eye(33))) == x).all()


def test_mix_order_of_entries_counts(isa: str) -> None:
    """1 + 2^30 - 2^30 in float32 depends on the order; both orders must be what was asked for."""
    x = np.array([[1.0], [2.0**30], [-(2.0**30)]], np.float32)
    ptr, ones = np.array([0, 3, 3, 3], np.int32), np.ones(3, np.float32)
    assert mix(x, (ptr, np.array([0, 1, 2], np.int32), ones))[0, 0] == 0.0
    assert mix(x, (ptr, np.array([1, 2, 0], np.int32), ones))[0, 0] == 1.0


def test_mix_nothing_to_do() -> None:
    for n, p in [(0, 5), (4, 0), (0, 0)]:
        w = (np.zeros(n + 1, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))
        _core.mix(np.zeros((n, p), np.float32), np.zeros((n, p), np.float32), [[w]], start(0, p))
    _core.mix(np.zeros((4, 0), np.float32), np.zeros((4, 0), np.float32), [[]], start(0))


@pytest.mark.parametrize("n", [1, 5, 40, 300, 700])
def test_mix_fused_is_sequential_bit_for_bit(isa: str, threads: int, n: int) -> None:
    """Trap 6. The sizes reach every strip width; 5003 columns reach whole strips, several tasks, both narrow ends."""
    ws = [csr(n, seed=r, density=min(1.0, 7 / n)) for r in range(3)]
    for p in [1, 77, 5003]:
        x = rows(n, p)
        step = x
        for w in ws:
            step = mix(step, w)
        fused = mix(x, *ws)
        assert fused.tobytes() == step.tobytes()
        _core.mix(x, x, [[w] for w in ws], start(0, p))
        assert x.tobytes() == step.tobytes(), "in place"


def test_mix_threads_and_layout_change_no_bit(isa: str) -> None:
    n, p = 96, 20011
    ws = [csr(n, seed=r, density=0.08) for r in range(2)]
    x = rows(n, p)
    seen = set()
    for count in (1, 2, 5):
        old = _core.num_threads()
        _core.set_num_threads(count)
        try:
            packed = np.ascontiguousarray(x)
            odd = np.empty((n, p + 3), np.float32)[:, 1 : p + 1]
            padded = rows(n, p, seed=9)
            for y in (np.empty_like(packed), odd, padded):
                for src in (x, packed):
                    _core.mix(src, y, [[w] for w in ws], start(0, p))
                    seen.add(np.ascontiguousarray(y).tobytes())
        finally:
            _core.set_num_threads(old)
    assert len(seen) == 1


def test_mix_large_result_is_streamed_right(isa: str, threads: int) -> None:
    """Beyond 4 MiB the result is written past the cache; blocks then begin off a cache line."""
    n, p = 64, 30011
    ws = [gossip(n, 6, seed=r) for r in range(2)]
    x, y = rows(n, p), rows(n, p, seed=1)
    cuts = start(0, 5, 1003, 1003, 16000, 29999, p)
    _core.mix(x, y, [[w] * 6 for w in ws], cuts)
    small = np.empty((n, p), np.float32)
    for a in range(0, p, 5000):  # each piece below the threshold
        b = min(a + 5000, p)
        _core.mix(x[:, a:b], small[:, a:b], [[w] for w in ws], start(0, b - a))
    assert (y == small).all()


def test_mix_blocks_are_mixed_apart(isa: str, threads: int) -> None:
    n, p = 20, 1500
    cuts = start(0, 1, 1, 64, 700, 701, 1500)
    table = [[csr(n, seed=10 * r + b) for b in range(6)] for r in range(2)]
    x = rows(n, p)
    y = rows(n, p, seed=1)
    _core.mix(x, y, table, cuts)
    for b in range(6):
        lo, hi = int(cuts[b]), int(cuts[b + 1])
        part = np.ascontiguousarray(x[:, lo:hi])
        assert (y[:, lo:hi] == mix(part, *(t[b] for t in table))).all()


def test_mix_leaves_the_padding_alone(isa: str, threads: int) -> None:
    for p in (1, 63, 64, 70, 3000):
        x = rows(24, p, pad=np.nan)
        y = rows(24, p, seed=1, pad=-5.0)
        _core.mix(x, y, [[csr(24, 0)]], start(0, p))
        assert np.isfinite(y).all()
        y[:] = 0
        padding = whole(y)
        assert set(np.unique(padding)) <= {0.0, -5.0}


def test_mix_keeps_nan_to_those_who_are_linked_to_it(isa: str) -> None:
    n, p = 12, 100
    w = gossip(n, 4)
    x = rows(n, p)
    x[3, 50] = np.nan
    x[4, 60] = np.inf
    y = mix(x, w)
    linked = dense(w)[:, 3] != 0
    assert (np.isnan(y[:, 50]) == linked).all()
    assert np.isfinite(np.delete(y, [50, 60], axis=1)).all()
    dead = w[0], w[1], np.where(w[1] == 3, np.float32(0), w[2])
    assert np.isfinite(mix(x, dead)[:, 50]).all(), "an entry of weight 0 is left out"


def test_sync_rounds_keep_the_mean_and_shrink_the_distance(isa: str, threads: int) -> None:
    """Trap 5: the mean moves less than 1e-6 relative; the distance shrinks at least by lambda^2 per round."""
    n, p = 32, 3001
    w = gossip(n, 6, seed=3)
    eig = np.sort(np.abs(np.linalg.eigvalsh(dense(w))))
    x = rows(n, p) + np.float32(1.0)
    mean, spread = _core.consensus(x, None)
    for _ in range(6):
        y = mix(x, *[w] * 4)
        mean_y, spread_y = _core.consensus(y, None)
        assert np.linalg.norm(mean_y - mean) < 1e-6 * np.linalg.norm(mean)
        assert spread_y <= spread * eig[-2] ** 8 * 1.01 + 1e-9 * n * p
        x, spread = y, spread_y


# ---- mix: refused ----


def small() -> tuple[F32, F32, Csr]:
    return rows(4, 10), rows(4, 10, seed=1), from_dense(np.full((4, 4), 0.25))


def refused(exc: type[Exception], text: str, x: Any, y: Any, table: Any, cols: Any) -> None:
    before = np.array(y) if isinstance(y, np.ndarray) else None
    with pytest.raises(exc, match=text):
        _core.mix(x, y, table, cols)
    if before is not None:
        np.testing.assert_array_equal(before, y)


def test_mix_refuses_wrong_arrays() -> None:
    x, y, w = small()
    t, c = [[w]], start(0, 10)
    refused(TypeError, r"x: expected numpy.ndarray, got <class 'list'>", [1.0], y, t, c)
    refused(TypeError, r"x: expected dtype float32, got float64", x.astype(float), y, t, c)
    refused(TypeError, r"y: expected dtype float32, got int32", x, y.astype(np.int32), t, c)
    refused(ValueError, r"x: expected 2 dimension\(s\), got 1", x[0], y, t, c)
    refused(ValueError, r"y: expected shape \(4, 10\), got \(4, 9\)", x, y[:, :9], t, c)
    refused(ValueError, r"x: rows must be contiguous", x[:, ::2], y[:, :5], t, start(0, 5))
    refused(ValueError, r"x: rows must be contiguous", x[::-1], y, t, c)
    fixed = y.copy()
    fixed.flags.writeable = False
    refused(ValueError, r"y: is read-only", x, fixed, t, c)
    refused(TypeError, r"col_start: expected dtype int64, got int32", x, y, t, c.astype(np.int32))
    with pytest.raises(TypeError, match=r"mix\(\) takes 4 arguments \(3 given\)"):
        _core.mix(x, y, t)  # type: ignore[call-arg]


def test_mix_refuses_overlap() -> None:
    buf = np.zeros((9, 10), np.float32)
    w = from_dense(np.full((4, 4), 0.25))
    refused(ValueError, "y: overlaps x; only x itself", buf[:4], buf[1:5], [[w]], start(0, 10))
    refused(ValueError, "y: overlaps x; only x itself", buf[:4, :5], buf[:4, 5:], [[w]], start(0, 5))
    refused(ValueError, "y: overlaps x; only x itself", buf[:8:2, :5], buf[:4, :5], [[w]], start(0, 5))
    _core.mix(buf[:4], buf[4:8], [[w]], start(0, 10))
    weights = buf.reshape(-1)[:16]
    weights[:] = 0.25
    refused(ValueError, r"y: overlaps table\[0\]\[0\]", buf[5:9], buf[:4], [[(w[0], w[1], weights)]], start(0, 10))
    sly = buf.view(np.int32).reshape(-1)[:16]
    sly[:] = 0
    refused(ValueError, r"y: overlaps table\[1\]\[0\]", buf[5:9], buf[:4], [[w], [(w[0], sly, w[2])]], start(0, 10))


def test_mix_refuses_wrong_tables() -> None:
    x, y, w = small()
    c = start(0, 10)
    ptr, ind, val = w
    big, low = ind.copy(), ind.copy()
    big[3], low[5] = 4, -1
    down = np.array([0, 8, 4, 12, 16], np.int32)
    late = np.array([1, 4, 8, 12, 16], np.int32)
    beyond = np.array([0, 4, 99, 12, 16], np.int32)
    refused(TypeError, "table: expected a sequence of rounds, got <class 'int'>", x, y, 3, c)
    refused(ValueError, "table: expected at least one round, got 0", x, y, [], c)
    refused(ValueError, r"table\[0\]: expected a sequence of 1 blocks, got \[\]", x, y, [[]], c)
    refused(TypeError, r"table\[0\]: expected a sequence of 1 blocks, got 5", x, y, [5], c)
    refused(TypeError, r"table\[0\]\[0\]: expected a tuple \(indptr, indices, weights\)", x, y, [[list(w)]], c)
    refused(TypeError, r"indices: expected dtype int32, got int64", x, y, [[(ptr, ind.astype(np.int64), val)]], c)
    refused(ValueError, r"indptr: expected to end at 15", x, y, [[(ptr, ind[:15], val[:15])]], c)
    refused(ValueError, r"weights: expected shape \(16,\), got \(15,\)", x, y, [[(ptr, ind, val[:15])]], c)
    refused(ValueError, r"indptr: expected at least one value", x, y, [[(ptr[:0], ind[:0], val[:0])]], c)
    refused(ValueError, r"table\[0\]\[0\]: expected 4 rows, got 3", x, y, [[(ptr[:4], ind[:12], val[:12])]], c)
    refused(ValueError, r"table\[1\]\[0\]: indices\[3\]: expected 0 to 3, got 4", x, y, [[w], [(ptr, big, val)]], c)
    refused(ValueError, r"table\[0\]\[0\]: indices\[5\]: expected 0 to 3, got -1", x, y, [[(ptr, low, val)]], c)
    refused(ValueError, r"table\[0\]\[0\]: indptr\[2\]: expected 8 to 16, got 4", x, y, [[(down, ind, val)]], c)
    refused(ValueError, r"table\[0\]\[0\]: indptr: expected to start at 0, got 1", x, y, [[(late, ind, val)]], c)
    refused(ValueError, r"table\[0\]\[0\]: indptr\[2\]: expected 4 to 16, got 99", x, y, [[(beyond, ind, val)]], c)
    refused(ValueError, r"col_start: expected at least one value", x, y, [[w]], start())
    refused(ValueError, r"col_start: expected to start at 0, got 1", x, y, [[w]], start(1, 10))
    refused(ValueError, r"col_start: expected to end at 10 \(the columns\), got 9", x, y, [[w]], start(0, 9))
    refused(ValueError, r"col_start\[2\]: expected 6 or more, got 5", x, y, [[w, w, w]], start(0, 6, 5, 10))
    refused(ValueError, r"col_start\[1\]: expected 0 or more, got -3", x, y, [[w, w]], start(0, -3, 10))


# ---- dead edges ----


@pytest.mark.parametrize("shuffled", [False, True])
def test_mask_edges_against_dense(shuffled: bool) -> None:
    rng = np.random.default_rng(5)
    for n in (1, 2, 5, 40):
        w = gossip(n, 6) if n > 2 else from_dense(np.full((n, n), 1.0 / n))
        if shuffled:
            order = np.concatenate([rng.permutation(np.arange(a, b)) for a, b in zip(w[0][:-1], w[0][1:], strict=True)])
            w = w[0], w[1][order], w[2][order]
        alive = (rng.random(len(w[1])) > 0.3).astype(np.uint8)
        out = _core.mask_edges(*w, alive)
        d, up = dense(w), dense((w[0], w[1], alive.astype(np.float32))) != 0
        np.fill_diagonal(up, True)
        want = np.where(up & up.T, d, 0.0)
        want[np.arange(n), np.arange(n)] += np.where(up & up.T, 0.0, d).sum(1)
        got = dense((w[0], w[1], out))
        np.testing.assert_allclose(got, want, rtol=EPS, atol=0)
        np.testing.assert_allclose(got.sum(1), d.sum(1), rtol=n * EPS)
        assert (got == got.T).all()


def test_mask_edges_all_dead_is_the_identity() -> None:
    w = gossip(10, 4)
    out = _core.mask_edges(*w, np.zeros(len(w[1]), np.uint8))
    np.testing.assert_allclose(dense((w[0], w[1], out)), np.eye(10), atol=2 * EPS)
    np.testing.assert_array_equal(_core.mask_edges(*w, np.ones(len(w[1]), np.uint8)), w[2])


def test_mask_edges_refuses() -> None:
    def check(pattern: list[list[int]], text: str) -> None:
        ptr = np.concatenate([[0], np.cumsum([len(r) for r in pattern])]).astype(np.int32)
        ind = np.array([j for r in pattern for j in r], np.int32)
        with pytest.raises(ValueError, match=text):
            _core.mask_edges(ptr, ind, np.ones(len(ind), np.float32), np.ones(len(ind), np.uint8))

    check([[0, 1], [1]], r"entry \(1, 0\) is missing, its reverse is there")
    check([[0], [0, 1]], r"entry \(0, 1\) is missing, its reverse is there")
    check([[0, 1], [0]], r"diagonal entry \(1, 1\) is missing")
    check([[0, 1, 1], [0, 0, 1]], r"entry \(.*\) is there twice")
    check([[0, 0]], r"entry \(0, 0\) is there twice")
    check([[0, 2], [1]], r"indices\[1\]: expected 0 to 1, got 2")
    w = gossip(6, 2)
    with pytest.raises(TypeError, match="alive: expected dtype uint8, got bool"):
        _core.mask_edges(*w, np.ones(len(w[1]), bool))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"alive: expected shape \(18,\), got \(17,\)"):
        _core.mask_edges(*w, np.ones(17, np.uint8))


# ---- consensus ----


@pytest.mark.parametrize("n", [1, 2, 7, 300, 2000])
def test_consensus_against_float64(isa: str, threads: int, n: int) -> None:
    for p in [0, 1, 15, 16, 17, 33, 65, 1025, 2049]:
        x = rows(n, p) + np.float32(100.0)
        mean, spread = _core.consensus(x, None)
        d = x.astype(float)
        want = d.mean(0) if p else np.zeros(0)
        np.testing.assert_allclose(mean, want, rtol=4e-16 * n)
        np.testing.assert_allclose(spread, ((d - want) ** 2).sum(), rtol=1e-13 * (n + p), atol=1e-12)


def test_consensus_is_safe_far_from_zero(isa: str) -> None:
    """A sum of squares minus a square would lose every digit here."""
    x = np.full((50, 100), 2.0**23, np.float32)
    x[::2] += 1.0
    mean, spread = _core.consensus(x, None)
    assert (mean == 2.0**23 + 0.5).all()
    assert spread == 50 * 100 * 0.25
    assert _core.consensus(np.full((50, 100), 0.1, np.float32), None)[1] < 1e-25


def test_consensus_same_bits_for_any_threads(isa: str) -> None:
    x = rows(200, 9001)
    seen = set()
    for count in (1, 2, 7):
        old = _core.num_threads()
        _core.set_num_threads(count)
        mean, spread = _core.consensus(x, None)
        _core.set_num_threads(old)
        seen.add((mean.tobytes(), spread))
    assert len(seen) == 1


def test_consensus_of_some_rows(isa: str, threads: int) -> None:
    x = rows(40, 513)
    x[7] = np.nan
    some = np.array([3, 39, 0, 3, 12], np.int64)
    mean, spread = _core.consensus(x, some)
    d = x[some].astype(float)
    np.testing.assert_allclose(mean, d.mean(0), rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose(spread, ((d - d.mean(0)) ** 2).sum(), rtol=1e-13)
    assert np.isnan(_core.consensus(x, None)[1])


def test_consensus_refuses() -> None:
    x = rows(3, 5)
    with pytest.raises(ValueError, match="rows: expected at least one, got none"):
        _core.consensus(x, np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="rows: expected at least one, got none"):
        _core.consensus(x[:0], None)
    with pytest.raises(ValueError, match=r"rows\[1\]: expected 0 to 2, got 3"):
        _core.consensus(x, np.array([0, 3]))
    with pytest.raises(ValueError, match=r"rows\[0\]: expected 0 to 2, got -1"):
        _core.consensus(x, np.array([-1]))
    with pytest.raises(TypeError, match="rows: expected dtype int64, got float64"):
        _core.consensus(x, np.zeros(1))  # type: ignore[arg-type]


# ---- NaN ----


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_find_nonfinite_finds_the_first(isa: str, threads: int, bad: float) -> None:
    for n, p in [(1, 1), (3, 15), (3, 16), (3, 17), (4, 40000)]:
        x = rows(n, p, pad=np.nan)
        assert _core.find_nonfinite(x, None) is None
        for row, col in [(n - 1, p - 1), (n - 1, 0), (n // 2, p // 2), (0, p - 1), (0, 0)]:  # ever earlier
            x[row, col] = bad
            assert _core.find_nonfinite(x, None) == (row, col)


def test_find_nonfinite_all_positions_and_extremes(isa: str) -> None:
    x = np.full((1, 40), np.finfo(np.float32).max, np.float32)
    x[0, 1::3] = np.float32(1e-45)
    x[0, 2::3] = -np.finfo(np.float32).max
    assert _core.find_nonfinite(x, None) is None
    for c in range(39, -1, -1):
        x[0, c] = np.array(0x7F800001, np.uint32).view(np.float32)  # a signalling NaN
        assert _core.find_nonfinite(x, None) == (0, c)


def test_find_nonfinite_in_the_order_of_rows(isa: str, threads: int) -> None:
    x = rows(6, 20)
    x[1, 4] = x[5, 2] = np.nan
    assert _core.find_nonfinite(x, np.array([0, 5, 1])) == (5, 2)
    assert _core.find_nonfinite(x, np.array([0, 2, 3])) is None
    assert _core.find_nonfinite(x, np.zeros(0, np.int64)) is None
    assert _core.find_nonfinite(x[:, :0], None) is None
    with pytest.raises(ValueError, match=r"rows\[0\]: expected 0 to 5, got 6"):
        _core.find_nonfinite(x, np.array([6]))


def test_find_nonfinite_many_threads_still_the_first(isa: str, threads: int) -> None:
    x = rows(64, 30000)
    x[20:, 11] = np.nan
    x[20, 29999] = np.nan
    for _ in range(20):
        assert _core.find_nonfinite(x, None) == (20, 11)


# ---- floors ----


def test_floors(isa: str, threads: int) -> None:
    assert _core.floor_fma() > 0.1
    for n in (0, 1, 15, 16, 17, 129, 200003):
        src = np.arange(n, dtype=np.float32) % 7
        assert _core.floor_read(src) == src.sum(dtype=float)
        for kind in ("memcpy", "stream"):
            buf = np.full(n + 2, -1.0, np.float32)
            _core.floor_copy(src, buf[1:-1], kind)
            assert (buf[1:-1] == src).all()
            assert buf[0] == buf[-1] == -1.0


def test_floors_refuse() -> None:
    a = np.zeros(8, np.float32)
    with pytest.raises(ValueError, match="dst: overlaps src"):
        _core.floor_copy(a[:6], a[2:], "memcpy")
    with pytest.raises(ValueError, match=r"dst: expected shape \(8,\), got \(7,\)"):
        _core.floor_copy(a, np.zeros(7, np.float32), "stream")
    with pytest.raises(ValueError, match="kind: expected 'memcpy' or 'stream', got 'fast'"):
        _core.floor_copy(a, np.zeros(8, np.float32), "fast")  # type: ignore[arg-type]


# ---- anything at all ----

ANY_ARRAY = hnp.arrays(
    dtype=st.sampled_from([np.float32, np.float32, np.float64, np.int32, np.int64, np.uint8, np.dtype(">f4")]),
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6),
).map(lambda a: a[..., ::2] if a.ndim and a.size % 3 == 1 else a)
ANY = st.one_of(
    ANY_ARRAY,
    hnp.arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(0, 5))),
    hnp.arrays(np.int64, st.integers(0, 5), elements=st.integers(-2, 6)),
    hnp.arrays(np.int32, st.integers(0, 6), elements=st.integers(-2, 6)),
    st.none(),
    st.integers(-3, 3),
    st.just("memcpy"),
    st.just([1.0]),
)
ANY_CSR = st.one_of(
    ANY,
    st.tuples(
        hnp.arrays(np.int32, st.integers(0, 5), elements=st.integers(-1, 6)),
        hnp.arrays(np.int32, st.integers(0, 6), elements=st.integers(-1, 6)),
        hnp.arrays(np.float32, st.integers(0, 6)),
    ),
    st.tuples(ANY, ANY, ANY),
)
ANY_TABLE = st.one_of(ANY, st.lists(st.one_of(ANY, st.lists(ANY_CSR, max_size=3)), max_size=3))


def survives(call: Any, *args: Any) -> None:
    """Works or raises TypeError or ValueError; inputs keep their bits unless named by the call."""
    try:
        call(*args)
    except (TypeError, ValueError) as e:
        assert ":" in str(e), e


@settings(max_examples=300, deadline=None)
@given(ANY, ANY, ANY_TABLE, ANY)
def test_mix_survives_anything(x: Any, y: Any, table: Any, cols: Any) -> None:
    before = x.tobytes() if isinstance(x, np.ndarray) else None
    survives(_core.mix, x, y, table, cols)
    if before is not None and x is not y:
        assert x.tobytes() == before


@settings(max_examples=200, deadline=None)
@given(ANY, ANY, ANY, ANY)
def test_the_others_survive_anything(a: Any, b: Any, c: Any, d: Any) -> None:
    survives(_core.mask_edges, a, b, c, d)
    survives(_core.consensus, a, b)
    survives(_core.find_nonfinite, a, b)
    survives(_core.floor_copy, a, b, c)
    survives(_core.floor_read, a)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mix_any_shape_is_right(data: st.DataObject) -> None:
    n, p, rounds = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 200)), data.draw(st.integers(1, 3))
    cuts = start(0, *sorted(data.draw(st.lists(st.integers(0, p), max_size=3))), p)
    blocks = len(cuts) - 1
    table = [[csr(n, data.draw(st.integers(0, 99))) for _ in range(blocks)] for _ in range(rounds)]
    pad, shift = data.draw(st.integers(0, 20)), data.draw(st.integers(0, 17))
    x = np.random.default_rng(0).standard_normal((n, p + pad)).astype(np.float32)[:, :p]
    y = np.empty(n * (p + pad) + shift, np.float32)[shift:].reshape(n, p + pad)[:, :p]
    _core.mix(x, y, table, cuts)
    for b in range(blocks):
        want = x[:, cuts[b] : cuts[b + 1]].astype(float)
        for r in range(rounds):
            want = dense(table[r][b]) @ want
        np.testing.assert_allclose(y[:, cuts[b] : cuts[b + 1]], want, rtol=1e-4, atol=1e-3)
