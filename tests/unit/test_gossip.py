"""The gossip kernels: random regular graphs, components, Metropolis weights, lambda2, schedules and energy."""

import contextlib
import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from collegium import _core

COIN = 1  # CG_FOR_COIN
ALWAYS = 1 << 32
i32 = lambda *v: np.array(v, np.int32)


def csr(adjacency):
    """Open-neighbourhood CSR of a dense 0/1 matrix."""
    a = np.asarray(adjacency) != 0
    indptr = np.concatenate([[0], np.cumsum(a.sum(1))]).astype(np.int32)
    return indptr, np.nonzero(a)[1].astype(np.int32)


def adjacency(n, edges):
    a = np.zeros((n, n), bool)
    for i, j in edges:
        a[i, j] = a[j, i] = True
    return a


def random_adjacency(n, p, seed):
    a = np.triu(np.random.default_rng(seed).random((n, n)) < p, 1)
    return a | a.T


def dense(indptr, indices, weights):
    n = len(indptr) - 1
    w = np.zeros((n, n))
    w[np.repeat(np.arange(n), np.diff(indptr)), indices] = weights
    return w


def ring(n):
    return adjacency(n, [(i, (i + 1) % n) for i in range(n)])


# --- regular graphs


@pytest.mark.parametrize(
    "n, degree",
    [(1, 0), (2, 0), (2, 1), (7, 0), (7, 6), (8, 1), (9, 2), (10, 3), (10, 7), (11, 4), (50, 25), (64, 63), (1600, 8)],
)
def test_regular_graph_is_simple_regular_and_sorted(n, degree):
    for seed in range(5):
        nbr = _core.regular_graph(n, degree, seed, 0)
        assert nbr.dtype == np.int32
        assert nbr.shape == (n, degree)
        if degree == 0:
            continue
        assert (np.diff(nbr, axis=1) > 0).all()
        a = np.zeros((n, n), bool)
        a[np.repeat(np.arange(n), degree), nbr.ravel()] = True
        assert not a.diagonal().any()
        assert (a == a.T).all()
        assert (a.sum(0) == degree).all()


def test_regular_graph_has_an_address():
    same = [_core.regular_graph(40, 4, 7, 3).tobytes() for _ in range(2)]
    assert same[0] == same[1]
    others = {_core.regular_graph(40, 4, seed, r).tobytes() for seed in (7, 8) for r in (0, 1, 3)}
    assert len(others) == 6
    assert same[0] in others


@pytest.mark.parametrize(
    "n, degree, graphs", [(4, 1, 3), (5, 2, 12), (6, 1, 15), (6, 2, 70), (6, 3, 70), (7, 2, 465), (7, 4, 465)]
)
def test_regular_graphs_are_uniform(n, degree, graphs):
    """Chi-square over all labelled graphs: up to degree 3 (or its complement) every one has the same chance."""
    draws = 60 * graphs
    seen = Counter(_core.regular_graph(n, degree, 1, r).tobytes() for r in range(draws))
    assert len(seen) == graphs
    chi2 = sum((c - 60) ** 2 / 60 for c in seen.values())
    assert abs(chi2 - (graphs - 1)) < 5 * math.sqrt(2 * (graphs - 1))


def test_dense_drawing_is_nearly_uniform():
    """Degree 4 on 9 nodes takes the other rule (only the pair is drawn again): the edges at least are exchangeable."""
    counts = np.zeros((9, 9))
    for r in range(4000):
        nbr = _core.regular_graph(9, 4, 5, r)
        counts[np.repeat(np.arange(9), 4), nbr.ravel()] += 1
    off = counts[np.triu_indices(9, 1)] / 4000
    assert np.abs(off - 0.5).max() < 5 * math.sqrt(0.25 / 4000)


def test_dense_graphs_are_found():
    for n in range(8, 40):
        for degree in ((n - 1) // 2, n // 2, n // 2 - 1):
            if n * degree % 2 == 0:
                assert _core.regular_graph(n, degree, n, 0).shape == (n, degree)


@pytest.mark.parametrize(
    "args, error, text",
    [
        ((0, 0, 0, 0), ValueError, "n: expected 1 to"),
        ((5, 5, 0, 0), ValueError, "degree: expected less than n = 5, got 5"),
        ((5, 3, 0, 0), ValueError, "degree: expected an even n \\* degree .* got 5 \\* 3"),
        ((5, -1, 0, 0), ValueError, "degree: expected 0 to"),
        ((10**6, 10**5, 0, 0), ValueError, "n \\* degree below 2\\*\\*31"),
        ((5.0, 2, 0, 0), TypeError, "n: expected an integer, got 5.0"),
        ((5, 2, -1, 0), ValueError, "seed: expected 0 to"),
        ((5, 2, 0, 2**32), ValueError, "round: expected 0 to"),
        ((5, 2, 0), TypeError, "takes 4 arguments"),
    ],
)
def test_regular_graph_refuses(args, error, text):
    with pytest.raises(error, match=text):
        _core.regular_graph(*args)


# --- components and the checks of a graph


def test_components():
    assert _core.components(i32(0), i32()).tolist() == []
    assert _core.components(i32(0, 0, 0), i32()).tolist() == [0, 1]
    a = adjacency(7, [(0, 3), (3, 5), (1, 6)])
    assert _core.components(*csr(a)).tolist() == [0, 1, 2, 0, 3, 0, 1]
    assert set(_core.components(*csr(ring(2000)))) == {0}


@pytest.mark.parametrize(
    "indptr, indices, text",
    [
        (i32(), i32(), "indptr: expected at least 1 element"),
        (i32(1, 1), i32(0), "indptr: expected 0 at \\[0\\], got 1"),
        (i32(0, 2, 1), i32(1), "indptr: expected at least 2 at \\[2\\], got 1"),
        (i32(0, 1, 3), i32(1, 0), "indptr: expected the number of indices, 2, at \\[2\\], got 3"),
        (i32(0, 1, 2), i32(1, 2), "indices: expected 0 to 1 at \\[1\\] \\(row 1\\), got 2"),
        (i32(0, 1, 2), i32(-1, 0), "indices: expected 0 to 1 at \\[0\\] \\(row 0\\), got -1"),
        (i32(0, 2, 3, 4), i32(2, 1, 0, 0), "ascending columns in row 0, got 1 after 2 at \\[1\\]"),
        (i32(0, 2, 4), i32(1, 1, 0, 0), "ascending columns in row 0, got 1 after 1"),
        (i32(0, 1, 2), i32(1, 1), "self loop of node 1 at \\[1\\]"),
        (i32(0, 1, 1), i32(1), "0 lists 1 as a neighbour, but 1 does not list 0"),
        (i32(0, 0, 1), i32(0), "1 lists 0 as a neighbour, but 0 does not list 1"),
        (i32(0, 1, 3, 4), i32(2, 0, 2, 1), "lists"),
    ],
)
@pytest.mark.parametrize("kernel", [_core.components, _core.metropolis_weights])
def test_a_graph_is_checked(kernel, indptr, indices, text):
    with pytest.raises(ValueError, match=text):
        kernel(indptr, indices)


@given(st.integers(1, 8), st.data())
def test_an_entry_without_its_mirror_is_named(n, data):
    a = np.array(data.draw(hnp.arrays(bool, (n, n))))
    np.fill_diagonal(a, False)
    if (a == a.T).all():
        assert len(_core.components(*csr(a))) == n
        return
    with pytest.raises(ValueError) as e:
        _core.components(*csr(a))
    i, j = (int(word) for word in str(e.value).replace("indices: ", "").split()[:3:2])
    assert a[i, j]
    assert not a[j, i]


# --- Metropolis weights


@pytest.mark.parametrize(
    "a",
    [
        np.zeros((1, 1)),
        np.zeros((4, 4)),
        adjacency(2, [(0, 1)]),
        adjacency(6, [(0, i) for i in range(1, 6)]),
        ring(9),
        ~np.eye(8, dtype=bool),
        random_adjacency(60, 0.1, 1),
        random_adjacency(200, 0.5, 2),
    ],
)
def test_metropolis_weights(a):
    """Trap 7: the maximum of both degrees, so that the matrix is symmetric and its rows sum to 1 on any graph."""
    a = np.asarray(a, bool)
    indptr, indices, weights = _core.metropolis_weights(*csr(a))
    assert indptr.dtype == indices.dtype == np.int32
    assert weights.dtype == np.float32
    for i in range(len(a)):
        assert indices[indptr[i] : indptr[i + 1]].tolist() == np.nonzero(a[i] | (np.arange(len(a)) == i))[0].tolist()
    w = dense(indptr, indices, weights)
    degree = a.sum(1)
    want = np.where(a, 1 / (1 + np.maximum(degree[:, None], degree[None, :])), 0.0)
    np.fill_diagonal(want, 1 - want.sum(1))
    assert (w == w.T).all()
    assert np.abs(w.sum(1) - 1).max() <= 2.0**-25
    off = ~np.eye(len(a), dtype=bool)
    assert (w[off] == want[off].astype(np.float32)).all()
    assert np.abs(w - want).max() <= 1e-6


def test_sender_only_degrees_fail_on_a_star():
    """What trap 7 is about: 1 / (1 + degree of the sender) is not symmetric on a star, Metropolis is."""
    a = adjacency(5, [(0, i) for i in range(1, 5)])
    degree = a.sum(1)
    wrong = np.where(a, 1 / (1 + degree[:, None]), 0.0)
    wrong[np.diag_indices(5)] = 1 - wrong.sum(1)
    assert np.abs(wrong.sum(0) - 1).max() > 0.5
    w = dense(*_core.metropolis_weights(*csr(a)))
    assert np.abs(w.sum(0) - 1).max() <= 2.0**-25


# --- the checks of a mixing matrix


def full(w):
    """Every entry of a dense matrix, zeros too, as CSR."""
    w = np.asarray(w, np.float32)
    n = len(w)
    return np.arange(0, n * n + 1, n, dtype=np.int32), np.tile(np.arange(n, dtype=np.int32), n), w.ravel()


@pytest.mark.parametrize(
    "w, text",
    [
        ([[1, 0], [0.5, 0.6]], "expected every row to sum to 1 within 1e-06, got 1.1.* in row 1 \\(worst of 1\\)"),
        ([[0.5, 0.4], [0.5, 0.1]], "got 0.6.* in row 1 \\(worst of 2\\)"),
        ([[0.5, 0.5], [0.25, 0.75]], "symmetric matrix, got 0.5 at \\[0, 1\\] and 0.25 at \\[1, 0\\]"),
        ([[math.nan, 1], [1, 0]], "weights: expected finite numbers, got nan at \\[0, 0\\]"),
        ([[1, 0], [math.inf, 0]], "weights: expected finite numbers, got inf at \\[1, 0\\]"),
    ],
)
def test_a_mixing_matrix_is_checked(w, text):
    for check in (lambda *m: _core.check_mixing(*m, True, True), _core.lambda2):
        with pytest.raises(ValueError, match=text):
            check(*full(w))


def test_a_missing_entry_counts_as_zero():
    one_sided = i32(0, 2, 3), i32(0, 1, 1), np.array([0.5, 0.5, 1.0], np.float32)
    with pytest.raises(ValueError, match=r"got 0.5 at \[0, 1\] and 0 at \[1, 0\]"):
        _core.lambda2(*one_sided)
    explicit_zero = i32(0, 2, 3), i32(0, 1, 1), np.array([1.0, 0.0, 1.0], np.float32)
    assert _core.lambda2(*explicit_zero)[0] == pytest.approx(1.0)


# --- lambda2


def second_modulus(w):
    """The eigenvalue 1 of the all-ones vector moved to 0, then the largest modulus."""
    return np.abs(np.linalg.eigvalsh(w - 1 / len(w))).max()


GRAPHS = {
    "pair": adjacency(2, [(0, 1)]),
    "path": adjacency(300, [(i, i + 1) for i in range(299)]),
    "star": adjacency(100, [(0, i) for i in range(1, 100)]),
    "ring 3": ring(3),
    "ring 64": ring(64),
    "ring 1024": ring(1024),
    "grid": adjacency(400, [(i, i + 1) for i in range(400) if i % 20 < 19] + [(i, i + 20) for i in range(380)]),
    "tree": adjacency(511, [(i, (i - 1) // 2) for i in range(1, 511)]),
    "two cliques": adjacency(
        70,
        [*itertools.combinations(range(30), 2), *itertools.combinations(range(40, 70), 2)]
        + [(i, i + 1) for i in range(29, 40)],
    ),
    "bipartite": adjacency(40, [(i, j) for i in range(20) for j in range(20, 40)]),
    "hypercube": adjacency(256, [(i, i ^ (1 << b)) for i in range(256) for b in range(8)]),
    **{f"random {n}": random_adjacency(n, 4 / n, n) | ring(n) for n in (5, 17, 63, 64, 65, 257, 600)},
}


@pytest.mark.parametrize("name", GRAPHS)
def test_lambda2_against_a_dense_solver(name):
    """Bound: the projection and the weights' rounding move an eigenvalue by less than 1e-7."""
    w = _core.metropolis_weights(*csr(GRAPHS[name]))
    value, residual, steps = _core.lambda2(*w)
    assert value == pytest.approx(second_modulus(dense(*w)), abs=1e-7)
    assert residual <= 1e-10
    assert 1 <= steps <= 4 * len(GRAPHS[name])


def test_lambda2_of_a_ring_takes_few_steps():
    """Power iteration would need 6e5; there are 513 distinct eigenvalues."""
    value, _, steps = _core.lambda2(*_core.metropolis_weights(*csr(ring(1024))))
    assert value == pytest.approx(1 / 3 + 2 / 3 * math.cos(2 * math.pi / 1024), abs=1e-7)
    assert steps < 700


def test_lambda2_where_the_negative_end_decides():
    """Without self weights a bipartite graph oscillates for ever: eigenvalue -1, modulus 1."""
    a = GRAPHS["hypercube"].astype(float) / 8
    assert _core.lambda2(*full(a))[0] == pytest.approx(1.0, abs=1e-7)
    w = 0.1 * np.eye(256) + 0.9 * a  # -0.8 at one end, 0.775 at the other
    assert _core.lambda2(*full(w))[0] == pytest.approx(0.8, abs=1e-6)


def test_lambda2_with_negative_weights():
    a = GRAPHS["grid"].astype(float)
    w = np.eye(400) - 0.4 * (np.diag(a.sum(1)) - a)  # beyond -1: this W diverges, and lambda2 says so
    assert _core.lambda2(*full(w))[0] == pytest.approx(second_modulus(w), abs=1e-5)
    assert second_modulus(w) > 1


def test_lambda2_at_the_ends():
    assert _core.lambda2(i32(0), i32(), np.zeros(0, np.float32)) == (0.0, 0.0, 0)
    assert _core.lambda2(i32(0, 1), i32(0), np.ones(1, np.float32)) == (0.0, 0.0, 0)
    for n in (2, 3, 10, 257):
        assert _core.lambda2(*_core.metropolis_weights(*csr(~np.eye(n, dtype=bool))))[0] < 1e-7
    apart = _core.metropolis_weights(*csr(adjacency(9, [(0, 1), (1, 2), (3, 4), (5, 8)])))
    assert _core.lambda2(*apart)[0] == pytest.approx(1.0, abs=1e-7)
    assert _core.lambda2(*full(np.eye(5)))[0] == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("degree, published", [(6, 0.762), (8, 0.693), (10, 0.618)])
def test_lambda2_of_the_published_kind_of_graphs(degree, published):
    """SkipTrain, section 3: random d-regular graphs on 256 nodes."""
    for seed in range(10):
        nbr = _core.regular_graph(256, degree, seed, 0)
        g = np.arange(0, 256 * degree + 1, degree, dtype=np.int32), nbr.ravel()
        assert _core.lambda2(*_core.metropolis_weights(*g))[0] == pytest.approx(published, abs=0.03)


# --- schedule


def reference_schedule(rounds, n, gamma_train, gamma_sync, threshold, budget, seed, first_node):
    """The rule, node by node, with the coin looked up at its address."""
    action = np.zeros((rounds, n), np.uint8)
    for i in range(n):
        left = math.inf if budget is None else int(budget[i])
        for t in range(rounds):
            if t % (gamma_train + gamma_sync) < gamma_train and left > 0:
                coin = int(_core.random_u32(seed, COIN, first_node + i, t, 0, 1)[0])
                if threshold is None or coin < int(threshold[i]):
                    action[t, i] = 1
                    left -= 1
    return action


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 130])
@pytest.mark.parametrize("rounds", [0, 1, 23])
def test_schedule_against_its_rule(isa, threads, n, rounds):
    rng = np.random.default_rng(n)
    threshold = rng.integers(0, ALWAYS + 1, n, np.uint64)
    threshold[::5], threshold[1::5] = 0, ALWAYS
    budget = rng.integers(0, 15, n)
    for p, b in itertools.product((None, threshold), (None, budget)):
        for gamma in ((1, 0), (4, 4), (2, 3)):
            args = (rounds, n, *gamma, p, b, 2**63 + 11, 1000)
            got = _core.schedule(*args)
            assert got.dtype == np.uint8
            assert got.shape == (rounds, n)
            np.testing.assert_array_equal(got, reference_schedule(*args))


def test_schedule_has_the_same_bits_everywhere(isa, threads):
    """Large enough to be cut into blocks. The number of trainings is frozen: addresses are part of every saved run."""
    p = np.linspace(0, ALWAYS, 333).astype(np.uint64)
    got = _core.schedule(2000, 333, 3, 2, p, np.full(333, 700), 5, 0)
    old = _core.isa()
    _core.force_isa("base")
    want = _core.schedule(2000, 333, 3, 2, p, np.full(333, 700), 5, 0)
    _core.force_isa(old)
    assert (got == want).all()
    assert int(got.sum()) == 165_049


def test_training_comes_first_in_a_period():
    """Trap 1."""
    assert _core.schedule(10, 1, 4, 4, None, None, 0, 0).ravel().tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 1, 1]
    assert _core.schedule(10, 3, 5, 0, None, None, 0, 0).all()


@pytest.mark.parametrize("rounds, gamma, t_train", [(10, (4, 4), 6), (12, (4, 4), 8), (9, (1, 4), 2), (7, (9, 9), 7)])
def test_training_slots_of_a_broken_period(rounds, gamma, t_train):
    """Trap 2: T_train = floor(T / G) gamma_train + min(T mod G, gamma_train), an integer; p = tau / T_train gives tau
    trainings on average, when the budget does not cut them off."""
    period = sum(gamma)
    assert rounds // period * gamma[0] + min(rounds % period, gamma[0]) == t_train
    assert _core.schedule(rounds, 1, *gamma, None, None, 0, 0).sum() == t_train
    tau, n = max(1, t_train // 2), 20_000
    p = np.full(n, tau * ALWAYS // t_train, np.uint64)
    counts = _core.schedule(rounds, n, *gamma, p, None, 3, 0).sum(0, dtype=np.int64)
    assert counts.mean() == pytest.approx(tau, abs=5 * math.sqrt(t_train / 4 / n))


def test_coins_are_independent():
    """Trap 3: of other nodes, other seeds, other rounds."""
    p = np.full(6, ALWAYS // 2, np.uint64)
    a = _core.schedule(10_000, 6, 1, 0, p, None, 1, 0)
    correlation = np.corrcoef(a.T)
    assert np.abs(correlation[~np.eye(6, dtype=bool)]).max() < 0.03
    other = _core.schedule(10_000, 6, 1, 0, p, None, 2, 0)
    assert abs(np.corrcoef(a[:, 0], other[:, 0])[0, 1]) < 0.03
    assert abs(np.corrcoef(a[1:, 0], a[:-1, 0])[0, 1]) < 0.03
    assert np.abs(a.mean(0) - 0.5).max() < 0.025


def test_coins_belong_to_the_global_node():
    """A process that holds nodes 40 ... 99 computes those columns of everybody's matrix."""
    p = np.linspace(0, ALWAYS, 100).astype(np.uint64)
    b = np.arange(100)
    everybody = _core.schedule(50, 100, 2, 1, p, b, 9, 7)
    np.testing.assert_array_equal(_core.schedule(50, 60, 2, 1, p[40:], b[40:], 9, 47), everybody[:, 40:])


@given(
    st.integers(1, 60),
    st.integers(1, 5),
    st.integers(0, 5),
    st.lists(st.tuples(st.integers(0, 70), st.integers(0, ALWAYS)), min_size=1, max_size=20),
    st.integers(0, 2**64 - 1),
)
def test_never_over_budget(rounds, gamma_train, gamma_sync, nodes, seed):
    """Trap 4."""
    tau = np.array([b for b, _ in nodes], np.int64)
    p = np.array([t for _, t in nodes], np.uint64)
    slots = _core.schedule(rounds, 1, gamma_train, gamma_sync, None, None, 0, 0)[:, 0]
    t_train = int(slots.sum())
    action = _core.schedule(rounds, len(nodes), gamma_train, gamma_sync, p, tau, seed, 0)
    spent = action.sum(0, dtype=np.int64)
    assert (spent <= tau).all()
    assert not action[slots == 0].any()
    constrained = np.minimum(tau * ALWAYS // t_train, ALWAYS).astype(np.uint64)
    spent = _core.schedule(rounds, len(nodes), gamma_train, gamma_sync, constrained, tau, seed, 0).sum(
        0, dtype=np.int64
    )
    assert (spent <= tau).all()
    assert (spent[tau >= t_train] == t_train).all()
    greedy = _core.schedule(rounds, len(nodes), 1, 0, None, tau, seed, 0)
    assert (greedy == (np.arange(rounds)[:, None] < tau)).all()


def test_the_last_round_and_node_ids():
    p = np.full(2, ALWAYS // 2, np.uint64)
    assert _core.schedule(3, 2, 1, 0, p, None, 0, 2**32 - 2).shape == (3, 2)
    with pytest.raises(ValueError, match="first_node: expected node ids up to"):
        _core.schedule(3, 2, 1, 0, p, None, 0, 2**32 - 1)
    assert _core.schedule(4, 2, 2**32 - 1, 2**32 - 1, None, None, 0, 0).all()


@pytest.mark.parametrize(
    "change, error, text",
    [
        ({0: -1}, ValueError, "rounds: expected 0 to"),
        ({0: 2.5}, TypeError, "rounds: expected an integer, got 2.5"),
        ({2: 0}, ValueError, "gamma_train: expected 1 to"),
        ({3: -1}, ValueError, "gamma_sync: expected 0 to"),
        ({4: np.ones(4)}, TypeError, "threshold: expected dtype uint64, got float64"),
        ({4: np.ones(3, np.uint64)}, ValueError, "threshold: expected shape \\(4,\\), got \\(3,\\)"),
        ({4: np.array([0, 1, ALWAYS + 1, 0], np.uint64)}, ValueError, "threshold: expected 0 to 2\\*\\*32 at \\[2\\]"),
        ({4: np.ones(8, np.uint64)[::2]}, ValueError, "threshold: must be C-contiguous"),
        ({5: np.array([1, 1, 1, -2])}, ValueError, "budget: expected at least 0 at \\[3\\], got -2"),
        ({5: np.ones(4, np.int32)}, TypeError, "budget: expected dtype int64, got int32"),
        ({5: [1, 2, 3, 4]}, TypeError, "budget: expected numpy.ndarray"),
        ({7: -1}, ValueError, "first_node: expected 0 to"),
    ],
)
def test_schedule_refuses(change, error, text):
    args = [5, 4, 2, 2, None, None, 0, 0]
    for k, value in change.items():
        args[k] = value
    with pytest.raises(error, match=text):
        _core.schedule(*args)


# --- energy


def lanes_of_eight(row, e):
    """The documented order of a round's sum."""
    lane = np.zeros(8)
    for i in range(len(e)):
        lane[i % 8] += e[i] * row[i]
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]))


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 63, 64, 65, 300])
@pytest.mark.parametrize("rounds", [0, 1, 254, 255, 256, 520])
def test_energy(isa, threads, n, rounds):
    rng = np.random.default_rng(n * 1000 + rounds)
    action = rng.integers(0, 2, (rounds, n), np.uint8)
    e = rng.random(n)
    per_node, cumulative = _core.energy(action, e)
    np.testing.assert_array_equal(per_node, e * action.sum(0, dtype=np.int64))
    want = np.cumsum((action * e).sum(1))
    np.testing.assert_allclose(cumulative, want, rtol=(n / 8 + rounds + 4) * 2.0**-52, atol=0)
    if rounds == 1:
        assert cumulative[0] == lanes_of_eight(action[0], e)


def test_energy_has_the_same_bits_everywhere(isa, threads):
    rng = np.random.default_rng(0)
    action, e = rng.integers(0, 2, (3000, 259), np.uint8), rng.random(259)
    got = _core.energy(action, e)
    lanes = np.zeros((3000, 8))
    for i in range(259):
        lanes[:, i % 8] += e[i] * action[:, i]
    four = lanes[:, :4] + lanes[:, 4:]
    total = (four[:, 0] + four[:, 2]) + (four[:, 1] + four[:, 3])
    np.testing.assert_array_equal(got[1], np.cumsum(total))
    np.testing.assert_array_equal(got[0], e * action.sum(0, dtype=np.int64))


def test_energy_of_the_paper():
    """SkipTrain, section 2.5: D-PSGD on 256 phones, 1,000 rounds of CIFAR-10 and 3,000 of FEMNIST."""
    for rounds, kinds, total in (
        (1000, [0.006532875, 0.005986076, 0.002556283, 0.008519120], 1510.04),
        (3000, [0.021508007, 0.019707797, 0.008415981, 0.028047269], 14914.4),
    ):
        e = np.tile(kinds, 64)
        action = _core.schedule(rounds, 256, 1, 0, None, None, 0, 0)
        per_node, cumulative = _core.energy(action, e)
        assert cumulative[-1] == pytest.approx(total, abs=0.1 if rounds == 3000 else 0.01)
        assert per_node.sum() == pytest.approx(cumulative[-1], rel=1e-12)
        half = _core.energy(_core.schedule(rounds, 256, 4, 4, None, None, 0, 0), e)[1][-1]
        assert half == pytest.approx(cumulative[-1] / 2, rel=1e-12)


@pytest.mark.parametrize(
    "action, e, error, text",
    [
        (np.zeros((2, 3), np.uint8), np.ones(2), ValueError, "e: expected shape \\(3,\\), got \\(2,\\)"),
        (np.zeros((2, 3), np.uint8), np.array([1, -1, 1.0]), ValueError, "e: expected a finite energy .* at \\[1\\]"),
        (np.zeros((2, 3), np.uint8), np.array([1, 1, math.nan]), ValueError, "at \\[2\\], got nan"),
        (np.zeros((2, 3), np.uint8), np.array([math.inf, 1, 1]), ValueError, "at \\[0\\], got inf"),
        (np.array([[0, 1, 1], [0, 2, 1]], np.uint8), np.ones(3), ValueError, "action: .* at \\[1, 1\\], got 2"),
        (np.zeros((2, 3), bool), np.ones(3), TypeError, "action: expected dtype uint8, got bool"),
        (np.zeros(3, np.uint8), np.ones(3), ValueError, "action: expected 2 dimension"),
        (np.zeros((3, 2), np.uint8).T, np.ones(3), ValueError, "action: must be C-contiguous"),
        (np.zeros((2, 3), np.uint8), np.ones(3, np.float32), TypeError, "e: expected dtype float64, got float32"),
    ],
)
def test_energy_refuses(action, e, error, text):
    with pytest.raises(error, match=text):
        _core.energy(action, e)


# --- anything at all at the bindings: an answer or a Python exception, the arguments as they were

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    hnp.arrays(
        st.sampled_from(["i4", "i8", "u8", "u1", "f4", "f8", "?", ">i4", "c8"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=7),
    ),
    hnp.arrays("i4", st.integers(0, 12), elements=st.integers(-1, 6)),
    hnp.arrays("i4", st.integers(0, 12), elements=st.integers(-1, 6)).map(lambda a: np.sort(a)[::2]),
)
small = st.integers(0, 40)


@pytest.mark.parametrize(
    "name, count",
    [
        ("regular_graph", 4),
        ("components", 2),
        ("metropolis_weights", 2),
        ("check_mixing", 5),
        ("lambda2", 3),
        ("schedule", 8),
        ("energy", 2),
    ],
)
@given(data=st.data())
@settings(max_examples=150)
def test_anything_at_the_bindings(name, count, data):
    args = [data.draw(anything) for _ in range(data.draw(st.sampled_from([count] * 9 + [count - 1])))]
    before = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    if name == "regular_graph":  # sizes a test can wait for
        args[:2] = [min(a, 200) if type(a) is int else a for a in args[:2]]
    if name == "schedule":
        args[:2] = [min(a, 2000) if type(a) is int else a for a in args[:2]]
    with contextlib.suppress(TypeError, ValueError):
        getattr(_core, name)(*args)
    for a, b in zip(args, before, strict=True):
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)


@given(
    hnp.arrays("i4", st.integers(1, 8), elements=st.integers(-1, 9)),
    hnp.arrays("i4", st.integers(0, 12), elements=st.integers(-1, 8)),
    st.data(),
)
@settings(max_examples=300)
def test_any_csr(indptr, indices, data):
    indptr[0] = 0
    if data.draw(st.booleans()):
        indptr.sort()
        indptr[-1] = len(indices)
    weights = data.draw(hnp.arrays("f4", len(indices), elements=st.floats(width=32)))
    for f, args in (
        (_core.components, ()),
        (_core.metropolis_weights, ()),
        (_core.lambda2, (weights,)),
        (_core.check_mixing, (weights, False, False)),
    ):
        error = None
        try:
            f(indptr, indices, *args)
        except ValueError as e:
            error = str(e)
        assert error is None or error.startswith(("indptr", "indices", "weights"))


def test_read_only_arguments_are_fine():
    g = csr(ring(8))
    w = _core.metropolis_weights(*g)
    for a in (*g, *w):
        a.flags.writeable = False
    assert _core.components(*g).max() == 0
    assert _core.lambda2(*w)[0] < 1
