"""Erdos-Renyi and small-world graphs: their statistics against networkx, their addresses, what they refuse."""

from __future__ import annotations

import io
import math
import re
import subprocess
import sys
from collections import Counter

import networkx as nx
import numpy as np
import pytest

from collegium import _core
from collegium.dl import topology


def lattice(n, degree):
    return nx.watts_strogatz_graph(n, degree, 0)


# ---- Erdos-Renyi ----


def test_erdos_renyi():
    g = topology.erdos_renyi(40, 0.15, seed=2)
    assert g.n == 40 and g.is_connected and g.name == "erdos_renyi(40, 0.15, seed=2)"
    assert g == topology.erdos_renyi(40, 0.15, 2) != topology.erdos_renyi(40, 0.15, 3)
    assert topology.erdos_renyi(9, 1.0) == topology.complete(9)
    assert topology.erdos_renyi(1, 0.0) == topology.ring(1)
    assert topology.erdos_renyi(5, 0.0, allow_disconnected=True).component_sizes == (1,) * 5


def test_erdos_renyi_is_a_coin_a_pair():
    """Addressed: purpose 4, kind 1, draw 0, pair (j, i) at i (i - 1) / 2 + j. The first draw here is connected."""
    n, p, seed = 30, 0.3, 11
    coins = _core.random_u32(seed, 4, 1, 0, 0, n * (n - 1) // 2)
    want = {(j, i) for i in range(n) for j in range(i) if coins[i * (i - 1) // 2 + j] < p * 2**32}
    assert set(map(tuple, topology.erdos_renyi(n, p, seed).edges.tolist())) == want


def test_erdos_renyi_statistics():
    """Edges, degrees and triangles of 400 graphs on 30 nodes, against what G(n, p) has and what networkx draws."""
    n, p, draws = 30, 0.25, 400
    ours = [topology.erdos_renyi(n, p, s, allow_disconnected=True) for s in range(draws)]
    pairs = math.comb(n, 2)
    edges = np.array([len(g.edges) for g in ours])
    assert edges.mean() == pytest.approx(pairs * p, abs=5 * math.sqrt(pairs * p * (1 - p) / draws))
    assert edges.var() == pytest.approx(pairs * p * (1 - p), rel=0.4)
    every = np.zeros((n, n))
    for g in ours:
        every[g.edges[:, 0], g.edges[:, 1]] += 1
    assert np.abs(every[np.triu_indices(n, 1)] / draws - p).max() < 5 * math.sqrt(p * (1 - p) / draws)
    triangles = lambda graphs: np.mean([sum(nx.triangles(g).values()) / 3 for g in graphs])
    theirs = [nx.gnp_random_graph(n, p, seed=s) for s in range(draws)]
    assert triangles(g.to_networkx() for g in ours) == pytest.approx(triangles(theirs), rel=0.1)
    assert triangles(g.to_networkx() for g in ours) == pytest.approx(math.comb(n, 3) * p**3, rel=0.06)


def test_erdos_renyi_is_drawn_again_until_connected():
    first = [topology.erdos_renyi(30, 0.08, s, allow_disconnected=True).is_connected for s in range(40)]
    assert not all(first)
    for seed in range(40):
        assert topology.erdos_renyi(30, 0.08, seed).is_connected


# ---- small world ----


def test_small_world():
    g = topology.small_world(40, 6, 0.2, seed=2)
    assert g.n == 40 and g.is_connected and g.name == "small_world(40, 6, 0.2, seed=2)"
    assert g == topology.small_world(40, 6, 0.2, 2) != topology.small_world(40, 6, 0.2, 3)
    assert len(g.edges) == 120 and g.degrees.min() >= 3
    for n, degree in ((3, 2), (10, 4), (9, 8), (25, 6)):
        want = lattice(n, degree)
        assert set(map(tuple, topology.small_world(n, degree, 0.0).edges.tolist())) == {
            tuple(sorted(e)) for e in want.edges
        }
    assert topology.small_world(9, 8, 1.0) == topology.complete(9)  # nowhere to move an edge to


@pytest.mark.parametrize("rewire", [0.05, 0.3, 1.0])
def test_small_world_statistics(rewire):
    """Moved edges, clustering, path lengths and the spread of degrees, against 120 graphs of networkx."""
    n, degree, draws = 60, 6, 120
    ours = [topology.small_world(n, degree, rewire, s).to_networkx() for s in range(draws)]
    theirs = [nx.connected_watts_strogatz_graph(n, degree, rewire, seed=s) for s in range(draws)]
    lost = lambda g: (
        n * degree // 2
        - len(set(map(tuple, map(sorted, g.edges))) & set(map(tuple, map(sorted, lattice(n, degree).edges))))
    )
    for measure in (
        lost,
        nx.average_clustering,
        nx.average_shortest_path_length,
        lambda g: np.var([d for _, d in g.degree]),
    ):
        a, b = (np.array([measure(g) for g in graphs], float) for graphs in (ours, theirs))
        assert abs(a.mean() - b.mean()) < 5 * math.sqrt((a.var() + b.var()) / draws)


def test_small_world_ends_are_uniform():
    """Of 12 nodes in a ring, all edges moved: node 0's first edge goes to each of the 9 nodes that it did not know with
    the same chance."""
    draws, seen = 3000, Counter()
    for seed in range(draws):
        coins = _core.random_u32(seed, 4, 2, 0, 0, 12)
        g = topology.small_world(12, 2, 0.04, seed, allow_disconnected=True)
        if (coins < 0.04 * 2**32).nonzero()[0].tolist() == [0]:  # only edge (0, 1) moved
            seen[(set(g.neighbors(0).tolist()) - {11}).pop()] += 1
    total = sum(seen.values())
    assert total > 50 and set(seen) <= set(range(2, 11))
    chi2 = sum((seen[j] - total / 9) ** 2 / (total / 9) for j in range(2, 11))
    assert abs(chi2 - 8) < 5 * math.sqrt(16)


# ---- both ----


def test_another_process_draws_the_same(tmp_path):
    code = (
        "from collegium.dl import topology as t\n"
        "for g in (t.erdos_renyi(50, .1, 7), t.small_world(50, 4, .3, 7), t.fresh_regular(50, 4, 7).graph(9)):\n"
        "    print(g.indices.tolist())"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout
    here = (
        topology.erdos_renyi(50, 0.1, 7),
        topology.small_world(50, 4, 0.3, 7),
        topology.fresh_regular(50, 4, 7).graph(9),
    )
    assert out.splitlines() == [str(g.indices.tolist()) for g in here]


@pytest.mark.parametrize(
    "graph, edges",
    [
        (topology.erdos_renyi(7, 0.4, 7), "0-4 0-5 0-6 1-3 1-5 2-3 2-6 5-6"),
        (topology.small_world(12, 2, 0.6, 7), "0-3 0-9 1-9 1-10 2-3 3-4 3-10 4-11 5-6 6-7 7-8 8-10"),
        (topology.fresh_regular(8, 3, 7).graph(9), "0-3 0-5 0-7 1-2 1-6 1-7 2-4 2-5 3-4 3-7 4-6 5-6"),
    ],
    ids=lambda v: getattr(v, "name", None),
)
def test_graphs_of_saved_runs_never_change(graph, edges):
    """Computed once; the graph of a seed is part of every saved run."""
    assert " ".join(f"{i}-{j}" for i, j in graph.edges.tolist()) == edges


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: topology.erdos_renyi(50, 0.02), ValueError, "p: 0.02 leaves about 19 of 50 nodes without"),
        (lambda: topology.erdos_renyi(2, 0.0), ValueError, "p: 0 leaves about 2 of 2 nodes"),
        (lambda: topology.erdos_renyi(4, 1e-9), ValueError, "p: none of 10000 graphs of n = 4, p = 1e-09 was"),
        (lambda: topology.erdos_renyi(5, 1.5), ValueError, "p: expected at most 1"),
        (lambda: topology.erdos_renyi(5, -0.1), ValueError, "p: expected at least 0"),
        (lambda: topology.erdos_renyi(5, math.nan), ValueError, "p: expected a finite number, got nan"),
        (lambda: topology.erdos_renyi(5, "0.5"), TypeError, "p: expected a number, got '0.5'"),
        (lambda: topology.erdos_renyi(0, 0.5), ValueError, "n: expected 1 to"),
        (lambda: topology.erdos_renyi(5, 0.5, -1), ValueError, "seed: expected 0 to"),
        (lambda: topology.small_world(10, 3, 0.1), ValueError, "degree: expected an even number (half of the neigh"),
        (lambda: topology.small_world(10, 10, 0.1), ValueError, "degree: expected 2 to 9, got 10"),
        (lambda: topology.small_world(10, 0, 0.1), ValueError, "degree: expected 2 to 9, got 0"),
        (lambda: topology.small_world(2, 2, 0.1), ValueError, "n: expected 3 to"),
        (lambda: topology.small_world(10, 2, 1.1), ValueError, "rewire: expected at most 1"),
        (lambda: topology.small_world(10, 2, math.nan), ValueError, "rewire: expected a finite number"),
        (lambda: topology.small_world(2**30, 4, 0.1), ValueError, "degree: expected n * degree below 2**31"),
        (lambda: topology.exponential(0), ValueError, "n: expected 1 to"),
    ],
)  # fmt: skip
def test_refusals(make, error, text):
    with pytest.raises(error, match=re.escape(text)):
        make()


# ---- pictures ----


@pytest.mark.parametrize(
    "graph, circle",
    [
        (topology.ring(12), True),
        (topology.complete(9), True),
        (topology.exponential(16), True),
        (topology.small_world(30, 4, 0.2, 1), True),
        (topology.ring(1), True),
        (topology.star(20), False),
        (topology.torus(5, 6), False),
        (topology.regular(50, 4, 1), False),
        (topology.regular(402, 4, 1), False),
        (topology.from_edges([(0, 9), (1, 5), (2, 7), (3, 6), (4, 8)], allow_disconnected=True), False),
    ],
    ids=lambda v: getattr(v, "name", None),
)
def test_plot(graph, circle, need):
    need("matplotlib")
    figure = graph.plot()
    (ax,) = figure.axes
    lines, dots = ax.collections
    at = np.asarray(dots.get_offsets())
    assert at.shape == (graph.n, 2) and np.isfinite(at).all() and np.abs(at).max() <= 1 + 1e-9
    drawn = {tuple(map(tuple, segment)) for segment in lines.get_segments()}
    assert drawn == {(tuple(at[i]), tuple(at[j])) for i, j in graph.edges}
    assert np.allclose((at**2).sum(axis=1), 1) == circle
    apart = np.sqrt(((at[:, None] - at[None]) ** 2).sum(axis=2)) + 9 * np.eye(graph.n)
    assert apart.min() > 1e-3  # no two nodes on one point
    assert [t.get_text() for t in ax.texts] == ([str(i) for i in range(graph.n)] if graph.n <= 40 else [])
    assert f"{graph.lambda2:.3g}" in ax.get_title() and graph.name in ax.get_title()
    assert ("components" in ax.get_title()) == (not graph.is_connected)
    np.testing.assert_array_equal(np.asarray(graph.plot().axes[0].collections[1].get_offsets()), at)
    figure.savefig(io.BytesIO(), format="png")
