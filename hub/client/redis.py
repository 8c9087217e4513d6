"""Straight from Redis, for services on the hub's own network: the reads a gateway would do, without one."""

import difflib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from msgspec import Struct
from redis.exceptions import RedisError

from hub.client.items import Wanted
from hub.client.redis_stream import RedisStream
from hub.client.rows import BookSnapshot, CandleRow, QuoteRow, Rows, Source, TickerRow, TradeRow, VenueRow, known
from hub.directory import Directory
from hub.errors import NotFound, RedisUnavailable, RequestError
from hub.instrument_store import InstrumentStore
from hub.instruments import Instrument
from hub.intervals import parse_interval
from hub.keys import VENUE_WIDE, Keys, channel_name
from hub.listing import DELISTED
from hub.log import mask_url
from hub.model import Message, Quote, Status, Ticker, Trade
from hub.past_candles import read_candles
from hub.reader import Reader
from hub.redisio import command_client, mget
from hub.venues import state_of

__all__ = ["RedisTransport"]

NEVER_PUBLISHED = "nothing was published here yet"

S = TypeVar("S", bound=Source)
M = TypeVar("M", bound=Message)


class RedisTransport:
    """The hub's Redis at `url` (every form of redis.url), with its key prefix."""

    def __init__(self, url: str, prefix: str, *, timeout_s: float, patience_s: float) -> None:
        self._url, self._keys = url, Keys(prefix)
        self._patience_s = patience_s
        self._reader = Reader(url, self._keys)
        self._client = command_client(url, timeout_s=timeout_s)
        self._store = InstrumentStore(self._client, self._keys)

    def open_stream(self, wanted: Wanted) -> RedisStream:
        return RedisStream(self._url, self._keys, wanted, patience_s=self._patience_s)

    async def close(self) -> None:
        await self._reader.close()
        await self._client.aclose()

    # reads

    async def quotes(self, symbols: Sequence[str], venue: str | None) -> Rows[QuoteRow]:
        rows = await self._newest("quote", Quote, QuoteRow, symbols, venue)
        return Rows(QuoteRow, rows, rows)

    async def tickers(self, symbols: Sequence[str], venue: str | None) -> Rows[TickerRow]:
        rows = await self._newest("ticker", Ticker, TickerRow, symbols, venue)
        listed = await self._reader.instruments_of([(row.venue, row.symbol) for row in rows])
        for row in rows:
            instrument = listed.get((row.venue, row.symbol))
            row.name = instrument.name if instrument is not None else None
            ts = row.ts_event or row.ts_recv
            row.timestamp = _iso_time(ts) if ts is not None else None
        return Rows(TickerRow, rows, rows)

    async def book(self, symbol: str, venue: str | None, depth: int) -> Rows[BookSnapshot]:
        rows = []
        for source in await self._sources("book", [symbol], venue, BookSnapshot):
            view = await self._reader.book(channel_name("book", source.venue, symbol))
            await self._judge("book", [(source, view)])
            if view is not None and source.state in {"live", "stale"}:
                source.bids, source.asks = view.bids[:depth], view.asks[:depth]
            rows.append(source)
        return Rows(BookSnapshot, rows, rows)

    async def trades(self, symbol: str, venue: str | None, limit: int) -> Rows[TradeRow]:
        rows: list[TradeRow] = []
        sources = await self._sources("trade", [symbol], venue, Source)
        for source in sources:
            trades = await self._reader.log(channel_name("trade", source.venue, symbol), limit, Trade)
            await self._judge("trade", [(source, trades[-1] if trades else None)])
            rows += [_row(TradeRow, trade) for trade in trades]
        return Rows(TradeRow, rows, sources)

    async def candles(
        self, symbol: str, venue: str | None, interval: str, start_ms: int | None, end_ms: int | None, limit: int
    ) -> Rows[CandleRow]:
        parse_interval(interval)
        kind = f"candle.{interval}"
        rows: list[CandleRow] = []
        sources = await self._sources(kind, [symbol], venue, Source)
        end_ms = time.time_ns() // 1_000_000 if end_ms is None else end_ms
        for source in sources:
            found, newest = await read_candles(
                self._reader, source.venue, symbol, interval, start_ms or 0, end_ms, limit
            )
            await self._judge(kind, [(source, newest)])
            rows += [_row(CandleRow, row, venue=source.venue, symbol=symbol, interval=interval) for row in found]
        return Rows(CandleRow, rows, sources)

    async def venues(self) -> Rows[VenueRow]:
        names = await self._reader.venues()
        reports = await self._reader.reports(names)
        directory = await self._directory()
        rows = []
        for name in names:
            source = Source(venue=name, symbol=VENUE_WIDE, state="down")
            await self._judge("", [(source, None)], valued=False)
            report = reports.get(name)
            row = VenueRow(
                venue=name, state=source.state, reason=source.reason, age_ms=None,
                symbols=len(directory.venues.get(name, ())),
            )  # fmt: skip
            if report is not None:
                row.age_ms = min(
                    (_age_ms(kind.ts_recv) for kind in report.kinds.values() if kind.messages), default=None
                )
                row.messages = sum(kind.messages for kind in report.kinds.values())
                row.connections = sum(connection.connected for connection in report.connections)
                row.books_live, row.books_wanted = report.books_live, report.books_wanted
            rows.append(row)
        return Rows(VenueRow, rows)

    async def instruments(self, symbol: str | None, venue: str | None, text: str | None) -> Rows[Instrument]:
        venues = await self._call(self._store.venues())
        if venue is not None and venue not in venues:
            raise RequestError("bad_parameter", f"venue = {venue!r} is not known", venues)
        word = (text or "").upper()
        rows: list[Instrument] = []
        for name in venues if venue is None else [venue]:
            found = (await self._call(self._store.load(name))).values()
            rows += [row for row in found if _wanted(row, symbol, word)]
        if symbol is not None and not rows:
            raise NotFound("unknown_symbol", f"no venue lists {symbol!r}")
        return Rows(Instrument, sorted(rows, key=lambda row: (row.symbol, row.venue)))

    # what there is, and how good it is

    async def _directory(self) -> Directory:
        directory = Directory()
        for name in await self._call(self._client.smembers(self._keys.channels)):
            directory.add(name.decode(errors="replace"))
        return directory

    async def _sources(self, kind: str, symbols: Sequence[str], venue: str | None, make: type[S]) -> list[S]:
        """Return an empty row per venue of all `symbols` (default: all there are); NotFound where there is none."""
        directory = await self._directory()
        rows = []
        for symbol in symbols or sorted(directory.symbols):
            venues = directory.symbols.get(symbol)
            if venues is None:
                near = difflib.get_close_matches(symbol.upper(), directory.symbols, n=5, cutoff=0.5)
                hint = f"; near: {', '.join(near)}" if near else ""
                raise NotFound("unknown_symbol", f"nobody publishes {symbol!r}{hint}", near)
            names = sorted(venues) if venue is None else [name for name in venues if name == venue]
            if symbols and not names:
                raise NotFound(
                    "unknown_symbol", f"{venue} does not publish {symbol!r}; other venues do", sorted(venues)
                )
            rows += [make(venue=name, symbol=symbol, state="down") for name in names]
        return rows

    async def _newest(
        self, kind: str, message: type[M], make: type[S], symbols: Sequence[str], venue: str | None
    ) -> list[S]:
        rows = await self._sources(kind, symbols, venue, make)
        found = await self._reader.newest([channel_name(kind, row.venue, row.symbol) for row in rows], message)
        pairs = [(row, found.get(channel_name(kind, row.venue, row.symbol))) for row in rows]
        for row, newest in pairs:
            if newest is not None:
                _fill(row, newest)
        await self._judge(kind, pairs)
        return rows

    async def _judge(self, kind: str, pairs: Sequence[tuple[Source, Any]], *, valued: bool = True) -> None:
        """State, reason and age of rows by the readers' rules (docs/redis.md), each with its newest message or None.

        Not `valued`: there is no value to be present, the row is about a venue.
        """
        venues = sorted({row.venue for row, _ in pairs})
        wide = {venue: channel_name("status", venue, VENUE_WIDE) for venue in venues}
        own = [channel_name("status", row.venue, row.symbol) for row, _ in pairs]
        pulses = await self._call(mget(self._client, [self._keys.alive(venue) for venue in venues])) if venues else []
        alive = {venue: pulse is not None for venue, pulse in zip(venues, pulses, strict=True)}
        statuses = await self._reader.newest(list(dict.fromkeys([*wide.values(), *own])), Status)
        for (row, newest), name in zip(pairs, own, strict=True):
            symbol = statuses.get(name) if row.symbol != VENUE_WIDE else None
            have = newest is not None or not valued
            row.state, row.reason = state_of(
                kind, alive[row.venue], statuses.get(wide[row.venue]), symbol, present=have
            )
            if not have and row.state == "live":
                row.state, row.reason = "down", NEVER_PUBLISHED
            if newest is not None:
                row.id, row.ts_event, row.ts_recv = newest.id, newest.ts_event, newest.ts_recv
                row.age_ms = _age_ms(newest.ts_recv)

    async def _call(self, call: Any) -> Any:
        # Any, because redis-py's annotations describe clients of text and of bytes at once.
        try:
            return await call
        except (RedisError, OSError) as error:
            raise RedisUnavailable(mask_url(self._url), type(error).__name__) from error


def _iso_time(ts_ns: int) -> str:
    moment = datetime.fromtimestamp(ts_ns // 1_000_000 / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _age_ms(ts_recv: int) -> int:
    return max(0, (time.time_ns() - ts_recv) // 1_000_000)


def _fill(row: Struct, message: Struct) -> None:
    for name in row.__struct_fields__:
        if hasattr(message, name):
            setattr(row, name, known(getattr(message, name)))


def _wanted(row: Instrument, symbol: str | None, word: str) -> bool:
    if symbol is not None:
        return row.symbol == symbol
    named = any(word in name.upper() for name in (row.symbol, row.name or "", row.venue_symbol))
    return named and row.status != DELISTED


R = TypeVar("R", bound=Struct)


def _row(kind: type[R], message: Struct, **fields: str) -> R:
    values = {name: known(getattr(message, name)) for name in kind.__struct_fields__ if hasattr(message, name)}
    return kind(**{**values, **fields})
