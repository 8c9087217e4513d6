"""Heads of HTTP requests are bounded, in bytes and in time, before anybody knows who sends them.

The parser below keeps what it is sent until a head is complete, however long that takes and however large it grows.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS

from gateway.journal import Journal

__all__ = ["HEAD_BYTES_MAX", "HEAD_TIMEOUT_S", "HttpProtocol"]

#: Of first line and headers together. The lines of a handshake have the limits of websockets, which reads them.
HEAD_BYTES_MAX = 65_536
#: From the connection, or the first byte of a later request, to the end of its head.
HEAD_TIMEOUT_S = 10.0
#: Of a line: the colon, the space and the end.
_AROUND = 4


class HttpProtocol(HttpToolsProtocol):
    """One connection until it becomes a WebSocket. `journal` is the server's."""

    journal: Journal

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head: asyncio.TimerHandle | None = None  # set while a head is expected, or being read
        self._size = 0
        self._too_large = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._complete()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head is not None:
            self._size += len(data)
            if self._size > HEAD_BYTES_MAX and not self.transport.is_closing():
                self._too_large = True
                self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect()

    def on_headers_complete(self) -> None:
        self._complete()
        longest = max((len(name) + len(value) + _AROUND for name, value in self.headers), default=0)
        if self._get_upgrade() is not None:
            longest = max(longest, len(self.url) + len("OPTIONS  HTTP/1.1\r\n"))
        if len(self.headers) > MAX_NUM_HEADERS or longest > MAX_LINE_LENGTH or len(self.url) > HEAD_BYTES_MAX:
            self._too_large = True
            raise ValueError("the head is too large")  # ends the parsing, which answers
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        status, msg = (431, "Request header fields too large.") if self._too_large else (400, msg)
        self._complete()
        address = self.client[0] if self.client else None
        self.journal.note("bad request", code=status, address=address)
        text = msg.encode("ascii")
        self.transport.write(
            STATUS_LINE[status] + b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(text), text)
        )
        self.transport.close()

    def _expect(self) -> None:
        self._complete()
        self._size = 0
        self._head = self.loop.call_later(HEAD_TIMEOUT_S, self._too_late)

    def _complete(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _too_late(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._expect()  # reading may be paused until this one is answered
        elif not self.transport.is_closing():
            self.transport.close()
