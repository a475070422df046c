"""Energy of training on phones and of sending models: the model of SkipTrain's evaluation, not a measurement.

A phone's inference time for MobileNetV2 is scaled to the trained model, and training one sample is taken as three
inferences. Scaling by the ratio of parameter counts, as published, is crude: a convolution costs far more per parameter
than a linear layer. Scaling by floating-point operations is open to those who know theirs. Bytes cost what you say they
do; the published evaluation takes them as free.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._check import choice, frozen, integer, real
from . import _fleetfile

MOBILENETV2_PARAMETERS = 3_504_872
# 300 million multiply-adds on a 224 x 224 image (Sandler et al., "MobileNetV2", CVPR 2018, table 4), 2 operations each.
MOBILENETV2_FLOPS = 600_000_000
JOULES_PER_WH = 3600.0


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


def round_energy(
    phone: Phone,
    parameters: int | None,
    local_steps: int,
    batch_size: int,
    *,
    flops_per_sample: float | None = None,
) -> float:
    """Wh of one training round of `local_steps` batches on this phone, by the model's number of parameters, or by the
    floating-point operations of one forward pass on one sample (a multiply-add is two; MobileNetV2: 6e8)."""
    if parameters is not None and flops_per_sample is None:
        scale = parameters / MOBILENETV2_PARAMETERS
    elif flops_per_sample is not None and parameters is None:
        scale = flops_per_sample / MOBILENETV2_FLOPS
    else:
        raise ValueError("parameters, flops_per_sample: expected exactly one of them")
    milliseconds = 3 * phone.inference_ms * scale * local_steps * batch_size
    return phone.power_w * milliseconds / 3.6e6


class DeviceFleet:
    """The devices of n nodes: a model of what they spend, not a measurement.

    e_wh: (n,) Wh of one training round, above 0.
    rounds: (n,) training rounds each can afford, int64; budget_wh: (n,) Wh each may spend on training. Either gives the
      other: rounds = floor(budget_wh / e_wh). None for both: no limit.
    names: a name a node, or None.
    joules_per_byte_sent, joules_per_byte_received: a number or (n,), J; 0 by default, as in the published evaluation.
    Attributes of the same names; arrays are float64 (n,) unless said otherwise, and read-only.
    fleet[4:8] and `take` are the fleets of some of the nodes.  Raises ValueError naming the argument and the node.
    """

    def __init__(
        self,
        e_wh: ArrayLike,
        rounds: ArrayLike | None = None,
        names: Sequence[str] | None = None,
        *,
        budget_wh: ArrayLike | None = None,
        joules_per_byte_sent: ArrayLike = 0.0,
        joules_per_byte_received: ArrayLike = 0.0,
    ) -> None:
        shape = np.shape(e_wh)
        if len(shape) != 1 or shape[0] == 0:
            raise ValueError(f"e_wh: expected one number a node, got shape {shape}")
        n = shape[0]
        self.e_wh: NDArray[np.float64] = _numbers(e_wh, "e_wh", n, positive=True)
        self.rounds: NDArray[np.int64] | None = None if rounds is None else _whole(rounds, "rounds", n)
        self.budget_wh: NDArray[np.float64] | None = None
        if budget_wh is not None:
            self.budget_wh = _numbers(budget_wh, "budget_wh", n)
            affordable = _affordable(self.budget_wh, self.e_wh)
            if self.rounds is None:
                self.rounds = frozen(affordable)
            elif (over := np.flatnonzero(self.rounds > affordable)).size:
                i = over[0]
                raise ValueError(
                    f"rounds: expected at most {affordable[i]}, what budget_wh = {self.budget_wh[i]:g} affords, got "
                    f"{self.rounds[i]} at node {i}"
                )
        elif self.rounds is not None:
            self.budget_wh = frozen(self.rounds * self.e_wh)
        if names is not None and len(names) != n:
            raise ValueError(f"names: expected {n} names, got {len(names)}")
        self.names = None if names is None else tuple(names)
        self.joules_per_byte_sent = _numbers(joules_per_byte_sent, "joules_per_byte_sent", n)
        self.joules_per_byte_received = _numbers(joules_per_byte_received, "joules_per_byte_received", n)

    @classmethod
    def phones(
        cls,
        n: int,
        task: str | None = None,
        *,
        parameters: int | None = None,
        flops_per_sample: float | None = None,
        local_steps: int | None = None,
        batch_size: int | None = None,
        battery_fraction: float | None = None,
        devices: Sequence[Phone] = PHONES,
        first_node: int = 0,
        joules_per_byte_sent: ArrayLike = 0.0,
        joules_per_byte_received: ArrayLike = 0.0,
    ) -> DeviceFleet:
        """SkipTrain's four phones, or your `devices`: the node with number g in the whole network has number g mod 4
        (mod len(devices)). The fleet is of the nodes g = first_node ... first_node + n - 1.

        task: "cifar10" or "femnist", the published settings; or give parameters, local_steps, batch_size and
        battery_fraction (0 to 1, default 0.1), each of which also overrides the task's.
        flops_per_sample: floating-point operations of one forward pass of the model on one sample, a multiply-add
        counted as two; scales by operations in place of parameters, against the 6e8 of MobileNetV2 (300 million
        multiply-adds: Sandler et al., "MobileNetV2", CVPR 2018, table 4).
        A model, not measured: see the module's text.

        >>> float(round(DeviceFleet.phones(4, task="cifar10").e_wh[0], 9))
        0.006532875
        """
        n, first = integer(n, "n", 1), integer(first_node, "first_node", 0)
        if not devices:
            raise ValueError("devices: expected at least one, got none")
        for k, d in enumerate(devices):
            for name in ("inference_ms", "power_w", "battery_wh"):
                real(getattr(d, name), f"devices[{k}].{name}", positive=True)
        work = _work(task, parameters, flops_per_sample, local_steps, batch_size)
        share = _share(battery_fraction, task)
        kind = (np.arange(n) + first % len(devices)) % len(devices)
        return cls(
            np.array([round_energy(d, **work) for d in devices])[kind],
            names=[devices[k].name for k in kind.tolist()],
            budget_wh=np.array([(0.1 if share is None else share) * d.battery_wh for d in devices])[kind],
            joules_per_byte_sent=joules_per_byte_sent,
            joules_per_byte_received=joules_per_byte_received,
        )

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        n: int | None = None,
        *,
        first_node: int = 0,
        task: str | None = None,
        parameters: int | None = None,
        flops_per_sample: float | None = None,
        local_steps: int | None = None,
        batch_size: int | None = None,
        battery_fraction: float | None = None,
    ) -> DeviceFleet:
        """A fleet from a table of devices, a row each: node number g of the whole network has row g mod the number of
        rows. n: number of nodes, default one a row.  first_node: as in `phones`.

        Columns, in any order: energy_wh ("Energy (Wh)" in the published files); or, with task or parameters or
        flops_per_sample (as in `phones`), inference_ms and power_w, of which the energy is made.  Optional: device,
        budget_wh, rounds, joules_per_byte_sent, joules_per_byte_received, battery_wh. Others are left alone, among them
        the published "Battery capacity for training": for FEMNIST it prints 100 % where the rounds fit 50 %.
        The budget is battery_fraction (a task brings its own) of battery_wh where given, else the columns budget_wh and
        rounds; the column rounds counts rounds of the column energy_wh only.

        Comma-separated UTF-8, a byte order mark is accepted. Raises ValueError with file, row (the header is row 1) and
        column for a missing or repeated column, a cell that is not a finite number of the right sign, a row of other
        length. OSError as open() raises it.
        """
        table = _fleetfile.Table(path)
        columns = table.columns
        computed = any(v is not None for v in (task, parameters, flops_per_sample, local_steps, batch_size))
        if computed:
            work = _work(task, parameters, flops_per_sample, local_steps, batch_size)
            table.need(("inference_ms", "power_w"), "of which the energy of a round is made")
            pairs = zip(columns["inference_ms"], columns["power_w"])
            columns["energy_wh"] = [round_energy(Phone("", ms, watts, 0.0), **work) for ms, watts in pairs]
            columns.pop("rounds", None)
        table.need(("energy_wh",), "or task= and the columns inference_ms and power_w")
        share = _share(battery_fraction, task)
        if share is not None:
            table.need(("battery_wh",), f"of which the budget is {share:g}")
            columns["budget_wh"] = [share * wh for wh in columns["battery_wh"]]
            columns.pop("rounds", None)
        fleet = cls(
            columns["energy_wh"],
            columns.get("rounds"),
            columns.get("device"),
            budget_wh=columns.get("budget_wh"),
            joules_per_byte_sent=columns.get("joules_per_byte_sent", 0.0),
            joules_per_byte_received=columns.get("joules_per_byte_received", 0.0),
        )
        count = len(fleet)
        n = count if n is None else integer(n, "n", 1)
        return fleet.take((np.arange(n) + integer(first_node, "first_node", 0) % count) % count)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes the fleet as a table that `from_csv` reads to the same bits, one row a node."""
        listed = {"rounds": self.rounds, "budget_wh": self.budget_wh}
        _fleetfile.write(
            path,
            {
                "device": self.names,
                "energy_wh": self.e_wh.tolist(),
                **{name: None if values is None else values.tolist() for name, values in listed.items()},
                "joules_per_byte_sent": self.joules_per_byte_sent.tolist(),
                "joules_per_byte_received": self.joules_per_byte_received.tolist(),
            },
        )

    def take(self, ids: ArrayLike) -> DeviceFleet:
        """The fleet of these nodes, integers 0 to n - 1 in any order, also repeated: what a process owns, say."""
        wanted = np.asarray(ids)
        if wanted.ndim != 1 or not wanted.size or wanted.dtype.kind not in "iu":
            raise ValueError(f"ids: expected node numbers (k,), k >= 1, got {ids!r}")
        outside = np.flatnonzero((wanted < 0) | (wanted >= len(self)))
        if outside.size:
            k = outside[0]
            raise ValueError(f"ids: expected 0 to {len(self) - 1}, got {wanted[k]} at [{k}]")
        return DeviceFleet(
            self.e_wh[wanted],
            None if self.rounds is None else self.rounds[wanted],
            None if self.names is None else [self.names[i] for i in wanted.tolist()],
            budget_wh=None if self.budget_wh is None else self.budget_wh[wanted],
            joules_per_byte_sent=self.joules_per_byte_sent[wanted],
            joules_per_byte_received=self.joules_per_byte_received[wanted],
        )

    def communication_wh(self, sent: ArrayLike, received: ArrayLike) -> NDArray[np.float64]:
        """(n,) Wh of sending and receiving these bytes, each (n,) or a number for all."""
        joules = self.joules_per_byte_sent * np.asarray(sent) + self.joules_per_byte_received * np.asarray(received)
        return np.asarray(joules / JOULES_PER_WH, dtype=np.float64)

    def __getitem__(self, nodes: slice) -> DeviceFleet:
        """fleet[4:8]: the fleet of these nodes."""
        if not isinstance(nodes, slice):
            raise TypeError(f"nodes: expected a slice (take(ids) takes numbers), got {nodes!r}")
        return self.take(np.arange(len(self))[nodes])

    def __len__(self) -> int:
        return len(self.e_wh)

    def __repr__(self) -> str:
        return f"DeviceFleet(n={len(self)}, Wh a round {self.e_wh.min():.3g} to {self.e_wh.max():.3g})"


def _work(
    task: str | None,
    parameters: int | None,
    flops_per_sample: float | None,
    local_steps: int | None,
    batch_size: int | None,
) -> dict[str, Any]:
    """The arguments of `round_energy`, checked: the task's, overridden by those given."""
    t = None if task is None else TASKS[choice(task, "task", tuple(TASKS))]
    if parameters is not None and flops_per_sample is not None:
        raise ValueError("parameters, flops_per_sample: expected one of them, got both")
    sized = parameters is not None or flops_per_sample is not None
    if t is None and (not sized or local_steps is None or batch_size is None):
        raise ValueError(
            "task: expected 'cifar10' or 'femnist', or parameters (or flops_per_sample), local_steps and batch_size"
        )
    work: dict[str, Any] = {"parameters": None}
    if flops_per_sample is not None:
        work["flops_per_sample"] = real(flops_per_sample, "flops_per_sample", positive=True)
    else:
        work["parameters"] = integer(parameters if parameters is not None else t and t.parameters, "parameters", 1)
    work["local_steps"] = integer(local_steps if local_steps is not None else t and t.local_steps, "local_steps", 1)
    work["batch_size"] = integer(batch_size if batch_size is not None else t and t.batch_size, "batch_size", 1)
    return work


def _share(battery_fraction: float | None, task: str | None) -> float | None:
    if battery_fraction is not None:
        return real(battery_fraction, "battery_fraction", 0.0, 1.0)
    return None if task is None else TASKS[task].battery_fraction


def _affordable(budget_wh: NDArray[np.float64], e_wh: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole rounds; a budget meant as k rounds is k of them, though k * e / e may round to just below k."""
    with np.errstate(over="ignore"):
        rounds = np.floor(budget_wh / e_wh * (1 + 1e-12))
    return np.minimum(rounds, 2.0**62).astype(np.int64)


def _numbers(values: ArrayLike, name: str, n: int, *, positive: bool = False) -> NDArray[np.float64]:
    """Read-only float64 (n,), finite, at least 0, or above 0; a single number stands for all."""
    try:
        given = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a number or one a node, got {values!r}") from None
    if given.ndim and given.shape != (n,):
        raise ValueError(f"{name}: expected shape ({n},), got {given.shape}")
    given = np.broadcast_to(given, (n,)).copy()
    bad = np.flatnonzero(~(np.isfinite(given) & ((given > 0) if positive else (given >= 0))))
    if bad.size:
        wanted = "above 0" if positive else "of at least 0"
        raise ValueError(f"{name}: expected finite numbers {wanted}, got {given[bad[0]]} at node {bad[0]}")
    return frozen(given)


def _whole(values: ArrayLike, name: str, n: int) -> NDArray[np.int64]:
    given = np.asarray(values)
    if given.shape != (n,):
        raise ValueError(f"{name}: expected shape ({n},), got {given.shape}")
    if given.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected integers of at least 0, got dtype {given.dtype}")
    if (given < 0).any():
        i = int(np.argmax(given < 0))
        raise ValueError(f"{name}: expected integers of at least 0, got {given[i]} at node {i}")
    return frozen(given.astype(np.int64))
