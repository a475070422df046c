"""A data source behind HTTP, as `collegium.rag.serve_source` serves it."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import numpy as np

from .._check import integer, real
from . import wire
from .http_client import Client, Usage, current
from .seam import Floats, Ids
from .source import Source, queries
from .wire import Malformed, Reply, best_first

T = TypeVar("T")
# bytes. Longer replies are decoded on a thread: the loop has other sources' replies and the deadlines to look after.
INLINE = 256 << 10
# of one request, queries times k: with passages of 1 kB the reply is half of what `max_reply` allows.
RESULTS = 4096


class SourceError(ConnectionError):
    """A source that did not answer. reason: "timeout", "connection refused", "reset", "http 503", "malformed reply",
    "reply too large", "wrong dimension", ...; detail: a sentence."""

    def __init__(self, name: str, reason: str, detail: str = "") -> None:
        super().__init__(f"source {name!r}: {reason}" + (f" ({detail})" if detail else ""))
        self.name, self.reason, self.detail = name, reason, detail


class HttpSource:
    """A source at a URL: `search`, `asearch`, `describe`, and the same inside a `FederatedRetriever`.

    url: http(s)://host[:port][/prefix]. name: the source's own if None (asked for at need). token: sent as bearer.
    timeout: s of one search, in place of the retriever's (alone: 10). max_reply: bytes; longer ones are not read.
    max_batch: queries of one request (fewer where k is large); a larger batch goes as several, one after the other.
    binary: safetensors, else JSON. verify_ssl: False takes any certificate; ssl_context: for own authorities.
    Redirects are not followed. Raises ValueError, TypeError.
    """

    def __init__(
        self,
        url: str,
        name: str | None = None,
        *,
        token: str | None = None,
        timeout: float | None = None,
        max_reply: int = 8 << 20,
        max_batch: int = 64,
        binary: bool = True,
        verify_ssl: bool = True,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url) if isinstance(url, str) else None
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url: expected http(s)://host[:port], got {url!r}")
        if parts.query or parts.fragment or parts.username:
            raise ValueError(f"url: expected no query, fragment or user, got {url!r}")
        self.url = url.rstrip("/")
        self.timeout = None if timeout is None else real(timeout, "timeout", positive=True)
        self.max_reply = integer(max_reply, "max_reply", 1)
        self.max_batch = integer(max_batch, "max_batch", 1)
        self.binary = bool(binary)
        self._name = name
        self.known: Source | None = None  # what describe() learned
        self._headers = {"Accept": wire.TENSORS if binary else wire.JSON}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._ssl: Any = ssl_context if ssl_context is not None else bool(verify_ssl)
        self._client: Client | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """As given, or as the source calls itself: then the first need of it asks. Raises SourceError."""
        return self._name or self.describe().name

    @property
    def label(self) -> str:
        """The name where it is known, else the URL."""
        return self._name or (self.known.name if self.known is not None else self.url)

    def search(self, Q: Any, k: int) -> tuple[Floats, Ids]:
        """(D, I), float32 and int64 (B, k), best first, id -1 for "no more". Q: float32 (B, d) or (d,).

        Raises ValueError before anything is sent, SourceError for a source that did not answer.
        """
        client = self._own()
        about = self.describe()
        rows = queries(Q, [about])[about.encoder]
        reply = client.run(self._timed(self.ask(client, rows, integer(k, "k", 1), Usage())))
        return best_first(reply.D, reply.I, about.larger_is_better)

    async def asearch(self, Q: Any, k: int) -> tuple[Floats, Ids]:
        """As search(), from any event loop."""
        client = self._own()
        about = self.known
        if about is None:
            about = await client.arun(self._timed(self.adescribe(client)))
        rows = queries(Q, [about])[about.encoder]
        reply = await client.arun(self._timed(self.ask(client, rows, integer(k, "k", 1), Usage())))
        return best_first(reply.D, reply.I, about.larger_is_better)

    def describe(self, refresh: bool = False) -> Source:
        """Its statistics, from /v1/stats, kept until refresh=True. Raises SourceError."""
        if self.known is None or refresh:
            client = self._own()
            return client.run(self._timed(self.adescribe(client)))
        return self.known

    async def adescribe(self, client: Client, usage: Usage | None = None) -> Source:
        """Asks for the statistics, on the loop of `client`."""
        body, _ = await self._request(client, "GET", "/v1/stats", None, usage or Usage())
        try:
            told = wire.decode_stats(body)
        except Malformed as e:
            raise SourceError(self.label, "malformed reply", str(e)) from e
        self.known = told if self._name is None else replace(told, name=self._name)
        return self.known

    async def ask(self, client: Client, Q: Floats, k: int, usage: Usage) -> Reply:
        """One search on the loop of `client`; the reply is checked, but not sorted. Raises SourceError."""
        step = max(1, min(self.max_batch, RESULTS // k))
        if len(Q) <= step:
            return await self._ask(client, Q, k, usage)
        replies = await self._parts(client, Q, k, usage, step)
        if len({r.version for r in replies}) > 1:  # ids of one version say nothing about passages of another
            replies = await self._parts(client, Q, k, usage, step)
            if len({r.version for r in replies}) > 1:
                raise SourceError(self.label, "version changed", "twice, within one batch")
        passages = {i: p for r in replies for i, p in r.passages.items()}
        D, I = np.concatenate([r.D for r in replies]), np.concatenate([r.I for r in replies])
        return Reply(D, I, passages, replies[-1].version)

    async def _parts(self, client: Client, Q: Floats, k: int, usage: Usage, step: int) -> list[Reply]:
        """The batch in requests of `step` queries, one after the other: one caller does not take all of a source."""
        replies: list[Reply] = []
        first = float("nan"), float("nan")
        for at in range(0, len(Q), step):
            replies.append(await self._ask(client, Q[at : at + step], k, usage))
            first = first if at else (usage.t_connect, usage.t_first)
        usage.t_connect, usage.t_first = first
        return replies

    async def _ask(self, client: Client, Q: Floats, k: int, usage: Usage) -> Reply:
        """One request. A connection kept from before may have been closed by the source just now: that is tried once
        more."""
        body = wire.encode_query(Q, k, self.binary)
        usage.t_first = float("nan")  # of a request before
        try:
            answer, kind = await self._request(client, "POST", "/v1/search", body, usage)
        except SourceError as e:
            if e.reason != "reset" or not usage.reused or usage.t_first == usage.t_first:
                raise
            answer, kind = await self._request(client, "POST", "/v1/search", body, usage)
        try:
            if len(answer) > INLINE:  # cut off at the deadline, the thread ends by itself
                return await asyncio.to_thread(wire.decode_reply, answer, kind, len(Q), k)
            return wire.decode_reply(answer, kind, len(Q), k)
        except Malformed as e:
            raise SourceError(self.label, "malformed reply", str(e)) from e

    async def _request(
        self, client: Client, method: str, path: str, body: bytes | None, usage: Usage
    ) -> tuple[bytes, str]:
        current.set(usage)  # of this task: the connector tells it which connection it got
        headers = self._headers
        if body is not None:
            headers = {**headers, "Content-Type": wire.TENSORS if self.binary else wire.JSON}
        try:
            async with client.session.request(
                method, self.url + path, data=body, headers=headers, ssl=self._ssl, allow_redirects=False
            ) as response:
                usage.t_first = usage.since()
                answer = await self._read(response)
                usage.t_total = usage.since()
                if response.status != 200:
                    raise SourceError(self.label, f"http {response.status}", answer[:200].decode(errors="replace"))
                return answer, response.headers.get("Content-Type", "")
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as e:
            if isinstance(e, SourceError):
                raise
            raise SourceError(self.label, _reason(e), str(e)) from e
        finally:
            usage.settle()

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        told = response.content_length or 0
        if told > self.max_reply:
            response.close()
            raise self._too_large(f"{told} bytes")
        parts, size = [], 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > self.max_reply:
                response.close()
                raise self._too_large(f"more than {self.max_reply} bytes")
            parts.append(part)
        return b"".join(parts)

    def _too_large(self, what: str) -> SourceError:
        more = (
            f"max_reply={self.max_reply}: a larger one reads more, max_batch={self.max_batch}: a smaller one asks less"
        )
        return SourceError(self.label, "reply too large", f"{what}; {more}")

    async def _timed(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await asyncio.wait_for(work, self.timeout or 10.0)
        except asyncio.TimeoutError:
            raise SourceError(self.label, "timeout") from None

    def _own(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = Client()
            return self._client

    def close(self) -> None:
        """Closes the connections that its own searches made; a retriever's are the retriever's."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def __enter__(self) -> HttpSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        s = self.known
        size = "" if s is None else f", {s.count} x {s.dim}, metric={s.metric!r}"
        return f"HttpSource({self.url!r}, name={self.label!r}{size})"


def _reason(e: BaseException) -> str:
    """A word or two for what went wrong, the same for the same cause: counters are kept by it."""
    if isinstance(e, asyncio.TimeoutError):
        return "timeout"
    if isinstance(e, (aiohttp.ClientSSLError, ssl.SSLError)):
        return "tls"
    if isinstance(e, aiohttp.ClientConnectorError):
        if isinstance(e, getattr(aiohttp, "ClientConnectorDNSError", ())):
            return "unknown host"
        return "connection refused" if isinstance(e.os_error, ConnectionRefusedError) else "unreachable"
    if isinstance(e, aiohttp.ClientResponseError):
        return "malformed reply"  # not HTTP
    if isinstance(e, (aiohttp.ServerConnectionError, aiohttp.ClientPayloadError, ConnectionError, OSError)):
        return "reset"
    return "failed"
