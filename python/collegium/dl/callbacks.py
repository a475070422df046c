"""Callbacks of `Simulation.run`: called after each evaluation with the simulation, True stops the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._check import choice, integer, real

if TYPE_CHECKING:
    from .simulation import Simulation


class EarlyStopping:
    """Stops when a column of the history has not improved over `patience` evaluations.

    metric: the column, "val_accuracy" by default: stopping by the test set would fit to it.  min_delta: what counts as
    an improvement.  mode: "max" or "min"; by default "min" for a loss, "max" for anything else.
    It looks at nothing but the history, so a resumed run stops where the whole one would have.
    """

    def __init__(
        self, metric: str = "val_accuracy", patience: int = 5, min_delta: float = 0.0, mode: str | None = None
    ) -> None:
        self.metric = metric
        self.patience = integer(patience, "patience", 1)
        self.min_delta = real(min_delta, "min_delta", 0.0)
        self.mode = choice(mode or ("min" if metric.endswith(("loss", "rmse")) else "max"), "mode", ("max", "min"))

    def __call__(self, sim: Simulation) -> bool:
        """True if it is time to stop. Raises KeyError for a column that is not there."""
        if self.metric not in sim.history.last:
            raise KeyError(f"metric: no column {self.metric!r}; there are {', '.join(sim.history.last)}")
        values = sim.history.column(self.metric).astype(float) * (1 if self.mode == "max" else -1)
        best, since = -np.inf, 0
        for value in values:
            best, since = (value, 0) if value > best + self.min_delta else (best, since + 1)
        return since >= self.patience
