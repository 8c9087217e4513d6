"""Closed candles of the past: whole ones from the log, older ones and other lengths put together from shorter ones.

Whole candles are in the log of their interval; the newest revision of each counts. What the log does not hold is put
together from history (hub/stored_candles.py). Of a length that is not published, a candle is made from the log of the
shorter ones where that holds all its parts, because history knows fewer fields.
"""

import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Container, Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from hub.config import CandleSettings
from hub.intervals import INTERVALS, NS_PER_MS, parse_interval
from hub.keys import channel_name
from hub.model import Candle
from hub.reader import Reader
from hub.stored_candles import CandleRow, StoredCandles

__all__ = ["CLOSING_MS", "CandleReader", "CandleRow", "CandleSpan", "Source", "read_candles", "source_of"]

#: Intervals that history keeps, the longest first.
STORED: Final[tuple[str, ...]] = ("1m", "10s")
#: After its end, and the feeds' grace, a candle that is not published itself counts as closed: its parts are here.
CLOSING_MS: Final = 1000
#: Entries of a log looked at for one request.
LOG_MAX = 20_000
SUMS: Final = (
    "notional", "trades", "buy_trades", "sell_trades", "buy_volume", "sell_volume", "buy_notional", "sell_notional",
)  # fmt: skip


class Source(Struct, frozen=True):
    """Where candles of one length come from: the log of interval `whole` (None: none are published), and candles of
    interval `base`, the same or shorter."""

    length_ms: int
    whole: str | None
    base: str

    @property
    def kind(self) -> str:
        """The kind whose state and grants count."""
        return f"candle.{self.whole or self.base}"


def source_of(interval: str, names: Container[str], venue: str, symbol: str) -> Source:
    """Return where candles of `interval` come from; `names` are the channels that are published. RequestError for an
    interval that cannot be put together from stored ones."""
    length = parse_interval(interval)
    divisors = sorted((name for name in INTERVALS if length % INTERVALS[name] == 0), key=INTERVALS.__getitem__)
    published = [name for name in divisors if channel_name(f"candle.{name}", venue, symbol) in names]
    whole = next((name for name in published if INTERVALS[name] == length), None)
    stored = [name for name in STORED if name in divisors]
    base = next((name for name in stored if name in published), stored[0] if stored else None)
    if base is None:
        base = published[-1] if published else divisors[0]
    return Source(length * 1000, whole, base)


class CandleSpan(Struct, frozen=True):
    """Candles that start in `start_ms..end_ms` (end excluded): the first `limit`, or with `newest` the last.

    `closed_ms`: what ended until then counts as closed, where no whole candle says so: some grace before now.
    """

    start_ms: int
    end_ms: int
    limit: int
    newest: bool
    closed_ms: int


class CandleReader:
    """Candles of one venue and symbol, read page by page.

    `newest` is the newest message of the log, known after the first page; `next_ms`, the start of the first candle
    beyond the limit, is known after the last.
    """

    def __init__(self, reader: Reader, venue: str, symbol: str, source: Source, span: CandleSpan) -> None:
        self._reader, self._venue, self._symbol, self._source = reader, venue, symbol, source
        length = source.length_ms
        self._length = length
        # Candles as a whole: bounds are multiples of the length.
        self._start = -(-span.start_ms // length) * length
        self._end = -(-span.end_ms // length) * length
        self._closed = span.closed_ms // length * length
        self._limit, self._from_end = span.limit, span.newest
        channel = channel_name(f"candle.{source.base}", venue, symbol)
        self._stored = StoredCandles(reader, channel, INTERVALS[source.base] * 1000, length)
        self._begin: int | None = None
        self._logged: dict[int, list[Candle]] = {}  # start -> newest revisions, of the candle or of its parts
        self._starts: list[int] = []
        self.newest: Candle | None = None
        self.next_ms: int | None = None

    async def pages(self) -> AsyncIterator[list[CandleRow]]:
        """Yield rows oldest first, page by page."""
        self._begin = await self._stored.begin()
        await self._read_log()
        start, skip = await self._last() if self._from_end else (self._start, 0)
        left = self._limit
        async for page in self._merged(start):
            rows, skip = page[skip:], max(0, skip - len(page))
            if len(rows) > left:
                self.next_ms = rows[left].start // NS_PER_MS
            yield rows[:left]
            left -= len(rows[:left])
            if self.next_ms is not None:
                return

    async def _last(self) -> tuple[int, int]:
        """Return from where on to read for the last rows, and how many too many are found there."""
        known = [start for start in (self._begin, *self._starts[:1]) if start is not None]
        oldest = max(self._start, min(known, default=self._end))
        found, high, reach = 0, self._end, self._limit * self._length
        while found < self._limit and high > oldest:
            low = max(oldest, high - reach)
            found += await self._count(low, high)
            high, reach = low, reach * 4
        return high, max(0, found - self._limit)

    async def _count(self, low: int, high: int) -> int:
        found, position = 0, low
        async for starts, stop in self._stored.starts(*self._within(low, high)):
            found += len({*starts, *self._logged_in(position, stop)})
            position = stop
        return found + len(self._logged_in(position, high))

    async def _merged(self, start: int) -> AsyncIterator[list[CandleRow]]:
        position = start
        async for rows, stop in self._stored.pages(*self._within(start, self._end)):
            yield self._page(rows, position, stop)
            position = stop
        yield self._page({}, position, self._end)

    def _within(self, low: int, high: int) -> tuple[int, int]:
        """Return the part of `low..high` of which history tells closed candles."""
        return (high, high) if self._begin is None else (max(low, self._begin), min(high, self._closed))

    def _page(self, stored: Mapping[int, CandleRow], low: int, high: int) -> list[CandleRow]:
        starts = sorted({*stored, *self._logged_in(low, high)})
        return [self._row(start, stored.get(start)) for start in starts]

    def _row(self, start: int, stored: CandleRow | None) -> CandleRow:
        parts = self._logged.get(start)
        if parts is None or (self._source.whole is None and stored is not None and len(parts) < (stored.parts or 0)):
            assert stored is not None
            return stored
        if self._source.whole is not None:
            return _whole(parts[0])
        return _joined(start, parts, self._length // (INTERVALS[self._source.base] * 1000))

    def _logged_in(self, low: int, high: int) -> list[int]:
        return self._starts[bisect_left(self._starts, low) : bisect_left(self._starts, high)]

    async def _read_log(self) -> None:
        """Read the log back to where everything in it is older than what is asked for."""
        name = self._source.whole or self._source.base
        length = INTERVALS[name] * 1000
        wanted = (self._limit + 1) * self._length // length if self._from_end else LOG_MAX
        rows: dict[int, Candle] = {}
        seen = covered = 0
        async for page in self._reader.log_back(
            channel_name(f"candle.{name}", self._venue, self._symbol), Candle, wanted
        ):
            self.newest = self.newest or next(iter(page), None)
            for message in page:
                rows.setdefault(message.start // NS_PER_MS, message)
            seen += len(page)
            if page:
                # A candle is published after its end: what was published earlier started earlier.
                covered = page[-1].ts_pub // NS_PER_MS - length + 1
            if seen >= LOG_MAX or covered <= max(self._start, self._nth_newest(rows, wanted)):
                break
        for start, message in sorted(rows.items()):
            bucket = start - start % self._length
            if self._start <= bucket < self._end:
                self._logged.setdefault(bucket, []).append(message)
        if self._source.whole is None:
            self._drop_partial(covered)
        self._starts = sorted(self._logged)

    def _nth_newest(self, rows: Iterable[int], n: int) -> int:
        inside = sorted(start for start in rows if start < self._end) if self._from_end else []
        return inside[-n] if len(inside) >= n else 0

    def _drop_partial(self, covered: int) -> None:
        """Drop candles that are not closed, and those that neither the log nor history may know whole."""
        since = covered if self._begin is None else min(covered, self._begin)
        self._logged = {start: parts for start, parts in self._logged.items() if since <= start < self._closed}


def _whole(candle: Candle) -> CandleRow:
    return CandleRow(**{name: getattr(candle, name) for name in CandleRow.__struct_fields__ if hasattr(candle, name)})


def _joined(start_ms: int, parts: list[Candle], parts_max: int) -> CandleRow:
    """Return the candle made of `parts`, oldest first; a sum is known where every part knows its own."""
    sums: dict[str, Any] = {name: _sum(getattr(part, name) for part in parts) for name in SUMS}
    volume = _sum(part.volume for part in parts)
    priced = all(part.vwap is not None for part in parts if part.volume)
    return CandleRow(
        start=start_ms * NS_PER_MS,
        open=parts[0].open,
        high=max(part.high for part in parts),
        low=min(part.low for part in parts),
        close=parts[-1].close,
        volume=volume,
        vwap=sums["notional"] / volume if priced and volume and sums["notional"] is not None else None,
        source="history",
        revision=sum(part.revision for part in parts),
        parts=len(parts),
        parts_max=parts_max,
        **sums,
    )


def _sum(values: Iterable[float | None]) -> float | None:
    total: float = 0
    for value in values:  # left to right, as Redis does
        if value is None:
            return None
        total += value
    return total


async def read_candles(
    reader: Reader, venue: str, symbol: str, interval: str, start_ms: int, end_ms: int, limit: int
) -> tuple[list[CandleRow], Candle | None]:
    """Return closed candles that start in `start_ms..end_ms` (end excluded), oldest first, and the newest message of
    their log: the first `limit`, or without a start (0) the last."""
    names = await reader.listed([channel_name(f"candle.{name}", venue, symbol) for name in INTERVALS])
    closed_ms = time.time_ns() // NS_PER_MS - CandleSettings().grace_ms - CLOSING_MS
    span = CandleSpan(start_ms, end_ms, limit, start_ms == 0, closed_ms)
    candles = CandleReader(reader, venue, symbol, source_of(interval, names, venue, symbol), span)
    return [row async for page in candles.pages() for row in page], candles.newest
