"""A data source behind HTTP: ``serve_source`` for a process, ``app`` for any ASGI server, ``SourceServer`` for tests.

Starlette routes, uvicorn speaks HTTP and TLS. Searches run on threads, so that a slow one keeps nobody from
``/healthz``. Needs starlette and uvicorn: pip install 'collegium[rag]'.
"""

# mypy: allow-subclassing-any

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .._check import integer
from . import wire
from .endpoint import passages_of
from .source import Searchable
from .wire import Refused

_protocol: Any
try:
    from .http_head import LimitedProtocol as _protocol
except ImportError:  # httptools comes with uvicorn[standard] only; h11 has a limit of its own
    _protocol = "h11"

log = logging.getLogger("collegium.rag.server")
COUNTERS = ("requests_total", "queries_total", "refused_total", "errors_total", "bytes_in_total", "bytes_out_total")


def app(
    source: Searchable,
    *,
    token: str | None = None,
    max_k: int = 1000,
    max_batch: int = 1024,
    max_body: int = 64 << 20,
    threads: int | None = None,
) -> Starlette:
    """The ASGI application of one source, for uvicorn, hypercorn or a mount inside a larger one.

    source: its `search` is called from several threads at once, the event loop's included if it is quick; passages come
    from its ``passages(ids)``, if any.
    token: callers must send ``Authorization: Bearer TOKEN``; /healthz answers all. max_k: results a query; max_batch:
    queries a request; max_body: bytes of one. threads: searches at once (default: processors, at least 4).
    Routes: POST /v1/search, GET /v1/stats, GET /v1/counters, GET /healthz. Raises ValueError, TypeError.
    """
    return _App(source, token, max_k, max_batch, max_body, threads).starlette()


# s. A search that should take less is done on the event loop: to a thread and back costs as much.
QUICK = 5e-4


class _App:
    def __init__(
        self,
        source: Searchable,
        token: str | None = None,
        max_k: int = 1000,
        max_batch: int = 1024,
        max_body: int = 64 << 20,
        threads: int | None = None,
    ) -> None:
        if token is not None and (not isinstance(token, str) or not token):
            raise ValueError("token: expected a non-empty string or None")
        self.source, self.token = source, token
        self.max_k, self.max_batch = integer(max_k, "max_k", 1), integer(max_batch, "max_batch", 1)
        self.max_body = integer(max_body, "max_body", 1)
        self.threads = integer(max(4, os.cpu_count() or 1) if threads is None else threads, "threads", 1)
        self.counters: dict[str, float] = dict.fromkeys((f"collegium_source_{c}" for c in COUNTERS), 0)
        self.counters["collegium_source_search_seconds_total"] = 0.0
        self.stats = source.describe()
        self.limiter: anyio.CapacityLimiter | None = None
        self.row_seconds = self.last = float("inf")  # of a query, in the slower of the last two searches; in the last

    def starlette(self) -> Starlette:
        routes = [
            Route("/v1/search", self.search, methods=["POST"]),
            Route("/v1/stats", self.describe, methods=["GET"]),
            Route("/v1/counters", self.count, methods=["GET"]),
            Route("/healthz", self.health, methods=["GET"]),
        ]
        return Starlette(routes=routes, exception_handlers={Refused: self.refuse, HTTPException: self.refuse})

    def add(self, name: str, amount: float = 1) -> None:
        self.counters[f"collegium_source_{name}"] += amount  # on the event loop only

    async def refuse(self, request: Request, e: Exception) -> Response:
        self.add("refused_total")
        status = e.status if isinstance(e, Refused) else getattr(e, "status_code", 400)
        return JSONResponse({"error": str(e)}, status, {"WWW-Authenticate": "Bearer"} if status == 401 else None)

    def admit(self, request: Request) -> None:
        if self.token is not None:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
                raise Refused("Authorization: expected the bearer token of this source", 401)

    async def body(self, request: Request) -> bytes:
        """The body, refused as soon as it is known to be too large."""
        too_large = Refused(f"body: expected at most {self.max_body} bytes", 413)
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self.max_body:
            raise too_large
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > self.max_body:
                raise too_large
            parts.append(part)
        self.add("bytes_in_total", size)
        return b"".join(parts)

    async def search(self, request: Request) -> Response:
        self.admit(request)
        self.add("requests_total")
        try:
            body = await self.body(request)
        except ClientDisconnect:
            return Response(status_code=400)  # to nobody
        except asyncio.CancelledError:  # the server ends, and the rest of the body did not come
            return Response(status_code=503)
        kind = request.headers.get("content-type", wire.JSON)
        query = wire.decode_query(body, kind, self.stats.dim, self.max_k, self.max_batch)
        self.add("queries_total", len(query.vectors))
        if self.limiter is None:
            self.limiter = anyio.CapacityLimiter(self.threads)
        began = time.perf_counter()
        accept = request.headers.get("accept", "")
        try:
            if len(query.vectors) * self.row_seconds < QUICK:
                out, kind = self.answer(query, accept)
            else:
                out, kind = await anyio.to_thread.run_sync(self.answer, query, accept, limiter=self.limiter)
        except Exception as e:
            self.add("errors_total")
            log.exception("search failed")
            return JSONResponse({"error": f"search failed: {type(e).__name__}"}, 500)
        self.add("search_seconds_total", time.perf_counter() - began)
        self.add("bytes_out_total", len(out))
        return Response(out, media_type=kind)

    def answer(self, query: wire.Query, accept: str) -> tuple[bytes, str]:
        began = time.perf_counter()
        found = self.source.search(query.vectors, query.k)
        took = (time.perf_counter() - began) / max(len(query.vectors), 1)
        self.row_seconds, self.last = max(took, self.last), took
        D, I = wire.best_first(*found, self.stats.larger_is_better)
        version = getattr(self.source, "version", self.stats.version)
        return wire.encode_reply(D, I, passages_of(self.source, I), version, single=query.single, accept=accept)

    async def describe(self, request: Request) -> Response:
        self.admit(request)
        self.stats = await anyio.to_thread.run_sync(self.source.describe)
        return Response(wire.encode_stats(self.stats), media_type=wire.JSON)

    async def count(self, request: Request) -> Response:
        self.admit(request)
        return JSONResponse(self.counters)

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "name": self.stats.name})


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await anyio.to_thread.run_sync(int)  # loads what the first search would otherwise wait for
        await super().startup(sockets)
        if self.started:
            self._on_ready()


class SourceServer:
    """A source served from a thread of this process, for notebooks and tests: ``with SourceServer(source) as s: ...``.

    port: 0 picks a free one. ssl_certfile, ssl_keyfile: PEM files for https. limits: of `app`. Attributes: `url`,
    `counters`. Raises OSError where the port is taken.
    """

    def __init__(
        self,
        source: Searchable,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_certfile: str | None = None,
        ssl_keyfile: str | None = None,
        log_level: str = "warning",
        **limits: Any,
    ) -> None:
        if integer(port, "port", 0) > 65535:
            raise ValueError(f"port: expected at most 65535, got {port}")
        if ssl_keyfile is not None and ssl_certfile is None:
            raise ValueError("ssl_keyfile: expected an ssl_certfile with it")
        for file in (ssl_certfile, ssl_keyfile):
            if file is not None:
                open(file, "rb").close()  # whose error names the file; that of ssl does not
        application = _App(source, **limits)
        self.counters = application.counters
        self.source = source
        self._config = uvicorn.Config(
            application.starlette(), http=_protocol, log_level=log_level, access_log=False, lifespan="off", ws="none",
            server_header=False, ssl_certfile=ssl_certfile, ssl_keyfile=ssl_keyfile,
            timeout_keep_alive=75,  # longer than clients keep idle connections: no query meets one that closes
            timeout_graceful_shutdown=5,
        )  # fmt: skip
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # With the protocol named, asyncio turns Nagle's algorithm off: else a reply's body waits 40 ms for its header.
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port))
            self._socket.listen(1024)
        except BaseException:
            self._socket.close()
            raise
        bound = self._socket.getsockname()[1]
        self.url = f"http{'s' if ssl_certfile else ''}://{f'[{host}]' if ':' in host else host}:{bound}"
        self._thread: threading.Thread | None = None

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serves until SIGTERM, SIGINT (in the main thread) or close(). on_ready: called once requests are taken."""
        self._server = _Uvicorn(self._config, on_ready)
        with contextlib.closing(self._socket):
            self._server.run([self._socket])

    def start(self) -> SourceServer:
        """Serves from a thread. Returns once it answers."""
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="collegium-source", daemon=True)
        self._thread.start()
        ready.wait()
        if not self._thread.is_alive():
            raise RuntimeError("the server did not start: see the log")
        return self

    def _run(self, ready: threading.Event) -> None:
        try:
            self.run(ready.set)
        finally:
            ready.set()

    def close(self) -> None:
        """Ends the server; requests under way are answered (for at most 5 s)."""
        if self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
            self._thread = None
        self._socket.close()

    def __enter__(self) -> SourceServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SourceServer({self.source.describe().name!r} at {self.url})"


def serve_source(
    vectors: Any = None,
    index: Any = None,
    source: Searchable | None = None,
    *,
    name: str | None = None,
    passages: Any = None,
    metric: str | None = None,
    encoder: str = "",
    version: str = "",
    host: str = "127.0.0.1",
    port: int = 9001,
    token: str | None = None,
    max_k: int = 1000,
    max_batch: int = 1024,
    max_body: int = 64 << 20,
    threads: int | None = None,
    ssl_certfile: str | None = None,
    ssl_keyfile: str | None = None,
    log_level: str = "warning",
    on_ready: Callable[[SourceServer], None] | None = None,
) -> None:
    """Serves one source over HTTP until SIGTERM or SIGINT. See `app` for routes and limits.

    One of: vectors, float32 (n, d), searched exactly by `metric` ("ip", "l2", "cosine"; "ip" if None); index, FAISS or
    another that `FaissSource` takes, which has a metric of its own; source, anything with search, describe and name.
    passages: of the documents, by row. name, encoder, version: what the statistics say. port: 0 picks a free one.
    token: without one, whoever reaches host:port may search. on_ready: called with the `SourceServer` (its `url`).
    Raises ValueError, TypeError, OSError.
    """
    given = [n for n, v in (("vectors", vectors), ("index", index), ("source", source)) if v is not None]
    if len(given) != 1:
        raise ValueError(f"serve_source: expected one of vectors, index, source, got {' and '.join(given) or 'none'}")
    if source is None:
        from .local_source import FaissSource, VectorSource

        if name is None:
            raise TypeError("name: expected a string, got None")
        about = {"name": name, "passages": passages, "encoder": encoder, "version": version}
        if vectors is not None:
            source = VectorSource(vectors, metric=metric or "ip", **about)
        else:
            source = FaissSource(index, **about)
            if metric not in (None, source.describe().metric):
                raise ValueError(f"metric: expected {source.describe().metric!r}, the index's, got {metric!r}")
    server = SourceServer(
        source, host=host, port=port, token=token, max_k=max_k, max_batch=max_batch, max_body=max_body,
        threads=threads, ssl_certfile=ssl_certfile, ssl_keyfile=ssl_keyfile, log_level=log_level,
    )  # fmt: skip
    server.run(lambda: on_ready(server) if on_ready is not None else None)
