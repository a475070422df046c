"""A query to ten sources behind HTTP, each a process of its own, against the same ten requests by aiohttp and httpx.

    python experiments/bench/bench_fanout.py [--quick] [--json]

"ours" is all of it: checks, selection, ten requests, decoding, merging, one result. "aiohttp gather" is the floor: the
same ten bodies sent at once on one session, replies read and not decoded; what ours takes longer is the retriever's own
overhead. Sources, client and peers share the processors: on two cores most of the time is the ten servers'. Sizes:
1000 x 768 vectors a source, k = 10, passages of about 700 bytes, as in the paper's run. "late": s beyond the deadline
at which queries came back while one source is stopped (SIGSTOP). Needs aiohttp, starlette and uvicorn: the extra `rag`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import common
import numpy as np

from collegium.rag import wire
from collegium.rag.federated import FederatedRetriever
from collegium.rag.http_source import HttpSource

SOURCES, N, DIM, K = 10, 1000, 768, 10


@contextlib.contextmanager
def processes() -> Iterator[list[tuple[subprocess.Popen[str], str]]]:
    """(process, url) of ten sources."""
    started: list[tuple[subprocess.Popen[str], str]] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for i in range(SOURCES):
                vectors, passages = Path(folder, f"{i}.npy"), Path(folder, f"{i}.jsonl")
                np.save(vectors, np.random.default_rng(i).standard_normal((N, DIM)).astype(np.float32))
                passages.write_text("".join(json.dumps({"id": j, "text": "word " * 130}) + "\n" for j in range(N)))
                process = subprocess.Popen(
                    [sys.executable, "-m", "collegium.rag.serve_cli", "--vectors", str(vectors), "--passages",
                     str(passages), "--name", f"s{i}", "--port", "0"],
                    stdout=subprocess.PIPE, text=True, env={**os.environ, "COLLEGIUM_NUM_THREADS": "1"},
                )  # fmt: skip
                assert process.stdout is not None
                started.append((process, process.stdout.readline().split()[-1]))
            yield started
        finally:
            for process, _ in started:
                process.kill()
                process.wait()


class Peers:
    """The same requests without us: (name, function) for every library that is here."""

    def __init__(self, urls: list[str], q: np.ndarray) -> None:
        self.urls = [u + "/v1/search" for u in urls]
        self.body = wire.encode_query(q[None], K)
        self.headers = {"Content-Type": wire.TENSORS, "Accept": wire.TENSORS}
        self.loop = asyncio.new_event_loop()
        self.session = self.loop.run_until_complete(self._open())
        self.fns: dict[str, Callable[[], object]] = {
            "aiohttp gather (floor)": lambda: self.loop.run_until_complete(self._gather(self._aiohttp))
        }
        try:
            import httpx
        except ImportError:
            return
        self.client = httpx.AsyncClient()
        self.fns["httpx gather"] = lambda: self.loop.run_until_complete(self._gather(self._httpx))

    async def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def _gather(self, one: Callable[[str], object]) -> None:
        await asyncio.gather(*(one(u) for u in self.urls))  # type: ignore[call-overload]

    async def _aiohttp(self, url: str) -> None:
        async with self.session.post(url, data=self.body, headers=self.headers) as response:
            await response.read()

    async def _httpx(self, url: str) -> None:
        (await self.client.post(url, content=self.body, headers=self.headers)).read()

    def close(self) -> None:
        self.loop.run_until_complete(self.session.close())
        if hasattr(self, "client"):
            self.loop.run_until_complete(self.client.aclose())
        self.loop.close()


def at_once(urls: list[str], repeats: int) -> list[common.Row]:
    """Every source answers at once."""
    q = np.random.default_rng(0).standard_normal(DIM).astype(np.float32)
    peers = Peers(urls, q)
    with (
        FederatedRetriever([HttpSource(u) for u in urls], k=K) as fr,
        FederatedRetriever([HttpSource(u, binary=False) for u in urls], k=K) as text,
    ):
        fns = {"ours": lambda: fr.search(q), "ours, JSON": lambda: text.search(q), **peers.fns}
        rows = common.compare(common.interleave(fns, repeats, warmup=5), "ours", "aiohttp gather (floor)")
        parts = [fr.search(q) for _ in range(repeats)]
    peers.close()
    floor = next(r["ms"] for r in rows if "floor" in r["what"])
    for row in rows:
        row["ms over floor"] = row["ms"] - floor
    for p in (50, 95, 99):
        rows.append({"what": f"ours, p{p}", "ms": float(np.percentile([r.timings["total"] for r in parts], p)) * 1e3})
    for part in ("encode", "select", "retrieve", "merge"):
        rows.append({"what": f"ours: {part}", "ms": statistics.median(p.timings[part] for p in parts) * 1e3})
    rows.append({"what": "ours: bytes out, in", "ms": None, "out": parts[0].bytes_out, "in": parts[0].bytes_in})
    return rows


def stopped(sources: list[tuple[subprocess.Popen[str], str]], queries: int) -> list[common.Row]:
    """One source of ten is stopped, no breaker: how late are the answers?"""
    q = np.random.default_rng(0).standard_normal(DIM).astype(np.float32)
    deadline, late = 0.25, []
    with FederatedRetriever([HttpSource(u) for _, u in sources], k=K, timeout=9, deadline=deadline, breaker=None) as fr:
        fr.search(q)
        sources[3][0].send_signal(signal.SIGSTOP)
        for _ in range(queries):
            began = time.perf_counter()
            result = fr.search(q)
            late.append((time.perf_counter() - began - deadline) * 1e3)
            assert result.reasons == {"s3": "deadline"}, result
        sources[3][0].send_signal(signal.SIGCONT)
    return [{"queries": queries, "deadline ms": deadline * 1e3, "late ms, median": statistics.median(late),
             "late ms, worst": max(late)}]  # fmt: skip


def in_process(repeats: int) -> list[common.Row]:
    """Eight FAISS indexes of this process at once, one OpenMP thread each, against one after the other."""
    try:
        import faiss
    except ImportError:
        return [{"what": "left out: pip install faiss-cpu"}]
    rng = np.random.default_rng(0)
    indexes = {}
    for i in range(8):
        indexes[f"f{i}"] = faiss.IndexFlatIP(DIM)
        indexes[f"f{i}"].add(rng.standard_normal((5000, DIM), np.float32))
    q = rng.standard_normal((1, DIM), np.float32)

    def serial() -> None:
        for index in indexes.values():
            index.search(q, K)

    with FederatedRetriever(indexes, k=K, timeout=30, deadline=30) as fr:
        fns = {"ours": lambda: fr.search(q), "one after the other (FAISS's threads)": serial}
        return common.compare(common.interleave(fns, repeats), "ours")


def main() -> None:
    """Runs everything, prints the tables and saves experiments/bench/results/fanout.json."""
    args = common.parser(__doc__).parse_args()
    with processes() as sources:
        result: dict[str, Any] = {
            "at once": at_once([u for _, u in sources], 30 if args.quick else 300),
            "one of ten stopped": stopped(sources, 4 if args.quick else 40),
        }
    result["eight in this process"] = in_process(10 if args.quick else 100)
    result["versions"] = {n: common.machine([n])[n] for n in ("aiohttp", "httpx", "uvicorn", "starlette")}
    saved = common.save("fanout", result, quick=args.quick)
    if args.json:
        print(json.dumps(saved, indent=1))
        return
    for title in ("at once", "one of ten stopped", "eight in this process"):
        common.table(title, result[title])
    print(saved["machine"], result["versions"])


if __name__ == "__main__":
    main()
