"""Candles of the past: whole ones from the log, older ones put together from history.

History keeps open, high, low, close and volumes of 10s and 1m candles; longer intervals are aggregated from those, so
the other fields are null there.
"""

import asyncio
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from hub.intervals import INTERVALS, NS_PER_MS
from hub.keys import channel_name
from hub.model import Candle
from hub.reader import Reader

__all__ = ["CandleRow", "read_candles"]

LOG_MAX = 5000
#: Stored candles that one request aggregates at most.
STORED_MAX = 50_000
STORED = ("1m", "10s")
FIELDS = ("open", "high", "low", "close", "volume", "buy_volume", "sell_volume")


class CandleRow(Struct, kw_only=True):
    """One closed candle. `start` is int ns UTC; volumes in base, notionals in quote units; null where not known.

    `source`: built from `trades`, given by the `venue`, or put together from `history`.
    """

    start: int
    open: float
    high: float
    low: float
    close: float
    volume: float
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


async def read_candles(
    reader: Reader, venue: str, symbol: str, interval: str, start_ms: int, end_ms: int, limit: int
) -> tuple[list[CandleRow], Candle | None]:
    """Return the newest `limit` closed candles that start in `start_ms..end_ms` (end excluded), oldest first, and the
    newest message of the log."""
    channel = channel_name(f"candle.{interval}", venue, symbol)
    messages = await reader.log(channel, LOG_MAX, Candle)
    rows = {m.start: _row(m) for m in messages if start_ms <= m.start // NS_PER_MS < end_ms}  # revisions come later
    found = [rows[start] for start in sorted(rows)][-limit:]
    reached_ms = min((m.start for m in messages), default=end_ms * NS_PER_MS) // NS_PER_MS
    if len(found) < limit and start_ms < min(reached_ms, end_ms):
        wanted = limit - len(found)
        found = await _older(reader, venue, symbol, interval, start_ms, min(reached_ms, end_ms), wanted) + found
    return found, messages[-1] if messages else None


def _row(candle: Candle) -> CandleRow:
    values = {name: getattr(candle, name) for name in CandleRow.__struct_fields__}
    return CandleRow(**values)


async def _older(
    reader: Reader, venue: str, symbol: str, interval: str, start_ms: int, end_ms: int, limit: int
) -> list[CandleRow]:
    length_ms = INTERVALS[interval] * 1000
    stored = next((name for name in STORED if INTERVALS[interval] % INTERVALS[name] == 0), None)
    if stored is None:
        return []
    stored_ms = INTERVALS[stored] * 1000
    first = max(start_ms, end_ms - limit * length_ms, end_ms - STORED_MAX * stored_ms)
    first = -(-first // length_ms) * length_ms  # no candle from a part of its time
    channel = channel_name(f"candle.{stored}", venue, symbol)
    series = await asyncio.gather(
        *(reader.series(channel, field, first, end_ms - 1, STORED_MAX, "last") for field in FIELDS)
    )
    columns = dict(zip(FIELDS, (dict(points) for points in series), strict=True))
    buckets: dict[int, list[int]] = {}
    for ts in columns["open"]:
        buckets.setdefault(ts // length_ms * length_ms, []).append(ts)
    rows = (_merge(start, buckets[start], columns) for start in sorted(buckets))
    return [row for row in rows if row is not None][-limit:]


def _merge(start_ms: int, times: list[int], columns: dict[str, dict[int, float]]) -> CandleRow | None:
    times = [ts for ts in sorted(times) if all(ts in columns[name] for name in FIELDS[:5])]
    if not times:
        return None

    def values(name: str) -> Iterable[float]:
        return [columns[name][ts] for ts in times if ts in columns[name]]

    def total(name: str) -> float | None:
        found = list(values(name))
        return sum(found) if len(found) == len(times) else None

    return CandleRow(
        start=start_ms * NS_PER_MS,
        open=columns["open"][times[0]],
        high=max(values("high")),
        low=min(values("low")),
        close=columns["close"][times[-1]],
        volume=sum(values("volume")),
        buy_volume=total("buy_volume"),
        sell_volume=total("sell_volume"),
        source="history",
    )
