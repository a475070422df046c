"""uvicorn's fast HTTP protocol, with a limit that it lacks: on the bytes of a request that are not its body."""

# mypy: allow-subclassing-any

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# bytes of one request's head, as in h11. What comes in one piece (256 KiB of asyncio) is seen before it is counted.
MOST = 64 << 10
_REPLY = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class LimitedProtocol(HttpToolsProtocol):
    """Ends connections that send much without any body: heads, trailers and chunk extensions without an end.

    The parser keeps heads in memory whole, and the application sees nothing, thus limits nothing, before their end.
    """

    _idle = 0  # bytes since the last of a body, or the end of a request

    def data_received(self, data: bytes) -> None:
        self._idle += len(data)
        super().data_received(data)
        if self._idle > MOST and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:  # else a reply may be half sent
                self.transport.write(_REPLY)
            self.transport.close()

    def on_body(self, body: bytes) -> None:
        self._idle = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._idle = 0
        super().on_message_complete()
