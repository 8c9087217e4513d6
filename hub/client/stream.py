"""A stream as its consumer sees it: an async iterator of typed messages."""

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from hub.client.items import Item, ItemSource
from hub.model import State

__all__ = ["Stream"]


class Stream:
    """`async for item in stream`: market data (`Quote`, `Trade`, `Book` …), `Status` and `Gap`, in order.

    It has a connection of its own, opened by the first item asked for, and ends with `aclose` (or `async with`).
    A cancelled wait for an item loses nothing. `state(channel)` judges the channel's data at this point of the stream.
    """

    def __init__(self, open_source: Callable[[], ItemSource]) -> None:
        self._open = open_source
        self._source: ItemSource | None = None
        self._ready: deque[Item] = deque()
        self._closed = self._received = False

    def state(self, channel: str) -> tuple[State, str]:
        """Return how good the data of `channel` (`quote:binance:BTC-USDT`) is, and why: trade on `live` alone."""
        if self._source is None or self._closed:
            return "down", "the stream is closed" if self._closed else "nothing was read from the stream yet"
        return self._source.state(channel)

    @property
    def ready(self) -> bool:
        """Whether anything was received yet: before that, no channel's state is known."""
        return self._received

    @property
    def lagged(self) -> int:
        """How often this consumer was too slow, so that messages were left out or read again."""
        return getattr(self._source, "lagged", 0)

    @property
    def reconnects(self) -> int:
        return getattr(self._source, "reconnects", 0)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        if not self._ready:
            self._ready.extend(await self._receive())
        return self._ready.popleft()

    async def batch(self) -> list[Item]:
        """Return all items that are there, at least one; StopAsyncIteration when the stream was closed."""
        items = list(self._ready) or await self._receive()
        self._ready.clear()
        return items

    async def _receive(self) -> list[Item]:
        if self._closed:
            raise StopAsyncIteration
        if self._source is None:
            self._source = self._open()
        try:
            items = await self._source.receive()
            self._received = True
            return items
        except Exception:
            if self._closed:  # closed by somebody else while waiting
                raise StopAsyncIteration from None
            raise

    async def aclose(self) -> None:
        """End the stream; harmless when it has ended."""
        self._closed = True
        self._ready.clear()
        if self._source is not None:
            await self._source.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
