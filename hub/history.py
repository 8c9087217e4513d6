"""What was: numbers over time, one series per channel and field.

Two implementations of one interface: TimeSeries, and sorted sets for a Redis or Valkey without the module. Writers get
packed commands for their own pipeline (hub/link.py); readers call `range`. Several values in one millisecond become
one, by the field's policy: the last, or their sum.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from hub.instruments import Instrument
from hub.keys import Channel, Keys
from hub.link import pack

__all__ = ["History", "Sample", "SeriesSpec", "SortedSets", "TimeSeries", "has_timeseries", "open_history", "series_of"]

Policy: TypeAlias = Literal["last", "sum"]

CHUNK_BYTES = 1024
PAGE = 10_000


class SeriesSpec(Struct, frozen=True):
    """One field of a channel that has a series."""

    field: str
    policy: Policy
    retention_s: int


class Sample(Struct, frozen=True, gc=False):
    """A value at `ts_ms`; `unique` tells apart values of one millisecond where the server cannot add them up."""

    key: str
    ts_ms: int
    value: float
    unique: str = ""


_CANDLE_FIELDS = ("open", "high", "low", "close", "volume", "buy_volume", "sell_volume")


def series_of(kind: str, tick_s: int, candle_s: int) -> tuple[SeriesSpec, ...]:
    """Return the fields of `kind` that have a series: quotes, trades, and candles of 10s and 1m."""
    if kind == "quote":
        return SeriesSpec("bid", "last", tick_s), SeriesSpec("ask", "last", tick_s)
    if kind == "trade":
        return SeriesSpec("price", "last", tick_s), SeriesSpec("size", "sum", tick_s)
    if kind in {"candle.10s", "candle.1m"}:
        return tuple(SeriesSpec(field, "last", candle_s) for field in _CANDLE_FIELDS)
    return ()


class History(Protocol):
    """Where series are kept."""

    def create(self, keys: Keys, channel: Channel, specs: Iterable[SeriesSpec], row: Instrument | None) -> list[bytes]:
        """Return the commands that make the series of `channel`; harmless where they exist."""

    def add(self, samples: Sequence[Sample]) -> list[bytes]:
        """Return the commands that write `samples`."""

    def trim(self, key: str, spec: SeriesSpec, now_ms: int) -> list[bytes]:
        """Return the commands that drop what is older than the retention."""

    async def range(self, key: str, start_ms: int, end_ms: int, limit: int, policy: Policy) -> list[tuple[int, float]]:
        """Return (ms, value), oldest first, of `start_ms..end_ms` inclusive; [] where there is no series."""


class TimeSeries:
    """Series in the TimeSeries module. Retention is the server's work."""

    def __init__(self, client: Redis) -> None:
        self.client = client

    def create(self, keys: Keys, channel: Channel, specs: Iterable[SeriesSpec], row: Instrument | None) -> list[bytes]:
        labels: list[str] = ["kind", channel.kind, "venue", channel.venue, "symbol", channel.symbol]
        if row is not None:
            labels += ["base", row.base, "quote", row.quote]
        return [
            pack(
                "TS.CREATE", keys.series(channel.name, spec.field), "RETENTION", spec.retention_s * 1000,
                "CHUNK_SIZE", CHUNK_BYTES, "DUPLICATE_POLICY", spec.policy.upper(),
                "LABELS", *labels, "field", spec.field,
            )
            for spec in specs
        ]  # fmt: skip

    def add(self, samples: Sequence[Sample]) -> list[bytes]:
        args: list[str | int | float] = []
        for sample in samples:
            args += (sample.key, sample.ts_ms, sample.value)
        return [pack("TS.MADD", *args)] if args else []

    def trim(self, key: str, spec: SeriesSpec, now_ms: int) -> list[bytes]:
        return []

    async def range(self, key: str, start_ms: int, end_ms: int, limit: int, policy: Policy) -> list[tuple[int, float]]:
        try:
            reply = await _execute(self.client, "TS.RANGE", key, max(start_ms, 0), end_ms, "COUNT", limit)
        except ResponseError as error:
            if "does not exist" in str(error):
                return []
            raise
        return [(int(ts), float(value)) for ts, value in reply]


class SortedSets:
    """Series in sorted sets: score ms, member `ms:unique:value`. The writer trims; values are merged on reading."""

    def __init__(self, client: Redis) -> None:
        self.client = client

    def create(self, keys: Keys, channel: Channel, specs: Iterable[SeriesSpec], row: Instrument | None) -> list[bytes]:
        return []

    def add(self, samples: Sequence[Sample]) -> list[bytes]:
        return [
            pack("ZADD", sample.key, sample.ts_ms, f"{sample.ts_ms}:{sample.unique}:{sample.value!r}")
            for sample in samples
        ]

    def trim(self, key: str, spec: SeriesSpec, now_ms: int) -> list[bytes]:
        return [pack("ZREMRANGEBYSCORE", key, "-inf", f"({now_ms - spec.retention_s * 1000}")]

    async def range(self, key: str, start_ms: int, end_ms: int, limit: int, policy: Policy) -> list[tuple[int, float]]:
        rows: list[tuple[int, int, int, float]] = []
        while len({row[0] for row in rows}) <= limit:  # the last millisecond read may go on in the next page
            members: list[Any] = await self.client.zrange(
                key, start_ms, end_ms, byscore=True, offset=len(rows), num=PAGE
            )
            rows += map(_parsed, members)
            if len(members) < PAGE:
                break
        merged: dict[int, float] = {}
        for ts, _, _, value in sorted(rows):
            merged[ts] = merged.get(ts, 0.0) + value if policy == "sum" else value
        return list(merged.items())[:limit]


def _parsed(member: bytes) -> tuple[int, int, int, float]:
    """Return ms, epoch, seq and value: members of one millisecond stand in the order of their text, not of time."""
    ts, unique, value = member.decode().split(":", 2)
    epoch, _, seq = unique.partition("-")
    return int(ts), int(epoch or 0), int(seq or 0), float(value)


async def has_timeseries(client: Redis) -> bool:
    """Tell whether the server has the TimeSeries module, loaded or built in."""
    # Asked by using it: redis-py cannot read the answer of COMMAND INFO where the command does not exist.
    try:
        await _execute(client, "TS.GET", "tickwire:no-series")
    except ResponseError as error:
        return "unknown command" not in str(error).lower()
    return True


async def _execute(client: Redis, *args: str | int) -> Any:
    return await client.execute_command(*args)  # type: ignore[no-untyped-call]


async def open_history(client: Redis) -> History:
    """Return the history that this server can keep."""
    return TimeSeries(client) if await has_timeseries(client) else SortedSets(client)
