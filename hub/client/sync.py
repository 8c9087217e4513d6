"""The client without `async`: for notebooks and scripts. An event loop runs in a thread of its own."""

import asyncio
import ssl
import threading
from collections import deque
from collections.abc import Coroutine, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from hub.client.client import Client, Time
from hub.client.items import Item, Token
from hub.client.orderbook import LocalBook, OrderBooks
from hub.client.rows import BookSnapshot, CandleRow, QuoteRow, Rows, TickerRow, TradeRow, VenueRow
from hub.client.stream import Stream
from hub.errors import HubError
from hub.instruments import Instrument
from hub.model import State

__all__ = ["SyncClient", "SyncOrderBooks", "SyncStream"]

T = TypeVar("T")


class _Loop:
    """An event loop in a daemon thread, so that a forgotten client does not keep the program from ending."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tickwire client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run `work` over there and return its result. TimeoutError after `timeout_s`; Ctrl-C cancels it."""
        if self._loop.is_closed():
            work.close()
            raise HubError("the client is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


class SyncStream:
    """`for item in stream`. `next(timeout_s)` waits for so long at most (TimeoutError)."""

    def __init__(self, loop: _Loop, stream: Stream) -> None:
        self._loop, self._stream = loop, stream
        self._ready: deque[Item] = deque()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        return self.next()

    def next(self, timeout_s: float | None = None) -> Item:
        """Return the next item; TimeoutError where none comes in time, which loses nothing."""
        if not self._ready:
            batch = self._loop.run(_batch(self._stream), timeout_s)
            if not batch:
                raise StopIteration
            self._ready.extend(batch)
        return self._ready.popleft()

    def state(self, channel: str) -> tuple[State, str]:
        """Return how good the data of `channel` is, and why."""
        return self._stream.state(channel)

    def close(self) -> None:
        self._loop.run(self._stream.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _batch(stream: Stream) -> list[Item]:
    # A coroutine may not end with StopAsyncIteration.
    try:
        return await stream.batch()
    except StopAsyncIteration:
        return []


class SyncOrderBooks:
    """`for book in books`: the book that changed."""

    def __init__(self, loop: _Loop, books: OrderBooks) -> None:
        self._loop, self._books = loop, books

    @property
    def books(self) -> dict[str, LocalBook]:
        """All books by channel."""
        return self._books.books

    def __iter__(self) -> Iterator[LocalBook]:
        return self

    def __next__(self) -> LocalBook:
        return self.next()

    def next(self, timeout_s: float | None = None) -> LocalBook:
        """Return the next book that changed; TimeoutError where none does in time."""
        book = self._loop.run(_next(self._books), timeout_s)
        if book is None:
            raise StopIteration
        return book

    def close(self) -> None:
        self._loop.run(self._books.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _next(books: OrderBooks) -> LocalBook | None:
    try:
        return await books.__anext__()
    except StopAsyncIteration:
        return None


class SyncClient:
    """`with SyncClient("http://127.0.0.1:8000") as hub`: the methods of Client, blocking. Works in notebooks.

    Not to be used from within an event loop's callbacks: it blocks.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        token: Token = None,
        prefix: str = "md:",
        timeout_s: float = 10.0,
        patience_s: float = 10.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._loop = _Loop()
        try:
            self._client = self._loop.run(
                _make(url, token=token, prefix=prefix, timeout_s=timeout_s, patience_s=patience_s, tls=tls)
            )
        except BaseException:
            self._loop.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all streams and end the thread; harmless when it has ended."""
        try:
            self._loop.run(self._client.aclose())
        except HubError:
            pass
        finally:
            self._loop.close()

    def stream(
        self,
        *channels: str,
        after: Mapping[str, str] | str | None = None,
        max_rate: float | None = None,
        since: Time = None,
        speed: float | None = None,
    ) -> SyncStream:
        """As Client.stream."""
        stream = self._client.stream(*channels, after=after, max_rate=max_rate, since=since, speed=speed)
        return SyncStream(self._loop, stream)

    def order_books(self, symbol: str, venue: str = "*") -> SyncOrderBooks:
        """As Client.order_books."""
        return SyncOrderBooks(self._loop, self._client.order_books(symbol, venue))

    def quotes(self, *symbols: str, venue: str | None = None) -> Rows[QuoteRow]:
        """As Client.quotes."""
        return self._loop.run(self._client.quotes(*symbols, venue=venue))

    def tickers(self, *symbols: str, venue: str | None = None) -> Rows[TickerRow]:
        """As Client.tickers."""
        return self._loop.run(self._client.tickers(*symbols, venue=venue))

    def book(self, symbol: str, venue: str | None = None, *, depth: int = 100) -> Rows[BookSnapshot]:
        """As Client.book."""
        return self._loop.run(self._client.book(symbol, venue, depth=depth))

    def trades(self, symbol: str, venue: str | None = None, *, limit: int = 100) -> Rows[TradeRow]:
        """As Client.trades."""
        return self._loop.run(self._client.trades(symbol, venue, limit=limit))

    def candles(
        self,
        symbol: str,
        venue: str | None = None,
        *,
        interval: str = "1m",
        start: Time = None,
        end: Time = None,
        limit: int = 500,
    ) -> Rows[CandleRow]:
        """As Client.candles."""
        work = self._client.candles(symbol, venue, interval=interval, start=start, end=end, limit=limit)
        return self._loop.run(work)

    def venues(self) -> Rows[VenueRow]:
        """As Client.venues."""
        return self._loop.run(self._client.venues())

    def instruments(
        self, symbol: str | None = None, *, venue: str | None = None, text: str | None = None
    ) -> Rows[Instrument]:
        """As Client.instruments."""
        return self._loop.run(self._client.instruments(symbol, venue=venue, text=text))


async def _make(url: str, **options: Any) -> Client:
    return Client(url, **options)
