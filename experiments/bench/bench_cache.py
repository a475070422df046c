"""Lookups of the approximate cache, NumPy row in and NumPy ids out, against faiss-cpu (one thread) and NumPy.

    python experiments/bench/bench_cache.py [--quick] [--json]

"miss" rows: no key within the tolerance, the cheap case; "hit": a key lies within it. Peers do the same: IndexFlatL2
(IndexFlatIP for "ip") or a product and argmin in NumPy, then a comparison with the tolerance and a row of ids. The
floor is a read of all keys by one thread in the same turns, from the cache they fit in; early abandon goes below it.
Times are medians over turns of the mean over the queries of a turn. Needs faiss-cpu (the extra `rag`); the rows with
real sentence embeddings need the data set `embeddings/quora_dev`, else they are left out.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray

from collegium import _core, data, rag

try:
    import faiss

    faiss.omp_set_num_threads(1)
except ImportError:  # the peer is left out
    faiss = None

Vectors = NDArray[np.float32]
K = 10  # ids an entry


def unit(n: int, dim: int, seed: int) -> Vectors:
    """Random unit vectors (n, dim) on a cache line."""
    rng = np.random.default_rng(seed)
    x = common.aligned(n * dim).reshape(n, dim)
    for start in range(0, n, 4096):
        part = rng.standard_normal((min(4096, n - start), dim), np.float32)
        x[start : start + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return x


def filled(keys: Vectors, **options: Any) -> rag.ProximityCache:
    """A cache that holds the keys, K ids each."""
    if options.get("index") != "lsh":
        options["capacity"] = len(keys)
    cache = rag.ProximityCache(keys.shape[1], **options)
    ids = np.arange(K)
    for key in keys:
        cache.insert(key, ids)
    return cache


class Contest:
    """The same lookups by us, FAISS and NumPy over the same keys."""

    def __init__(self, keys: Vectors, metric: str = "l2") -> None:
        self.keys, self.metric = keys, metric
        limit: dict[str, float] = {"min_similarity": 0.9} if metric == "ip" else {"tolerance": 0.5}
        self.cache = filled(keys, metric=metric, **limit)
        self.ids = np.zeros((len(keys), K), np.int64)
        self.squares = np.einsum("ij,ij->i", keys, keys)
        self.faiss = None
        if faiss:
            self.faiss = (faiss.IndexFlatIP if metric == "ip" else faiss.IndexFlatL2)(keys.shape[1])
            self.faiss.add(keys)

    def ours(self, queries: Sequence[Vectors], tau: float) -> Callable[[], object]:
        lookup = self.cache.lookup
        self.cache.tolerance = tau - 1 if self.metric == "ip" else tau
        return lambda: [lookup(q) for q in queries]

    def by_faiss(self, queries: Sequence[Vectors], tau: float) -> Callable[[], object]:
        rows = [q[None] for q in queries]
        search, ids, ip = self.faiss.search, self.ids, self.metric == "ip"

        def one(q: Vectors) -> object:
            d, i = search(q, 1)
            near = d[0, 0] >= 1 - tau if ip else d[0, 0] <= tau * tau
            return ids[i[0, 0]].copy() if near else None

        return lambda: [one(q) for q in rows]

    def by_numpy(self, queries: Sequence[Vectors], tau: float) -> Callable[[], object]:
        keys, squares, ids, ip = self.keys, self.squares, self.ids, self.metric == "ip"

        def one(q: Vectors) -> object:
            score = keys @ q if ip else squares - 2 * (keys @ q)
            i = int(score.argmax() if ip else score.argmin())
            near = score[i] >= 1 - tau if ip else score[i] + q @ q <= tau * tau
            return ids[i].copy() if near else None

        return lambda: [one(q) for q in queries]

    def survivors(self, queries: Sequence[Vectors], tau: float) -> float:
        """Share of the keys within reach after their first 64 dimensions."""
        some = self.keys[:: max(1, len(self.keys) // 1000), :64]
        return float(np.mean([np.square(some - q[:64]).sum(1) <= tau * tau for q in queries]))

    def rows(self, queries: Vectors, tau: float, repeats: int, numpy: bool = True, **more: Any) -> list[common.Row]:
        """Times all for these queries; microseconds a lookup."""
        count = max(1, min(len(queries), 20_000_000 // self.keys.size))
        turn = [q.copy() for q in queries[:count]]
        fns = {"collegium": self.ours(turn, tau)}
        if self.faiss:
            fns["faiss"] = self.by_faiss(turn, tau)
        if numpy:
            fns["NumPy"] = self.by_numpy(turn, tau)
        flat = self.keys.reshape(-1)
        fns["floor: read all keys"] = lambda: [_core.floor_read(flat) for _ in range(count)]
        hits = sum(r is not None for r in fns["collegium"]())  # type: ignore[attr-defined]
        times = common.interleave(fns, repeats)
        out: list[common.Row] = []
        for name, t in times.items():
            us = t.median / count * 1e6
            row: common.Row = {"c": len(self.keys), "dim": self.keys.shape[1], "tolerance": tau, **more, "what": name}
            row |= {"us": us, "best us": t.best / count * 1e6, "time / ours": t.median / times["collegium"].median}
            row |= {"hit rate": hits / count}
            if self.metric != "ip":
                row["left after 64 dims"] = self.survivors(turn, tau)
            out.append(row)
        return out


def real_vectors() -> Vectors | None:
    """Questions of Quora as 384-d MiniLM embeddings, each once."""
    try:
        a = np.asarray(data.embeddings("quora_dev")["a"])
    except data.MissingData as e:
        print(f"left out: {e}", file=sys.stderr)
        return None
    return np.unique(a, axis=0)[np.random.default_rng(0).permutation(len(np.unique(a, axis=0)))]


def aligned_copy(x: Vectors) -> Vectors:
    out = common.aligned(x.size).reshape(x.shape)
    out[:] = x
    return out


def headline(repeats: int) -> list[common.Row]:
    """The sizes of the paper and the targets of this package."""
    rows = []
    real = real_vectors()
    if real is not None:
        for c in (300, 10_000):
            contest = Contest(aligned_copy(real[:c]))
            for tau in (0.4, 0.8):
                rows += contest.rows(real[10_000:10_050], tau, repeats, vectors="MiniLM")
    for c, dim, taus in ((300, 768, (0.5, 0.8)), (10_000, 384, (0.4,))):
        contest = Contest(unit(c, dim, 1))
        for tau in taus:
            rows += contest.rows(unit(50, dim, 2), tau, repeats, vectors="random")
    contest = Contest(unit(300, 768, 1))
    near = contest.keys[:50] + 0.2 * unit(50, 768, 3)
    rows += contest.rows(near.astype(np.float32), 0.5, repeats, vectors="random, near a key")
    rows += Contest(unit(300, 768, 1), "ip").rows(unit(50, 768, 2), 0.1, repeats, vectors="random, inner product")
    return rows


def grid(quick: bool) -> list[common.Row]:
    """Every size and tolerance against FAISS; at 2 every key is within reach, and nothing can be left out."""
    rows = []
    for dim in (384, 768, 1536):
        for c in (20, 300, 3000, *(() if quick else (10_000, 30_000, 100_000))):
            contest = Contest(unit(c, dim, c))
            for tau in (0.0, 0.3, 0.5, 0.8, 1.2, 2.0):
                repeats = 3 if quick else 7 if c > 10_000 else 15
                rows += contest.rows(unit(50, dim, 7), tau, repeats, numpy=False)
    return rows


def percentile_us(lookup: Callable[[Vectors], object], queries: Sequence[Vectors], turns: int) -> dict[str, float]:
    """Each lookup timed alone; the clock's own time (about 0.05 us) is in it."""
    clock, times = time.perf_counter_ns, []
    for _ in range(turns):
        for q in queries:
            start = clock()
            lookup(q)
            times.append(clock() - start)
    return {"p50 us": statistics.median(times) / 1e3, "p99 us": float(np.percentile(times, 99)) / 1e3}


def lsh(quick: bool) -> list[common.Row]:
    """LSH with buckets of 20, few and many entries, warm: queries near a stored key and queries near none."""
    rows = []
    for dim in (384, 768):
        for n, bits in ((1000, 6), (10_000 if quick else 100_000, 13)):
            keys = unit(n, dim, 4)
            for probes in (0, 4):
                cache = filled(
                    keys, index="lsh", capacity=None, n_bits=bits, bucket_capacity=20, probes=probes, tolerance=0.4
                )
                near = list((keys[:100] + 0.05 * unit(100, dim, 5)).astype(np.float32))
                for what, queries in (("near a key", near), ("miss", list(unit(100, dim, 6)))):
                    times = percentile_us(cache.lookup, queries, 20)
                    rows.append(
                        {"dim": dim, "entries": len(cache), "bits": bits, "probes": probes, "what": what, **times}
                    )
    return rows


def threads(quick: bool) -> list[common.Row]:
    """Lookups a second of reader threads that share one interpreter, for a scan under the GIL and one outside it."""
    rows: list[common.Row] = []
    for c in (300, 10_000 if quick else 30_000):
        cache = filled(unit(c, 768, 1), tolerance=0.5)
        queries = list(unit(50, 768, 2))
        for readers in (1, 2, 8):
            done = [0] * readers
            end = time.perf_counter() + (0.3 if quick else 1.5)

            def read(i: int) -> None:
                while time.perf_counter() < end:  # noqa: B023 (joined below)
                    for q in queries:  # noqa: B023
                        cache.lookup(q)  # noqa: B023
                    done[i] += len(queries)  # noqa: B023

            start = time.perf_counter()
            pool = [threading.Thread(target=read, args=(i,)) for i in range(readers)]
            for t in pool:
                t.start()
            for t in pool:
                t.join()
            rate = sum(done) / (time.perf_counter() - start)
            rows.append({"c": c, "dim": 768, "readers": readers, "lookups/s": rate})
            rows[-1]["of one reader"] = rate / next(r["lookups/s"] for r in rows if r["c"] == c)
    return rows


def beside_a_spinner(quick: bool) -> list[common.Row]:
    """Lookup times while another Python thread computes: both want the GIL, which changes hands every 5 ms."""
    cache, queries = filled(unit(300, 384, 1), tolerance=0.4), list(unit(50, 384, 2))
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(100))

    alone = percentile_us(cache.lookup, queries, 20 if quick else 200)
    spinner = threading.Thread(target=spin)
    spinner.start()
    try:
        beside = percentile_us(cache.lookup, queries, 20 if quick else 200)
    finally:
        stop.set()
        spinner.join()
    return [
        {"what": what, **t, "p99 / p50": t["p99 us"] / t["p50 us"]}
        for what, t in (("alone", alone), ("beside a spinning thread", beside))
    ]


def batches(repeats: int) -> list[common.Row]:
    """64 queries in one call, microseconds a query: ours on one and two threads, FAISS's batched product on one."""
    rows = []
    for c, dim, tau in ((300, 768, 0.5), (10_000, 384, 0.4), (10_000, 384, 1.2)):
        contest, queries = Contest(unit(c, dim, 1)), unit(64, dim, 2)
        contest.cache.tolerance = tau
        fns: dict[str, Callable[[], object]] = {"collegium": partial(contest.cache.lookup_batch, queries, K)}
        if contest.faiss:
            fns["faiss"] = partial(contest.faiss.search, queries, 1)
        for n in (1, 2):
            _core.set_num_threads(n)
            for what, t in common.interleave(fns, repeats).items():
                row: common.Row = {"c": c, "dim": dim, "tolerance": tau, "what": what}
                rows.append({**row, "threads": n if what == "collegium" else 1, "us": t.median / 64 * 1e6})
        _core.set_num_threads(1)
    return rows


class Inserter:
    """Fifty insertions a call into a cache that is full, with keys it does not hold."""

    def __init__(self, cache: rag.ProximityCache, keys: Vectors) -> None:
        self.cache, self.keys, self.at, self.ids = cache, list(keys), 0, np.arange(K)

    def __call__(self) -> None:
        for _ in range(50):
            self.cache.insert(self.keys[self.at % len(self.keys)], self.ids)
            self.at += 1


def changes(repeats: int) -> list[common.Row]:
    """Insertion with an eviction each, by policy, and a removal that finds nothing."""
    rows = []
    for c in (300, 10_000):
        keys = unit(2 * c, 384, 1)
        caches = {
            e: filled(keys[:c], tolerance=0.4, eviction=e) for e in ("fifo", "lru", "lfu", "clock", "sieve", "s3fifo")
        }
        fns: dict[str, Callable[[], object]] = {e: Inserter(cache, keys[c:]) for e, cache in caches.items()}
        for eviction, t in common.interleave(fns, repeats).items():
            rows.append({"c": c, "dim": 384, "what": f"insert, {eviction}", "us": t.median / 50 * 1e6})
        t = common.interleave({"": partial(caches["fifo"].remove_ids, [10**6])}, repeats)[""]
        rows.append({"c": c, "dim": 384, "what": "remove_ids, none there", "us": t.median * 1e6})
    return rows


def snapshot(quick: bool) -> list[common.Row]:
    """A large cache to a file and back, beside writing and reading as many bytes."""
    n, dim = (3000 if quick else 100_000), 768
    cache = filled(unit(n, dim, 1), tolerance=0.5)
    size = n * dim * 4
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path, plain = Path(folder, "cache"), Path(folder, "plain")
        block = np.random.default_rng(0).integers(0, 256, size, np.uint8).data

        def write() -> None:
            with open(plain, "wb") as f:
                f.write(block)
                f.flush()
                os.fsync(f.fileno())

        fns = {
            "save": lambda: cache.save(path),
            "floor: write and fsync": write,
            "load": lambda: rag.ProximityCache.load(path),
            "floor: read": lambda: plain.read_bytes(),
        }
        for what, t in common.interleave(fns, 3, warmup=1).items():
            rows.append({"entries": n, "dim": dim, "what": what, "ms": t.median * 1e3, "GB/s": size / t.median / 1e9})
    return rows


def worst(rows: Sequence[common.Row]) -> list[common.Row]:
    """The sizes at which FAISS comes nearest, by the ratio of its time to ours."""
    peers = [r for r in rows if r["what"] == "faiss"]
    return sorted(peers, key=lambda r: r["time / ours"])[:8]


def main() -> None:
    """Runs everything, prints the tables and saves experiments/bench/results/cache.json."""
    args = common.parser(__doc__).parse_args()
    repeats, old = (5 if args.quick else 25), _core.num_threads()
    _core.set_num_threads(1)
    result: dict[str, Any] = {"peers": {"faiss": faiss and faiss.__version__, "faiss threads": 1}}
    for name, run in {
        "headline": lambda: headline(repeats),
        "lsh": lambda: lsh(args.quick),
        "readers": lambda: threads(args.quick),
        "spinner": lambda: beside_a_spinner(args.quick),
        "batches of 64": lambda: batches(repeats),
        "changes": lambda: changes(repeats),
        "snapshot": lambda: snapshot(args.quick),
        "grid": lambda: grid(args.quick),
    }.items():
        result[name] = run()
        if not args.json:
            common.table(name, result[name])
    result["grid, where FAISS comes nearest"] = worst(result["grid"])
    _core.set_num_threads(old)
    saved = common.save("cache", result, quick=args.quick)
    if args.json:
        print(json.dumps(saved, indent=1))
        return
    common.table("grid, where FAISS comes nearest", result["grid, where FAISS comes nearest"])
    print(saved["machine"], result["peers"])


if __name__ == "__main__":
    main()
