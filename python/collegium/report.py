"""One self-contained page of one or several runs: pictures inside, nothing to load."""

from __future__ import annotations

import html
import io
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import plot
from ._files import replacing
from ._version import __version__
from .history import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
svg { max-width: 100%; height: auto; } details { margin: 1rem 0; } small { color: #666; }
"""


_SHOWN = ("round", "accuracy", "accuracy_std", "mean_model_accuracy", "loss", "rmse", "trainings", "energy_wh")


def report(runs: Sequence[History], path: str | os.PathLike[str], title: str | None = None) -> None:
    """Writes an HTML page: the last figures of every run, at equal rounds and at equal energy; curves; all rows.

    Needs pandas and matplotlib. Raises ValueError for no run, or one without measurements.
    """
    if not runs or any(not len(run) for run in runs):
        raise ValueError("runs: expected at least one history with at least one row")
    title = title or ", ".join(run.name for run in runs)
    figures = [plot.compare(runs)] if len(runs) > 1 else []
    figures += [run.plot() for run in runs]
    body = [f"<h1>{html.escape(title)}</h1>", "<h2>At the end of each run</h2>", _ends(runs)]
    if len(runs) > 1:
        cost = plot.cost(runs)
        body += ["<h2>At equal rounds</h2>", _equal(runs, "round")]
        body += [f"<h2>At equal {'energy' if cost == 'energy_wh' else 'training'}</h2>", _equal(runs, cost)]
    body += [_svg(figure) for figure in figures]
    for run in runs:
        table = run.frame().to_html(index=False, border=0, float_format=lambda v: f"{v:.5g}")
        body.append(f"<details><summary>all rows of {html.escape(run.name)}</summary>{table}</details>")
    body.append(
        f"<p><small>collegium {__version__}. accuracy: mean over the nodes' own models; mean_model_accuracy: of the "
        "average of all models. Energy comes from the energy model the run was given; unless that was a meter, it is "
        "not measured.</small></p>"
    )
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _ends(runs: Sequence[History]) -> str:
    import pandas as pd

    frame = pd.DataFrame([{"run": run.name, **run.last} for run in runs])
    return str(frame.to_html(index=False, border=0, float_format=lambda v: f"{v:.5g}"))


def _equal(runs: Sequence[History], column: str) -> str:
    """Every run at its last evaluation within what the run with the smallest total has spent."""
    import pandas as pd

    most = min(run.last[column] for run in runs)
    rows = []
    for run in runs:
        frame = run.frame()
        within = frame[frame[column] <= most * (1 + 1e-12)]
        shown = {k: within.iloc[-1][k] if len(within) else float("nan") for k in _SHOWN if k in frame}
        rows.append({"run": run.name, **shown})
    note = f"<p>The last evaluation of each run at which {column} is at most {most:,.6g}.</p>"
    return note + str(pd.DataFrame(rows).to_html(index=False, border=0, float_format=lambda v: f"{v:.5g}"))


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    text = buffer.getvalue()
    return text[text.index("<svg") :]
