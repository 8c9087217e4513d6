"""One stream straight from Redis: the bus's messages, joined with what is stored, and how good they are.

Statuses are followed unasked, and a connection to Redis that does not come back within a second is told
(hub/client/redis_health.py judges). When the consumer is slow its queue (hub/client/redis_queue.py) fills; what does
not fit is read again (state kinds: the newest; events: from the log, behind the last id that was queued) once the
consumer has emptied it.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Final

from hub.bus import Bus
from hub.client.items import NOT_SUBSCRIBED, Gap, Item, Live, Wanted
from hub.client.redis_health import Health, Reading
from hub.client.redis_queue import Queue
from hub.client.redis_replay import RedisReplay
from hub.client.replaying import REPLAYING
from hub.directory import Directory, is_pattern, patterns_of
from hub.errors import RedisUnavailable
from hub.join import NOTHING, Joined, events_in
from hub.keys import VENUE_WIDE, Keys, channel_name, parse_channel
from hub.link import pack
from hub.log import mask_url
from hub.model import State, is_event
from hub.position import Position, follows, format_position, position_in
from hub.replay import Event, Lost

__all__ = ["RedisStream"]

logger = logging.getLogger(__name__)

#: Events read from a log at once by a consumer that was too slow.
PAGE: Final = 5000
GRACE_S = 1.0
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.1, 2.0
LOST = "the connection to Redis is lost"


class RedisStream:
    """An ItemSource, and the bus's listener."""

    def __init__(
        self,
        url: str,
        keys: Keys,
        wanted: Wanted,
        *,
        patience_s: float,
    ) -> None:
        parsed = [parse_channel(name, wildcards=True) for name in wanted.channels]
        self._patterns = {channel.name for channel in parsed if is_pattern(channel)}
        self._names = [channel.name for channel in parsed if not is_pattern(channel)]
        self._after, self._since = wanted.after, wanted.since
        self._queue = Queue(wanted.max_rate)
        self._patience_s = patience_s
        self._bus: Bus[Reading] = Bus(url, keys, Reading, self)
        self._directory = Directory()
        self._readings: dict[str, Reading] = {}
        self._followed: dict[str, Reading] = {}
        self._health = Health(self._bus, self._readings, self._queue.append)
        self._replay = RedisReplay(
            self._bus, wanted.since or 0, wanted.speed,
            put=self._put_past, lost=self._lost_past, room=self._queue.room,
        )  # fmt: skip
        self._pages: deque[Reading] = deque()
        self._paging: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._grace: asyncio.TimerHandle | None = None
        self._started = False
        self._work: asyncio.Task[None] | None = None

    # hub.client.items.ItemSource

    @property
    def lagged(self) -> int:
        return self._queue.overflows

    async def receive(self) -> list[Item]:
        if self._work is None:
            self._work = asyncio.create_task(self._run())
            self._work.add_done_callback(lambda _: self._queue.wake())
        while True:
            items = self._queue.take()
            if not self._queue and self._queue.dropped:
                self._catch_up()
            if items:
                return items
            if self._work.done():
                if not self._work.cancelled():
                    self._work.result()
                raise RedisUnavailable(mask_url(self._bus.url), "the stream was closed")
            await self._queue.wait()

    def state(self, channel: str) -> tuple[State, str]:
        reading = self._readings.get(channel)
        if reading is None:
            return "down", self._health.lost or NOT_SUBSCRIBED
        state, reason = self._health.state(reading)
        return ("stale", REPLAYING) if reading.replaying and not self._health.lost else (state, reason)

    async def close(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
        for task in (self._paging, self._work):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    # the work

    async def _run(self) -> None:
        await self._start()
        names = [*self._names, *(name for p in sorted(self._patterns) for name in self._directory.match(p))]
        try:
            await self._health.look({parse_channel(name).venue for name in names})
            for name in names:
                self._add(name, self._after.get(name), replaying=self._since is not None)
            self._started = True
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._bus.run())
                tasks.create_task(self._health.watch())
                if self._since is not None:
                    tasks.create_task(self._play())
        finally:
            for reading in self._readings.values():
                reading.read = False

    async def _start(self) -> None:
        until, delay_s = self._loop.time() + self._patience_s, BACKOFF_FIRST_S
        while True:
            try:
                return await self._bus.start()
            except (RedisUnavailable, ConnectionError):
                if self._loop.time() >= until:
                    raise
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
            delay_s = min(delay_s * 2, BACKOFF_MAX_S)

    async def _play(self) -> None:
        """Give what is stored, then join the stream behind it."""
        for reading, place in (await self._replay.run()).items():
            self._join(reading, place)

    def _put_past(self, reading: Reading, event: Event) -> None:
        reading.queued = event.position
        self._queue.append((reading, event.payload))

    def _lost_past(self, reading: Reading, lost: Lost) -> None:
        following = format_position(lost.following) if lost.following else None
        self._queue.append(Gap(reading.name, format_position(lost.last or reading.queued or NOTHING), following))

    def _add(self, name: str, after: Position | None, *, replaying: bool = False) -> None:
        if name in self._readings:
            return
        channel = parse_channel(name)
        reading = self._readings[name] = self._bus.acquire(name)
        reading.data = True
        for symbol in dict.fromkeys((VENUE_WIDE, channel.symbol)):
            self._follow(channel_name("status", channel.venue, symbol))
        if replaying:
            reading.replaying = True
            self._replay.add(reading)
        else:
            self._join(reading, after)

    def _follow(self, name: str) -> None:
        if name not in self._followed:
            topic = self._followed[name] = self._bus.acquire(name)
            if not topic.data:
                self._bus.join(topic, partial(self._status_read, topic))

    def _status_read(self, topic: Reading, joined: Joined) -> None:
        if joined.payloads and not topic.read and (topic.last is None or (joined.upto or NOTHING) >= topic.last):
            topic.last = joined.upto
            self._health.note(joined.payloads[-1])

    # joining

    def _join(self, reading: Reading, after: Position | None) -> None:
        reading.read = False
        self._bus.join(reading, partial(self._joined, reading, after), after)

    def _joined(self, reading: Reading, after: Position | None, joined: Joined) -> None:
        if reading.last is not None and joined.upto is not None and joined.upto < reading.last and joined.based:
            # The stream is ahead of what was read: read again, from there.
            if after is None and reading.event and not reading.book:
                after = joined.upto
            self._join(reading, after)
            return
        new = reading.event and not reading.book and joined.upto is None
        reading.read, reading.queued = True, NOTHING if after is None and new else after
        reading.seen = reading.seen or bool(joined.payloads) or (after is not None and joined.upto is not None)
        if reading.last is None:
            reading.last = joined.upto
        if joined.gap and after is not None:
            self._gap(reading, after, joined)
            self._caught_up(reading)
            return
        if reading.kind == "status" and joined.payloads:
            self._health.note(joined.payloads[-1])
        reading.unbased = reading.unbased or not joined.based
        for payload in joined.payloads:
            self._put(reading, payload)
        self._caught_up(reading)

    def _caught_up(self, reading: Reading) -> None:
        """Tell the end of a replay."""
        if reading.replaying:
            reading.replaying = False
            self._queue.append(Live(reading.name, format_position(reading.queued) if reading.queued else None))
            self._health.tell(reading)

    def _gap(self, reading: Reading, last: Position, joined: Joined) -> None:
        following = position_in(joined.payloads[0], reading.head) if joined.payloads else None
        self._queue.append(Gap(reading.name, format_position(last), format_position(following) if following else None))
        reading.unbased = not joined.based
        reading.queued = None
        for payload in joined.payloads:
            self._put(reading, payload)

    def _catch_up(self) -> None:
        """The consumer has emptied the queue: read what did not fit into it."""
        dropped, self._queue.dropped = self._queue.dropped, {}
        for reading in dropped:
            reading.read = False
            if reading.event and not reading.book and reading.queued is not None:
                self._pages.append(reading)
            else:
                self._join(reading, reading.queued if reading.event else None)
        if self._pages and (self._paging is None or self._paging.done()):
            self._paging = asyncio.create_task(self._page())
            self._paging.add_done_callback(lambda _: self._queue.wake())

    async def _page(self) -> None:
        """Read on in the logs, no more than the queue takes; the end of a log is joined with the stream."""
        while self._pages:
            reading = self._pages[0]
            assert reading.queued is not None
            command = pack(b"XRANGE", reading.log, f"({format_position(reading.queued)}", b"+", b"COUNT", PAGE)
            try:
                (entries,) = await self._bus.call(command)
            except ConnectionError:
                await asyncio.sleep(BACKOFF_FIRST_S)
                continue
            events = events_in(entries if isinstance(entries, list) else None)
            self._pages.popleft()
            if len(events) < PAGE or not follows(reading.queued, events[0][0]):
                self._join(reading, reading.queued)
                continue
            for position, payload in events:
                reading.queued = position
                self._queue.append((reading, payload))
            self._queue.dropped[reading] = None  # until the consumer has taken these

    # hub.topic.Listener

    def received(self, batch: list[tuple[Reading, bytes]]) -> None:
        for reading, payload in batch:
            if reading.kind == "status":
                self._health.note(payload, reading)
            if not reading.read or reading in self._queue.dropped:
                continue
            position = position_in(payload, reading.head)
            if reading.queued is not None and position <= reading.queued:
                continue
            self._put(reading, payload, position)

    def gap(self, topic: Reading, last: Position, joined: Joined) -> None:
        if topic.kind == "status" and joined.payloads:
            self._health.note(joined.payloads[-1], topic)
        if topic.data and topic.read and topic not in self._queue.dropped:
            self._gap(topic, last, joined)

    def channels_added(self, names: Iterable[str]) -> None:
        for name in names:
            channel = self._directory.add(name)
            if channel is not None and self._started and not self._patterns.isdisjoint(patterns_of(channel)):
                # Followed before it was there: all there is of it is new.
                self._add(name, NOTHING if is_event(channel.kind) and channel.kind != "book" else None)

    def channels_are(self, names: Iterable[str]) -> None:
        self.channels_added(names)

    def connected(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        self._health.lost = ""

    def disconnected(self, reason: str) -> None:
        if self._grace is None and self._started:
            self._grace = self._loop.call_later(GRACE_S, self._tell_lost)

    def _tell_lost(self) -> None:
        self._grace = None
        self._health.lost = LOST
        self._health.tell_all()

    def _put(self, reading: Reading, payload: bytes, position: Position | None = None) -> None:
        if reading in self._queue.dropped:
            return
        if not reading.seen:
            reading.seen = True
            self._health.tell(reading)
        self._queue.put(reading, payload, position)
