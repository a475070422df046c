"""Graphs that change from round to round, and mixing over them."""

from __future__ import annotations

import math
import pickle
from collections import Counter

import networkx as nx
import numpy as np
import pytest

from collegium import dl
from collegium.dl import MixingMatrix, topology
from collegium.dl.topology import Dynamic, Topology
from collegium.engine import Context

SIX = [topology.ring(6), topology.star(6), topology.complete(6)]


def models(n, size=37):
    return np.random.default_rng(0).normal(size=(n, size)).astype(np.float32)


def links(W):
    """(sender, receiver) of every message."""
    dense = W.toarray()
    return {(j, i) for i, j in zip(*np.nonzero(dense)) if i != j}


# ---- given graphs and matrices ----


def test_sequence():
    d = topology.sequence(iter(SIX))
    assert isinstance(d, Dynamic) and (d.n, d.period, d.name) == (6, 3, "sequence(3 graphs)")
    assert repr(d) == "<Dynamic sequence(3 graphs): 6 nodes, repeats after 3 rounds>"
    for t in range(7):
        assert d.graph(t) is SIX[t % 3]
        np.testing.assert_array_equal(d.matrix(t).toarray(), SIX[t % 3].mixing().toarray())
    assert d.matrix(4) is d.matrix(1)  # made once
    assert d.is_connected
    regular = topology.sequence([topology.ring(5), topology.complete(5)])
    np.testing.assert_array_equal(regular.matrix(1, "uniform").toarray(), topology.complete(5).mixing().toarray())
    with pytest.raises(ValueError, match='kind: "uniform" needs equal degrees'):
        d.matrix(1, "uniform")
    again = pickle.loads(pickle.dumps(d))
    assert again.graph(2) == SIX[2] and again.name == d.name


def test_a_sequence_is_connected_over_its_period():
    edge = lambda *pairs: topology.from_edges(pairs, 4, allow_disconnected=True)
    d = topology.sequence([edge((0, 1), (2, 3)), edge((1, 2))])
    assert d.is_connected and not d.graph(0).is_connected and d.contraction(1) == pytest.approx(1)
    assert d.contraction() < 1
    with pytest.raises(ValueError, match="topology: expected a connected graph, got components of 2, 2 nodes"):
        topology.sequence([edge((0, 1)), edge((2, 3))])
    pieces = topology.sequence([edge((0, 1)), edge((2, 3))], allow_disconnected=True)
    assert not pieces.is_connected and pieces.contraction(50) == pytest.approx(1)


def test_from_matrices():
    ahead = np.roll(np.eye(3), 1, axis=1) / 2 + np.eye(3) / 2
    d = topology.from_matrices([ahead, np.full((3, 3), 1 / 3), MixingMatrix.from_any(np.eye(3))])
    assert d.period == 3 and d.is_connected
    assert d.graph(0) is None  # directed
    assert d.graph(1) == topology.complete(3)
    assert d.graph(2).component_sizes == (1, 1, 1)
    np.testing.assert_array_equal(d.matrix(3).toarray(), ahead)
    with pytest.raises(ValueError, match="kind: the rounds of from_matrices.* are matrices .*; got 'uniform'"):
        d.matrix(0, "uniform")
    with pytest.raises(ValueError, match="some edges lead one way only"):
        topology.from_matrices([[[1, 0], [0.5, 0.5]]])
    assert not topology.from_matrices([[[1, 0], [0.5, 0.5]]], allow_disconnected=True).is_connected
    zero = MixingMatrix.from_any(([0, 2, 4], [0, 1, 0, 1], np.array([1, 0, 0, 1.0])))  # entries that carry nothing
    with pytest.raises(ValueError, match="2 nodes without neighbours"):
        topology.from_matrices([zero])


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: topology.sequence([]), ValueError, "graphs: expected at least one, got none"),
        (lambda: topology.sequence([SIX[0], topology.ring(7)]), ValueError, r"graphs\[1\]: expected 6 nodes .*, got 7"),
        (lambda: topology.sequence([SIX[0], np.eye(6)]), TypeError, r"graphs\[1\]: expected a Topology, got ndarray"),
        (lambda: topology.from_matrices([]), ValueError, "matrices: expected at least one"),
        (
            lambda: topology.from_matrices([np.eye(2), np.eye(3)]),
            ValueError,
            r"matrices\[1\]: expected 2 nodes .*got 3",
        ),
        (
            lambda: topology.from_matrices([np.eye(2), [[0.5, 0.5], [0.5, 0.6]]]),
            ValueError,
            r"matrices\[1\]: weights: expected every row to sum to 1 within 1e-06, got 1\.1\d* in row 1",
        ),
        (lambda: topology.from_matrices([[[np.nan, 1], [1, 0]]]), ValueError, r"matrices\[0\]: weights: .* got nan at"),
        (lambda: topology.from_matrices([SIX[0]]), TypeError, r"matrices\[0\]: .*use its .mixing\(\)"),
        (lambda: topology.fresh_regular(9, 3), ValueError, r"degree: expected an even n \* degree .* got 9 \* 3"),
        (lambda: topology.fresh_regular(4, 4), ValueError, "degree: expected less than n = 4, got 4"),
        (lambda: topology.fresh_regular(4, 0), ValueError, "degree: 0 gives 4 separate nodes"),
        (lambda: topology.fresh_regular(4, 2, -1), ValueError, "seed: expected 0 to"),
        (lambda: topology.one_peer_exponential(0), ValueError, "n: expected 1 to"),
        (lambda: topology.one_peer_exponential(4).matrix(-1), ValueError, "round: expected at least 0, got -1"),
        (lambda: topology.one_peer_exponential(4).graph(1.0), TypeError, "round: expected an integer, got 1.0"),
        (lambda: topology.one_peer_exponential(4).matrix(0, "max"), ValueError, "kind: expected one of"),
        (lambda: topology.fresh_regular(4, 3).at(2**24), ValueError, "round: expected 0 to 16777215"),
        (lambda: topology.fresh_regular(4, 3).contraction(), ValueError, "rounds: expected a number, as fresh_regular"),
        (lambda: topology.one_peer_exponential(4).contraction(-1), ValueError, "rounds: expected at least 0"),
    ],
)
def test_refusals(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_graph_of_your_own():
    class Alternating(Dynamic):
        def at(self, round):
            return topology.ring(self.n) if round % 10 else topology.star(self.n)

    d = Alternating(5, 10, "alternating")
    assert d.graph(20) == topology.star(5) and d.graph(21) == topology.ring(5) and d.is_connected
    with pytest.raises(TypeError, match="Alternating never repeats: it must define is_connected"):
        _ = Alternating(5, None, "alternating").is_connected


# ---- exponential ----


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 12, 33])
def test_exponential_graphs(n):
    hops = [2**k for k in range(math.ceil(math.log2(n)))] if n > 1 else []
    want = nx.Graph()
    want.add_nodes_from(range(n))
    want.add_edges_from((i, (i + h) % n) for i in range(n) for h in hops)
    g = topology.exponential(n)
    assert isinstance(g, Topology) and g.is_connected
    assert set(map(tuple, g.edges.tolist())) == {tuple(sorted(e)) for e in want.edges}
    d = topology.exponential(n, directed=True)
    assert d.period == 1 and d.is_connected and d.name == f"exponential({n}, directed=True)"
    W = d.matrix(5).toarray()
    dense = np.eye(n)
    for h in hops:
        dense += np.roll(np.eye(n), -h, axis=1)
    np.testing.assert_allclose(W, dense / (len(hops) + 1), atol=1e-7)
    np.testing.assert_allclose(W.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(W.sum(axis=1), 1, atol=1e-7)
    assert (d.graph(0) is None) == (n > 3)  # 3 nodes hear both others


def test_exponential_graphs_mix_as_the_paper_says():
    """Ying et al., NeurIPS 2021: for even n the spectral gap is 2 / (ceil(log2 n) + 1), and the norm of
    W - J is 1 minus it."""
    for n in (4, 6, 16, 22, 64, 100):
        tau = math.ceil(math.log2(n))
        assert topology.exponential(n, directed=True).contraction() == pytest.approx(1 - 2 / (tau + 1), abs=1e-6)


@pytest.mark.parametrize("n", [2, 4, 8, 16, 128])
def test_one_peer_exponential_agrees_after_log2_n_rounds(n):
    d = topology.one_peer_exponential(n)
    rounds = int(math.log2(n))
    assert d.period == rounds and d.is_connected
    for t in range(2 * rounds):
        hop = 2 ** (t % rounds)
        assert links(d.matrix(t)) == {((i - hop) % n, i) for i in range(n)}
        assert set(d.matrix(t).weights.tolist()) == {0.5}
    for first in range(rounds):  # the order does not matter
        assert d.contraction(rounds, first) == 0
    if rounds > 1:
        assert d.contraction(rounds - 1) > 0.5
    X = models(n)
    Y = dl.mix(X, [d.matrix(t) for t in range(rounds)], rounds)
    assert np.ptp(Y, axis=0).max() <= 2e-6
    np.testing.assert_allclose(Y[0], X.astype(float).mean(0), atol=1e-6)
    whole = dl.mix(np.round(X * 64), [d.matrix(t) for t in range(rounds)], rounds)
    assert np.ptp(whole, axis=0).max() == 0  # sums of few bits: exact


def test_one_peer_exponential_of_other_sizes_only_comes_near():
    d = topology.one_peer_exponential(6)
    assert d.period == 3 and 0 < d.contraction(3) < 1
    assert d.contraction(60) < 1e-3
    assert topology.one_peer_exponential(1).matrix(0).toarray().tolist() == [[1]]


# ---- fresh graphs ----


def test_fresh_regular():
    d = topology.fresh_regular(20, 4, seed=3)
    assert d.period is None and d.is_connected and repr(d).endswith("20 nodes, never repeats>")
    for t in range(50):
        g = d.graph(t)
        assert (g.degrees == 4).all() and g.is_connected
        np.testing.assert_array_equal(d.matrix(t).toarray(), g.mixing().toarray())
    same = topology.fresh_regular(20, 4, seed=3)
    assert [same.graph(t) for t in (7, 3, 1000)] == [d.graph(t) for t in (7, 3, 1000)]
    assert len({topology.fresh_regular(20, 4, seed).graph(t) for seed in (3, 4) for t in range(20)}) == 40
    assert d.contraction(30) < 1e-6 < d.contraction(5)


def test_fresh_edges_are_spread_evenly():
    d = topology.fresh_regular(10, 3, seed=1)
    seen = Counter(tuple(e) for t in range(3000) for e in d.graph(t).edges.tolist())
    assert len(seen) == 45
    assert max(abs(c / 3000 - 3 / 9) for c in seen.values()) < 5 * math.sqrt(2 / 9 / 3000)


def test_fresh_rounds_are_connected_from_degree_3_on():
    """On 8 nodes a 3-regular graph is in two pieces in 35 of 19,355 cases: they are drawn again."""
    d = topology.fresh_regular(8, 3, seed=0)
    raw = [t for t in range(4000) if not _raw(t)]
    assert raw, "no draw in pieces among 4000: the redraw is not tested"
    assert all(d.graph(t).is_connected for t in raw)
    pairs = topology.fresh_regular(8, 1, seed=0)
    assert pairs.graph(5).component_sizes == (2, 2, 2, 2) and pairs.is_connected and pairs.contraction(40) < 0.1
    rings = topology.fresh_regular(60, 2, seed=0)
    assert any(not rings.graph(t).is_connected for t in range(20))


def _raw(t):
    from collegium import _core

    nbr = _core.regular_graph(8, 3, 0, t)
    return Topology(8, np.arange(0, 25, 3, dtype=np.int32), nbr.ravel()).is_connected


# ---- mixing ----

CHANGING = {
    "sequence": topology.sequence([topology.ring(12), topology.star(12), topology.complete(12)]),
    "fresh": topology.fresh_regular(12, 3, seed=5),
    "one peer": topology.one_peer_exponential(12),
    "directed": topology.exponential(12, directed=True),
}


@pytest.mark.parametrize("name", CHANGING)
@pytest.mark.parametrize("steps", [1, 3])
def test_fused_rounds_have_the_bits_of_single_ones(name, steps, isa, threads):
    d = CHANGING[name]
    fused, single, by_hand = models(12), models(12), models(12)
    exchange, other = dl.Mixing(rounds=steps), dl.Mixing(rounds=steps)
    exchange.bind(Context(topology=d))
    other.bind(Context(topology=d))
    sent, received = exchange.step(fused, round=4, ctx=Context(topology=d, round=4, rounds=5))
    total_sent, total_received = np.zeros(12, np.int64), np.zeros(12, np.int64)
    for t in range(4, 9):
        s, r = other.step(single, round=t, ctx=Context(topology=d, round=t))
        total_sent += s
        total_received += r
        for _ in range(steps):
            by_hand = dl.mix(by_hand, d.matrix(t))
    np.testing.assert_array_equal(fused, single)
    np.testing.assert_array_equal(fused, by_hand)
    np.testing.assert_array_equal(sent, total_sent)
    np.testing.assert_array_equal(received, total_received)
    want = np.zeros((2, 12), int)
    for t in range(4, 9):
        for sender, receiver in links(d.matrix(t)):
            want[0, sender] += steps * 37 * 4
            want[1, receiver] += steps * 37 * 4
    np.testing.assert_array_equal([sent, received], want)
    assert sent.dtype == received.dtype == np.int64 and sent.shape == received.shape == (12,)


def test_mixing_takes_a_changing_graph_as_weights():
    d = topology.one_peer_exponential(8)
    exchange = dl.Mixing(weights=d)
    assert exchange.matrix(4) is d.matrix(1)
    X = models(8)
    for t in range(3):
        exchange.step(X, round=t)
    np.testing.assert_allclose(X, np.broadcast_to(models(8).mean(0), X.shape), atol=1e-6)
    with pytest.raises(ValueError, match="weights: expected a matrix for 9 nodes, got 8"):
        exchange.bind(Context(topology=topology.ring(9)))
    with pytest.raises(ValueError, match="weights: expected a matrix for 9 nodes, got 8"):
        exchange.bind(Context(topology=topology.fresh_regular(9, 4)))


def test_weights_that_do_not_fit_a_round_are_refused_before_the_run():
    with pytest.raises(ValueError, match='kind: "uniform" needs equal degrees, got 1 to 11'):
        dl.Mixing(weights="uniform").bind(Context(topology=CHANGING["sequence"]))
    with pytest.raises(ValueError, match="kind: the rounds of one_peer_exponential"):
        dl.Mixing(weights="uniform").bind(Context(topology=CHANGING["one peer"]))

    class Leaky(Dynamic):
        def at(self, round):
            return MixingMatrix.from_any(np.full((3, 3), 0.25))

    with pytest.raises(ValueError, match=r"weights: expected every row to sum to 1 .* got 0\.75 in row 0"):
        dl.Mixing().bind(Context(topology=Leaky(3, 1, "leaky")))


def test_a_mechanism_protects_the_first_round_only():
    """Messages of rows that trained are replaced over the graph of the first round; the others are plain."""
    d = CHANGING["sequence"]
    asked = []

    class Shift:
        def messages(self, x, weights, *, round, sender, recipients, seed):
            asked.append((round, sender, recipients.tolist()))
            return np.repeat(x[None] + 1, len(recipients), axis=0)

    exchange = dl.Mixing()
    exchange.bind(Context(topology=d))
    X = models(12)
    exchange.step(X, round=1, ctx=Context(topology=d, mechanism=Shift(), round=1, rounds=2, trained=np.array([0])))
    assert asked == [(1, 0, list(range(12)))]  # round 1 is the star, node 0 its hub
    shifted = models(12)
    shifted[0] += 1
    np.testing.assert_allclose(X, d.matrix(2).toarray() @ d.matrix(1).toarray() @ shifted, atol=1e-6)
