"""A decentralized run: four slots and a learner, put on the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from .._check import choice, integer
from ..data.datasets import as_parts
from ..engine import Context, Evaluate, Exchange, ExchangeSlot, Executor, Learner, Ledger, Mechanism, synchronous
from ..history import History
from .energy import DeviceFleet
from .learners import NativeLearner
from .mixing import Mixing
from .models import MLP
from .population import Population
from .schedules import DPSGD, Schedule, checked_plan
from .topology import Topology


@dataclass(frozen=True)
class Plan:
    """Who trains when, and what it costs, before anything is trained.

    actions: uint8 (T, n).  node_wh: (n,) Wh of each node.  cumulative_wh: (T,) of the network; both None without an
    energy model.
    """

    actions: NDArray[np.uint8]
    node_wh: NDArray[np.float64] | None = None
    cumulative_wh: NDArray[np.float64] | None = None

    @property
    def trainings(self) -> int:
        """Node-rounds of training."""
        return int(self.actions.sum(dtype=np.int64))

    @property
    def total_wh(self) -> float:
        """Wh of the network, NaN without an energy model."""
        return float("nan") if self.cumulative_wh is None else float(self.cumulative_wh[-1])

    def __repr__(self) -> str:
        rounds, n = self.actions.shape
        return f"Plan(rounds={rounds}, n={n}, trainings={self.trainings}, total_wh={self.total_wh:.6g})"


class Simulation:
    """Decentralized learning of n nodes in one process.

    topology: a Topology; nodes that no path joins never agree, so make it connected.
    schedule: who trains when (DPSGD, SkipTrain, Greedy or your own); default DPSGD().
    mechanism: what protects a message, or None.  exchange: how models travel and merge; default Mixing().
    model: a built-in model (`dl.models.MLP`, `Softmax`), trained in C.
    data: the parts of a data set, `dataset.partition(n, ...)`, or one (x, y) a node.
    test: (x, y) to evaluate on, where `data` does not bring a test set.
    local_steps, batch_size, lr, momentum, weight_decay, nesterov: local SGD as torch.optim.SGD defines it.
    gradient_hook: see NativeLearner.  learner: a learner of your own, in place of model and the local SGD options.
    energy: a DeviceFleet, or (n,) Wh of one training round of each node.
    init: "common", every node starts from the same model; "own", each from its own.
    seed: everything random is addressed by it: same seed, same bits, whatever the number of threads.

    Source: D-PSGD, Lian et al., NeurIPS 2017; each slot's class names its own.
    Raises TypeError or ValueError naming the argument.

    >>> from collegium import data, dl
    >>> parts = data.digits().partition(32, kind="shards", shards=2, seed=1)
    >>> sim = dl.Simulation(dl.topology.regular(32, 6, seed=1), schedule=dl.SkipTrain(4, 4),
    ...                     model=dl.models.MLP(64, 64, 10), data=parts, local_steps=20, batch_size=8, lr=0.1, seed=7)
    >>> hist = sim.run(rounds=16)
    >>> hist.last["trainings"]
    256
    """

    def __init__(
        self,
        topology: Topology,
        *,
        schedule: Schedule | None = None,
        mechanism: Mechanism | None = None,
        exchange: ExchangeSlot | None = None,
        model: MLP | None = None,
        data: Any = None,
        test: tuple[ArrayLike, ArrayLike] | None = None,
        local_steps: int = 1,
        batch_size: int = 32,
        lr: float = 0.1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        gradient_hook: Any = None,
        learner: Learner | None = None,
        energy: DeviceFleet | ArrayLike | None = None,
        init: str = "common",
        seed: int = 0,
    ) -> None:
        if not isinstance(topology, Topology):
            raise TypeError(f"topology: expected a Topology, got {type(topology).__name__}")
        self.topology = topology
        n = topology.n
        self.schedule: Schedule = DPSGD() if schedule is None else schedule
        self.exchange: ExchangeSlot = Mixing() if exchange is None else exchange
        self.seed = integer(seed, "seed", 0, 2**64 - 1)
        if learner is None:
            if model is None or data is None:
                raise TypeError("model, data: expected both, or a learner")
            parts = as_parts(data)
            if len(parts) != n:
                raise ValueError(f"data: expected one part a node ({n}), got {len(parts)}")
            learner = NativeLearner(
                model, parts, test=test, batch_size=batch_size, lr=lr, momentum=momentum,
                weight_decay=weight_decay, nesterov=nesterov, gradient_hook=gradient_hook,
            )  # fmt: skip
        elif model is not None or data is not None:
            raise TypeError("learner: a learner of your own brings its model and data; leave model= and data= out")
        self.learner: Learner = learner
        self.energy_wh = _energy(energy, n)
        self.population = Population(n, learner.shapes)
        learner.bind(self.population, self.seed)
        learner.init(choice(init, "init", ("common", "own")))
        ctx = Context(seed=self.seed, topology=topology, mechanism=mechanism)
        bind = getattr(self.exchange, "bind", None)
        if bind is not None:
            bind(ctx)
        self._executor = Executor(
            self.population, learner, self.exchange, ctx,
            local_steps=integer(local_steps, "local_steps", 1), energy_wh=self.energy_wh, evaluate=self._evaluate,
        )  # fmt: skip
        self.history = History(repr(self.schedule))
        self._done = np.empty((0, n), np.uint8)
        self._callback: Callable[[Simulation], bool | None] | None = None

    def __repr__(self) -> str:
        return f"Simulation({self.topology!r}, {self.schedule!r}, {self.exchange!r}, round {self.round})"

    @property
    def round(self) -> int:
        """Rounds done."""
        return self._executor.ledger.rounds

    @property
    def ledger(self) -> Ledger:
        """Rounds, trainings, Wh, bytes and seconds (train, exchange, evaluate) so far."""
        return self._executor.ledger

    def plan(self, rounds: int) -> Plan:
        """What `run(rounds)` would do and cost, without training."""
        actions = checked_plan(self.schedule, integer(rounds, "rounds", 1), self.topology.n, self.seed)
        if self.energy_wh is None:
            return Plan(actions)
        return Plan(actions, *_core.energy(actions, self.energy_wh))

    def run(
        self,
        rounds: int,
        eval_every: int = 0,
        *,
        callback: Callable[[Simulation], bool | None] | None = None,
        log_consensus: bool = False,
        progress: bool | None = None,
    ) -> History:
        """Runs until `rounds` rounds are done in all (a second call goes on) and returns the history.

        eval_every: evaluate after every so many rounds, always after averaging; 0: at the end only. The end of the run
          is evaluated in any case. With SkipTrain take a multiple of its period: within one, nodes have just trained.
        callback: called after each evaluation with the simulation; return True to stop.
        log_consensus: also log the consensus distance after every round (`history.frame(per="round")`). Costs a pass
          over the models each round, and silent rounds can no longer be done in one pass.
        progress: show a tqdm bar; None: only on a terminal.
        Raises ValueError if the schedule's plan for this total differs in rounds already done, `Diverged` if a model
        does not stay finite. Ctrl-C stops between two records: history and models stay usable.
        """
        from tqdm.auto import tqdm

        rounds = integer(rounds, "rounds", 1)
        eval_every = integer(eval_every, "eval_every", 0)
        actions = self.plan(rounds).actions
        if rounds < self.round or not np.array_equal(actions[: self.round], self._done):
            raise ValueError(
                f"rounds: {self.round} rounds are done, and {self.schedule!r} plans them otherwise for a total of "
                f"{rounds}: run the full length at once, or start anew"
            )
        records = synchronous(
            actions,
            first=self.round,
            eval_at=lambda t: eval_every > 0 and t % eval_every == 0,
            fuse=getattr(self.exchange, "fuses", False) and not log_consensus,
        )
        executor = self._executor
        bar = tqdm(
            total=rounds, initial=self.round, desc=self.history.name, unit="round",
            disable=None if progress is None else not progress,
        )  # fmt: skip

        def after_exchange(record: Exchange) -> None:
            bar.update(record.rounds)
            if log_consensus:
                self.history.append_consensus(self.round, self.population.consensus()[1])

        executor.after_exchange = after_exchange
        self._callback = callback
        try:
            executor.run(records)
        finally:
            bar.close()
            self._callback = executor.after_exchange = None
            self._done = actions[: self.round].copy()
        return self.history

    def _evaluate(self, record: Evaluate) -> bool:
        ledger = self._executor.ledger
        mean, consensus = self.population.consensus()
        nodes = self.learner.evaluate(self.population.X)
        of_mean = self.learner.evaluate(mean[None])
        row: dict[str, Any] = {
            "round": record.round,
            "accuracy": float(nodes["accuracy"].mean()),
            "accuracy_std": float(nodes["accuracy"].std()),
            "mean_model_accuracy": float(of_mean["accuracy"][0]),
            "loss": float(nodes["loss"].mean()),
            "consensus": consensus,
            "trainings": ledger.trainings,
            "energy_wh": float("nan") if self.energy_wh is None else ledger.energy_wh,
            "bytes_sent": ledger.bytes_sent,
        }
        row.update({k: float(v.mean()) for k, v in nodes.items() if k not in row})
        self.history.append(row, nodes)
        return self._callback is not None and self._callback(self) is True


def _energy(energy: DeviceFleet | ArrayLike | None, n: int) -> NDArray[np.float64] | None:
    if energy is None:
        return None
    fleet = energy if isinstance(energy, DeviceFleet) else DeviceFleet(energy)
    if len(fleet) != n:
        raise ValueError(f"energy: expected one device a node ({n}), got {len(fleet)}")
    return fleet.e_wh
