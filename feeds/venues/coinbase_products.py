"""What one connection to Coinbase knows of its products, and how they become canonical: shared by both feeds."""

from collections.abc import Iterable, Sequence

from feeds.adapter import Acked, BookGap, BookUpdate, Event, Fetch, Skipped, TradesLost
from feeds.units import SizesOf
from feeds.venues.coinbase_wire import Ticker as ExchangeTicker
from feeds.venues.coinbase_wire import TickerItem
from hub.instruments import Instrument
from hub.intervals import NS_PER_S
from hub.model import Level, Quote, Side, Ticker, Trade

__all__ = ["Events", "Products", "product_of"]

Events = list[Event | Fetch]

#: How long a snapshot may take to come before it is asked for again.
PATIENCE_NS = 15 * NS_PER_S


def product_of(instrument: Instrument) -> str:
    """Return the product under which the venue sends `instrument`: -USDC ones come as the -USD book they share."""
    return instrument.alias_of or instrument.venue_symbol


class Products:
    """State by product. Times are int ns."""

    def __init__(self, venue: str, instruments: Sequence[Instrument]) -> None:
        self.venue = venue
        self.rows: dict[str, tuple[Instrument, ...]] = {}
        """product -> the instruments it is the data of: two where an alias is wanted beside its product"""
        self._sizes: dict[str, SizesOf] = {}
        self._know(instruments)
        self.now = 0
        self._live: dict[str, Instrument | None] = {}
        """products with a good book -> the one instrument whose sizes need no conversion, where that is so"""
        self._awaited: dict[str, int] = {}
        self._acked: set[str] = set()
        self._traded: dict[str, int] = {}

    def _know(self, instruments: Sequence[Instrument]) -> None:
        for row in instruments:
            name = product_of(row)
            self.rows[name] = (*self.rows.get(name, ()), row)
            if row.contract_size != 1:
                self._sizes[row.symbol] = SizesOf(row.contract_size)

    def learn(self, instruments: Sequence[Instrument]) -> bool:
        """Know `instruments` too; False where one shares a product with another that is known.

        Its snapshot has come already, and no second one would.
        """
        if not self.rows.keys().isdisjoint(map(product_of, instruments)):
            return False
        self._know(instruments)
        return True

    # subscriptions

    def awaiting(self, product: str) -> bool:
        """Note that a book is asked for; False where that was done moments ago."""
        if self.now and self.now - self._awaited.get(product, -PATIENCE_NS) < PATIENCE_NS:
            return False
        self._live.pop(product, None)
        self._awaited[product] = self.now
        return True

    def forget(self, products: Iterable[str]) -> None:
        """Nobody wants these books any more."""
        for product in products:
            self._live.pop(product, None)
            self._awaited.pop(product, None)

    def answered(self, channels: Iterable[str]) -> Events:
        """Take the whole list of what is subscribed: what is new in it was accepted."""
        new = [name for name in channels if name not in self._acked]
        self._acked.update(new)
        return [Acked(tuple(new))] if new else []

    def unsubscribed(self, channels: Iterable[str]) -> None:
        self._acked.difference_update(channels)

    # books

    def update(self, product: str, at: int | None, bids: list[Level], asks: list[Level]) -> Events:
        """Take an update of one book in which no price comes twice on a side, best first."""
        row = self._live.get(product)
        if row is None:
            return self.levels(product, at, False, bids, asks)
        return [BookUpdate(row, False, bids, asks, at, self.now)]

    def levels(self, product: str, at: int | None, snapshot: bool, bids: list[Level], asks: list[Level]) -> Events:
        """Take levels of one book in the order in which they came."""
        rows = self.rows.get(product)
        if rows is None:
            return [Skipped("unknown symbol")]
        if snapshot:
            self._live[product] = rows[0] if len(rows) == 1 and not self._sizes else None
            self._awaited.pop(product, None)
        elif product not in self._live:
            return [Skipped("update before snapshot")]
        if len(bids) > 1:
            bids = sorted(dict(bids).items(), reverse=True)  # of one price twice, the later size counts
        if len(asks) > 1:
            asks = sorted(dict(asks).items())
        if not self._sizes:
            return [BookUpdate(row, snapshot, bids, asks, at, self.now) for row in rows]
        return [
            BookUpdate(row, snapshot, self._scaled(row, bids), self._scaled(row, asks), at, self.now) for row in rows
        ]

    def lost(self, product: str, reason: str) -> Events:
        """One book lost something."""
        if product not in self._live and product not in self._awaited:
            return []
        self._live.pop(product, None)
        return [BookGap(row, reason, self.now) for row in self.rows.get(product, ())]

    def all_lost(self, reason: str) -> Events:
        """Something was lost, and nobody knows of which product: every book is suspect."""
        return [gap for product in [*self._live, *self._awaited] for gap in self.lost(product, reason)]

    def overdue(self) -> Events:
        """Tell of books whose snapshot does not come."""
        late = [product for product, since in self._awaited.items() if since and self.now - since > PATIENCE_NS]
        return [gap for product in late for gap in self.lost(product, "the snapshot did not come")]

    # messages

    def traded(self, product: str, trade_id: str) -> None:
        """Note that the venue told of this trade of `product` before it told the next ones."""
        if trade_id.isdecimal():
            self._traded[product] = max(int(trade_id), self._traded.get(product, 0))

    def missing(self, product: str, upto: int, at: int | None) -> Events:
        """Tell of the trades up to the number `upto` that did not come; none where it is not known which came."""
        last = self._traded.get(product)
        if last is None or upto <= last:
            return []
        self._traded[product] = upto
        when = self.now if at is None else at
        return [TradesLost(row.symbol, last + 1, upto, when, self.now) for row in self.rows.get(product, ())]

    def trade(
        self, product: str, at: int | None, price: float, size: float, maker: str | None, trade_id: str
    ) -> Events:
        """Take a trade; `maker` is the side of the order that was there before, so the aggressor's is the other."""
        rows = self.rows.get(product)
        if rows is None:
            return [Skipped("unknown symbol")]
        side = _AGGRESSOR.get(maker or "")
        lost = self.missing(product, int(trade_id) - 1, at) if product in self._traded and trade_id.isdecimal() else []
        self.traded(product, trade_id)
        return lost + [
            Trade(self.venue, row.symbol, "", at, self.now, 0, price, self._size(row, size), side, trade_id)
            for row in rows
        ]

    def ticker(self, product: str, at: int | None, item: TickerItem | ExchangeTicker) -> Events:
        """Take a ticker. It lags behind the book: its best prices are a quote only where there is no book."""
        rows = self.rows.get(product)
        if rows is None:
            return [Skipped("unknown symbol")]
        if isinstance(item, TickerItem):
            opened, high, low, volume = None, item.high_24_h, item.low_24_h, item.volume_24_h
            bid_size, ask_size = item.best_bid_quantity, item.best_ask_quantity
        else:
            opened, high, low, volume = item.open_24h, item.high_24h, item.low_24h, item.volume_24h
            bid_size, ask_size = item.best_bid_size, item.best_ask_size
        bid, ask = item.best_bid, item.best_ask
        events: Events = []
        for row in rows:
            total = self._size(row, volume) if volume is not None else None
            events.append(
                Ticker(
                    self.venue, row.symbol, "", at, self.now, 0, item.price, opened, high, low, total, None, bid, ask
                )
            )
            if product in self._live or (bid is None and ask is None):
                continue
            sizes = (self._size(row, size) if size is not None else None for size in (bid_size, ask_size))
            events.append(Quote(self.venue, row.symbol, "", at, self.now, 0, bid, next(sizes), ask, next(sizes)))
        return events

    def _size(self, row: Instrument, size: float) -> float:
        sizes = self._sizes.get(row.symbol) if self._sizes else None
        return size if sizes is None else sizes[repr(size)]

    def _scaled(self, row: Instrument, levels: list[Level]) -> list[Level]:
        sizes = self._sizes.get(row.symbol)
        return levels if sizes is None else [(price, sizes[repr(size)]) for price, size in levels]


#: The maker's side, as either feed spells it -> the aggressor's.
_AGGRESSOR: dict[str, Side] = {"BUY": "sell", "SELL": "buy", "buy": "sell", "sell": "buy"}
