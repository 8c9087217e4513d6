"""Raw numbers over time, as history keeps them."""

import time
from typing import Annotated

from litestar import get
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from gateway.errors import PROBLEMS
from gateway.query import Context, Granted, Time, Venue, choose, time_range, venues_for
from hub.history import series_of
from hub.keys import channel_name
from hub.model import KINDS, State

__all__ = ["SymbolSeries", "VenueSeries", "get_series"]

#: kind -> field -> what becomes of several values in one millisecond
FIELDS = {kind: {spec.field: spec.policy for spec in series_of(kind, 1, 1)} for kind in sorted(KINDS)}
FIELDS = {kind: fields for kind, fields in FIELDS.items() if fields}

Kind = Annotated[str, QueryParameter(description="Kind.", schema_extra={"enum": list(FIELDS)})]
Field = Annotated[str | None, QueryParameter(description="Field of the kind; default its first.")]
PointLimit = Annotated[int, QueryParameter(ge=1, le=100_000, description="Points at most: the first of the range.")]


class VenueSeries(Struct):
    """`points` are [unix ms, value], oldest first."""

    venue: str
    state: State
    reason: str
    age_ms: int | None
    points: list[tuple[int, float]]


class SymbolSeries(Struct):
    symbol: str
    kind: str
    field: str
    venues: list[VenueSeries]


@get("/series/{symbol:str}", tags=["series"], responses=PROBLEMS)
async def get_series(
    runtime: Context,
    grant: Granted,
    symbol: FromPath[str],
    venue: Venue = None,
    kind: Kind = "quote",
    field: Field = None,
    start: Time = None,
    end: Time = None,
    limit: PointLimit = 10_000,
) -> SymbolSeries:
    """One field of one symbol over time (default: the last hour), per venue."""
    choose("kind", kind, FIELDS)
    field = choose("field", field or next(iter(FIELDS[kind])), FIELDS[kind])
    now_ms = time.time_ns() // 1_000_000
    start_ms, end_ms = time_range(start, end, now_ms, default_ms=3_600_000)
    found = []
    for name in venues_for(runtime, grant, kind, symbol, venue):
        channel = channel_name(kind, name, symbol)
        points = await runtime.reader.series(channel, field, start_ms, end_ms, limit, FIELDS[kind][field])
        state, reason = runtime.watch.state(kind, name, symbol, bool(points))
        age_ms = max(0, now_ms - points[-1][0]) if points else None
        found.append(VenueSeries(name, state, reason, age_ms, points))
    return SymbolSeries(symbol, kind, field, found)
