"""Communication graphs: undirected, without self loops, connected unless told otherwise."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from .. import _core
from .._check import INT32_MAX, frozen, integer
from . import _edgefile
from .weights import MixingMatrix

if TYPE_CHECKING:
    import networkx

__all__ = [
    "Topology",
    "complete",
    "from_edges",
    "from_file",
    "from_matrix",
    "from_networkx",
    "regular",
    "ring",
    "star",
    "torus",
]

_REDRAWS = 10_000  # of a random graph that came out in pieces; 2-regular ones on 10,000 nodes need about 55


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Topology:
    """An undirected graph of n nodes as CSR over open neighbourhoods. Immutable; equal if the edges are.

    indptr: int32 (n+1,).  indices: int32 (2m,), the neighbours of node i ascending in indices[indptr[i]:indptr[i+1]].
    The arrays are kept as read-only copies. Raises TypeError (dtype), ValueError (a self loop, an entry without its
    mirror image, ...) naming the bad entry. The functions of this module build one from friendlier input and refuse a
    graph that is not connected; this constructor takes any.
    """

    n: int
    indptr: npt.NDArray[np.int32]
    indices: npt.NDArray[np.int32]
    name: str = "graph"
    _memo: dict[str, float] = field(default_factory=dict, init=False)
    _sizes: tuple[int, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        n = integer(self.n, "n", 1)
        labels = _core.components(self.indptr, self.indices)
        if len(labels) != n:
            raise ValueError(f"indptr: expected shape ({n + 1},), got {self.indptr.shape}")
        sizes = sorted(np.bincount(labels).tolist(), reverse=True)
        object.__setattr__(self, "_sizes", tuple(sizes))
        for name in ("indptr", "indices"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    def __repr__(self) -> str:
        low, high = int(self.degrees.min()), int(self.degrees.max())
        degree = f"degree {low}" if low == high else f"degrees {low} to {high}"
        pieces = "" if self.is_connected else f", {len(self._sizes)} components"
        return f"<Topology {self.name}: {self.n} nodes, {len(self.indices) // 2} edges, {degree}{pieces}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Topology):
            return NotImplemented
        same = self.n == other.n and np.array_equal(self.indptr, other.indptr)
        return same and np.array_equal(self.indices, other.indices)

    def __hash__(self) -> int:
        return hash((self.n, self.indptr.tobytes(), self.indices.tobytes()))

    @property
    def degrees(self) -> npt.NDArray[np.int32]:
        """Number of neighbours of every node, int32 (n,)."""
        return np.diff(self.indptr)

    @property
    def edges(self) -> npt.NDArray[np.int64]:
        """Every edge once, int64 (m, 2), the smaller node first, in ascending order."""
        rows = np.repeat(np.arange(self.n, dtype=np.int64), self.degrees)
        once = rows < self.indices
        return np.stack([rows[once], self.indices[once].astype(np.int64)], axis=1)

    def neighbors(self, i: int) -> npt.NDArray[np.int32]:
        """The neighbours of node i, ascending, without i: a read-only view."""
        node = integer(i, "i", 0, self.n - 1)
        return self.indices[self.indptr[node] : self.indptr[node + 1]]

    @property
    def is_connected(self) -> bool:
        """Is there a path between any two nodes?"""
        return len(self._sizes) == 1

    @property
    def component_sizes(self) -> tuple[int, ...]:
        """Number of nodes of every connected component, largest first."""
        return self._sizes

    def mixing(self, kind: str = "metropolis") -> MixingMatrix:
        """A symmetric, doubly stochastic mixing matrix on this graph.

        "metropolis": w_ij = 1 / (1 + max(degree_i, degree_j)), w_ii = 1 - sum_j w_ij (Metropolis-Hastings; right on any
        graph).  "uniform": 1 / (degree + 1) everywhere; the same matrix on a regular graph, ValueError on any other.
        """
        if kind not in ("metropolis", "uniform"):
            raise ValueError(f'kind: expected "metropolis" or "uniform", got {kind!r}')
        low, high = int(self.degrees.min()), int(self.degrees.max())
        if kind == "uniform" and low != high:
            raise ValueError(
                f'kind: "uniform" needs equal degrees, got {low} to {high}: with 1 / (degree + 1) the mean of the '
                'models would drift; use "metropolis"'
            )
        return MixingMatrix(self.n, *_core.metropolis_weights(self.indptr, self.indices))

    @property
    def lambda2(self) -> float:
        """Second largest modulus of the eigenvalues of the Metropolis matrix; 1 if not connected. Computed once."""
        if "lambda2" not in self._memo:
            self._memo["lambda2"] = self.mixing().lambda2 if self.is_connected else 1.0
        return self._memo["lambda2"]

    def suggested_sync_rounds(self, target: float = 0.01) -> int:
        """Mixing rounds after which the disagreement between nodes is at most `target` of what it was.

        ceil(ln(target) / ln(lambda2)), at least 1 (SkipTrain, section 3: 17 on a 6-regular graph of 256 nodes, lambda2
        0.762). target: in (0, 1). ValueError for a graph that is not connected: no number of rounds would do.
        """
        if isinstance(target, bool) or not isinstance(target, (int, float, np.integer, np.floating)):
            raise TypeError(f"target: expected a number, got {target!r}")
        if not 0.0 < target < 1.0:
            raise ValueError(f"target: expected a number between 0 and 1, got {target!r}")
        if not self.is_connected:
            raise ValueError(f"{_in_pieces(self.n, self._sizes)}: no number of rounds makes the nodes agree")
        if self.lambda2 >= 1.0:
            raise ValueError(f"lambda2 of {self!r} cannot be told from 1 in float32: it mixes too slowly to say")
        if self.lambda2 == 0.0:
            return 1
        return max(1, math.ceil(math.log(target) / math.log(self.lambda2)))

    def to_networkx(self) -> networkx.Graph:
        """The graph as networkx.Graph on the nodes 0 ... n-1. Needs networkx."""
        try:
            import networkx
        except ImportError as error:
            raise ImportError("Topology.to_networkx needs networkx: pip install networkx") from error
        g = networkx.Graph(name=self.name)
        g.add_nodes_from(range(self.n))
        g.add_edges_from(self.edges.tolist())
        return g

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the graph as text: n, then a line with the neighbours of every node ("adjacency" form of `from_file`,
        which decentralizepy reads too)."""
        lines = [str(self.n)]
        lines += [" ".join(map(str, self.neighbors(i).tolist())) for i in range(self.n)]
        Path(path).write_text("\n".join(lines) + "\n", encoding="ascii")


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
    return _of_rows(_core.regular_graph(n, n - 1, 0, 0), f"complete({n})")


def star(n: int) -> Topology:
    """Node 0 linked to all others, which know only it. n >= 1."""
    n = integer(n, "n", 1, INT32_MAX)
    leaves = np.arange(1, n, dtype=np.int64)
    return _of_pairs(n, np.stack([np.zeros_like(leaves), leaves], axis=1), f"star({n})", False)


def regular(n: int, degree: int, seed: int = 0, *, allow_disconnected: bool = False) -> Topology:
    """A random graph in which every node has `degree` neighbours: the same one for the same n, degree and seed.

    n * degree must be even, degree < n. Drawn again until connected (from degree 3 on the first draw nearly always is).
    Degree 1 only gives separate pairs: ValueError for n > 2; degree 0 for n > 1. allow_disconnected=True takes the
    first draw as it comes. seed: 0 to 2**64 - 1. Uniform for degree <= 3, nearly so above (Steger and Wormald, 1999).
    """
    n = integer(n, "n", 1, INT32_MAX)
    degree = integer(degree, "degree", 0)
    seed = integer(seed, "seed", 0, 2**64 - 1)
    if degree >= n:
        raise ValueError(f"degree: expected less than n = {n}, got {degree}")
    if n * degree % 2:
        raise ValueError(f"degree: expected an even n * degree (twice the edges), got {n} * {degree}")
    name = f"regular({n}, {degree}, seed={seed})"
    if not allow_disconnected and degree < 2 and n > degree + 1:
        pieces = f"{n // 2} separate pairs" if degree == 1 else f"{n} separate nodes"
        raise ValueError(
            f"degree: {degree} gives {pieces}; a connected graph of {n} nodes needs at least 2 "
            "(allow_disconnected=True takes it as it is)"
        )
    for draw in range(_REDRAWS):
        topology = _of_rows(_core.regular_graph(n, degree, seed, draw), name)
        if topology.is_connected or allow_disconnected:
            return topology
    raise ValueError(f"degree: none of {_REDRAWS} graphs of n = {n}, degree = {degree} was connected; use ring(n)")


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
    return _of_pairs(n, pairs, "edges", allow_disconnected)


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
    return _of_pairs(n, pairs, Path(path).name, allow_disconnected)


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
    return _of_pairs(len(nodes), pairs, str(g.name) or "networkx", allow_disconnected)


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
    return _of_pairs(n, np.stack([rows[upper], columns[upper]], axis=1).astype(np.int64), "matrix", allow_disconnected)


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


def _in_pieces(n: int, sizes: Sequence[int]) -> str:
    """What is wrong with a disconnected graph: its component sizes, those above 1 in `sizes` (as many as fit)."""
    large = [s for s in sizes if s > 1]
    alone = n - sum(large)
    parts = []
    if large:
        more = f", ... ({len(large)} of them)" if len(large) > 8 else ""
        parts.append(f"components of {', '.join(map(str, large[:8]))}{more} nodes")
    if alone:
        parts.append(f"{alone} node{'s' if alone > 1 else ''} without neighbours")
    return f"topology: expected a connected graph, got {' and '.join(parts)}"


def _csr(n: int, pairs: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    indptr = np.zeros(n + 1, np.int32)
    np.cumsum(np.bincount(both[:, 0], minlength=n), out=indptr[1:])
    return indptr, both[:, 1].astype(np.int32)


def _of_pairs(n: int, pairs: npt.NDArray[np.int64], name: str, allow_disconnected: bool) -> Topology:
    """From edges that are valid and different. Refuses a graph in pieces before it makes arrays of n elements: n may
    come from one absurd id."""
    if 2 * len(pairs) > INT32_MAX:
        raise ValueError(f"edges: expected fewer than 2**30, got {len(pairs)}")
    if not allow_disconnected and n - 1 > len(pairs):
        used, compact = np.unique(pairs, return_inverse=True)
        labels = _core.components(*_csr(len(used), compact.reshape(-1, 2).astype(np.int64)))
        raise ValueError(_refusal(n, sorted(np.bincount(labels).tolist(), reverse=True)))
    topology = Topology(n, *_csr(n, pairs), name)
    if not (allow_disconnected or topology.is_connected):
        raise ValueError(_refusal(n, topology.component_sizes))
    return topology


def _refusal(n: int, sizes: Sequence[int]) -> str:
    return f"{_in_pieces(n, sizes)} (allow_disconnected=True takes it as it is)"


def _of_candidates(n: int, pairs: npt.NDArray[np.int64], name: str) -> Topology:
    """From edges of a wrapped lattice: in small ones neighbours coincide, with each other or with the node."""
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    return _of_pairs(n, pairs, name, False)


def _of_rows(nbr: npt.NDArray[np.int32], name: str) -> Topology:
    n, degree = nbr.shape
    return Topology(n, np.arange(n + 1, dtype=np.int32) * np.int32(degree), nbr.ravel(), name)
