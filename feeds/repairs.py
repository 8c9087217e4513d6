"""Candles that only the venue can tell, gathered until it can be asked. Pure."""

from feeds.adapter import Adapter, Fetch
from hub.candles import Due
from hub.instruments import Instrument
from hub.intervals import interval_ns

__all__ = ["Repairs"]


class Repairs:
    """Collects due candles and turns them into few fetches.

    Intervals the venue has no candles for, and those below a minute, cannot be repaired: they are left out, and
    `skipped` counts them.
    """

    SHORTEST_S = 60

    def __init__(self, adapter: type[Adapter]) -> None:
        self._adapter = adapter
        self._due: dict[tuple[str, str], tuple[Instrument, set[int]]] = {}
        self.skipped = 0

    def add(self, instrument: Instrument, due: Due) -> None:
        length = interval_ns(due.interval)
        if due.interval not in self._adapter.candle_intervals or length < self.SHORTEST_S * 1_000_000_000:
            self.skipped += 1
            return
        _, starts = self._due.setdefault((instrument.symbol, due.interval), (instrument, set()))
        starts.add(due.start)

    def take(self) -> list[tuple[Fetch, frozenset[int]]]:
        """Return the fetches to make now, each with the starts that are wanted from it."""
        result = []
        for (_, interval), (instrument, starts) in self._due.items():
            length = interval_ns(interval)
            left = sorted(starts, reverse=True)
            while left:
                first = left[-1]
                wanted = []
                while left and left[-1] < first + self._adapter.candles_per_fetch * length:
                    wanted.append(left.pop())
                count = (wanted[-1] - first) // length + 1
                fetch = self._adapter.candles_fetch(instrument, interval, first, count)
                if fetch is not None:
                    result.append((fetch, frozenset(wanted)))
        self._due.clear()
        return result
