"""Order books: the stored snapshot with the log's tail applied."""

from typing import Annotated

from litestar import get
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from gateway.errors import PROBLEMS
from gateway.query import Context, Granted, Snapshot, Venue, envelope, venues_for
from hub.keys import channel_name
from hub.model import Level

__all__ = ["BookLevels", "SymbolBooks", "get_books"]

Depth = Annotated[int, QueryParameter(ge=1, le=5000, description="Levels per side, best first.")]


class BookLevels(Snapshot, kw_only=True):
    """Levels are [price, size], best first. None are given unless the book is live or stale: an invalid book is worse
    than none."""

    bids: list[Level]
    asks: list[Level]


class SymbolBooks(Struct):
    symbol: str
    books: list[BookLevels]


@get("/books/{symbol:str}", tags=["books"], responses=PROBLEMS)
async def get_books(
    runtime: Context, grant: Granted, symbol: FromPath[str], venue: Venue = None, depth: Depth = 100
) -> SymbolBooks:
    """The order book of one symbol, per venue."""
    books = []
    for name in venues_for(runtime, grant, "book", symbol, venue):
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
