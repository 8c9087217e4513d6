"""Trades to candles, for one symbol and several intervals at once. Pure: time comes in.

Each trade touches one accumulator only, that of the shortest interval; when it closes it is added to the longer ones.
Candles close by the clock plus a grace, so a quiet market closes them too. A trade that is late changes what it
belongs to: an open candle silently, a closed one by a revision. A candle during which trades may have been missed is
never published as built from trades; it is asked of the venue instead (`Due`).

Empty intervals, by setting: `skip`, no trades, no candle; `flat`, open, high, low and close repeat the last close and
volumes are 0. Where that close is not known, as at the start and after a gap, there is no flat candle until it is.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from hub.intervals import interval_ns
from hub.model import CANDLE_TYPES, FORMING_TYPES, Candle, Trade, kind_of
from hub.sums import SavedSeries, Series, Sum

__all__ = ["CandleBuilder", "Due", "Empty", "SavedCandles", "is_empty"]

Empty: TypeAlias = Literal["skip", "flat"]

_OPEN = 1 << 63
"""The end, int ns, of what has not ended yet."""


class Due(Struct, frozen=True, gc=False):
    """A candle that only the venue can tell: `start` int ns UTC."""

    interval: str
    start: int


class SavedCandles(Struct, frozen=True):
    """What a builder knows, over a restart. `gaps` and `doubts` are (begin, end) in ns: where trades may be missing;
    `again` are candles that are to be asked for."""

    series: dict[str, SavedSeries]
    gaps: list[tuple[int, int]]
    doubts: list[tuple[int, int]]
    again: list[Due]


def is_empty(candle: Candle) -> bool:
    """Tell whether a candle stands for an interval without trades, as some venues give."""
    return candle.trades == 0 or (candle.trades is None and candle.volume == 0)


class CandleBuilder:
    """Builds the candles of one symbol.

    `intervals` are names whose lengths are multiples of the shortest; `grace_ns` is how long after its end a candle
    waits for late trades. `quoted`: sizes are in quote units, so that they are the notional themselves. At most
    `due_max` candles of an interval become due at once, the newest.
    """

    KEPT_BASE = 120
    KEPT = 3
    GAPS_MAX = 500

    def __init__(
        self,
        venue: str,
        symbol: str,
        intervals: Sequence[str],
        grace_ns: int,
        *,
        quoted: bool = False,
        empty: Empty = "skip",
        due_max: int = 1000,
    ) -> None:
        self.venue, self.symbol, self.grace_ns, self.quoted = venue, symbol, grace_ns, quoted
        self.flat, self.due_max = empty == "flat", due_max
        ordered = sorted(intervals, key=interval_ns)
        self._base = Series(ordered[0], self.KEPT_BASE)
        self._longer = [Series(name, self.KEPT) for name in ordered[1:]]
        self._all = (self._base, *self._longer)
        self._last = self._all[-1]
        self._current = Sum(-1)
        self._limit = 0  # end of the current base candle, ns
        self._gaps: list[tuple[int, int]] = [(0, _OPEN)]
        self._doubts: list[tuple[int, int]] = []
        self._floor = 0  # trades before were counted by an earlier run
        self._again: list[Due] = []
        self.too_late = 0
        """Trades that a closed candle misses."""

    # what may be missing

    def covered(self, now: int) -> None:
        """Trades are complete from `now` (int ns) on."""
        self._gaps = [(start, min(end, now)) for start, end in self._gaps]
        self._doubts = [(start, min(end, now)) for start, end in self._doubts]
        for series in self._all:
            # What lies before the first coverage is history, not a gap: only the interval cut by it is asked for.
            series.closed_until = series.closed_until or now - now % series.length

    def uncovered(self, since: int, *, provable: bool = False) -> None:
        """Trades may be missing from `since` (int ns) until `covered` is called.

        Where `since` lies in candles that are closed, they were told too early: they become due as well. `provable`:
        the next trade will show whether any was missed, and `judged` is called then.
        """
        for series in self._all:
            first = max(since - since % series.length, series.closed_until - self.due_max * series.length)
            for start in range(first, series.closed_until, series.length):
                if self._complete(start, series.length):
                    self._again.append(Due(series.interval, start))
                    if start in series.closed:
                        series.closed[start].known = False
        gaps = self._doubts if provable else self._gaps
        # Gaps that touch become one: for whole candles that is the same.
        since -= since % self._base.length
        while gaps and (gaps[-1][1] >= since or len(gaps) >= self.GAPS_MAX):
            since = min(since, gaps.pop()[0])
        gaps.append((since, _OPEN))

    @property
    def doubtful(self) -> bool:
        """Tell whether the next trade decides if trades were missed."""
        return bool(self._doubts)

    def judged(self, whole: bool, now: int) -> list[Candle]:
        """Nothing was missed in what is doubtful, or something was. Returns empty candles that were held back."""
        if not whole:
            self._gaps += self._doubts
        self._doubts = []
        self._again = [due for due in self._again if not self._complete(due.start, interval_ns(due.interval))]
        result: list[Candle] = []
        for series in self._all if self.flat else ():
            for total in list(series.closed.values()):
                if total.published and not total.known and self._complete(total.start, series.length):
                    total.known = True
                    result += self._repeated(series, total, now)
        return result

    def _complete(self, start: int, length: int) -> bool:
        if not self._gaps and not self._doubts:
            return True
        end = start + length
        return not any(a < end and b > start for gaps in (self._gaps, self._doubts) for a, b in gaps)

    # over a restart

    def save(self) -> SavedCandles:
        """Return what `restore` needs; nothing may be added afterwards."""
        series = {each.interval: each.save() for each in self._all}
        return SavedCandles(series, self._gaps, self._doubts, self._again)

    def restore(self, saved: SavedCandles, floor: int = 0) -> bool:
        """Go on where an earlier run ended; False where it built other intervals.

        Trades before `floor` (int ns) count no more: the earlier run had them, or its gap says that it may not.
        """
        if saved.series.keys() != {series.interval for series in self._all}:
            return False  # a longer one that it did not have would miss the trades in its shorter ones
        for series in self._all:
            series.restore(saved.series[series.interval])
        self._gaps, self._doubts = list(saved.gaps), list(saved.doubts)
        self._again, self._floor = list(saved.again), floor
        return True

    def resume_after(self, starts: Mapping[str, int]) -> None:
        """Ask the venue for what came after these candles (interval -> start of the last one told, int ns)."""
        for series in self._all:
            if series.interval in starts:
                series.closed_until = max(series.closed_until, starts[series.interval] + series.length)

    # trades

    def add(self, trade: Trade) -> list[Candle]:
        """Count a trade. Returns revisions of closed candles that it belongs to, usually none."""
        ts = trade.ts_event if trade.ts_event is not None else trade.ts_recv
        if self._limit - self._base.length <= ts < self._limit:
            self._current.add(ts, trade.price, trade.size, trade.side, trade.count)
            return []
        if ts < self._floor:
            return []
        if ts < self._base.closed_until:
            return self._late(ts, trade)
        if not self._base.closed_until:
            return []  # before the first coverage no candle can be whole
        self._current = self._base.at(ts)
        self._limit = self._current.start + self._base.length
        self._current.add(ts, trade.price, trade.size, trade.side, trade.count)
        return []

    def _late(self, ts: int, trade: Trade) -> list[Candle]:
        result: list[Candle] = []
        placed = True
        for series in self._all:
            start = ts - ts % series.length
            if start >= series.closed_until:
                series.at(ts).add(ts, trade.price, trade.size, trade.side, trade.count)
                series.touched = True
            elif (total := series.late(start)) is not None:
                total.add(ts, trade.price, trade.size, trade.side, trade.count)
                if self._complete(start, series.length):
                    total.tell()
                    total.known = True
                    result.append(self._candle(CANDLE_TYPES[series.interval], total, trade.ts_recv))
                    result += self._repeated(series, total, trade.ts_recv)
            else:
                placed = False
        self.too_late += not placed
        return result

    # time

    def close(self, now: int) -> tuple[list[Candle], list[Due]]:
        """Close what ended at least the grace before `now` (int ns)."""
        candles: list[Candle] = []
        due, self._again = self._again, []
        for series in self._all:
            until = now - self.grace_ns
            until -= until % series.length
            since = series.closed_until
            if until <= since or not since:
                continue
            series.closed_until = until
            for start in self._ended(series, since, until):
                total = self._close(series, start)
                if total.published:
                    candles.append(self._candle(CANDLE_TYPES[series.interval], total, now))
            due += self._due(series, since, until)
        if self._current.start < self._base.closed_until:
            self._limit = 0
        return candles, due

    def _ended(self, series: Series, since: int, until: int) -> Sequence[int]:
        ended = {start for start in series.open if start < until}
        if self.flat:
            most = max(series.kept, self.due_max)
            ended.update(range(max(since, until - most * series.length), until, series.length))
        return sorted(ended)

    def _close(self, series: Series, start: int) -> Sum:
        total = series.open.pop(start, None) or Sum(start)
        if series is self._base and not total.empty:
            self._add_to_longer(total)
        if self._complete(start, series.length):
            before = series.before(start) if total.empty else None
            if before is not None:
                total.repeat(before.close)
            total.known = total.published = not total.empty or before is not None
        series.keep(total)
        return total

    def _due(self, series: Series, since: int, until: int) -> list[Due]:
        if not self._gaps and not self._doubts:
            return []
        first = max(since, until - self.due_max * series.length)
        due = [
            Due(series.interval, start)
            for start in range(first, until, series.length)
            if not self._complete(start, series.length)
        ]
        if series is self._last:
            # For as long as a late trade may still revise a candle it must be known that others were missed.
            kept = until - series.kept * series.length
            self._gaps = [gap for gap in self._gaps if gap[1] > kept]
            self._doubts = [gap for gap in self._doubts if gap[1] > kept]
        return due

    def spoilt(self, now: int) -> list[str]:
        """Return intervals whose open candle was told, by this run or an earlier one, and may miss trades since."""
        if not self._gaps and not self._doubts:
            return []
        found = []
        for series in self._all:
            start = series.said[0] if series.said[0] >= 0 else now - now % series.length
            if not self._complete(start, series.length):
                series.said = (_OPEN, 0, 0.0)
                series.touched = True  # told again, should it turn out that nothing was missed
                found.append(series.interval)
        return found

    def forming(self, now: int) -> list[Candle]:
        """Return the open candles that changed since the last call, those that miss trades left out."""
        result: list[Candle] = []
        fresh = bool(self._base.open)
        for series in self._all:
            start = now - now % series.length
            if not (fresh or series.touched) or not self._complete(start, series.length):
                continue
            series.touched = False
            total = Sum(start)
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

    def _add_to_longer(self, total: Sum) -> None:
        for series in self._longer:
            series.at(total.start).merge(total)
            series.touched = True

    # the venue's candles

    def told(self, candle: Candle) -> list[Candle]:
        """Take a candle that the venue told. Returns what to publish: it with its revision, and empty ones after it.

        One without trades is published only where empty intervals have candles, or where another was told before.
        """
        interval = kind_of(candle).partition(".")[2]
        series = next(series for series in self._all if series.interval == interval)
        total = series.late(candle.start) if candle.start < series.closed_until else None
        if total is None:
            total = Sum(candle.start)
        if is_empty(candle) and not self.flat and not total.published:
            return []
        total.tell()
        total.close, total.known = candle.close, True
        if not is_empty(candle):
            total.last = max(total.last, candle.start)
        return [replace(candle, revision=total.revision), *self._repeated(series, total, candle.ts_recv)]

    def _repeated(self, series: Series, before: Sum, now: int) -> list[Candle]:
        """Tell (again) the empty candles after `before`: its close was not known, or was another."""
        result: list[Candle] = []
        while self.flat:
            total = series.closed.get(before.start + series.length)
            if total is None or not total.empty or not self._complete(total.start, series.length):
                break
            if total.published and total.known and total.close == before.close:
                break
            total.repeat(before.close)
            total.tell()
            result.append(self._candle(CANDLE_TYPES[series.interval], total, now))
            before = total
        return result

    def _candle(self, kind: type[Candle], total: Sum, now: int) -> Candle:
        return total.candle(kind, self.venue, self.symbol, now, quoted=self.quoted)
