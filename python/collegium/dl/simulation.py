"""A decentralized run: four slots and a learner, put on the engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from .._check import choice, integer
from .._files import Path_
from ..engine import (
    Boundary,
    Context,
    EnergyModel,
    Evaluate,
    Exchange,
    ExchangeSlot,
    Executor,
    Learner,
    Ledger,
    Mechanism,
    synchronous,
)  # fmt: skip
from ..errors import Diverged
from ..history import History
from ._interrupt import Interrupt
from .accounting import FleetEnergy, Measured, energy_model
from .checkpoint import Keeper
from .dynamic import Dynamic
from .energy import DeviceFleet
from .evaluation import EvalFn, Evaluation
from .making import learner_for, place_of, with_validation
from .mixing import Mixing
from .population import Population
from .schedules import DPSGD, Schedule, checked_plan
from .topology import Topology

Callback = Callable[["Simulation"], "bool | None"]


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

    topology: a Topology or a time-varying one (`dl.topology.Dynamic`); nodes that no path joins never agree.
    schedule: who trains when (DPSGD, SkipTrain, Greedy or your own); default DPSGD().
    mechanism: what protects a message, or None.  exchange: how models travel and merge; default Mixing().
    model: a built-in model, trained in C (`dl.models.MLP`, `Softmax`, `MatrixFactorization`); or a function returning a
      torch.nn.Module, or a module, trained by torch (`dl.TorchLearner`).
    data: the parts of a data set, `dataset.partition(n, ...)`, or one (x, y) or torch Dataset a node.
    test: (x, y) or a torch Dataset to evaluate on, where `data` does not bring a test set.
    validation: share of the test set that becomes the validation set (columns val_...), or samples of its own: (x,
      y), a torch Dataset, or the second half of `data.holdout`.
    local_steps: steps of local SGD a training round.  Any further keyword goes to the learner: batch_size, lr,
      momentum, weight_decay, nesterov, reset_optimizer, gradient_hook (NativeLearner); optimizer, scheduler, loss,
      transform, buffers (TorchLearner).
    learner: a learner of your own, in place of model, data and its options.
    energy: a DeviceFleet; (n,) Wh of one training round of each node; or a function (round, rows) -> joules measured.
    init: "common", every node starts from the same model; "own", each from its own; or the state_dict (or the path of
      its safetensors file) that every node starts from.
    seed: everything random is addressed by it: same seed, same bits, whatever the number of the core's threads.
    device: "cuda" (or "cuda:N"; "auto": where there is one) trains all nodes of a torch model at once on a GPU
      (`dl.BatchedTorchLearner`) and keeps the models there from round to round. `batched=True` does so on the CPU.

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
        topology: Topology | Dynamic,
        *,
        schedule: Schedule | None = None,
        mechanism: Mechanism | None = None,
        exchange: ExchangeSlot | None = None,
        model: Any = None,
        data: Any = None,
        test: Any = None,
        validation: Any = None,
        local_steps: int = 1,
        learner: Learner | None = None,
        energy: DeviceFleet | ArrayLike | Measured | None = None,
        init: str | Mapping[str, Any] | Path_ = "common",
        seed: int = 0,
        device: str = "cpu",
        **options: Any,
    ) -> None:
        if not isinstance(topology, Topology | Dynamic):
            raise TypeError(f"topology: expected a Topology or a Dynamic, got {type(topology).__name__}")
        self.topology = topology
        n = topology.n
        self.schedule: Schedule = DPSGD() if schedule is None else schedule
        if not callable(getattr(self.schedule, "plan", None)):
            raise TypeError(f"schedule: expected an object with plan(rounds, n, seed), got {schedule!r}")
        self.exchange: ExchangeSlot = Mixing() if exchange is None else exchange
        self.seed = integer(seed, "seed", 0, 2**64 - 1)
        self.local_steps = integer(local_steps, "local_steps", 1)
        if learner is None:
            if model is None or data is None:
                raise TypeError("model, data: expected both, or a learner")
            test, validation = with_validation(data, test, validation)
            learner = learner_for(model, data, n, test, device, options)
        elif model is not None or data is not None or options or device != "cpu":
            raise TypeError(
                "learner: a learner of your own brings its model, data, device and options; leave them out here"
            )
        self.learner: Learner = learner
        self.energy: EnergyModel | None = energy_model(energy, n)
        self.population = Population(n, learner.shapes, device=place_of(learner))
        learner.bind(self.population, self.seed)
        self._init(init)
        self._evaluation = Evaluation(learner, self.seed, validation)
        self.validation = self._evaluation.validation
        self.mechanism = mechanism
        self._ctx = Context(seed=self.seed, topology=topology, mechanism=mechanism)
        bind = getattr(self.exchange, "bind", None)
        if bind is not None:
            bind(self._ctx)
        self._executor = Executor(
            self.population, learner, self.exchange, self._ctx,
            local_steps=self.local_steps, energy=self.energy, evaluate=lambda record: False,
        )  # fmt: skip
        self.history = History(repr(self.schedule))
        self.done: NDArray[np.uint8] = np.empty((0, n), np.uint8)
        self.first_models: str | None = None
        self._keeper: Keeper | None = None

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

    @property
    def inside_round(self) -> bool:
        """True where an exception left the models in the middle of a round: of no round at all."""
        return self._executor.inside_round

    def restored(self, ledger: Ledger, done: NDArray[np.uint8], history: History) -> None:
        """Takes over what a checkpoint holds beside the models and the slots' states. done: the plan so far."""
        self._executor.ledger, self._executor.inside_round = ledger, False
        self.done, self.history = done, history

    def evaluate(self, eval_samples: int | None = None, eval_fn: EvalFn | None = None) -> dict[str, Any]:
        """The row that an evaluation would add to the history now; nothing is added. Arguments as in `run`."""
        return self._evaluation.measure(self, Evaluate(self.round), self._evaluation.picked(eval_samples), eval_fn)[0]

    def plan(self, rounds: int) -> Plan:
        """What `run(rounds)` would do and cost, without training."""
        actions = checked_plan(self.schedule, integer(rounds, "rounds", 1), self.topology.n, self.seed)
        if isinstance(self.energy, FleetEnergy):
            return Plan(actions, *_core.energy(actions, self.energy.fleet.e_wh))
        return Plan(actions)

    def run(
        self,
        rounds: int,
        eval_every: int = 0,
        *,
        eval_samples: int | None = None,
        eval_fn: EvalFn | None = None,
        callback: Callback | Sequence[Callback] | None = None,
        log_consensus: bool = False,
        checkpoint: Path_ | None = None,
        checkpoint_every: int = 0,
        resume: bool = False,
        progress: bool | None = None,
    ) -> History:
        """Runs until `rounds` rounds are done in all (a second call goes on) and returns the history.

        eval_every: evaluate after every so many rounds, always after averaging; 0: at the end only. The end of the run
          is evaluated in any case. With SkipTrain take a multiple of its period: within one, nodes have just trained.
        eval_samples: evaluate on so many of the test samples, and of the validation samples, always the same ones; 0:
          on none, None: on all.
        eval_fn: function of the simulation, called at each evaluation; returns further columns: name -> number, or
          (n,) values of the nodes, whose mean it is then. The models are `sim.population.numpy()` on any device.
        callback: one or several functions of the simulation, called after each evaluation; True stops the run. A run
          that was stopped so stays as it is when it is resumed with a callback.
        log_consensus: also log the consensus distance after every round (`history.frame(per="round")`). Costs a pass
          over the models each round, and silent rounds can no longer be done in one pass.
        checkpoint: a folder that the history is written to line by line, and the state of the run every
          `checkpoint_every` rounds (0: at each evaluation) and at the end.
        resume: go on from the checkpoint if there is one, to the same bits as without interruption on the same
          instruction set. Refused with the differences if it is of another configuration. Without resume=True, a folder
          that holds another run is refused with FileExistsError.
        progress: show a tqdm bar; None: only on a terminal.

        Ctrl-C ends the run after the round at hand, with the history and a checkpoint complete, and raises
        KeyboardInterrupt; a second Ctrl-C does not wait. Raises ValueError if the schedule's plan for this total
        differs in rounds already done; `Diverged` if a model does not stay finite: with a checkpoint, history and
        models are then those of the last good round.
        """
        rounds = integer(rounds, "rounds", 1)
        eval_every = integer(eval_every, "eval_every", 0)
        save_every = integer(checkpoint_every, "checkpoint_every", 0)
        samples = self._evaluation.picked(eval_samples)
        callbacks = [] if callback is None else list(callback) if isinstance(callback, Sequence) else [callback]
        for name, function in [("callback", c) for c in callbacks] + [("eval_fn", eval_fn)]:
            if function is not None and not callable(function):
                raise TypeError(f"{name}: expected a function of the simulation, got {function!r}")
        actions = self.plan(rounds).actions

        def eval_at(t: int) -> bool:
            return eval_every > 0 and t % eval_every == 0

        def save_at(t: int) -> bool:
            return checkpoint is not None and (t % save_every == 0 if save_every else eval_at(t))

        def evaluate(record: Evaluate) -> bool:
            self.history.append(*self._evaluation.measure(self, record, samples, eval_fn))
            answers = [c(self) for c in callbacks]  # every one is asked
            return any(answer is not None and bool(answer) for answer in answers)

        def records() -> Any:
            fuse = getattr(self.exchange, "fuses", False) and not log_consensus
            return synchronous(actions, first=self.round, eval_at=eval_at, save_at=save_at, fuse=fuse)

        with nullcontext() if checkpoint is None else self._kept(checkpoint).locked():
            keeper = None if checkpoint is None else self._keeper
            if keeper is not None:
                if self.round == 0 and not self.inside_round:
                    self.first_models = self.first_models or self.population.digest()
                keeper.open(resume)
                if keeper.stopped and callbacks:
                    return self.history
                keeper.stopped = False
            self._check_start(rounds, actions)
            self._run(records, actions, evaluate, save_at, keeper, log_consensus, progress)
        return self.history

    # ---- the run ----

    def _kept(self, path: Path_) -> Keeper:
        if self._keeper is None or self._keeper.path.absolute() != Path(path).absolute():
            self._keeper = Keeper(self, path)
        return self._keeper

    def _check_start(self, rounds: int, actions: NDArray[np.uint8]) -> None:
        if self.inside_round:
            raise RuntimeError(
                f"the last run was cut short inside round {self.round}, and its models are of no round: go on from a "
                "checkpoint (resume=True), or start anew"
            )
        if rounds < self.round or not np.array_equal(actions[: self.round], self.done):
            raise ValueError(
                f"rounds: {self.round} rounds are done, and {self.schedule!r} plans them otherwise for a total of "
                f"{rounds}: run the full length at once, or start anew"
            )
        bad = self.population.find_nonfinite()
        if bad is not None:
            name = self.population.describe(int(bad[1]))
            raise ValueError(
                f"population: expected finite models, got {self.population.numpy()[bad]} in {name!r} of node {bad[0]}"
            )

    def _run(
        self,
        records: Callable[[], Any],
        actions: NDArray[np.uint8],
        evaluate: Callable[[Evaluate], bool],
        save_at: Callable[[int], bool],
        keeper: Keeper | None,
        log_consensus: bool,
        progress: bool | None,
    ) -> None:
        from tqdm.auto import tqdm

        executor, saved, stop_at, stopped = self._executor, self.round, len(actions), False
        bar = tqdm(
            total=len(actions), initial=self.round, desc=self.history.name, unit="round",
            disable=None if progress is None else not progress,
        )  # fmt: skip

        def after_exchange(record: Exchange) -> None:
            self.done = actions[: self.round]
            bar.update(record.rounds)
            if log_consensus:
                self.history.append_consensus(self.round, self.population.consensus()[1])

        def asked(record: Evaluate) -> bool:
            nonlocal stopped
            stopped = evaluate(record)
            return stopped

        def boundary(record: Boundary) -> bool:
            nonlocal saved
            if keeper is not None and save_at(record.round) and not stopped:
                keeper.save()
                saved = record.round
            return interrupt.asked or record.round >= stop_at

        executor.after_exchange, executor.boundary, executor.evaluate = after_exchange, boundary, asked
        try:
            with Interrupt() as interrupt:
                try:
                    executor.run(records())
                except Diverged as e:
                    if keeper is None:
                        raise
                    # Everything is addressed, so the rounds since the checkpoint can be had again.
                    stop_at = e.round
                    keeper.restore()
                    if self.round < stop_at:
                        executor.run(records())
                    keeper.save()
                    raise Diverged(e.node, e.round, e.parameter, str(keeper.checkpoint)) from None
                if keeper is not None and (saved != self.round or stopped):
                    keeper.save(stopped)
                if interrupt.asked and not len(self.history):
                    evaluate(Evaluate(self.round))  # something to look at; a resume does without it
        finally:
            bar.close()
            executor.after_exchange = executor.boundary = None

    def _init(self, init: str | Mapping[str, Any] | Path_) -> None:
        if isinstance(init, str) and init in ("common", "own"):
            self.learner.init(init)
            return
        if isinstance(init, Mapping):
            state = init
        elif isinstance(init, (str, os.PathLike)):
            state = _tensors_of(init)
        else:
            choice(init, "init", _INITS)
        self.learner.init("common")
        warm_start = getattr(self.learner, "warm_start", None)
        if warm_start is not None:
            warm_start(state)
            return
        self.population.load_row(0, state)
        first = self.population.numpy()[:1]
        self.population.fill_memory(np.broadcast_to(first, (self.population.n, self.population.size)))


_INITS = ("common", "own", "a state_dict", "the path of a safetensors file")


def _tensors_of(path: Path_) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not Path(path).is_file():
        choice(os.fspath(path), "init", _INITS)
    try:
        return load_file(path)
    except SafetensorError as e:
        raise ValueError(f"init: {path} is no safetensors file ({e})") from e
