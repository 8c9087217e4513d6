"""The best level: spread, microprice, imbalance. The functions also make the fields of every consolidated quote."""

from collections.abc import Mapping, Sequence

from hub.analytics.measure import Measure, Numbers
from hub.model import Depth, Level, Quote

__all__ = ["BPS", "Imbalance", "Microprice", "Spread", "imbalance_of", "microprice_of", "sizes_of", "spread_bps_of"]

BPS = 10_000.0


def spread_bps_of(bid: float, ask: float) -> float | None:
    """Return (ask - bid) / mid in bps; negative where venues overlap, None unless mid is positive."""
    mid = (bid + ask) / 2
    return (ask - bid) / mid * BPS if mid > 0 else None


def microprice_of(bid: float, bid_size: float | None, ask: float, ask_size: float | None) -> float | None:
    """Return (bid * ask_size + ask * bid_size) / (bid_size + ask_size), in quote units; None without sizes."""
    if bid_size is None or ask_size is None or not bid_size + ask_size > 0:
        return None
    return (bid * ask_size + ask * bid_size) / (bid_size + ask_size)


def imbalance_of(bid_size: float | None, ask_size: float | None) -> float | None:
    """Return (bid_size - ask_size) / (bid_size + ask_size), -1 to 1; None without sizes."""
    if bid_size is None or ask_size is None or not bid_size + ask_size > 0:
        return None
    return (bid_size - ask_size) / (bid_size + ask_size)


def sizes_of(levels: Sequence[Level]) -> float:
    return sum(size for _, size in levels)


class Spread(Measure):
    """`spread`: ask - bid in quote units; negative where venues overlap."""

    _value: float | None = None

    def on_quote(self, quote: Quote, venues: Mapping[str, Quote], now: int) -> None:
        self._value = quote.ask - quote.bid if quote.bid is not None and quote.ask is not None else None

    def numbers(self, now: int) -> Numbers:
        return {"spread": self._value}


class Microprice(Measure):
    """`microprice_bps`: (microprice - mid) / mid in bps, positive where the bid weighs more.

    Source: S. Stoikov, The Micro-Price, Quantitative Finance 18 (2018): the weighted mid-price is its first estimate.
    """

    _value: float | None = None

    def on_quote(self, quote: Quote, venues: Mapping[str, Quote], now: int) -> None:
        self._value = None
        if quote.bid is not None and quote.ask is not None and quote.bid + quote.ask > 0:
            price = microprice_of(quote.bid, quote.bid_size, quote.ask, quote.ask_size)
            mid = (quote.bid + quote.ask) / 2
            self._value = (price - mid) / mid * BPS if price is not None else None

    def numbers(self, now: int) -> Numbers:
        return {"microprice_bps": self._value}


class Imbalance(Measure):
    """`imbalance_5`: (bids - asks) / (bids + asks) of the sizes of the best 5 consolidated levels, -1 to 1."""

    LEVELS = 5
    _value: float | None = None

    def on_depth(self, depth: Depth, now: int) -> None:
        self._value = imbalance_of(sizes_of(depth.bids[: self.LEVELS]), sizes_of(depth.asks[: self.LEVELS]))

    def numbers(self, now: int) -> Numbers:
        return {"imbalance_5": self._value}
