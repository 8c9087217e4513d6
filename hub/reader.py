"""Reads snapshots from Redis for whoever asks once: newest messages, books, logs, instruments, feed reports.

Many names are one round trip. A failing Redis raises RedisUnavailable; a value that cannot be read counts as absent.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import msgspec
from redis.exceptions import RedisError

from hub.book import OrderBook
from hub.errors import RedisUnavailable
from hub.history import History, Query, open_history
from hub.instrument_store import InstrumentStore, Sync
from hub.instruments import Instrument
from hub.keys import Keys
from hub.log import mask_url
from hub.model import Book, Level, Message, decode
from hub.position import follows, parse_position
from hub.redisio import command_client, mget, script
from hub.venues import FeedReport

__all__ = ["BookView", "Reader"]

#: Entries read of a book's log; more than that between two snapshots cannot be.
TAIL_MAX = 10_000
BATCH = 1000
#: Entries of a log read at once.
LOG_PAGE = 500

M = TypeVar("M", bound=Message)


class BookView(msgspec.Struct, frozen=True):
    """A book as of message `id`; levels best first."""

    id: str
    ts_event: int | None
    ts_recv: int
    bids: list[Level]
    asks: list[Level]


class Reader:
    """Snapshots of one Redis."""

    def __init__(self, url: str, keys: Keys) -> None:
        self.keys = keys
        self._url = url
        self._client = command_client(url, timeout_s=3.0)
        self._history: History | None = None
        self._instruments: msgspec.json.Decoder[Instrument] = msgspec.json.Decoder(Instrument)
        self._reports: msgspec.json.Decoder[FeedReport] = msgspec.json.Decoder(FeedReport)

    async def close(self) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def _redis(self) -> AsyncIterator[Any]:
        # Any, because redis-py's annotations describe clients of text and of bytes at once.
        try:
            yield self._client
        except (RedisError, OSError) as error:
            raise RedisUnavailable(mask_url(self._url), type(error).__name__) from error

    async def ping(self) -> None:
        """Raise RedisUnavailable where Redis does not answer."""
        async with self._redis() as client:
            await client.exists(self.keys.channels)

    async def listed(self, channels: Sequence[str]) -> set[str]:
        """Return those of `channels` that are published."""
        async with self._redis() as client:
            found = await client.smismember(self.keys.channels, channels)
        return {name for name, there in zip(channels, found, strict=True) if there}

    async def newest(self, channels: Sequence[str], kind: type[M]) -> dict[str, M]:
        """Return the newest message of each channel that has one."""
        found: dict[str, M] = {}
        async with self._redis() as client:
            for start in range(0, len(channels), BATCH):
                names = channels[start : start + BATCH]
                values = await mget(client, [self.keys.newest(name) for name in names])
                for name, value in zip(names, values, strict=True):
                    message = _message(value, kind)
                    if message is not None:
                        found[name] = message
        return found

    async def book(self, channel: str) -> BookView | None:
        """Return the book: the stored snapshot with the log's tail applied. None while there is no valid one."""
        async with self._redis() as client:
            keys = self.keys.newest(channel), self.keys.log(channel)
            reply = await client.eval(script("read_book"), 2, *keys, TAIL_MAX)
        snapshot = _message(reply[0], Book) if reply else None
        if snapshot is None:
            return None
        # Entries of EVAL come raw: [id, [name, value, ...]].
        return _replay(snapshot, [fields[1] for _, fields in reply[1]])

    async def log(self, channel: str, limit: int, kind: type[M], *, after: str = "-", until: str = "+") -> list[M]:
        """Return the newest `limit` messages of a log between two ids (inclusive), oldest first."""
        async with self._redis() as client:
            entries = await client.xrevrange(self.keys.log(channel), max=until, min=after, count=limit)
        messages = [_message(fields.get(b"payload"), kind) for _, fields in reversed(entries)]
        return [message for message in messages if message is not None]

    async def log_back(self, channel: str, kind: type[M], first: int = LOG_PAGE) -> AsyncIterator[list[M]]:
        """Yield all messages of a log newest first, in pages: `first` messages, then LOG_PAGE at a time."""
        until, count = "+", min(max(first, 1), LOG_PAGE)
        while True:
            async with self._redis() as client:
                entries = await client.xrevrange(self.keys.log(channel), max=until, min="-", count=count)
            messages = [_message(fields.get(b"payload"), kind) for _, fields in entries]
            yield [message for message in messages if message is not None]
            if len(entries) < count:
                return
            until, count = f"({entries[-1][0].decode()}", LOG_PAGE

    async def series(
        self, queries: Sequence[Query], start_ms: int, end_ms: int, limit: int
    ) -> list[list[tuple[int, float]]]:
        """Return what History.read does: (ms, value), oldest first, for each query."""
        async with self._redis() as client:
            if self._history is None:
                self._history = await open_history(client)
            return await self._history.read(queries, start_ms, end_ms, limit)

    async def venues(self) -> list[str]:
        """Return all venues that ever published, sorted."""
        async with self._redis() as client:
            members = await client.smembers(self.keys.venues)
        return sorted(name.decode() for name in members)

    async def reports(self, venues: Sequence[str]) -> dict[str, FeedReport]:
        """Return what each living feed says of itself."""
        if not venues:
            return {}
        async with self._redis() as client:
            values = await mget(client, [self.keys.feed(venue) for venue in venues])
        found = {}
        for venue, value in zip(venues, values, strict=True):
            if value is not None:
                try:
                    found[venue] = self._reports.decode(value)
                except msgspec.DecodeError:
                    continue
        return found

    async def syncs(self) -> dict[str, Sync]:
        """Return how the last list of each venue was."""
        async with self._redis() as client:
            store = InstrumentStore(client, self.keys)
            return await store.syncs(await store.venues())

    async def instrument_values(self, venue: str) -> list[bytes]:
        """Return all instruments of `venue` as they are stored: thousands are decoded bit by bit (`decoded`)."""
        async with self._redis() as client:
            return cast(list[bytes], await client.hvals(self.keys.instruments(venue)))

    def decoded(self, values: Iterable[bytes]) -> list[Instrument]:
        """Return stored instruments, those that can be read."""
        rows = (self._instrument(value) for value in values)
        return [row for row in rows if row is not None]

    async def instruments_of(self, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Instrument]:
        """Return the instruments of (venue, symbol) pairs, those that are listed."""
        symbols: dict[str, list[str]] = {}
        for venue, symbol in wanted:
            symbols.setdefault(venue, []).append(symbol)
        if not symbols:
            return {}
        async with self._redis() as client, client.pipeline(transaction=False) as pipe:
            for venue, names in symbols.items():
                pipe.hmget(self.keys.instruments(venue), names)
            replies = await pipe.execute()
        rows = (self._instrument(value) for reply in replies for value in reply)
        return {(row.venue, row.symbol): row for row in rows if row is not None}

    def _instrument(self, value: bytes | None) -> Instrument | None:
        try:
            return self._instruments.decode(value) if value is not None else None
        except msgspec.DecodeError:
            return None


def _message(payload: bytes | None, kind: type[M]) -> M | None:
    if payload is None:
        return None
    try:
        message = decode(payload)
    except msgspec.DecodeError:
        return None
    return message if isinstance(message, kind) else None


def _replay(snapshot: Book, tail: Iterable[bytes]) -> BookView | None:
    """Apply updates to a snapshot; None where they are no continuation of it."""
    book = OrderBook()
    book.replace(snapshot.bids, snapshot.asks)
    newest = snapshot
    for payload in tail:
        message = _message(payload, Book)
        if message is None or not follows(parse_position(newest.id), parse_position(message.id)):
            return None
        if message.action == "snapshot":
            book.replace(message.bids, message.asks)
        else:
            book.apply(message.bids, message.asks)
        newest = message
    return BookView(newest.id, newest.ts_event, newest.ts_recv, book.bids.levels(), book.asks.levels())
