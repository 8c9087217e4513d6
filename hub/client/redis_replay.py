"""What a stream straight from Redis gives of the past: logs read page by page, merged by time, at a chosen pace.

Pages come as the consumer takes them, so that a long log needs no memory; each channel is handed over when all are read
to their ends.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from hub.bus import Bus
from hub.client.redis_health import Reading
from hub.intervals import NS_PER_S
from hub.link import RedisReplyError
from hub.position import Position
from hub.replay import Cursor, Event, Lost, Since

__all__ = ["RedisReplay"]

REDIS_POLL_S = 0.1
#: Logs that were read to their ends so recently count as all read, at full speed and at a chosen one.
FRESH_S, FRESH_PACED_S = 2.0, 0.25


class RedisReplay:
    """`put` takes an event, `lost` what a log does not hold (with the last position that was read), `room` waits until
    the consumer wants more."""

    def __init__(
        self,
        bus: Bus[Reading],
        since: Since,
        speed: float,
        *,
        put: Callable[[Reading, Event], None],
        lost: Callable[[Reading, Lost], None],
        room: Callable[[], Awaitable[None]],
    ) -> None:
        self._bus, self._since, self._speed = bus, since, speed
        self._put, self._lost, self._room = put, lost, room
        self._cursors: dict[Reading, Cursor] = {}
        self._first_at: int | None = None
        self._began = 0.0

    def add(self, reading: Reading) -> None:
        self._cursors[reading] = Cursor(reading, self._since)

    async def run(self) -> dict[Reading, Position | None]:
        """Give everything that is stored; returns where each channel goes on, None: with the newest."""
        for reading, cursor in self._cursors.items():
            await cursor.seek(self._read)
            self._tell_lost(reading, cursor)
        while (event := await self._next()) is not None:
            reading, (at, _, _) = event[0], event[1]
            await asyncio.sleep(self._early_s(at))
            self._put(*event)
            await self._room()
        return {reading: cursor.place for reading, cursor in self._cursors.items()}

    async def _next(self) -> tuple[Reading, Event] | None:
        """Return the earliest event of all channels, None where all were read to their ends."""
        for reading, cursor in self._cursors.items():
            while not cursor.events and not cursor.end_at:
                await self._fill(reading, cursor)
        heads = {reading: cursor for reading, cursor in self._cursors.items() if cursor.events}
        fresh_s = FRESH_PACED_S if self._speed else FRESH_S
        known = time.time_ns() - int(fresh_s * NS_PER_S)
        if heads:
            known = min(known, min(cursor.events[0].at for cursor in heads.values()))
        for reading, cursor in self._cursors.items():
            # What came to a log since it was read may be earlier than what the others have next.
            if not cursor.events and cursor.end_at < known:
                await self._fill(reading, cursor)
                if cursor.events:
                    heads[reading] = cursor
        if not heads:
            return None
        first = min(heads, key=lambda reading: heads[reading].events[0].at)
        return first, heads[first].events.popleft()

    async def _fill(self, reading: Reading, cursor: Cursor) -> None:
        await cursor.fill(self._read)
        self._tell_lost(reading, cursor)

    def _tell_lost(self, reading: Reading, cursor: Cursor) -> None:
        lost, cursor.lost = cursor.lost, None
        if lost is not None:
            self._lost(reading, lost)

    def _early_s(self, at: int) -> float:
        """Return how long it is until an event is due."""
        if not self._speed:
            return 0.0
        if self._first_at is None:
            # Nobody waits for the first event; what a book needs from before the beginning comes at once.
            self._first_at = max(at, self._since) if isinstance(self._since, int) else at
            self._began = time.monotonic()
        return max(0.0, (at - self._first_at) / NS_PER_S / self._speed - (time.monotonic() - self._began))

    async def _read(self, command: bytes) -> Any:
        while True:
            try:
                (reply,) = await self._bus.call(command)
            except ConnectionError:
                await asyncio.sleep(REDIS_POLL_S)
                continue
            return None if isinstance(reply, RedisReplyError) else reply
