"""Sizes near the market."""

from collections.abc import Sequence

from hub.analytics.measure import Market, Measure, Numbers
from hub.analytics.top import BPS
from hub.model import Depth, Level

__all__ = ["Bands"]


class Bands(Measure):
    """`bid_depth_<x>bps`, `ask_depth_<x>bps`: the size within x bps of mid, in the unit of sizes, per side.

    Of bids those at or above mid * (1 - x / 10,000), of asks those at or below mid * (1 + x / 10,000), with mid between
    the best consolidated levels. None where the levels end before the band does: then the sum is not known.
    """

    def __init__(self, market: Market) -> None:
        super().__init__(market)
        self._names = [(f"bid_depth_{x:g}bps", f"ask_depth_{x:g}bps", x) for x in market.bands_bps]
        self._values: dict[str, float | None] = {name: None for bid, ask, _ in self._names for name in (bid, ask)}

    def on_depth(self, depth: Depth, now: int) -> None:
        bids, asks = depth.bids, depth.asks
        mid = (bids[0][0] + asks[0][0]) / 2 if bids and asks else 0.0
        for bid, ask, bps in self._names:
            self._values[bid] = self._within(bids, 1, mid * (1 - bps / BPS)) if mid > 0 else None
            self._values[ask] = self._within(asks, -1, mid * (1 + bps / BPS)) if mid > 0 else None

    def _within(self, levels: Sequence[Level], sign: int, limit: float) -> float | None:
        total = 0.0
        for price, size in levels:
            if sign * price < sign * limit:
                return total
            total += size
        return total if len(levels) < self.market.levels else None

    def numbers(self, now: int) -> Numbers:
        return dict(self._values)
