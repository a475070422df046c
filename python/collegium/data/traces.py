"""Measurements of real devices and networks."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np

from .._check import choice
from .arrays import Arrays
from .places import locate

FILES = {
    "skiptrain_energy_cifar-10": "skiptrain_energy_cifar-10.csv",
    "skiptrain_energy_femnist": "skiptrain_energy_femnist.csv",
    "ai_benchmark_phones": "ai_benchmark_phones.csv.gz",
    "smartphone_availability": "smartphone_availability.npz",
    "mobile_bandwidth": "mobile_bandwidth.npz",
    "netlatency": "netlatency.npz",
    "moe_routing": "moe_routing.npz",
}


def traces(name: str) -> Arrays:
    """The arrays of a trace by name; a table's columns, float64 where every entry is a number, else str.

    "skiptrain_energy_cifar-10", "skiptrain_energy_femnist": four phones, time (ms), power (W), energy of a training
      round and battery (Wh), rounds. The battery share is 10 % in the first and 100 % in the second.
    "ai_benchmark_phones": 333 phones of early 2020, chip, memory and scores.
    "smartphone_availability": weeks of 776 volunteers' phones. Row i: ``session_ms[offsets[i]:offsets[i+1]]``
      alternating, online first if ``first_online[i]``; ``user``, ``start_unix_ms``, ``utc_offset_h``.
    "mobile_bandwidth": throughput on the move, prefixes ``hsdpa3g_`` and ``lte4g_``. Log k:
      ``kbps[offsets[k]:offsets[k+1]]``, each for ``duration_ms``.
    "netlatency": ``planetlab_rtt_ms_median`` (490, 490) ms, ``seattle_rtt_s`` (43, 99, 99) s; zeros off the diagonal
      are missing values.
    "moe_routing": ``switch{8,16,32,64,128}_token_expert`` (tokens, layers), and tokens per expert of longer runs.
    Reads ``traces/<name>.*``. Raises MissingData, ValueError. Sources: `collegium data list`.
    """
    choice(name, "name", tuple(FILES))
    path = locate(f"traces/{name}", f"traces/{FILES[name]}")
    if path.suffix == ".npz":
        with np.load(path) as z:
            return Arrays({k: z[k] for k in z.files})
    return _table(path)


def _table(path: Path) -> Arrays:
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as f:
        header, *rows = [row for row in csv.reader(f) if row]
    out = Arrays()
    for name, column in zip(header, zip(*rows)):
        values = np.array(column)
        try:
            out[name] = values.astype(np.float64)
        except ValueError:
            out[name] = values
    return out
