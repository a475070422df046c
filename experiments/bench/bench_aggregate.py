"""Mixing, consensus and the search for NaN against the machine's memory bandwidth and against peers.

The issue's targets for mix at n=256, P=89,834 (SkipTrain's CIFAR-10 network), 6-regular, two threads: at least 75 % of
memcpy's and 55 % of a non-temporal copy's bandwidth over the compulsory 8nP bytes; four fused rounds at most 1.9 times
one and at most 0.55 of four calls; at least 6 times scipy.sparse, torch.sparse and a loop over nodes in torch.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import common
import networkx
import numpy as np
import numpy.typing as npt

from collegium import _core

F32 = npt.NDArray[np.float32]
Csr = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], F32]


def graph(n: int, degree: int | None) -> Csr:
    """Uniform weights over a random regular graph and oneself; None: the complete graph."""
    if degree is None:
        near = [np.arange(n) for _ in range(n)]
    else:
        g = networkx.random_regular_graph(degree, n, seed=1)
        near = [np.sort([i, *g.neighbors(i)]) for i in range(n)]
    k = len(near[0])
    weights = np.full((n, k), 1 / k, np.float32)
    rows, own = np.nonzero(np.array(near) == np.arange(n)[:, None])
    weights[rows, own] = 1.0 - (k - 1) * float(np.float32(1 / k))
    return np.arange(n + 1, dtype=np.int32) * np.int32(k), np.concatenate(near).astype(np.int32), weights.reshape(-1)


def population(n: int, p: int) -> F32:
    x = _core.zeros_rows(n, p)
    x[:] = np.random.default_rng(0).standard_normal((n, p), np.float32)
    return x


def mixer(x: F32, y: F32, w: Csr, rounds: int = 1) -> Callable[[], None]:
    table, cols = [[w]] * rounds, np.array([0, x.shape[1]], np.int64)
    return lambda: _core.mix(x, y, table, cols)


def peers(x: F32, w: Csr) -> dict[str, Callable[[], object]]:
    """The same product by others, on contiguous copies; those that are not installed are left out."""
    n, plain = len(x), np.ascontiguousarray(x)
    found: dict[str, Callable[[], object]] = {}
    try:
        import scipy.sparse

        matrix = scipy.sparse.csr_matrix((w[2], w[1], w[0]), shape=(n, n))
        found["scipy.sparse"] = lambda: matrix @ plain
    except ImportError:
        pass
    try:
        import torch
    except ImportError:
        return found
    warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)  # beta state, no invariant checks
    torch.set_num_threads(_core.num_threads())
    tx, ty = torch.from_numpy(plain), torch.empty(plain.shape)
    tw = torch.sparse_csr_tensor(torch.from_numpy(w[0]), torch.from_numpy(w[1]), torch.from_numpy(w[2]), size=(n, n))
    found["torch.sparse"] = lambda: torch.sparse.mm(tw, tx)
    near = [[(int(w[1][e]), float(w[2][e])) for e in range(w[0][i], w[0][i + 1])] for i in range(n)]

    def loop() -> None:
        for i, entries in enumerate(near):
            torch.mul(tx[entries[0][0]], entries[0][1], out=ty[i])
            for j, weight in entries[1:]:
                ty[i].add_(tx[j], alpha=weight)

    found["torch loop over nodes"] = loop
    return found


def check(x: F32, w: Csr) -> None:
    """Refuses to time a wrong result."""
    y = _core.zeros_rows(*x.shape)
    mixer(x, y, w)()
    cols = slice(None, None, max(1, x.shape[1] // 97))
    want = np.zeros(y[:, cols].shape)
    for i in range(len(x)):
        entries = slice(w[0][i], w[0][i + 1])
        want[i] = w[2][entries].astype(float) @ x[w[1][entries], cols].astype(float)
    np.testing.assert_allclose(y[:, cols], want, atol=1e-5)


def bench_mix(n: int, p: int, degree: int, repeats: int) -> tuple[list[common.Row], list[common.Row]]:
    """The headline case: rows of the table, and target | wanted | measured."""
    x, y, w = population(n, p), _core.zeros_rows(n, p), graph(n, degree)
    check(x, w)
    z, here = _core.zeros_rows(n, p), population(n, p)
    src, dst = common.aligned(n * p), common.aligned(n * p)
    steps = [mixer(a, b, w) for a, b in ((x, y), (y, z), (z, y), (y, z))]
    fns: dict[str, Callable[[], object]] = {
        "memcpy": lambda: _core.floor_copy(src, dst, "memcpy"),
        "copy, non-temporal": lambda: _core.floor_copy(src, dst, "stream"),
        "mix, 1 round": mixer(x, y, w),
        "mix, 4 rounds fused": mixer(x, y, w, 4),
        "mix, 4 calls": lambda: [step() for step in steps],
        "mix, 1 round in place": mixer(here, here, w),
        "mix, 4 rounds in place": mixer(here, here, w, 4),
    }
    others = peers(x, w)
    t = common.interleave({**fns, **others}, repeats)
    rows = common.compare(t, "mix, 1 round", "copy, non-temporal", n=n, P=p, degree=degree)
    for row in rows:
        calls = 4 if row["what"] == "mix, 4 calls" else 1
        row["GB/s"] = calls * 8e-6 * n * p / row["ms"]
    one, four = t["mix, 1 round"].median, t["mix, 4 rounds fused"].median
    goals = [
        ("of memcpy bandwidth", ">=", 0.75, t["memcpy"].median / one),
        ("of non-temporal copy bandwidth", ">=", 0.55, t["copy, non-temporal"].median / one),
        ("four fused rounds / one", "<=", 1.9, four / one),
        ("four fused rounds / four calls", "<=", 0.55, four / t["mix, 4 calls"].median),
        *((f"times faster than {name}", ">=", 6.0, t[name].median / one) for name in others),
    ]
    return rows, [
        {
            "target": name,
            "wanted": f"{sign} {want}",
            "measured": got,
            "met": got >= want if sign == ">=" else got <= want,
        }
        for name, sign, want, got in goals
    ]


def bench_growth(floats: int, nodes: Sequence[int], repeats: int) -> list[common.Row]:
    """One round at the same size of X for every n and degree."""
    rows = []
    src, dst = common.aligned(floats), common.aligned(floats)
    for n in nodes:
        p = floats // n
        x, y = population(n, p), _core.zeros_rows(n, p)
        fns: dict[str, Callable[[], object]] = {"floor": lambda: _core.floor_copy(src, dst, "stream")}
        graphs = {"3": graph(n, 3), "6": graph(n, 6), "10": graph(n, 10), "complete": graph(n, None)}
        fns |= {name: mixer(x, y, w) for name, w in graphs.items()}
        t = common.interleave(fns, repeats, warmup=1)
        for name, w in graphs.items():
            flops = 2 * len(w[1]) * p
            rows.append(
                {
                    "n": n,
                    "P": p,
                    "degree": name,
                    "ms": t[name].median * 1e3,
                    "x floor": t[name].median / t["floor"].median,
                    "GFLOP/s": flops * 1e-9 / t[name].median,
                }
            )
    return rows


def bench_stride(n: int, p: int, repeats: int) -> list[common.Row]:
    """A power of two as row stride: all rows of a column fall into the same cache sets."""
    w, padded = graph(n, 6), population(n, p)
    plain = common.aligned(n * p).reshape(n, p)
    plain[:] = padded
    y, z = np.empty_like(plain), _core.zeros_rows(n, p)
    src, dst = common.aligned(n * p), common.aligned(n * p)
    t = common.interleave(
        {
            "copy, non-temporal": lambda: _core.floor_copy(src, dst, "stream"),
            "odd number of lines": mixer(padded, z, w),
            "power of two": mixer(plain, y, w),
        },
        repeats,
    )
    return common.compare(t, "odd number of lines", "copy, non-temporal", n=n, P=p, degree=6)


def bench_reading(n: int, p: int, repeats: int) -> list[common.Row]:
    x, flat = population(n, p), common.aligned(n * p)
    plain = np.ascontiguousarray(x)
    read: dict[str, Callable[[], object]] = {"streaming read": lambda: _core.floor_read(flat)}

    def numpy_consensus() -> float:
        mean = plain.mean(0, dtype=np.float64)
        return float(((plain - mean) ** 2).sum())

    rows = []
    for ours, fn, peer, peer_fn in (
        ("consensus", lambda: _core.consensus(x, None), "consensus in numpy, float64", numpy_consensus),
        (
            "find_nonfinite",
            lambda: _core.find_nonfinite(x, None),
            "numpy.isfinite().all()",
            lambda: np.isfinite(plain).all(),
        ),
    ):
        t = common.interleave({**read, ours: fn, peer: peer_fn}, repeats)
        rows += common.compare(t, ours, "streaming read", n=n, P=p)
    return rows


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    args = common.parser(__doc__).parse_args(argv)
    n, p, repeats = (64, 20_000, 3) if args.quick else (256, 89_834, 15)
    few, nodes = (3, (16, 64)) if args.quick else (7, (16, 64, 256, 1024))
    mix, targets = bench_mix(n, p, 6, repeats)
    result = common.save(
        "aggregate",
        {
            "mix": mix,
            "targets": targets,
            "growth": bench_growth(n * p, nodes, few),
            "stride": bench_stride(n, 1 << (p.bit_length() - 1), repeats),
            "reading": bench_reading(n, p, repeats),
        },
        quick=args.quick,
    )
    if args.json:
        print(json.dumps(result, indent=1))
        return result
    print(", ".join(f"{k} {v}" for k, v in result["machine"].items()))
    titles = {
        "mix": "mix; floor: a non-temporal copy of X; ratio: to one round",
        "targets": "targets of mix (for n=256, P=89,834, two threads)",
        "growth": "one round, by nodes and degree, at equal bytes; floor: a non-temporal copy of X",
        "stride": "row stride",
        "reading": "consensus and the search for NaN; floor: a streaming read of X; ratio: to ours",
    }
    for name, title in titles.items():
        common.table(title, result["rows"][name])
    return result


if __name__ == "__main__":
    main()
