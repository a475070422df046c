"""Training all nodes' LeNets in one call against one node after another, and on a GPU where there is one.

    python experiments/bench/bench_batched.py [--quick] [--json]

Local steps of batch 32 on images of CIFAR-10's shape, both learners on the same machine in turn. "ratio" is the time of
the per-row learner on the CPU over the row's: above 1 the batch is faster. The paper's round is 256 nodes, 20 steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import common
import numpy as np
import torch

from collegium import data, dl
from collegium.engine import Context

STEPS, BATCH = 2, 32
WARM = 3 if torch.cuda.is_available() else 1  # a graph is recorded at a step's third time
ON_A_GPU = "not run: torch finds no CUDA device"


def images(nodes: int) -> data.Parts:
    """Random pixels, two and a bit batches a node: every third batch is smaller, as in a real epoch."""
    rng = np.random.default_rng(0)
    count = nodes * (2 * BATCH + 8)
    x, y = rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, count)
    return data.Dataset(x, y, x[:64], y[:64]).partition(nodes, seed=1)


def trainer(learner: dl.TorchLearner) -> tuple[Callable[[], None], Callable[[], None]]:
    """Functions that train, and evaluate, all nodes once; they wait for the device."""
    sim = dl.Simulation(dl.topology.ring(learner.n), learner=learner, local_steps=STEPS, seed=1)
    rows, ctx = np.arange(learner.n), Context(seed=1)

    def train() -> None:
        learner.train(rows, STEPS, ctx)

    def evaluate() -> None:
        learner.evaluate(sim.population.X)

    return train, evaluate


def learners(nodes: int, chunks: list[int]) -> dict[str, dl.TorchLearner]:
    """What is compared, by name."""
    parts, options = images(nodes), {"batch_size": BATCH, "lr": 0.01}
    made: dict[str, dl.TorchLearner] = {
        "cpu, one after another": dl.TorchLearner(dl.models.gn_lenet(), parts, **options)
    }
    for chunk in (c for c in chunks if c <= nodes):
        made[f"cpu, {chunk} at once"] = dl.BatchedTorchLearner(dl.models.gn_lenet(), parts, chunk=chunk, **options)
    if torch.cuda.is_available():
        for graph in ("off", "on"):
            made[f"gpu, all at once, graphs {graph}"] = dl.BatchedTorchLearner(
                dl.models.gn_lenet(), parts, device="cuda", cuda_graph=graph, **options
            )
    return made


def training(nodes: int, chunks: list[int], repeats: int) -> list[common.Row]:
    """Milliseconds of a node's step, and of evaluating a node on 64 samples."""
    made = {name: trainer(learner) for name, learner in learners(nodes, chunks).items()}
    steps = common.interleave({name: train for name, (train, _) in made.items()}, repeats, WARM)
    tests = common.interleave({name: evaluate for name, (_, evaluate) in made.items()}, repeats, warmup=1)
    first = next(iter(made))
    rows: list[common.Row] = [
        {
            "nodes": nodes, "what": name, "ms a node's step": steps[name].median * 1e3 / nodes / STEPS,
            "ratio": steps[first].median / steps[name].median,
            "ms a node's test": tests[name].median * 1e3 / nodes,
            "test ratio": tests[first].median / tests[name].median,
        }
        for name in made
    ]  # fmt: skip
    return rows if torch.cuda.is_available() else [*rows, {"nodes": nodes, "what": f"gpu, all at once: {ON_A_GPU}"}]


def main(argv: list[str] | None = None) -> None:
    args = common.parser(__doc__).parse_args(argv)
    plan = [(4, [2], 1)] if args.quick else [(16, [4, 16], 3), (64, [16], 1), (256, [16], 1)]
    rows = [row for nodes, chunks, repeats in plan for row in training(nodes, chunks, repeats)]
    result = common.save("batched", rows, quick=args.quick)
    if args.json:
        print(json.dumps(result, indent=1))
        return
    print(result["machine"])
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ON_A_GPU
    common.table(
        f"LeNets of 89,834 parameters, batch {BATCH}; torch threads {torch.get_num_threads()}; GPU: {gpu}", rows
    )


if __name__ == "__main__":
    main()
