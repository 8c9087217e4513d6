"""Between venues."""

from collections.abc import Mapping

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
        gap = _gap(venues)
        mid = quote.mid
        self._value = gap / mid * BPS if gap is not None and isinstance(mid, float) and mid > 0 else None

    def numbers(self, now: int) -> Numbers:
        return {"cross_spread_bps": self._value}


def _gap(venues: Mapping[str, Quote]) -> float | None:
    """Return the highest difference between different venues: of the two best bids and the two best asks."""
    bids = sorted([(-q.bid, name) for name, q in venues.items() if q.bid is not None])[:2]
    asks = sorted([(q.ask, name) for name, q in venues.items() if q.ask is not None])[:2]
    if bids and asks and bids[0][1] != asks[0][1]:
        return -bids[0][0] - asks[0][0]
    gaps = [-bid - ask for bid, buyer in bids for ask, seller in asks if buyer != seller]
    return max(gaps, default=None)
