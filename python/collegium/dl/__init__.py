"""Decentralized learning: topologies, mixing, schedules, exchanges, the simulation."""

from . import topology
from .weights import MixingMatrix

__all__ = ["MixingMatrix", "topology"]
