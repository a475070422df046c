"""Native training, evaluation and the packed product against torch and NumPy, with the FMA peak as floor.

    python experiments/bench/bench_local.py [--quick] [--json]

Training: the digits MLP 64-64-10 (32 nodes, E=20, B=8), whose peer is a loop over torch modules (nn.Sequential, one
torch.optim.SGD a node, the same samples, no DataLoader), and 784-128-10 with B=32 against the FMA peak. Evaluation: 32
digits MLPs over 360 samples and 256 models over 10,000 x 784. GEMM: one thread, K=768, N=1536, weights that stay in
cache and weights that come from memory (32 matrices in turn, as experts do).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import pairwise

for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # peers choose their own kernels
    os.environ.pop(name, None)
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import common  # noqa: E402
import numpy as np  # noqa: E402

from collegium import _core  # noqa: E402

try:
    import torch
    from torch.nn import functional
except ImportError:  # peers are left out
    torch = None

Array = np.ndarray


class Fleet:
    """n models of one shape, their samples, and everything mlp_train wants."""

    def __init__(self, sizes: tuple[int, ...], n: int, each: int, samples: int, batch: int, steps: int) -> None:
        rng = np.random.default_rng(1)
        self.sizes, self.n, self.batch, self.steps = sizes, n, batch, steps
        self.data = rng.standard_normal((samples, sizes[0])).astype("f4")
        self.labels = rng.integers(0, sizes[-1], samples)
        self.x = _core.zeros_rows(n, sum((a + 1) * b for a, b in pairwise(sizes)))
        self.nodes = np.arange(n)
        _core.mlp_init(sizes, 1, self.nodes, self.x)
        self.part_ptr = np.arange(n + 1) * each
        self.part_idx = rng.integers(0, samples, n * each)
        self.done = np.zeros(n, np.int64)

    def train(self) -> None:
        """One round of every node, natively."""
        _core.mlp_train(
            self.sizes, "relu", 7, None, self.x, None, self.data, self.labels, self.part_ptr, self.part_idx,
            self.nodes, self.done, self.steps, self.batch, 0.05, 0.0, 0.0, False,
        )  # fmt: skip

    def flops(self) -> float:
        """Of a round: forward and weight gradient of every layer, data gradient of all but the first."""
        weights = [a * b for a, b in pairwise(self.sizes)]
        return 2.0 * self.n * self.steps * self.batch * (3 * sum(weights) - weights[0])

    def modules(self) -> list[torch.nn.Sequential]:
        """The same models in torch."""
        nets = []
        for row in self.x:
            layers: list[torch.nn.Module] = []
            for a, b in pairwise(self.sizes):
                layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
            net = torch.nn.Sequential(*layers[:-1])
            torch.nn.utils.vector_to_parameters(torch.from_numpy(row.copy()), net.parameters())
            nets.append(net)
        return nets

    def torch_round(self) -> object:
        """A function that trains one round with torch, on the same samples."""
        nets = self.modules()
        optimizers = [torch.optim.SGD(net.parameters(), lr=0.05) for net in nets]
        data, labels, step = torch.from_numpy(self.data), torch.from_numpy(self.labels), [0]

        def run() -> None:
            torch.set_num_threads(1)  # more only slow these sizes down
            for r, (net, optimizer) in enumerate(zip(nets, optimizers, strict=True)):
                part = self.part_idx[self.part_ptr[r] : self.part_ptr[r + 1]]
                flat, cut = _core.sample_batches(7, r, step[0], self.steps, len(part), self.batch)
                for e in range(self.steps):
                    b = torch.from_numpy(part[flat[cut[e] : cut[e + 1]]])
                    optimizer.zero_grad()
                    functional.cross_entropy(net(data[b]), labels[b]).backward()
                    optimizer.step()
            step[0] += self.steps

        return run


def under(isa: str, fn: Callable[[], object]) -> Callable[[], None]:
    """fn under an instruction set."""

    def run() -> None:
        _core.force_isa(isa)
        fn()

    return run


def peak(isa: str, threads: int) -> float:
    """Measured FMA peak in GFLOP/s; leaves the threads at that number."""
    _core.force_isa(isa)
    if _core.num_threads() != threads:
        _core.set_num_threads(threads)
    return _core.floor_fma()


def training(title: str, fleet: Fleet, repeats: int) -> list[common.Row]:
    """Rows for one training workload: torch and every instruction set, on one and on two threads."""
    rows: list[common.Row] = []
    for threads in (1, 2):  # apart: a change of their number makes new ones, which would be timed
        _core.set_num_threads(threads)
        fns = {isa: under(isa, fleet.train) for isa in _core.isas()}
        if torch:
            fns["torch loop"] = fleet.torch_round()
        times = common.interleave(fns, repeats)
        for what, t in times.items():
            row: common.Row = {"workload": title, "threads": threads, "what": what, "ms": t.median * 1e3}
            row["GFLOP/s"] = fleet.flops() / t.median * 1e-9
            if what != "torch loop":
                row["% of FMA peak"] = 100 * row["GFLOP/s"] / peak(what, threads)
            if torch:
                row["x torch"] = times["torch loop"].median / t.median
            rows.append(row)
    return rows


def evaluation(title: str, fleet: Fleet, samples: int, torch_threads: int, repeats: int) -> list[common.Row]:
    """Rows for accuracy and loss of every model over the first samples.

    torch_threads: what suits torch best. Its idle threads spin for a while, in the time of whoever comes next.
    """
    data, labels = fleet.data[:samples], fleet.labels[:samples]
    best = _core.isas()[-1]

    def native() -> None:
        _core.mlp_evaluate(fleet.sizes, "relu", None, fleet.x, data, labels)

    def numpy_loop() -> None:
        for row in fleet.x:
            h, at = data, 0
            for a, b in pairwise(fleet.sizes):
                h = h @ row[at : at + a * b].reshape(b, a).T + row[at + a * b : at + (a + 1) * b]
                at += (a + 1) * b
                if at < len(row):
                    np.maximum(h, 0, out=h)
            h -= h.max(1, keepdims=True)
            np.mean(h.argmax(1) == labels), np.mean(np.log(np.exp(h).sum(1)) - h[np.arange(samples), labels])

    _core.set_num_threads(2)
    fns: dict[str, Callable[[], object]] = {f"{best}, 2 threads": under(best, native)}
    fns["NumPy loop, 1 thread"] = numpy_loop
    if torch:
        nets, x, y = fleet.modules(), torch.from_numpy(data), torch.from_numpy(labels)

        def torch_loop() -> None:
            torch.set_num_threads(torch_threads)
            with torch.inference_mode():
                for net in nets:
                    z = net(x)
                    (z.argmax(1) == y).float().mean().item(), functional.cross_entropy(z, y).item()

        fns[f"torch loop, {torch_threads} thread" + "s" * (torch_threads > 1)] = torch_loop
    times, rows = common.interleave(fns, repeats, warmup=1), []
    flops = 2.0 * fleet.n * samples * sum(a * b for a, b in pairwise(fleet.sizes))
    ours = f"{best}, 2 threads"
    for what, t in times.items():
        rows.append(
            {
                "workload": title, "what": what, "ms": t.median * 1e3, "GFLOP/s": flops / t.median * 1e-9,
                "% of FMA peak": 100 * flops / t.median * 1e-9 / peak(best, 1 if "1 thread" in what else 2),
                "time / ours": t.median / times[ours].median,
            }
        )  # fmt: skip
    return rows


def gemm(ms: tuple[int, ...], matrices: int, repeats: int) -> list[common.Row]:
    """Rows for x W^T on one thread; matrices: how many weights take turns (32 x 4.7 MB do not stay in cache)."""
    k, n, rows = 768, 1536, []
    rng = np.random.default_rng(2)
    weights = [rng.standard_normal((n, k)).astype("f4") for _ in range(matrices)]
    packed = [_core.gemm_pack(w) for w in weights]
    tensors = [torch.from_numpy(w) for w in weights] if torch else []
    peaks = {isa: peak(isa, 1) for isa in _core.isas()}
    for m in ms:
        a = rng.standard_normal((m, k)).astype("f4")

        def ours(a: Array = a) -> None:
            for w in packed:
                _core.gemm_packed(a, w, n, None, "none")

        def with_numpy(a: Array = a) -> None:
            for w in weights:
                a @ w.T

        def with_torch(a: Array = a) -> None:
            torch.set_num_threads(1)
            x = torch.from_numpy(a)
            for w in tensors:
                torch.matmul(x, w.T)

        fns = {isa: under(isa, ours) for isa in _core.isas() if isa != "base"}
        fns["NumPy"] = with_numpy
        if torch:
            fns["torch"] = with_torch
        times = common.interleave(fns, repeats)
        row: common.Row = {"weights": "in cache" if matrices == 1 else "from memory", "M": m}
        for what, t in times.items():
            row[f"{what} GFLOP/s"] = 2e-9 * m * n * k * matrices / t.median
        for isa in ("avx2", "avx512"):
            if isa in times:
                row[f"{isa} % peak"] = 100 * row[f"{isa} GFLOP/s"] / peaks[isa]
        fastest = min(times[isa].median for isa in times if isa in peaks)
        row["x NumPy"] = times["NumPy"].median / fastest
        row["x torch"] = times["torch"].median / fastest if torch else None
        row["GB/s of W"] = 4e-9 * n * k * matrices / fastest
        rows.append(row)
    return rows


def main() -> None:
    """Runs everything, prints the tables and saves experiments/bench/results/local.json."""
    args = common.parser(__doc__).parse_args()
    many, few = (3, 2) if args.quick else (21, 5)
    isa, threads = _core.isa(), _core.num_threads()
    digits = Fleet((64, 64, 10), n=32, each=45, samples=1797, batch=8, steps=20)
    large = Fleet((784, 128, 10), n=8, each=500, samples=10_000, batch=32, steps=20)
    fleet256 = Fleet((784, 128, 10), n=16 if args.quick else 256, each=1, samples=10_000, batch=1, steps=1)
    result = {
        "training": training("64-64-10, 32 nodes, E=20, B=8", digits, many)
        + training("784-128-10, 8 nodes, E=20, B=32", large, many),
        "evaluation": evaluation("32 x 64-64-10, 360 samples", digits, 360, 1, many)
        + evaluation(f"{fleet256.n} x 784-128-10, 10,000 samples", fleet256, 10_000, 2, few),
        "gemm, one thread, K=768, N=1536": gemm((1, 4, 8, 16, 48, 128), 1, many) + gemm((1, 2, 4, 8, 16, 48), 32, few),
    }
    _core.force_isa(isa)
    _core.set_num_threads(threads)
    saved = common.save("local", result, quick=args.quick)
    if args.json:
        print(json.dumps(saved, indent=1))
        return
    print(saved["machine"])
    for title, rows in result.items():
        common.table(title, rows)


if __name__ == "__main__":
    main()
