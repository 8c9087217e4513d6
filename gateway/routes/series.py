"""Numbers over time, as history keeps them or one for each interval."""

import time
from typing import Annotated, Any, Final, Literal

from litestar import Request, Response, get
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from gateway.errors import TABLE_PROBLEMS
from gateway.points import PointReader
from gateway.query import Context, Granted, Time, Venue, choose, time_range, venues_for
from gateway.runtime import Runtime
from gateway.tables import Column, Table, TableOperation, answer
from hub.errors import RequestError
from hub.history import Query, series_of
from hub.intervals import parse_interval
from hub.keys import channel_name
from hub.model import KINDS, State

__all__ = ["SymbolSeries", "VenueSeries", "get_series"]

#: kind -> field -> what becomes of several values in one millisecond
FIELDS: Final = {
    kind: {spec.field: spec.policy for spec in specs} for kind in sorted(KINDS) if (specs := series_of(kind, 1, 1))
}
_AGGREGATES: Final = ("last", "first", "avg", "min", "max", "sum", "count")
HOUR_MS: Final = 3_600_000

Kind = Annotated[str, QueryParameter(description="Kind.", schema_extra={"enum": list(FIELDS)})]
Field = Annotated[str | None, QueryParameter(description="Fields of the kind with commas between; default its first.")]
PointLimit = Annotated[int, QueryParameter(ge=1, le=100_000, description="Points per venue at most: the first ones.")]
Step = Annotated[
    str | None,
    QueryParameter(
        description="One point for each interval of this length (10s, 5m, 1d; aligned to 1970-01-01 UTC) that begins "
        "in the range. Default: as stored."
    ),
]
How = Annotated[
    Literal["last", "first", "avg", "min", "max", "sum", "count"],
    QueryParameter(description="What becomes of the values of an interval."),
]
Gaps = Annotated[
    Literal["skip", "null"],
    QueryParameter(description="Intervals without a value between two that have one: left out, or null."),
]


class VenueSeries(Struct):
    """`points` are [unix ms, value of each field], oldest first; null where a field has none. `next` (ms) is the
    `start` with which the range goes on where the limit cut it, else null."""

    venue: str
    state: State
    reason: str
    age_ms: int | None
    points: list[list[int | float | None]]
    next: int | None


class SymbolSeries(Struct):
    symbol: str
    kind: str
    fields: list[str]
    venues: list[VenueSeries]


@get("/series/{symbol:str}", tags=["series"], responses=TABLE_PROBLEMS, operation_class=TableOperation)
async def get_series(
    request: Request[Any, Any, Any],
    runtime: Context,
    grant: Granted,
    symbol: FromPath[str],
    venue: Venue = None,
    kind: Kind = "quote",
    field: Field = None,
    start: Time = None,
    end: Time = None,
    interval: Step = None,
    aggregate: How = "last",
    gaps: Gaps = "skip",
    limit: PointLimit = 10_000,
) -> Response[SymbolSeries]:
    """Fields of one symbol over time, start and end included (default: the last hour), per venue."""
    choose("kind", kind, FIELDS)
    fields = [choose("field", name.strip(), FIELDS[kind]) for name in (field or next(iter(FIELDS[kind]))).split(",")]
    if len(set(fields)) < len(fields):
        raise RequestError("bad_parameter", f"field = {field!r} names one twice", list(FIELDS[kind]))
    if interval is None and (gaps == "null" or aggregate != "last"):
        raise RequestError("bad_parameter", "aggregate and gaps are about intervals: give an interval", ["interval=1m"])
    bucket_ms = 0 if interval is None else parse_interval(interval) * 1000
    now_ms = time.time_ns() // 1_000_000
    start_ms, end_ms = time_range(start, end, now_ms, default_ms=HOUR_MS)
    if bucket_ms:  # whole intervals, those that begin in the range
        start_ms, end_ms = -(-start_ms // bucket_ms) * bucket_ms, end_ms // bucket_ms * bucket_ms + bucket_ms - 1
    tables = []
    for name in venues_for(runtime, grant, kind, symbol, venue):
        keys = [runtime.keys.series(channel_name(kind, name, symbol), each) for each in fields]
        queries = [Query(key, FIELDS[kind][each], bucket_ms, aggregate) for key, each in zip(keys, fields, strict=True)]
        points = PointReader(runtime.reader, queries, start_ms, end_ms, limit, fill=gaps == "null")
        tables.append(_table(runtime, kind, name, symbol, points))
    columns = [Column("time", "ms"), *(Column(each, "float") for each in fields)]
    return await answer(request, {"symbol": symbol, "kind": kind, "fields": fields}, tables, columns)


def _table(runtime: Runtime, kind: str, venue: str, symbol: str, points: PointReader) -> Table:
    def head(present: bool) -> dict[str, Any]:
        # That nothing lies in the range says nothing about now.
        published = channel_name(kind, venue, symbol) in runtime.directory.names
        state, reason = runtime.watch.state(kind, venue, symbol, present or published)
        return {"venue": venue, "state": state, "reason": reason}

    def tail() -> dict[str, Any]:
        age_ms = None if points.last_ms is None else max(0, time.time_ns() // 1_000_000 - points.last_ms)
        return {"age_ms": age_ms, "next": points.next_ms}

    return Table(venue, "points", points.pages(), head, tail)
