"""Between venues."""

from collections.abc import Iterator, Mapping

from hub.analytics.measure import Measure, Numbers
from hub.analytics.top import BPS
from hub.model import Quote

__all__ = ["CrossSpread"]


class CrossSpread(Measure):
    """`cross_spread_bps`: the highest of (bid of one venue - ask of another) / consolidated mid, in bps.

    Positive: what one venue asks, another bids more for. None with fewer than two venues.
    """

    _value: float | None = None

    def on_quote(self, quote: Quote, venues: Mapping[str, Quote], now: int) -> None:
        gap = max(_gaps(venues), default=None)
        mid = quote.mid
        self._value = gap / mid * BPS if gap is not None and isinstance(mid, float) and mid > 0 else None

    def numbers(self, now: int) -> Numbers:
        return {"cross_spread_bps": self._value}


def _gaps(venues: Mapping[str, Quote]) -> Iterator[float]:
    """Yield the differences among which the highest is: of the two best bids and the two best asks."""
    bids = sorted(((q.bid, name) for name, q in venues.items() if q.bid is not None), reverse=True)[:2]
    asks = sorted((q.ask, name) for name, q in venues.items() if q.ask is not None)[:2]
    for bid, buyer in bids:
        for ask, seller in asks:
            if buyer != seller:
                yield bid - ask
