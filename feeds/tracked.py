"""What the pipeline knows of one symbol and of one connection. Data only."""

from collections.abc import Iterable
from typing import TypeAlias

from feeds.adapter import Adapter, Fetch, TradesLost
from feeds.books import BookKeeper
from feeds.turns import Turns
from hub.candles import CandleBuilder
from hub.instruments import Instrument
from hub.model import Trade
from hub.sequence import TradeIds

__all__ = ["Gone", "Intent", "Source", "Symbol", "Symbols"]

Intent: TypeAlias = bytes | Fetch
"""What an adapter wants done: a frame sent, or a REST body fetched."""


class Source:
    """One connection as the pipeline sees it. The higher `generation` wins where two deliver the same.

    `kinds` are those it carries, where the venue has several endpoints; empty: all. `heard` is when its last data came
    and `flows` since when the venue sends it, int ns; 0: not yet.
    """

    __slots__ = ("adapter", "cause", "flows", "generation", "has_trades", "heard")

    def __init__(self, adapter: Adapter, generation: int, kinds: Iterable[str] = ()) -> None:
        self.adapter = adapter
        self.generation = generation
        self.heard = self.flows = 0
        self.cause = ",".join(sorted(set(kinds)))
        """what a status of this connection is kept under: that of another endpoint does not take it back"""
        self.has_trades = not self.cause or not {"trade", "candle"}.isdisjoint(kinds)


class Gone(Exception):
    """An event of a symbol that is no longer kept: it was on its way when the symbol was removed."""


class Symbol:
    """State of one symbol."""

    __slots__ = (
        "book_count", "book_owner", "candles", "has_book", "instrument", "keeper", "mark_owner", "quote_count",
        "quote_owner", "refresh_after", "refreshing", "streams_lost", "ticker_count", "ticker_owner", "trade_at",
        "trade_count", "trade_ids", "turns",
    )  # fmt: skip

    def __init__(
        self, instrument: Instrument, keeper: BookKeeper, candles: CandleBuilder | None, ids: TradeIds
    ) -> None:
        self.instrument = instrument
        self.keeper = keeper
        self.candles = candles
        self.trade_ids = ids
        self.book_owner: Source | None = None
        self.turns: Turns[Source, Trade | TradesLost] = Turns()
        self.quote_owner = self.ticker_owner = self.mark_owner = -1
        self.quote_count = self.book_count = self.trade_count = self.ticker_count = 0
        self.trade_at = 0  # the venue's time of the newest trade, ns
        self.streams_lost: set[str] = set()
        self.has_book = True
        self.refreshing = False
        self.refresh_after = 0


class Symbols(dict[str, Symbol]):
    def __missing__(self, symbol: str) -> Symbol:
        raise Gone(symbol)
