"""What the trades of an interval add up to, and the row of such intervals of one length. Pure; see hub/candles.py."""

from dataclasses import dataclass
from math import inf

from msgspec import Struct

from hub.intervals import interval_ns
from hub.model import Candle

__all__ = ["SavedSeries", "Series", "Sum"]


@dataclass(slots=True)
class Sum:
    """What the trades of one interval add up to. `first` and `last` are ns: which trade opens, which closes.

    `published`: it was told. `known`: its close is right, so that empty intervals after it may repeat it.
    """

    start: int
    open: float = 0.0
    close: float = 0.0
    high: float = -inf
    low: float = inf
    first: int = 1 << 63
    last: int = -1
    volume: float = 0.0
    notional: float = 0.0
    trades: int = 0
    buy_trades: int = 0
    sell_trades: int = 0
    buy_volume: float = 0.0
    sell_volume: float = 0.0
    buy_notional: float = 0.0
    sell_notional: float = 0.0
    revision: int = 0
    published: bool = False
    known: bool = False

    @property
    def empty(self) -> bool:
        return self.last < 0

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

    def merge(self, other: "Sum") -> None:
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

    def repeat(self, close: float) -> None:
        """Be the candle without trades that follows a `close`."""
        self.open = self.close = close
        self.known = True

    def tell(self) -> None:
        """Note that it is told now, as a revision where it was before."""
        self.revision += self.published
        self.published = True

    def candle(self, kind: type[Candle], venue: str, symbol: str, now: int, *, quoted: bool) -> Candle:
        """Return the message. `quoted`: sizes are in quote units, the notional themselves."""
        return kind(
            venue=venue,
            symbol=symbol,
            id="",
            ts_event=None if self.empty else self.last,
            ts_recv=now,
            ts_pub=0,
            start=self.start,
            open=self.open,
            high=self.close if self.empty else self.high,
            low=self.close if self.empty else self.low,
            close=self.close,
            volume=self.volume,
            notional=self.volume if quoted else self.notional,
            vwap=self.notional / self.volume if self.volume and not quoted else None,
            trades=self.trades,
            buy_trades=self.buy_trades,
            sell_trades=self.sell_trades,
            buy_volume=self.buy_volume,
            sell_volume=self.sell_volume,
            buy_notional=self.buy_volume if quoted else self.buy_notional,
            sell_notional=self.sell_volume if quoted else self.sell_notional,
            source="trades",
            revision=self.revision,
        )


class SavedSeries(Struct, frozen=True):
    """One interval's candles over a restart."""

    closed_until: int
    open: list[Sum]
    closed: list[Sum]


class Series:
    """Candles of one interval: those still open by start, and the last `kept` closed ones for revisions."""

    __slots__ = ("closed", "closed_until", "interval", "kept", "length", "oldest", "open", "said", "touched")

    #: How many intervals back candles can be revised after a restart.
    SAVED = 5

    def __init__(self, interval: str, kept: int) -> None:
        self.interval = interval
        self.length = interval_ns(interval)
        self.kept = kept
        self.open: dict[int, Sum] = {}
        self.closed: dict[int, Sum] = {}
        self.closed_until = self.oldest = 0
        self.touched = False
        # Start, trades and volume of the last forming candle; -1: an earlier run may have told one.
        self.said = (-1, 0, 0.0)

    def at(self, ts: int) -> Sum:
        start = ts - ts % self.length
        try:
            return self.open[start]
        except KeyError:
            total = self.open[start] = Sum(start)
            return total

    def keep(self, total: Sum) -> None:
        self.closed[total.start] = total
        if len(self.closed) > self.kept:
            del self.closed[min(self.closed)]

    def late(self, start: int) -> Sum | None:
        """Return the closed candle at `start`, an empty one where no trade had come; None when it is too old."""
        total = self.closed.get(start)
        if total is None and start >= max(self.closed_until - self.kept * self.length, self.oldest):
            total = Sum(start)
            self.keep(total)
        return total

    def before(self, start: int) -> Sum | None:
        """Return the closed candle before `start`, where its close is known."""
        total = self.closed.get(start - self.length)
        return total if total is not None and total.known else None

    def save(self) -> SavedSeries:
        oldest = self.closed_until - self.SAVED * self.length
        newest = [total for start, total in self.closed.items() if start >= oldest]
        return SavedSeries(self.closed_until, list(self.open.values()), newest)

    def restore(self, saved: SavedSeries) -> None:
        self.closed_until = saved.closed_until
        # What was told before is not known any more: a late trade cannot be added to it.
        self.oldest = saved.closed_until - self.SAVED * self.length
        self.open = {total.start: total for total in saved.open}
        self.closed = {total.start: total for total in saved.closed}
