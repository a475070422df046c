"""SkipTrain on the 8x8 digits: 32 nodes, two label shards each, MLP 64-64-10, E=20, B=8, lr 0.1, T=160."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from collegium import data, dl

NODES, ROUNDS, LOCAL_STEPS, BATCH_SIZE, LR = 32, 160, 20, 8, 0.1
MODEL = dl.models.MLP(64, 64, 10)
# The affordable rounds of the four phones, [272, 324, 681, 272] of 1,000 on CIFAR-10, scaled to 160 rounds.
BUDGET = np.array([43, 51, 109, 43])[np.arange(NODES) % 4]

SETTINGS = {
    "D-PSGD": (ROUNDS, dl.DPSGD()),
    "D-PSGD, T/2": (ROUNDS // 2, dl.DPSGD()),
    "SkipTrain(4,4)": (ROUNDS, dl.SkipTrain(4, 4)),
    "SkipTrain(1,1)": (ROUNDS, dl.SkipTrain(1, 1)),
    "SkipTrain(4,2)": (156, dl.SkipTrain(4, 2)),
    "SkipTrain(1,9)": (ROUNDS, dl.SkipTrain(1, 9)),
    "Greedy": (ROUNDS, dl.Greedy(BUDGET)),
    "SkipTrain(4,4), budgets": (ROUNDS, dl.SkipTrain(4, 4, BUDGET)),
}


class Outcome(NamedTuple):
    """One run at its end: means over nodes, and the plan it followed."""

    accuracy: float
    spread: float
    mean_model: float
    trainings: int
    energy_wh: float
    most_over_budget: int


def torch_mlp() -> Any:
    """The same network for the torch learner."""
    from torch import nn

    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def run(name: str, degree: int, seed: int, kind: str = "native") -> Outcome:
    """One setting, one graph, one seed; kind: "native" or "torch"."""
    rounds, schedule = SETTINGS[name]
    sim = dl.Simulation(
        dl.topology.regular(NODES, degree, seed=seed),
        schedule=schedule,
        model=MODEL if kind == "native" else torch_mlp,
        data=data.digits(seed=seed).partition(NODES, kind="shards", shards=2, seed=seed),
        local_steps=LOCAL_STEPS,
        batch_size=BATCH_SIZE,
        lr=LR,
        energy=dl.energy.DeviceFleet.phones(
            NODES, parameters=MODEL.size, local_steps=LOCAL_STEPS, batch_size=BATCH_SIZE
        ),
        seed=seed,
    )
    row = sim.run(rounds, progress=False).last
    over = int((sim.plan(rounds).actions.sum(axis=0) - BUDGET).max())
    return Outcome(
        row["accuracy"], row["accuracy_std"], row["mean_model_accuracy"], row["trainings"], row["energy_wh"], over
    )


def means(name: str, degree: int, seeds: int, kind: str = "native") -> Outcome:
    """The same, averaged over seeds 1 ... `seeds`; the budget's worst case is kept."""
    outcomes = [run(name, degree, seed, kind) for seed in range(1, seeds + 1)]
    average = np.mean([o[:5] for o in outcomes], axis=0).tolist()
    return Outcome(*average, max(o.most_over_budget for o in outcomes))


def table(seeds: int, degrees: tuple[int, ...] = (3, 6), kind: str = "native") -> None:
    """Prints, for each graph, means over seeds at the end of every setting."""
    for degree in degrees:
        print(f"\n8x8 digits, {degree}-regular, {seeds} seed(s), {kind} learner")
        print(f"{'setting':25} accuracy  spread  mean model  trainings      Wh")
        for name in SETTINGS:
            o = means(name, degree, seeds, kind)
            row = f"{o.accuracy:8.4f} {o.spread:7.4f} {o.mean_model:11.4f} {o.trainings:10.0f} {o.energy_wh:7.4f}"
            print(f"{name:25} {row}", flush=True)
