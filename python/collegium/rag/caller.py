"""One search path for blocking and asynchronous callers: what differs is how they wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from . import flight
from .http_client import Client
from .request import Answer, Request

T = TypeVar("T")


class Caller(Protocol):
    """How the caller of a search waits."""

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """For work on the client's loop."""

    async def slow(self, work: Callable[[], T]) -> T:
        """For a plain function that may take long."""

    async def answer(self, r: Request) -> Answer:
        """For a cache; r.retrieve is a coroutine function."""


class Blocking:
    """Its coroutines never suspend: `now` runs them in the caller's thread."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._client.run(work)

    async def slow(self, work: Callable[[], T]) -> T:
        return work()

    async def answer(self, r: Request) -> Answer:
        retrieve = r.retrieve
        return flight.answer(replace(r, retrieve=lambda q, m: now(retrieve(q, m))))


class Awaiting:
    """Leaves the caller's event loop free."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        return await self._client.arun(work)

    async def slow(self, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(work)

    async def answer(self, r: Request) -> Answer:
        return await flight.aanswer(r)


def now(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing but `Blocking`."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        work.close()
    raise RuntimeError("a blocking search awaited something")
