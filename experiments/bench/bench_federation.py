"""Pieces of federated retrieval on one thread: exact search against FAISS flat, merging, statistics.

    python experiments/bench/bench_federation.py [--quick] [--json]

"search": the best 10 rows for 1 and 64 queries; floor: a read of all vectors, or the products at the speed of fused
multiply-adds, whichever takes longer; FAISS multiplies with the BLAS of its wheel, NumPy with its own. "merge": lists
of 10 sources; floor: a read of them. "statistics": centroid and density; floor: a read of the vectors. "at once": eight
sources of one process asked by eight threads, all threads of FAISS as it comes and one each. Ratios are times over
ours. Needs faiss-cpu (the extra `rag`), else that peer is left out.
"""

from __future__ import annotations

import contextlib
import heapq
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray

from collegium import _core
from collegium.rag.local_source import FaissSource, VectorSource, single_threaded_faiss
from collegium.rag.merge import merge_topk
from collegium.rag.stats import source_stats

try:
    import faiss
except ImportError:  # the peer is left out
    faiss = None
try:
    from threadpoolctl import threadpool_limits as numpy_threads
except ImportError:  # NumPy keeps as many as it likes
    numpy_threads = contextlib.nullcontext

K = 10
Floats = NDArray[np.float32]


def vectors(n: int, dim: int, seed: int = 0) -> Floats:
    """Random unit vectors (n, dim) on a cache line."""
    rng = np.random.default_rng(seed)
    x: Floats = common.aligned(n * dim).reshape(n, dim)
    for start in range(0, n, 4096):
        part = rng.standard_normal((min(4096, n - start), dim), np.float32)
        x[start : start + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return x


def flat_index(x: Floats, metric: str) -> Any:
    """FAISS's exact index over the rows."""
    index = (faiss.IndexFlatIP if metric == "ip" else faiss.IndexFlatL2)(x.shape[1])
    index.add(x)
    return index


def by_numpy(x: Floats, Q: Floats, metric: str) -> Callable[[], object]:
    """Products of everything with everything, a partition, a sort."""
    squares = np.einsum("ij,ij->i", x, x)

    def search() -> object:
        score = Q @ x.T if metric == "ip" else 2 * (Q @ x.T) - squares
        best = np.argpartition(score, -K, axis=1)[:, -K:]
        return np.take_along_axis(best, np.argsort(-np.take_along_axis(score, best, 1), axis=1), 1)

    return search


def search(quick: bool) -> list[common.Row]:
    """Exact search by size, metric and batch."""
    rows = []
    gflops = max(_core.floor_fma() for _ in range(9))  # a busy machine only lowers it
    for n, dim in ((2000, 64), (2000, 384)) if quick else ((5000, 128), (20_000, 384), (100_000, 768)):
        x = vectors(n, dim)
        flat = x.reshape(-1)
        for metric in ("ip", "l2"):
            source, index = VectorSource(x, name="s", metric=metric), faiss and flat_index(x, metric)
            for batch in (1, 64):
                Q = vectors(batch, dim, 1)
                fns: dict[str, Callable[[], object]] = {"collegium": lambda s=source, q=Q: s.search(q, K)}
                if faiss:
                    fns["faiss"] = lambda i=index, q=Q: i.search(q, K)
                fns["NumPy"] = by_numpy(x, Q, metric)
                fns["floor"] = lambda f=flat: _core.floor_read(f)
                times = common.interleave(fns, 3 if quick else 7 if n * batch > 10**6 else 25)
                products = 2e-9 * n * dim * batch / gflops
                times["floor"] = max(times["floor"], common.Timing(products, products))
                rows += common.compare(times, "collegium", "floor", n=n, dim=dim, metric=metric, batch=batch)
    return rows


def merge_numpy(D: Floats, ids: NDArray[np.int64], k: int) -> object:
    """All lists side by side, a partition, a sort: no order among equals."""
    S, B, width = D.shape
    d, i = D.transpose(1, 0, 2).reshape(B, -1), ids.transpose(1, 0, 2).reshape(B, -1)
    best = np.argpartition(-d, k - 1, axis=1)[:, :k]
    best = np.take_along_axis(best, np.argsort(-np.take_along_axis(d, best, 1), axis=1), 1)
    counts = np.stack([(best // width == s).sum(axis=1) for s in range(S)], axis=1)
    return np.take_along_axis(d, best, 1), best // width, np.take_along_axis(i, best, 1), counts


def merge_heap(lists: list[list[list[tuple[float, int, int]]]], k: int) -> object:
    """The standard library's merge of sorted lists, already lists of tuples."""
    return [list(islice(heapq.merge(*row), k)) for row in lists]


def merge(quick: bool) -> list[common.Row]:
    """Lists of 10 sources into one."""
    rows = []
    rng = np.random.default_rng(0)
    for batch in (1, 256):
        for k in (10, 32):
            D = -np.sort(-rng.standard_normal((10, batch, k)).astype(np.float32), axis=2)
            ids = rng.integers(0, 10**6, D.shape)
            lists = [
                [[(-float(d), s, int(i)) for d, i in zip(D[s, b], ids[s, b], strict=True)] for s in range(10)]
                for b in range(batch)
            ]
            flat = np.zeros(D.size * 3, np.float32)
            fns: dict[str, Callable[[], object]] = {
                "collegium": lambda d=D, i=ids, k=k: merge_topk(d, i, k=k),
                "NumPy": lambda d=D, i=ids, k=k: merge_numpy(d, i, k),
                "heapq.merge": lambda v=lists, k=k: merge_heap(v, k),
                "floor": lambda f=flat: _core.floor_read(f),
            }
            times = common.interleave(fns, 5 if quick else 51)
            rows += common.compare(times, "collegium", "floor", sources=10, batch=batch, k=k)
    return rows


def statistics(quick: bool) -> list[common.Row]:
    """Centroid, density and lengths, beside means in NumPy."""
    rows = []
    for n, dim in ((2000, 384),) if quick else ((5000, 128), (100_000, 768)):
        x = vectors(n, dim)
        flat = x.reshape(-1)

        def in_numpy(x: Floats = x) -> object:
            mean = x.mean(axis=0, dtype=np.float64)
            lengths = np.linalg.norm(x, axis=1)
            return mean, float((x @ mean.astype(np.float32) / lengths).mean() / np.linalg.norm(mean)), lengths

        fns: dict[str, Callable[[], object]] = {
            "collegium": lambda x=x: source_stats(x, name="s"),
            "NumPy, the same": in_numpy,
            "NumPy, mean in float64 alone": lambda x=x: x.mean(axis=0, dtype=np.float64),
            "NumPy, mean in float32 alone": lambda x=x: x.mean(axis=0),
            "floor": lambda f=flat: _core.floor_read(f),
        }
        times = common.interleave(fns, 5 if quick else 15)
        rows += common.compare(times, "collegium", "floor", n=n, dim=dim)
    return rows


def at_once(quick: bool) -> list[common.Row]:
    """Eight sources by eight threads, against one after the other on one thread; all cores allowed."""
    n, dim = (2000, 64) if quick else (20_000, 384)
    parts = [vectors(n, dim, seed) for seed in range(8)]
    Q = vectors(1, dim, 9)
    sources = {"collegium": [VectorSource(x, name=str(i)) for i, x in enumerate(parts)]}
    fns: dict[str, Callable[[], object]] = {}

    def single(source: Any) -> object:
        with single_threaded_faiss():
            return source.search(Q, K)

    with ThreadPoolExecutor(8) as pool:
        own = sources["collegium"]
        fns["collegium, in turn"] = lambda: [s.search(Q, K) for s in own]
        fns["collegium, at once"] = lambda: list(pool.map(lambda s: s.search(Q, K), own))
        if faiss:
            indexes = [FaissSource(flat_index(x, "ip"), name=str(i)) for i, x in enumerate(parts)]
            fns["faiss, in turn, one thread"] = lambda: [single(s) for s in indexes]
            fns["faiss, at once, one thread each"] = lambda: list(pool.map(single, indexes))
            fns["faiss, at once, as it comes"] = lambda: list(pool.map(lambda s: s.search(Q, K), indexes))
        times = common.interleave(fns, 5 if quick else 25)
    return common.compare(times, "collegium, in turn", sources=8, n=n, dim=dim)


def main() -> None:
    """Runs everything, prints the tables and saves experiments/bench/results/federation.json."""
    args = common.parser(__doc__).parse_args()
    old = _core.num_threads()
    result: dict[str, Any] = {"peers": {"faiss": faiss and faiss.__version__, "faiss threads": 1}}
    result["at once"] = at_once(args.quick)
    _core.set_num_threads(1)
    with single_threaded_faiss(), numpy_threads(1):
        result |= {
            "search": search(args.quick),
            "merge": merge(args.quick),
            "statistics": statistics(args.quick),
        }
    saved = common.save("federation", result, quick=args.quick)
    _core.set_num_threads(old)
    if args.json:
        print(json.dumps(saved, indent=1))
        return
    for name in ("search", "merge", "statistics", "at once"):
        common.table(name, result[name])
    print(saved["machine"], result["peers"])


if __name__ == "__main__":
    main()
