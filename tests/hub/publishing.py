"""A publisher on a real Redis, and a reader of what it leaves there."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import RedisError

from hub.config import HistorySettings, PublisherSettings
from hub.history import open_history
from hub.instruments import Instrument
from hub.keys import Keys
from hub.lease import Lease, new_holder
from hub.link import Link, Push, pack
from hub.model import Book, Depth, Level, Quote, Status, Trade
from hub.position import Position, parse_position
from hub.publisher import Publisher
from hub.redisio import command_client

KEYS = Keys("md:")
Payload: TypeAlias = dict[str, Any]


def trade(number: int, symbol: str = "A-B", size: float = 1.0) -> Trade:
    now = time.time_ns()
    return Trade("venue", symbol, "", now, now, 0, float(number), size, "buy", str(number))


def quote(number: int, symbol: str = "A-B") -> Quote:
    return Quote("venue", symbol, "", None, time.time_ns(), 0, float(number), 1.0, number + 1.0, 1.0)


def depth(number: int, symbol: str = "A-B") -> Depth:
    return Depth("venue", symbol, "", 1, time.time_ns(), 0, [(float(number), 1.0)], [])


def snapshot(bids: dict[float, float], symbol: str = "A-B") -> Book:
    levels: list[Level] = sorted(bids.items(), reverse=True)
    return Book("venue", symbol, "", 1, time.time_ns(), 0, "snapshot", levels, [])


def update(price: float, size: float, symbol: str = "A-B") -> Book:
    return Book("venue", symbol, "", 1, time.time_ns(), 0, "update", [(price, size)], [])


def status(state: Any, reason: str = "", symbol: str = "A-B") -> Status:
    return Status("venue", symbol, "", None, time.time_ns(), 0, state, "book", reason, 1)


@dataclass
class Rig:
    """A running publisher. `reasons` are those of its new epochs."""

    publisher: Publisher
    client: Redis
    lease: Lease
    running: "asyncio.Task[None]"
    reasons: list[str] = field(default_factory=list)

    async def log(self, channel: str) -> list[tuple[str, Payload]]:
        """Return (entry id, message) of a log."""
        entries: Any = await self.client.xrange(KEYS.log(channel))
        return [(entry.decode(), json.loads(fields[b"payload"])) for entry, fields in entries]

    async def newest(self, channel: str) -> Payload | None:
        value = await self.client.get(KEYS.newest(channel))
        found: Payload | None = None if value is None else json.loads(value)
        return found

    async def drained(self, timeout_s: float = 30.0) -> None:
        assert await self.publisher.drain(timeout_s), "not everything was confirmed"


@asynccontextmanager
async def rig(
    url: str,
    *,
    on_new_epoch: Callable[["Rig"], None] = lambda rig: None,
    publisher: PublisherSettings | None = None,
    history: HistorySettings | None = None,
    lease: type[Lease] = Lease,
) -> AsyncIterator[Rig]:
    """Run a publisher of the venue `venue`; `on_new_epoch` publishes what a feed would."""
    client = command_client(url)
    held = lease(client, KEYS, "venue", new_holder())
    epoch = await held.acquire()
    made: Rig

    def began(reason: str) -> None:
        made.reasons.append(reason)
        on_new_epoch(made)

    kept = history or HistorySettings()
    series = await open_history(client) if kept.enabled else None
    writer = Publisher(url, KEYS, "venue", held, epoch, series, publisher or PublisherSettings(), kept, began)
    writer.know([Instrument(venue="venue", venue_symbol="AB", symbol="A-B", kind="spot", base="A", quote="B")])
    made = Rig(writer, client, held, asyncio.create_task(writer.run()))
    try:
        yield made
    finally:
        made.running.cancel()
        await asyncio.gather(made.running, return_exceptions=True)
        with suppress(RedisError, OSError):
            await held.release()
        await client.aclose()


class Listener:
    """Everything that is published on some channels, as it comes."""

    def __init__(self) -> None:
        self.payloads: dict[str, list[bytes]] = {}
        self.order: list[bytes] = []
        self.link: Link

    def _pushed(self, pushes: list[Push]) -> None:
        for push in pushes:
            if push[0] == b"message":
                self.payloads.setdefault(push[1].decode(), []).append(push[2])
                self.order.append(push[2])

    @classmethod
    @asynccontextmanager
    async def on(cls, url: str, *channels: str) -> AsyncIterator["Listener"]:
        """Listen to keys (with prefix) until the end of the block."""
        listener = cls()
        listener.link = await Link.connect(url, listener._pushed)
        listener.link.write(pack("SUBSCRIBE", *channels))
        await listener.link.call([pack("PING")])
        try:
            yield listener
        finally:
            listener.link.close()

    async def heard(self, count: int) -> None:
        """Wait until so many messages came."""
        async with asyncio.timeout(30):
            while len(self.order) < count:
                await asyncio.sleep(0.01)

    async def beyond(self, position: Position) -> None:
        """Wait until a message after `position` came."""
        async with asyncio.timeout(30):
            while not self.order or parse_position(ids(self.order[-1:])[0]) <= position:
                await asyncio.sleep(0.01)


class Proxy:
    """A network between a publisher and Redis that breaks when told to."""

    def __init__(self, url: str) -> None:
        self.cuts = 0
        """how often a connection is still to be cut, instead of carrying what it was given to write"""
        self.mute = self.closed = False
        """carry no answers back; refuse connections"""
        self._target = urlsplit(url)
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    @classmethod
    @asynccontextmanager
    async def before(cls, url: str) -> AsyncIterator["Proxy"]:
        proxy = cls(url)
        proxy._server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
        try:
            yield proxy
        finally:
            proxy._server.close()
            for writer in list(proxy._writers):
                writer.close()
            await asyncio.gather(*proxy._serving, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.closed:
            writer.close()
            return
        upstream = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._writers |= {writer, upstream[1]}
        there = self._copy(reader, upstream[1], writer, answers=False)
        back = self._copy(upstream[0], writer, upstream[1], answers=True)
        await asyncio.gather(there, back, return_exceptions=True)
        for end in (writer, upstream[1]):
            self._writers.discard(end)
            end.close()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if self.cuts and b"XADD" in data:
                    self.cuts -= 1
                    break
                if not (answers and self.mute):
                    writer.write(data)
                    await writer.drain()
        writer.close()
        back.close()

    def cut(self) -> None:
        """Cut every connection there is."""
        for writer in list(self._writers):
            writer.close()


def ids(payloads: list[bytes]) -> list[str]:
    return [json.loads(payload)["id"] for payload in payloads]


def apply(book: dict[float, float], message: Payload) -> None:
    """Do what a reader of `book` has to do (bids only)."""
    if message["action"] == "snapshot":
        book.clear()
    for price, size in message["bids"]:
        book[price] = size
        if not size:
            del book[price]
