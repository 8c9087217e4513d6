"""What the consolidator hears: the venues' channels over the bus, their pulses, the list of channels.

A status is followed by a read of the values it is about: a feed withdraws keys in the batch that says why. So a value
that is gone stops counting with the answer, one that is not goes on without a break.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import msgspec

from hub.bus import Bus
from hub.consolidator.engine import Engine
from hub.consolidator.health import Source, Venue
from hub.consolidator.pulses import Pulses
from hub.errors import RedisUnavailable, RequestError
from hub.instruments import Instrument
from hub.join import Joined
from hub.keys import ALL_VENUES, VENUE_WIDE, Keys, channel_name, parse_channel
from hub.model import Depth, Message, Quote, Status, Trade
from hub.position import Position
from hub.reader import Reader
from hub.topic import Topic

__all__ = ["Input", "Inputs"]

logger = logging.getLogger(__name__)

#: A connection that is back within this time changes nothing.
GRACE_S = 1.0
#: How often the list of channels is read, for those that went away.
SWEEP_S = 60.0
SECOND_READ_S = 0.5
DESCRIBE_CHUNK = 500

#: Kinds of input by what is made of them.
_NEEDS: Final = {"depth": "depth", "candle": "trade"}
_DECODERS: Final[dict[str, Callable[[bytes], Message]]] = {
    "quote": msgspec.json.Decoder(Quote).decode,
    "depth": msgspec.json.Decoder(Depth).decode,
    "trade": msgspec.json.Decoder(Trade).decode,
    "status": msgspec.json.Decoder(Status).decode,
}


class Input(Topic):
    """A channel the consolidator reads. `source` is whose it is, None for a venue's status."""

    __slots__ = ("closed", "decode", "source")

    def __init__(self, name: str, keys: Keys) -> None:
        super().__init__(name, keys)
        self.source: Source | None = None
        self.closed = False
        self.decode = _DECODERS[self.kind]


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
        self._described, self._changed = described, changed
        self._topics: dict[str, Input] = {}
        self._reading: dict[Source, int] = {}
        self._new: dict[str, None] = {}
        self._is_new = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._settled = asyncio.Event()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Quotes need all of it: depths for imbalance_n, trades for measures.
        made = engine.kinds
        self._kinds = {"quote", "depth", "trade"} if "quote" in made else {_NEEDS[kind] for kind in made}

    async def run(self) -> None:
        """Read until cancelled. Raises RedisUnavailable where Redis cannot be reached at the start."""
        await self.bus.start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.bus.run())
                group.create_task(self._pulses.run())
                group.create_task(self._describe())
                group.create_task(self._sweep())
                group.create_task(self._failure())
        finally:
            await self.reader.close()

    async def settled(self) -> None:
        """Wait until everything that was there at the start was read."""
        await self._settled.wait()

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
        fresh = [name for name in names if name not in self._topics]
        if fresh:
            self._new.update(dict.fromkeys(fresh))
            self._is_new.set()

    def channels_are(self, names: Iterable[str]) -> None:
        present = set(names)
        self.channels_added(present)
        self._is_new.set()
        gone = [topic for topic in self._topics.values() if topic.name not in present and topic.kind != "status"]
        now = time.time_ns()
        for topic in gone:
            self._close(topic, now)
        self._retire(present)

    def connected(self) -> None:
        now = time.time_ns()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.engine.health.cut_off:
            self.engine.cut_off(False, now)
        for topic in self._topics.values():
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
                topic = self._topics.get(channel_name(kind, source.venue, source.symbol))
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

    # channels

    async def _describe(self) -> None:
        """Take in new channels, once their instruments are known."""
        while True:
            await self._is_new.wait()
            self._is_new.clear()
            names = [name for name in self._new if self._is_wanted(name)]
            self._new.clear()
            for start in range(0, len(names), DESCRIBE_CHUNK):
                await self._open_all(names[start : start + DESCRIBE_CHUNK])
            if not self._reading:
                self._settled.set()

    def _is_wanted(self, name: str) -> bool:
        try:
            channel = parse_channel(name)
        except RequestError:
            return False
        if channel.venue == ALL_VENUES or channel.kind not in self._kinds or name in self._topics:
            return False
        return bool(self.engine.outputs_of(channel.symbol))

    async def _open_all(self, names: Iterable[str]) -> None:
        channels = [parse_channel(name) for name in names]
        rows = await self._instruments([(channel.venue, channel.symbol) for channel in channels])
        for channel in channels:
            self.engine.health.venue(channel.venue)
        with suppress(ConnectionError):
            await self._pulses.look()  # a venue nobody looked at would pass for down
        now = time.time_ns()
        for channel in channels:
            row = rows.get((channel.venue, channel.symbol))
            source = self.engine.add(channel.venue, channel.symbol, row.size_unit if row is not None else "base", now)
            self._open(channel_name("status", channel.venue, VENUE_WIDE), None)
            self._open(channel_name("status", channel.venue, channel.symbol), source)
            self._open(channel.name, source)
        self._described(rows.values())

    async def _instruments(self, wanted: list[tuple[str, str]]) -> dict[tuple[str, str], Instrument]:
        while True:
            try:
                return await self.reader.instruments_of(dict.fromkeys(wanted))
            except RedisUnavailable as error:
                logger.warning("instruments not read reason=%s", error)
                await asyncio.sleep(1.0)

    def _open(self, name: str, source: Source | None) -> None:
        if name in self._topics:
            return
        topic = self._topics[name] = self.bus.acquire(name)
        topic.source, topic.closed = source, False
        if source is not None:
            self._reading[source] = self._reading.get(source, 0) + 1
        self._read(topic, partial(self._opened, topic))

    def _opened(self, topic: Input) -> None:
        source, now = topic.source, time.time_ns()
        if source is None:
            return
        if topic.kind != "status":
            self.engine.offer(source, topic.kind, now)
        self._reading[source] -= 1
        if not self._reading[source]:
            del self._reading[source]
            self.engine.ready(source, now)
            if not self._reading and not self._new:
                self._settled.set()

    def _close(self, topic: Input, now: int) -> None:
        """Read a channel that was retired no longer, and its source where that was the last one."""
        source = topic.source
        assert source is not None
        self._forget(topic)
        self.engine.withdraw(source, topic.kind, now)
        if not source.offers and source not in self._reading:
            status = self._topics.get(channel_name("status", source.venue, source.symbol))
            if status is not None:
                self._forget(status)
            self.engine.remove(source, now)
        self._changed()

    def _forget(self, topic: Input) -> None:
        del self._topics[topic.name]
        topic.closed = True
        self.bus.release(topic)

    def _retire(self, present: Iterable[str]) -> None:
        """Take away what an earlier run made of symbols that have no venue any more."""
        if not self._settled.is_set():
            return
        for name in present:
            kind, _, rest = name.partition(":")
            venue, _, symbol = rest.partition(":")
            if venue == ALL_VENUES and symbol != VENUE_WIDE and symbol not in self.engine.outputs:
                self.engine.sink.retire(kind, symbol)

    async def _sweep(self) -> None:
        await self._settled.wait()
        while True:
            try:
                await self.bus.learn_channels()
            except ConnectionError as error:
                logger.info("channels not read reason=%s", error)
            await asyncio.sleep(SWEEP_S)
