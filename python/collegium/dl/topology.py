"""Communication graphs: undirected, without self loops, connected unless told otherwise; and graphs that change from
round to round."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from .. import _core
from .._check import INT32_MAX, integer, real
from . import _draw, _edgefile
from .dynamic import Cycle, Dynamic, FreshRegular, circulant
from .graph import Topology, of_pairs, of_rows
from .weights import MixingMatrix

if TYPE_CHECKING:
    import networkx

__all__ = [
    "Dynamic",
    "Topology",
    "complete",
    "erdos_renyi",
    "exponential",
    "fresh_regular",
    "from_edges",
    "from_file",
    "from_matrices",
    "from_matrix",
    "from_networkx",
    "one_peer_exponential",
    "regular",
    "ring",
    "sequence",
    "small_world",
    "star",
    "torus",
]

_REDRAWS = 10_000  # of a random graph that came out in pieces; 2-regular ones on 10,000 nodes need about 55
_HOPELESS = 7.0  # nodes left alone on average: e^-7 of the draws have none, and finding one takes a thousand


def ring(n: int) -> Topology:
    """Every node linked to the next, the last to the first. n >= 1 (two nodes: one edge)."""
    n = integer(n, "n", 1, INT32_MAX)
    i = np.arange(n, dtype=np.int64)
    return _of_candidates(n, np.stack([i, (i + 1) % n], axis=1), f"ring({n})")


def torus(rows: int, cols: int) -> Topology:
    """A grid whose borders are joined: node r * cols + c has neighbours up, down, left and right (fewer where rows or
    cols is below 3, as two of them are then the same node)."""
    rows, cols = integer(rows, "rows", 1, INT32_MAX), integer(cols, "cols", 1, INT32_MAX)
    if rows * cols > INT32_MAX:
        raise ValueError(f"rows, cols: expected fewer than 2**31 nodes, got {rows} * {cols}")
    at = np.arange(rows * cols, dtype=np.int64).reshape(rows, cols)
    right, down = np.roll(at, -1, axis=1), np.roll(at, -1, axis=0)
    pairs = np.stack([np.concatenate([at, at]).ravel(), np.concatenate([right, down]).ravel()], axis=1)
    return _of_candidates(rows * cols, pairs, f"torus({rows}, {cols})")


def complete(n: int) -> Topology:
    """Every node linked to every other. n >= 1."""
    n = integer(n, "n", 1, 46_340)  # n * n indices, the diagonal included, must fit int32
    return of_rows(_core.regular_graph(n, n - 1, 0, 0), f"complete({n})")


def star(n: int) -> Topology:
    """Node 0 linked to all others, which know only it. n >= 1."""
    n = integer(n, "n", 1, INT32_MAX)
    leaves = np.arange(1, n, dtype=np.int64)
    return of_pairs(n, np.stack([np.zeros_like(leaves), leaves], axis=1), f"star({n})", False)


def regular(n: int, degree: int, seed: int = 0, *, allow_disconnected: bool = False) -> Topology:
    """A random graph in which every node has `degree` neighbours: the same one for the same n, degree and seed.

    n * degree must be even, degree < n. Drawn again until connected (from degree 3 on the first draw nearly always is).
    Degree 1 only gives separate pairs: ValueError for n > 2; degree 0 for n > 1. allow_disconnected=True takes the
    first draw as it comes. seed: 0 to 2**64 - 1. Uniform for degree <= 3, nearly so above (Steger and Wormald, 1999).
    """
    n, degree, seed = _regular_arguments(n, degree, seed)
    name = f"regular({n}, {degree}, seed={seed})"
    if not allow_disconnected and degree < 2 and n > degree + 1:
        pieces = f"{n // 2} separate pairs" if degree == 1 else f"{n} separate nodes"
        raise ValueError(
            f"degree: {degree} gives {pieces}; a connected graph of {n} nodes needs at least 2 "
            "(allow_disconnected=True takes it as it is)"
        )
    return _redrawn(
        lambda draw: of_rows(_core.regular_graph(n, degree, seed, draw), name),
        f"degree: none of {_REDRAWS} graphs of n = {n}, degree = {degree} was connected; use ring(n)",
        allow_disconnected,
    )


def erdos_renyi(n: int, p: float, seed: int = 0, *, allow_disconnected: bool = False) -> Topology:
    """A random graph in which every pair of nodes is linked with probability p, each by a coin of its own: the same one
    for the same n, p and seed.

    p: in [0, 1], taken to 2^-32. Drawn again until connected. Where so many nodes would stay alone (n (1-p)^(n-1), 7 or
    more on average) that this is hopeless: ValueError; a p of (ln n + 1) / n is enough. allow_disconnected=True takes
    the first draw as it comes. seed: 0 to 2**64 - 1. O(n^2).  Source: Gilbert, "Random graphs", 1959 (G(n, p)).
    """
    n = integer(n, "n", 1, INT32_MAX)
    p = real(p, "p", 0.0, 1.0)
    seed = _seed(seed)
    alone = n * (1.0 - p) ** (n - 1) if n > 1 else 0.0
    if not allow_disconnected and (alone >= _HOPELESS or (p == 0.0 and n > 1)):
        raise ValueError(
            f"p: {p:g} leaves about {alone:.0f} of {n} nodes without neighbours; a connected graph needs about "
            f"{min(1.0, (math.log(n) + 1.0) / n):.2g} (allow_disconnected=True takes it as it is)"
        )
    name = f"erdos_renyi({n}, {p:g}, seed={seed})"
    return _redrawn(
        lambda draw: of_pairs(n, _draw.coin_pairs(n, p, seed, draw), name, True),
        f"p: none of {_REDRAWS} graphs of n = {n}, p = {p:g} was connected; take a larger p",
        allow_disconnected,
    )


def small_world(n: int, degree: int, rewire: float, seed: int = 0, *, allow_disconnected: bool = False) -> Topology:
    """A ring in which every node knows its `degree` nearest, with shortcuts: one end of each edge moves to a random
    node with probability `rewire`. The same graph for the same n, degree, rewire and seed.

    degree: even, 2 to n - 1; the mean degree, each node keeps at least half of it.  rewire: in [0, 1]; 0 is the ring
    lattice. Drawn again until connected; allow_disconnected=True takes the first draw as it comes.
    Source: Watts and Strogatz, "Collective dynamics of 'small-world' networks", Nature 393, 1998.
    """
    n = integer(n, "n", 3, INT32_MAX)
    degree = integer(degree, "degree", 2, n - 1)
    if degree % 2:
        raise ValueError(f"degree: expected an even number (half of the neighbours on either side), got {degree}")
    if n * degree > INT32_MAX:
        raise ValueError(f"degree: expected n * degree below 2**31, got {n} * {degree}")
    rewire = real(rewire, "rewire", 0.0, 1.0)
    seed = _seed(seed)
    name = f"small_world({n}, {degree}, {rewire:g}, seed={seed})"
    return _redrawn(
        lambda draw: of_pairs(n, _draw.rewired_pairs(n, degree, rewire, seed, draw), name, True),
        f"degree: none of {_REDRAWS} graphs of n = {n}, degree = {degree} was connected; take a larger degree",
        allow_disconnected,
    )


@overload
def exponential(n: int, *, directed: Literal[False] = ...) -> Topology: ...
@overload
def exponential(n: int, *, directed: Literal[True]) -> Dynamic: ...
def exponential(n: int, *, directed: bool = False) -> Topology | Dynamic:
    """Every node i linked to i + 1, i + 2, i + 4, ... and i - 1, i - 2, i - 4, ... (modulo n): about 2 log2 n
    neighbours, and a disagreement that shrinks almost as if everybody heard everybody.

    directed=True: node i hears i - 1, i - 2, i - 4, ... only, ceil(log2 n) of them, and itself, each with weight
    1 / (1 + ceil(log2 n)). That is doubly stochastic but not symmetric, so it comes as a Dynamic of period 1.
    Source: Ying et al., "Exponential graph is provably efficient for decentralized deep training",
    NeurIPS 2021.
    """
    n = integer(n, "n", 1, INT32_MAX)
    hops = _powers(n)
    if directed:
        return Cycle([circulant(n, hops)], f"exponential({n}, directed=True)", False)
    i = np.arange(n, dtype=np.int64)
    pairs = [np.stack([i, (i + hop) % n], axis=1) for hop in hops]
    return _of_candidates(n, np.concatenate(pairs) if pairs else np.empty((0, 2), np.int64), f"exponential({n})")


def one_peer_exponential(n: int) -> Dynamic:
    """In round t every node i takes the mean of its own model and that of node i - 2^(t mod ceil(log2 n)), modulo n.

    One message a node and round. If n is a power of two, log2 n rounds make all models equal, exactly but for rounding;
    any other n only approaches that.
    Source: Ying et al., NeurIPS 2021 (see `exponential`); Assran et al., "Stochastic gradient push for
    distributed deep learning", ICML 2019.

    >>> one_peer_exponential(8).contraction(3)
    0.0
    """
    n = integer(n, "n", 1, INT32_MAX)
    rounds = [circulant(n, [hop]) for hop in _powers(n)] or [circulant(n, [])]
    return Cycle(rounds, f"one_peer_exponential({n})", False)


def sequence(graphs: Iterable[Topology], *, allow_disconnected: bool = False) -> Dynamic:
    """The given graphs on the same nodes, one a round, over and over.

    A single one may be in pieces; that all of them together are is refused unless allow_disconnected=True.
    """
    given = list(graphs)
    for k, graph in enumerate(given):
        if not isinstance(graph, Topology):
            raise TypeError(f"graphs[{k}]: expected a Topology, got {type(graph).__name__}")
    return Cycle(_alike(given, "graphs"), f"sequence({len(given)} graphs)", allow_disconnected)


def from_matrices(matrices: Iterable[Any], *, allow_disconnected: bool = False) -> Dynamic:
    """The given mixing matrices, one a round, over and over: whatever `MixingMatrix.from_any` takes.

    Rows must sum to 1 (ValueError names the matrix and its worst row). They need not be symmetric; the mean of the
    models stays what it is only if columns sum to 1 too. That some model never reaches some node is refused unless
    allow_disconnected=True.
    """
    given = []
    for k, matrix in enumerate(matrices):
        try:
            W = MixingMatrix.from_any(matrix)
            W.check(symmetric=False)
        except (TypeError, ValueError) as error:
            raise type(error)(f"matrices[{k}]: {error}") from None
        given.append(W)
    return Cycle(_alike(given, "matrices"), f"from_matrices({len(given)} matrices)", allow_disconnected)


def fresh_regular(n: int, degree: int, seed: int = 0) -> Dynamic:
    """A new random graph every round in which every node has `degree` neighbours, addressed by (seed, round).

    From degree 3 on every round's graph is connected (redrawn if need be). Degree 1 (random pairs) and 2 (random rings)
    are taken as they come: single rounds are in pieces, a few together are not. n * degree must be even, degree < n.
    """
    n, degree, seed = _regular_arguments(n, degree, seed)
    if degree == 0 and n > 1:
        raise ValueError(f"degree: 0 gives {n} separate nodes in every round; expected at least 1")
    return FreshRegular(n, degree, seed)


def from_edges(
    edges: npt.NDArray[np.integer[Any]] | Iterable[Sequence[int]],
    n: int | None = None,
    *,
    allow_disconnected: bool = False,
) -> Topology:
    """A graph from its edges: an integer array (m, 2) or pairs of node ids, each edge once, in either direction.

    n: number of nodes; None takes the largest id + 1. Raises TypeError for ids that are not integers, ValueError for a
    self loop, a duplicate (also reversed) or an id out of range, all naming the edge's position, and for a graph that
    is not connected unless allow_disconnected=True.
    """
    pairs = _pairs_from(edges)
    if n is None:
        if not len(pairs):
            raise ValueError("n: expected the number of nodes when there are no edges, got None")
        n = int(pairs.max(initial=0)) + 1
    n = integer(n, "n", 1, INT32_MAX)
    outside = ((pairs < 0) | (pairs >= n)).any(axis=1)
    if outside.any():
        k = int(np.argmax(outside))
        raise ValueError(f"edges[{k}]: expected node ids 0 to {n - 1}, got {tuple(pairs[k].tolist())}")
    loops = pairs[:, 0] == pairs[:, 1]
    if loops.any():
        k = int(np.argmax(loops))
        raise ValueError(f"edges[{k}]: expected two different nodes, got a self loop of {int(pairs[k, 0])}")
    again = _edgefile.first_repeat(np.sort(pairs, axis=1))
    if again is not None:
        k, first = again
        raise ValueError(f"edges[{k}]: {tuple(pairs[k].tolist())} is already there as edges[{first}]")
    return of_pairs(n, pairs, "edges", allow_disconnected)


def from_file(
    path: str | os.PathLike[str],
    *,
    form: Literal["auto", "edges", "adjacency"] = "auto",
    allow_disconnected: bool = False,
) -> Topology:
    """A graph from a text file. '#' starts a comment; a byte order mark is accepted.

    Edge list: 'i j' a line, blank lines are skipped. A line with a single number before the first edge is the number of
    nodes; without it, it is the largest id + 1. Every edge once, or every edge in both directions (as decentralizepy
    writes them).  Adjacency list (decentralizepy's too): the first line is n, then n lines, the k-th with the
    neighbours of node k; a blank line is a node without any.
    form: "auto" takes a file that starts with n and has n more lines, or lines of other than two numbers, as an
    adjacency list, any other as edges.
    ValueError with the line number for garbage, self loops, duplicates, ids out of range, a neighbour that does not
    list the node back; for a graph that is not connected unless allow_disconnected=True. OSError as open() raises it.
    """
    n, pairs = _edgefile.read(Path(path), form)
    return of_pairs(n, pairs, Path(path).name, allow_disconnected)


def from_networkx(g: networkx.Graph, *, allow_disconnected: bool = False) -> Topology:
    """A graph from a networkx.Graph. Nodes that are the integers 0 ... n-1 keep their numbers; any others are numbered
    in the order of g.nodes. Directed graphs and multigraphs are refused (TypeError), self loops too (ValueError)."""
    if not (hasattr(g, "is_directed") and hasattr(g, "is_multigraph") and hasattr(g, "edges")):
        raise TypeError(f"g: expected a networkx.Graph, got {type(g).__name__}")
    if g.is_directed() or g.is_multigraph():
        raise TypeError(
            f"g: expected an undirected networkx.Graph, got {type(g).__name__} (networkx.Graph(g) makes one)"
        )
    nodes = list(g.nodes)
    if not nodes:
        raise ValueError("g: expected at least 1 node, got 0")
    plain = all(type(v) is int for v in nodes) and set(nodes) == set(range(len(nodes)))
    number = {v: v if plain else k for k, v in enumerate(nodes)}
    pairs = np.array([(number[u], number[v]) for u, v in g.edges], dtype=np.int64).reshape(-1, 2)
    loops = pairs[:, 0] == pairs[:, 1]
    if loops.any():
        raise ValueError(f"g: expected no self loops, got one at node {nodes[int(pairs[loops][0, 0])]!r}")
    return of_pairs(len(nodes), pairs, str(g.name) or "networkx", allow_disconnected)


def from_matrix(a: Any, *, allow_disconnected: bool = False) -> Topology:
    """A graph from its adjacency matrix, dense (n, n) or scipy.sparse, of any numeric or boolean type: every entry that
    is not 0 is an edge. ValueError naming the entry if it is not symmetric, has a non-zero diagonal or a NaN."""
    if hasattr(a, "tocoo"):
        coo = a.tocsr().tocoo()  # by way of CSR: duplicate entries are added up
        shape, kind = tuple(coo.shape), coo.data.dtype.kind
        rows, columns, values = coo.row.astype(np.int64), coo.col.astype(np.int64), coo.data
        used = values != 0
        rows, columns, values = rows[used], columns[used], values[used]
    else:
        dense = np.asarray(a)
        shape, kind = dense.shape, dense.dtype.kind
        if dense.ndim == 2:
            rows, columns = np.nonzero(dense) if kind in "biuf" else (np.zeros(0, int), np.zeros(0, int))
            values = dense[rows, columns]
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 1:
        raise ValueError(f"a: expected shape (n, n), n >= 1, got {shape}")
    if kind not in "biuf":
        raise TypeError(f"a: expected numbers or booleans, got dtype kind {kind!r}")
    if kind == "f" and np.isnan(values).any():
        k = int(np.argmax(np.isnan(values)))
        raise ValueError(f"a: expected numbers, got nan at [{rows[k]}, {columns[k]}]")
    n = shape[0]
    loops = rows == columns
    if loops.any():
        k = int(np.argmax(loops))
        raise ValueError(f"a: expected a zero diagonal, got {values[k]} at [{rows[k]}, {columns[k]}]")
    there, back = rows * n + columns, columns * n + rows
    alone = ~np.isin(there, back)
    if alone.any():
        k = int(np.argmax(alone))
        i, j = int(rows[k]), int(columns[k])
        raise ValueError(f"a: expected a symmetric matrix, got {values[k]} at [{i}, {j}] and 0 at [{j}, {i}]")
    upper = rows < columns
    return of_pairs(n, np.stack([rows[upper], columns[upper]], axis=1).astype(np.int64), "matrix", allow_disconnected)


def _pairs_from(edges: object) -> npt.NDArray[np.int64]:
    if isinstance(edges, np.ndarray):
        if edges.dtype.kind not in "iu":
            raise TypeError(f"edges: expected integers, got dtype {edges.dtype}")
        if edges.ndim != 2 or edges.shape[1] != 2:
            raise ValueError(f"edges: expected shape (m, 2), got {edges.shape}")
        if edges.size and int(edges.max()) > INT32_MAX:
            k = int(np.argmax((edges > INT32_MAX).any(axis=1)))
            raise ValueError(f"edges[{k}]: expected node ids below 2**31 - 1, got {tuple(edges[k].tolist())}")
        return edges.astype(np.int64)
    if isinstance(edges, (str, bytes)) or not isinstance(edges, Iterable):
        raise TypeError(f"edges: expected pairs of node ids, got {type(edges).__name__}")
    pairs = []
    for k, edge in enumerate(edges):
        try:
            i, j = edge
        except (TypeError, ValueError):
            raise ValueError(f"edges[{k}]: expected two node ids, got {edge!r}") from None
        for node in (i, j):
            if isinstance(node, (bool, np.bool_)) or not hasattr(node, "__index__"):
                raise TypeError(f"edges[{k}]: expected integers, got {edge!r}")
            if not 0 <= operator.index(node) < INT32_MAX:
                raise ValueError(f"edges[{k}]: expected node ids 0 to 2**31 - 2, got {edge!r}")
        pairs.append((operator.index(i), operator.index(j)))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _of_candidates(n: int, pairs: npt.NDArray[np.int64], name: str) -> Topology:
    """From edges of a wrapped lattice: in small ones neighbours coincide, with each other or with the node."""
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    return of_pairs(n, pairs, name, False)


def _seed(seed: int) -> int:
    return integer(seed, "seed", 0, 2**64 - 1)


def _regular_arguments(n: int, degree: int, seed: int) -> tuple[int, int, int]:
    n = integer(n, "n", 1, INT32_MAX)
    degree = integer(degree, "degree", 0)
    if degree >= n:
        raise ValueError(f"degree: expected less than n = {n}, got {degree}")
    if n * degree % 2:
        raise ValueError(f"degree: expected an even n * degree (twice the edges), got {n} * {degree}")
    return n, degree, _seed(seed)


def _redrawn(draw: Callable[[int], Topology], hopeless: str, allow_disconnected: bool) -> Topology:
    """The first draw that is connected, or simply the first."""
    for number in range(_REDRAWS):
        topology = draw(number)
        if topology.is_connected or allow_disconnected:
            return topology
    raise ValueError(hopeless)


def _powers(n: int) -> list[int]:
    """1, 2, 4, ... below n: ceil(log2 n) of them."""
    return [1 << k for k in range((n - 1).bit_length())]


def _alike(given: list[Any], name: str) -> list[Any]:
    if not given:
        raise ValueError(f"{name}: expected at least one, got none")
    for k, one in enumerate(given):
        if one.n != given[0].n:
            raise ValueError(f"{name}[{k}]: expected {given[0].n} nodes as in {name}[0], got {one.n}")
    return given
