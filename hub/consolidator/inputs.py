"""What the consolidator hears: the venues' channels over the bus (channels.py says which), and their pulses.

A status is followed by a read of the values it is about: a feed withdraws keys in the batch that says why. So a value
that is gone stops counting with the answer, one that is not goes on without a break.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import msgspec

from hub.bus import Bus
from hub.consolidator.channels import Channels, Input
from hub.consolidator.engine import Engine
from hub.consolidator.health import Source, Venue
from hub.consolidator.pulses import Pulses
from hub.instruments import Instrument
from hub.join import Joined
from hub.keys import Keys, channel_name
from hub.model import Status
from hub.position import Position
from hub.reader import Reader

__all__ = ["Inputs"]

logger = logging.getLogger(__name__)

#: A connection that is back within this time changes nothing.
GRACE_S = 1.0
SECOND_READ_S = 0.5


class Inputs:
    """Implements hub.topic.Listener. `described` is told the instruments of what is merged."""

    def __init__(
        self,
        url: str,
        keys: Keys,
        engine: Engine,
        described: Callable[[Iterable[Instrument]], None],
        changed: Callable[[], None],
    ) -> None:
        self.keys, self.engine = keys, engine
        self.bus: Bus[Input] = Bus(url, keys, Input, self)
        self.bus.linger_s = 0.0
        self.reader = Reader(url, keys)
        self.unreadable = 0
        self._pulses = Pulses(self.bus, keys, engine, self._pulse_changed, self._silent)
        self.channels = Channels(self.bus, engine, self.reader, self._pulses.look, self._read, described)
        self._changed = changed
        self._timer: asyncio.TimerHandle | None = None
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Read until cancelled. Raises RedisUnavailable where Redis cannot be reached at the start."""
        await self.bus.start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.bus.run())
                group.create_task(self._pulses.run())
                group.create_task(self.channels.describe())
                group.create_task(self.channels.sweep())
                group.create_task(self._failure())
        finally:
            await self.reader.close()

    async def _failure(self) -> None:
        await self._failed

    def fail(self, error: Exception) -> None:
        """End with `error`: in a callback it would be logged, and everything just go on without what it left out."""
        if not self._failed.done():
            self._failed.set_exception(error)

    # hub.topic.Listener

    def received(self, batch: list[tuple[Input, bytes]]) -> None:
        try:
            self._hear(batch)
        except Exception as error:
            self.fail(error)
        self._changed()

    def _hear(self, batch: list[tuple[Input, bytes]]) -> None:
        now = time.time_ns()
        engine = self.engine
        for topic, payload in batch:
            if topic.closed:
                continue
            try:
                message: Any = topic.decode(payload)
            except msgspec.DecodeError as error:
                self._refuse(topic, error)
                continue
            source = topic.source
            if source is None:
                self._venue_said(topic.venue, message, now)
            elif topic.kind == "quote":
                engine.quote(source, message, now)
            elif topic.kind == "depth":
                engine.depth(source, message, now)
            elif topic.kind == "trade":
                engine.trade(source, message, now)
            else:
                self._symbol_said(source, message, now)

    def _refuse(self, topic: Input, error: Exception) -> None:
        self.unreadable += 1
        if self.unreadable & (self.unreadable - 1) == 0:  # the first, and fewer and fewer
            logger.warning("unreadable message channel=%s count=%d error=%s", topic.name, self.unreadable, error)

    def gap(self, topic: Input, last: Position, joined: Joined) -> None:
        if topic.kind == "trade" and topic.source is not None:
            self.engine.trades_lost(topic.source, time.time_ns())
            self._changed()
        elif joined.payloads:
            self.received([(topic, joined.payloads[-1])])

    def channels_added(self, names: Iterable[str]) -> None:
        self.channels.added(names)

    def channels_are(self, names: Iterable[str]) -> None:
        self.channels.are(set(names))
        self._changed()

    def connected(self) -> None:
        now = time.time_ns()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.engine.health.cut_off:
            self.engine.cut_off(False, now)
        for topic in self.channels.topics.values():
            if topic.kind in {"quote", "depth"}:
                self._read(topic)  # what was withdrawn meanwhile was not said
        self._changed()

    def disconnected(self, reason: str) -> None:
        logger.warning("redis lost reason=%s", reason)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GRACE_S, self._cut_off, reason)

    def _cut_off(self, reason: str) -> None:
        if not self.engine.health.cut_off:
            logger.warning("nothing counts reason=%s", reason)
            self.engine.cut_off(True, time.time_ns())
            self._changed()

    def _silent(self, silent: bool) -> None:
        if silent:
            self._cut_off("redis does not answer")
        elif self.engine.health.cut_off:
            self.connected()
        self._changed()

    def _pulse_changed(self, venue: Venue) -> None:
        if venue.alive:
            self._read_again(venue.sources.values())

    # statuses

    def _venue_said(self, venue: str, status: Status | None, now: int) -> None:
        before = self.engine.health.venue(venue).status
        self.engine.venue_status(venue, status, now)
        if status is not None and (before is None or before.id != status.id):
            self._read_after(status, self.engine.health.venue(venue).sources.values())

    def _symbol_said(self, source: Source, status: Status | None, now: int) -> None:
        self.engine.symbol_status(source, status, now)
        if status is not None:
            self._read_after(status, [source])

    def _read_after(self, status: Status, sources: Iterable[Source]) -> None:
        self._read_again(sources)
        if status.state != "live":
            # In a Cluster nodes have no order: a key may be withdrawn on one after another told why.
            asyncio.get_running_loop().call_later(SECOND_READ_S, self._read_again, list(sources))

    def _read_again(self, sources: Iterable[Source]) -> None:
        for source in sources:
            for kind in ("quote", "depth"):
                topic = self.channels.topics.get(channel_name(kind, source.venue, source.symbol))
                if topic is not None:
                    self._read(topic)

    # reads

    def _read(self, topic: Input, done: Callable[[], None] | None = None) -> None:
        """Read the newest of a channel; `done` is called afterwards."""
        self.bus.join(topic, partial(self._joined, topic, done))

    def _joined(self, topic: Input, done: Callable[[], None] | None, joined: Joined) -> None:
        if joined.upto is not None and (topic.last is None or joined.upto > topic.last):
            topic.last = joined.upto
        if topic.closed:
            return
        try:
            self._take(topic, joined.payloads[-1] if joined.payloads else None)
            if done is not None:
                done()
        except Exception as error:
            self.fail(error)
        self._changed()

    def _take(self, topic: Input, payload: bytes | None) -> None:
        now = time.time_ns()
        message: Any = None
        try:
            message = topic.decode(payload) if payload is not None else None
            if message is not None and not self.engine.health.is_current(topic.venue, message.id):
                message = None
        except (msgspec.DecodeError, ValueError) as error:
            self._refuse(topic, error)
            message = None
        source = topic.source
        if source is None:
            self._venue_said(topic.venue, message, now)
        elif topic.kind == "quote":
            self.engine.quote(source, message, now)
        elif topic.kind == "depth":
            self.engine.depth(source, message, now)
        elif topic.kind == "status":
            self.engine.symbol_status(source, message, now)
