"""The CUDA extension: builds it, checks it against the CPU, then times every kernel against floors and peers.

In this order, stopping at the first failure: build; the kernels' twins on the CPU; where there is a GPU, tests/gpu and
compute-sanitizer (where installed) and the times, as one table a family and results/gpu.json. Without a GPU it says why
and exits with status 3 after the twins.

Floors, timed in turn with the kernels: a copy on the device for what memory bounds, cuBLAS SGEMM (plain float32) for
products. Peers where installed: torch.sparse, faiss-gpu. The issue's targets, on an H200: mixing 256 x 89,834 at 75 %
of copy bandwidth or more; nearest key 4,096 x 100,000 x 768 at 0.85 of SGEMM or more, not slower than faiss-gpu Flat.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import common
import numpy as np

from collegium import _core, cuda, dl, rag

ROOT = Path(__file__).resolve().parents[2]
NO_GPU = 3  # exit status
BATCH = 32  # samples of a local step
PAPER_STEPS = 500 * 20  # of each node: SkipTrain(4, 4) trains in half of 1,000 rounds
Calls = dict[str, Callable[[], object]]


class Sizes(NamedTuple):
    """What is timed; `QUICK` for a look, `TINY` for a test of this script."""

    nodes: int = 256
    parameters: int = 89_834  # SkipTrain's CIFAR-10 network
    numbers: int = 1 << 26
    batch: int = 4096
    keys: int = 100_000
    dim: int = 768
    queries: int = 8192  # of the router
    sources: int = 13
    crossover: tuple[int, ...] = (1_000, 10_000, 100_000)
    seconds: float = 0.1  # of one sample
    samples: int = 7


QUICK = Sizes(numbers=1 << 22, batch=1024, keys=20_000, queries=1024, crossover=(1_000, 10_000), samples=3)
TINY = Sizes(8, 300, 100, 5, 40, 9, 6, 3, (10,), 0.0, 1)


# ---- build and check ----


def run(*command: str, **environment: str) -> None:
    """Runs a step, its output as it comes. Raises SystemExit with its status."""
    print(f"\n$ {' '.join(command)}", flush=True)
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment})
    if done.returncode:
        raise SystemExit(done.returncode)


def build() -> None:
    """The extension in place, for this tree; warnings are errors."""
    run(sys.executable, "setup.py", "-q", "build_ext", "--inplace", COLLEGIUM_CUDA="on", COLLEGIUM_DEV="1")


def twins() -> None:
    """The kernels' bodies and everything around them on the CPU."""
    tests = [*map(str, sorted(ROOT.glob("tests/unit/test_cuda_*.py"))), "tests/system/test_c_programs.py"]
    run(sys.executable, "-m", "pytest", "-q", "-k", "cuda", *tests)


def device_checks() -> None:
    """tests/gpu, then its kernels once more under compute-sanitizer where that is installed."""
    run(sys.executable, "-m", "pytest", "-q", "tests/gpu")
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        print("compute-sanitizer: not installed, not run")
        return
    few = "12-37 or dead or nan or 9-127 or 130-129-33 or 5-130-3 or 3-6 or router or alignment or rowconv"
    for tool in ("memcheck", "racecheck"):
        run(sanitizer, "--tool", tool, "--error-exitcode", "9", sys.executable, "-m", "pytest", "-q", "-k", few,
            "tests/gpu/test_kernels.py", "tests/gpu/test_rowconv.py")  # fmt: skip


# ---- time ----


def timed(calls: Mapping[str, Callable[[], object]], sizes: Sizes) -> dict[str, common.Timing]:
    """Seconds a call, the calls in turn: each sample is as many launches as fill `seconds`, then one wait."""
    module = cuda.need()

    def sample(fn: Callable[[], object], times: int) -> float:
        module.stream_sync(0, cuda.current_stream())
        start = time.perf_counter()
        for _ in range(times):
            fn()
        module.stream_sync(0, cuda.current_stream())
        return (time.perf_counter() - start) / times

    often = {}
    for name, fn in calls.items():
        sample(fn, 2)
        often[name] = max(1, min(1000, int(sizes.seconds / sample(fn, 1))))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(sizes.samples):
        for name, fn in calls.items():
            seconds[name].append(sample(fn, often[name]))
    return {name: common.Timing(statistics.median(s), min(s)) for name, s in seconds.items()}


def rows_of(
    times: Mapping[str, common.Timing], ours: str, floor: str, *, bytes_: float = 0, flops: float = 0, **more: Any
) -> list[common.Row]:
    """`common.compare` with the rate, and the share of the floor's rate that is reached (1: the floor itself)."""
    rows = common.compare(times, ours, **more)
    for row in rows:
        seconds = float(row["ms"]) / 1e3
        if bytes_:
            row["GB/s"] = bytes_ / seconds / 1e9
        if flops:
            row["TFLOP/s"] = flops / seconds / 1e12
        row["of floor"] = times[floor].median / seconds
    return rows


def torch_cuda() -> Any:
    """torch if it sees the GPU, else None."""
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


def torch_sparse(W: Any, x: Any, rounds: int) -> Callable[[], object]:
    """The same rounds by torch's sparse product, on a contiguous copy."""
    torch = torch_cuda()
    csr = [torch.from_numpy(a).cuda() for a in (W.indptr, W.indices, W.weights)]
    w, t = torch.sparse_csr_tensor(*csr, size=(W.n, W.n)), torch.as_tensor(x, device="cuda").contiguous()
    return lambda: [torch.sparse.mm(w, t) for _ in range(rounds)]


def mixing(s: Sizes) -> list[common.Row]:
    """k fused rounds of a 6-regular graph, the public call and the bare plan; floor: a copy of X on the device."""
    module, n, p = cuda.need(), s.nodes, s.parameters
    W = dl.topology.regular(n, min(6, n - 2), seed=1).mixing()
    x, y = cuda.zeros_rows(n, p), cuda.zeros_rows(n, p)
    x.fill_from(np.random.default_rng(0).standard_normal((n, p), np.float32))
    stream, whole = cuda.current_stream(), 4 * x.strides[0] * n  # one piece, padding included
    source, target = (cuda.view(a, "x", np.float32, 2) for a in (x, y))
    rows = []
    for rounds in (1, 4):
        table = [[(W.indptr, W.indices, W.weights)]] * rounds
        plan = cuda.MixPlan(table, np.array([0, p]), n)
        calls: Calls = {
            "copy": lambda: module.copy(0, stream, y.address, whole, x.address, whole, whole, 1),
            "plan.run": lambda plan=plan: plan.run(source, target, stream),
            "dl.mix": lambda rounds=rounds: dl.mix(x, W, rounds, out=y),
        }
        if torch_cuda():
            calls["torch.sparse"] = torch_sparse(W, x, rounds)
        rows += rows_of(timed(calls, s), "plan.run", "copy", bytes_=8.0 * n * p, n=n, P=p, rounds=rounds)
    calls = {
        "copy": lambda: module.copy(0, stream, y.address, whole, x.address, whole, whole, 1),
        "consensus": lambda: cuda.consensus(x),
        "average": lambda: cuda.average(x, np.full(n, 1 / n)),
    }
    return rows + rows_of(timed(calls, s), "consensus", "copy", bytes_=4.0 * n * p, n=n, P=p, rounds=0)


def noise(s: Sizes) -> list[common.Row]:
    """Words and normals; floor: filling as much memory with zeros."""
    module, n = cuda.need(), s.numbers
    out = cuda.empty((n,))
    stream, at = cuda.current_stream(), (7, _core.FOR_USER, 0, 0)
    calls: Calls = {"zeros": lambda: module.zero(0, stream, out.address, 4 * n)}
    for kind, name in enumerate(("random_u32", "random_f32", "normal_f32")):
        calls[name] = lambda kind=kind: module.random(0, stream, kind, *at, 0, n, out.address)
    torch = torch_cuda()
    if torch:
        t = torch.empty(n, device="cuda")
        calls["torch.normal_"] = lambda: t.normal_()
    return rows_of(timed(calls, s), "normal_f32", "zeros", bytes_=4.0 * n, n=n)


def nearest(s: Sizes) -> list[common.Row]:
    """The nearest of many keys; floor: the product alone, by cuBLAS (by our own kernel where it is not there)."""
    module, b, c, d = cuda.need(), s.batch, s.keys, s.dim
    rng = np.random.default_rng(0)
    k = rng.standard_normal((c, d), np.float32)
    k /= np.linalg.norm(k, axis=1, keepdims=True)
    q = k[rng.integers(c, size=b)] + np.float32(0.02) * rng.standard_normal((b, d), np.float32)
    queries, keys, out = cuda.from_numpy(q), cuda.from_numpy(k), cuda.empty((b, c))
    table, stream = cuda.KeyTable(keys), cuda.current_stream()
    sizes = (b, c, d, queries.address, d, keys.address, d, out.address, c)
    calls: Calls = {"own product": lambda: module.gemm(0, stream, *sizes), "nearest": lambda: table.nearest(queries)}
    floor = "own product"
    try:
        cuda.library("cublas")
    except RuntimeError as e:
        print(e)
    else:
        floor = "cuBLAS SGEMM"
        calls[floor] = lambda: module.cublas_gemm(0, stream, *sizes)
    try:
        import faiss

        flat = faiss.GpuIndexFlatL2(faiss.StandardGpuResources(), d)
        flat.add(k)
        calls["faiss-gpu Flat"] = lambda: flat.search(q, 1)  # brings queries in and answers out, as its users do
    except (ImportError, AttributeError):
        print("faiss-gpu: not installed, not timed")
    return rows_of(timed(calls, s), "nearest", floor, flops=2.0 * b * c * d, B=b, c=c, d=d)


def crossover(s: Sizes) -> list[common.Row]:
    """Queries at a time from which the device wins over the CPU's cache: keys on both, answers brought to the host."""
    rows = []
    for c in s.crossover:
        k = np.random.default_rng(1).standard_normal((c, s.dim), np.float32)
        cache = rag.ProximityCache(dim=s.dim, capacity=c, tolerance=1e9)
        for i, key in enumerate(k):
            cache.insert(key, [i])
        table = cuda.KeyTable(cuda.from_numpy(k))
        for b in (1, 16, 256):
            q = k[:b] + np.float32(0.01)
            calls: Calls = {
                "CPU": lambda q=q, cache=cache: cache.lookup_batch(q, 1),
                "device": lambda q=q, table=table: table.nearest(cuda.from_numpy(q))[0].numpy_sync(),
            }
            rows += common.compare(timed(calls, s), "device", c=c, B=b)
    return rows


def router(s: Sizes) -> list[common.Row]:
    """Probabilities of all sources; floor: its two products alone, by our own kernel."""
    module, b, n, d, h1, h2 = cuda.need(), s.queries, s.sources, s.dim, 256, 128
    f = lambda *shape: np.random.default_rng(len(shape)).standard_normal(shape, np.float32)
    forward = cuda.RouterForward(
        [d], np.zeros(n, int), f(h1, d), f(n, h1), None, None, f(2 * h1 + (h1 + 4) * h2 + 1), h2
    )
    q, w1, w2 = cuda.from_numpy(f(b, d)), cuda.from_numpy(f(h1, d)), cuda.from_numpy(f(h2, h1))
    z, h, z2 = cuda.empty((b, h1)), cuda.from_numpy(f(b * n, h1)), cuda.empty((b * n, h2))
    stream = cuda.current_stream()

    def products() -> None:
        module.gemm(0, stream, b, h1, d, q.address, d, w1.address, d, z.address, h1)
        module.gemm(0, stream, b * n, h2, h1, h.address, h1, w2.address, h1, z2.address, h2)

    calls: Calls = {"products": products, "RouterForward": lambda: forward([q])}
    flops = 2.0 * b * (d * h1 + n * h1 * h2)
    return rows_of(timed(calls, s), "RouterForward", "products", flops=flops, B=b, N=n, d=d)


def training(s: Sizes) -> list[common.Row]:
    """A local step of all nodes' LeNets on images of CIFAR-10's shape, through `Simulation`; floor: as many operations
    of a large TF32 product by cuBLAS; peer: one node after another on the device, as the published code does."""
    torch = torch_cuda()
    if not torch:
        print("training: torch sees no GPU, not timed")
        return []
    from collegium import data
    from collegium.dl.torch_models import training_flops

    n, steps, rng = s.nodes, 4, np.random.default_rng(0)
    x, y = rng.integers(0, 256, (n * 195, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, n * 195)
    parts = data.Dataset(x, y, x[:1024], y[:1024]).partition(n, seed=1)
    flops = n * float(training_flops(dl.models.gn_lenet(), BATCH))
    a = torch.randn(8192, 8192, device="cuda")
    torch.backends.cuda.matmul.allow_tf32 = True
    product = timed({"tf32": lambda: a @ a}, s)["tf32"].median
    torch.backends.cuda.matmul.allow_tf32 = False
    floor = product * flops / (2 * 8192.0**3)
    rows: list[common.Row] = [{"what": "TF32 product", "n": n, "B": BATCH, "ms a step": 1e3 * floor, "of floor": 1.0}]
    for graph in ("off", "on"):
        torch.cuda.reset_peak_memory_stats()
        sim = dl.Simulation(
            dl.topology.regular(n, min(6, n - 2), seed=1), model=dl.models.gn_lenet(), data=parts, batch_size=BATCH,
            lr=0.1, local_steps=steps, seed=1, device="cuda", cuda_graph=graph,
        )  # fmt: skip
        sim.run(2, eval_samples=0)
        seconds = []
        for _ in range(s.samples):
            before = sim.ledger.seconds["train"]
            sim.run(sim.round + 1, eval_samples=0)
            seconds.append((sim.ledger.seconds["train"] - before) / steps)
        step, evaluated = statistics.median(seconds), sim.ledger.seconds["evaluate"]
        sim.evaluate(1024)
        start = time.perf_counter()
        sim.evaluate(1024)
        evaluated = time.perf_counter() - start
        minutes = (PAPER_STEPS * step + 25 * evaluated * 5000 / 1024) / 60
        rows.append(
            {
                "what": f"all at once, graphs {graph}", "n": n, "B": BATCH, "ms a step": 1e3 * step,
                "of floor": floor / step, "TFLOP/s": flops / step / 1e12, "s an evaluation on 1,024": evaluated,
                "GiB": torch.cuda.max_memory_allocated() / 2**30, "minutes of T=1000": minutes,
            }
        )  # fmt: skip
        del sim
    few = min(16, n)
    one_by_one = _one_by_one(torch, parts, few) * n / few
    rows.append({"what": "one after another", "n": n, "B": BATCH, "ms a step": 1e3 * one_by_one})
    for row in rows:
        row["ratio"] = float(row["ms a step"]) / (1e3 * step)
    return rows


def _one_by_one(torch: Any, parts: Any, nodes: int) -> float:
    """Seconds of a local step of each of `nodes` modules in turn, samples on the device already."""
    modules = [dl.models.gn_lenet()().cuda() for _ in range(nodes)]
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1) for m in modules]
    x = torch.as_tensor(parts.dataset.x[:BATCH], device="cuda").float().div_(255)
    y = torch.as_tensor(parts.dataset.y[:BATCH], device="cuda")

    def step() -> None:
        for module, optimizer in zip(modules, optimizers):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(x), y).backward()
            optimizer.step()
        torch.cuda.synchronize()

    step()
    start = time.perf_counter()
    for _ in range(3):
        step()
    return (time.perf_counter() - start) / 3


FAMILIES: dict[str, Callable[[Sizes], list[common.Row]]] = {
    "mixing": mixing,
    "noise": noise,
    "nearest": nearest,
    "crossover": crossover,
    "router": router,
    "training": training,
}


def measure(sizes: Sizes) -> dict[str, list[common.Row]]:
    """All families; prints a table each."""
    rows = {}
    for name, family in FAMILIES.items():
        rows[name] = family(sizes)
        if rows[name]:
            common.table(name, rows[name])
    return rows


def main() -> None:
    """The script."""
    parser = common.parser(__doc__)
    parser.add_argument("--no-build", action="store_true", help="time what is built, without building and checking")
    args = parser.parse_args()
    if not args.no_build:
        build()
        twins()
    module, reason = cuda.status()
    if module is None:
        print(f"\nno times taken: {reason}")
        raise SystemExit(NO_GPU)
    if not args.no_build:
        device_checks()
    name, major, minor, processors, shared, memory = module.describe(0)
    device = {"name": name, "capability": f"{major}.{minor}", "multiprocessors": processors}
    device |= {"shared_bytes": shared, "memory_bytes": memory, "runtime": module.runtime_version()}
    print(device)
    rows = measure(QUICK if args.quick else Sizes())
    common.save("gpu", {"device": device, **rows}, quick=args.quick)


if __name__ == "__main__":
    main()
