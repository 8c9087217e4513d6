"""Order books: the stored snapshot with the log's tail applied."""

from typing import Annotated

from litestar import get
from litestar.params import FromPath, QueryParameter
from msgspec import UNSET, Struct, UnsetType

from gateway.errors import PROBLEMS
from gateway.query import Context, Granted, Snapshot, Venue, envelope, venues_for
from gateway.runtime import Runtime
from hub.access import Grant
from hub.keys import ALL_VENUES, channel_name
from hub.model import Depth, Level

__all__ = ["BookLevels", "SymbolBooks", "get_books"]

Levels = Annotated[int, QueryParameter(ge=1, le=5000, description="Levels per side, best first.")]


class BookLevels(Snapshot, kw_only=True):
    """Levels are [price, size], best first. None are given unless the book is live or stale: an invalid book is worse
    than none. Of venue `all` there are the top levels (`depth`), with the sizes by venue at the same places."""

    bids: list[Level]
    asks: list[Level]
    bid_venues: list[dict[str, float]] | UnsetType = UNSET
    ask_venues: list[dict[str, float]] | UnsetType = UNSET
    venues: list[str] | UnsetType = UNSET


class SymbolBooks(Struct):
    symbol: str
    books: list[BookLevels]


@get("/books/{symbol:str}", tags=["books"], responses=PROBLEMS)
async def get_books(
    runtime: Context, grant: Granted, symbol: FromPath[str], venue: Venue = None, depth: Levels = 100
) -> SymbolBooks:
    """The order book of one symbol, per venue."""
    books = []
    for name in _venues(runtime, grant, symbol, venue):
        if name == ALL_VENUES:
            books.append(await _consolidated(runtime, symbol, depth))
            continue
        book = await runtime.reader.book(channel_name("book", name, symbol))
        head = envelope(runtime, "book", name, symbol, book)
        shown = book is not None and head["state"] in {"live", "stale"}
        books.append(
            BookLevels(
                **head,
                bids=book.bids[:depth] if book is not None and shown else [],
                asks=book.asks[:depth] if book is not None and shown else [],
            )
        )
    return SymbolBooks(symbol, books)


def _venues(runtime: Runtime, grant: Grant, symbol: str, venue: str | None) -> list[str]:
    """Return whose books are wanted; the consolidated one stands first, where there is one."""
    if venue == ALL_VENUES:
        return venues_for(runtime, grant, "depth", symbol, venue)
    made = channel_name("depth", ALL_VENUES, symbol) in runtime.directory.names
    first = [ALL_VENUES] if venue is None and made and grant.allows("depth", ALL_VENUES, symbol) else []
    return first + venues_for(runtime, grant, "book", symbol, venue)


async def _consolidated(runtime: Runtime, symbol: str, count: int) -> BookLevels:
    channel = channel_name("depth", ALL_VENUES, symbol)
    depth = (await runtime.reader.newest([channel], Depth)).get(channel)
    head = envelope(runtime, "depth", ALL_VENUES, symbol, depth)
    if depth is None or head["state"] not in {"live", "stale"}:
        return BookLevels(**head, bids=[], asks=[], bid_venues=[], ask_venues=[], venues=[])
    return BookLevels(
        **head,
        bids=depth.bids[:count],
        asks=depth.asks[:count],
        bid_venues=depth.bid_venues[:count] if depth.bid_venues else [],
        ask_venues=depth.ask_venues[:count] if depth.ask_venues else [],
        venues=depth.venues,
    )
