"""A local order book kept from `book` messages. Pure, but for the iterator at the end."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self

from hub.book import OrderBook
from hub.client.items import Gap
from hub.client.stream import Stream
from hub.keys import channel_name
from hub.model import Book, Level, State, Status
from hub.position import Position, follows, parse_position
from hub.venues import affects

__all__ = ["LocalBook", "OrderBooks"]

#: The feed says which levels go; here none is dropped.
UNBOUNDED: Final = 2**62


class LocalBook:
    """One venue's book. Without a base (no snapshot yet, or a message lost since) or unless `state` is live it is not
    `valid`, and has no levels: a book that may be wrong is worse than none.

    `id` is the last message's, `ts_event` and `ts_recv` its times (int ns UTC); `reason` says why it is not valid.
    """

    def __init__(self, venue: str, symbol: str) -> None:
        self.venue, self.symbol = venue, symbol
        self.id = ""
        self.ts_event: int | None = None
        self.ts_recv: int | None = None
        self.state: State = "live"
        self._why = "no snapshot yet"
        self._reason = ""
        self._position: Position | None = None
        self._book = OrderBook(UNBOUNDED)

    @property
    def valid(self) -> bool:
        return self._position is not None and self.state == "live"

    @property
    def reason(self) -> str:
        """Why the book is not valid; empty where it is."""
        return self._reason if self.state != "live" else "" if self._position is not None else self._why

    def bids(self, count: int | None = None) -> list[Level]:
        """Return (price, size) of the best `count` bids (all by default), best first; [] while not valid."""
        return self._book.bids.levels(count) if self.valid else []

    def asks(self, count: int | None = None) -> list[Level]:
        """Return (price, size) of the best `count` asks (all by default), best first; [] while not valid."""
        return self._book.asks.levels(count) if self.valid else []

    @property
    def best_bid(self) -> Level | None:
        return self._book.bids.best() if self.valid else None

    @property
    def best_ask(self) -> Level | None:
        return self._book.asks.best() if self.valid else None

    @property
    def mid(self) -> float | None:
        """Half way between best bid and best ask; None where one is missing."""
        bid, ask = self.best_bid, self.best_ask
        return None if bid is None or ask is None else (bid[0] + ask[0]) / 2

    def apply(self, message: Book) -> None:
        """Take a `book` message of this book: a snapshot rebuilds it, an update counts where it follows the last."""
        position = parse_position(message.id)
        if message.action == "snapshot":
            self._book.replace(message.bids, message.asks)
        elif self._position is not None and follows(self._position, position):
            self._book.apply(message.bids, message.asks)
        elif self._position is not None and position <= self._position:
            return
        else:
            self.invalidate(f"message {message.id} does not follow {self.id or 'any snapshot'}")
            return
        self._position, self.id = position, message.id
        self.ts_event, self.ts_recv = message.ts_event, message.ts_recv

    def invalidate(self, why: str) -> None:
        """Wait for a snapshot: something was lost."""
        if self._position is not None:
            self._position, self._why = None, why
            self._book = OrderBook(UNBOUNDED)

    def judge(self, state: State, reason: str) -> None:
        """Note how good the hub says the book is."""
        self.state, self._reason = state, reason


class OrderBooks:
    """`async for book in books`: the book that changed, in levels or in state. One object per venue and symbol."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.books: dict[str, LocalBook] = {}
        self._changed: list[LocalBook] = []
        self._told_of: dict[LocalBook, tuple[State, str, bool]] = {}

    def __aiter__(self) -> AsyncIterator[LocalBook]:
        return self

    async def __anext__(self) -> LocalBook:
        while not self._changed:
            item = await self._stream.__anext__()
            match item:
                case Book():
                    self._take(item)
                case Gap() if item.channel.startswith("book:"):
                    _, venue, symbol = item.channel.split(":", 2)
                    book = self._get(venue, symbol)
                    book.invalidate(f"messages after {item.last} are lost")
                    self._changed.append(book)
                case Status():
                    self._changed += [book for book in self._about(item) if self._told(book, item)]
        return self._changed.pop(0)

    def _take(self, message: Book) -> None:
        book = self._get(message.venue, message.symbol)
        book.apply(message)
        self._judge(book)
        self._changed.append(book)

    def _about(self, status: Status) -> list[LocalBook]:
        if status.symbol != "*" and status.kind == "book":
            self._get(status.venue, status.symbol)  # known to be in trouble before its first message
        return [
            book for book in self.books.values() if book.venue == status.venue and status.symbol in ("*", book.symbol)
        ]

    def _get(self, venue: str, symbol: str) -> LocalBook:
        return self.books.setdefault(channel_name("book", venue, symbol), LocalBook(venue, symbol))

    def _told(self, book: LocalBook, status: Status) -> bool:
        if status.state == "resyncing" and affects(status, "book"):
            book.invalidate(status.reason or "the hub rebuilds the book")
        return self._judge(book)

    def _judge(self, book: LocalBook) -> bool:
        """Ask the stream how good the book is; returns whether that is news."""
        book.judge(*self._stream.state(channel_name("book", book.venue, book.symbol)))
        before = self._told_of.get(book)
        now = self._told_of[book] = (book.state, book.reason, book.valid)
        return before != now

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
