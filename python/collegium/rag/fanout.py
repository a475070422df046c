"""One question to several sources at once: time-outs, a deadline, hedged requests, breakers, replacements.

The order of arrival is nowhere in the result: every reply has its place before it is asked for. What is late is
cancelled and never looked at again; its connection is closed with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .breaker import Breaker
from .endpoint import Endpoint
from .http_client import Client, Usage
from .http_source import SourceError
from .routing import Mask
from .seam import Floats
from .wire import Reply

# The source is well, the question was not: its breaker does not count these.
OUR_FAULT = ("http 400", "http 401", "http 403", "http 413", "wrong dimension", "wrong encoder", "not comparable")
# A source that may take longer than the deadline (timeout >= deadline) had a fair time if it had this share of it:
# selecting comes first, and a stuck source's breaker must open all the same.
FAIR = 0.75
Vectors = Callable[[int, NDArray[np.int64]], Floats]  # (source, rows) -> the queries in its encoder; raises SourceError


@dataclass(eq=False)
class Ask:
    """A request to one source for some rows of the batch, and what became of it.

    first: it was selected, not asked in place of another. reason: why there is no reply, None where there is one.
    skipped: nothing was sent. usages: of each attempt, the one that counts last.
    """

    source: int
    rows: NDArray[np.int64]
    first: bool
    reply: Reply | None = None
    reason: str | None = None
    detail: str = ""
    skipped: bool = False
    usages: list[Usage] = field(default_factory=list)


class FanOut:
    """Sources and how they are asked. timeout: s a source, where it has none of its own. deadline: s in all.

    hedge: s after which the same is asked once more, the first answer counts; None: never.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        breakers: Sequence[Breaker | None],
        client: Client,
        timeout: float,
        deadline: float,
        hedge: float | None,
    ) -> None:
        self.endpoints, self.breakers, self.client = endpoints, breakers, client
        self.timeout, self.deadline, self.hedge = timeout, deadline, hedge
        self._most: dict[int, int] = {}  # source: documents a query that it refused to give
        self._strays: set[asyncio.Task[Reply]] = set()  # cancelled, not yet ended; kept so that they are not collected

    async def run(
        self, vectors: Vectors, mask: Mask, k: int, began: float, order: Floats | None = None, least: int = 0
    ) -> list[Ask]:
        """Asks the sources of mask, bool (B, N). Returns when all answered or failed, at the latest at the deadline.

        began: monotonic s, where the deadline starts. order: float (B, N), in whose order others are asked in place of
        those that fail, None: nobody is. least: documents to ask those for that refuse k; 0: no fewer than k.
        Runs on the client's loop.
        """
        return await _Run(self, vectors, mask, (k, least or k), began + self.deadline, order).finish()

    async def attempts(self, ask: Ask, vectors: Vectors, k: tuple[int, int]) -> Reply:
        """One request, and a second beside it if the first takes longer than `hedge`. Raises SourceError."""
        if self.hedge is None:
            return await self._attempt(ask, vectors, k)
        tasks = [asyncio.ensure_future(self._attempt(ask, vectors, k))]
        try:
            done, _ = await asyncio.wait(tasks, timeout=self.hedge)
            if not done:
                tasks.append(asyncio.ensure_future(self._attempt(ask, vectors, k)))
            pending = set(tasks)
            while True:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                winner = next((t for t in tasks if t in done and t.exception() is None), None)
                if winner is not None or not pending:
                    chosen = winner or tasks[0]
                    ask.usages.append(ask.usages.pop(tasks.index(chosen)))
                    return chosen.result()
        finally:
            for task in tasks:
                self.abandon(task)

    async def _attempt(self, ask: Ask, vectors: Vectors, ks: tuple[int, int]) -> Reply:
        usage = Usage()
        ask.usages.append(usage)
        endpoint = self.endpoints[ask.source]
        if endpoint.known is None:  # it did not answer so far
            await endpoint.adescribe(self.client, usage)
        Q, (k, least) = vectors(ask.source, ask.rows), ks
        if k >= self._most.get(ask.source, k + 1):
            k = least
        try:
            return await endpoint.ask(self.client, Q, k, usage)
        except SourceError as e:
            if e.reason != "http 413" or k == least:
                raise
        reply = await endpoint.ask(self.client, Q, least, usage)
        self._most[ask.source] = k
        return reply

    def abandon(self, task: asyncio.Task[Reply]) -> None:
        """Cancels without waiting for the end."""
        if not task.done():
            task.cancel()
            self._strays.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Reply]) -> None:
        self._strays.discard(task)
        if not task.cancelled():
            task.exception()  # seen: the loop does not report it


class _Run:
    """The state of one FanOut.run."""

    def __init__(
        self, fan: FanOut, vectors: Vectors, mask: Mask, k: tuple[int, int], deadline: float, order: Floats | None
    ) -> None:
        self.fan, self.vectors, self.mask, self.k = fan, vectors, mask, k
        self.deadline, self.order = deadline, order
        self.loop = asyncio.get_running_loop()
        self.asked = mask.copy()
        self.asks: list[Ask] = []
        self.running: dict[asyncio.Task[Reply], tuple[Ask, float]] = {}
        self.hurried: set[Ask] = set()  # those that the deadline leaves less time than a source is due
        self.bell: asyncio.Future[None] = self.loop.create_future()

    async def finish(self) -> list[Ask]:
        try:
            for s in np.flatnonzero(self.mask.any(axis=0)).tolist():
                self.launch(s, np.flatnonzero(self.mask[:, s]), True)
            while self.running:
                self.bell = self.loop.create_future()
                timer = self.loop.call_at(min(due for _, due in self.running.values()), self.ring)
                await self.bell
                timer.cancel()
                self.collect()
        finally:
            for task, (ask, _) in self.running.items():  # we were cancelled
                self.fan.abandon(task)
                self.verdict(ask, "cancelled", counts=False)
        for usage in (u for ask in self.asks for u in ask.usages):
            usage.settle()
        return self.asks

    def ring(self, _: object = None) -> None:
        """Something ended, or is due."""
        if not self.bell.done():
            self.bell.set_result(None)

    def launch(self, s: int, rows: NDArray[np.int64], first: bool) -> None:
        ask = Ask(s, rows, first)
        self.asks.append(ask)
        breaker = self.fan.breakers[s]
        if breaker is not None and not breaker.allow():
            ask.reason, ask.skipped = "breaker open", True
            ask.detail = f"{breaker.in_a_row} failures in a row, last: {breaker.last_failure}"
            self.replace(ask)
            return
        limit = self.fan.endpoints[s].timeout or self.fan.timeout
        now = self.loop.time()
        if self.deadline - now < min(limit, FAIR * self.fan.deadline):
            self.hurried.add(ask)
        task = self.loop.create_task(self.fan.attempts(ask, self.vectors, self.k))
        task.add_done_callback(self.ring)
        self.running[task] = ask, min(now + limit, self.deadline)

    def collect(self) -> None:
        """Takes what has ended, and ends what is overdue."""
        now = self.loop.time()
        for task, (ask, due) in list(self.running.items()):
            if task.done():
                del self.running[task]
                self.take(ask, task)
            elif now >= due:
                del self.running[task]
                self.fan.abandon(task)
                late = due >= self.deadline
                # That one had no time to answer says nothing of it.
                self.verdict(ask, "deadline" if late else "timeout", counts=not late or ask not in self.hurried)
                self.replace(ask)

    def take(self, ask: Ask, task: asyncio.Task[Reply]) -> None:
        breaker = self.fan.breakers[ask.source]
        try:
            ask.reply = task.result()
        except SourceError as e:
            self.verdict(ask, e.reason, counts=e.reason not in OUR_FAULT, detail=e.detail)
            self.replace(ask)
        except asyncio.CancelledError:
            self.verdict(ask, "cancelled", counts=False)
        except Exception as e:
            self.verdict(ask, "failed", counts=True, detail=f"{type(e).__name__}: {e}")
            self.replace(ask)
        else:
            if breaker is not None:
                breaker.success()

    def verdict(self, ask: Ask, reason: str, *, counts: bool, detail: str = "") -> None:
        ask.reason, ask.detail = reason, detail
        breaker = self.fan.breakers[ask.source]
        if breaker is not None:
            breaker.failure(reason) if counts else breaker.release()

    def replace(self, ask: Ask) -> None:
        """Asks, for each row, the likeliest source that it was not sent to yet."""
        if self.order is None or self.loop.time() >= self.deadline:
            return
        closed = np.array([b is not None and b.state == "open" for b in self.fan.breakers])
        score = np.where(self.asked[ask.rows] | closed, -np.inf, self.order[ask.rows])
        best = score.argmax(axis=1)
        left = score[np.arange(len(best)), best] > -np.inf
        self.asked[ask.rows[left], best[left]] = True
        for s in np.unique(best[left]).tolist():
            self.launch(s, ask.rows[left & (best == s)], False)
