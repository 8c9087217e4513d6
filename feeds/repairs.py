"""Candles that only the venue can tell, gathered until it can be asked, and what its answers leave open. Pure."""

import logging
from collections import Counter
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from feeds.adapter import Adapter, Fetch
from hub.candles import Due, is_empty
from hub.instruments import Instrument
from hub.intervals import NS_PER_S, interval_ns
from hub.model import Candle

__all__ = ["Repairs", "Request", "flat_candles"]

log = logging.getLogger(__name__)

SAY_NS = 60 * NS_PER_S


class Request(Struct, frozen=True, eq=False, gc=False):
    """A fetch on its way, and the starts (int ns) that are wanted from it."""

    fetch: Fetch
    starts: tuple[int, ...]
    again: bool


def flat_candles(before: Candle, until: int, length: int) -> list[Candle]:
    """Return the candles without trades between `before` and `until` (int ns, excluded), as the venue left them out."""
    counts = None if before.trades is None else 0
    flat = replace(
        before, id="", ts_event=None, open=before.close, high=before.close, low=before.close, volume=0.0,
        notional=None if before.notional is None else 0.0, vwap=None, trades=counts,
        buy_trades=None, sell_trades=None, buy_volume=None, sell_volume=None, buy_notional=None, sell_notional=None,
        revision=0,
    )  # fmt: skip
    return [replace(flat, start=start) for start in range(before.start + length, until, length)]


class Repairs:
    """Collects due candles, turns them into few fetches and sees to it that none is forgotten.

    A wanted candle that is not in the answer, with none after it either, is asked for once more: venues take a moment.
    One that the venue left out between others had no trades. What stays open is counted in `counters`:
    `candles_missing` where the venue did not tell it, `candles_incomplete` where it cannot be asked (intervals below a
    minute, or that it does not have, or times that it no longer tells).
    """

    SHORTEST_S = 60
    AGAIN_NS = 20 * NS_PER_S
    PATIENCE_NS = 900 * NS_PER_S

    def __init__(self, adapter: type[Adapter], counters: Counter[str], *, flat: bool = False) -> None:
        self._adapter, self._counters, self._flat = adapter, counters, flat
        self._due: dict[tuple[str, str], tuple[Instrument, set[int]]] = {}
        self._later: list[tuple[int, Request]] = []
        self._open: dict[Request, int] = {}
        self._unsaid: Counter[str] = Counter()
        self._said_at = 0

    @classmethod
    def intervals(cls, adapter: type[Adapter]) -> frozenset[str]:
        """Return the intervals that the venue can be asked for."""
        shortest = cls.SHORTEST_S * NS_PER_S
        return frozenset(name for name in adapter.candle_intervals if interval_ns(name) >= shortest)

    def add(self, instrument: Instrument, due: Due) -> None:
        if due.interval not in self.intervals(self._adapter):
            self._counters["candles_incomplete"] += 1
            return
        _, starts = self._due.setdefault((instrument.symbol, due.interval), (instrument, set()))
        starts.add(due.start)

    def take(self, now: int) -> list[Request]:
        """Return the requests to make now (int ns)."""
        result: list[Request] = []
        for (_, interval), (instrument, starts) in self._due.items():
            length, reach = interval_ns(interval), self._adapter.candle_reach
            left = sorted(starts, reverse=True)
            while reach and left and left[-1] < now - reach * length:
                left.pop()
                self._counters["candles_incomplete"] += 1
            while left:
                first = left[-1]
                wanted = []
                while left and left[-1] < first + self._adapter.candles_per_fetch * length:
                    wanted.append(left.pop())
                result += self._request(instrument, interval, wanted, wanted[-1], now)
        self._due.clear()
        for _, request in [entry for entry in self._later if entry[0] <= now]:
            assert request.fetch.instrument is not None
            # Up to now: a later candle tells that there were no trades in one that is left out.
            result += self._request(
                request.fetch.instrument, request.fetch.interval, request.starts, now, now, again=True
            )
        self._later = [entry for entry in self._later if entry[0] > now]
        self._open |= dict.fromkeys(result, now + self.PATIENCE_NS)
        return result

    def _request(
        self, instrument: Instrument, interval: str, starts: Sequence[int], last: int, now: int, *, again: bool = False
    ) -> list[Request]:
        count = min((last - starts[0]) // interval_ns(interval) + 1, self._adapter.candles_per_fetch)
        fetch = self._adapter.candles_fetch(instrument, interval, starts[0], count, now)
        return [Request(fetch, tuple(starts), again)] if fetch is not None else []

    def waits_for(self, request: Request) -> bool:
        return request in self._open

    def answered(self, request: Request, candles: Sequence[Candle], now: int) -> list[Candle]:
        """Take the venue's answer; returns the wanted candles, oldest first."""
        if self._open.pop(request, None) is None:
            return []
        found = {candle.start: candle for candle in candles}
        newest = max(found, default=-1)
        if self._flat:
            for candle in sorted(candles, key=lambda each: each.start):
                following = min((start for start in found if start > candle.start), default=0)
                length = interval_ns(request.fetch.interval)
                found |= {each.start: each for each in flat_candles(candle, following, length)}
        missing = tuple(start for start in request.starts if start > newest)
        if missing and not request.again:
            self._later.append((now + self.AGAIN_NS, Request(request.fetch, missing, True)))
        elif missing:
            self._missing(request, len(missing))
        told = [found[start] for start in request.starts if start in found]
        self._counters["candles_empty"] += sum(start < newest and start not in found for start in request.starts)
        self._counters["candles_empty"] += sum(map(is_empty, told))
        return told

    def expire(self, now: int) -> None:
        """Give up what was asked for in vain for too long, and say what is missing."""
        for request in [request for request, until in self._open.items() if until <= now]:
            del self._open[request]
            self._missing(request, len(request.starts))
        self._say(now)

    def _missing(self, request: Request, count: int) -> None:
        fetch = request.fetch
        assert fetch.instrument is not None
        self._counters["candles_missing"] += count
        self._unsaid[f"{fetch.instrument.symbol} {fetch.interval}"] += count

    def _say(self, now: int) -> None:
        """Log what is missing, in one line a minute: of symbols that nobody trades much may be."""
        if not self._unsaid or now < self._said_at + SAY_NS:
            return
        self._said_at = now
        count, some = self._unsaid.total(), ", ".join(sorted(self._unsaid)[:5])
        log.warning("the venue does not tell candles venue=%s count=%d of=%s", self._adapter.venue, count, some)
        self._unsaid.clear()
