"""What a series is: which fields of which kinds have one, the samples written to it and the interface of its keepers.

| kind | series | of several values in one ms | kept for |
|---|---|---|---|
| `quote` | bid, ask (sampled) | the last | `history.tick_s` |
| `trade` | price; size | the last; their sum | `history.tick_s` |
| `candle.10s`, `candle.1m` | open, high, low, close, volume, buy_volume, sell_volume, trades, at `start` | the last | `history.candle_s` |
"""  # noqa: E501

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias, get_args

from msgspec import Struct

from hub.instruments import Instrument
from hub.intervals import NS_PER_MS
from hub.keys import Channel, Keys
from hub.model import Candle, Trade

__all__ = ["AGGREGATES", "Aggregate", "History", "Policy", "Query", "Sample", "SeriesSpec", "samples_of", "series_of"]

Policy: TypeAlias = Literal["last", "sum"]
Aggregate: TypeAlias = Literal["first", "last", "min", "max", "sum", "avg", "count"]
AGGREGATES: Final[tuple[Aggregate, ...]] = get_args(Aggregate)


class SeriesSpec(Struct, frozen=True):
    """One field of a channel that has a series."""

    field: str
    policy: Policy
    retention_s: int


class Sample(Struct, frozen=True, gc=False):
    """A value at `ts_ms`; None takes away what is there.

    `unique` is for values that add up: it tells apart those of one millisecond. Without it the value replaces.
    """

    key: str
    ts_ms: int
    value: float | None
    unique: str = ""


class Query(Struct, frozen=True):
    """One series to read: as stored, or with `bucket_ms` in buckets aligned to the epoch, one value for each."""

    key: str
    policy: Policy
    bucket_ms: int = 0
    aggregate: Aggregate = "last"


_CANDLE_FIELDS = ("open", "high", "low", "close", "volume", "buy_volume", "sell_volume", "trades")


def series_of(kind: str, tick_s: int, candle_s: int) -> tuple[SeriesSpec, ...]:
    """Return the fields of `kind` that have a series: quotes, trades, and candles of 10s and 1m."""
    if kind == "quote":
        return SeriesSpec("bid", "last", tick_s), SeriesSpec("ask", "last", tick_s)
    if kind == "trade":
        return SeriesSpec("price", "last", tick_s), SeriesSpec("size", "sum", tick_s)
    if kind in {"candle.10s", "candle.1m"}:
        return tuple(SeriesSpec(field, "last", candle_s) for field in _CANDLE_FIELDS)
    return ()


def samples_of(message: Trade | Candle, keys: Sequence[str], specs: Sequence[SeriesSpec], now_ms: int) -> list[Sample]:
    """Return what `message` writes into its series (`keys`, in the order of `specs`); nothing where it is too old.

    A candle is written whole: what it does not know takes away what an earlier revision knew.
    """
    if type(message) is Trade:  # by far the most
        ts_ms = (message.ts_event if message.ts_event is not None else message.ts_recv) // NS_PER_MS
        if ts_ms < now_ms - specs[0].retention_s * 1000:
            return []
        price, size = keys
        return [Sample(price, ts_ms, message.price), Sample(size, ts_ms, message.size, message.id)]
    assert isinstance(message, Candle)
    ts_ms = message.start // NS_PER_MS
    return [
        Sample(key, ts_ms, getattr(message, spec.field))
        for key, spec in zip(keys, specs, strict=True)
        if ts_ms >= now_ms - spec.retention_s * 1000
    ]


class History(Protocol):
    """Where series are kept."""

    def create(self, keys: Keys, channel: Channel, specs: Iterable[SeriesSpec], row: Instrument | None) -> list[bytes]:
        """Return the commands that make the series of `channel`; harmless where they exist."""

    def add(self, samples: Sequence[Sample]) -> list[bytes]:
        """Return the commands that write `samples`."""

    def failed(self, samples: Sequence[Sample], replies: Sequence[Any]) -> list[tuple[Sample, str]]:
        """Return the samples that were not written and why, from the replies to `add(samples)`."""

    def trim(self, key: str, spec: SeriesSpec, now_ms: int) -> list[bytes]:
        """Return the commands that drop what is older than the retention."""

    async def read(
        self, queries: Sequence[Query], start_ms: int, end_ms: int, limit: int
    ) -> list[list[tuple[int, float]]]:
        """Return for each query its (ms, value), oldest first, of `start_ms..end_ms` inclusive, `limit` at most.

        [] where there is no series. Of a bucket the ms is its start; only values within the range count, and there is
        none where no value is. The series of one channel are read as of one moment where the server allows it.
        """
