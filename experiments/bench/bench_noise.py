"""Nanoseconds a normal: the addressed generator against NumPy's sequential ones and its own parts.

    python experiments/bench/bench_noise.py [--quick] [--json]

One thread and all, CPU time of the process divided by the numbers made; all kinds in turn. The target is 2.5 ns a
normal and thread (specifications: ZIP-DL). NumPy's are ziggurats on a stream: no address, one thread, other bits on
other devices.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import common
import numpy as np

from collegium import _core

TARGET = 2.5
AT = (1, _core.FOR_NOISE, 0, 0)


def kinds(n: int) -> dict[str, Callable[[], object]]:
    """What is timed, each making n float32 numbers; on one thread unless the name says so."""

    def on(isa: str, threads: int, make: Callable[..., object]) -> Callable[[], object]:
        def call() -> object:
            _core.force_isa(isa)
            _core.set_num_threads(threads)
            return make(*AT, 0, n)

        return call

    best, threads = _core.isas()[-1], _core.num_threads()
    fns = {f"random_normal, {isa}": on(isa, 1, _core.random_normal) for isa in _core.isas()}
    fns[f"random_normal, {best}, {threads} threads"] = on(best, threads, _core.random_normal)
    fns["random_u32 (words alone, scalar)"] = on(best, 1, _core.random_u32)
    for bits in (np.random.Philox, np.random.SFC64, np.random.PCG64):
        generator = np.random.Generator(bits(1))
        fns[f"NumPy {bits.__name__}, ziggurat"] = partial(generator.standard_normal, n, np.float32)
    return fns


def nanoseconds(n: int, repeats: int) -> list[common.Row]:
    """Median and best CPU nanoseconds a number."""
    fns = kinds(n)
    seconds: dict[str, list[float]] = {name: [] for name in fns}
    for k in range(repeats + 1):
        for name, fn in fns.items():
            start = time.process_time()
            fn()
            if k:
                seconds[name].append(time.process_time() - start)
    ns = {name: [s / n * 1e9 for s in kept] for name, kept in seconds.items()}
    ours = statistics.median(ns[f"random_normal, {_core.isas()[-1]}"])
    return [
        {
            "what": name, "cpu ns": statistics.median(v), "best": min(v), "ratio": statistics.median(v) / ours,
            "of target": statistics.median(v) / TARGET,
        }
        for name, v in ns.items()
    ]  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    args = common.parser(__doc__).parse_args(argv)
    n = 2**16 if args.quick else 2**21  # half a second-level cache, or 8 MiB
    isa, threads = _core.isa(), _core.num_threads()
    rows = nanoseconds(n, 3 if args.quick else 25)
    _core.force_isa(isa)
    _core.set_num_threads(threads)
    result = common.save("noise", rows, quick=args.quick)
    if args.json:
        print(json.dumps(result, indent=1))
        return
    print(result["machine"])
    common.table(f"normals, {n:,} float32 a call; target {TARGET} ns a thread", rows)


if __name__ == "__main__":
    main()
