"""Best bid and ask."""

from litestar import get
from litestar.params import FromPath
from msgspec import UNSET, Struct, UnsetType

from gateway.errors import PROBLEMS
from gateway.query import (
    Context,
    Cursor,
    Granted,
    Limit,
    Page,
    Snapshot,
    SymbolList,
    Venue,
    envelope,
    page_of,
    pairs,
    venues_for,
    visible,
)
from gateway.runtime import Runtime
from hub.access import Grant
from hub.model import Market, Quote

__all__ = ["QuoteView", "SymbolQuotes", "get_quotes", "list_quotes"]

KIND = "quote"


class QuoteView(Snapshot, kw_only=True):
    """Best bid and ask of one venue. Prices in quote units, sizes in base units.

    Of venue `all`, what is made across venues, there are the further fields: which venues count, whose prices are the
    best, and the numbers that ANALYTICS.md defines.
    """

    bid: float | None
    bid_size: float | None
    ask: float | None
    ask_size: float | None
    bid_venue: str | UnsetType | None = UNSET
    ask_venue: str | UnsetType | None = UNSET
    mid: float | UnsetType | None = UNSET
    spread_bps: float | UnsetType | None = UNSET
    microprice: float | UnsetType | None = UNSET
    imbalance: float | UnsetType | None = UNSET
    imbalance_n: float | UnsetType | None = UNSET
    market: Market | UnsetType | None = UNSET
    venues: list[str] | UnsetType = UNSET
    analytics: dict[str, float | None] | UnsetType = UNSET


_FIELDS = tuple(name for name in QuoteView.__struct_fields__ if name not in Snapshot.__struct_fields__)
_NOTHING: dict[str, None] = dict.fromkeys(("bid", "bid_size", "ask", "ask_size"))


class SymbolQuotes(Struct):
    symbol: str
    quotes: list[QuoteView]


class QuotePage(Page):
    items: list[SymbolQuotes]


async def _read(runtime: Runtime, grant: Grant, symbols: list[str], venue: str | None) -> list[SymbolQuotes]:
    wanted = pairs(runtime, grant, KIND, symbols, venue)
    messages = await runtime.reader.newest([channel for channel, _, _ in wanted], Quote)
    found = {symbol: SymbolQuotes(symbol, []) for symbol in symbols}
    for channel, name, symbol in wanted:
        quote = messages.get(channel)
        view = QuoteView(
            **envelope(runtime, KIND, name, symbol, quote),
            **({field: getattr(quote, field) for field in _FIELDS} if quote is not None else _NOTHING),
        )
        found[symbol].quotes.append(view)
    return list(found.values())


@get("/quotes/{symbol:str}", tags=["quotes"], responses=PROBLEMS)
async def get_quotes(runtime: Context, grant: Granted, symbol: FromPath[str], venue: Venue = None) -> SymbolQuotes:
    """Best bid and ask of one symbol, per venue."""
    venues_for(runtime, grant, KIND, symbol, venue)
    return (await _read(runtime, grant, [symbol], venue))[0]


@get("/quotes", tags=["quotes"], responses=PROBLEMS)
async def list_quotes(
    runtime: Context, grant: Granted, symbols: SymbolList = None, cursor: Cursor = None, limit: Limit = 100
) -> QuotePage:
    """Best bid and ask of many symbols, sorted by symbol."""
    names, following, unknown = page_of(visible(runtime, grant, KIND), symbols, cursor, limit)
    return QuotePage(following, unknown, await _read(runtime, grant, names, None))
