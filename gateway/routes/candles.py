"""Candles."""

import time
from typing import Annotated

from litestar import get
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from gateway.errors import PROBLEMS
from gateway.query import Context, Granted, Snapshot, Time, Venue, choose, envelope, time_range, venues_for
from hub.intervals import INTERVALS
from hub.past_candles import CandleRow, read_candles

__all__ = ["SymbolCandles", "VenueCandles", "get_candles"]

Interval = Annotated[str, QueryParameter(description="Length of a candle.", schema_extra={"enum": list(INTERVALS)})]
CandleLimit = Annotated[int, QueryParameter(ge=1, le=5000, description="Candles at most: the newest of the range.")]


class VenueCandles(Snapshot, kw_only=True):
    """Closed candles of one venue, oldest first; the envelope is the newest published one's."""

    candles: list[CandleRow]


class SymbolCandles(Struct):
    symbol: str
    interval: str
    venues: list[VenueCandles]


@get("/candles/{symbol:str}", tags=["candles"], responses=PROBLEMS)
async def get_candles(
    runtime: Context,
    grant: Granted,
    symbol: FromPath[str],
    venue: Venue = None,
    interval: Interval = "1m",
    start: Time = None,
    end: Time = None,
    limit: CandleLimit = 500,
) -> SymbolCandles:
    """Closed candles of one symbol that start within `start..end` (end excluded), per venue."""
    choose("interval", interval, INTERVALS)
    start_ms, end_ms = time_range(start, end, time.time_ns() // 1_000_000)
    found = []
    for name in venues_for(runtime, grant, f"candle.{interval}", symbol, venue):
        rows, newest = await read_candles(runtime.reader, name, symbol, interval, start_ms, end_ms, limit)
        head = envelope(runtime, f"candle.{interval}", name, symbol, newest, present=bool(rows))
        found.append(VenueCandles(**head, candles=rows))
    return SymbolCandles(symbol, interval, found)
