"""The folder of a long run: its last checkpoint and its history.

checkpoint.safetensors holds X, what the learner and the exchange keep beside it, and in its metadata the ledger, the
length and digest of the history and the fingerprint of the configuration. history.jsonl is appended to line by line.
Both survive `kill -9` at any moment: a checkpoint appears whole or not at all, and lines behind it are cut off on
resume. One process at a time: the folder is locked while a run goes on.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from .._files import Path_, load_tensors, save_tensors
from ..engine import Ledger
from ..history import History
from ._describe import describe, digest
from .accounting import FleetEnergy

if TYPE_CHECKING:
    from .simulation import Simulation

State = dict[str, Any]


class Keeper:
    """Keeps one simulation in a folder."""

    def __init__(self, sim: Simulation, path: Path_) -> None:
        self.sim = sim
        self.path = Path(path)
        self.checkpoint = self.path / "checkpoint.safetensors"
        self.history = self.path / "history.jsonl"
        self.stopped = False  # a callback ended the run that was restored
        self._written: tuple[int, int] | None = None  # of the checkpoint, when it was last written or read here

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Raises RuntimeError if another run is at work in this folder."""
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "lock", "w") as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RuntimeError(f"checkpoint: another run is at work in {self.path}") from None
            yield

    def open(self, resume: bool) -> None:
        """Makes the simulation what the folder holds, or the folder what the simulation is.

        Raises FileExistsError, ValueError (another configuration, damaged, written by another run since)."""
        there = self.checkpoint.exists()
        if self._written is not None and not self.sim.inside_round:
            if not there or self._written != self._stamp():
                raise ValueError(f"checkpoint: another run wrote to {self.path} since this simulation did")
        elif there and resume:
            self.restore()
        elif there:
            raise FileExistsError(
                f"checkpoint: {self.path} holds a run already: pass resume=True to go on with it, or remove it"
            )
        elif not self.sim.inside_round:
            self.sim.history.keep(self.history)
            self.save()

    def save(self, stopped: bool = False) -> None:
        """Writes the state of the run, which is between two rounds."""
        sim = self.sim
        parts: dict[str, State] = {
            "run": {"X": sim.population.memory_to_host(), "actions": np.packbits(sim.done)},
            "learner": _asked(sim.learner, "state_dict"),
            "exchange": getattr(sim.exchange, "state_dict", dict)(),
        }
        tensors: dict[str, NDArray[Any]] = {}
        plain: dict[str, State] = {}
        for part, state in parts.items():
            plain[part] = {k: v for k, v in state.items() if not isinstance(v, np.ndarray)}
            arrays = {k: v for k, v in state.items() if isinstance(v, np.ndarray)}
            tensors |= {f"{part}/{k}": np.asarray(v, order="C") for k, v in arrays.items()}
        size = sim.history.sync()
        meta = {
            "plain": plain, "ledger": asdict(sim.ledger), "stopped": stopped, "history_bytes": size,
            "history_sha256": self._history_digest(size), "fingerprint": fingerprint(sim),
        }  # fmt: skip
        save_tensors(self.checkpoint, "checkpoint", tensors, meta)
        self._written = self._stamp()

    def restore(self) -> None:
        """Makes the simulation what the checkpoint says. Nothing changes if it is of another configuration."""
        sim = self.sim
        tensors, meta = load_tensors(self.checkpoint, "checkpoint")
        wrong = differences(meta["fingerprint"], fingerprint(sim))
        if wrong:
            raise ValueError(f"resume: {self.path} is of another configuration: {'; '.join(wrong)}")
        size = meta["history_bytes"]
        if self._history_digest(size) != meta["history_sha256"]:
            raise ValueError(f"resume: {self.history} is not the history that the checkpoint was written with")
        parts: dict[str, State] = {part: dict(state) for part, state in meta["plain"].items()}
        for name, value in tensors.items():
            part, _, key = name.partition("/")
            parts[part][key] = value
        history = History.resume(self.history, size)
        ledger = Ledger(**meta["ledger"])
        n = sim.topology.n
        done = np.unpackbits(parts["run"]["actions"], count=ledger.rounds * n).reshape(-1, n)
        sim.learner.load_state_dict(parts["learner"])  # type: ignore[attr-defined]
        if parts["exchange"]:
            sim.exchange.load_state_dict(parts["exchange"])  # type: ignore[attr-defined]
        sim.population.fill_memory(parts["run"]["X"])
        sim.restored(ledger, done, history)
        self.stopped = meta["stopped"]
        self._written = self._stamp()

    def _history_digest(self, size: int) -> str:
        try:
            text = self.history.read_bytes()
        except FileNotFoundError:
            text = b""
        return hashlib.sha256(text[:size]).hexdigest() if len(text) >= size else "too short"

    def _stamp(self) -> tuple[int, int]:
        status = self.checkpoint.stat()
        return status.st_mtime_ns, status.st_ino


def fingerprint(sim: Simulation) -> dict[str, Any]:
    """What must be the same for a run to go on to the same bits."""
    slots = {"topology": sim.topology, "schedule": sim.schedule, "exchange": sim.exchange, "mechanism": sim.mechanism}
    fleet = sim.energy.fleet if isinstance(sim.energy, FleetEnergy) else None
    joules = () if fleet is None else (fleet.e_wh, fleet.joules_per_byte_sent, fleet.joules_per_byte_received)
    return {
        "shapes": [[k, list(v)] for k, v in sim.population.shapes.items()], "nodes": sim.topology.n,
        "seed": sim.seed, "local_steps": sim.local_steps, "isa": _core.isa(), "edges": digest(sim.topology),
        "first models": sim.first_models, "validation": describe(sim.validation),
        "energy": describe(sim.energy if fleet is None else [np.asarray(j) for j in joules]),
        **{k: describe(v) for k, v in slots.items()},
        **getattr(sim.exchange, "fingerprint", dict)(), **_asked(sim.learner, "fingerprint"),
    }  # fmt: skip


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Sentences for what is not the same in two fingerprints. First models that are not known (the run was not kept
    from its start) differ from none."""
    out = []
    for key in sorted(saved.keys() | now.keys()):
        a, b = saved.get(key), now.get(key)
        if a != b and not (key == "first models" and None in (a, b)):
            shown = [f"{v[:12]}..." if isinstance(v, str) and _is_digest(v) else repr(v) for v in (a, b)]
            out.append(f"{key} was {shown[0]}, is {shown[1]}")
    return out


def _is_digest(text: str) -> bool:
    """Is it a digest, of which the beginning tells enough?"""
    return len(text) == 64 and not set(text) - set("0123456789abcdef")


def _asked(learner: Any, method: str) -> State:
    if not hasattr(learner, method):
        raise TypeError(f"checkpoint: {type(learner).__name__} has no {method}(): see engine.Learner")
    return dict(getattr(learner, method)())
