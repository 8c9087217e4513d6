"""What venues list."""

import difflib
from bisect import bisect_right
from operator import attrgetter
from typing import Annotated, get_args

from litestar import get
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from gateway.catalog import Entry
from gateway.errors import PROBLEMS
from gateway.query import Context, Cursor, Limit, SymbolList, choose, symbol_list
from hub.errors import NotFound
from hub.instruments import Instrument, InstrumentKind
from hub.listing import DELISTED

__all__ = [
    "AssetSymbol",
    "AssetView",
    "InstrumentPage",
    "SymbolInstruments",
    "get_asset",
    "get_instruments",
    "list_instruments",
]

KINDS = get_args(InstrumentKind)
#: Between symbol and venue in a cursor; neither can hold it.
SEPARATOR = ":"
NEAR_MAX = 5
#: Names that are looked through for those that are near to an unknown one.
LOOKED_AT = 2000

Filter = Annotated[str | None, QueryParameter(description="Exactly this, upper or lower case.")]
Kind = Annotated[str | None, QueryParameter(description="Kind of instrument.", schema_extra={"enum": list(KINDS)})]
Text = Annotated[str | None, QueryParameter(description="Part of symbol, name or the venue's spelling.")]
Status = Annotated[str | None, QueryParameter(description="Exactly this; default: all that are not `delisted`.")]


class InstrumentPage(Struct):
    """`next` is the cursor of the next page; null on the last one. `total` counts all that match."""

    items: list[Instrument]
    next: str | None
    total: int


class SymbolInstruments(Struct):
    symbol: str
    instruments: list[Instrument]


class AssetSymbol(Struct):
    """One symbol with the asset for its base, and the venues that list it."""

    symbol: str
    kind: str
    quote: str
    venues: list[str]


class AssetView(Struct):
    """One asset across venues: `venues` are all that list it, `symbols` a page of what they list it as."""

    asset: str
    venues: list[str]
    symbols: list[AssetSymbol]
    next: str | None
    total: int


@get("/instruments", tags=["instruments"], responses=PROBLEMS)
async def list_instruments(
    runtime: Context,
    base: Filter = None,
    quote: Filter = None,
    kind: Kind = None,
    venue: Filter = None,
    text: Text = None,
    status: Status = None,
    symbols: SymbolList = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> InstrumentPage:
    """Instruments of all venues, sorted by symbol and venue."""
    catalog = runtime.catalog
    await catalog.renew()
    if kind is not None:
        choose("kind", kind, KINDS)
    if venue is not None:
        choose("venue", venue, sorted({*catalog.syncs, *await runtime.reader.venues()}))
    if symbols is not None:
        entries = catalog.of_symbols(symbol_list(symbols))
    else:
        entries = catalog.of_base(base) if base is not None else catalog.entries
    sought, bases = (text or "").upper(), None if base is None else {entry.row.base for entry in catalog.of_base(base)}

    def wanted(entry: Entry) -> bool:
        row = entry.row
        return (
            (row.status == status if status is not None else row.status != DELISTED)
            and (bases is None or row.base in bases)
            and (quote is None or row.quote.upper() == quote.upper())
            and (kind is None or row.kind == kind)
            and (venue is None or row.venue == venue)
            and sought in entry.text
        )

    found = await catalog.select(entries, wanted)
    page, following = _page(found, cursor, limit)
    return InstrumentPage([catalog.shown(entry) for entry in page], following, len(found))


def _page(found: list[Entry], cursor: str | None, limit: int) -> tuple[list[Entry], str | None]:
    first = 0
    if cursor is not None:
        symbol, _, venue = cursor.partition(SEPARATOR)
        first = bisect_right(found, (symbol, venue), key=attrgetter("place"))
    last = first + limit
    return found[first:last], SEPARATOR.join(found[last - 1].place) if last < len(found) else None


@get("/instruments/{symbol:str}", tags=["instruments"], responses=PROBLEMS)
async def get_instruments(runtime: Context, symbol: FromPath[str]) -> SymbolInstruments:
    """One symbol's instruments, per venue that lists it or did."""
    catalog = runtime.catalog
    await catalog.renew()
    entries = catalog.of_symbols([symbol])
    if not entries:
        sought = symbol.upper()[:60]
        names = await catalog.names()
        # All of them would take a while: those that begin alike.
        alike = [name for name in names if name[:1] == sought[:1]][:LOOKED_AT]
        near = difflib.get_close_matches(sought, alike, n=NEAR_MAX, cutoff=0.5)
        raise NotFound("unknown_symbol", f"no venue lists {symbol[:60]!r}", near)
    return SymbolInstruments(symbol, [catalog.shown(entry) for entry in entries])


@get("/assets/{asset:str}", tags=["instruments"], responses=PROBLEMS)
async def get_asset(
    runtime: Context, asset: FromPath[str], kind: Kind = None, cursor: Cursor = None, limit: Limit = 100
) -> AssetView:
    """One asset (`BTC`, `AAPL`; other venues' words for it are known) and what it is listed as, across venues."""
    catalog = runtime.catalog
    await catalog.renew()
    if kind is not None:
        choose("kind", kind, KINDS)
    entries = [entry for entry in catalog.of_base(asset) if entry.row.status != DELISTED]
    if not entries:
        raise NotFound("unknown_asset", f"no venue lists anything of {asset[:60]!r}")
    symbols: dict[str, AssetSymbol] = {}
    for entry in entries:
        row = entry.row
        if kind in (None, row.kind):
            symbols.setdefault(row.symbol, AssetSymbol(row.symbol, row.kind, row.quote, [])).venues.append(row.venue)
    names = list(symbols)
    first = bisect_right(names, cursor) if cursor is not None else 0
    page = names[first : first + limit]
    following = page[-1] if page and first + limit < len(names) else None
    venues = sorted({entry.row.venue for entry in entries})
    return AssetView(entries[0].row.base, venues, [symbols[name] for name in page], following, len(names))
