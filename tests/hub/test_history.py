"""hub/history.py: one suite for every way in which series are kept, on real servers with and without the module."""

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from hub.embedded import EmbeddedRedis
from hub.history import (
    AGGREGATES,
    History,
    Query,
    Sample,
    SeriesSpec,
    SeriesWriter,
    SortedSets,
    TimeSeries,
    open_history,
    samples_of,
    series_of,
)
from hub.instruments import Instrument
from hub.keys import Channel, Keys
from hub.link import Link, RedisReplyError
from hub.model import CANDLE_TYPES, Candle
from hub.redisio import command_client

KEYS = Keys("md:")
CHANNEL = Channel("trade", "venue", "A-B")
ROW = Instrument(venue="venue", venue_symbol="AB", symbol="A-B", kind="spot", base="A", quote="B")
LAST = SeriesSpec("price", "last", 3600)
SUM = SeriesSpec("size", "sum", 3600)
NOW = 1_700_000_000_000
"""unix ms"""


def key(spec: SeriesSpec) -> str:
    return KEYS.series(CHANNEL.name, spec.field)


def candle(start_ms: int) -> Candle:
    return CANDLE_TYPES["1m"](
        "venue", "A-B", "9-1", None, 1, 1, start_ms * 1_000_000, 1.0, 2.0, 0.5, 1.5, 3.0, 4.0, None, None, None, None,
        None, None, None, None, "venue", 0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def plain_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server without the TimeSeries module."""
    server = EmbeddedRedis(tmp_path_factory.mktemp("plain"), timeseries=False)
    asyncio.run(server.start())
    yield server.url
    asyncio.run(server.stop())


class Store:
    """A history, and the connection of its writer."""

    def __init__(self, history: History, client: Redis, link: Link) -> None:
        self.history, self.client, self.link = history, client, link

    async def write(self, commands: Sequence[bytes]) -> list[Any]:
        return await self.link.call(commands) if commands else []

    async def create(self, *specs: SeriesSpec) -> list[Any]:
        return await self.write(self.history.create(KEYS, CHANNEL, specs, ROW))

    async def add(self, spec: SeriesSpec, *values: tuple[int, float], first: int = 1) -> None:
        """Write (ms, value); they get consecutive ids from `first` on."""
        adds_up = spec.policy == "sum"
        samples = [
            Sample(key(spec), ts, value, f"9-{first + place}" if adds_up else "")
            for place, (ts, value) in enumerate(values)
        ]
        replies = await self.write(self.history.add(samples))
        flat = [part for reply in replies for part in (reply if isinstance(reply, list) else [reply])]
        errors = [str(part) for part in flat if isinstance(part, Exception)]
        assert errors == []

    async def range(
        self, spec: SeriesSpec, start: int = 0, end: int = 1 << 50, limit: int = 1000
    ) -> list[tuple[int, float]]:
        (found,) = await self.history.read([Query(key(spec), spec.policy)], start, end, limit)
        return found


@pytest.fixture(params=["TimeSeries", "SortedSets", "SortedSets without the module"])
async def store(request: pytest.FixtureRequest, redis_url: str, plain_url: str) -> AsyncIterator[Store]:
    url = plain_url if "without" in request.param else redis_url
    client = command_client(url)
    await client.flushall()
    history: History = TimeSeries(client) if request.param == "TimeSeries" else SortedSets(client)
    link = await Link.connect(url)
    yield Store(history, client, link)
    link.close()
    await client.aclose()


async def test_nothing_there_is_nothing(store: Store) -> None:
    assert await store.range(LAST) == []
    await store.create(LAST)
    assert await store.range(LAST) == []


async def test_values_come_oldest_first_and_bounds_are_inclusive(store: Store) -> None:
    await store.create(LAST)
    await store.add(LAST, (NOW + 30, 3.0), (NOW + 10, 1.0), (NOW + 20, 2.0), (NOW + 40, 4.0))
    assert await store.range(LAST) == [(NOW + 10, 1.0), (NOW + 20, 2.0), (NOW + 30, 3.0), (NOW + 40, 4.0)]
    assert await store.range(LAST, NOW + 20, NOW + 30) == [(NOW + 20, 2.0), (NOW + 30, 3.0)]
    assert await store.range(LAST, NOW + 21, NOW + 29) == []
    assert await store.range(LAST, NOW + 30, NOW + 20) == []
    assert await store.range(LAST, -5, NOW + 10) == [(NOW + 10, 1.0)]
    assert await store.range(LAST, limit=2) == [(NOW + 10, 1.0), (NOW + 20, 2.0)]


async def test_of_one_millisecond_the_last_value_counts_or_their_sum(store: Store) -> None:
    """Also where the ids of the values have different lengths, and where they come in different batches."""
    for spec, expected in ((LAST, 13.0), (SUM, sum(range(1, 14)))):
        await store.create(spec)
        await store.add(spec, *((NOW, float(value)) for value in range(1, 12)))
        await store.add(spec, (NOW, 12.0), (NOW, 13.0), first=12)
        await store.add(spec, (NOW + 1, 5.0), first=100)
        assert await store.range(spec) == [(NOW, expected), (NOW + 1, 5.0)]
        assert await store.range(spec, limit=1) == [(NOW, expected)]


async def test_equal_values_of_one_millisecond_are_both_counted(store: Store) -> None:
    await store.create(SUM)
    await store.add(SUM, (NOW, 0.5), (NOW, 0.5), (NOW, 0.5))
    assert await store.range(SUM) == [(NOW, 1.5)]


async def test_a_correction_replaces(store: Store) -> None:
    await store.create(LAST)
    await store.add(LAST, (NOW, 1.0), (NOW + 60_000, 2.0))
    await store.add(LAST, (NOW, 1.5), first=10)
    assert await store.range(LAST) == [(NOW, 1.5), (NOW + 60_000, 2.0)]


async def test_more_than_one_page_is_read_to_its_end(store: Store) -> None:
    await store.create(SUM)
    for part in range(0, 25_000, 5000):
        values = [(NOW + number // 5, 1.0) for number in range(part, part + 5000)]
        await store.add(SUM, *values, first=part + 1)
    assert await store.range(SUM, limit=10_000) == [(NOW + number, 5.0) for number in range(5000)]
    assert await store.range(SUM, limit=2500) == [(NOW + number, 5.0) for number in range(2500)]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    times=st.sets(st.integers(0, 400), min_size=1, max_size=60),
    bucket=st.integers(1, 50),
    start=st.integers(0, 400),
    limit=st.integers(1, 30),
)
async def test_buckets_are_what_their_values_make(
    store: Store, times: set[int], bucket: int, start: int, limit: int
) -> None:
    """Also where several values of one millisecond came, of which the last counts or the sum."""
    await store.client.flushall()
    values = [(ts, (ts * 37 % 101) / 4) for ts in times for _ in range(2)]
    await store.create(LAST, SUM)
    for spec in (LAST, SUM):
        await store.add(spec, *values)
        single = {ts: value * (2 if spec is SUM else 1) for ts, value in values if ts >= start}
        groups = itertools.groupby(sorted(single.items()), key=lambda point: point[0] // bucket * bucket)
        made = [(begin, [value for _, value in group]) for begin, group in groups][:limit]
        queries = [Query(key(spec), spec.policy, bucket, how) for how in AGGREGATES]
        found = dict(zip(AGGREGATES, await store.history.read(queries, start, 1000, limit), strict=True))
        assert found["first"] == [(begin, group[0]) for begin, group in made]
        assert found["last"] == [(begin, group[-1]) for begin, group in made]
        assert found["min"] == [(begin, min(group)) for begin, group in made]
        assert found["max"] == [(begin, max(group)) for begin, group in made]
        assert found["sum"] == [(begin, sum(group)) for begin, group in made]
        assert found["count"] == [(begin, len(group)) for begin, group in made]
        assert [begin for begin, _ in found["avg"]] == [begin for begin, _ in made]
        averages = [value for _, value in found["avg"]]
        assert averages == pytest.approx([sum(group) / len(group) for _, group in made])


async def test_a_value_can_be_taken_away(store: Store) -> None:
    await store.create(LAST)
    await store.add(LAST, (NOW, 1.0), (NOW + 1, 2.0))
    samples = [Sample(key(LAST), NOW, None), Sample(key(LAST), NOW + 5, None), Sample(key(LAST), NOW + 9, 3.0)]
    assert store.history.failed(samples, await store.write(store.history.add(samples))) == []
    assert await store.range(LAST) == [(NOW + 1, 2.0), (NOW + 9, 3.0)]


async def test_one_bad_sample_does_not_spoil_the_others(store: Store) -> None:
    """In a batch, and when it is tried again alone; it comes back with its key."""
    await store.create(LAST, SUM)
    await store.client.set("bad", "text")
    samples = [
        Sample(key(LAST), NOW, 1.0), Sample("bad", NOW, 2.0), Sample(key(SUM), NOW, 3.0, "9-1"),
        Sample("bad", NOW, None), Sample(key(LAST), NOW + 1, None),
    ]  # fmt: skip
    writer = SeriesWriter(store.history)
    given_up = writer.confirmed(await store.write(writer.commands(samples)))
    assert (given_up, writer.again) == ([], {"bad"})
    more = [Sample(key(LAST), NOW + 2, 4.0)]
    given_up = writer.confirmed(await store.write(writer.commands(more)))
    assert [(sample.key, sample.value) for sample, _ in given_up] == [("bad", 2.0), ("bad", None)]
    assert all(reason for _, reason in given_up)
    assert writer.again == set()
    assert await store.range(LAST) == [(NOW, 1.0), (NOW + 2, 4.0)]
    assert await store.range(SUM) == [(NOW, 3.0)]


async def test_a_sample_that_is_written_again_does_not_undo_a_newer_one(store: Store) -> None:
    writer = SeriesWriter(store.history)
    await store.client.set(key(LAST), "text")
    assert writer.confirmed(await store.write(writer.commands([Sample(key(LAST), NOW, 1.0)]))) == []
    assert writer.again == {key(LAST)}
    await store.client.delete(key(LAST))
    await store.create(LAST)
    assert writer.confirmed(await store.write(writer.commands([Sample(key(LAST), NOW, 2.0)]))) == []
    assert await store.range(LAST) == [(NOW, 2.0)]


async def test_when_the_whole_command_fails_each_sample_is_tried_alone(store: Store) -> None:
    await store.create(LAST, SUM)
    samples = [Sample(key(LAST), NOW, 1.0), Sample(key(SUM), NOW, 3.0, "9-1")]
    writer = SeriesWriter(store.history)
    refusal = RedisReplyError("OOM command not allowed when used memory > 'maxmemory'.")
    assert writer.confirmed([refusal] * len(writer.commands(samples))) == []
    assert writer.again == {key(LAST), key(SUM)}
    assert writer.confirmed(await store.write(writer.commands([]))) == []
    assert (await store.range(LAST), await store.range(SUM)) == ([(NOW, 1.0)], [(NOW, 3.0)])


def test_what_is_too_old_is_not_written() -> None:
    specs = series_of("candle.1m", 10, 60)
    message = candle(start_ms=NOW)
    keys = [spec.field for spec in specs]
    assert len(samples_of(message, keys, specs, NOW + 60_000)) == len(specs)
    assert samples_of(message, keys, specs, NOW + 60_001) == []


async def test_what_is_older_than_the_retention_goes(store: Store) -> None:
    spec = SeriesSpec("price", "last", 60)
    await store.create(spec)
    await store.add(spec, *((NOW + second * 1000, float(second)) for second in range(0, 121, 10)))
    await store.write(store.history.trim(key(spec), spec, NOW + 120_000))
    assert await store.range(spec) == [(NOW + second * 1000, float(second)) for second in range(60, 121, 10)]


async def test_making_a_series_twice_is_harmless(store: Store) -> None:
    await store.create(LAST, SUM)
    await store.add(LAST, (NOW, 1.0))
    replies = await store.create(LAST, SUM)
    assert all("already exists" in str(reply) for reply in replies)
    assert await store.range(LAST) == [(NOW, 1.0)]


async def test_a_key_of_another_kind_is_an_error(store: Store) -> None:
    await store.client.set(key(LAST), "text")
    with pytest.raises(ResponseError):
        await store.range(LAST)


async def test_writing_nothing_is_no_command(store: Store) -> None:
    assert store.history.add([]) == []
    assert store.history.create(KEYS, CHANNEL, [], ROW) == []


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=1, max_size=20))
async def test_numbers_come_back_as_they_were(store: Store, values: list[float]) -> None:
    await store.client.flushall()
    await store.create(LAST)
    await store.add(LAST, *((NOW + place, value) for place, value in enumerate(values)))
    found = [value for _, value in await store.range(LAST)]
    assert found == values
    assert [math.copysign(1, value) for value in found] == [math.copysign(1, value) for value in values]


async def test_series_have_labels(redis_url: str) -> None:
    client = command_client(redis_url)
    link = await Link.connect(redis_url)
    history = TimeSeries(client)
    await link.call(history.create(KEYS, CHANNEL, [LAST], ROW))
    await link.call(history.create(KEYS, Channel("quote", "venue", "X-Y"), [LAST], None))
    query = ("TS.QUERYINDEX", "kind=trade", "venue=venue", "symbol=A-B", "base=A", "quote=B", "field=price")
    assert await client.execute_command(*query) == [key(LAST).encode()]  # type: ignore[no-untyped-call]
    link.close()
    await client.aclose()


async def test_the_server_decides_how_series_are_kept(redis_url: str, plain_url: str) -> None:
    for url, kind in ((redis_url, TimeSeries), (plain_url, SortedSets)):
        client = command_client(url)
        assert type(await open_history(client)) is kind
        await client.aclose()


def test_which_kinds_have_series() -> None:
    candle = ["open", "high", "low", "close", "volume", "buy_volume", "sell_volume", "trades"]
    assert [(spec.field, spec.policy, spec.retention_s) for spec in series_of("quote", 10, 20)] == [
        ("bid", "last", 10), ("ask", "last", 10),
    ]  # fmt: skip
    assert [(spec.field, spec.policy, spec.retention_s) for spec in series_of("trade", 10, 20)] == [
        ("price", "last", 10), ("size", "sum", 10),
    ]  # fmt: skip
    for kind in ("candle.10s", "candle.1m"):
        assert [spec.field for spec in series_of(kind, 10, 20)] == candle
        assert {(spec.policy, spec.retention_s) for spec in series_of(kind, 10, 20)} == {("last", 20)}
    for kind in ("book", "depth", "status", "candle.1s", "candle.1h", "forming.1m"):
        assert series_of(kind, 10, 20) == ()
