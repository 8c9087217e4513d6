"""Realised volatility."""

from collections.abc import Mapping
from math import log, sqrt

from hub.analytics.measure import Market, Measure, Numbers
from hub.analytics.top import BPS
from hub.analytics.window import WindowSum
from hub.intervals import NS_PER_S
from hub.model import Quote

__all__ = ["Volatility"]


class Volatility(Measure):
    """`volatility_<w>s`: the root of the sum of squared log returns of mid in the last w seconds, in bps.

    Mid is sampled at the end of each second (the last one holds while nothing comes); a return is the logarithm of
    the ratio of two samples in a row, and counts at the later one's second. Not scaled to a year. None before the first
    return in the window, and afresh after a mid that is missing or not positive.

    Source: T. Andersen, T. Bollerslev, F. Diebold, P. Labys, Modeling and Forecasting Realized Volatility,
    Econometrica 71 (2003).
    """

    def __init__(self, market: Market) -> None:
        super().__init__(market)
        self._sums = {f"volatility_{length}s": WindowSum(length) for length in market.windows_s}
        self._mid: float | None = None
        self._second = 0
        self._sample: float | None = None  # of the last whole second

    def on_quote(self, quote: Quote, venues: Mapping[str, Quote], now: int) -> None:
        self._roll(now)
        mid = quote.mid if isinstance(quote.mid, float) and quote.mid > 0 else None
        if mid is None:
            self._sample = None
        self._mid = mid

    def _roll(self, now: int) -> None:
        """Take the sample of the last second that is over."""
        second = now // NS_PER_S
        if second <= self._second:
            return
        if self._mid is not None:
            if self._sample is not None:
                step = log(self._mid / self._sample)
                for total in self._sums.values():
                    total.add(step * step, self._second * NS_PER_S)
            if second > self._second + 1:  # nothing came since: the seconds in between have returns of 0
                for total in self._sums.values():
                    total.add(0.0, (second - 1) * NS_PER_S)
            self._sample = self._mid
        self._second = second

    def numbers(self, now: int) -> Numbers:
        self._roll(now)
        result: dict[str, float | None] = {}
        for name, total in self._sums.items():
            squares, count = total.read(now)
            result[name] = sqrt(squares) * BPS if count and self._mid is not None else None
        return result
