"""Mixing: every model becomes a weighted average of its neighbours', X <- W X."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from .._check import choice, integer
from .._where import on_device
from ..engine import Context
from ._describe import digest
from .dynamic import Dynamic
from .graph import Topology
from .population import Population
from .weights import MixingMatrix

Csr = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]


def mix(X: Any, W: Any, rounds: int = 1, *, columns: ArrayLike | None = None, out: Any = None) -> Any:
    """Applies mixing matrices to a matrix of models: W X, or W_k ... W_2 W_1 X in one pass over memory.

    X: float32 (n, P), row = model; a NumPy array with contiguous rows, a torch tensor (no copy), a Population, or any
      array in a CUDA device's memory: the work is done where the data is, on the caller's stream, without waiting.
    W: one mixing matrix (MixingMatrix, dense, scipy.sparse or an (indptr, indices, weights) tuple), used in each of
      `rounds` rounds; or a sequence of `rounds` of them, one a round.
    columns: (b + 1,) boundaries 0 ... P of column blocks; every round is then a sequence of b matrices, one a block.
    out: like X; None for a new array; X itself to mix in place. Any other overlap is refused.
    Returns out, of X's kind (an array for a Population). Bits do not depend on the number of threads, nor on fusing:
    rounds=k equals k calls. Memory-bound: 8 n P bytes whatever `rounds` is. Releases the GIL.
    Raises TypeError (dtype: nothing is cast), ValueError (shape, layout, overlap, a matrix that is not (n, n)).
    Source: D-PSGD (Lian et al., NeurIPS 2017), the averaging step.

    >>> mix(np.eye(2, dtype="f4"), np.array([[.75, .25], [.25, .75]]))
    array([[0.75, 0.25],
           [0.25, 0.75]], dtype=float32)
    """
    x = _array(X, "X")
    n, size = x.shape
    rounds = integer(rounds, "rounds", 1)
    edges = np.array([0, size] if columns is None else columns, dtype=np.int64)
    table = _table(W, rounds, len(edges) - 1, n, columns is not None)
    if on_device(x):
        from .. import cuda

        mixed = cuda.mix(x, table, edges, None if out is None else _array(out, "out"))
        return mixed if out is None else out
    if out is None:
        y = np.empty_like(x, order="C") if x.flags.c_contiguous else _core.zeros_rows(n, size)
    else:
        y = _array(out, "out")
    _core.mix(x, y, table, edges)
    if out is not None:
        return out
    return _torch_module(X).from_numpy(y) if _is_torch(X) else y


class Traffic(NamedTuple):
    """Bytes each node sent and received, int64 (n,)."""

    sent: NDArray[np.int64]
    received: NDArray[np.int64]


class _Step(NamedTuple):
    """A round's matrix and the messages each node sends and receives in it, int64 (n,)."""

    W: MixingMatrix
    sent: NDArray[np.int64]
    received: NDArray[np.int64]


class Mixing:
    """Exchange: gossip averaging over a graph. The default exchange; with it, DPSGD is D-PSGD.

    rounds: averaging steps an exchange, all over the graph of its round; a mechanism protects the first one only.
    weights: "metropolis", "uniform" (regular graphs), or a mixing matrix, or a `topology.Dynamic` with one a round, in
      place of the graph's; used as given, rows must sum to 1.

    The graph may change from round to round (`topology.Dynamic`): round t then takes the matrix of round t, and silent
    rounds are still done in one pass, with the bits of single ones.
    """

    fuses = on_device = True

    def __init__(self, rounds: int = 1, weights: Any = "metropolis") -> None:
        self.rounds = integer(rounds, "rounds", 1)
        self.weights = weights
        self._kind = "metropolis"
        self._graph: Dynamic | MixingMatrix | None = None
        self._steps: dict[int, _Step] = {}
        if isinstance(weights, str):
            self._kind = choice(weights, "weights", ("metropolis", "uniform"))
        elif isinstance(weights, Dynamic):
            self._graph = weights
        else:
            self._graph = MixingMatrix.from_any(weights)
            self._graph.check(symmetric=False)

    def __repr__(self) -> str:
        return f"Mixing(rounds={self.rounds}, weights={self.weights!r})"

    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for a run to go on, beside repr(self): weights of one's own."""
        graph = self._graph
        own = graph is not None and not isinstance(self.weights, str)
        return {"weights": digest(graph) if own and graph is not None else self._kind}

    def bind(self, ctx: Context) -> None:
        """Takes the graph of the run. Raises ValueError if the weights do not fit it."""
        topology: Topology | Dynamic | None = ctx.topology
        if isinstance(self.weights, str):
            if isinstance(topology, Topology):
                self._graph = topology.mixing(self.weights)
            elif isinstance(topology, Dynamic):
                self._graph = topology
            else:
                raise ValueError(f"topology: Mixing needs a graph, got {topology!r}")
            self._steps = {}
            for t in range(getattr(self._graph, "period", None) or 1):
                self._step(t)
        elif self._graph is not None and topology is not None and self._graph.n != topology.n:
            raise ValueError(f"weights: expected a matrix for {topology.n} nodes, got {self._graph.n}")

    def matrix(self, round: int = 0) -> MixingMatrix:
        """The mixing matrix of a round. Raises ValueError before the exchange knows its graph."""
        return self._step(integer(round, "round", 0)).W

    def step(self, X: NDArray[np.float32], *, round: int, ctx: Context | None = None) -> Traffic:
        """Mixes X (n, P) in place, `ctx.rounds` rounds at once; returns the bytes each node sent and received, 4 P a
        message: what a node hears of itself is none."""
        rounds = 1 if ctx is None else ctx.rounds
        constant = isinstance(self._graph, MixingMatrix)
        steps = [self._step(round + t) for t in range(1 if constant else rounds)]
        table = [s.W for s in steps for _ in range(self.rounds * rounds // len(steps))]
        size = 4 * X.shape[1] * len(table) // len(steps)
        if ctx is not None and ctx.mechanism is not None and len(ctx.trained):
            self._protected(X, table.pop(0), round, ctx)
        if table:
            mix(X, table[0] if constant else table, len(table), out=X)
        sent, received = steps[0].sent, steps[0].received
        for s in steps[1:]:
            sent, received = sent + s.sent, received + s.received
        return Traffic(sent * size, received * size)

    def _step(self, round: int) -> _Step:
        """Made once a matrix; of graphs that never repeat only the last is kept."""
        graph = self._graph
        if graph is None:
            raise ValueError("weights: Mixing has no graph yet: pass weights=G.mixing(...), or use it in a Simulation")
        period = 1 if isinstance(graph, MixingMatrix) else graph.period
        at = round if period is None else round % period
        if at not in self._steps:
            W = graph if isinstance(graph, MixingMatrix) else graph.matrix(at, self._kind)
            W.check(symmetric=False)
            if period is None:
                self._steps.clear()
            heard = np.repeat(np.arange(W.n), np.diff(W.indptr))
            carries = (heard != W.indices) & (W.weights != 0)
            sent, received = (np.bincount(ends[carries], minlength=W.n) for ends in (W.indices, heard))
            self._steps[at] = _Step(W, sent.astype(np.int64), received.astype(np.int64))
        return self._steps[at]

    @staticmethod
    def _protected(X: NDArray[np.float32], W: MixingMatrix, round: int, ctx: Context) -> None:
        """One round in which the rows that trained send what their mechanism says: other rows are mixed first."""
        assert ctx.mechanism is not None
        if on_device(X):  # mechanisms work on the host
            host = X.numpy_sync()  # type: ignore[attr-defined]
            Mixing._protected(host, W, round, ctx)
            X.fill_from(host)  # type: ignore[attr-defined]
            return
        loud = np.zeros(W.n, bool)
        loud[ctx.trained] = True
        silent = np.where(loud[W.indices], np.float32(0), W.weights)
        Y = mix(X, (W.indptr, W.indices, silent))
        receivers = W.T
        for sender in ctx.trained:
            span = slice(receivers.indptr[sender], receivers.indptr[sender + 1])
            recipients, weights = receivers.indices[span].astype(np.int64), receivers.weights[span]
            sent = ctx.mechanism.messages(
                X[sender], weights, round=round, sender=int(sender), recipients=recipients, seed=ctx.seed
            )
            if sent.shape != (len(recipients), X.shape[1]):
                raise ValueError(
                    f"{ctx.mechanism!r}.messages: expected shape {(len(recipients), X.shape[1])}, got {sent.shape}"
                )
            Y[recipients] += weights[:, None] * sent
        X[...] = Y


def _array(X: Any, name: str) -> Any:
    """The matrix of X where it lies: a NumPy array, or an array on a device."""
    if isinstance(X, Population):
        X = X.X
    if _is_torch(X):
        X = X.detach()
        if X.device.type == "cpu":
            X = X.numpy()
        elif X.device.type != "cuda":
            raise TypeError(f"{name}: expected a tensor on the CPU or a CUDA device, got one on {X.device}")
    if not isinstance(X, np.ndarray) and not on_device(X):
        raise TypeError(f"{name}: expected a NumPy array, a CPU tensor or a Population, got {type(X).__name__}")
    if X.ndim != 2:
        raise ValueError(f"{name}: expected shape (n, P), got {X.shape}")
    return X


def _table(W: Any, rounds: int, blocks: int, n: int, blocked: bool) -> list[list[Csr]]:
    per_round = isinstance(W, Sequence) and not (isinstance(W, tuple) and len(W) == 3 and not blocked)
    if blocked and not per_round:
        raise TypeError("W: with columns=, expected for each round a sequence of one matrix a block")
    if not per_round:
        return [[_csr(W, n)]] * rounds
    if len(W) != rounds:
        raise ValueError(f"W: expected one entry a round ({rounds}), got {len(W)}")
    table = [[_csr(b, n) for b in (r if blocked else [r])] for r in W]
    for t, row in enumerate(table):
        if len(row) != blocks:
            raise ValueError(f"W: expected {blocks} matrices in round {t}, one a column block, got {len(row)}")
    return table


def _csr(W: Any, n: int) -> Csr:
    m = W if isinstance(W, MixingMatrix) else MixingMatrix.from_any(W)
    if m.n != n:
        raise ValueError(f"W: expected a ({n}, {n}) matrix, got ({m.n}, {m.n})")
    return m.indptr, m.indices, m.weights


def _is_torch(X: Any) -> bool:
    return type(X).__module__.partition(".")[0] == "torch"


def _torch_module(X: Any) -> Any:
    import sys

    return sys.modules[type(X).__module__.partition(".")[0]]
