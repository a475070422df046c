"""Mixing, consensus and averages on a device whose kernels run on the CPU, against the CPU's own kernels."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cuda_twin import DlpackArray, InterfaceArray

from collegium import _core, cuda, dl
from collegium.cuda import aggregate


def models(n: int, p: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, p)).astype(np.float32)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal bits where this machine's kernels fuse as a device does, else nearly."""
    if _core.isa() == "base":
        return np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)
    return np.array_equal(a.view(np.int32), b.view(np.int32))


# ---- mix ----


@pytest.mark.parametrize("kind", [InterfaceArray, DlpackArray, cuda.from_numpy])
@pytest.mark.parametrize("n, p", [(4, 1), (12, 37), (40, 700)])
def test_mix_is_the_cpus(twin, kind, n, p):
    X, W = models(n, p), dl.topology.regular(n, 3, seed=1).mixing()
    got = dl.mix(kind(X), W, 3)
    assert isinstance(got, cuda.Array)
    assert same(got.numpy_sync(), dl.mix(X, W, 3))


def test_mix_with_a_matrix_a_round_and_block(twin):
    n, p = 12, 301
    X = models(n, p)
    A, B = (dl.topology.regular(n, 3, seed=s).mixing() for s in (1, 2))
    W, columns = [[A, B, A], [B, B, A]], [0, 100, 100, p]
    got = dl.mix(cuda.from_numpy(X, padded=True), W, 2, columns=columns)
    assert same(got.numpy_sync(), dl.mix(X, W, 2, columns=columns))


def test_mix_writes_out_and_in_place(twin):
    X, W = models(12, 65), dl.topology.ring(12).mixing()
    want = dl.mix(X, W, 2)
    x, y = cuda.from_numpy(X), cuda.from_numpy(np.full_like(X, 7), padded=True)
    assert dl.mix(x, W, 2, out=y) is y
    assert same(y.numpy_sync(), want)
    assert dl.mix(x, W, 2, out=x) is x
    assert same(x.numpy_sync(), want)


def test_mix_of_many_rows_goes_round_by_round(twin, monkeypatch):
    """Where no tile of all rows fits in shared memory."""
    monkeypatch.setattr(twin, "mix_tile", lambda device, n, rounds: (256, 0))
    X, W = models(70, 300), dl.topology.regular(70, 3, seed=1).mixing()
    for rounds in (1, 2, 3):
        want = dl.mix(X, W, rounds)
        x = cuda.from_numpy(X, padded=True)
        assert same(dl.mix(x, W, rounds).numpy_sync(), want)
        dl.mix(x, W, rounds, out=x)
        assert same(x.numpy_sync(), want)


def test_dead_edges_and_nan_rows(twin):
    n, p = 10, 50
    X, W = models(n, p), dl.topology.ring(n).mixing()
    alive = np.ones(len(W.weights), np.uint8)
    alive[W.indices == 3] = 0
    weights = _core.mask_edges(W.indptr, W.indices, W.weights, alive)
    X[3] = np.nan
    masked = (W.indptr, W.indices, weights)
    got, want = dl.mix(cuda.from_numpy(X), masked).numpy_sync(), dl.mix(X, masked)
    assert np.isnan(got[3]).all()
    assert not np.isnan(np.delete(got, 3, 0)).any()  # a dead edge carries no NaN
    assert same(np.delete(got, 3, 0), np.delete(want, 3, 0))


def test_mix_of_nothing(twin):
    W = dl.topology.ring(3).mixing()
    assert dl.mix(cuda.empty((3, 0)), W).numpy_sync().shape == (3, 0)


@pytest.mark.parametrize(
    "indptr, indices, text",
    [
        ([0, 2, 4], [0, 1, 0, 2], r"table\[0\]\[0\]: indices\[3\]: expected 0 to 1, got 2"),
        ([0, 2, 4], [0, 1, -1, 1], r"table\[0\]\[0\]: indices\[2\]: expected 0 to 1, got -1"),
        ([1, 2, 4], [0, 1, 0, 1], r"table\[0\]\[0\]: indptr: expected to start at 0, got 1"),
    ],
)
def test_matrices_are_refused_in_the_cpus_words(twin, indptr, indices, text):
    csr = (np.array(indptr, np.int32), np.array(indices, np.int32), np.full(4, 0.5, np.float32))
    X = models(2, 5)
    with pytest.raises(ValueError, match=text):
        _core.mix(X, np.empty_like(X), [[csr]], np.array([0, 5]))
    with pytest.raises(ValueError, match=text):
        cuda.mix(InterfaceArray(X), [[csr]], np.array([0, 5]))


def test_mix_refuses(twin):
    X, W = models(6, 20), dl.topology.ring(6).mixing()
    table = [[(W.indptr, W.indices, W.weights)]]
    x = cuda.from_numpy(X)
    with pytest.raises(ValueError, match=r"out: expected shape \(6, 20\), got \(5, 20\)"):
        dl.mix(x, W, out=cuda.from_numpy(X[:5]))
    with pytest.raises(ValueError, match="y: overlaps x; only x itself, in place, is allowed"):
        dl.mix(x.part(0, (6, 18), (20, 1)), W, out=x.part(2, (6, 18), (20, 1)))
    with pytest.raises(TypeError, match="out: expected an array on a CUDA device, got one on the CPU"):
        dl.mix(x, W, out=np.empty_like(X))
    with pytest.raises(TypeError, match="X: expected dtype float32, got float64"):
        dl.mix(cuda.from_numpy(X.astype(np.float64)), W)
    with pytest.raises(ValueError, match=r"W: expected a \(6, 6\) matrix, got \(5, 5\)"):
        dl.mix(x, dl.topology.ring(5).mixing())
    with pytest.raises(ValueError, match=r"col_start: expected to end at 20 \(the columns\), got 19"):
        cuda.mix(x, table, np.array([0, 19]))
    with pytest.raises(ValueError, match=r"col_start\[2\]: expected 15 or more, got 3"):
        cuda.mix(x, [table[0] * 3], np.array([0, 15, 3, 20]))
    with pytest.raises(ValueError, match="out: expected an array on cuda:0, where X is, got one on cuda:1"):
        dl.mix(DlpackArray(X), W, out=DlpackArray(np.empty_like(X), device=(2, 1)))


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(
    "table, columns, error, text",
    [
        ([[0]], [0, 5, 20], ValueError, r"table\[0\]: expected 2 matrices, one a column block, got 1"),
        ([[0, 0]], [0, 20], ValueError, r"table\[0\]: expected 1 matrices, one a column block, got 2"),
        ([[0, 0], [0]], [0, 5, 20], ValueError, r"table\[1\]: expected 2 matrices, one a column block, got 1"),
        ([[0], [0, 0, 0]], [0, 5, 20], ValueError, r"table\[0\]: expected 2 matrices, one a column block, got 1"),
        ([], [0, 20], ValueError, "table: expected at least one round, got 0"),
        ([[0]], [], ValueError, "col_start: expected at least one value, got none"),
        ([[0]], [[0, 20]], ValueError, r"col_start: expected 1 dimension\(s\), got 2"),
        ([[0]], [0, 20.0], TypeError, "col_start: expected dtype int64, got float64"),
        ([[1]], [0, 20], TypeError, r"table\[0\]\[0\]: weights: expected dtype float32, got float64"),
        ([[2]], [0, 20], TypeError, r"table\[0\]\[0\]: indptr: expected dtype int32, got float64"),
        ([[3]], [0, 20], TypeError, r"table\[0\]\[0\]: indices: expected a NumPy array, got list"),
        ([[4]], [0, 20], ValueError, r"table\[0\]\[0\]: indptr: expected at least one value, got none"),
    ],
)
def test_tables_that_are_none_are_refused(twin, table, columns, error, text, kept):
    W = dl.topology.ring(6).mixing()
    ptr, ind, w = (W.indptr, W.indices, W.weights) if kept else (W.indptr.copy(), W.indices.copy(), W.weights.copy())
    of = [(ptr, ind, w), (ptr, ind, w.astype(float)), (ptr.astype(float), ind, w), (ptr, ind.tolist(), w)]
    of.append((ptr[:0], ind, w))
    x = cuda.from_numpy(models(6, 20))
    cuda.mix(x, [[of[0], of[0]]] * 2, np.array([0, 5, 20]))  # its plan is not that of a ragged table
    edges = np.array(columns, np.int64) if columns == [] else np.array(columns)
    with pytest.raises(error, match=text):
        cuda.mix(x, [[of[i] for i in row] for row in table], edges)
    assert cuda.mix(cuda.empty((6, 0)), [[of[0]]], np.array([0, 0])).shape == (6, 0)


def test_a_plan_refuses_other_shapes(twin):
    W = dl.topology.ring(6).mixing()
    table = [[(W.indptr, W.indices, W.weights)]]
    plan = cuda.MixPlan(table, np.array([0, 20]), 6, device="cuda")
    good, few, wide = (cuda.view(cuda.empty(s), "x", np.float32, 2) for s in ((6, 20), (5, 20), (6, 21)))
    with pytest.raises(ValueError, match=r"x: expected shape \(6, 20\), got \(5, 20\)"):
        plan.run(few, good, 1)
    with pytest.raises(ValueError, match=r"y: expected shape \(6, 20\), got \(6, 21\)"):
        plan.run(good, wide, 1)
    with pytest.raises(ValueError, match="col_start: expected at least one column block, got none"):
        cuda.MixPlan([[]], np.array([0]), 6)
    with pytest.raises(ValueError, match=r"table\[0\]: expected 2 matrices"):
        cuda.MixPlan(table, np.array([0, 5, 20]), 6)


def test_mix_works_on_the_callers_stream(twin, monkeypatch):
    seen = []
    real = twin.mix
    monkeypatch.setattr(twin, "mix", lambda *a: (seen.append(a[1]), real(*a))[1])
    X, W = models(6, 20), dl.topology.ring(6).mixing()
    with cuda.stream(33):
        dl.mix(InterfaceArray(X, stream=5), W)
    dl.mix(InterfaceArray(X, stream=5), W)
    a = DlpackArray(X)
    dl.mix(a, W)
    assert seen == [33, 5, 1]
    assert a.streams == [1]


def test_memory_of_our_own_is_made_and_given_back_on_the_callers_stream(twin, monkeypatch):
    """Else it could go to someone else while the kernel still works on it."""
    seen = []
    alloc, tile = twin.alloc, twin.mix_tile
    monkeypatch.setattr(twin, "alloc", lambda *a: (seen.append(a[1]), alloc(*a))[1])
    X, W = models(20, 300), dl.topology.ring(20).mixing()
    x = InterfaceArray(X, stream=5)
    for fused in (True, False):
        monkeypatch.setattr(twin, "mix_tile", tile if fused else lambda device, n, rounds: (256, 0))
        dl.mix(x, W, 2)
        dl.mix(x, W, 2, out=x)
    cuda.consensus(x, [1, 2])
    cuda.average(x, np.ones(20))
    cuda.nearest(x, x)
    assert len(seen) > 10
    assert set(seen) == {5}


def test_a_plan_used_on_another_stream_waits_before_it_is_given_back(twin, monkeypatch):
    X, W = models(6, 20), dl.topology.ring(6).mixing()
    with cuda.stream(3):
        plan = cuda.MixPlan([[(W.indptr, W.indices, W.weights)]], np.array([0, 20]), 6)
    waits = []
    monkeypatch.setattr(twin, "stream_wait", lambda *a: waits.append(a))
    x = cuda.view(InterfaceArray(X), "x", np.float32, 2)
    plan.run(x, x, 8)
    assert waits == [(0, 8, 3), (0, 3, 8)]


@pytest.fixture
def packed(monkeypatch):
    """One entry for each time that matrices are packed; no plan is kept from before."""
    aggregate._plans.clear()
    calls, pack = [], aggregate.pack
    monkeypatch.setattr(aggregate, "pack", lambda *a: (calls.append(a), pack(*a))[1])
    yield calls
    aggregate._plans.clear()


def test_a_matrix_nobody_can_write_to_is_packed_once(twin, packed):
    X, W, other = models(6, 20), dl.topology.ring(6).mixing(), dl.topology.ring(6).mixing()
    x = cuda.from_numpy(X)
    for times, (matrix, rounds, columns) in enumerate(
        [
            (W, 2, None),
            (W, 1, None),
            (other, 2, None),
            ([[W, other]] * 2, 2, [0, 7, 20]),
            ([[W, other]] * 2, 2, [0, 8, 20]),
        ]
    ):
        want = dl.mix(X, matrix, rounds, columns=columns)
        for _ in range(3):
            assert same(dl.mix(x, matrix, rounds, columns=columns).numpy_sync(), want)
        assert len(packed) == times + 1
    dl.mix(x, W, 2)
    assert len(packed) == 5


def test_a_matrix_that_may_change_is_packed_every_time(twin, packed):
    X, W = models(6, 20), dl.topology.ring(6).mixing()
    csr = (W.indptr, W.indices, W.weights.copy())
    assert same(dl.mix(cuda.from_numpy(X), csr).numpy_sync(), dl.mix(X, csr))
    csr[2][:] = csr[2][::-1] * 2
    assert same(dl.mix(cuda.from_numpy(X), csr).numpy_sync(), dl.mix(X, csr))
    assert len(packed) == 2


def test_a_plan_is_not_kept_with_a_stream_that_may_end(twin, packed):
    X, W = models(6, 20), dl.topology.ring(6).mixing()
    for _ in range(2):
        dl.mix(InterfaceArray(X, stream=5), W)
    assert len(packed) == 2


def test_few_plans_are_kept(twin, packed):
    X = cuda.from_numpy(models(6, 20))
    graphs = [dl.topology.ring(6).mixing() for _ in range(9)]
    for W in [*graphs, graphs[1], graphs[0]]:
        dl.mix(X, W)
    assert len(packed) == 10  # the first one again
    assert len(aggregate._plans._kept) == 8


def test_threads_share_plans(twin, packed):
    X = models(6, 20)
    graphs = [dl.topology.ring(6).mixing() for _ in range(12)]
    want = dl.mix(X, graphs[0])
    x = cuda.from_numpy(X)
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda i: dl.mix(x, graphs[i * 7 % 12]).numpy_sync(), range(200)))
    assert all(same(y, want) for y in got)


def test_tiles_end_where_blocks_do():
    assert aggregate.tiles(np.array([0, 0, 8, 17, 18]), 8).tolist() == [0, 0, 1, 3, 4]


def test_equal_matrices_are_packed_once():
    W = dl.topology.ring(6).mixing()
    csr = (W.indptr, W.indices, W.weights)
    which, start, entries = aggregate.pack([[csr, csr], [csr, csr]], 6)
    assert which.tolist() == [[0, 0], [0, 0]]
    assert start.tolist() == [[0, 24]]
    assert len(entries) == 24


def test_entries_lie_in_slices_of_rows():
    """The first entry of eight rows, then the second one of each, ...; zero weights left out, gaps filled with zero."""
    n = 11
    counts = np.array([2, 0, 1, 3, 0, 0, 1, 1, 0, 2, 1])
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    indices = np.arange(11, dtype=np.int32)
    weights = np.arange(1, 12, dtype=np.float32)
    weights[4] = 0  # the second one of row 3
    _, start, entries = aggregate.pack([[(indptr, indices, weights)]], n)
    assert start.tolist() == [[0, 16, 32]]
    assert entries["weight"].reshape(-1, 8).tolist() == [
        [1, 0, 3, 4, 0, 0, 7, 8],
        [2, 0, 0, 6, 0, 0, 0, 0],
        [0, 9, 11, 0, 0, 0, 0, 0],
        [0, 10, 0, 0, 0, 0, 0, 0],
    ]
    assert (entries["from"] == np.where(entries["weight"] > 0, entries["weight"] - 1, 0)).all()


# ---- population ----


@pytest.fixture
def shapes():
    return {"weight": (3, 5), "bias": (3,), "scale": ()}


def test_population_on_a_device(twin, shapes, tmp_path):
    host, device = dl.Population(4, shapes), dl.Population(4, shapes, device="cuda")
    assert (host.device, device.device) == ("cpu", "cuda:0")
    assert device.leading_dimension == 32
    rng = np.random.default_rng(0)
    for i in range(4):
        state = {name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}
        host.load_row(i, state)
        device.load_row(i, state)
    assert np.array_equal(device.numpy(), host.X)
    assert device.digest() == host.digest()
    assert np.array_equal(device.parameter("weight").numpy_sync(), host.parameter("weight"))
    assert np.array_equal(device.row(2)["bias"].numpy_sync(), host.row(2)["bias"])
    assert not device.memory.numpy_sync()[:, device.size :].any()
    mean, distance = device.consensus()
    want_mean, want = host.consensus()
    assert np.array_equal(mean, want_mean)
    assert distance == pytest.approx(want, rel=1e-12)
    device.save(tmp_path / "p.safetensors")
    assert dl.Population.load(tmp_path / "p.safetensors").digest() == host.digest()
    W = dl.topology.ring(4).mixing()
    assert dl.mix(device, W, 2, out=device) is device
    assert same(device.numpy(), dl.mix(host.X, W, 2))


def test_population_where_there_is_no_device(shapes, monkeypatch):
    monkeypatch.setattr("collegium.cuda.door.status", lambda: (None, "no usable CUDA device: none (CUDA error 35)"))
    assert dl.Population(4, shapes, device="auto").device == "cpu"
    with pytest.raises(RuntimeError, match="no usable CUDA device: none"):
        dl.Population(4, shapes, device="cuda")
    with pytest.raises(ValueError, match="device: expected 'cpu', 'cuda', 'cuda:N' or 'auto', got 'tpu'"):
        dl.Population(4, shapes, device="tpu")


# ---- consensus, average ----


@pytest.mark.parametrize("rows", [None, [3, 0, 0, 7]])
def test_consensus(twin, rows):
    X = models(9, 333)
    picked = None if rows is None else np.array(rows, np.int64)
    mean, square = cuda.consensus(InterfaceArray(X), rows)
    want_mean, want = _core.consensus(X, picked)
    assert np.array_equal(mean.numpy_sync(), want_mean)
    assert square.numpy_sync()[0] == pytest.approx(want, rel=1e-12)
    got_mean, got = cuda.consensus_sync(cuda.from_numpy(X), rows)
    assert np.array_equal(got_mean, want_mean)
    assert got == pytest.approx(want, rel=1e-12)


def test_consensus_refuses(twin):
    x = cuda.from_numpy(models(3, 4))
    with pytest.raises(ValueError, match=r"rows\[1\]: expected 0 to 2, got 3"):
        cuda.consensus(x, [0, 3])
    with pytest.raises(ValueError, match="rows: expected at least one, got none"):
        cuda.consensus(x, [])
    with pytest.raises(TypeError, match="rows: expected integers"):
        cuda.consensus(x, [0.5])


def test_average_is_a_mixing_row(twin):
    X, w = models(5, 100), np.array([0.5, 0, 0.25, 0.25, 0.125], np.float32)
    X[1] = np.nan  # weight 0: carries nothing
    csr = (np.array([0, 5, 5, 5, 5, 5], np.int32), np.arange(5, dtype=np.int32), w)
    want = dl.mix(X, csr)[0]
    assert same(cuda.average(InterfaceArray(X), w).numpy_sync(), want)
    out = cuda.empty((100,))
    assert cuda.average(cuda.from_numpy(X), w, out=out) is out
    assert same(out.numpy_sync(), want)
    picked = cuda.average(InterfaceArray(X), w[[2, 3]], rows=[2, 4]).numpy_sync()
    assert np.allclose(picked, 0.25 * X[2] + 0.25 * X[4], atol=1e-6)
    with pytest.raises(ValueError, match=r"weights: expected shape \(5,\), got \(4,\)"):
        cuda.average(cuda.from_numpy(X), w[:4])


@pytest.mark.parametrize("rows", [None, [8, 3, 0]])
def test_find_nonfinite(twin, rows):
    X = models(9, 5000)
    picked = None if rows is None else np.array(rows, np.int64)
    assert cuda.find_nonfinite_sync(InterfaceArray(X), rows) is None
    for i, c, value in [(4, 4999, np.nan), (8, 4100, np.inf), (8, 77, -np.inf), (0, 0, np.nan)]:
        X[i, c] = value
        assert cuda.find_nonfinite_sync(cuda.from_numpy(X), rows) == _core.find_nonfinite(X, picked)
    assert cuda.find_nonfinite_sync(cuda.from_numpy(X), []) is None


# ---- randomness ----


@pytest.mark.parametrize("first, n", [(0, 0), (0, 1), (3, 6), (1021, 5000), (2**34 - 5, 11)])
def test_noise_has_the_cpus_bits(twin, first, n):
    at = (2**63 + 12345, _core.FOR_USER, 7, 2**32 - 1)
    assert np.array_equal(cuda.random_u32(*at, first, n).numpy_sync(), _core.random_u32(*at, first, n))
    assert np.array_equal(cuda.random_f32(*at, first, n).numpy_sync(), _core.random_f32(*at, first, n))
    assert np.array_equal(cuda.normal_f32(*at, first, n).numpy_sync(), _core.random_normal(*at, first, n))


def test_addresses_are_checked(twin):
    with pytest.raises(ValueError, match="purpose: expected 0 to 65535, got 65536"):
        cuda.random_u32(0, 65536, 0, 0, 0, 1)
    with pytest.raises(ValueError, match="n: expected 0 to 0, got 1"):
        cuda.random_u32(0, 1, 0, 0, 2**50, 1)


def test_a_view_of_what_others_write_to_is_no_matrix_to_keep(twin, packed):
    """A read-only view: the matrix is another one after a write to its base."""
    W, weights = dl.topology.ring(6).mixing(), dl.topology.ring(6).mixing().weights.copy()
    view = weights.view()
    view.flags.writeable = False
    X, csr = models(6, 20), (W.indptr, W.indices, view)
    own = dl.MixingMatrix(6, *csr)
    before = dl.mix(X, own)
    for factor in (1, 3):
        weights *= factor
        assert same(cuda.mix(cuda.from_numpy(X), [[csr]], np.array([0, 20])).numpy_sync(), dl.mix(X, csr))
    assert np.array_equal(dl.mix(X, own), before)  # it has copies
