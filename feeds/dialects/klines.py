"""Candles as a venue's REST tells them, built from the trades played so far, in decimal text.

Apart from hub/candles.py on purpose: a venue counts in decimals, and what the hub is tested with is not its own code.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from msgspec import Struct

__all__ = ["INTERVALS_MS", "Kline", "Klines", "floor_ms"]

MINUTE_MS: Final = 60_000
WEEK_MS: Final = 7 * 86_400_000
#: The first Monday after the epoch.
MONDAY_MS: Final = 4 * 86_400_000
#: Longest month and one day: a step from its first day that never skips the next one.
MONTH_MS: Final = 32 * 86_400_000

INTERVALS_MS: Final[dict[str, int]] = {
    "1s": 1000, "1m": MINUTE_MS, "3m": 3 * MINUTE_MS, "5m": 5 * MINUTE_MS, "15m": 15 * MINUTE_MS, "30m": 30 * MINUTE_MS,
    "1h": 60 * MINUTE_MS, "2h": 120 * MINUTE_MS, "4h": 240 * MINUTE_MS, "6h": 360 * MINUTE_MS, "8h": 480 * MINUTE_MS,
    "12h": 720 * MINUTE_MS, "1d": 1440 * MINUTE_MS, "3d": 3 * 1440 * MINUTE_MS, "1w": WEEK_MS, "1M": MONTH_MS,
}  # fmt: skip


def floor_ms(ms: int, interval: str) -> int:
    """Return the start (unix ms) of the interval that holds `ms`. Weeks begin on Monday, months on the 1st, UTC."""
    if interval == "1M":
        moment = datetime.fromtimestamp(ms // 1000, UTC)
        return int(datetime(moment.year, moment.month, 1, tzinfo=UTC).timestamp()) * 1000
    if interval == "1w":
        return ms - (ms - MONDAY_MS) % WEEK_MS
    return ms - ms % INTERVALS_MS[interval]


class Kline(Struct):
    """One candle; `start` unix ms, prices as text, sums exact. `first_id`..`last_id` are trade ids, -1: none."""

    start: int
    open: str
    high: str
    low: str
    close: str
    volume: Decimal = Decimal(0)
    notional: Decimal = Decimal(0)
    trades: int = 0
    bought: Decimal = Decimal(0)
    bought_notional: Decimal = Decimal(0)
    first_id: int = -1
    last_id: int = -1

    def merge(self, later: "Kline") -> None:
        """Add what came right after."""
        if Decimal(later.high) > Decimal(self.high):
            self.high = later.high
        if Decimal(later.low) < Decimal(self.low):
            self.low = later.low
        self.close = later.close
        self.volume += later.volume
        self.notional += later.notional
        self.trades += later.trades
        self.bought += later.bought
        self.bought_notional += later.bought_notional
        self.first_id = self.first_id if self.first_id >= 0 else later.first_id
        self.last_id = later.last_id if later.last_id >= 0 else self.last_id

    def copy(self, start: int) -> "Kline":
        return Kline(
            start, self.open, self.high, self.low, self.close, self.volume, self.notional, self.trades,
            self.bought, self.bought_notional, self.first_id, self.last_id,
        )  # fmt: skip


class Klines:
    """The candles of one symbol. Seconds are kept for two hours, minutes for a week; older ones are forgotten."""

    SECONDS, MINUTES = 7200, 7 * 1440

    def __init__(self) -> None:
        self._seconds: dict[int, Kline] = {}
        self._minutes: dict[int, Kline] = {}

    def add(self, ms: int, price: str, size: str, bought: bool, ids: tuple[int, int]) -> None:
        """Take a trade: unix ms, `bought` where the taker bought, first and last trade id in it."""
        volume = Decimal(size)
        notional = volume * Decimal(price)
        nothing = Decimal(0)
        trade = Kline(
            ms, price, price, price, price, volume, notional, ids[1] - ids[0] + 1,
            volume if bought else nothing, notional if bought else nothing, *ids,
        )  # fmt: skip
        for kept, step, limit in (
            (self._seconds, 1000, self.SECONDS),
            (self._minutes, MINUTE_MS, self.MINUTES),
        ):
            start = ms - ms % step
            if start in kept:
                kept[start].merge(trade)
            else:
                kept[start] = trade.copy(start)
                if len(kept) > limit:
                    del kept[next(iter(kept))]

    def rows(self, interval: str, since: int | None, until: int | None, limit: int, now: int) -> list[Kline]:
        """Return candles, oldest first, from the first trade to `now`, the open one included (all unix ms).

        With `since` the oldest `limit` from there, else the newest; those without a trade repeat the last price.
        """
        end = now if until is None else min(until, now)
        step = INTERVALS_MS[interval]
        if since is None:
            oldest = floor_ms(max(0, end - limit * step), interval)
            return [row for row in self._walk(interval, end) if row.start >= oldest][-limit:]
        rows: list[Kline] = []
        for row in self._walk(interval, end):
            if row.start >= since:
                rows.append(row)
                if len(rows) == limit:
                    break
        return rows

    def at(self, interval: str, ms: int) -> Kline | None:
        """Return the candle that holds `ms`, None where nothing was traded in it."""
        start = floor_ms(ms, interval)
        return next((row for row in self._merged(interval) if row.start == start), None)

    def _merged(self, interval: str) -> list[Kline]:
        rows: list[Kline] = []
        for part in (self._seconds if interval == "1s" else self._minutes).values():
            start = floor_ms(part.start, interval)
            if rows and rows[-1].start == start:
                rows[-1].merge(part)
            else:
                rows.append(part.copy(start))
        return rows

    def _walk(self, interval: str, end: int) -> Iterator[Kline]:
        """Yield all candles that begin up to `end`, empty ones included."""
        rows = self._merged(interval)
        step = INTERVALS_MS[interval]
        for row, following in zip(rows, [*rows[1:], None], strict=True):
            stop = min(end, following.start - 1 if following is not None else end)
            if row.start > end:
                return
            yield row
            start = floor_ms(row.start + step, interval)
            while start <= stop:
                yield Kline(start, row.close, row.close, row.close, row.close)
                start = floor_ms(start + step, interval)
