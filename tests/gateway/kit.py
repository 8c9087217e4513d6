"""What the gateway's tests share: a publisher that keeps the bus contract, and clients."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.app import create_app
from gateway.runtime import Runtime, runtime_of
from gateway.server import listen, serve
from hub.book import OrderBook
from hub.builder import MessageBuilder
from hub.config import Settings, load
from hub.instrument_store import InstrumentStore
from hub.instruments import Instrument
from hub.keys import Keys
from hub.link import pack
from hub.model import Book, Level, Message, Quote, Status, Trade, encode
from tests.ports import free_port

__all__ = [
    "Feed",
    "Gateway",
    "book",
    "eventually",
    "gateway_on",
    "gateway_settings",
    "messages",
    "quote",
    "status",
    "subscribe",
    "trade",
    "unchunked",
    "until",
]

VENUE = "binance"
SYMBOL = "BTC-USDT"
SNAPSHOT_EVERY = 20
QUIET_TURNS = 10


def head(venue: str, symbol: str) -> dict[str, Any]:
    return {"venue": venue, "symbol": symbol, "id": "", "ts_event": None, "ts_recv": time.time_ns(), "ts_pub": 0}


def quote(bid: float = 1.0, symbol: str = SYMBOL, venue: str = VENUE) -> Quote:
    return Quote(**head(venue, symbol), bid=bid, bid_size=1.0, ask=bid + 1, ask_size=2.0)


def trade(number: int, symbol: str = SYMBOL, venue: str = VENUE) -> Trade:
    return Trade(**head(venue, symbol), price=float(number), size=1.0, side="buy", trade_id=str(number))


def book(bids: list[Level], asks: list[Level], action: Any = "update", symbol: str = SYMBOL) -> Book:
    return Book(**head(VENUE, symbol), action=action, bids=bids, asks=asks)


def status(state: Any, symbol: str = "*", kind: str | None = None, venue: str = VENUE) -> Status:
    return Status(**head(venue, symbol), state=state, kind=kind, reason="test", since=time.time_ns())


class Feed:
    """Publishes as a feed does: SET, then log, then PUBLISH, in one pipeline."""

    def __init__(self, url: str, venue: str = VENUE, epoch: int | None = None) -> None:
        self.venue = venue
        self.redis = Redis.from_url(url)
        self.keys = Keys()
        self.builder = MessageBuilder(self.keys, epoch or time.time_ns() // 1_000_000)
        self.books: dict[str, tuple[OrderBook, int]] = {}
        self._known: set[str] = set()

    async def __aenter__(self) -> "Feed":
        await self.pulse()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.redis.aclose()

    async def pulse(self, px: int = 60_000) -> None:
        async with self.redis.pipeline(transaction=False) as pipe:
            pipe.sadd(self.keys.venues, self.venue)
            pipe.set(self.keys.alive(self.venue), self.builder.epoch, px=px)
            await pipe.execute()

    async def publish(self, *batch: Message, withdraw: Iterable[str] = (), maxlen: int = 2000) -> list[bytes]:
        """Publish messages as one batch, after deleting the keys of the channels in `withdraw`; returns payloads."""
        keys: dict[str, bytes | None] = {self.keys.newest(name): None for name in withdraw}
        steps: list[tuple[Any, str, bytes]] = []
        for message in batch:
            channel, position, payload = self.builder.build(message, time.time_ns())
            stored = self._book(message, position) if isinstance(message, Book) else payload
            if stored is not None:
                keys[channel.key] = stored
            steps.append((channel, position, payload))
        async with self.redis.pipeline(transaction=False) as pipe:
            for key, value in keys.items():
                pipe.delete(key) if value is None else pipe.set(key, value)
            for channel, position, payload in steps:
                if channel.event:
                    pipe.xadd(channel.log, {"payload": payload}, id=position, maxlen=maxlen, approximate=True)
                pipe.publish(channel.key, payload)
                if channel.name not in self._known:
                    self._known.add(channel.name)
                    pipe.sadd(self.keys.channels, channel.name)
                    pipe.publish(self.keys.channels, channel.name)
            await pipe.execute()
        return [payload for _, _, payload in steps]

    async def retire(self, *names: str) -> None:
        """Take channels away, as a feed does with symbols it no longer has."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for name in names:
                self._known.discard(name)
                pipe.delete(self.keys.newest(name))
                pipe.srem(self.keys.channels, name)
            await pipe.execute()

    def _book(self, message: Book, position: str) -> bytes | None:
        """Return what to store as the newest snapshot: the published one, or a full one every few updates."""
        kept, since = self.books.setdefault(message.symbol, (OrderBook(), 0))
        if message.action == "snapshot":
            kept.replace(message.bids, message.asks)
            self.books[message.symbol] = kept, 0
            return encode(message)
        kept.apply(message.bids, message.asks)
        self.books[message.symbol] = kept, since + 1
        if since + 1 < SNAPSHOT_EVERY:
            return None
        self.books[message.symbol] = kept, 0
        whole = book(kept.bids.levels(), kept.asks.levels(), "snapshot", message.symbol)
        channel = self.builder.channel(whole)
        _, payload = self.builder.restate(channel, whole, time.time_ns())
        assert json.loads(payload)["id"] == position
        return payload

    async def list_instruments(self, *rows: Instrument) -> None:
        for venue in {row.venue for row in rows}:
            store = InstrumentStore(self.redis, self.keys)
            await store.store(venue, [row for row in rows if row.venue == venue], ["1m"], time.time_ns())


class Gateway:
    """A running gateway: real sockets, in this event loop."""

    def __init__(self, port: int, runtime: Runtime) -> None:
        self.port, self.runtime = port, runtime
        self.http = f"http://127.0.0.1:{port}"
        self.ws = f"ws://127.0.0.1:{port}/v1/ws"

    def connect(self, path: str = "", **options: Any) -> connect:
        gateway = self

        class Socket(ClientConnection):
            settled = staticmethod(gateway.settled)

        return connect(self.ws + path, compression=None, max_size=None, create_connection=Socket, **options)

    async def settled(self) -> None:
        """Wait until the bus has heard everything that was published, where there is a Redis to ask."""
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(5):
                await self.runtime.bus.call(pack("PING"))

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Return status and decoded body of a GET."""
        code, _, body = await self.request("GET", path, **headers)
        return code, json.loads(body)

    async def request(self, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers (names in lower case) and body; `headers` are sent, _ in their names for -."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{more}\r\n".encode())
            head, _, body = (await asyncio.wait_for(reader.read(), 30)).partition(b"\r\n\r\n")
        finally:
            writer.close()
            await writer.wait_closed()
        if b"transfer-encoding: chunked" in head.lower():
            body = unchunked(body)
        lines = head.decode().split("\r\n")
        found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        return int(lines[0].split()[1]), found, body


def unchunked(body: bytes) -> bytes:
    """Return what chunks hold; ValueError where the last one is missing."""
    found: list[bytes] = []
    while True:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return b"".join(found)
        found.append(rest[:length])
        body = rest[length + 2 :]


@asynccontextmanager
async def gateway_on(redis_url: str, **overrides: Any) -> AsyncIterator[Gateway]:
    """Run a gateway; `overrides` are settings of its section."""
    settings = gateway_settings(redis_url, **overrides)
    app = create_app(settings)
    runtime = runtime_of(app)
    task = asyncio.create_task(serve(app, listen(settings.gateway), freeze=False))
    try:
        async with asyncio.timeout(30):
            while not runtime.healthy and not task.done():
                await asyncio.sleep(0.01)
        if task.done():
            await task
        yield Gateway(settings.gateway.port, runtime)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def gateway_settings(redis_url: str, **overrides: Any) -> Settings:
    names: dict[str, Any] = {"port": free_port()}
    for name, value in overrides.items():  # sections of the section come as dicts
        names |= {f"{name}__{key}": v for key, v in value.items()} if isinstance(value, dict) else {name: value}
    environ = {f"TICKWIRE_GATEWAY__{name.upper()}": json.dumps(value) for name, value in names.items()}
    return load(environ={**environ, "TICKWIRE_CONFIG": "/dev/null", "TICKWIRE_REDIS__URL": redis_url})


async def messages(socket: ClientConnection, quiet_s: float = 0.3) -> list[dict[str, Any]]:
    """Return what arrives until nothing does for `quiet_s`.

    On a busy machine time alone says nothing: within it Redis, gateway and client each have to have had several turns.
    """
    found: list[dict[str, Any]] = []
    quiet = 0
    while quiet < QUIET_TURNS:
        try:
            found.append(json.loads(await asyncio.wait_for(socket.recv(), quiet_s / QUIET_TURNS)))
            quiet = 0
        except TimeoutError:
            quiet += 1
            await _turn(socket)
    return found


async def _turn(socket: ClientConnection) -> None:
    """Wait until everything that was published has come to the gateway, and from there to the socket's queue."""
    settled = getattr(socket, "settled", None)
    if settled is not None:
        await settled()
    with suppress(ConnectionClosed, TimeoutError):  # who reads next is told that it is closed
        async with asyncio.timeout(5):
            await (await socket.ping())


async def eventually(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Wait until `condition()` is true."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


async def until(socket: ClientConnection, kind: str, timeout_s: float = 30.0, **fields: Any) -> dict[str, Any]:
    """Return the first message of a type with these fields."""
    async with asyncio.timeout(timeout_s):
        while True:
            message: dict[str, Any] = json.loads(await socket.recv())
            if message["type"] == kind and all(message.get(name) == value for name, value in fields.items()):
                return message


async def subscribe(socket: ClientConnection, *channels: object, **fields: Any) -> None:
    await socket.send(json.dumps({"op": "subscribe", "channels": list(channels), **fields}))
