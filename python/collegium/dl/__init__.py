"""Decentralized learning: nodes on a graph train locally and exchange models with their neighbours.

A `Simulation` has four slots: a topology, a schedule (who trains when), a mechanism (what protects a message) and an
exchange (how models travel and merge), and a learner that trains the models.
"""

from __future__ import annotations

from ..engine import Context, ExchangeSlot, Learner, Mechanism
from . import energy, models, topology
from .factorization import FactorizationLearner
from .learners import NativeLearner
from .mixing import Mixing, mix
from .population import Population
from .schedules import DPSGD, Greedy, Schedule, SkipTrain
from .simulation import Plan, Simulation
from .topology import Topology
from .weights import MixingMatrix

__all__ = [
    "DPSGD",
    "Context",
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
    "Topology",
    "energy",
    "mix",
    "models",
    "topology",
]
