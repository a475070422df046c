"""SkipTrain on images with torch: LeNet on CIFAR-10 at 16 nodes, and the paper's two tasks at 256."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from collegium import data, dl


@dataclass(frozen=True)
class Task:
    """What is trained, and for how long. gammas: the (gamma_train, gamma_sync) to try. eval_samples: of the test half
    along the way; end_samples: at the end."""

    name: str
    nodes: int
    degrees: tuple[int, ...]
    rounds: int
    local_steps: int
    batch_size: int
    lr: float
    phones: str  # whose energy table
    gammas: tuple[tuple[int, int], ...]
    eval_samples: int | None
    eval_every: int
    end_samples: int | None = None
    images: tuple[int, int] | None = None  # so many of CIFAR-10's first training and test images; None: all


GRID = tuple((a, b) for a in range(1, 5) for b in range(1, 5))
SMALL = Task("cifar10", 16, (3,), 120, 4, 32, 0.1, "cifar10", ((4, 4),), 1000, 40)
PAPER = (
    Task("cifar10", 256, (6, 8, 10), 1000, 20, 32, 0.1, "cifar10", GRID, None, 40),
    Task("femnist", 256, (6, 8, 10), 3000, 7, 16, 0.1, "femnist", GRID, None, 120),
)


def model(task: Task) -> Any:
    """The paper's network."""
    return dl.models.gn_lenet() if task.name == "cifar10" else dl.models.femnist_cnn()


def parts(task: Task, seed: int) -> data.Parts:
    """Two label shards a node of CIFAR-10; whole writers of FEMNIST."""
    if task.name == "cifar10":
        ds = data.cifar10()
        if task.images is not None:
            train, test = task.images
            ds = data.Dataset(ds.x[:train], ds.y[:train], ds.x_test[:test], ds.y_test[:test], name="cifar10")
        return ds.partition(task.nodes, kind="shards", shards=2, seed=seed)
    return data.femnist().partition(task.nodes, kind="groups", seed=seed)


def normalised(x: Any) -> Any:
    """uint8 pixels to -1 ... 1, as the reference does; floats as they are."""
    return x.float().div_(127.5).sub_(1) if not x.is_floating_point() else x


def fleet(task: Task) -> dl.energy.DeviceFleet:
    """The four phones, with the energy of this task's rounds."""
    steps = {"local_steps": task.local_steps, "batch_size": task.batch_size}
    return dl.energy.DeviceFleet.phones(task.nodes, task=task.phones, **steps)


def schedules(task: Task) -> dict[str, tuple[int, dl.Schedule]]:
    """name -> (rounds, schedule): the baselines at equal rounds and at equal energy, SkipTrain, and budgets."""
    budget = fleet(task).rounds
    assert budget is not None
    named: dict[str, tuple[int, dl.Schedule]] = {
        "D-PSGD": (task.rounds, dl.DPSGD()),
        "D-PSGD, T/2": (task.rounds // 2, dl.DPSGD()),
    }
    for a, b in task.gammas:
        named[f"SkipTrain({a},{b})"] = task.rounds, dl.SkipTrain(a, b)
    if task.nodes == 256:
        named["Greedy"] = task.rounds, dl.Greedy(budget)
        named["SkipTrain(4,4), budgets"] = task.rounds, dl.SkipTrain(4, 4, budget)
    return named


def simulation(task: Task, schedule: dl.Schedule, degree: int, seed: int, device: str = "cpu") -> dl.Simulation:
    """Half of the test set is validation, as in the paper."""
    return dl.Simulation(
        dl.topology.regular(task.nodes, degree, seed=seed), schedule=schedule,
        model=model(task), data=parts(task, seed), validation=0.5, transform=normalised,
        local_steps=task.local_steps, batch_size=task.batch_size, lr=task.lr, energy=fleet(task), seed=seed,
        device=device,
    )  # fmt: skip


def run(
    task: Task,
    seeds: Iterable[int],
    out: Path,
    progress: bool | None = None,
    *,
    device: str = "cpu",
    only: str | None = None,
) -> Any:
    """Every schedule (or the one named `only`) on every graph; resumes what it finds in `out`. Prints and returns the
    frame of the ends."""
    import pandas as pd

    rows = []
    for degree in task.degrees:
        for name, (rounds, schedule) in schedules(task).items():
            if only not in (None, name):
                continue
            for seed in seeds:
                sim = simulation(task, schedule, degree, seed, device)
                sim.history.name = f"{name}, {degree}-regular, seed {seed}"
                folder = out / task.name / f"{name.replace(' ', '').replace(',', '_')}-{degree}-{seed}"
                hist = sim.run(
                    rounds, task.eval_every, eval_samples=task.eval_samples, checkpoint=folder, resume=True,
                    progress=progress,
                )  # fmt: skip
                hist.report(folder / "report.html")
                end = sim.evaluate(task.end_samples)
                rows.append({"degree": degree, "setting": name, "seed": seed, **end, "seconds": sim.ledger.seconds})
                spent = ", ".join(f"{what} {s:.1f} s" for what, s in sim.ledger.seconds.items())
                print(
                    f"{degree}-regular seed {seed} {name:25} "
                    f"accuracy {end['accuracy']:.4f} ± {end['accuracy_std']:.4f}  "
                    f"mean model {end['mean_model_accuracy']:.4f}  consensus {hist.last['consensus']:.3f}  "
                    f"trainings {hist.last['trainings']}  {hist.last['energy_wh']:.3f} Wh  ({spent})",
                    flush=True,
                )
    frame = pd.DataFrame(rows)
    out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out / f"{task.name}.csv", index=False)
    return frame


def dry_run(task: Task, say: Callable[[str], None] = print) -> None:
    """Prints what the task would take: graphs, energy, memory, operations. Trains nothing, loads no data."""
    from collegium.dl.torch_models import training_flops

    network = model(task)
    size = sum(p.numel() for p in network().parameters())
    flops = training_flops(network, task.batch_size)
    say(
        f"\n{task.name}: {task.nodes} nodes, {network!r} ({size:,} parameters), T = {task.rounds}, "
        f"E = {task.local_steps}, B = {task.batch_size}, lr {task.lr}"
    )
    for degree in task.degrees:
        G = dl.topology.regular(task.nodes, degree, seed=1)
        say(
            f"  graph: {degree}-regular, lambda2 {G.lambda2:.3f}, connected: {'yes' if G.is_connected else 'no'}; "
            f"{G.suggested_sync_rounds(0.01)} rounds shrink disagreement 100 times"
        )
    energy = fleet(task)
    for name, (rounds, schedule) in schedules(task).items():
        actions = schedule.plan(rounds, task.nodes, 1)
        trainings = int(actions.sum(dtype=int))
        wh = float((actions.sum(0) * energy.e_wh).sum())
        sent = [rounds * task.nodes * d * size * 4 / 1e9 for d in task.degrees]
        say(
            f"  {name:25} {trainings:9,} trainings  {wh:10.2f} Wh  {trainings * task.local_steps * flops / 1e15:8.2f} "
            f"PFLOP of training  sent {', '.join(f'{s:,.0f}' for s in sent)} GB"
        )
    population = dl.Population(1, {"all": (size,)}).leading_dimension * 4 * task.nodes
    samples = {"cifar10": 60_000 * 3072, "femnist": 805_263 * 784 * 4}[task.name]
    say(
        f"  memory: models {population / 1e6:.0f} MB (a checkpoint is as large), data {samples / 1e6:.0f} MB mapped "
        f"from disk, torch and activations about 600 MB; one process"
    )


def quick(task: Task) -> Task:
    """A few rounds of the same, to see that it runs."""
    few = {"rounds": 4, "local_steps": 1, "eval_samples": 64, "end_samples": 64}
    return replace(task, gammas=task.gammas[:1], degrees=task.degrees[:1], **few)
