"""Candles of one consolidated symbol, from the trades of the venues that count. Pure.

A candle is whole when the same venues counted from before its start until after its end, with none of their trades
missing. Whenever a venue begins or ends to count, or lost trades, the candles of that moment are left out: nobody could
tell them later, because no venue knows the others' trades.
"""

from collections.abc import Sequence

from hub.candles import CandleBuilder
from hub.config import CandleSettings
from hub.consolidator.health import Source
from hub.intervals import NS_PER_MS, NS_PER_S
from hub.keys import ALL_VENUES
from hub.model import Candle, Trade

__all__ = ["DOUBT_NS", "Flow"]

#: A pulse lives 3 s and is looked at four times a second: so long ago a venue found dead may have died.
DOUBT_NS = 3_500 * NS_PER_MS


class Flow:
    """Trades to candles."""

    def __init__(self, symbol: str, settings: CandleSettings, grace_ms: int, *, quoted: bool) -> None:
        # Nobody can be asked for what is missing: nothing becomes due.
        self._builder = CandleBuilder(
            ALL_VENUES, symbol, settings.intervals, grace_ms * NS_PER_MS, quoted=quoted, empty=settings.empty, due_max=0
        )
        self._sources: set[Source] = set()
        self._forming_gap = int(NS_PER_S / settings.forming_per_s)
        self._forming_at = 0

    def counts(self, source: Source, live: bool, sound_ns: int, now: int) -> None:
        """Note whether the trades of `source` come; `sound_ns` is when it was last known to be well."""
        if live is (source in self._sources):
            return
        if live:
            self._sources.add(source)
            self._cut(now, now)
        else:
            self._sources.remove(source)
            self._cut(min(sound_ns, now), now)

    def lost(self, source: Source, sound_ns: int, now: int) -> None:
        """Note that trades of `source` are missing, from after `sound_ns` at the earliest."""
        if source in self._sources:
            self._cut(min(sound_ns, now), now)

    def _cut(self, since: int, now: int) -> None:
        self._builder.uncovered(since)
        if self._sources:
            self._builder.covered(now)

    def add(self, source: Source, trade: Trade) -> Sequence[Candle]:
        """Count a trade; returns revisions of closed candles."""
        return self._builder.add(trade) if source in self._sources else ()

    def tick(self, now: int) -> list[Candle]:
        """Return candles that closed, and open ones when it is their turn."""
        candles, _ = self._builder.close(now)
        if now - self._forming_at >= self._forming_gap and self._sources:
            self._forming_at = now
            candles += self._builder.forming(now)
        return candles

    def spoilt(self, now: int) -> list[str]:
        """Return intervals whose open candle was told and is known to be whole no more."""
        return self._builder.spoilt(now)
