"""A client's socket after the handshake: frames in, frames out, nothing else. Slim, because there are many.

The transport comes from the HTTP server (gateway/handover.py). What clients say goes to the Clients registry, what they
get is written by their Subscriber straight to the transport.
"""

import asyncio
from typing import TYPE_CHECKING

from gateway.encodings import Encoding
from gateway.frames import BINARY, CLOSE, PING, PONG, TEXT, FrameError, FrameReader, close_frame, control_frame
from gateway.subscriber import Subscriber

if TYPE_CHECKING:
    from gateway.clients import Clients

__all__ = ["Connection", "EncodedConnection"]

#: How long a client may take to answer a close frame, and to read what was sent before it.
CLOSE_TIMEOUT_S = 3.0


class Connection(asyncio.Protocol):
    """One client. `seen` is when it last sent anything (coarse, the registry's clock in s)."""

    __slots__ = ("_clients", "_closing", "_reader", "bucket", "seen", "subscriber", "transport")

    def __init__(self, clients: "Clients", transport: asyncio.Transport) -> None:
        self._clients = clients
        self._reader: FrameReader | None = None
        self._closing: asyncio.TimerHandle | None = None
        self.transport = transport
        self.seen = clients.now
        self.bucket = -1
        self.subscriber = Subscriber(self, transport, clients.settings.queue_bytes)

    # gateway.subscriber.Sink

    def close(self, code: int, reason: str) -> None:
        """Send a close frame; the socket ends when the client answers it, at the latest after CLOSE_TIMEOUT_S."""
        if self._closing is None and not self.transport.is_closing():
            self._clients.remove(self, code)
            self.transport.write(close_frame(code, reason))
            self._closing = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self.transport.abort)
            self.transport.resume_reading()  # the answer, and so that unread bytes do not become a reset

    def unsent(self) -> int:
        """Return how many bytes the socket has not taken yet."""
        return self.transport.get_write_buffer_size()

    def abort(self) -> None:
        """End the connection without waiting for anything."""
        self.transport.abort()

    def ping(self) -> None:
        """Send a ping, unless the client does not even read."""
        if self.subscriber.held is None:
            self._clients.fanout.send(self.subscriber, control_frame(PING))

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        self.seen = self._clients.now
        reader = self._reader or self._new_reader()
        try:
            for opcode, payload in reader.feed(data):
                self._received(opcode, payload)
        except FrameError as error:
            self._clients.broke_protocol(self, error)
            self._reader = None
            return
        self._reader = None if reader.idle else reader

    def _new_reader(self) -> FrameReader:
        return FrameReader(self._clients.settings.max_frame_bytes)

    def _received(self, opcode: int, payload: bytes) -> None:
        if self._closing is not None:
            if opcode == CLOSE:
                self.transport.close()
        elif opcode == TEXT:
            self._clients.message(self.subscriber, payload)
        elif opcode == BINARY:
            self._clients.message(self.subscriber, payload, packed=True)
        elif opcode == PING:
            self._clients.fanout.send(self.subscriber, control_frame(PONG, payload))
        elif opcode == CLOSE:
            self._clients.remove(self, 1000)
            self.transport.write(control_frame(CLOSE, payload[:2]))
            self._closing = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self.transport.abort)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._clients.lost(self)

    def pause_writing(self) -> None:
        if self._closing is None:
            # A client that does not read its answers gets no further questions answered.
            self.transport.pause_reading()
            self._clients.hold(self.subscriber)

    def resume_writing(self) -> None:
        if self._closing is None and not self.transport.is_closing():
            self.transport.resume_reading()
            self._clients.drain(self.subscriber)


class EncodedConnection(Connection):
    """A client that wants msgpack (`packed`), compressed messages (`deflate`), or both."""

    __slots__ = ("_deflate", "_packed")

    def __init__(
        self,
        clients: "Clients",
        transport: asyncio.Transport,
        encoding: Encoding | None,
        *,
        packed: bool,
        deflate: bool,
    ) -> None:
        super().__init__(clients, transport)
        self._packed, self._deflate = packed, deflate
        if encoding is not None:
            self.subscriber.writer = _Encoded(encoding, transport)

    def _new_reader(self) -> FrameReader:
        return FrameReader(self._clients.settings.max_frame_bytes, packed=self._packed, deflate=self._deflate)


class _Encoded:
    """Writes a client's frames in its encoding."""

    __slots__ = ("_frames", "_write")

    def __init__(self, encoding: Encoding, transport: asyncio.Transport) -> None:
        self._frames, self._write = encoding.frames, transport.write

    def write(self, data: bytes) -> None:
        self._write(self._frames(data))
