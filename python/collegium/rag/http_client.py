"""The client's side of HTTP: an event loop in a thread of its own, one aiohttp session, sockets that count.

The loop has its own thread so that a blocking call works anywhere, also inside a running loop (Jupyter). Bytes are
counted where Python hands them to the system, headers and TLS included: what a proxy in between sees. A connection
carries one request at a time, so the difference of its counters is the request's own.
"""

# mypy: allow-subclassing-any

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import os
import socket
import threading
import time
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

from .payloads import needs

try:
    import aiohttp
except ImportError as e:
    raise needs("aiohttp", "HttpSource", e) from e

T = TypeVar("T")


class CountingSocket(socket.socket):
    """A socket that knows how many bytes went through it."""

    sent = 0
    received = 0
    used = False  # by a request before

    def send(self, *args: Any) -> int:
        n = super().send(*args)
        self.sent += n
        return n

    def sendmsg(self, *args: Any) -> int:
        n = super().sendmsg(*args)
        self.sent += n
        return n

    def recv(self, *args: Any) -> bytes:
        data = super().recv(*args)
        self.received += len(data)
        return data

    def recv_into(self, *args: Any) -> int:
        n = super().recv_into(*args)
        self.received += n
        return n


class Usage:
    """What one request cost. t_connect, t_first, t_total: s from its start to a connection, the reply's headers, its
    end; NaN where it did not come so far. bytes_in, bytes_out: on the wire. reused: on a connection of before."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.t_connect = self.t_first = self.t_total = float("nan")
        self._socket: CountingSocket | None = None
        self._before = (0, 0)
        self.reused = False
        self.bytes_in = self.bytes_out = 0

    def since(self) -> float:
        """Seconds since the request began."""
        return time.perf_counter() - self._began

    def connected(self, counting: CountingSocket) -> None:
        """From now on the bytes of this socket are the request's; those of making the connection too."""
        self.settle()
        self.t_connect = self.since()
        self.reused = counting.used
        self._socket, self._before = counting, (counting.received, counting.sent) if counting.used else (0, 0)
        counting.used = True

    def settle(self) -> None:
        """Takes the counters over; the connection may serve others from now on."""
        if self._socket is not None:
            self.bytes_in += self._socket.received - self._before[0]
            self.bytes_out += self._socket.sent - self._before[1]
            self._socket = None


CLOSED = "closed: expected an open retriever or source"
current: contextvars.ContextVar[Usage] = contextvars.ContextVar("collegium_usage")


class _Connector(aiohttp.TCPConnector):
    """Connects by counting sockets, and tells the request that runs which one it got."""

    def __init__(self) -> None:
        # Sources are few and each has its breaker: a limit would let a stuck source's connections starve the others'.
        super().__init__(limit=0, socket_factory=self._make)
        self._counting: weakref.WeakValueDictionary[int, CountingSocket] = weakref.WeakValueDictionary()

    def _make(self, address: Any) -> socket.socket:
        made = CountingSocket(family=address[0], type=address[1], proto=address[2])
        self._counting[made.fileno()] = made
        return made

    async def connect(self, *args: Any, **named: Any) -> aiohttp.connector.Connection:
        connection = await super().connect(*args, **named)
        usage, transport = current.get(None), connection.transport
        if usage is not None and transport is not None:
            usage.connected(self._counting[transport.get_extra_info("socket").fileno()])
        return connection


class Client:
    """The thread, its loop, and the session on it; started at first use, also again in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: _Running | None = None
        self._inherited: _Running | None = None
        self._finalizer: Any = None
        self.closed = False

    def _running(self) -> _Running:
        with self._lock:
            if self.closed:
                raise RuntimeError(CLOSED)
            if self._state is None or self._state.pid != os.getpid():
                self._inherited = self._state  # of a forked child: the parent's, not to be closed here
                self._state = _Running()
                self._finalizer = weakref.finalize(self, self._state.stop)  # also when the interpreter ends
            return self._state

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Runs `work` on the loop; cancelling the future cancels it."""
        watched = self._until_closed(work)
        try:
            return asyncio.run_coroutine_threadsafe(watched, self._running().loop)
        except BaseException:
            watched.close()
            work.close()
            raise

    async def _until_closed(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        except asyncio.CancelledError:
            if self.closed:  # close() cancelled it, and not who waits for it
                raise RuntimeError(CLOSED) from None
            raise

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Waits for `work`. Interrupted, it is cancelled."""
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def arun(self, work: Coroutine[Any, Any, T]) -> T:
        """As run(), from any event loop."""
        return await asyncio.wrap_future(self.submit(work))

    @property
    def session(self) -> aiohttp.ClientSession:
        """Only for coroutines on the loop."""
        return self._running().session

    def close(self) -> None:
        """Cancels what runs, closes connections, ends the thread. A second call does nothing."""
        with self._lock:
            self.closed = True
            state, self._state = self._state, None
        if state is not None:
            self._finalizer()


class _Running:
    """A started loop. It must not know its Client, or that would never be collected."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.SelectorEventLoop()  # whatever the policy: others do not use the socket's own methods
        self.thread = threading.Thread(target=self._run, name="collegium-http", daemon=True)
        self.thread.start()
        self.session = asyncio.run_coroutine_threadsafe(self._open(), self.loop).result()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    async def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=_Connector(),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            auto_decompress=False,  # we ask for none, and a small reply must not become a large one
            headers={"Accept-Encoding": "identity"},
        )

    async def _close(self) -> None:
        tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.wait([asyncio.ensure_future(asyncio.gather(*tasks, return_exceptions=True))], timeout=1.0)
        await self.session.close()
        for _ in range(3):  # transports close their sockets in a later turn of the loop
            await asyncio.sleep(0)

    def stop(self) -> None:
        if self.pid != os.getpid():
            return  # a forked child has the loop, but not its thread
        asyncio.run_coroutine_threadsafe(self._close(), self.loop).result(5.0)
        self.loop.call_soon_threadsafe(self.loop.stop)
        if self.thread is not threading.current_thread():
            self.thread.join()
            self.loop.close()
