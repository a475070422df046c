"""What the engine costs beside the work, and what an import costs beside NumPy's.

    python experiments/bench/bench_engine.py [--quick] [--json]

A round of 32 digits MLPs is timed as a user runs it, through `Simulation.run`; the engine's own time is the wall clock
less training, exchange and evaluation. Imports are whole processes, in turn.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import common
import numpy as np

from collegium import data, dl


def simulation(n: int) -> dl.Simulation:
    parts = data.digits().partition(n, kind="shards", shards=2, seed=1)
    fleet = dl.energy.DeviceFleet.phones(n, parameters=4810, local_steps=20, batch_size=8)
    return dl.Simulation(
        dl.topology.regular(n, 6, seed=1), schedule=dl.DPSGD(), model=dl.models.MLP(64, 64, 10), data=parts,
        local_steps=20, batch_size=8, lr=0.1, energy=fleet, seed=7,
    )  # fmt: skip


def engine(n: int, rounds: int, repeats: int) -> common.Row:
    """Medians over `repeats` runs of `rounds` rounds, microseconds a round."""
    parts: list[tuple[float, ...]] = []
    sim = simulation(n)
    for k in range(1, repeats + 1):
        before = dict(sim.ledger.seconds)
        start = time.perf_counter()
        sim.run(k * rounds, progress=False)
        wall = time.perf_counter() - start
        spent = [sim.ledger.seconds[what] - before[what] for what in ("train", "exchange", "evaluate")]
        parts.append((wall, *spent, wall - sum(spent)))
    wall, train, exchange, evaluate, own = (float(np.median(c)) / rounds * 1e6 for c in zip(*parts))
    return {
        "what": f"D-PSGD, {n} digits MLPs, us a round", "wall": wall, "train": train, "exchange": exchange,
        "evaluate": evaluate, "engine": own,
    }  # fmt: skip


def imports(repeats: int) -> list[common.Row]:
    """Whole processes, in turn."""

    def run(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    times = common.interleave(
        {
            "import numpy": lambda: run("import numpy"),
            "import collegium": lambda: run("import numpy, collegium"),
            "import collegium.dl, collegium.data": lambda: run("import numpy, collegium.dl, collegium.data"),
        },
        repeats=repeats,
    )
    floor = times["import numpy"]
    return [
        {"what": name, "ms": t.median * 1e3, "over numpy ms": (t.median - floor.median) * 1e3, "best ms": t.best * 1e3}
        for name, t in times.items()
    ]


def main(argv: list[str] | None = None) -> None:
    args = common.parser(__doc__).parse_args(argv)
    repeats = 3 if args.quick else 15
    rows = {"round": [engine(n, 50, repeats) for n in ((32,) if args.quick else (32, 256))], "import": imports(repeats)}
    result = common.save("engine", rows, quick=args.quick)
    if args.json:
        print(json.dumps(result, indent=1))
        return
    print(result["machine"])
    common.table("the engine's own time", rows["round"])
    common.table("imports, whole processes", rows["import"])


if __name__ == "__main__":
    main()
