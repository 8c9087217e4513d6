"""What a feed publishes of one book: `book` itself, `depth`, and the quote where the venue sends none. Pure.

A keeper is *live* between a snapshot and the first sign that something is wrong; in between nothing leaves it.
"""

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
        "_ask_keys", "_bid_keys", "_checksum", "_depth_at", "_depth_gap", "_depth_said", "_dirty", "_levels", "_low",
        "_publish", "_quote_said", "_settings", "_sink", "_symbol", "_ts_event", "_ts_recv", "_until_renewal",
        "_venue", "book", "derive", "live", "may_cross", "want_depth",
    )  # fmt: skip

    def __init__(
        self, adapter: type[Adapter], symbol: str, settings: BookSettings, sink: Sink, *, want_depth: bool
    ) -> None:
        self._venue, self._symbol, self._sink, self._settings = adapter.venue, symbol, sink, settings
        window = adapter.book_window
        self.book = OrderBook(window or settings.kept, window=window is not None)
        self._bid_keys, self._ask_keys = self.book.bids.keys, self.book.asks.keys
        self._publish = sink.publish
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
        self._until_renewal = settings.snapshot_every
        self._ts_event: int | None = None
        self._ts_recv = 0

    def change(self, update: BookUpdate) -> str | None:
        """Apply and publish an update. Returns why the book became invalid, None when it is good.

        The caller invalidates it in that case; nothing of the bad update has been published.
        """
        if not self.live:
            return None
        bids, asks = self.book.apply(update.bids, update.asks, update.texts)
        bid_keys, ask_keys = self._bid_keys, self._ask_keys
        parted = bid_keys and ask_keys and bid_keys[-1] < -ask_keys[-1]
        if update.checksum is not None or not parted:
            problem = self._problem(update)
            if problem is not None:
                return problem
        self._ts_event, self._ts_recv = ts_event, ts_recv = update.ts_event, update.ts_recv
        if bids or asks:
            self._publish(
                Book(
                    self._venue, self._symbol, "", ts_event, ts_recv, 0,
                    "update", bids, asks,  # type: ignore[arg-type]  # encoded, never mutated
                )
            )  # fmt: skip
            self._until_renewal -= 1
            if not self._until_renewal:
                self._until_renewal = self._settings.snapshot_every
                self._sink.renew(self._snapshot())
        self._dirty = True
        if self.derive:
            self._quote()
        if self.want_depth and ts_recv - self._depth_at >= self._depth_gap:
            self.flush(ts_recv)
        return None

    def restart(self, update: BookUpdate) -> str | None:
        """Take over a snapshot and publish it; returns as `change` does."""
        book = self.book
        if update.window is not None:
            book.kept, book.window = update.window, True
        book.replace(
            update.bids, update.asks,
            bids_complete=update.bids_complete, asks_complete=update.asks_complete, texts=update.texts,
        )  # fmt: skip
        for later in update.then:
            book.apply(later.bids, later.asks)
        problem = self._problem(update)
        if problem is not None:
            return problem
        self._ts_event = update.then[-1].ts_event if update.then else update.ts_event
        self._ts_recv = update.ts_recv
        self._publish_whole()
        self._dirty = True
        if self.derive:
            self._quote()
        self.flush(update.ts_recv)
        return None

    def _problem(self, update: BookUpdate) -> str | None:
        book = self.book
        if update.checksum is not None and self._checksum is not None:
            own = self._checksum(book)
            if own != update.checksum:
                return f"checksum mismatch: {own} here, {update.checksum} at the venue"
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
            self._publish_whole()

    def flush(self, now: int) -> None:
        """Publish the depth when it changed and its turn has come (`now` int ns)."""
        if not (self._dirty and self.live and self.want_depth) or now - self._depth_at < self._depth_gap:
            return
        self._dirty = False
        self._depth_at = now
        levels = self.book.bids.levels(self._levels), self.book.asks.levels(self._levels)
        if levels != self._depth_said:
            self._depth_said = levels
            self._publish(Depth(self._venue, self._symbol, "", self._ts_event, self._ts_recv, 0, levels[0], levels[1]))

    def _publish_whole(self) -> None:
        self.live = True
        self._until_renewal = self._settings.snapshot_every
        self._publish(self._snapshot())

    def _snapshot(self) -> Book:
        return Book(
            self._venue, self._symbol, "", self._ts_event, self._ts_recv, 0,
            "snapshot", self.book.bids.levels(), self.book.asks.levels(),
        )  # fmt: skip

    def _quote(self) -> None:
        bid_keys, ask_keys, book = self._bid_keys, self._ask_keys, self.book
        bid = bid_size = ask = ask_size = None
        if bid_keys:
            bid = bid_keys[-1]
            bid_size = book.bids.sizes[bid]
        if ask_keys:
            ask = -ask_keys[-1]
            ask_size = book.asks.sizes[ask]
        said = (bid, bid_size, ask, ask_size)
        if said != self._quote_said:
            self._quote_said = said
            self._publish(
                Quote(
                    self._venue, self._symbol, "", self._ts_event, self._ts_recv, 0,
                    bid, bid_size, ask, ask_size,
                )
            )  # fmt: skip
