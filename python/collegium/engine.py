"""The one engine under every learning system: records, and the executor that runs them.

An algorithm is a generator of records. TRAIN, EXCHANGE and EVALUATE are all that happens to models, and a BOUNDARY says
where a run may be saved or stopped; what they do is the learner's, the exchange's and the history's business.
Synchronous rounds, an event queue and federated cohorts are three generators; there is no second executor.
`docs/engine.md` shows how each published system uses it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import Diverged

if TYPE_CHECKING:
    from .dl.dynamic import Dynamic
    from .dl.population import Population
    from .dl.topology import Topology

Rows = NDArray[np.int64]


# ---- records ----


class Train(NamedTuple):
    """These rows take their local steps. round: 0-based; time: virtual seconds, or None where rounds are the clock."""

    round: int
    rows: Rows
    time: float | None = None


class Exchange(NamedTuple):
    """Models travel and merge. `trained` are the rows that trained since the last exchange: a mechanism protects their
    messages. `rounds` consecutive rounds with no training between them come as one record, if the exchange fuses.
    payload: what an event-driven generator tells its exchange (deliveries, say)."""

    round: int
    rounds: int
    trained: Rows
    time: float | None = None
    payload: Any = None


class Evaluate(NamedTuple):
    """Measure all models. round: number of rounds done."""

    round: int
    time: float | None = None


class Boundary(NamedTuple):
    """No round is half done: the state of the run can be written down, and the run may stop. round: rounds done."""

    round: int
    time: float | None = None


Record = Train | Exchange | Evaluate | Boundary

# Bytes an exchange moved: the network's total, or what each node sent and received, both int64 (n,).
Traffic = int | tuple[NDArray[np.int64], NDArray[np.int64]]


# ---- what a user implements ----


class Learner(Protocol):
    """Trains rows of a population in place. See `collegium.dl.NativeLearner`, `collegium.dl.TorchLearner`.

    shapes: name -> shape of one model's parameters.

    Optional, each needed by one feature only: `state_dict()` and `load_state_dict(state)`, name -> array or JSON value
    of all that training changes beside X (checkpoints); `fingerprint()`, JSON values that must be the same when a
    checkpoint is resumed; `test_size` and evaluate(X, samples), int64 indices into the test set (eval_samples,
    validation); `warm_start(state)`, if a state_dict holds more than X; `device`, "cuda:N", where the matrix
    shall lie: X is then a `cuda.Array`, or, with a warning, a NumPy array where `collegium.cuda` is off.
    """

    shapes: dict[str, tuple[int, ...]]

    def bind(self, population: Population, seed: int) -> None:
        """Called once, before anything else: the matrix to work on and the seed of everything random."""

    def init(self, mode: str) -> None:
        """Writes the initial models: "common" the same in every row, "own" one of its own in each."""

    def train(self, rows: Rows, steps: int, ctx: Context) -> NDArray[np.float64]:
        """`steps` local steps on each of `rows`; returns each row's mean training loss."""

    def evaluate(self, X: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        """Named metrics (m,) of the models X (m, P) on the test set; "accuracy" and "loss" are plotted."""


class ExchangeSlot(Protocol):
    """How models travel and merge. See `collegium.dl.Mixing`.

    Optional: `fuses = True` if step() can do `ctx.rounds` rounds at once; `bind(ctx)`, called once before the run, to
    refuse a topology or mechanism with a reason; `state_dict()` and `load_state_dict(state)` as a learner's;
    `on_device = True` if step() can work on a `cuda.Array`, else it gets models on a device as a copy on the host.
    """

    def step(self, X: NDArray[np.float32], *, round: int, ctx: Context | None = None) -> Traffic:
        """One exchange, X (n, P) changed in place; returns the bytes sent: of all nodes together, or a pair of int64
        (n,), what each sent and received."""


class Mechanism(Protocol):
    """What protects a message. An exchange asks it for what each recipient gets in place of the model."""

    def messages(
        self,
        x: NDArray[np.float32],
        weights: NDArray[np.float32],
        *,
        round: int,
        sender: int,
        recipients: Rows,
        seed: int,
    ) -> NDArray[np.float32]:
        """(k, P): row j goes to recipients[j]; the sender itself is one of them (its kept copy). weights: (k,), what
        recipient j gives to this sender."""


@dataclass
class Context:
    """What learners and exchanges may know of the run. The executor keeps it up to date."""

    seed: int = 0
    topology: Topology | Dynamic | None = None
    mechanism: Mechanism | None = None
    round: int = 0
    rounds: int = 1
    trained: Rows = field(default_factory=lambda: np.empty(0, np.int64))
    time: float | None = None
    payload: Any = None


# ---- the executor ----


@dataclass
class Ledger:
    """What a run has cost so far, over the whole network."""

    rounds: int = 0
    trainings: int = 0
    energy_wh: float = 0.0  # training and communication
    communication_wh: float = 0.0
    bytes_sent: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "exchange": 0.0, "evaluate": 0.0})


class EnergyModel(Protocol):
    """What training and sending cost; Wh throughout. See `collegium.dl.energy`."""

    def training_wh(self, record: Train) -> float:
        """Of the rows that just trained."""

    def communication_wh(self, traffic: Traffic) -> float:
        """Of one exchange."""


class Executor:
    """Runs records on a population, in order, and keeps the ledger.

    After every Train record its rows are checked for NaN and Inf, before anything of them is exchanged.
    evaluate: called with the record; returns True to stop the run at the next boundary.
    after_exchange: called with the record.  boundary: called with the record; returns True to stop the run there.
    """

    def __init__(
        self,
        population: Population,
        learner: Learner,
        exchange: ExchangeSlot,
        ctx: Context,
        *,
        local_steps: int,
        energy: EnergyModel | None = None,
        evaluate: Callable[[Evaluate], bool],
        after_exchange: Callable[[Exchange], None] | None = None,
        boundary: Callable[[Boundary], bool] | None = None,
    ) -> None:
        self.population = population
        self.learner = learner
        self.exchange = exchange
        self.ctx = ctx
        self.local_steps = local_steps
        self.energy = energy
        self.evaluate = evaluate
        self.after_exchange = after_exchange
        self.boundary = boundary
        self.ledger = Ledger()
        self.inside_round = False  # True after an exception in the middle of a round: X is then of no round at all

    def run(self, records: Iterable[Record]) -> None:
        """Runs until the records end or somebody says stop. Raises `Diverged`."""
        ledger, ctx = self.ledger, self.ctx
        stop = False
        for record in records:
            start = time.perf_counter()
            ctx.round, ctx.time = record.round, record.time
            if isinstance(record, Train):
                self.inside_round = True
                self.learner.train(record.rows, self.local_steps, ctx)
                ledger.seconds["train"] += time.perf_counter() - start
                self._check(record)
                ledger.trainings += len(record.rows)
                if self.energy is not None:
                    ledger.energy_wh += self.energy.training_wh(record)
            elif isinstance(record, Exchange):
                self.inside_round = True
                ctx.rounds, ctx.trained, ctx.payload = record.rounds, record.trained, record.payload
                self._book(self._exchange(record))
                ledger.seconds["exchange"] += time.perf_counter() - start
                ledger.rounds = record.round + record.rounds
                self.inside_round = False
                if self.after_exchange is not None:
                    self.after_exchange(record)
            elif isinstance(record, Evaluate):
                stop = self.evaluate(record) or stop
                ledger.seconds["evaluate"] += time.perf_counter() - start
            elif (self.boundary is not None and self.boundary(record)) or stop:
                break

    def _exchange(self, record: Exchange) -> Traffic:
        X = self.population.X
        if isinstance(X, np.ndarray) or getattr(self.exchange, "on_device", False):
            return self.exchange.step(X, round=record.round, ctx=self.ctx)
        host = X.numpy_sync()
        traffic = self.exchange.step(host, round=record.round, ctx=self.ctx)
        X.fill_from(host)
        return traffic

    def _book(self, traffic: Traffic) -> None:
        total = int(traffic[0].sum()) if isinstance(traffic, tuple) else int(traffic)
        self.ledger.bytes_sent += total
        if self.energy is not None:
            wh = self.energy.communication_wh(traffic)
            self.ledger.communication_wh += wh
            self.ledger.energy_wh += wh

    def _check(self, record: Train) -> None:
        bad = self.population.find_nonfinite(record.rows)
        if bad is not None:
            raise Diverged(int(bad[0]), record.round, self.population.describe(int(bad[1])))


def synchronous(
    actions: NDArray[np.uint8],
    *,
    first: int,
    eval_at: Callable[[int], bool],
    save_at: Callable[[int], bool] = lambda t: False,
    fuse: bool,
) -> Iterator[Record]:
    """Rounds in lock-step. actions: (T, n), 1 where a node trains; rounds `first` ... T-1 are run.

    Evaluations come after the exchange of a round, after the last one in any case; then a boundary. With fuse=True a
    round and the silent rounds behind it (nobody trains, nothing to evaluate or save between) are one Exchange record.
    """
    total = len(actions)
    busy: NDArray[np.bool_] = np.asarray(actions.any(axis=1))
    t = first
    while t < total:
        rows = np.flatnonzero(actions[t])
        if rows.size:
            yield Train(t, rows)
        end = t + 1
        while fuse and end < total and not busy[end] and not (eval_at(end) or save_at(end)):
            end += 1
        yield Exchange(t, end - t, rows)
        if end == total or eval_at(end):
            yield Evaluate(end)
        yield Boundary(end)
        t = end
