"""What a run measured: one row an evaluation."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._files import replacing

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

COLUMNS = (
    "round",
    "accuracy",
    "accuracy_std",
    "mean_model_accuracy",
    "loss",
    "consensus",
    "trainings",
    "energy_wh",
    "bytes_sent",
)


class History:
    """The measurements of a run.

    Where `keep` was called it is also a file that grows line by line, as `save` writes it.

    Columns: round (rounds done); accuracy and accuracy_std, mean and spread over the nodes' own models on the test
    set; mean_model_accuracy, of the average of all models, which is another thing; loss, mean over nodes; consensus,
    sqrt(1/n sum_i ||x_i - mean||^2); trainings, energy_wh and bytes_sent, totals of the network so far. energy_wh is
    NaN when the run was given no energy model. Then, where there are any: communication_wh, the part of energy_wh that
    is not training; the learner's other metrics under their own names (and mean_model_...); val_..., means over nodes
    on the validation set; what an eval_fn returned.

    name: what to call the run in tables and pictures.
    """

    def __init__(self, name: str = "run") -> None:
        self.name = name
        self._entries: list[dict[str, Any]] = []  # the lines of the file, in their order; by kind:
        self._rows: list[dict[str, Any]] = []
        self._nodes: list[dict[str, list[float]]] = []
        self._consensus: list[tuple[int, float]] = []
        self._file: Path | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        if not self._rows:
            return f"History({self.name!r}, empty)"
        last = self._rows[-1]
        name = "accuracy" if last["accuracy"] == last["accuracy"] else "loss"
        return f"History({self.name!r}, {len(self)} rows, round {last['round']}, {name} {last[name]:.4f})"

    @property
    def last(self) -> dict[str, Any]:
        """The newest row. Raises IndexError when there is none."""
        return dict(self._rows[-1])

    def column(self, name: str) -> NDArray[Any]:
        """One column over all rows."""
        return np.array([row[name] for row in self._rows])

    def spread(self, metric: str) -> NDArray[np.float64]:
        """Standard deviation of a metric over the nodes in every row; NaN where it is not known for single nodes."""
        known = [nodes.get(metric, [np.nan]) for nodes in self._nodes]
        return np.array([float(np.std(values)) for values in known])

    def append(self, row: Mapping[str, Any], nodes: Mapping[str, ArrayLike]) -> None:
        """Adds a row; nodes: metric -> (n,) values of the single nodes."""
        self._add({"row": dict(row), "nodes": {k: np.asarray(v, np.float64).tolist() for k, v in nodes.items()}})

    def append_consensus(self, round: int, value: float) -> None:
        """Adds to the log of consensus distances after single rounds."""
        self._add({"consensus": [round, value]})

    def _add(self, entry: dict[str, Any]) -> None:
        self._entries.append(entry)
        if "row" in entry:
            self._rows.append(entry["row"])
            self._nodes.append(entry["nodes"])
        else:
            self._consensus.append((int(entry["consensus"][0]), float(entry["consensus"][1])))
        if self._file is not None:
            with open(self._file, "a", encoding="utf-8") as f:
                f.write(json.dumps(entry) + "\n")

    def keep(self, path: str | os.PathLike[str]) -> None:
        """Writes all there is to `path`, and from now on every new line."""
        self.save(path)
        self._file = Path(path)

    @classmethod
    def resume(cls, path: str | os.PathLike[str], size: int) -> History:
        """The history in the first `size` bytes of a kept file; the rest is cut off, and new lines go there."""
        out = cls.load(path, size)
        os.truncate(path, size)
        out._file = Path(path)
        return out

    def sync(self) -> int:
        """Bytes of the kept file, all of them on the disk by now."""
        assert self._file is not None
        with open(self._file, "rb") as f:
            os.fsync(f.fileno())
            return os.fstat(f.fileno()).st_size

    def frame(self, per: str = "network") -> pandas.DataFrame:
        """A pandas frame. per: "network", a row an evaluation; "node", a row an evaluation and node (round, node,
        accuracy, loss ...); "round", the consensus distance after each round of a run with log_consensus=True."""
        pd = _pandas()
        if per == "network":
            return pd.DataFrame(self._rows, columns=list(COLUMNS) if not self._rows else None)
        if per == "node":
            rows = [
                {"round": row["round"], "node": i, **{k: v[i] for k, v in nodes.items()}}
                for row, nodes in zip(self._rows, self._nodes)
                for i in range(len(next(iter(nodes.values()), [])))
            ]
            return pd.DataFrame(rows, columns=["round", "node"] if not rows else None)
        if per == "round":
            return pd.DataFrame(self._consensus, columns=["round", "consensus"])
        raise ValueError(f"per: expected 'network', 'node' or 'round', got {per!r}")

    def plot(self) -> Figure:
        """Accuracy, consensus distance and energy over rounds, as a matplotlib figure (returned, not shown)."""
        from .plot import history

        return history(self)

    def report(self, path: str | os.PathLike[str]) -> None:
        """Writes one self-contained HTML page: the last figures, curves, all rows. Several runs: `report.report`."""
        from .report import report

        report([self], path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes JSON lines: a header, then a row a line."""
        header = {"collegium": "history", "version": 1, "name": self.name}
        with replacing(path) as temporary:
            temporary.write_text("".join(json.dumps(e) + "\n" for e in [header, *self._entries]), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str], size: int | None = None) -> History:
        """Reads a file of `save` or `keep`, or its first `size` bytes. Raises ValueError naming the line that is not
        one."""
        out: History | None = None
        text = Path(path).read_bytes()[:size].decode("utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                entry = json.loads(line)
                if out is None:
                    if entry["collegium"] != "history" or entry["version"] != 1:
                        raise KeyError("collegium")
                    out = cls(entry["name"])
                elif "row" in entry:
                    out.append(entry["row"], entry["nodes"])
                else:
                    out.append_consensus(*entry["consensus"])
            except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as e:
                raise ValueError(f"{path}, line {number}: not a line of a history ({e})") from e
        if out is None:
            raise ValueError(f"{path}: empty, not a history")
        return out


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise ImportError("frames need pandas: pip install 'collegium[plot]'") from None
    return pandas
