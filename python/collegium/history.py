"""What a run measured: one row an evaluation."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

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

    Columns: round (rounds done); accuracy and accuracy_std, mean and spread over the nodes' own models on the test
    set; mean_model_accuracy, of the average of all models, which is another thing; loss, mean over nodes; consensus,
    sqrt(1/n sum_i ||x_i - mean||^2); trainings, energy_wh and bytes_sent, totals of the network so far. energy_wh is
    NaN when the run was given no energy model. Any other metric of the learner's follows under its own name.

    name: what to call the run in tables and pictures.
    """

    def __init__(self, name: str = "run") -> None:
        self.name = name
        self._rows: list[dict[str, Any]] = []
        self._nodes: list[dict[str, list[float]]] = []
        self._consensus: list[tuple[int, float]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        if not self._rows:
            return f"History({self.name!r}, empty)"
        last = self._rows[-1]
        return f"History({self.name!r}, {len(self)} rows, round {last['round']}, accuracy {last['accuracy']:.4f})"

    @property
    def last(self) -> dict[str, Any]:
        """The newest row. Raises IndexError when there is none."""
        return dict(self._rows[-1])

    def column(self, name: str) -> NDArray[Any]:
        """One column over all rows."""
        return np.array([row[name] for row in self._rows])

    def append(self, row: Mapping[str, Any], nodes: Mapping[str, NDArray[np.float64]]) -> None:
        """Adds a row; nodes: metric -> (n,) values of the single nodes."""
        self._rows.append(dict(row))
        self._nodes.append({k: [float(x) for x in v] for k, v in nodes.items()})

    def append_consensus(self, round: int, value: float) -> None:
        """Adds to the log of consensus distances after single rounds."""
        self._consensus.append((round, value))

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

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes JSON lines: a header, then a row a line."""
        lines = [{"collegium": "history", "version": 1, "name": self.name, "consensus": self._consensus}]
        lines += [{"row": row, "nodes": nodes} for row, nodes in zip(self._rows, self._nodes)]
        Path(path).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> History:
        """Reads a file of `save`. Raises ValueError naming the line that is not one."""
        out: History | None = None
        for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
            try:
                entry = json.loads(line)
                if out is None:
                    if entry["collegium"] != "history" or entry["version"] != 1:
                        raise KeyError("collegium")
                    out = cls(entry["name"])
                    out._consensus = [(int(t), float(v)) for t, v in entry["consensus"]]
                else:
                    out.append(entry["row"], entry["nodes"])
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
