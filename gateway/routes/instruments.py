"""What venues list."""

import difflib
from typing import Annotated, get_args

from litestar import get
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from gateway.errors import PROBLEMS
from gateway.query import Context, Cursor, Limit, SymbolList, choose, symbol_list
from hub.errors import NotFound
from hub.instruments import Instrument, InstrumentKind

__all__ = ["InstrumentPage", "SymbolInstruments", "get_instruments", "list_instruments"]

KINDS = get_args(InstrumentKind)
#: Between symbol and venue in a cursor; neither can hold it.
SEPARATOR = ":"

Filter = Annotated[str | None, QueryParameter(description="Exactly this, upper or lower case.")]
Kind = Annotated[str | None, QueryParameter(description="Kind of instrument.", schema_extra={"enum": list(KINDS)})]
Text = Annotated[str | None, QueryParameter(description="Part of symbol, name or the venue's spelling.")]


class InstrumentPage(Struct):
    """`next` is the cursor of the next page; null on the last one. `total` counts all that match."""

    items: list[Instrument]
    next: str | None
    total: int


class SymbolInstruments(Struct):
    symbol: str
    instruments: list[Instrument]


@get("/instruments", tags=["instruments"], responses=PROBLEMS)
async def list_instruments(
    runtime: Context,
    base: Filter = None,
    quote: Filter = None,
    kind: Kind = None,
    venue: Filter = None,
    text: Text = None,
    symbols: SymbolList = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> InstrumentPage:
    """Instruments of all venues, sorted by symbol and venue."""
    venues = await runtime.reader.venues()
    if kind is not None:
        choose("kind", kind, KINDS)
    if venue is not None:
        venues = [choose("venue", venue, venues)]
    names = symbol_list(symbols) if symbols is not None else None
    listed = (
        await runtime.reader.instruments(venues)
        if names is None
        else (await runtime.reader.instruments_of([(name, symbol) for symbol in names for name in venues])).values()
    )
    rows = [
        row
        for row in listed
        if (base is None or row.base.upper() == base.upper())
        and (quote is None or row.quote.upper() == quote.upper())
        and (kind is None or row.kind == kind)
        and (text is None or _mentions(row, text.upper()))
    ]
    rows.sort(key=lambda row: (row.symbol, row.venue))
    places = [row.symbol + SEPARATOR + row.venue for row in rows]
    first = next((i for i, place in enumerate(places) if place > cursor), len(rows)) if cursor is not None else 0
    last = first + limit
    return InstrumentPage(rows[first:last], places[last - 1] if last < len(rows) else None, len(rows))


def _mentions(row: Instrument, text: str) -> bool:
    return text in row.symbol.upper() or text in (row.name or "").upper() or text in row.venue_symbol.upper()


@get("/instruments/{symbol:str}", tags=["instruments"], responses=PROBLEMS)
async def get_instruments(runtime: Context, symbol: FromPath[str]) -> SymbolInstruments:
    """One symbol's instruments, per venue that lists it."""
    venues = await runtime.reader.venues()
    rows = await runtime.reader.instruments(venues, symbol)
    if not rows:
        names = {row.symbol for row in await runtime.reader.instruments(venues)}
        near = difflib.get_close_matches(symbol.upper()[:60], names, n=5, cutoff=0.5)
        raise NotFound("unknown_symbol", f"no venue lists {symbol[:60]!r}", near)
    return SymbolInstruments(symbol, sorted(rows, key=lambda row: row.venue))
