"""Pictures: matplotlib figures, returned and not shown."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .data import Parts
    from .dl.graph import Topology
    from .dl.sweeps import Sweep


def history(run: History) -> Figure:
    """Accuracy (mean, spread over nodes, the mean model's), consensus distance and energy of one run over rounds.

    Where the learner has no accuracy its rmse or loss takes the place.
    """
    energy = not np.isnan(run.column("energy_wh").astype(float)).all() if len(run) else False
    figure, axes = _figure(3 if energy else 2)
    _accuracy(axes[0], run, "round", "C0")
    of_mean = f"mean_model_{metric(run)}"
    if len(run) and of_mean in run.last:
        axes[0].plot(run.column("round"), run.column(of_mean), "C0--", label="mean model")
        axes[0].legend()
    _consensus(axes[1], [run])
    if energy:
        axes[2].plot(run.column("round"), run.column("energy_wh"), "C0.-")
        _label(axes[2], "round", "training energy of the network (Wh)")
    figure.suptitle(_plain(run.name))
    return figure


def compare(runs: Sequence[History]) -> Figure:
    """Several runs side by side: accuracy at equal rounds, accuracy at equal energy, consensus distance.

    The energy panel counts trainings where a run has no energy model.
    """
    if not runs:
        raise ValueError("runs: expected at least one history, got none")
    spent = cost(runs)
    figure, axes = _figure(3)
    for k, run in enumerate(runs):
        _accuracy(axes[0], run, "round", f"C{k}")
        _accuracy(axes[1], run, spent, f"C{k}")
    axes[0].set_title("equal rounds")
    axes[1].set_title("equal energy")
    axes[1].set_xlabel("training energy (Wh)" if spent == "energy_wh" else "trainings, all nodes")
    axes[0].legend(loc="lower right")
    _consensus(axes[2], runs)
    return figure


def cost(runs: Sequence[History]) -> str:
    """The column that compares what the runs spent: energy_wh, or trainings where a run has no energy model."""
    unknown = any(np.isnan(run.column("energy_wh").astype(float)).any() for run in runs)
    return "trainings" if unknown else "energy_wh"


def _plain(name: str) -> str:
    """A name as it is, not as mathematics."""
    return name.replace("$", r"\$")


def sweep(runs: Sweep, metric: str = "accuracy", confidence: float = 0.95) -> Figure:
    """A line a setting: the mean over seeds, and its confidence interval."""
    figure, (ax,) = _figure(1)
    summary = runs.summary(metric, confidence)
    groups = summary.groupby(runs.settings, sort=False) if runs.settings else [((), summary)]
    for k, (values, group) in enumerate(groups):
        named = zip(runs.settings, values if isinstance(values, tuple) else (values,))
        ax.plot(group["round"], group["mean"], f"C{k}.-", label=_plain(", ".join(f"{a}={b}" for a, b in named)) or None)
        ax.fill_between(group["round"], group["low"], group["high"], color=f"C{k}", alpha=0.15, linewidth=0)
    if runs.settings:
        ax.legend()
    _label(ax, "round", f"{metric} (mean, {confidence:.0%} confidence)")
    return figure


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'collegium[plot]'") from None

    class Shown(Figure):
        """A figure that a notebook shows at the end of a cell, without pyplot, which would keep a list of it."""

        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", dpi=80)
            return buffer.getvalue()

    figure = Shown(figsize=(4.6 * panels, 3.8), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, panels)))


def metric(run: History) -> str:
    """The column that tells how good the models are: accuracy, else rmse, else loss."""
    if not len(run) or not np.isnan(run.column("accuracy").astype(float)).all():
        return "accuracy"
    return "rmse" if "rmse" in run.last else "loss"


def _accuracy(ax: Axes, run: History, against: str, color: str) -> None:
    name = metric(run)
    x, mean = run.column(against).astype(float), run.column(name).astype(float)
    ax.plot(x, mean, f"{color}.-", label=_plain(run.name))
    spread = run.spread(name)
    ax.fill_between(x, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0)
    _label(ax, against, f"test {name} (mean and spread over nodes)")


def _consensus(ax: Axes, runs: Sequence[History]) -> None:
    for k, run in enumerate(runs):
        ax.plot(run.column("round"), run.column("consensus"), f"C{k}.-", label=_plain(run.name))
    ax.set_yscale("log")
    _label(ax, "round", "consensus distance")
    ax.set_title("disagreement")


def _label(ax: Axes, x: str, y: str) -> Any:
    ax.set(xlabel=x, ylabel=y)
    ax.grid(True, alpha=0.3)


def topology(graph: Topology) -> Figure:
    """The nodes and edges of a graph, its lambda2 in the title; node numbers up to 40 nodes.

    A circle for ring-like graphs (ring, exponential, complete, most small worlds), springs for others.
    The same graph gives the same picture. Made for up to about a thousand nodes.
    """
    from .dl._layout import positions

    figure, (ax,) = _figure(1)
    from matplotlib.collections import LineCollection

    at = positions(graph)
    ax.add_collection(
        LineCollection(list(at[graph.edges]), colors="0.6", linewidths=np.clip(40 / graph.n, 0.2, 1.0), zorder=1)
    )
    small = graph.n <= 40
    ax.scatter(at[:, 0], at[:, 1], s=180 if small else max(4, 4000 / graph.n), c="C0", zorder=2)
    if small:
        for i, (x, y) in enumerate(at.tolist()):
            ax.text(x, y, str(i), color="white", ha="center", va="center", fontsize=8, zorder=3)
    ax.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), aspect="equal")
    ax.set_axis_off()
    pieces = "" if graph.is_connected else f", {len(graph.component_sizes)} components"
    ax.set_title(f"{graph.name}\n$\\lambda_2$ = {graph.lambda2:.3g}{pieces}", fontsize=10)
    return figure


def partition(parts: Parts) -> Figure:
    """Who holds what: a bubble a node and class, its area the number of samples; above it the samples of each node.

    parts: `collegium.data.Parts` with integer labels. Raises TypeError for other labels.
    """
    counts = parts.class_counts()
    nodes, classes = counts.shape
    figure, _ = _figure(2)
    figure.clear()
    figure.set_size_inches(min(4 + 0.22 * nodes, 16), min(2.4 + 0.22 * classes, 12))
    top, main = figure.subplots(2, 1, sharex=True, height_ratios=(1, 3))
    top.bar(np.arange(nodes), parts.sizes, color="C7")
    _label(top, "", "samples")
    node, label = np.nonzero(counts)
    # Bubbles of the fullest cell just touch: the space of a cell in points, squared.
    width, height = (72 * s for s in figure.get_size_inches())
    largest = min(0.85 * width / nodes, 0.6 * height / classes) ** 2
    main.scatter(node, label, largest * counts[node, label] / counts.max(), c=label, cmap="tab20", linewidths=0)
    main.set_ylim(-0.8, classes - 0.2)
    if classes <= 20:
        main.set_yticks(range(classes))
    _label(main, "node", "class")
    top.set_title(parts.dataset.name or f"{nodes} nodes, {classes} classes")
    return figure
