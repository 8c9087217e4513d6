"""Trades to candles, for one symbol and several intervals at once. Pure: time comes in.

Each trade touches one accumulator only, that of the shortest interval; when it closes it is added to the longer ones.
Candles close by the clock plus a grace, so a quiet market closes them too. A trade that is late changes what it
belongs to: an open candle silently, a closed one by a revision. A candle during which trades may have been missed is
never published as built from trades; it is asked of the venue instead (`Due`).

Policy for empty intervals: no trades, no candle.
"""

from collections.abc import Sequence
from math import inf

from msgspec import Struct
from msgspec.structs import replace

from hub.intervals import interval_ns
from hub.model import CANDLE_TYPES, FORMING_TYPES, Candle, Trade

__all__ = ["CandleBuilder", "Due"]

_OPEN = 1 << 63
"""The end, int ns, of what has not ended yet."""


class Due(Struct, frozen=True, gc=False):
    """A candle that only the venue can tell: `start` int ns UTC."""

    interval: str
    start: int


class _Sum:
    """What the trades of one interval add up to. `first` and `last` are ns: which trade opens, which closes."""

    __slots__ = (
        "buy_notional", "buy_trades", "buy_volume", "close", "first", "high", "last", "low", "notional", "open",
        "published", "revision", "sell_notional", "sell_trades", "sell_volume", "start", "trades", "volume",
    )  # fmt: skip

    def __init__(self, start: int) -> None:
        self.start = start
        self.open = self.close = 0.0
        self.high, self.low = -inf, inf
        self.first, self.last = 1 << 63, -1
        self.volume = self.notional = 0.0
        self.buy_volume = self.sell_volume = self.buy_notional = self.sell_notional = 0.0
        self.trades = self.buy_trades = self.sell_trades = 0
        self.revision = 0
        self.published = False

    def add(self, ts: int, price: float, size: float, side: str | None, count: int) -> None:
        if ts < self.first:
            self.first, self.open = ts, price
        if ts >= self.last:
            self.last, self.close = ts, price
        if price > self.high:
            self.high = price
        if price < self.low:
            self.low = price
        notional = price * size
        self.volume += size
        self.notional += notional
        self.trades += count
        if side == "buy":
            self.buy_trades += count
            self.buy_volume += size
            self.buy_notional += notional
        elif side == "sell":
            self.sell_trades += count
            self.sell_volume += size
            self.sell_notional += notional

    def merge(self, other: "_Sum") -> None:
        if other.first < self.first:
            self.first, self.open = other.first, other.open
        if other.last >= self.last:
            self.last, self.close = other.last, other.close
        self.high, self.low = max(self.high, other.high), min(self.low, other.low)
        for name in (
            "volume", "notional", "trades", "buy_trades", "sell_trades",
            "buy_volume", "sell_volume", "buy_notional", "sell_notional",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))


class _Series:
    """Candles of one interval: those still open by start, and the last closed ones for revisions."""

    __slots__ = ("closed", "closed_until", "interval", "kept", "length", "open", "said", "touched")

    def __init__(self, interval: str, kept: int) -> None:
        self.interval = interval
        self.length = interval_ns(interval)
        self.kept = kept
        self.open: dict[int, _Sum] = {}
        self.closed: dict[int, _Sum] = {}
        self.closed_until = 0
        self.touched = False
        self.said = (-1, 0, 0.0)  # start, trades and volume of the last forming candle

    def at(self, ts: int) -> _Sum:
        start = ts - ts % self.length
        try:
            return self.open[start]
        except KeyError:
            total = self.open[start] = _Sum(start)
            return total

    def keep(self, total: _Sum) -> None:
        self.closed[total.start] = total
        if len(self.closed) > self.kept:
            del self.closed[min(self.closed)]

    def late(self, start: int) -> _Sum | None:
        """Return the closed candle at `start`, an empty one where no trade had come; None when it is too old."""
        total = self.closed.get(start)
        if total is None and start >= self.closed_until - self.kept * self.length:
            total = _Sum(start)
            self.keep(total)
        return total


class CandleBuilder:
    """Builds the candles of one symbol.

    `intervals` are names whose lengths are multiples of the shortest; `grace_ns` is how long after its end a candle
    waits for late trades. `quoted`: sizes are in quote units, so that they are the notional themselves.
    """

    KEPT_BASE = 120
    KEPT = 3
    DUE_MAX = 1000
    GAPS_MAX = 500

    def __init__(
        self, venue: str, symbol: str, intervals: Sequence[str], grace_ns: int, *, quoted: bool = False
    ) -> None:
        self.venue, self.symbol, self.grace_ns, self.quoted = venue, symbol, grace_ns, quoted
        ordered = sorted(intervals, key=interval_ns)
        self._base = _Series(ordered[0], self.KEPT_BASE)
        self._longer = [_Series(name, self.KEPT) for name in ordered[1:]]
        self._last = self._longer[-1] if self._longer else self._base
        self._current = _Sum(-1)
        self._limit = 0  # end of the current base candle, ns
        self._gaps: list[tuple[int, int]] = [(0, _OPEN)]
        self._again: list[Due] = []
        self.too_late = 0
        """Trades that a closed candle misses."""

    def covered(self, now: int) -> None:
        """Trades are complete from `now` (int ns) on."""
        self._gaps = [(start, min(end, now)) for start, end in self._gaps]
        for series in (self._base, *self._longer):
            # What lies before the first coverage is history, not a gap: only the interval cut by it is asked for.
            series.closed_until = series.closed_until or now - now % series.length

    def uncovered(self, since: int) -> None:
        """Trades may be missing from `since` (int ns) until `covered` is called.

        Where `since` lies in candles that are closed, they were told too early: they become due as well.
        """
        for series in (self._base, *self._longer):
            first = max(since - since % series.length, series.closed_until - self.DUE_MAX * series.length)
            self._again += [
                Due(series.interval, start)
                for start in range(first, series.closed_until, series.length)
                if self._complete(start, series.length)
            ]
        # Gaps that touch become one: for whole candles that is the same.
        since -= since % self._base.length
        while self._gaps and (self._gaps[-1][1] >= since or len(self._gaps) >= self.GAPS_MAX):
            since = min(since, self._gaps.pop()[0])
        self._gaps.append((since, _OPEN))

    def revise(self, interval: str, start: int) -> int:
        """Note that the venue told the candle of `start`; returns the revision that it is."""
        series = next(series for series in (self._base, *self._longer) if series.interval == interval)
        total = series.closed.get(start)
        if total is None:
            return 0
        total.revision += total.published
        total.published = True
        return total.revision

    def add(self, trade: Trade) -> list[Candle]:
        """Count a trade. Returns revisions of closed candles that it belongs to, usually none."""
        ts = trade.ts_event if trade.ts_event is not None else trade.ts_recv
        if self._limit - self._base.length <= ts < self._limit:
            self._current.add(ts, trade.price, trade.size, trade.side, trade.count)
            return []
        if ts < self._base.closed_until:
            return self._late(ts, trade)
        if not self._base.closed_until:
            return []  # before the first coverage no candle can be whole
        self._current = self._base.at(ts)
        self._limit = self._current.start + self._base.length
        self._current.add(ts, trade.price, trade.size, trade.side, trade.count)
        return []

    def close(self, now: int) -> tuple[list[Candle], list[Due]]:
        """Close what ended at least the grace before `now` (int ns)."""
        candles: list[Candle] = []
        due, self._again = self._again, []
        for series in (self._base, *self._longer):
            until = now - self.grace_ns
            until -= until % series.length
            since = series.closed_until
            if until <= since or not since:
                continue
            series.closed_until = until
            for start in sorted(start for start in series.open if start < until):
                total = series.open.pop(start)
                series.keep(total)
                if series is self._base:
                    self._add_to_longer(total)
                if self._complete(start, series.length):
                    total.published = True
                    candles.append(self._candle(CANDLE_TYPES[series.interval], total, now))
            due += self._due(series, since, until)
        if self._current.start < self._base.closed_until:
            self._limit = 0
        return candles, due

    def _due(self, series: _Series, since: int, until: int) -> list[Due]:
        if not self._gaps:
            return []
        first = max(since, until - self.DUE_MAX * series.length)
        due = [
            Due(series.interval, start)
            for start in range(first, until, series.length)
            if not self._complete(start, series.length)
        ]
        if series is self._last:
            self._gaps = [gap for gap in self._gaps if gap[1] > until]
        return due

    def forming(self, now: int) -> list[Candle]:
        """Return the open candles that changed since the last call, those that miss trades left out."""
        result: list[Candle] = []
        fresh = bool(self._base.open)
        for series in (self._base, *self._longer):
            start = now - now % series.length
            if not (fresh or series.touched) or not self._complete(start, series.length):
                continue
            series.touched = False
            total = _Sum(start)
            parts = [series.open[start]] if start in series.open else []
            if series is not self._base:
                parts += [part for begin, part in self._base.open.items() if start <= begin < start + series.length]
            for part in parts:
                total.merge(part)
            said = (start, total.trades, total.volume)
            if total.trades and said != series.said:
                series.said = said
                result.append(self._candle(FORMING_TYPES[series.interval], total, now))
        return result

    def _add_to_longer(self, total: _Sum) -> None:
        for series in self._longer:
            series.at(total.start).merge(total)
            series.touched = True

    def _late(self, ts: int, trade: Trade) -> list[Candle]:
        result: list[Candle] = []
        placed = True
        for series in (self._base, *self._longer):
            start = ts - ts % series.length
            if start >= series.closed_until:
                series.at(ts).add(ts, trade.price, trade.size, trade.side, trade.count)
                series.touched = True
            elif (total := series.late(start)) is not None:
                total.add(ts, trade.price, trade.size, trade.side, trade.count)
                if self._complete(start, series.length):
                    total.revision += total.published
                    total.published = True
                    result.append(self._candle(CANDLE_TYPES[series.interval], total, trade.ts_recv))
            else:
                placed = False
        self.too_late += not placed
        return result

    def _complete(self, start: int, length: int) -> bool:
        return not any(begin < start + length and end > start for begin, end in self._gaps)

    def _candle(self, kind: type[Candle], total: _Sum, now: int) -> Candle:
        candle = kind(
            venue=self.venue,
            symbol=self.symbol,
            id="",
            ts_event=total.last,
            ts_recv=now,
            ts_pub=0,
            start=total.start,
            open=total.open,
            high=total.high,
            low=total.low,
            close=total.close,
            volume=total.volume,
            notional=total.notional,
            vwap=total.notional / total.volume if total.volume else None,
            trades=total.trades,
            buy_trades=total.buy_trades,
            sell_trades=total.sell_trades,
            buy_volume=total.buy_volume,
            sell_volume=total.sell_volume,
            buy_notional=total.buy_notional,
            sell_notional=total.sell_notional,
            source="trades",
            revision=total.revision,
        )
        if not self.quoted:
            return candle
        return replace(
            candle,
            notional=total.volume,
            vwap=None,
            buy_notional=total.buy_volume,
            sell_notional=total.sell_volume,
        )
