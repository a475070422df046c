"""What a fan-out can ask: a source behind HTTP (`HttpSource`), or one in this process on threads of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from . import wire
from .http_client import Client, Usage
from .http_source import SourceError
from .local_source import single_threaded_faiss
from .seam import Floats
from .source import Searchable, Source
from .wire import Reply


class Endpoint(Protocol):
    """Its coroutines run on the loop of `client`, and raise SourceError."""

    timeout: float | None  # s, in place of the retriever's
    known: Source | None  # its statistics, None before it told them

    async def adescribe(self, client: Client, usage: Usage | None = None) -> Source: ...
    async def ask(self, client: Client, Q: Floats, k: int, usage: Usage) -> Reply: ...


class Lane:
    """Daemon threads for the searches of one source: one that hangs keeps neither other sources nor the exit waiting.

    threads: at most; started when needed. single: OpenMP (FAISS) uses one thread a search.
    """

    def __init__(self, name: str, threads: int, single: bool) -> None:
        self._name, self._most, self._single = name, threads, single
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._started = self._busy = 0
        self._finalizer = weakref.finalize(self, _stop, self._jobs, self._most)

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        """Runs `work` on one of the threads. A future that is cancelled before its turn is not run."""
        future: Future[Any] = Future()
        with self._lock:
            if self._pid != os.getpid():  # a forked child has the queue, but not the threads
                self._begin()
            self._busy += 1
            start = self._busy > self._started and self._started < self._most
            self._started += start
        future.add_done_callback(self._done)
        self._jobs.put((future, work))
        if start:
            threading.Thread(
                target=_serve, args=(self._jobs, self._single), name=f"collegium-{self._name}", daemon=True
            ).start()
        return future

    def _done(self, _: Future[Any]) -> None:
        with self._lock:
            self._busy -= 1

    def close(self) -> None:
        """Ends the idle threads, and the others after their search."""
        self._finalizer()


def _serve(jobs: queue.SimpleQueue[Any], single: bool) -> None:
    with single_threaded_faiss() if single else contextlib.nullcontext():
        while (job := jobs.get()) is not None:
            future, work = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as e:
                    future.set_exception(e)
            del job, future, work


def _stop(jobs: queue.SimpleQueue[Any], threads: int) -> None:
    for _ in range(threads):
        jobs.put(None)


class LocalEndpoint:
    """A Searchable of this process. single: other sources of this process are searched beside it."""

    timeout: float | None = None

    def __init__(self, source: Searchable, name: str, single: bool) -> None:
        self.source, self._name = source, name
        self.known: Source | None = None
        self._lane = Lane(name, max(2, os.cpu_count() or 1), single)

    async def adescribe(self, client: Client, usage: Usage | None = None) -> Source:
        self.known = await self._run(self.source.describe)
        return self.known

    async def ask(self, client: Client, Q: Floats, k: int, usage: Usage) -> Reply:
        usage.t_connect = usage.since()
        reply: Reply = await self._run(lambda: self._search(Q, k))
        usage.t_first = usage.t_total = usage.since()
        return reply

    def _search(self, Q: Floats, k: int) -> Reply:
        D, I = wire.results(*self.source.search(Q, k), len(Q), k)
        rows = passages_of(self.source, I) or []
        passages = {i: p for ids, row in zip(I.tolist(), rows) for i, p in zip(ids, row) if i >= 0 and p is not None}
        version = getattr(self.source, "version", None)
        return Reply(D, I, passages, version if isinstance(version, str) else None)

    async def _run(self, work: Callable[[], Any]) -> Any:
        try:
            return await asyncio.wrap_future(self._lane.submit(work))
        except wire.Malformed as e:
            raise SourceError(self._name, "malformed reply", str(e)) from e
        except Exception as e:
            raise SourceError(self._name, "failed", f"{type(e).__name__}: {e}") from e

    def close(self) -> None:
        """Ends its threads."""
        self._lane.close()


def passages_of(source: Any, I: Any) -> list[list[Any]] | None:
    """The passages of I int64 (B, k) in its shape, None for id -1; None for a source without any."""
    give = getattr(source, "passages", None)
    if not callable(give):
        return None
    out: list[list[Any]] = []
    for row in I:
        there = row >= 0
        given = give(row[there]) if there.any() else []
        if given is None:
            return None
        found = iter(given)
        out.append([next(found) if t else None for t in there])
    return out
