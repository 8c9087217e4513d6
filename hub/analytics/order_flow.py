"""Order-flow imbalance."""

from collections.abc import Mapping

from hub.analytics.measure import Market, Measure, Numbers
from hub.analytics.window import WindowSum
from hub.model import Quote

__all__ = ["OrderFlow", "contribution"]


def contribution(before: Quote, after: Quote) -> float | None:
    """Return what the change between two quotes adds to the order-flow imbalance; None where a side is missing.

    [Pb' >= Pb] qb' - [Pb' <= Pb] qb - [Pa' <= Pa] qa' + [Pa' >= Pa] qa, with prices and sizes of the best bid and ask
    before and after (').
    """
    pb, qb, pa, qa = before.bid, before.bid_size, before.ask, before.ask_size
    pb1, qb1, pa1, qa1 = after.bid, after.bid_size, after.ask, after.ask_size
    if pb is None or qb is None or pa is None or qa is None:
        return None
    if pb1 is None or qb1 is None or pa1 is None or qa1 is None:
        return None
    bids = (qb1 if pb1 >= pb else 0.0) - (qb if pb1 <= pb else 0.0)
    asks = (qa1 if pa1 <= pa else 0.0) - (qa if pa1 >= pa else 0.0)
    return bids - asks


class OrderFlow(Measure):
    """`ofi_<w>s`: the sum of contributions of consolidated quotes in the last w seconds, in the unit of sizes.

    Positive: more was bid than offered. A change of the venues that count is no order: it contributes nothing.

    Source: R. Cont, A. Kukanov, S. Stoikov, The Price Impact of Order Book Events, Journal of Financial Econometrics
    12 (2014), equation 10.
    """

    def __init__(self, market: Market) -> None:
        super().__init__(market)
        self._sums = {f"ofi_{length}s": WindowSum(length) for length in market.windows_s}
        self._last: Quote | None = None

    def on_quote(self, quote: Quote, venues: Mapping[str, Quote], now: int) -> None:
        last, self._last = self._last, quote
        if last is None or last.venues != quote.venues:
            return
        flow = contribution(last, quote)
        if flow:
            for total in self._sums.values():
                total.add(flow, now)

    def numbers(self, now: int) -> Numbers:
        if self._last is None:
            return dict.fromkeys(self._sums)
        return {name: total.read(now)[0] for name, total in self._sums.items()}
