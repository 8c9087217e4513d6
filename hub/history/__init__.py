"""What was: numbers over time, one series per channel and field.

Two implementations of one interface (hub/history/series.py): TimeSeries, and sorted sets for a Redis or Valkey without
the module. Writers get packed commands for their own pipeline (hub/link.py); readers call `read`. Several values in one
millisecond become one, by the field's policy: the last, or their sum.
"""

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from hub.history.series import (
    AGGREGATES,
    Aggregate,
    History,
    Policy,
    Query,
    Sample,
    SeriesSpec,
    samples_of,
    series_of,
)
from hub.history.sortedsets import SortedSets
from hub.history.timeseries import TimeSeries
from hub.history.writer import SeriesWriter

__all__ = [
    "AGGREGATES",
    "Aggregate",
    "History",
    "Policy",
    "Query",
    "Sample",
    "SeriesSpec",
    "SeriesWriter",
    "SortedSets",
    "TimeSeries",
    "has_timeseries",
    "open_history",
    "samples_of",
    "series_of",
]


async def has_timeseries(client: Redis) -> bool:
    """Tell whether the server has the TimeSeries module, loaded or built in."""
    # Asked by using it: redis-py cannot read the answer of COMMAND INFO where the command does not exist.
    try:
        await client.execute_command("TS.GET", "tickwire:no-series")  # type: ignore[no-untyped-call]  # as redis-py has it
    except ResponseError as error:
        return "unknown command" not in str(error).lower()
    return True


async def open_history(client: Redis) -> History:
    """Return the history that this server can keep."""
    return TimeSeries(client) if await has_timeseries(client) else SortedSets(client)
