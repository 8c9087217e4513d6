"""Frames on their way to a venue: answers it waits for come first, the rest in order. No I/O."""

import asyncio
from collections import deque

__all__ = ["Outbox"]


class Outbox:
    """A bounded queue with two lanes. `idle` tells whether everything was taken."""

    SIZE_MAX = 10_000

    def __init__(self) -> None:
        self._urgent: deque[bytes] = deque()
        self._frames: deque[bytes] = deque()
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._frames)

    def put(self, frame: bytes, *, urgent: bool = False) -> None:
        """Queue `frame`; ConnectionError where the venue takes frames so slowly that too many wait."""
        if len(self) >= self.SIZE_MAX:
            raise ConnectionError(f"{self.SIZE_MAX} frames wait to be sent")
        (self._urgent if urgent else self._frames).append(frame)
        self._filled.set()

    async def get(self) -> bytes:
        """Wait for the next frame."""
        while not self:
            self._filled.clear()
            await self._filled.wait()
        return (self._urgent or self._frames).popleft()
