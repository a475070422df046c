"""Many runs of one experiment: over seeds, over settings; means with confidence intervals."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._check import real
from .._files import Path_
from ..history import History
from ._describe import describe
from .simulation import Simulation

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


class Sweep:
    """The histories of many runs.  runs: (settings with the seed, history), one a run."""

    def __init__(self, runs: Sequence[tuple[dict[str, Any], History]]) -> None:
        self.runs = list(runs)

    @property
    def settings(self) -> list[str]:
        """Names of what was varied, the seed left out."""
        return [k for k in self.runs[0][0] if k != "seed"]

    def frame(self) -> pandas.DataFrame:
        """Every row of every history, its settings and seed in front."""
        import pandas as pd

        frames = []
        for setting, history in self.runs:
            shown = {k: v if isinstance(v, (int, float, str)) else describe(v) for k, v in setting.items()}
            frame = history.frame()
            frames.append(frame.assign(**shown)[[*shown, *frame.columns]])
        return pd.concat(frames, ignore_index=True)

    def summary(self, metric: str = "accuracy", confidence: float = 0.95) -> pandas.DataFrame:
        """For each setting and round: number of seeds, mean, standard deviation, and the ends of the mean's confidence
        interval (Student's t; NaN for one seed). Needs SciPy."""
        try:
            from scipy.stats import t as student
        except ImportError:
            raise ImportError("confidence intervals need SciPy: pip install scipy") from None
        confidence = real(confidence, "confidence", 0.0, 1.0)
        frame = self.frame()
        if metric not in frame:
            raise ValueError(f"metric: no column {metric!r}; there are {', '.join(frame.columns)}")
        groups = frame.groupby([*self.settings, "round"], sort=False, dropna=False)[metric]
        out = groups.agg(["count", "mean", "std"])
        half = student.ppf(0.5 + confidence / 2, out["count"] - 1) * out["std"] / out["count"] ** 0.5
        return out.assign(low=out["mean"] - half, high=out["mean"] + half).reset_index()

    def plot(self, metric: str = "accuracy", confidence: float = 0.95) -> Figure:
        """The mean over rounds with its confidence interval, a line a setting, as a matplotlib figure."""
        from ..plot import sweep

        return sweep(self, metric, confidence)


def sweep(
    build: Callable[..., Simulation],
    *,
    rounds: int,
    seeds: Iterable[int],
    grid: Mapping[str, Sequence[Any]] | None = None,
    folder: Path_ | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Sweep:
    """Runs `build(seed=..., **setting).run(rounds, **options)` for every seed and every combination of the grid.

    build: function of the seed and the grid's names that makes a Simulation.  grid: name -> values.
    folder: where each run keeps its checkpoint and history, in a folder of its own; a sweep that was cut off goes on
      there, and runs that are done are not done again.
    options: for `Simulation.run` (eval_every, eval_samples ...).

    >>> from collegium import data, dl
    >>> def build(seed, gamma):
    ...     parts = data.digits(seed=seed).partition(8, kind="shards", seed=seed)
    ...     return dl.Simulation(dl.topology.ring(8), schedule=dl.SkipTrain(gamma, gamma), data=parts, seed=seed,
    ...                          model=dl.models.Softmax(64, 10))
    >>> dl.sweep(build, rounds=4, seeds=range(2), grid={"gamma": [1, 2]}).frame().shape[0]
    4
    """
    from tqdm.auto import tqdm

    grid = dict(grid or {})
    settings = [dict(zip(grid, values)) for values in itertools.product(*grid.values())]
    todo = [{**setting, "seed": int(seed)} for setting in settings for seed in seeds]
    if not todo:
        raise ValueError("seeds, grid: expected at least one of each, got none")
    runs = []
    for setting in tqdm(todo, desc="sweep", unit="run", disable=None if progress is None else not progress):
        simulation = build(**setting)
        own = {}
        if folder is not None:
            own = {"checkpoint": Path(folder) / _folder_name(setting), "resume": True}
        runs.append((setting, simulation.run(rounds, progress=False, **{**own, **options})))
    return Sweep(runs)


def _folder_name(setting: Mapping[str, Any]) -> str:
    """Readable as far as a file name allows; the digest tells settings apart that read alike."""
    told = ",".join(f"{k}={describe(v)}" for k, v in setting.items())
    readable = re.sub(r"[^\w.,=+-]", "_", told)[:80]
    return f"{readable}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
