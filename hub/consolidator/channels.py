"""Which channels the consolidator reads: of those that are published, the ones something is made of.

A channel is taken in once its instrument is known. Its source counts when all there is of it was read, and goes when
its last channel is retired.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Set
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

import msgspec

from hub.bus import Bus
from hub.consolidator.engine import Engine
from hub.consolidator.health import Source
from hub.errors import RedisUnavailable, RequestError
from hub.instruments import Instrument
from hub.keys import ALL_VENUES, VENUE_WIDE, Keys, channel_name, parse_channel
from hub.model import Depth, Message, Quote, Status, Trade
from hub.reader import Reader
from hub.topic import Topic

__all__ = ["Channels", "Input"]

logger = logging.getLogger(__name__)

#: How often the list of channels is read, for those that went away.
SWEEP_S = 60.0
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


class Read(Protocol):
    """Has the newest of a channel read; `done` is called afterwards."""

    def __call__(self, topic: Input, done: Callable[[], None] | None = None) -> None: ...


class Channels:
    """`topics` by name; `settled` once everything that was there at the start was read.

    `look` looks at the venues' pulses; `described` is told the instruments of what is merged.
    """

    def __init__(
        self,
        bus: Bus[Input],
        engine: Engine,
        reader: Reader,
        look: Callable[[], Awaitable[None]],
        read: Read,
        described: Callable[[Iterable[Instrument]], None],
    ) -> None:
        self.topics: dict[str, Input] = {}
        self.settled = asyncio.Event()
        self._bus, self._engine, self._reader = bus, engine, reader
        self._look, self._read, self._described = look, read, described
        self._reading: dict[Source, int] = {}
        self._new: dict[str, None] = {}
        self._is_new = asyncio.Event()
        # Quotes need all of it: depths for imbalance_n, trades for measures.
        made = engine.kinds
        self._kinds = {"quote", "depth", "trade"} if "quote" in made else {_NEEDS[kind] for kind in made}

    def added(self, names: Iterable[str]) -> None:
        """Take note of names that are published now."""
        fresh = [name for name in names if name not in self.topics]
        if fresh:
            self._new.update(dict.fromkeys(fresh))
            self._is_new.set()

    def are(self, present: Set[str]) -> None:
        """Take note of all names that are published."""
        self.added(present)
        self._is_new.set()
        gone = [topic for topic in self.topics.values() if topic.name not in present and topic.kind != "status"]
        now = time.time_ns()
        for topic in gone:
            self._close(topic, now)
        self._retire(present)

    async def describe(self) -> None:
        """Take in new channels, once their instruments are known."""
        while True:
            await self._is_new.wait()
            self._is_new.clear()
            names = [name for name in self._new if self._is_wanted(name)]
            self._new.clear()
            for start in range(0, len(names), DESCRIBE_CHUNK):
                await self._open_all(names[start : start + DESCRIBE_CHUNK])
            if not self._reading:
                self.settled.set()

    def _is_wanted(self, name: str) -> bool:
        try:
            channel = parse_channel(name)
        except RequestError:
            return False
        if channel.venue == ALL_VENUES or channel.kind not in self._kinds or name in self.topics:
            return False
        return bool(self._engine.outputs_of(channel.symbol))

    async def _open_all(self, names: Iterable[str]) -> None:
        channels = [parse_channel(name) for name in names]
        rows = await self._instruments([(channel.venue, channel.symbol) for channel in channels])
        for channel in channels:
            self._engine.health.venue(channel.venue)
        with suppress(ConnectionError):
            await self._look()  # a venue nobody looked at would pass for down
        now = time.time_ns()
        for channel in channels:
            row = rows.get((channel.venue, channel.symbol))
            source = self._engine.add(channel.venue, channel.symbol, row.size_unit if row is not None else "base", now)
            self._open(channel_name("status", channel.venue, VENUE_WIDE), None)
            self._open(channel_name("status", channel.venue, channel.symbol), source)
            self._open(channel.name, source)
        self._described(rows.values())

    async def _instruments(self, wanted: list[tuple[str, str]]) -> dict[tuple[str, str], Instrument]:
        while True:
            try:
                return await self._reader.instruments_of(dict.fromkeys(wanted))
            except RedisUnavailable as error:
                logger.warning("instruments not read reason=%s", error)
                await asyncio.sleep(1.0)

    def _open(self, name: str, source: Source | None) -> None:
        if name in self.topics:
            return
        topic = self.topics[name] = self._bus.acquire(name)
        topic.source, topic.closed = source, False
        if source is not None:
            self._reading[source] = self._reading.get(source, 0) + 1
        self._read(topic, partial(self._opened, topic))

    def _opened(self, topic: Input) -> None:
        source, now = topic.source, time.time_ns()
        if source is None:
            return
        if topic.kind != "status":
            self._engine.offer(source, topic.kind, now)
        self._reading[source] -= 1
        if not self._reading[source]:
            del self._reading[source]
            self._engine.ready(source, now)
            if not self._reading and not self._new:
                self.settled.set()

    def _close(self, topic: Input, now: int) -> None:
        """Read a channel that was retired no longer, and its source where that was the last one."""
        source = topic.source
        assert source is not None
        self._forget(topic)
        self._engine.withdraw(source, topic.kind, now)
        if not source.offers and source not in self._reading:
            status = self.topics.get(channel_name("status", source.venue, source.symbol))
            if status is not None:
                self._forget(status)
            self._engine.remove(source, now)

    def _forget(self, topic: Input) -> None:
        del self.topics[topic.name]
        topic.closed = True
        self._bus.release(topic)

    def _retire(self, present: Iterable[str]) -> None:
        """Take away what an earlier run made of symbols that have no venue any more."""
        if not self.settled.is_set():
            return
        for name in present:
            kind, _, rest = name.partition(":")
            venue, _, symbol = rest.partition(":")
            if venue == ALL_VENUES and symbol != VENUE_WIDE and symbol not in self._engine.outputs:
                self._engine.sink.retire(kind, symbol)

    async def sweep(self) -> None:
        await self.settled.wait()
        while True:
            try:
                await self._bus.learn_channels()
            except ConnectionError as error:
                logger.info("channels not read reason=%s", error)
            await asyncio.sleep(SWEEP_S)
