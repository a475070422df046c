"""Exceptions that are not the C core's."""

from __future__ import annotations


class Diverged(ArithmeticError):
    """A model held NaN or Inf after training; nothing of it was exchanged.

    Attributes: ``node`` (row of the population), ``round`` (0-based), ``parameter`` (its name), ``checkpoint`` (where
    the last good round is kept, or None).
    """

    def __init__(self, node: int, round: int, parameter: str, checkpoint: str | None = None) -> None:
        kept = f" The models before this round are in {checkpoint}." if checkpoint else ""
        super().__init__(
            f"node {node} diverged in round {round}: NaN or Inf in {parameter!r} after training. Nothing of it was "
            f"exchanged; the history up to the last evaluation is kept.{kept} Lower lr, or clip gradients."
        )
        self.checkpoint = checkpoint
        self.node = node
        self.round = round
        self.parameter = parameter
