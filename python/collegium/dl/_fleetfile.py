"""Tables of devices as CSV: every complaint names the file, the row and the column.

Columns are known by name, in any order; the published files of SkipTrain's evaluation name some of them otherwise.
Others are left alone. The published column "Battery capacity for training" is one of these on purpose: in the FEMNIST
file it prints the whole battery, where the numbers of rounds fit half of it.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

Columns = dict[str, list[Any]]

# Column and its name in the published files.
_KNOWN: dict[str, str | None] = {
    "device": "Device Name",
    "energy_wh": "Energy (Wh)",
    "rounds": "Number of training rounds",
    "budget_wh": None,
    "inference_ms": "Inference time MobileNet v2 CPU-F (ms)",
    "power_w": "Max Power consumption (W)",
    "battery_wh": "Battery capacity (Wh)",
    "joules_per_byte_sent": None,
    "joules_per_byte_received": None,
}
_MAY_BE_ZERO = ("budget_wh", "joules_per_byte_sent", "joules_per_byte_received")


class Table:
    """The known columns of a file. `columns`: name -> one value a device."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        head, rows = _cells(self.path)
        self._head = head
        at: dict[str, int] = {}
        for k, title in enumerate(head):
            name = _name(title)
            if name in at:
                _bad(self.path, 1, f"column {title!r}: {name} is already there as {head[at[name]]!r}")
            if name is not None:
                at[name] = k
        self.columns: Columns = {
            name: [_value(self.path, row, name, head[k], cells[k]) for row, cells in rows] for name, k in at.items()
        }

    def need(self, names: Sequence[str], why: str) -> None:
        """ValueError naming the missing columns, unless all of `names` are there."""
        missing = [name for name in names if name not in self.columns]
        if missing:
            published = [title for name in missing if (title := _KNOWN[name])]
            other = f" (or {', '.join(map(repr, published))})" if published else ""
            _bad(self.path, 1, f"missing column {', '.join(missing)}{other}, {why}; got {', '.join(self._head)}")


def write(path: str | os.PathLike[str], columns: Mapping[str, Iterable[Any] | None]) -> None:
    """Columns that are None are left out. Numbers are written so that reading gives back the same bits."""
    used = {name: list(values) for name, values in columns.items() if values is not None}
    with open(path, "w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(used)
        out.writerows(zip(*used.values()))


def _cells(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and every row that is not blank with its line in the file (a quoted line end counts)."""
    head: list[str] = []
    rows = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                cells = [cell.strip() for cell in cells]
                if not any(cells):
                    continue
                if not head:
                    head = cells
                elif len(cells) != len(head):
                    _bad(path, reader.line_num, f"expected {len(head)} cells as in the header, got {len(cells)}")
                else:
                    rows.append((reader.line_num, cells))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text, got other bytes at {error.start}") from None
    except csv.Error as error:
        _bad(path, reader.line_num, f"expected comma-separated values: {error}")
    if not rows:
        raise ValueError(f"{path}: expected a header and at least one device, got {'none' if head else 'no text'}")
    for k, title in enumerate(head):
        if title in head[:k]:
            _bad(path, 1, f"column {title!r} is there twice")
    return head, rows


def _name(title: str) -> str | None:
    return next((name for name, published in _KNOWN.items() if title in (name, published)), None)


def _value(path: Path, row: int, name: str, title: str, cell: str) -> str | float | int:
    if name == "device":
        if not cell:
            _bad(path, row, f"column {title!r}: expected a name, got nothing")
        return cell
    if name == "rounds":
        if not (cell.isascii() and cell.isdecimal() and len(cell) < 19):
            _bad(path, row, f"column {title!r}: expected a whole number of at least 0, got {cell!r}")
        return int(cell)
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    # float() also takes '1_0' and other scripts' digits, which no other reader of the file would.
    plain = cell.isascii() and "_" not in cell and math.isfinite(number)
    if not plain or number < 0 or (number == 0 and name not in _MAY_BE_ZERO):
        least = "of at least 0" if name in _MAY_BE_ZERO else "above 0"
        _bad(path, row, f"column {title!r}: expected a finite number {least}, got {cell!r}")
    return number


def _bad(path: Path, row: int, what: str) -> NoReturn:
    raise ValueError(f"{path}, row {row}: {what}")
