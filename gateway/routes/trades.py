"""Recent trades, out of the log."""

from typing import Literal

from litestar import get
from litestar.params import FromPath
from msgspec import Struct

from gateway.errors import PROBLEMS
from gateway.query import Context, Granted, Limit, Snapshot, Venue, envelope, venues_for
from hub.keys import channel_name
from hub.model import Trade

__all__ = ["SymbolTrades", "TradeRow", "VenueTrades", "get_trades"]


class TradeRow(Struct):
    """One trade; `side` is the aggressor's, times are int ns UTC."""

    id: str
    ts_event: int | None
    ts_recv: int
    price: float
    size: float
    side: Literal["buy", "sell"] | None
    trade_id: str
    count: int


class VenueTrades(Snapshot, kw_only=True):
    """Trades of one venue, oldest first; the envelope is the newest one's."""

    trades: list[TradeRow]


class SymbolTrades(Struct):
    symbol: str
    venues: list[VenueTrades]


@get("/trades/{symbol:str}", tags=["trades"], responses=PROBLEMS)
async def get_trades(
    runtime: Context, grant: Granted, symbol: FromPath[str], venue: Venue = None, limit: Limit = 100
) -> SymbolTrades:
    """The newest trades of one symbol, per venue."""
    found = []
    for name in venues_for(runtime, grant, "trade", symbol, venue):
        trades = await runtime.reader.log(channel_name("trade", name, symbol), limit, Trade)
        rows = [TradeRow(t.id, t.ts_event, t.ts_recv, t.price, t.size, t.side, t.trade_id, t.count) for t in trades]
        head = envelope(runtime, "trade", name, symbol, trades[-1] if trades else None)
        found.append(VenueTrades(**head, trades=rows))
    return SymbolTrades(symbol, found)
