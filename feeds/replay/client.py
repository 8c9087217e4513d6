"""One connected client: its frames out, in order, through a bounded queue; its frames in, counted and answered.

A client that reads too slowly, sends too much or does not answer pings loses its connection, and nobody else notices.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from feeds.dialects.base import Conversation, Refused, Rules

__all__ = ["Client"]

log = logging.getLogger(__name__)

QUEUE_FRAMES = 20_000
QUEUE_BYTES = 32 * 1024 * 1024
CLOSE_TIMEOUT_S = 1.0


class Client:
    """Serves one socket until `end` is called or the client goes."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        conversation: Conversation,
        rules: Rules,
        ping_s: float,
        asked: Callable[["Client"], None],
    ) -> None:
        """`asked` is called after each request, its answers being queued."""
        self.conversation = conversation
        self._asked = asked
        self._socket, self._rules, self._ping_s = socket, rules, ping_s
        self._queue: deque[tuple[bytes, WSMsgType]] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self._received: deque[float] = deque(maxlen=rules.messages_per_s)
        self._ponged = 0.0
        self._ended: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    def send(self, frame: bytes, *, binary: bool = False) -> None:
        """Queue a frame, text where neither it nor the venue is `binary`; ends the client when it is too far behind."""
        if self._ended.done():
            return
        self._queue.append((frame, WSMsgType.BINARY if binary or self.conversation.binary else WSMsgType.TEXT))
        self._bytes += len(frame)
        self._filled.set()
        if len(self._queue) > QUEUE_FRAMES or self._bytes > QUEUE_BYTES:
            self.end(WSCloseCode.POLICY_VIOLATION, "too slow")

    def end(self, code: int, reason: str) -> None:
        """Close the connection; frames still queued are not sent."""
        if not self._ended.done():
            self._ended.set_result((code, reason))

    async def serve(self, request: web.Request) -> None:
        """Carry frames both ways until the connection ends."""
        for frame in self.conversation.opened():
            self.send(frame)
        tasks = [asyncio.create_task(work()) for work in (self._read, self._write, self._ping)]
        waited: list[asyncio.Future[Any]] = [*tasks, self._ended]
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            self.end(WSCloseCode.OK, "")
            await self._close(request)
        for error in results:
            if isinstance(error, Exception) and not isinstance(error, (ConnectionError, RuntimeError)):
                raise error

    async def _close(self, request: web.Request) -> None:
        code, reason = self._ended.result()
        with suppress(TimeoutError, ConnectionError, RuntimeError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._socket.close(code=code, message=reason.encode()[:120], drain=False)
        if request.transport is not None:
            # A client that reads nothing never answers the close frame either.
            request.transport.abort()

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                return
            if self._too_many():
                self.end(WSCloseCode.POLICY_VIOLATION, "Too many requests")
                return
            try:
                await self._take(message)
            except Refused as refused:
                self.end(refused.code, refused.reason)
                return

    def _too_many(self) -> bool:
        now = asyncio.get_running_loop().time()
        full = len(self._received) == self._received.maxlen and now - self._received[0] < 1.0
        self._received.append(now)
        return full

    async def _take(self, message: WSMessage) -> None:
        if message.type is WSMsgType.PING:
            await self._socket.pong(message.data)
        elif message.type is WSMsgType.PONG:
            self._ponged = asyncio.get_running_loop().time()
        else:
            binary = message.type is WSMsgType.BINARY
            for answer in self.conversation.receive(message.data if binary else message.data.encode(), binary):
                self.send(answer)
            self._asked(self)

    async def _write(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue:
                frame, opcode = self._queue.popleft()
                self._bytes -= len(frame)
                await self._socket.send_frame(frame, opcode)

    async def _ping(self) -> None:
        loop = asyncio.get_running_loop()
        self._ponged = loop.time()
        while True:
            await asyncio.sleep(self._ping_s)
            if loop.time() - self._ponged > 3 * self._ping_s:
                self.end(WSCloseCode.POLICY_VIOLATION, "Pong timeout")
                return
            try:
                frames = self.conversation.tick()
            except Refused as refused:
                self.end(refused.code, refused.reason)
                return
            for frame in frames:
                self.send(frame)
            await self._socket.ping(b"%d" % int(loop.time() * 1000))
