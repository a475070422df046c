"""The gossip family against its targets and peers: schedules and energy, random graphs, mixing weights and lambda2.

    python experiments/bench/bench_gossip.py [--quick] [--json]

Targets: schedule and energy of 256 nodes x 3,000 rounds in 1 ms together; a random 8-regular graph on 1,600 nodes in
1 ms. Peers: the schedule's rule as a NumPy loop over rounds, networkx.random_regular_graph, Metropolis weights in
vectorised NumPy, numpy.linalg.eigvalsh of the dense matrix, scipy.sparse.linalg.eigsh of the sparse one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # peers choose their own kernels
    os.environ.pop(name, None)
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # lambda2 is serial: so is its peer

import common  # noqa: E402
import networkx  # noqa: E402
import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import scipy.sparse  # noqa: E402
import scipy.sparse.linalg  # noqa: E402

from collegium import _core  # noqa: E402
from collegium.dl import MixingMatrix, topology  # noqa: E402

Row = dict[str, Any]
ROUNDS, NODES = 3000, 256
ALWAYS = 1 << 32


def schedules(repeats: int) -> list[Row]:
    """Four published schedules, each with its energy; the coin decides everywhere in the last, the worst case."""
    tau = np.tile(np.array([272, 324, 681, 272]) * 3, 64)
    e = np.tile([0.006532875, 0.005986076, 0.002556283, 0.008519120], 64)
    slots = 1500  # of 3,000 rounds with (4, 4)
    constrained = np.minimum(tau * ALWAYS // slots, ALWAYS).astype(np.uint64)
    half = np.full(NODES, ALWAYS // 2, np.uint64)
    cases: dict[str, tuple[int, int, npt.NDArray[np.uint64] | None, npt.NDArray[np.int64] | None]] = {
        "D-PSGD": (1, 0, None, None),
        "SkipTrain (4,4)": (4, 4, None, None),
        "Greedy": (1, 0, None, tau),
        "constrained (4,4)": (4, 4, constrained, tau),
        "a coin everywhere": (1, 0, half, np.full(NODES, ROUNDS)),
    }
    rows: list[Row] = []
    for what, (train, sync, p, b) in cases.items():
        action = _core.schedule(ROUNDS, NODES, train, sync, p, b, 7, 0)

        def ours(train: int = train, sync: int = sync, p: object = p, b: object = b) -> object:
            return _core.energy(_core.schedule(ROUNDS, NODES, train, sync, p, b, 7, 0), e)  # type: ignore[arg-type]

        fns: dict[str, Callable[[], object]] = {
            "schedule + energy": ours,
            "energy alone": lambda action=action: _core.energy(action, e),
            "NumPy loop over rounds": lambda train=train, sync=sync, p=p, b=b: numpy_schedule(train, sync, p, b, e),
        }
        for isa in _core.isas()[:-1]:
            fns[f"schedule + energy, {isa}"] = lambda isa=isa, ours=ours: under(isa, ours)
        rows += common.compare(common.interleave(fns, repeats), "schedule + energy", schedule=what)
    return rows


def under(isa: str, fn: Callable[[], object]) -> None:
    best = _core.isa()
    _core.force_isa(isa)
    fn()
    _core.force_isa(best)


def numpy_schedule(
    train: int,
    sync: int,
    p: npt.NDArray[np.uint64] | None,
    b: npt.NDArray[np.int64] | None,
    e: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The rule as a user would write it, with NumPy's own generator (its coins have no address)."""
    rng = np.random.default_rng(7)
    left = np.full(NODES, ROUNDS) if b is None else b.copy()
    action = np.zeros((ROUNDS, NODES), np.uint8)
    for t in range(ROUNDS):
        if t % (train + sync) < train:
            trains = left > 0
            if p is not None:
                trains &= rng.integers(0, ALWAYS, NODES, np.uint64) < p
            action[t] = trains
            left -= trains
    spent = action * e
    return spent.sum(0), np.cumsum(spent.sum(1))


def graphs(repeats: int, sizes: list[tuple[int, int]]) -> list[Row]:
    rows: list[Row] = []
    for n, degree in sizes:
        fns: dict[str, Callable[[], object]] = {
            "regular_graph": lambda n=n, degree=degree: _core.regular_graph(n, degree, 1, 0),
            "topology.regular": lambda n=n, degree=degree: topology.regular(n, degree, 1),
            "networkx": lambda n=n, degree=degree: networkx.random_regular_graph(degree, n, seed=1),
        }
        rows += common.compare(common.interleave(fns, repeats), "regular_graph", n=n, degree=degree)
    return rows


def numpy_metropolis(indptr: npt.NDArray[np.int32], indices: npt.NDArray[np.int32]) -> scipy.sparse.csr_matrix:
    n = len(indptr) - 1
    degree = np.diff(indptr)
    rows = np.repeat(np.arange(n), degree)
    off = scipy.sparse.csr_matrix((1.0 / (1 + np.maximum(degree[rows], degree[indices])), (rows, indices)), (n, n))
    return (off + scipy.sparse.diags(1 - np.asarray(off.sum(axis=1)).ravel())).astype(np.float32)


def spectra(repeats: int, sizes: list[int]) -> list[Row]:
    rows: list[Row] = []
    for n in sizes:
        for g in (topology.regular(n, 6, seed=1), topology.ring(n)):
            name = g.name.partition("(")[0]
            fns: dict[str, Callable[[], object]] = {
                "metropolis_weights": lambda g=g: _core.metropolis_weights(g.indptr, g.indices),
                "NumPy + SciPy": lambda g=g: numpy_metropolis(g.indptr, g.indices),
            }
            times = common.interleave(fns, repeats)
            rows += common.compare(times, "metropolis_weights", graph=name, n=n)
            w = g.mixing()
            dense, sparse = w.toarray(), w.to_scipy().astype(np.float64)
            fns = {
                "lambda2": lambda w=w: _core.lambda2(w.indptr, w.indices, w.weights),
                "NumPy eigvalsh": lambda dense=dense: second(np.linalg.eigvalsh(dense)),
            }
            if name == "regular":  # on a large ring ARPACK gives up
                fns["SciPy eigsh"] = lambda sparse=sparse: second(
                    scipy.sparse.linalg.eigsh(sparse, 3, which="LM", return_eigenvectors=False)
                )
            times = common.interleave(fns, max(3, repeats * 64 // n), warmup=1)
            value, residual, steps = _core.lambda2(w.indptr, w.indices, w.weights)
            more = {"steps": steps, "residual": residual, "error": abs(value - second(np.linalg.eigvalsh(dense)))}
            for row in common.compare(times, "lambda2", graph=name, n=n):
                rows.append({**row, **(more if row["what"] == "lambda2" else {})})
            rows.append(power_iteration(w, name, value))
    return rows


def second(eigenvalues: npt.NDArray[np.float64]) -> float:
    return float(np.sort(np.abs(eigenvalues))[-2])


def power_iteration(w: MixingMatrix, graph: str, value: float) -> Row:
    """How many steps the method of the specification needs for a residual of 1e-10; not run where it is hopeless."""
    limit = 20_000
    m = w.to_scipy().astype(np.float64)
    x = np.random.default_rng(0).standard_normal(w.n)
    steps = None
    for k in range(1, limit + 1):
        x -= x.mean()
        x /= np.linalg.norm(x)
        y = m @ x
        y -= y.mean()
        rho = x @ y
        if np.linalg.norm(y - rho * x) <= 1e-10:
            steps = k
            break
        x = y
    return {"graph": graph, "n": w.n, "what": "power iteration", "steps": steps if steps else f"over {limit}"}


def main() -> None:
    args = common.parser(__doc__).parse_args()
    repeats = 5 if args.quick else 41
    parts = {
        "schedule and energy, 256 nodes x 3,000 rounds": schedules(repeats),
        "random regular graphs": graphs(
            repeats if args.quick else 15, [(256, 6), (1600, 8)] if args.quick else [(256, 6), (1600, 8), (10_000, 10)]
        ),
        "mixing weights and lambda2": spectra(repeats, [64] if args.quick else [64, 256, 1024, 2048]),
    }
    result = common.save("gossip", parts, quick=args.quick)
    if args.json:
        print(json.dumps(result, indent=1))
        return
    print(result["machine"])
    for title, rows in parts.items():
        common.table(title, rows)


if __name__ == "__main__":
    main()
