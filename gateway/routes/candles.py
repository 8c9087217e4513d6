"""Candles."""

import time
from typing import Annotated, Any, Final

from litestar import Request, Response, get
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from gateway.errors import TABLE_PROBLEMS
from gateway.query import Context, Granted, Snapshot, Time, Venue, envelope, not_allowed, time_range, venues_of
from gateway.runtime import Runtime
from gateway.tables import Column, Table, TableOperation, answer
from hub.intervals import NS_PER_MS, parse_interval
from hub.past_candles import CLOSING_MS, CandleReader, CandleRow, CandleSpan, Source, source_of

__all__ = ["SymbolCandles", "VenueCandles", "get_candles"]

INTERVAL_FORM = r"^[1-9][0-9]{0,7}[smhd]$"
Interval = Annotated[
    str,
    QueryParameter(
        description="Length of a candle, a multiple of a stored one: 10s, 1m, 45m, 7d. Aligned to 1970-01-01 UTC.",
        schema_extra={"pattern": INTERVAL_FORM},
    ),
]
CandleLimit = Annotated[
    int,
    QueryParameter(
        ge=1, le=100_000, description="Candles per venue at most: with `start` the first of the range, else the last."
    ),
]
_KINDS: Final[dict[str, Any]] = {"start": "ns", "source": "text", "trades": "int", "buy_trades": "int"} | {
    "sell_trades": "int", "revision": "int", "parts": "int", "parts_max": "int",
}  # fmt: skip
COLUMNS = [Column(name, _KINDS.get(name, "float")) for name in CandleRow.__struct_fields__]


class VenueCandles(Snapshot, kw_only=True):
    """Closed candles of one venue, oldest first; the envelope is the newest published one's. `next` (int ns) is the
    `start` with which the range goes on where the limit cut it, else null."""

    candles: list[CandleRow]
    next: int | None


class SymbolCandles(Struct):
    symbol: str
    interval: str
    venues: list[VenueCandles]


@get("/candles/{symbol:str}", tags=["candles"], responses=TABLE_PROBLEMS, operation_class=TableOperation)
async def get_candles(
    request: Request[Any, Any, Any],
    runtime: Context,
    grant: Granted,
    symbol: FromPath[str],
    venue: Venue = None,
    interval: Interval = "1m",
    start: Time = None,
    end: Time = None,
    limit: CandleLimit = 500,
) -> Response[SymbolCandles]:
    """Closed candles of one symbol that start within `start..end` (end excluded), per venue; JSON, CSV or Arrow."""
    now_ms = time.time_ns() // 1_000_000
    start_ms, end_ms = time_range(start, end, now_ms)
    closed_ms = now_ms - runtime.settings.candles.grace_ms - CLOSING_MS
    span = CandleSpan(start_ms, end_ms, limit, start is None, closed_ms)
    names = runtime.directory.names
    parse_interval(interval)
    tables = []
    for name in venues_of(runtime, symbol, venue):
        source = source_of(interval, names, name, symbol)
        if grant.allows(source.kind, name, symbol):
            tables.append(_table(runtime, name, symbol, source, span))
    if not tables:
        raise not_allowed(f"candle.{interval}", symbol, venue)
    return await answer(request, {"symbol": symbol, "interval": interval}, tables, COLUMNS)


def _table(runtime: Runtime, venue: str, symbol: str, source: Source, span: CandleSpan) -> Table:
    candles = CandleReader(runtime.reader, venue, symbol, source, span)

    def head(present: bool) -> dict[str, Any]:
        # That nothing lies in the range says nothing about now.
        return envelope(
            runtime, source.kind, venue, symbol, candles.newest, present=present or candles.newest is not None
        )

    def tail() -> dict[str, Any]:
        return {"next": None if candles.next_ms is None else candles.next_ms * NS_PER_MS}

    return Table(venue, "candles", candles.pages(), head, tail)
