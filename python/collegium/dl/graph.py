"""The graph itself: who can hear whom. `collegium.dl.topology` makes them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .. import _core
from .._check import INT32_MAX, frozen, integer
from .weights import MixingMatrix

if TYPE_CHECKING:
    import networkx
    from matplotlib.figure import Figure

__all__ = ["Topology"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Topology:
    """An undirected graph of n nodes as CSR over open neighbourhoods. Immutable; equal if the edges are.

    indptr: int32 (n+1,).  indices: int32 (2m,), the neighbours of node i ascending in indices[indptr[i]:indptr[i+1]].
    The arrays are kept as read-only copies. Raises TypeError (dtype), ValueError (a self loop, an entry without its
    mirror image, ...) naming the bad entry. The functions of `topology` build one from friendlier input and refuse a
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

    def plot(self) -> Figure:
        """The graph as a matplotlib figure: `collegium.plot.topology`."""
        from .. import plot

        return plot.topology(self)

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


def of_pairs(n: int, pairs: npt.NDArray[np.int64], name: str, allow_disconnected: bool) -> Topology:
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


def of_rows(nbr: npt.NDArray[np.int32], name: str) -> Topology:
    n, degree = nbr.shape
    return Topology(n, np.arange(n + 1, dtype=np.int32) * np.int32(degree), nbr.ravel(), name)
