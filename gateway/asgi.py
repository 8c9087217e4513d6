"""A client behind a server that offers no hand-over (the test client, another ASGI server).

The same hub interface as gateway/connection.py, through ASGI messages: frames are taken apart again, what the socket
does not take yet is buffered here with the same limits, so that the policy for slow readers is the same.
"""

import asyncio
from collections import deque
from typing import Any, TypeAlias

from litestar import WebSocket
from litestar.exceptions import WebSocketException

from gateway.clients import Clients
from gateway.encodings import Encoding
from gateway.frames import BINARY, CLOSE, TEXT, FrameError, close_frame, split_frames
from gateway.subscriber import Subscriber

__all__ = ["HIGH_WATER", "LOW_WATER", "AsgiConnection", "Socket"]

Socket: TypeAlias = WebSocket[Any, Any, Any]

#: Bytes in the write buffer at which a client counts as not reading, and as reading again.
HIGH_WATER, LOW_WATER = 65_536, 16_384


class AsgiConnection:
    """One client; `run` lasts as long as it is connected. `encoding`: for one that wants msgpack."""

    def __init__(self, clients: Clients, socket: Socket, encoding: Encoding | None = None) -> None:
        self._clients, self._socket, self._encoding = clients, socket, encoding
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Future[None]] = []
        self.bucket = -1
        self.seen = clients.now
        self.subscriber = Subscriber(self, self, clients.settings.queue_bytes)

    def close(self, code: int, reason: str) -> None:
        if self.bucket >= 0:
            self._clients.remove(self, code)
            self.write(close_frame(code, reason))

    def unsent(self) -> int:
        """Return how many bytes the server has not taken yet."""
        return self._size

    def abort(self) -> None:
        """Stop serving; the server ends the connection."""
        for task in self._tasks:
            task.cancel()

    def ping(self) -> None:
        """Pings are the server's business; without them silence means nothing."""
        self.seen = self._clients.now

    async def run(self) -> None:
        """Serve the accepted socket until either side closes."""
        self._tasks = [asyncio.ensure_future(self._send()), asyncio.ensure_future(self._receive())]
        try:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._clients.lost(self)
            self.abort()
            for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
                if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketException | OSError):
                    raise outcome

    def write(self, data: bytes) -> None:
        """Queue whole frames for the server."""
        if self._encoding is not None:
            data = self._encoding.frames(data)
        self._queue.append(data)
        self._size += len(data)
        self._wake.set()
        if self._size > HIGH_WATER and self.bucket >= 0:
            self._clients.hold(self.subscriber)

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                data = self._queue.popleft()
                for opcode, payload in split_frames(data):
                    if opcode == TEXT:
                        await self._socket.send_text(payload.decode())
                    elif opcode == BINARY:
                        await self._socket.send_bytes(payload)
                    elif opcode == CLOSE:
                        await self._socket.close(int.from_bytes(payload[:2], "big"), payload[2:].decode())
                        return
                self._size -= len(data)
                held = self.subscriber.held
                if held is not None and held.full and self._size <= LOW_WATER:
                    self._clients.drain(self.subscriber)

    async def _receive(self) -> None:
        while True:
            message: Any = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            self.seen = self._clients.now
            text, packed = message.get("text"), message.get("bytes")
            payload = text.encode() if text is not None else packed or b""
            if len(payload) > self._clients.settings.max_frame_bytes:
                limit = self._clients.settings.max_frame_bytes
                self._clients.broke_protocol(self, FrameError(1009, f"a message may have {limit} bytes"))
                await asyncio.Event().wait()  # until the close frame is sent
            if text is None and self._encoding is None:
                self._clients.broke_protocol(self, FrameError(1003, "messages are JSON text"))
                await asyncio.Event().wait()
            self._clients.message(self.subscriber, payload, packed=text is None)
