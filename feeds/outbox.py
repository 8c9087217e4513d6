"""Frames on their way to a venue: answers it waits for come first, the rest in order. No I/O."""

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Outbox"]


class Outbox:
    """A bounded queue with two lanes.

    `most` frames of the slower lane leave in any `window_s` (0: as many as there are); `spent` is called when one has
    to wait for that.
    """

    SIZE_MAX = 10_000

    def __init__(self, most: int = 0, window_s: float = 0.0, spent: Callable[[], None] = lambda: None) -> None:
        self._most, self._window_s, self._spent = most, window_s, spent
        self._taken: deque[float] = deque()
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
        while True:
            if self._urgent:
                return self._urgent.popleft()
            wait_s = self._wait_s() if self._frames else None
            if wait_s == 0:
                return self._frames.popleft()
            if wait_s is not None:
                self._spent()
            self._filled.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._filled.wait()
            except TimeoutError:
                pass  # the window moved on

    def _wait_s(self) -> float:
        """Return how long the next frame has to wait; where that is not at all, it counts as taken."""
        if not self._most:
            return 0
        now = asyncio.get_running_loop().time()
        if len(self._taken) >= self._most:
            left_s = self._taken[0] + self._window_s - now
            if left_s > 0:
                return left_s
            self._taken.popleft()
        self._taken.append(now)
        return 0
