"""Candles of any length put together from the shorter ones that history keeps, aggregated in Redis page by page."""

from collections.abc import AsyncIterator, Mapping
from typing import Final, Literal

from msgspec import Struct

from hub.history import Aggregate, Query
from hub.intervals import NS_PER_MS
from hub.reader import Reader

__all__ = ["CandleRow", "StoredCandles"]

#: Rows made, and stored candles aggregated, at once.
PAGE_ROWS = 250
PAGE_STORED = 10_000
FIELDS: Final[Mapping[str, Aggregate]] = {
    "open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum",
    "buy_volume": "sum", "sell_volume": "sum", "trades": "sum",
}  # fmt: skip
NEEDED: Final = ("open", "high", "low", "close")


class CandleRow(Struct, kw_only=True):
    """One closed candle. `start` is int ns UTC; volumes in base, notionals in quote units; null where not known.

    `source`: built from `trades`, given by the `venue`, or put together from `history`. `parts` is then the number of
    candles it is made of, `parts_max` how many would fit: an interval without trades has none, and neither has one that
    nobody recorded. Which of the two a missing part is cannot be told.
    """

    start: int
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    notional: float | None = None
    vwap: float | None = None
    trades: int | None = None
    buy_trades: int | None = None
    sell_trades: int | None = None
    buy_volume: float | None = None
    sell_volume: float | None = None
    buy_notional: float | None = None
    sell_notional: float | None = None
    source: Literal["trades", "venue", "history"]
    revision: int = 0
    parts: int | None = None
    parts_max: int | None = None


class StoredCandles:
    """Candles of `length_ms`, aligned to the epoch, made of those of `base_ms` that history keeps for `channel`."""

    def __init__(self, reader: Reader, channel: str, base_ms: int, length_ms: int) -> None:
        self._reader, self._channel, self._length = reader, channel, length_ms
        self._counted = base_ms < length_ms
        self._parts_max = length_ms // base_ms
        self._rows = max(1, min(PAGE_ROWS, PAGE_STORED * base_ms // length_ms))

    async def begin(self) -> int | None:
        """Return the ms where the first candle begins of which nothing is missing; None where there is no history."""
        (points,) = await self._read({"open": "first"}, 0, 1 << 53, 1, bucketed=False)
        return -(-points[0][0] // self._length) * self._length if points else None

    async def starts(self, low: int, high: int) -> AsyncIterator[tuple[list[int], int]]:
        """Yield (starts, stop) page by page: the ms of all candles that start in `low..high` (both multiples of the
        length, the last excluded), and where the page ends; the last one ends at `high`."""
        while low < high:
            (points,) = await self._read({"open": "count"}, low, high, self._rows)
            stop = points[-1][0] + self._length if len(points) == self._rows else high
            yield [ts for ts, _ in points], stop
            low = stop

    async def pages(self, low: int, high: int) -> AsyncIterator[tuple[dict[int, CandleRow], int]]:
        """Yield (rows by ms, stop) as `starts` does."""
        async for starts, stop in self.starts(low, high):
            yield (await self._page(starts[0], stop) if starts else {}), stop

    async def _page(self, low: int, high: int) -> dict[int, CandleRow]:
        wanted = dict(FIELDS)
        if self._counted:
            wanted |= {f"{name} ": "count" for name in FIELDS}
        found = await self._read(wanted, low, high, self._rows)
        columns = dict(zip(wanted, map(dict, found), strict=True))
        rows: dict[int, CandleRow] = {}
        for ts in columns["open"]:
            row = self._row(ts, columns)
            if row is not None:
                rows[ts] = row
        return rows

    def _row(self, ts: int, columns: Mapping[str, Mapping[int, float]]) -> CandleRow | None:
        """Return the candle; None where a part of it lacks what every candle has."""
        parts = columns["open "][ts] if self._counted else 1
        whole = {
            name: columns[name][ts]
            for name in FIELDS
            if ts in columns[name] and (not self._counted or columns[f"{name} "].get(ts) == parts)
        }
        if any(name not in whole for name in NEEDED):
            return None
        trades = whole.get("trades")
        return CandleRow(
            start=ts * NS_PER_MS,
            open=whole["open"],
            high=whole["high"],
            low=whole["low"],
            close=whole["close"],
            volume=whole.get("volume"),
            buy_volume=whole.get("buy_volume"),
            sell_volume=whole.get("sell_volume"),
            trades=None if trades is None else int(trades),
            source="history",
            parts=int(parts),
            parts_max=self._parts_max,
        )

    async def _read(
        self, wanted: Mapping[str, Aggregate], low: int, high: int, limit: int, *, bucketed: bool = True
    ) -> list[list[tuple[int, float]]]:
        """Read fields of `low..high`, the last excluded; blanks at the end of a name only tell two of a field apart."""
        length = self._length if bucketed else 0
        queries = [
            Query(self._reader.keys.series(self._channel, name.strip()), "last", length, aggregate)
            for name, aggregate in wanted.items()
        ]
        return await self._reader.series(queries, low, high - 1, limit)
