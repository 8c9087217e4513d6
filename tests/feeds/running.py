"""A runner without processes and Redis: the feed's own parts against the replay server, messages kept in memory."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, TypeAlias

from msgspec import structs

from feeds.adapter import Adapter
from feeds.fetches import FetchQueue
from feeds.pipeline import Pipeline
from feeds.replay import ReplayServer
from feeds.rest import LocalLimiter, RestClient
from feeds.runner import Runner
from hub.config import BookSettings, CandleSettings
from hub.instruments import Instrument, InstrumentTable
from hub.model import Book, Message, Status, Trade

Books: TypeAlias = tuple[dict[float, float], dict[float, float]]

KINDS = ("trade", "quote", "book", "depth", "ticker", "mark")


class Heard:
    """A sink that keeps everything, in order."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.withdrawn: list[tuple[str, str]] = []

    def publish(self, message: Message) -> None:
        self.messages.append(message)

    def renew(self, snapshot: Book) -> None: ...

    def withdraw(self, kind: str, symbol: str) -> None:
        self.withdrawn.append((kind, symbol))

    def trades(self, symbol: str | None = None) -> list[Trade]:
        return [each for each in self.messages if isinstance(each, Trade) and symbol in (None, each.symbol)]

    def statuses(self, symbol: str) -> list[Status]:
        return [each for each in self.messages if isinstance(each, Status) and each.symbol == symbol]

    def book(self, symbol: str) -> Books:
        """Return what somebody has who followed the book from the start."""
        books = (each for each in self.messages if isinstance(each, Book) and each.symbol == symbol)
        return followed({"action": each.action, "bids": each.bids, "asks": each.asks} for each in books)


def followed(books: Iterable[Mapping[str, Any]]) -> Books:
    """Return bids and asks after all of these messages."""
    sides: Books = ({}, {})
    for message in books:
        if message["action"] == "snapshot":
            sides = ({}, {})
        for side, levels in zip(sides, (message["bids"], message["asks"]), strict=True):
            for price, size in levels:
                if size:
                    side[float(price)] = float(size)
                else:
                    side.pop(float(price), None)
    return sides


def limited(adapter: type[Adapter], **limits: Any) -> type[Adapter]:
    """Return `adapter` with other limits."""
    changed = structs.replace(adapter.limits, **limits)

    class Limited(adapter):  # type: ignore[valid-type, misc]  # a base made at run time
        limits: ClassVar[Any] = changed

    return Limited


class Running:
    """A venue server and a runner of `symbols` (none: all that were recorded); `async with` starts and ends both."""

    def __init__(
        self,
        adapter: type[Adapter],
        session: Path,
        symbols: Sequence[str],
        *,
        instruments: Path | None = None,
        kinds: Sequence[str] = KINDS,
        **server: Any,
    ) -> None:
        self.adapter, self.symbols = adapter, list(symbols)
        self.server = ReplayServer(adapter.venue, [session], instruments=instruments, **server)
        self.heard = Heard()
        self.pipeline = Pipeline(adapter, kinds, BookSettings(), CandleSettings(), self.heard)
        self.table = InstrumentTable(adapter.venue)

    async def __aenter__(self) -> Self:
        await self.server.start()
        limits = self.adapter.limits
        self.rest = RestClient(
            self.adapter, LocalLimiter(limits.rest_weight, limits.rest_window_s), self.server.rest_url
        )
        lists = await self.rest.fetch_lists(self.adapter)
        rows = [row for _, body, _ in lists for row in self.adapter.parse_instruments(body)]
        self.table = InstrumentTable(self.adapter.venue, rows)
        recorded = {name for track in self.server.tracks for name in track.recording.symbols}
        self.symbols = self.symbols or [row.symbol for row in self.table if {row.venue_symbol, row.key} & recorded]
        for row in self.rows(*self.symbols):
            self.pipeline.add(row)
        self.runner = Runner(
            self.adapter,
            self.pipeline.instruments,
            self.pipeline,
            FetchQueue(self.rest, Counter()),
            LocalLimiter(limits.connects, limits.connects_window_s),
            self.server.ws_url,
            1000,
        )
        self.task = asyncio.create_task(self.runner.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.rest.close()
        await self.server.stop()

    def rows(self, *symbols: str) -> list[Instrument]:
        return [self.table.get(symbol) for symbol in symbols]

    @property
    def rotations(self) -> int:
        return sum(shard.rotations for shard in self.runner.shards)

    @property
    def live(self) -> bool:
        return self.pipeline.books_live == self.pipeline.books_wanted

    async def until(self, condition: Callable[[], object], timeout_s: float = 30.0) -> None:
        """Wait for `condition`; an error of the runner comes out here."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.02)

    async def finished(self, timeout_s: float = 60.0) -> None:
        """Wait until the session was played, and what was on its way has come."""
        await self.until(lambda: all(track.done.is_set() for track in self.server.tracks), timeout_s)
        count, quiet = -1, 0
        while quiet < 15:  # turns and not only time: on a busy machine time alone says nothing
            quiet = quiet + 1 if count == len(self.heard.messages) else 0
            count = len(self.heard.messages)
            await asyncio.sleep(0.02)
