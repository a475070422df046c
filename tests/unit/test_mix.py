"""dl.mix, the public face of the mixing kernel."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

from collegium import dl
from collegium.engine import Context


@pytest.fixture
def graph():
    return dl.topology.regular(12, 3, seed=2)


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(12, 37)).astype(np.float32)


def test_every_form_of_w_is_the_same(graph, X):
    W = graph.mixing("metropolis")
    wanted = W.toarray() @ X
    for form in (W, W.toarray(), W.to_scipy(), scipy.sparse.csc_matrix(W.toarray()), (W.indptr, W.indices, W.weights)):
        np.testing.assert_allclose(dl.mix(X, form), wanted, atol=1e-6)


def test_rounds_fuse_to_the_same_bits(graph, X, isa, threads):
    W = graph.mixing("metropolis")
    one_by_one = X
    for _ in range(4):
        one_by_one = dl.mix(one_by_one, W)
    np.testing.assert_array_equal(dl.mix(X, W, rounds=4), one_by_one)
    np.testing.assert_array_equal(dl.mix(X, [W] * 4, rounds=4), one_by_one)


def test_out_and_in_place(graph, X):
    W = graph.mixing("metropolis")
    wanted = dl.mix(X, W)
    out = np.empty_like(X)
    assert dl.mix(X, W, out=out) is out
    np.testing.assert_array_equal(out, wanted)
    Y = X.copy()
    assert dl.mix(Y, W, out=Y) is Y
    np.testing.assert_array_equal(Y, wanted)
    population = dl.Population(12, {"w": (37,)})
    population.X[...] = X
    np.testing.assert_array_equal(dl.mix(population, W), wanted)
    assert dl.mix(population, W, out=population) is population
    np.testing.assert_array_equal(population.X, wanted)


def test_matrices_that_change_by_round_and_by_column_block(X):
    A, B = dl.topology.ring(12).mixing("metropolis"), dl.topology.star(12).mixing("metropolis")
    np.testing.assert_allclose(dl.mix(X, [A, B], rounds=2), B.toarray() @ A.toarray() @ X, atol=1e-6)
    out = dl.mix(X, [[A, B], [B, A]], rounds=2, columns=[0, 20, 37])
    wanted = np.hstack([B.toarray() @ A.toarray() @ X[:, :20], A.toarray() @ B.toarray() @ X[:, 20:]])
    np.testing.assert_allclose(out, wanted, atol=1e-6)


def test_dead_edges_give_their_weight_back(graph, X):
    W = graph.mixing("metropolis")
    i, j = graph.edges[0]
    alive = np.ones(len(W.indices), bool)
    rows = np.repeat(np.arange(12), np.diff(W.indptr))
    alive[(rows == i) & (W.indices == j)] = False
    masked = W.mask_edges(alive)
    dense, was = masked.toarray(), W.toarray()
    assert dense[i, j] == dense[j, i] == 0 and dense[i, i] == pytest.approx(was[i, i] + was[i, j])
    masked.check()
    gone = W.mask_nodes([3])
    assert gone.toarray()[3, 3] == pytest.approx(1) and (np.delete(gone.toarray()[3], 3) == 0).all()
    gone.check()
    assert gone.messages == W.messages - 6
    np.testing.assert_array_equal(dl.mix(X, gone)[3], X[3])


def test_torch_tensors_share_memory(graph, X):
    torch = pytest.importorskip("torch")
    W = graph.mixing("metropolis")
    out = dl.mix(torch.from_numpy(X), W)
    assert isinstance(out, torch.Tensor)
    np.testing.assert_array_equal(out.numpy(), dl.mix(X, W))
    t = torch.from_numpy(X.copy())
    assert dl.mix(t, W, out=t) is t
    np.testing.assert_array_equal(t.numpy(), out.numpy())


def test_refusals(graph, X):
    W = graph.mixing("metropolis")
    before = X.copy()
    for call, error, text in (
        (lambda: dl.mix(X.astype(float), W), TypeError, "x: expected dtype float32, got float64"),
        (lambda: dl.mix(X.tolist(), W), TypeError, "X: expected a NumPy array, .* got list"),
        (lambda: dl.mix(X[0], W), ValueError, r"X: expected shape \(n, P\), got \(37,\)"),
        (lambda: dl.mix(X.T[:12], W), ValueError, "x: rows must be contiguous"),
        (lambda: dl.mix(X[:11], W), ValueError, r"W: expected a \(11, 11\) matrix, got \(12, 12\)"),
        (lambda: dl.mix(X, W, rounds=0), ValueError, "rounds: expected at least 1, got 0"),
        (lambda: dl.mix(X, [W, W], rounds=3), ValueError, r"W: expected one entry a round \(3\), got 2"),
        (lambda: dl.mix(X, W, columns=[0, 37]), TypeError, "W: with columns="),
        (lambda: dl.mix(X, [[W]], columns=[0, 20, 37]), ValueError, "W: expected 2 matrices in round 0"),
        (lambda: dl.mix(X, [[W]], columns=[0, 36]), ValueError, "col"),
        (lambda: dl.mix(X, W, out=np.empty((12, 36), np.float32)), ValueError, r"y: expected shape \(12, 37\)"),
        (lambda: dl.mix(X[:, 1:], W, out=X[:, :-1]), ValueError, "overlap"),
        (lambda: dl.mix(X, np.full((12, 12), np.nan)), ValueError, "nan"),
        (lambda: dl.mix(X, graph), TypeError, "use its .mixing"),
    ):
        with pytest.raises(error, match=text):
            call()
    np.testing.assert_array_equal(X, before)
    X.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        dl.mix(X, W, out=X)


# ---- the exchange alone ----


def test_step_counts_what_each_node_sends_and_receives(X):
    """Four bytes a parameter and message; entries that are 0 and the diagonal carry nothing."""
    W = np.zeros((12, 12))
    W[np.arange(12), np.arange(12)] = 0.5
    W[np.arange(12), 0] += 0.5  # everybody listens to node 0
    exchange = dl.Mixing(rounds=3, weights=W)
    Y = X.copy()
    sent, received = exchange.step(Y, round=0)
    assert sent.dtype == received.dtype == np.int64
    assert sent.tolist() == [11 * 37 * 4 * 3] + [0] * 11
    assert received.tolist() == [0] + [37 * 4 * 3] * 11
    np.testing.assert_array_equal(Y, dl.mix(X, W, 3))
    assert exchange.step(Y, round=1, ctx=Context(rounds=4)).sent.tolist() == (4 * sent).tolist()
    silent = dl.Mixing(weights=np.eye(12)).step(Y, round=0)
    assert not silent.sent.any() and not silent.received.any()


def test_traffic_does_not_overflow():
    """A count of bytes is 64 bits wide from the start."""
    W = dl.topology.complete(64).mixing()
    sent, received = dl.Mixing(rounds=200_000, weights=W).step(np.ones((64, 64), np.float32), round=0)
    assert sent.tolist() == received.tolist() == [63 * 64 * 4 * 200_000] * 64


def test_step_without_a_graph_and_with_bad_weights(X):
    with pytest.raises(ValueError, match="weights: Mixing has no graph yet"):
        dl.Mixing().step(X, round=0)
    with pytest.raises(ValueError, match="topology: Mixing needs a graph, got None"):
        dl.Mixing().bind(Context())
    with pytest.raises(ValueError, match="weights: expected a matrix for 12 nodes, got 3"):
        dl.Mixing(weights=np.eye(3)).bind(Context(topology=dl.topology.ring(12)))
    with pytest.raises(ValueError, match=r"weights: expected every row to sum to 1 .* got 0\.89\d* in row 1"):
        dl.Mixing(weights=np.diag([1.0, 0.9]))
    with pytest.raises(ValueError, match="weights: expected one of 'metropolis', 'uniform', got 'max'"):
        dl.Mixing(weights="max")
    with pytest.raises(ValueError, match="rounds: expected at least 1, got 0"):
        dl.Mixing(rounds=0)
