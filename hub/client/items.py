"""What a stream gives its consumer, and what both transports promise."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

from msgspec import Struct

from hub.client.rows import BookSnapshot, CandleRow, QuoteRow, Rows, TickerRow, TradeRow, VenueRow
from hub.instruments import Instrument
from hub.model import Message, State
from hub.position import Position
from hub.replay import Since

__all__ = ["NOT_SUBSCRIBED", "Gap", "Item", "ItemSource", "Live", "Token", "Transport", "Wanted"]

NOT_SUBSCRIBED = "not subscribed, or not acknowledged yet"


class Gap(Struct, frozen=True):
    """Events of `channel` after the id `last` are lost to this reader; `next` is the id that follows, None: none yet.

    `last` is `0-0` where it is the channel's first events that are missing.
    """

    channel: str
    last: str
    next: str | None


class Live(Struct, frozen=True):
    """The replay of `channel` has caught up: what follows is the stream, after the event `last` (None: none)."""

    channel: str
    last: str | None


Item: TypeAlias = Message | Gap | Live
"""Market data, statuses among it, gaps, and ends of replays, in the order in which they hold."""


class Wanted(Struct, frozen=True):
    """What one stream is to give: `after`: ids by channel; `since` begins in the past, `speed` 0: at full speed."""

    channels: Sequence[str]
    after: dict[str, Position] = {}
    max_rate: float | None = None
    since: Since | None = None
    speed: float = 0.0


Token: TypeAlias = str | Callable[[], str | Awaitable[str]] | None
"""A JWT, or what gives one: called for the first connection, and again whenever the gateway wants a newer one."""


class ItemSource(Protocol):
    """The transport's side of one stream."""

    async def receive(self) -> list[Item]:
        """Return what comes next, at least one item. A cancelled call loses nothing."""

    def state(self, channel: str) -> tuple[State, str]:
        """Return state and reason of a channel's data as of what was received."""

    async def close(self) -> None: ...


class Transport(Protocol):
    """A way to the hub: its gateway, or its Redis. Reads are those of hub/client/client.py."""

    def open_stream(self, wanted: Wanted) -> ItemSource: ...

    async def quotes(self, symbols: Sequence[str], venue: str | None) -> Rows[QuoteRow]: ...

    async def tickers(self, symbols: Sequence[str], venue: str | None) -> Rows[TickerRow]: ...

    async def book(self, symbol: str, venue: str | None, depth: int) -> Rows[BookSnapshot]: ...

    async def trades(self, symbol: str, venue: str | None, limit: int) -> Rows[TradeRow]: ...

    async def candles(
        self, symbol: str, venue: str | None, interval: str, start_ms: int | None, end_ms: int | None, limit: int
    ) -> Rows[CandleRow]: ...

    async def venues(self) -> Rows[VenueRow]: ...

    async def instruments(self, symbol: str | None, venue: str | None, text: str | None) -> Rows[Instrument]: ...

    async def close(self) -> None: ...
