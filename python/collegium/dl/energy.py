"""Energy of training on phones: the model of SkipTrain's evaluation.

A phone's measured inference time for MobileNetV2 is scaled to the trained model by the ratio of parameter counts, and
training one sample is taken as three inferences. That is a model, not a measurement, and a crude one: a convolution
costs far more per parameter than a linear layer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._check import choice, integer, real

MOBILENETV2_PARAMETERS = 3_504_872


class Phone(NamedTuple):
    """One row of the table: inference time of MobileNetV2 (CPU, float) in ms, power in W, battery in Wh."""

    name: str
    inference_ms: float
    power_w: float
    battery_wh: float


PHONES = (
    Phone("Xiaomi 12 Pro", 27.0, 17.7, 17.8),
    Phone("Samsung Galaxy S22 Ultra", 29.0, 15.1, 19.4),
    Phone("OnePlus Nord 2 5G", 17.0, 11.0, 17.41),
    Phone("Xiaomi Poco X3", 76.0, 8.2, 23.2),
)


class Task(NamedTuple):
    """What is trained: parameters of the model, local steps a round, batch size, share of the battery it may use."""

    parameters: int
    local_steps: int
    batch_size: int
    battery_fraction: float


TASKS = {"cifar10": Task(89_834, 20, 32, 0.10), "femnist": Task(1_690_046, 7, 16, 0.50)}


def round_energy(phone: Phone, parameters: int, local_steps: int, batch_size: int) -> float:
    """Wh of one training round of `local_steps` batches on this phone."""
    milliseconds = 3 * phone.inference_ms * parameters / MOBILENETV2_PARAMETERS * local_steps * batch_size
    return phone.power_w * milliseconds / 3.6e6


class DeviceFleet:
    """The devices of n nodes.

    e_wh: (n,) Wh of one training round, above 0.  rounds: (n,) training rounds each can afford, or None for no limit.
    names: a name a node, or None.  Raises ValueError naming the node.
    """

    def __init__(
        self, e_wh: ArrayLike, rounds: ArrayLike | None = None, names: tuple[str, ...] | list[str] | None = None
    ) -> None:
        self.e_wh = np.array(e_wh, dtype=np.float64)
        if self.e_wh.ndim != 1 or self.e_wh.size == 0:
            raise ValueError(f"e_wh: expected one number a node, got shape {self.e_wh.shape}")
        bad = np.flatnonzero(~(np.isfinite(self.e_wh) & (self.e_wh > 0)))
        if bad.size:
            raise ValueError(f"e_wh: expected finite numbers above 0, got {self.e_wh[bad[0]]} at node {bad[0]}")
        self.rounds: NDArray[np.int64] | None = None
        if rounds is not None:
            given = np.asarray(rounds)
            if given.shape != self.e_wh.shape:
                raise ValueError(f"rounds: expected shape {self.e_wh.shape}, got {given.shape}")
            if given.dtype.kind not in "iu" or (given < 0).any():
                raise ValueError("rounds: expected integers of at least 0")
            self.rounds = given.astype(np.int64)
        if names is not None and len(names) != len(self.e_wh):
            raise ValueError(f"names: expected {len(self.e_wh)} names, got {len(names)}")
        self.names = None if names is None else tuple(names)

    @classmethod
    def phones(
        cls,
        n: int,
        task: str | None = None,
        *,
        parameters: int | None = None,
        local_steps: int | None = None,
        batch_size: int | None = None,
        battery_fraction: float | None = None,
    ) -> DeviceFleet:
        """SkipTrain's four phones; node i (its number in the whole network) has phone i mod 4.

        task: "cifar10" or "femnist", the published settings; or give parameters, local_steps, batch_size and
        battery_fraction (default 0.1), each of which also overrides the task's.

        >>> float(round(DeviceFleet.phones(4, task="cifar10").e_wh[0], 9))
        0.006532875
        """
        n = integer(n, "n", 1)
        t = None if task is None else TASKS[choice(task, "task", tuple(TASKS))]
        if t is None and (parameters is None or local_steps is None or batch_size is None):
            raise ValueError("task: expected 'cifar10' or 'femnist', or parameters, local_steps and batch_size")
        size = integer(parameters if parameters is not None else t and t.parameters, "parameters", 1)
        steps = integer(local_steps if local_steps is not None else t and t.local_steps, "local_steps", 1)
        batch = integer(batch_size if batch_size is not None else t and t.batch_size, "batch_size", 1)
        share = battery_fraction if battery_fraction is not None else t.battery_fraction if t else 0.1
        share = real(share, "battery_fraction", 0.0, 1.0)
        e = np.array([round_energy(p, size, steps, batch) for p in PHONES])
        tau = np.array([int(share * p.battery_wh / e_i) for p, e_i in zip(PHONES, e)], dtype=np.int64)
        kind = np.arange(n) % len(PHONES)
        return cls(e[kind], tau[kind], [PHONES[k].name for k in kind])

    def __len__(self) -> int:
        return len(self.e_wh)

    def __repr__(self) -> str:
        return f"DeviceFleet(n={len(self)}, Wh a round {self.e_wh.min():.3g} to {self.e_wh.max():.3g})"
