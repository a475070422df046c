"""Exceptions that are not the C core's."""

from __future__ import annotations


class Diverged(ArithmeticError):
    """A model held NaN or Inf after training; nothing of it was exchanged.

    Attributes: ``node`` (row of the population), ``round`` (0-based), ``parameter`` (its name).
    """

    def __init__(self, node: int, round: int, parameter: str) -> None:
        super().__init__(
            f"node {node} diverged in round {round}: NaN or Inf in {parameter!r} after training. Nothing of it was "
            f"exchanged; the history up to the last evaluation is kept. Lower lr, or clip gradients."
        )
        self.node = node
        self.round = round
        self.parameter = parameter
