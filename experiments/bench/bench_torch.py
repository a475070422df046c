"""What training torch models through the population costs beside a plain torch loop, and the memory of 256 LeNets.

    python experiments/bench/bench_torch.py [--quick] [--json]

The loop trains as many modules of its own on the same batches, one optimizer each, parameters where torch puts them.
CPU time of the process, both in turn, torch on one thread: with more, threads that wait for each other are counted. The
issue's targets: at most 5 % more CPU time; the engine's own time at most 1 % of a LeNet round; 256 nodes within
1.4 GiB + twice X + one copy of the data, two rounds with eval_samples=500 within four minutes.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import common
import numpy as np
import torch

from collegium import _core, data, dl
from collegium.engine import Context

NODES, STEPS, BATCH = 8, 4, 32


def images(n: int) -> data.Dataset:
    """CIFAR-10 where it is, else random pixels of its shape: the work is the same."""
    try:
        return data.cifar10()
    except data.MissingData:
        rng = np.random.default_rng(0)
        x, y = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, n)
        return data.Dataset(x, y, x[:1000], y[:1000])


def plain_loop(ds: data.Dataset, indices: list[np.ndarray]) -> Callable[[], None]:
    """The same training, written by hand."""
    modules = [dl.models.gn_lenet()() for _ in range(NODES)]
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.01) for m in modules]
    done = [0] * NODES

    def run() -> None:
        for i, (module, optimizer) in enumerate(zip(modules, optimizers)):
            module.train()
            picked, starts = _core.sample_batches(1, i, done[i], STEPS, len(indices[i]), BATCH)
            done[i] += STEPS
            for t in range(STEPS):
                samples = indices[i][picked[starts[t] : starts[t + 1]]]
                x = torch.from_numpy(ds.x[samples]).to(torch.float32).div_(255)
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(module(x), torch.from_numpy(ds.y[samples]))
                loss.backward()
                optimizer.step()

    return run


def views_against_loop(repeats: int) -> list[common.Row]:
    """Median CPU milliseconds of NODES * STEPS local steps, and the median of the paired ratios."""
    torch.set_num_threads(1)
    ds = images(4000)
    parts = ds.partition(NODES, kind="shards", shards=2, seed=1)
    sim = dl.Simulation(
        dl.topology.ring(NODES), model=dl.models.gn_lenet(), data=parts, local_steps=STEPS, batch_size=BATCH, lr=0.01,
        seed=1,
    )  # fmt: skip
    rows, ctx = np.arange(NODES), Context(seed=1)
    fns = {
        "plain torch loop": plain_loop(ds, parts.indices),
        "through row views": lambda: sim.learner.train(rows, STEPS, ctx),
    }
    times: dict[str, list[float]] = {name: [] for name in fns}
    for k in range(repeats + 1):
        for name, fn in fns.items():
            start = time.process_time()
            fn()
            if k:
                times[name].append(time.process_time() - start)
    loop, views = times.values()
    ratios = [b / a for a, b in zip(loop, views)]
    return [
        {"what": "plain torch loop", "cpu ms": statistics.median(loop) * 1e3, "ratio": 1.0},
        {"what": "through row views", "cpu ms": statistics.median(views) * 1e3, "ratio": statistics.median(ratios)},
    ]


def engine_share(rounds: int) -> common.Row:
    """The engine's own part of a round of LeNets: neither training nor mixing nor evaluation."""
    ds = images(4000)
    sim = dl.Simulation(
        dl.topology.ring(NODES), model=dl.models.gn_lenet(), data=ds.partition(NODES, seed=1), local_steps=STEPS,
        batch_size=BATCH, lr=0.01, seed=1,
    )  # fmt: skip
    start = time.perf_counter()
    sim.run(rounds, eval_samples=0, progress=False)
    wall = time.perf_counter() - start
    own = wall - sum(sim.ledger.seconds.values())
    return {"what": f"{NODES} LeNets, E={STEPS}", "ms a round": wall / rounds * 1e3, "engine %": own / wall * 100}


def memory_of(nodes: int) -> common.Row:
    """In a process of its own: peak resident memory and time of two rounds."""
    started = time.perf_counter()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    ds = images(50_000)
    sim = dl.Simulation(
        dl.topology.regular(nodes, 6, seed=1), schedule=dl.SkipTrain(1, 1), model=dl.models.gn_lenet(),
        data=ds.partition(nodes, kind="shards", shards=2, seed=1), local_steps=1, batch_size=BATCH, lr=0.1, seed=1,
    )  # fmt: skip
    sim.run(2, eval_samples=500, progress=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    allowed = 1.4 * 2**30 + 2 * sim.population.nbytes + ds.x.nbytes + (0 if ds.x_test is None else ds.x_test.nbytes)
    return {
        "what": f"{nodes} LeNets, two rounds, eval_samples=500", "seconds": time.perf_counter() - started,
        "peak GiB": peak / 2**30, "allowed GiB": allowed / 2**30,
    }  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    p = common.parser(__doc__)
    p.add_argument("--memory-of", type=int, help="only this, in this process")
    args = p.parse_args(argv)
    if args.memory_of:
        print(json.dumps(memory_of(args.memory_of)))
        return
    command = [sys.executable, __file__, "--memory-of", "32" if args.quick else "256"]
    rows = {
        "training": views_against_loop(3 if args.quick else 15),
        "engine": [engine_share(2 if args.quick else 5)],
        "memory": [json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)],
    }
    result = common.save("torch", rows, quick=args.quick)
    if args.json:
        print(json.dumps(result, indent=1))
        return
    print(result["machine"])
    common.table("training of LeNets: CPU time, one thread, in turn", rows["training"])
    common.table("the engine's own time", rows["engine"])
    common.table("memory", rows["memory"])


if __name__ == "__main__":
    main()
