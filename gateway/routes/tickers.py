"""Rolling 24 hours, in the unified form."""

from datetime import UTC, datetime

from litestar import get
from litestar.params import FromPath
from msgspec import Struct

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
from hub.model import Ticker

__all__ = ["SymbolTickers", "TickerView", "get_tickers", "list_tickers"]

KIND = "ticker"


class TickerView(Snapshot, kw_only=True):
    """Rolling 24 hours of one venue. `volume` in base units, `timestamp` ISO 8601 (the venue's time, else ours).

    `exchange` is the venue; `name` the instrument's, null where the venue gives none.
    """

    name: str | None
    exchange: str
    last_price: float | None
    open_price: float | None
    high_price: float | None
    low_price: float | None
    volume: float | None
    quote_volume: float | None
    bid_price: float | None
    ask_price: float | None
    timestamp: str | None


class SymbolTickers(Struct):
    symbol: str
    tickers: list[TickerView]


class TickerPage(Page):
    items: list[SymbolTickers]


def _iso(ts_ns: int) -> str:
    return (
        datetime.fromtimestamp(ts_ns // 1_000_000 / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def _view(runtime: Runtime, venue: str, symbol: str, ticker: Ticker | None, name: str | None) -> TickerView:
    return TickerView(
        **envelope(runtime, KIND, venue, symbol, ticker),
        name=name,
        exchange=venue,
        last_price=ticker.last_price if ticker else None,
        open_price=ticker.open_price if ticker else None,
        high_price=ticker.high_price if ticker else None,
        low_price=ticker.low_price if ticker else None,
        volume=ticker.volume if ticker else None,
        quote_volume=ticker.quote_volume if ticker else None,
        bid_price=ticker.bid_price if ticker else None,
        ask_price=ticker.ask_price if ticker else None,
        timestamp=_iso(ticker.ts_event or ticker.ts_recv) if ticker else None,
    )


async def _read(runtime: Runtime, grant: Grant, symbols: list[str], venue: str | None) -> list[SymbolTickers]:
    wanted = pairs(runtime, grant, KIND, symbols, venue)
    messages = await runtime.reader.newest([channel for channel, _, _ in wanted], Ticker)
    rows = await runtime.reader.instruments_of([(name, symbol) for _, name, symbol in wanted])
    found = {symbol: SymbolTickers(symbol, []) for symbol in symbols}
    for channel, name, symbol in wanted:
        row = rows.get((name, symbol))
        found[symbol].tickers.append(_view(runtime, name, symbol, messages.get(channel), row.name if row else None))
    return list(found.values())


@get("/tickers/{symbol:str}", tags=["tickers"], responses=PROBLEMS)
async def get_tickers(runtime: Context, grant: Granted, symbol: FromPath[str], venue: Venue = None) -> SymbolTickers:
    """Rolling 24 hours of one symbol, per venue."""
    venues_for(runtime, grant, KIND, symbol, venue)
    return (await _read(runtime, grant, [symbol], venue))[0]


@get("/tickers", tags=["tickers"], responses=PROBLEMS)
async def list_tickers(
    runtime: Context, grant: Granted, symbols: SymbolList = None, cursor: Cursor = None, limit: Limit = 100
) -> TickerPage:
    """Rolling 24 hours of many symbols, sorted by symbol."""
    names, following, unknown = page_of(visible(runtime, grant, KIND), symbols, cursor, limit)
    return TickerPage(following, unknown, await _read(runtime, grant, names, None))
