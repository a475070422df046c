"""What every benchmark shares: the machine header, aligned arrays, interleaved timing, the table and the saved result.

A number without its floor says little and two numbers from different minutes cannot be compared, so benchmarks time the
kernel, its peers and the machine's floor in turn (A B C A B C ...) and print all of them in one table.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from collegium import _core

RESULTS = Path(__file__).resolve().parent / "results"
Row = dict[str, Any]


class Timing(NamedTuple):
    """Seconds per call: the median and the best of the repeats."""

    median: float
    best: float


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The command line of a benchmark: --json prints the saved result instead of tables, --quick keeps it short."""
    p = argparse.ArgumentParser(description=(doc or "").strip().split("\n")[0])
    p.add_argument("--json", action="store_true", help="print the result as JSON instead of tables")
    p.add_argument("--quick", action="store_true", help="fewer repeats and small sizes; nothing is saved")
    return p


def machine(peers: Sequence[str] = ("scipy", "torch")) -> Row:
    """Processor, instruction set, threads and versions: the header of every table and file.

    peers: modules whose versions to record; None for one that is not installed.
    """
    row: Row = {
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "isa": _core.isa(),
        "threads": _core.num_threads(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "openblas_coretype": os.environ.get("OPENBLAS_CORETYPE"),  # a forced one can slow NumPy and its users down
    }
    for name in peers:
        try:
            row[name] = str(importlib.import_module(name).__version__)
        except ImportError:
            row[name] = None
    return row


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def aligned(n: int, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """A 1-D array of n zeros that starts on a 64-byte boundary.

    Two arrays a few bytes off each other modulo a page can make memcpy twenty times slower; aligned ones never do. The
    zeros are written, not left to the system: untouched pages all are one page of zeros, and reading them is reading
    the first-level cache.
    """
    item = np.dtype(dtype).itemsize
    raw = np.empty(n * item + 64, np.uint8)
    raw.fill(0)
    start = -raw.ctypes.data % 64
    return raw[start : start + n * item].view(dtype)


def interleave(fns: Mapping[str, Callable[[], object]], repeats: int = 15, warmup: int = 2) -> dict[str, Timing]:
    """Times the functions in turn, A B C A B C, so that a busy moment of the machine falls on all of them alike."""
    for _ in range(warmup):
        for fn in fns.values():
            fn()
    seconds: dict[str, list[float]] = {name: [] for name in fns}
    for _ in range(repeats):
        for name, fn in fns.items():
            start = time.perf_counter()
            fn()
            seconds[name].append(time.perf_counter() - start)
    return {name: Timing(statistics.median(s), min(s)) for name, s in seconds.items()}


def compare(times: Mapping[str, Timing], ours: str, floor: str | None = None, **more: Any) -> list[Row]:
    """Rows for `table`: milliseconds, "x floor" (time over the floor's) and "ratio" (time over ours), by medians.

    more: columns every row gets, {"n": 256}. The floor is named by its row in `times`; None leaves the column out.
    """
    rows: list[Row] = []
    for name, t in times.items():
        row: Row = {**more, "what": name, "ms": t.median * 1e3, "best ms": t.best * 1e3}
        if floor is not None:
            row["x floor"] = t.median / times[floor].median
        row["ratio"] = t.median / times[ours].median
        rows.append(row)
    return rows


def table(title: str, rows: Sequence[Row]) -> None:
    """Prints the rows under the title; columns in order of first appearance, numbers right-aligned to 4 digits."""
    print(f"\n{title}")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(c)) for c in columns] for row in rows]
    widths = [max([len(c), *(len(line[i]) for line in cells)]) for i, c in enumerate(columns)]
    text = [any(isinstance(row.get(c), str) for row in rows) for c in columns]
    for line in [columns, *cells]:
        print("  ".join(s.ljust(w) if t else s.rjust(w) for s, w, t in zip(line, widths, text, strict=True)).rstrip())


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def save(name: str, rows: Mapping[str, Any] | Sequence[Row], *, quick: bool = False) -> Row:
    """Writes results/<name>.json, {"machine": ..., "rows": rows}, and returns it. quick=True only returns it."""
    result: Row = {"machine": machine(), "rows": rows}
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    return result
