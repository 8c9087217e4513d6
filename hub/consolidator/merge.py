"""One consolidated symbol: what its sources say, and the quote and depth made of it. Pure.

Only what counts is in here; who counts is decided in hub/consolidator/health.py. A quote or depth that is crossed in
itself, which no single market can be, does not count while it is.
"""

from typing import Final

from hub.analytics.top import imbalance_of, microprice_of, spread_bps_of
from hub.consolidator.ladder import Best, Ladder, Named
from hub.keys import ALL_VENUES
from hub.model import Depth, Quote
from hub.model import Market as MarketState

__all__ = ["Merged", "is_crossed"]


def is_crossed(bid: float | None, ask: float | None) -> bool:
    """Tell whether a market's best bid is at or above its own best ask."""
    return bid is not None and ask is not None and bid >= ask


class Merged:
    """The merged state of one symbol.

    `levels` is how many a depth shows, `imbalance_levels` how many `imbalance_n` looks at. `ts_event` and `ts_recv`
    (int ns) are those of the newest input.
    """

    def __init__(self, symbol: str, levels: int = 20, imbalance_levels: int = 5) -> None:
        self.symbol: Final = symbol
        self.levels, self.imbalance_levels = levels, imbalance_levels
        self.ts_event: int | None = None
        self.ts_recv = 0
        self.quotes: dict[Named, Quote] = {}
        self.depths: dict[Named, Depth] = {}
        self._bid, self._ask = Best(1), Best(-1)
        self._bids, self._asks = Ladder(1), Ladder(-1)
        self._quote_venues: list[str] = []
        self._depth_venues: list[str] = []
        self._imbalance_n: float | None = None
        self._imbalance_due = False

    # inputs

    def set_quote(self, source: Named, quote: Quote | None) -> None:
        """Note the newest quote of `source`; None: it does not count (any more)."""
        if quote is None or is_crossed(quote.bid, quote.ask):
            if self.quotes.pop(source, None) is not None:
                self._bid.set(source, None, None)
                self._ask.set(source, None, None)
                self._quote_venues = sorted({each.venue for each in self.quotes})
            return
        new = source not in self.quotes
        self.quotes[source] = quote
        self._bid.set(source, quote.bid, quote.bid_size)
        self._ask.set(source, quote.ask, quote.ask_size)
        if new:
            self._quote_venues = sorted({each.venue for each in self.quotes})

    def set_depth(self, source: Named, depth: Depth | None) -> bool:
        """Note the newest depth of `source`, None: it does not count (any more); returns whether levels changed."""
        before = source in self.depths
        if depth is None or is_crossed(*(side[0][0] if side else None for side in (depth.bids, depth.asks))):
            if before:
                del self.depths[source]
            changed = self._bids.set(source, ()) + self._asks.set(source, ())
        else:
            self.depths[source] = depth
            changed = self._bids.set(source, depth.bids) + self._asks.set(source, depth.asks)
        members = (source in self.depths) != before
        if members:
            self._depth_venues = sorted({each.venue for each in self.depths})
        self._imbalance_due = self._imbalance_due or bool(changed)
        return members or bool(changed)

    def came(self, ts_event: int | None, ts_recv: int) -> None:
        """Note the times of the newest input."""
        self.ts_event, self.ts_recv = ts_event, ts_recv

    # outputs

    def top(self) -> tuple[object, ...]:
        """Return what makes a quote a new one."""
        bid, ask = self._bid, self._ask
        return bid.price, bid.size, bid.source, ask.price, ask.size, ask.source, self._quote_venues

    def quote(self) -> Quote:
        """Return the consolidated quote, without `analytics`."""
        best_bid, best_ask = self._bid, self._ask
        bid, bid_size, ask, ask_size = best_bid.price, best_bid.size, best_ask.price, best_ask.size
        mid: float | None = None
        spread_bps: float | None = None
        microprice: float | None = None
        market: MarketState | None = None
        if bid is not None and ask is not None:
            mid = (bid + ask) / 2
            spread_bps = spread_bps_of(bid, ask)
            microprice = microprice_of(bid, bid_size, ask, ask_size)
            market = "normal" if bid < ask else "locked" if bid == ask else "crossed"
        return Quote(
            ALL_VENUES, self.symbol, "", self.ts_event, self.ts_recv, 0,
            bid, bid_size, ask, ask_size,
            best_bid.source.venue if best_bid.source is not None else None,
            best_ask.source.venue if best_ask.source is not None else None,
            mid, spread_bps, microprice, imbalance_of(bid_size, ask_size), self._imbalance(), market,
            self._quote_venues,
        )  # fmt: skip

    def depth(self) -> Depth:
        """Return the consolidated depth."""
        bids, bid_venues = self._bids.top(self.levels)
        asks, ask_venues = self._asks.top(self.levels)
        return Depth(
            ALL_VENUES, self.symbol, "", self.ts_event, self.ts_recv, 0,
            bids, asks, bid_venues, ask_venues, self._depth_venues,
        )  # fmt: skip

    def venue_quotes(self) -> dict[str, Quote]:
        """Return the quotes that count, by venue; of a venue with several symbols of a group that of the first name."""
        if len(self.quotes) == len(self._quote_venues):
            return {source.venue: quote for source, quote in self.quotes.items()}
        ordered = sorted(self.quotes, key=lambda source: source.symbol, reverse=True)
        return {source.venue: self.quotes[source] for source in ordered}

    def _imbalance(self) -> float | None:
        if self._imbalance_due:
            self._imbalance_due = False
            bids, asks, count = self._bids, self._asks, self.imbalance_levels
            self._imbalance_n = imbalance_of(bids.size(count), asks.size(count)) if len(bids) and len(asks) else None
        return self._imbalance_n
