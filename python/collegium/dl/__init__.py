"""Decentralized learning: nodes on a graph train locally and exchange models with their neighbours.

A `Simulation` has four slots: a topology, a schedule (who trains when), a mechanism (what protects a message) and an
exchange (how models travel and merge), and a learner that trains the models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..engine import Context, ExchangeSlot, Learner, Mechanism
from . import energy, models, topology
from .callbacks import EarlyStopping
from .factorization import FactorizationLearner
from .learners import NativeLearner
from .mixing import Mixing, mix
from .population import Population
from .schedules import DPSGD, Greedy, Schedule, SkipTrain
from .simulation import Plan, Simulation
from .sweeps import Sweep, sweep
from .topology import Topology
from .weights import MixingMatrix

if TYPE_CHECKING:
    from .torch_batched import BatchedTorchLearner
    from .torch_learner import TorchLearner

__all__ = [
    "DPSGD",
    "BatchedTorchLearner",
    "Context",
    "EarlyStopping",
    "ExchangeSlot",
    "FactorizationLearner",
    "Greedy",
    "Learner",
    "Mechanism",
    "Mixing",
    "MixingMatrix",
    "NativeLearner",
    "Plan",
    "Population",
    "Schedule",
    "Simulation",
    "SkipTrain",
    "Sweep",
    "Topology",
    "TorchLearner",
    "energy",
    "mix",
    "models",
    "sweep",
    "topology",
]


def __getattr__(name: str) -> Any:
    if name not in ("TorchLearner", "BatchedTorchLearner"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from .torch_batched import BatchedTorchLearner
        from .torch_learner import TorchLearner
    except ImportError as e:
        raise ImportError(f"dl.{name} needs PyTorch: pip install 'collegium[torch]' ({e})") from e
    return TorchLearner if name == "TorchLearner" else BatchedTorchLearner
