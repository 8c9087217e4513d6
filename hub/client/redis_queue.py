"""What waits for the consumer of a stream straight from Redis: in order, bounded, and no oftener than it wants.

What does not fit is dropped: it is in Redis, where the stream reads it again once the consumer has taken the rest.
"""

import asyncio
import logging
from collections import deque
from typing import Final

import msgspec

from hub.client.items import Gap, Item
from hub.client.redis_health import Reading
from hub.model import Book, decode
from hub.position import Position, format_position, position_in

__all__ = ["Queue"]

logger = logging.getLogger(__name__)

QUEUE_MAX: Final = 10_000
#: Items handed out at once.
BATCH: Final = 256


class Queue:
    """Payloads and items. `dropped`: channels of which something did not fit; `overflows` counts when that began.

    State kinds of a channel come at most `max_rate` times a second.
    """

    def __init__(self, max_rate: float | None) -> None:
        self.dropped: dict[Reading, None] = {}
        self.overflows = 0
        self._every_s = 1 / max_rate if max_rate is not None else 0.0
        self._waiting: deque[tuple[Reading, bytes] | Item] = deque()
        self._came = asyncio.Event()
        self._taking = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._waiting)

    # the stream's side

    def put(self, reading: Reading, payload: bytes, position: Position | None = None) -> None:
        """Add a message of the stream, if there is room and its turn has come."""
        if reading in self.dropped:
            return
        if self._every_s and not reading.event:
            now = self._loop.time()
            if reading.held is not None or now < reading.due:
                if reading.held is None:
                    self._loop.call_at(reading.due, self._release, reading)
                reading.held = payload
                return
            reading.due = now + self._every_s
        if len(self._waiting) >= QUEUE_MAX:
            self.overflows += not self.dropped
            self.dropped[reading] = None
            return
        reading.queued = position or position_in(payload, reading.head)
        self.append((reading, payload))

    def _release(self, reading: Reading) -> None:
        payload, reading.held = reading.held, None
        reading.due = 0.0
        if payload is not None:
            self.put(reading, payload)

    def append(self, entry: tuple[Reading, bytes] | Item) -> None:
        """Add what must not be dropped."""
        self._waiting.append(entry)
        self.wake()

    def wake(self) -> None:
        """Have the consumer look again."""
        self._came.set()

    async def room(self) -> None:
        """Wait until the consumer has taken most of what there is."""
        while len(self._waiting) >= BATCH:
            self._taking.clear()
            await self._taking.wait()

    # the consumer's side

    def take(self) -> list[Item]:
        """Return what comes next, decoded; nothing where nothing waits."""
        items: list[Item] = []
        while self._waiting and len(items) < BATCH:
            entry = self._waiting.popleft()
            if isinstance(entry, tuple):
                items += _decoded(*entry)
            else:
                items.append(entry)
        self._taking.set()
        return items

    async def wait(self) -> None:
        """Wait for the next `append` or `wake`."""
        self._came.clear()
        await self._came.wait()


def _decoded(reading: Reading, payload: bytes) -> list[Item]:
    try:
        message = decode(payload)
    except msgspec.DecodeError as error:
        logger.warning("unreadable message channel=%s error=%s", reading.name, error)
        return [Gap(reading.name, format_position(position_in(payload, reading.head)), None)]
    if isinstance(message, Book):
        if message.action == "snapshot":
            reading.unbased = False
        elif reading.unbased:
            return []
    return [message]
