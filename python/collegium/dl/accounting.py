"""What training and sending cost in a run: a fleet's table, or joules that somebody measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..engine import Rows, Traffic, Train
from .energy import DeviceFleet

JOULES_PER_WH = 3600.0
Measured = Callable[[int, Rows], ArrayLike]


class FleetEnergy:
    """A fleet's Wh a training round, and its joules a byte."""

    def __init__(self, fleet: DeviceFleet) -> None:
        self.fleet = fleet
        self._sent = np.broadcast_to(np.asarray(fleet.joules_per_byte_sent, np.float64), len(fleet))
        self._received = np.broadcast_to(np.asarray(fleet.joules_per_byte_received, np.float64), len(fleet))
        self._free = not (self._sent.any() or self._received.any())

    def training_wh(self, record: Train) -> float:
        """Of the rows that just trained."""
        return float(self.fleet.e_wh[record.rows].sum())

    def communication_wh(self, traffic: Traffic) -> float:
        """Of one exchange; where only the network's total is known, by the mean joules a byte."""
        if self._free:
            return 0.0
        if isinstance(traffic, tuple):
            joules = float(self._sent @ traffic[0] + self._received @ traffic[1])
        else:
            joules = traffic * float(self._sent.mean() + self._received.mean())
        return joules / JOULES_PER_WH


class MeasuredEnergy:
    """Joules from a power meter: `joules(round, rows)` is called after these rows trained and returns a number for all
    of them, or one for each."""

    def __init__(self, joules: Measured) -> None:
        self.joules = joules

    def training_wh(self, record: Train) -> float:
        """Of the rows that just trained. Raises ValueError naming the round if a value is negative or not finite."""
        value: NDArray[Any] = np.asarray(self.joules(record.round, record.rows), np.float64)
        if value.shape not in ((), (len(record.rows),)):
            raise ValueError(f"energy: expected a number or shape ({len(record.rows)},), got {value.shape}")
        if not np.all(np.isfinite(value)) or (value < 0).any():
            raise ValueError(f"energy: expected joules of at least 0 in round {record.round}, got {value}")
        return float(value.sum()) / JOULES_PER_WH

    def communication_wh(self, traffic: Traffic) -> float:
        """None of its own: a meter sees both."""
        return 0.0


def energy_model(energy: Any, n: int) -> FleetEnergy | MeasuredEnergy | None:
    """What Simulation takes as energy=. Raises ValueError if a fleet is not one of n devices."""
    if energy is None:
        return None
    if callable(energy):
        return MeasuredEnergy(energy)
    fleet = energy if isinstance(energy, DeviceFleet) else DeviceFleet(energy)
    if len(fleet) != n:
        raise ValueError(f"energy: expected one device a node ({n}), got {len(fleet)}")
    return FleetEnergy(fleet)
