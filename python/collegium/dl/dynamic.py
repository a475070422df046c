"""Graphs that change from round to round. `collegium.dl.topology` makes the usual ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from .. import _core
from .._check import choice, integer
from .graph import Topology, of_pairs, of_rows
from .weights import MixingMatrix

__all__ = ["Dynamic"]

_DRAW_SHIFT = 24  # a redrawn graph's address: the round in the low bits, the number of the draw above them
_SURELY_CONNECTED = 3  # from this degree on a random regular graph nearly always is connected, and is redrawn if not


class Dynamic(ABC):
    """A graph for every round 0, 1, ... on the same n nodes; give it to a Simulation in place of a Topology.

    n: number of nodes.  period: rounds after which it repeats, None if it never does.  name: what made it.
    Made by `topology.sequence`, `from_matrices`, `fresh_regular`, `one_peer_exponential` and `exponential`. One of your
    own is a subclass with `at(round)`, which must not look at anything but its argument and what the object was made
    of, and with `is_connected` where the period is None.
    """

    def __init__(self, n: int, period: int | None, name: str) -> None:
        self.n = integer(n, "n", 1)
        self.period = None if period is None else integer(period, "period", 1)
        self.name = name
        self._memo: dict[tuple[int, str], MixingMatrix] = {}

    def __repr__(self) -> str:
        every = "never repeats" if self.period is None else f"repeats after {self.period} rounds"
        return f"<Dynamic {self.name}: {self.n} nodes, {'constant' if self.period == 1 else every}>"

    @abstractmethod
    def at(self, round: int) -> Topology | MixingMatrix:
        """What was given for this round (0, 1, ...): a graph, or the matrix itself."""

    def graph(self, round: int) -> Topology | None:
        """Who hears whom in this round; it need not be connected. None where some node hears another that does not hear
        it back: such a round is directed, and only its `matrix` tells."""
        given = self.at(_round(round))
        if isinstance(given, Topology):
            return given
        senders, receivers = _links(given)
        if set(zip(senders.tolist(), receivers.tolist())) != set(zip(receivers.tolist(), senders.tolist())):
            return None
        once = senders < receivers
        return of_pairs(self.n, np.stack([senders[once], receivers[once]], axis=1), f"{self.name}, round {round}", True)

    def matrix(self, round: int, kind: str = "metropolis") -> MixingMatrix:
        """The mixing matrix of this round.

        kind: as in `Topology.mixing`, for rounds that are graphs. Rounds that are matrices have their weights already:
        "uniform" is refused there (ValueError).
        """
        choice(kind, "kind", ("metropolis", "uniform"))
        at = _round(round) if self.period is None else _round(round) % self.period
        if (at, kind) in self._memo:
            return self._memo[at, kind]
        given = self.at(at)
        if isinstance(given, Topology):
            given = given.mixing(kind)
        elif kind != "metropolis":
            raise ValueError(f"kind: the rounds of {self.name} are matrices and have their weights; got {kind!r}")
        if self.period is not None:
            self._memo[at, kind] = given
        return given

    @property
    def is_connected(self) -> bool:
        """Can every node's model reach every other, along the edges of all rounds of a period together?"""
        if self.period is None:
            raise TypeError(f"{type(self).__name__} never repeats: it must define is_connected itself")
        rounds = [self.at(t) for t in range(self.period)]
        if any(isinstance(given, Topology) and given.is_connected for given in rounds):
            return True
        links = [_links(self.matrix(t)) for t in range(self.period)]
        senders, receivers = (np.concatenate(side) for side in zip(*links))
        return _reaches_all(self.n, senders, receivers) and _reaches_all(self.n, receivers, senders)

    def contraction(self, rounds: int | None = None, first: int = 0) -> float:
        """How much of the disagreement between nodes is left, at most, after `rounds` rounds from round `first` on.

        The spectral norm of (I - J) W_last ... W_first (I - J), J = 1/n everywhere: for one symmetric matrix lambda2,
        0 for exact consensus. rounds: default one period. Dense, O(rounds n^3): for n up to a few thousand.
        """
        if rounds is None and self.period is None:
            raise ValueError(f"rounds: expected a number, as {self.name} never repeats, got None")
        rounds = integer(self.period if rounds is None else rounds, "rounds", 0)
        product = np.eye(self.n) - 1.0 / self.n
        for t in range(_round(first), _round(first) + rounds):
            product = self.matrix(t).toarray() @ product
        return float(np.linalg.norm(product - product.mean(axis=0), 2))


class Cycle(Dynamic):
    """Given graphs or matrices, one a round, over and over."""

    def __init__(self, given: Iterable[Topology | MixingMatrix], name: str, allow_disconnected: bool) -> None:
        self._given = tuple(given)
        super().__init__(self._given[0].n, len(self._given), name)
        if not allow_disconnected:
            self._refuse_pieces()

    def at(self, round: int) -> Topology | MixingMatrix:
        """The graph or matrix at round mod period."""
        return self._given[_round(round) % len(self._given)]

    def _refuse_pieces(self) -> None:
        if self.is_connected:
            return
        links = np.concatenate([np.stack(_links(self.matrix(t)), axis=1) for t in range(len(self._given))])
        of_pairs(self.n, np.unique(np.sort(links, axis=1), axis=0), self.name, False)
        raise ValueError(
            f"{self.name}: expected every node's model to reach every other over its {self.period} rounds, but some "
            "edges lead one way only (allow_disconnected=True takes it as it is)"
        )


class FreshRegular(Dynamic):
    """A new random regular graph every round, addressed by (seed, round)."""

    def __init__(self, n: int, degree: int, seed: int) -> None:
        super().__init__(n, None, f"fresh_regular({n}, {degree}, seed={seed})")
        self.degree, self.seed = degree, seed

    @property
    def is_connected(self) -> bool:
        """True: from degree 3 on every round's graph is connected, below it a few rounds together are."""
        return True

    def at(self, round: int) -> Topology:
        """The graph of round 0 ... 2**24 - 1."""
        round = integer(round, "round", 0, 2**_DRAW_SHIFT - 1)
        for draw in range(2 ** (32 - _DRAW_SHIFT)):
            address = round | draw << _DRAW_SHIFT
            graph = of_rows(_core.regular_graph(self.n, self.degree, self.seed, address), f"{self.name}, round {round}")
            if graph.is_connected or self.degree < _SURELY_CONNECTED:
                return graph
        raise ValueError(f"degree: no connected graph of n = {self.n}, degree = {self.degree} in {draw + 1} draws")


def circulant(n: int, hops: Iterable[int]) -> MixingMatrix:
    """Every node i hears i - h for each of `hops` (different modulo n, none 0) and itself, all with the same weight."""
    back = np.array([0, *hops], dtype=np.int64)
    rows = np.arange(n, dtype=np.int64)[:, None]
    indices = np.sort((rows - back) % n, axis=1)
    weights = np.full(indices.shape, 1.0 / len(back), np.float32)
    # As in Metropolis weights: the diagonal takes the rounding of the others, so that the row sums to 1.
    weights[indices == rows] = np.float32(1.0 - (len(back) - 1) * float(weights[0, 0]))
    indptr = np.arange(n + 1, dtype=np.int32) * np.int32(len(back))
    return MixingMatrix(n, indptr, indices.astype(np.int32).ravel(), weights.ravel())


def _round(round: int) -> int:
    return integer(round, "round", 0)


def _links(W: MixingMatrix) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Sender and receiver of every message."""
    receivers = np.repeat(np.arange(W.n, dtype=np.int64), np.diff(W.indptr))
    carries = (receivers != W.indices) & (W.weights != 0)
    return W.indices[carries].astype(np.int64), receivers[carries]


def _reaches_all(n: int, tails: npt.NDArray[np.int64], heads: npt.NDArray[np.int64]) -> bool:
    """Does a path along tails -> heads lead from node 0 to every node?"""
    seen = np.zeros(n, bool)
    seen[0] = True
    count = 0
    while count < (count := int(seen.sum())):
        seen[heads[seen[tails]]] = True
    return count == n
