"""What a feed publishes of one book: `book` itself, `depth`, and the quote where the venue sends none. Pure.

A keeper is *live* between a snapshot and the first sign that something is wrong; in between nothing leaves it.
"""

from collections.abc import Sequence
from typing import Protocol

from feeds.adapter import Adapter, BookUpdate
from hub.book import OrderBook
from hub.config import BookSettings
from hub.intervals import NS_PER_S
from hub.model import Book, Depth, Level, Message, Quote

__all__ = ["BookKeeper", "Sink"]


class Sink(Protocol):
    """Where canonical messages go: the publisher of a feed, or standard output."""

    def publish(self, message: Message) -> None:
        """Give `message` its position and send it."""

    def renew(self, snapshot: Book) -> None:
        """Store a full snapshot at the position of the last update, without sending it."""

    def withdraw(self, kind: str, symbol: str) -> None:
        """Delete the newest value of a channel."""


class BookKeeper:
    """The book of one symbol on its way out."""

    __slots__ = (
        "_checksum",
        "_depth_at",
        "_depth_gap",
        "_depth_said",
        "_dirty",
        "_levels",
        "_low", "_quote_said",
        "_settings",
        "_since_snapshot",
        "_sink",
        "_symbol",
        "_ts_event",
        "_ts_recv",
        "_venue",
        "book",
        "derive",
        "live",
        "may_cross",
        "want_depth",
    )  # fmt: skip

    def __init__(
        self, adapter: type[Adapter], symbol: str, settings: BookSettings, sink: Sink, *, want_depth: bool
    ) -> None:
        self._venue, self._symbol, self._sink, self._settings = adapter.venue, symbol, sink, settings
        window = adapter.book_window
        self.book = OrderBook(window or settings.kept, window=window is not None)
        self._checksum = adapter.checksum
        self.live = False
        self.may_cross = False
        self.derive = True
        """Make quotes from this book; ends when the venue's own quote is seen."""
        self.want_depth = want_depth
        self._levels = settings.depth_levels
        self._low = max(2 * settings.depth_levels, settings.levels // 4)
        self._depth_gap = int(NS_PER_S / settings.depth_per_s)
        self._depth_at = 0
        self._depth_said: tuple[list[Level], list[Level]] | None = None
        self._quote_said: tuple[float | None, float | None, float | None, float | None] | None = None
        self._dirty = False
        self._since_snapshot = 0
        self._ts_event: int | None = None
        self._ts_recv = 0

    def apply(self, update: BookUpdate) -> str | None:
        """Apply and publish `update`. Returns why the book became invalid, None when it is good.

        The caller invalidates it in that case; nothing of the bad update has been published.
        """
        book = self.book
        if update.snapshot:
            self._replace(update)
        elif not self.live:
            return None
        else:
            bids, asks = book.apply(update.bids, update.asks)
        if update.texts is not None:
            book.note_texts(update.bids, update.asks, update.texts)
        problem = self._problem(update)
        if problem is not None:
            return problem
        self._ts_event, self._ts_recv = update.ts_event, update.ts_recv
        if update.snapshot:
            if update.then:
                self._ts_event = update.then[-1].ts_event
            self._restart()
        elif bids or asks:
            self._publish(update, bids, asks)
        self._dirty = True
        if self.derive:
            self._quote()
        if self.want_depth and update.ts_recv - self._depth_at >= self._depth_gap:
            self.flush(update.ts_recv)
        return None

    def _replace(self, update: BookUpdate) -> None:
        book = self.book
        if update.window is not None:
            book.kept, book.window = update.window, True
        book.replace(update.bids, update.asks, bids_complete=update.bids_complete, asks_complete=update.asks_complete)
        for later in update.then:
            book.apply(later.bids, later.asks)

    def _publish(self, update: BookUpdate, bids: Sequence[Level], asks: Sequence[Level]) -> None:
        self._sink.publish(
            Book(
                self._venue, self._symbol, "", update.ts_event, update.ts_recv, 0,
                "update", bids, asks,  # type: ignore[arg-type]  # encoded, never mutated
            )
        )  # fmt: skip
        self._since_snapshot += 1
        if self._since_snapshot >= self._settings.snapshot_every:
            self._since_snapshot = 0
            self._sink.renew(self._snapshot())

    def _problem(self, update: BookUpdate) -> str | None:
        book = self.book
        if update.checksum is not None and self._checksum is not None:
            own = self._checksum(book)
            if own != update.checksum:
                return f"checksum mismatch: {own} here, {update.checksum} at the venue"
        bids, asks = book.bids.keys, book.asks.keys
        if bids and asks and bids[-1] < -asks[-1]:
            return None
        if book.crossed() and not self.may_cross:
            return f"crossed book: bid {book.bids.best()} at or above ask {book.asks.best()}"
        if book.bids.left or book.asks.left:
            return "the market left the range of the last snapshot"
        return None

    @property
    def thin(self) -> bool:
        """Tell whether so little of a bounded book is left that a new snapshot is due."""
        return self.live and (self.book.bids.thinner(self._low) or self.book.asks.thinner(self._low))

    def invalidate(self) -> None:
        """Withdraw what readers could take for current."""
        self.live = False
        self._sink.withdraw("book", self._symbol)
        if self.want_depth:
            self._sink.withdraw("depth", self._symbol)
        if self.derive:
            self._sink.withdraw("quote", self._symbol)
        self._depth_said = self._quote_said = None
        self._dirty = False

    def republish(self) -> None:
        """Publish the whole book again: a new epoch begins with it."""
        if self.live:
            self._restart()

    def flush(self, now: int) -> None:
        """Publish the depth when it changed and its turn has come (`now` int ns)."""
        if not (self._dirty and self.live and self.want_depth) or now - self._depth_at < self._depth_gap:
            return
        self._dirty = False
        self._depth_at = now
        levels = self.book.bids.levels(self._levels), self.book.asks.levels(self._levels)
        if levels != self._depth_said:
            self._depth_said = levels
            self._sink.publish(
                Depth(self._venue, self._symbol, "", self._ts_event, self._ts_recv, 0, levels[0], levels[1])
            )

    def _restart(self) -> None:
        self.live = True
        self._since_snapshot = 0
        self._sink.publish(self._snapshot())

    def _snapshot(self) -> Book:
        return Book(
            self._venue, self._symbol, "", self._ts_event, self._ts_recv, 0,
            "snapshot", self.book.bids.levels(), self.book.asks.levels(),
        )  # fmt: skip

    def _quote(self) -> None:
        bids, asks = self.book.bids, self.book.asks
        bid = bids.keys[-1] if bids.keys else None
        ask = -asks.keys[-1] if asks.keys else None
        bid_size = bids.sizes[bid] if bid is not None else None
        ask_size = asks.sizes[ask] if ask is not None else None
        said = (bid, bid_size, ask, ask_size)
        if said == self._quote_said:
            return
        self._quote_said = said
        self._sink.publish(
            Quote(
                self._venue, self._symbol, "", self._ts_event, self._ts_recv, 0,
                bid, bid_size, ask, ask_size,
            )
        )  # fmt: skip
