"""Subscriptions that begin in the past: logs are read page by page, merged by time and sent at a chosen speed; at their
end each channel joins the stream behind its last event (gateway/joins.py), without hole or repeat.

A replay waits until its client has read what it was sent: it never fills the socket, so the client's other
subscriptions go on as ever. Few replays of a worker work at once, each with small pages: others come in between.
"""

import asyncio
import logging
import time
from heapq import heapify, heapreplace
from typing import Any, Final

from gateway.channel import Channel
from gateway.fanout import Fanout
from gateway.frames import text_frame
from gateway.joins import Joins
from gateway.protocol import CloseCode, Gap, RequestId, frame
from gateway.subscriber import Subscriber
from hub.bus import Bus
from hub.errors import RequestError
from hub.intervals import NS_PER_S
from hub.link import RedisReplyError
from hub.position import Position, format_position
from hub.replay import PAGE, Cursor, Lost, Since

__all__ = ["Replay", "Replays"]

logger = logging.getLogger(__name__)

#: Of one client at once, and channels of one replay.
REPLAYS_MAX: Final = 4
CHANNELS_MAX: Final = 1000
#: Replays of a worker that read and send at the same time.
TURNS: Final = 4
#: Bytes per write, and how many unsent ones a client may have before the next: together less than what counts as slow.
CHUNK_BYTES: Final = 16_384
ROOM_BYTES: Final = 16_384
PAGE_MIN: Final = 4
#: Logs that were read to their ends so recently count as all read, at full speed and at a chosen one.
FRESH_S, FRESH_PACED_S = 2.0, 0.25
ROOM_POLL_FIRST_S, ROOM_POLL_MAX_S, REDIS_POLL_S, SLEEP_MAX_S = 0.002, 0.1, 0.1, 1.0


class Replay:
    """One subscription to the past. `cursors` are its channels as long as they are not live, with the pattern each
    came from; `sent` is what the client has of them. `speed` 0: as fast as the client reads."""

    __slots__ = ("began", "cursors", "first_at", "patterns", "request", "sent", "since", "speed", "subscriber", "task")

    def __init__(self, subscriber: Subscriber, request: RequestId, since: Since, speed: float) -> None:
        self.subscriber, self.request, self.since, self.speed = subscriber, request, since, speed
        self.cursors: dict[Channel, Cursor] = {}
        self.patterns: dict[Channel, str | None] = {}
        self.sent: dict[Channel, Position] = {}
        self.first_at: int | None = None
        self.began = 0.0
        self.task: asyncio.Task[None] | None = None

    def now(self) -> float:
        """Return the time (unix ns) up to which events are due."""
        if not self.speed:
            return float("inf")
        if self.first_at is None:
            heads = [cursor.events[0].at for cursor in self.cursors.values() if cursor.events]
            if not heads:
                return float("inf")
            # Nobody waits for the first event; what a book needs from before the beginning comes at once.
            self.first_at = max(min(heads), self.since) if isinstance(self.since, int) else min(heads)
            self.began = time.monotonic()
        return self.first_at + (time.monotonic() - self.began) * self.speed * NS_PER_S


class Replays:
    """Replays of all clients of this process."""

    def __init__(self, bus: Bus[Channel], fanout: Fanout, joins: Joins, queue_bytes: int) -> None:
        self.bus, self.fanout, self.joins, self.queue_bytes = bus, fanout, joins, queue_bytes
        self.count = 0
        self._of: dict[Subscriber, list[Replay]] = {}
        self._turns = asyncio.Semaphore(TURNS)

    def open(self, subscriber: Subscriber, request: RequestId, since: Since, speed: float) -> Replay:
        """Return a replay to be given channels (`add`) and begun. Raises RequestError."""
        if len(self._of.get(subscriber, ())) >= REPLAYS_MAX:
            raise RequestError("too_many_replays", f"a connection may have {REPLAYS_MAX} replays at a time")
        return Replay(subscriber, request, since, speed)

    def check(self, replay: Replay) -> None:
        """Raise RequestError where one more channel is too many."""
        if len(replay.cursors) >= CHANNELS_MAX:
            raise RequestError("too_many_replays", f"a replay may have {CHANNELS_MAX} channels")

    def add(self, replay: Replay, channel: Channel, pattern: str | None) -> None:
        replay.cursors[channel] = Cursor(channel, replay.since)
        replay.patterns[channel] = pattern

    def begin(self, replay: Replay) -> None:
        """Play what was added."""
        if not replay.cursors:
            return
        self._of.setdefault(replay.subscriber, []).append(replay)
        self.count += 1
        replay.task = asyncio.create_task(self._play(replay))
        replay.task.add_done_callback(lambda task: self._ended(replay, task))

    def drop(self, subscriber: Subscriber, channel: Channel) -> None:
        """Forget a channel that is no longer wanted."""
        for replay in self._of.get(subscriber, ()):
            if replay.cursors.pop(channel, None) is not None and not replay.cursors and replay.task is not None:
                replay.task.cancel()

    def mark(self, subscriber: Subscriber) -> None:
        """A client is held: note how far its replays came, in case it has to be told where to continue."""
        held = subscriber.held
        if held is not None:
            for replay in self._of.get(subscriber, ()):
                held.marks |= {channel: at for channel, at in replay.sent.items() if channel in replay.cursors}

    def _ended(self, replay: Replay, task: "asyncio.Task[None]") -> None:
        self.count -= 1
        others = self._of[replay.subscriber]
        others.remove(replay)
        if not others:
            del self._of[replay.subscriber]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical("replay ended", exc_info=error)
            if not replay.subscriber.closed:
                replay.subscriber.sink.close(CloseCode.UNRESPONSIVE, "an error of the gateway ended the replay")

    # playing

    async def _play(self, replay: Replay) -> None:
        acked = not self.bus.connected
        if acked:  # the client need not wait to learn why nothing comes
            for channel in replay.cursors:
                self._acknowledge(replay, channel, present=False)
        for channel in list(replay.cursors):
            await self._seek(replay, channel, acked=acked)
        wait_s: float | None = 0.0
        while wait_s is not None:
            await self._room(replay.subscriber)
            async with self._turns:
                await self._fill(replay)
                # The client may have stopped to read while Redis was asked.
                wait_s = self._send(replay) if replay.subscriber.held is None else 0.0
            if wait_s is not None:
                await asyncio.sleep(min(wait_s, SLEEP_MAX_S))
        self._go_live(replay)

    async def _seek(self, replay: Replay, channel: Channel, *, acked: bool) -> None:
        """Find where a channel begins, and acknowledge it where that is not done."""
        async with self._turns:
            cursor = replay.cursors.get(channel)
            if cursor is not None:
                await cursor.seek(self._read)
        if cursor is None or channel not in replay.cursors:
            return
        if not acked:
            self._acknowledge(replay, channel, present=cursor.place is not None)
        self._tell_lost(replay, channel, cursor)

    def _acknowledge(self, replay: Replay, channel: Channel, *, present: bool) -> None:
        pattern = replay.patterns[channel]
        data = self.joins.ack(channel, replay.request, pattern, present=present, replaying=True)
        self.fanout.send(replay.subscriber, data)

    def _tell_lost(self, replay: Replay, channel: Channel, cursor: Cursor) -> None:
        lost, cursor.lost = cursor.lost, None
        if lost is not None:
            self.joins.gaps += 1
            self.fanout.send(replay.subscriber, frame(_gap(channel, lost)))

    async def _room(self, subscriber: Subscriber) -> None:
        """Wait until the client has read nearly everything that it was sent."""
        wait_s = ROOM_POLL_FIRST_S
        while subscriber.held is not None or subscriber.sink.unsent() > ROOM_BYTES:
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, ROOM_POLL_MAX_S)

    async def _fill(self, replay: Replay) -> None:
        """Read on where the next events in time may not be known."""
        cursors = replay.cursors
        share = self.queue_bytes // REPLAYS_MAX // max(1, len(cursors))

        async def fill(channel: Channel, cursor: Cursor) -> None:
            await cursor.fill(self._read, min(PAGE, max(PAGE_MIN, share // cursor.size)))
            if channel in cursors:
                self._tell_lost(replay, channel, cursor)

        for channel, cursor in list(cursors.items()):
            if not cursor.events and not cursor.end_at and channel in cursors:
                await fill(channel, cursor)
        heads = [cursor.events[0].at for cursor in cursors.values() if cursor.events]
        if heads and min(heads) > replay.now():
            return  # nothing is due
        fresh_s = FRESH_PACED_S if replay.speed else FRESH_S
        known = time.time_ns() - int(fresh_s * NS_PER_S)
        if heads:
            known = min(heads)
        for channel, cursor in list(cursors.items()):
            if not cursor.events and cursor.end_at < known and channel in cursors:
                await fill(channel, cursor)

    def _send(self, replay: Replay) -> float | None:
        """Send the next events that are due; returns how long (s) to wait then, None where all are sent."""
        heads = [(c.events[0].at, n, channel) for n, (channel, c) in enumerate(replay.cursors.items()) if c.events]
        if not heads:
            return None
        heapify(heads)
        until, first = replay.now(), heads[0][0]
        if first > until:
            return max(0.002, (first - until) / NS_PER_S / replay.speed)
        # What came to the other logs since they were read may be earlier than anything later than that.
        ends = [cursor.end_at for cursor in replay.cursors.values() if not cursor.events]
        until = min(until, max(first, min(ends, default=until)))
        frames: list[bytes] = []
        size = 0
        while size < CHUNK_BYTES and heads[0][0] <= until:
            _, number, channel = heads[0]
            events = replay.cursors[channel].events
            event = events.popleft()
            replay.sent[channel] = event.position
            frames.append(text_frame(event.payload))
            size += len(event.payload)
            if not events:
                break  # what comes next here has to be read
            heapreplace(heads, (events[0].at, number, channel))
        self.fanout.send(replay.subscriber, b"".join(frames))
        self.fanout.settle(replay.subscriber)
        return 0.0

    def _go_live(self, replay: Replay) -> None:
        subscriber, cursors = replay.subscriber, replay.cursors
        for channel, cursor in cursors.items():
            pending = self.joins.add(subscriber, channel, replay.request, replay.patterns[channel], cursor.place)
            pending.acked = pending.replayed = True
        cursors.clear()
        self.joins.pump(subscriber)

    async def _read(self, command: bytes) -> Any:
        while True:
            try:
                (reply,) = await self.bus.call(command)
            except ConnectionError:
                await asyncio.sleep(REDIS_POLL_S)
                continue
            if isinstance(reply, RedisReplyError):
                logger.warning("redis refused a read of a replay error=%s", reply)
                return None
            return reply


def _gap(channel: Channel, lost: Lost) -> Gap:
    last, following = (format_position(at) if at is not None else None for at in (lost.last, lost.following))
    return Gap(channel=channel.name, last=last, next=following)
