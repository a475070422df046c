"""The main job on real input: D-PSGD and SkipTrain on handwritten digits, at equal rounds and at equal energy."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import _core, data, dl, plot
from ._version import __version__
from .history import COLUMNS, History

GAMMA = 4
LOCAL_STEPS, BATCH_SIZE, LR = 20, 8, 0.1


def run(*, nodes: int = 32, degree: int = 3, rounds: int = 160, seeds: int = 4, out: Path = Path("out")) -> Any:
    """Trains every setting with every seed, prints a table of means over seeds, writes ``demo.png`` and ``demo.csv``
    into `out`. Returns the frame. Raises ValueError for bad arguments, ImportError without pandas or matplotlib.
    """
    import pandas as pd
    from tqdm.auto import tqdm

    period = 2 * GAMMA
    if rounds < 2 * period or rounds % period:
        raise ValueError(f"rounds: expected a multiple of {period} of at least {2 * period}, got {rounds}")
    if seeds < 1:
        raise ValueError(f"seeds: expected at least 1, got {seeds}")
    model = dl.models.MLP(64, 64, 10)
    fleet = dl.energy.DeviceFleet.phones(
        nodes, parameters=model.size, local_steps=LOCAL_STEPS, batch_size=BATCH_SIZE
    )
    # The affordable rounds of CIFAR-10's phones, scaled from the paper's 1,000 rounds to these.
    cifar = dl.energy.DeviceFleet.phones(nodes, task="cifar10").rounds
    assert cifar is not None
    budget = cifar * rounds // 1000
    settings: list[tuple[str, int, Callable[[], dl.Schedule]]] = [
        ("D-PSGD", rounds, dl.DPSGD),
        ("D-PSGD, half the rounds", rounds // 2, dl.DPSGD),
        (f"SkipTrain({GAMMA}, {GAMMA})", rounds, lambda: dl.SkipTrain(GAMMA, GAMMA)),
        ("Greedy, phone budgets", rounds, lambda: dl.Greedy(budget)),
        (f"SkipTrain({GAMMA}, {GAMMA}), phone budgets", rounds, lambda: dl.SkipTrain(GAMMA, GAMMA, budget)),
    ]
    print(
        f"collegium {__version__}: {nodes} nodes on a random {degree}-regular graph, two label shards of the 8x8 digits "
        f"each,\nMLP {'-'.join(map(str, model.sizes))} ({model.size:,} parameters), {LOCAL_STEPS} local steps of batch "
        f"{BATCH_SIZE}, lr {LR}; {seeds} seed(s); {_core.isa()}, {_core.num_threads()} thread(s)"
    )
    runs: list[History] = []
    rows: list[dict[str, Any]] = []
    start = time.perf_counter()
    bar = tqdm(total=seeds * sum(t for _, t, _ in settings), unit="round", desc="training")
    for name, total, schedule in settings:
        for seed in range(1, seeds + 1):
            sim = dl.Simulation(
                dl.topology.regular(nodes, degree, seed=seed), schedule=schedule(), model=model,
                data=data.digits(seed=seed).partition(nodes, kind="shards", shards=2, seed=seed),
                local_steps=LOCAL_STEPS, batch_size=BATCH_SIZE, lr=LR, energy=fleet, seed=seed,
            )  # fmt: skip
            sim.history.name = name
            sim.run(total, period, progress=False, callback=lambda _: _advance(bar, period))
            rows.append({"setting": name, **sim.history.last})
            if seed == 1:
                runs.append(sim.history)
    bar.close()
    frame = pd.DataFrame(rows).groupby("setting", sort=False)[list(COLUMNS)].mean().rename(columns={"round": "rounds"})
    print(f"\nmeans over {seeds} seed(s), {time.perf_counter() - start:.1f} s of training and evaluation:\n")
    print(_table(frame))
    print(
        "\naccuracy: mean over the nodes' own models, ± their spread; mean model: accuracy of the average of all models;"
        "\nconsensus: root mean square distance to that average; Wh: SkipTrain's phone model, not a measurement."
    )
    out.mkdir(parents=True, exist_ok=True)
    figure = plot.compare(runs)
    figure.suptitle(f"{nodes} nodes, {degree}-regular graph, 8x8 digits, 2 label shards a node (seed 1)")
    figure.savefig(out / "demo.png", dpi=120)
    frame.to_csv(out / "demo.csv")
    print(f"\npicture: {out / 'demo.png'}   table: {out / 'demo.csv'}")
    return frame


def _advance(bar: Any, rounds: int) -> None:
    bar.update(rounds)


def _table(frame: Any) -> str:
    shown = frame[["rounds", "trainings"]].astype(int)
    shown.insert(1, "accuracy", [f"{m:.4f} ± {s:.4f}" for m, s in zip(frame["accuracy"], frame["accuracy_std"])])
    shown.insert(2, "mean model", frame["mean_model_accuracy"].map("{:.4f}".format))
    shown.insert(3, "consensus", frame["consensus"].map("{:.3f}".format))
    shown["Wh"] = frame["energy_wh"].map("{:.4f}".format)
    shown["sent"] = [f"{b / 1e6:,.0f} MB" for b in frame["bytes_sent"]]
    shown.index.name = None
    return str(shown.to_string())
