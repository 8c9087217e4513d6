"""REST of the past, candles and series, on real servers with and without the TimeSeries module: what a real publisher
wrote, read back in any length and format, against a plain computation."""

import asyncio
import csv
import io
import itertools
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from gateway.query import parse_time
from gateway.routes.candles import SymbolCandles
from gateway.routes.series import SymbolSeries
from hub.config import PublisherSettings
from hub.embedded import EmbeddedRedis
from hub.errors import RequestError
from hub.history import Sample, open_history, series_of
from hub.intervals import INTERVALS, NS_PER_MS
from hub.keys import Channel
from hub.link import Link
from hub.model import CANDLE_TYPES, Candle
from hub.past_candles import source_of
from hub.redisio import command_client
from tests.gateway.kit import Feed, Gateway, gateway_on, status, unchunked
from tests.hub.publishing import KEYS, Rig, rig, trade

MINUTE = 60_000
DAY = 24 * 60 * MINUTE
SUMMED = ("volume", "notional", "buy_volume", "sell_volume", "trades", "buy_trades", "sell_trades")
STORED = ("open", "high", "low", "close", "volume", "buy_volume", "sell_volume", "trades")


@pytest.fixture(scope="module")
def plain_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server without the TimeSeries module."""
    server = EmbeddedRedis(tmp_path_factory.mktemp("plain"), timeseries=False)
    asyncio.run(server.start())
    yield server.url
    asyncio.run(server.stop())


@pytest.fixture(params=["TimeSeries", "SortedSets"])
async def url(request: pytest.FixtureRequest, redis_url: str, plain_url: str) -> str:
    if request.param == "TimeSeries":
        return redis_url
    async with command_client(plain_url) as client:
        await client.flushall()
    return plain_url


@pytest.fixture
async def hub(url: str) -> AsyncIterator[tuple[Rig, Gateway]]:
    """A publisher whose logs are short, and a gateway."""
    async with rig(url, publisher=PublisherSettings(log_candles=40)) as it, gateway_on(url) as gateway:
        yield it, gateway


def candle(start_ms: int, interval: str = "1m", revision: int = 0, venue: str = "venue", seed: int = 0) -> Candle:
    """A candle whose numbers are sums of powers of two, so that adding them up is exact in any order."""
    chance = random.Random(f"{start_ms} {interval} {revision} {seed}")
    prices = [chance.randrange(1, 4000) / 8 for _ in range(4)]
    buy, sell = chance.randrange(100) / 4, chance.randrange(1, 100) / 4
    trades = chance.randrange(2, 50)
    now = time.time_ns()
    return CANDLE_TYPES[interval](
        venue, "A-B", "", now, now, 0, start_ms * NS_PER_MS, prices[0], max(prices), min(prices), prices[3],
        buy + sell, (buy + sell) * 2, 2.0, trades, trades - 1, 1, buy, sell, buy * 2, sell * 2, "trades", revision,
    )  # fmt: skip


def joined(candles: Sequence[Candle], interval: str, closed_ms: int) -> list[dict[str, Any]]:
    """Return candles of `interval`, plainly computed from the newest revisions of shorter ones."""
    newest = {each.start // NS_PER_MS: each for each in candles}
    length = (int(interval[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[interval[-1]]) * 1000
    rows = []
    for start, group in itertools.groupby(sorted(newest), key=lambda ts: ts // length * length):
        parts = [newest[ts] for ts in group]
        if start >= min(newest) and start + length <= closed_ms:
            row: dict[str, Any] = {"start": start * NS_PER_MS, "open": parts[0].open, "close": parts[-1].close}
            row |= {"high": max(each.high for each in parts), "low": min(each.low for each in parts)}
            rows.append(row | {name: sum(getattr(each, name) for each in parts) for name in SUMMED})
    return rows


async def publish(it: Rig, *messages: Any) -> None:
    for number, message in enumerate(messages):
        it.publisher.publish(message)
        if number % 500 == 0:
            await it.drained()
    await it.drained()
    assert it.publisher.counters["samples_refused"] == 0


async def rows_of(gateway: Gateway, query: str) -> list[dict[str, Any]]:
    code, body = await gateway.get(f"/v1/candles/A-B?{query}")
    assert code == 200, body
    msgspec.convert(body, SymbolCandles)
    (view,) = body["venues"]
    rows: list[dict[str, Any]] = view["candles"]
    return rows


def recent(count: int, step: int = MINUTE, share: float = 0.8, seed: int = 1) -> list[int]:
    """Starts of candles, some missing, the last one closed a while ago."""
    end = time.time_ns() // NS_PER_MS // DAY * DAY
    chance = random.Random(seed)
    return [
        end - (count - place) * step for place in range(count) if place in (0, count - 1) or chance.random() < share
    ]


def stored(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("start", *STORED)}


@pytest.mark.parametrize("interval", ["1m", "3m", "45m", "2h", "7h", "1d", "2d"])
async def test_candles_of_any_length_are_exactly_those_of_their_parts(hub: tuple[Rig, Gateway], interval: str) -> None:
    it, gateway = hub
    candles = [candle(start) for start in recent(4 * 24 * 60)]
    await publish(it, *candles)
    expected = joined(candles, interval, time.time_ns() // NS_PER_MS)
    rows = await rows_of(gateway, f"interval={interval}&limit=10000")
    assert [stored(row) for row in rows] == [stored(row) for row in expected]
    for row, wanted in zip(rows, expected, strict=True):
        for name in ("notional", "buy_trades", "sell_trades"):
            assert row[name] in (None, wanted[name])
        assert row["vwap"] in (None, 2.0)
    if interval in ("1m", "3m"):
        assert rows[-1]["notional"] == expected[-1]["notional"], "the newest are in the log, which knows everything"
        assert rows[-1]["vwap"] == 2.0
    assert rows[0]["notional"] is None, "the oldest are in the series, which know less"
    part = rows[1:4]
    found = await rows_of(gateway, f"interval={interval}&start={part[0]['start']}&end={part[-1]['start'] + 1}")
    assert found == part


async def test_lengths_that_10s_candles_make(hub: tuple[Rig, Gateway]) -> None:
    it, gateway = hub
    candles = [candle(start, "10s") for start in recent(2000, 10_000)]
    await publish(it, *candles)
    for interval in ("10s", "30s", "90s", "4m"):
        rows = await rows_of(gateway, f"interval={interval}&limit=10000")
        expected = joined(candles, interval, time.time_ns() // NS_PER_MS)
        assert [stored(row) for row in rows] == [stored(row) for row in expected], interval


async def test_the_newest_are_the_last_of_all(hub: tuple[Rig, Gateway]) -> None:
    it, gateway = hub
    await publish(it, *(candle(start) for start in recent(3000, share=0.3)))
    for interval in ("1m", "5m", "3m"):
        everything = await rows_of(gateway, f"interval={interval}&limit=100000")
        for limit in (1, 7, 60, 300, 5000):
            _, body = await gateway.get(f"/v1/candles/A-B?interval={interval}&limit={limit}")
            assert body["venues"][0]["id"] is not None
            assert await rows_of(gateway, f"interval={interval}&limit={limit}") == everything[-limit:], (
                interval,
                limit,
            )
        cut = everything[-100]["start"]
        assert await rows_of(gateway, f"interval={interval}&limit=50&end={cut}") == everything[-150:-100]


async def test_pages_make_up_the_whole(hub: tuple[Rig, Gateway]) -> None:
    it, gateway = hub
    starts = recent(2000)
    await publish(it, *(candle(start) for start in starts))
    for interval in ("1m", "3m"):
        everything = await rows_of(gateway, f"interval={interval}&limit=100000")
        found: list[dict[str, Any]] = []
        begin: int | None = starts[0]
        while begin is not None:
            _, body = await gateway.get(f"/v1/candles/A-B?interval={interval}&start={begin}&limit=333")
            found += body["venues"][0]["candles"]
            begin = body["venues"][0]["next"]
        assert found == everything


async def test_revisions_count_in_the_log_and_behind_it(hub: tuple[Rig, Gateway]) -> None:
    it, gateway = hub
    starts = recent(600, share=1.0)
    candles = [candle(start) for start in starts]
    revised = [candle(starts[place], revision=1) for place in (3, 100, 400, 595, 599)]
    await publish(it, *candles, *revised)
    everything = [*candles, *revised]
    for interval in ("1m", "3m", "15m"):
        rows = await rows_of(gateway, f"interval={interval}&limit=10000")
        expected = joined(everything, interval, time.time_ns() // NS_PER_MS)
        assert [stored(row) for row in rows] == [stored(row) for row in expected], interval
    assert [row["revision"] for row in (await rows_of(gateway, "interval=1m"))[-5:]] == [1, 0, 0, 0, 1]


async def test_a_revision_that_knows_less_takes_away_what_was_known(hub: tuple[Rig, Gateway]) -> None:
    it, gateway = hub
    starts = recent(300, share=1.0)
    less = msgspec.structs.replace(
        candle(starts[0], revision=1), trades=None, buy_volume=None, sell_volume=None, source="venue", notional=None
    )
    await publish(it, *(candle(start) for start in starts), less, *(candle(start) for start in starts[1:]))
    first, second, *_ = await rows_of(gateway, "interval=1m&limit=300")
    assert (first["start"], first["trades"], first["buy_volume"]) == (starts[0] * NS_PER_MS, None, None)
    assert first["volume"] == less.volume
    assert second["trades"] is not None
    first, second, *_ = await rows_of(gateway, "interval=5m")
    assert (first["start"], first["trades"]) == (starts[0] * NS_PER_MS, None)
    assert (first["parts"], first["parts_max"]) == (5, 5)
    assert second["trades"] is not None


async def test_a_volume_that_is_not_known_is_null(hub: tuple[Rig, Gateway]) -> None:
    it, gateway = hub
    starts = recent(300, share=1.0)
    without = {"volume": None, "notional": None, "vwap": None, "buy_volume": None, "sell_volume": None}
    candles = [msgspec.structs.replace(candle(start), source="venue", **without) for start in starts]
    await publish(it, *candles)
    for interval, count in (("1m", 300), ("5m", 50)):  # the newest from the log, the others from the series
        rows = await rows_of(gateway, f"interval={interval}&limit=300")
        assert len(rows) >= count
        assert {row["volume"] for row in rows} == {row["vwap"] for row in rows} == {None}


async def test_a_repaired_candle_in_the_log_hides_nothing_behind_it(hub: tuple[Rig, Gateway]) -> None:
    """The log then holds one old candle and the newest; what lies between comes from the series."""
    it, gateway = hub
    starts = recent(800, share=1.0)
    candles = [candle(start) for start in starts]
    await publish(it, *candles[:10], *candles[11:], candles[10])
    rows = await rows_of(gateway, "interval=1m&limit=10000")
    assert [row["start"] for row in rows] == [start * NS_PER_MS for start in starts]
    assert [stored(row) for row in rows] == [stored(row) for row in joined(candles, "1m", 1 << 60)]


async def test_a_candle_that_is_not_over_is_not_shown(hub: tuple[Rig, Gateway]) -> None:
    it, gateway = hub
    now = time.time_ns() // NS_PER_MS
    start = now // DAY * DAY
    begin = start - DAY
    candles = [candle(ts) for ts in range(begin, now - now % MINUTE, 20 * MINUTE)]
    await publish(it, *candles)
    rows = await rows_of(gateway, "interval=2d&limit=5")
    assert all(row["start"] // NS_PER_MS + 2 * DAY <= now for row in rows)
    (day, *_) = await rows_of(gateway, "interval=24h&limit=5")
    assert (day["start"], day["parts"], day["parts_max"]) == (begin * NS_PER_MS, 72, 1440)


async def test_history_that_begins_within_a_candle_does_not_make_one(hub: tuple[Rig, Gateway]) -> None:
    it, gateway = hub
    begin = time.time_ns() // NS_PER_MS // DAY * DAY - DAY
    candles = [candle(begin + MINUTE * place) for place in range(1, 300)]
    await publish(it, *candles)
    rows = await rows_of(gateway, "interval=45m")
    assert [row["start"] // NS_PER_MS for row in rows] == [begin + 45 * MINUTE * place for place in range(1, 7)]


async def test_lengths_that_only_the_log_can_make(hub: tuple[Rig, Gateway]) -> None:
    it, gateway = hub
    now = time.time_ns() // NS_PER_MS // 1000 * 1000
    candles = [candle(now - 20_000 + 1000 * place, "1s") for place in range(18)]
    await publish(it, *candles)
    assert [row["close"] for row in await rows_of(gateway, "interval=1s")] == [each.close for each in candles]
    assert await rows_of(gateway, "interval=7s") == [], "published all at once, nobody knows what was before"


@pytest.mark.parametrize("venue", ["venue", "all"])
async def test_venues_and_the_venue_across_them(url: str, venue: str) -> None:
    starts = recent(300)
    async with gateway_on(url) as gateway, rig(url) as it:
        candles = [candle(start, venue=venue) for start in starts]
        await publish(it, *candles)
        await it.client.sadd(KEYS.channels, f"candle.1m:{venue}:A-B")
        rows = await rows_of(gateway, f"interval=3m&venue={venue}")
    assert [stored(row) for row in rows] == [stored(row) for row in joined(candles, "3m", 1 << 60)]


async def test_csv_and_arrow_say_the_same_as_json(hub: tuple[Rig, Gateway]) -> None:
    it, gateway = hub
    await publish(it, *(candle(start) for start in recent(1500)))
    path = "/v1/candles/A-B?interval=1m&limit=100000"
    expected = await rows_of(gateway, path.partition("?")[2])
    code, headers, raw = await gateway.request("GET", path, Accept="text/csv")
    assert (code, headers["content-type"]) == (200, "text/csv; charset=utf-8")
    rows = list(csv.DictReader(io.StringIO(raw.decode(), newline="")))
    assert [{**row, "venue": "venue"} for row in expected] == [
        {name: _parsed(expected[0][name] if name != "venue" else "", name, text) for name, text in row.items()}
        for row in rows
    ]
    code, headers, raw = await gateway.request("GET", path, Accept="application/vnd.apache.arrow.stream;q=0.9")
    assert (code, headers["content-type"]) == (200, "application/vnd.apache.arrow.stream")
    table = pa.ipc.open_stream(raw).read_all()
    assert str(table.schema.field("start").type) == "timestamp[ns, tz=UTC]"
    starts = table.column("start").cast(pa.int64())
    found = table.set_column(table.column_names.index("start"), "start", starts).to_pylist()
    assert found == [{"venue": "venue", **row} for row in expected]


def _parsed(_: Any, name: str, text: str) -> Any:
    if name in ("venue", "source"):
        return text
    if text == "":
        return None
    return (
        int(text)
        if name in ("start", "trades", "buy_trades", "sell_trades", "revision", "parts", "parts_max")
        else float(text)
    )


async def test_a_range_without_anything_says_nothing_about_now(hub: tuple[Rig, Gateway], url: str) -> None:
    it, gateway = hub
    (start,) = recent(1, share=1.0)
    await publish(it, candle(start), trade(1))

    async def states() -> list[str]:
        found = []
        for path in ("candles/A-B?interval=1m", "series/A-B?kind=trade"):
            _, body = await gateway.get(f"/v1/{path}&start=2020-01-01&end=2020-01-02")
            (view,) = body["venues"]
            assert not view.get("candles") and not view.get("points")
            found.append(view["state"])
        return found

    async with Feed(url, "venue") as feed:
        await feed.publish(status("live", venue="venue"))
        async with asyncio.timeout(30):
            while await states() != ["live", "live"]:
                await asyncio.sleep(0.05)


async def test_nothing_found_is_an_empty_table_in_each_format(hub: tuple[Rig, Gateway]) -> None:
    it, gateway = hub
    await publish(it, trade(1))
    assert await rows_of(gateway, "interval=1m") == []
    _, _, raw = await gateway.request("GET", "/v1/candles/A-B", Accept="text/csv")
    assert raw.decode().startswith("venue,start,open,high,low,close,volume") and raw.count(b"\n") == 1
    _, _, raw = await gateway.request("GET", "/v1/candles/A-B", Accept="application/vnd.apache.arrow.stream")
    assert pa.ipc.open_stream(raw).read_all().num_rows == 0


async def test_a_format_that_nobody_has(hub: tuple[Rig, Gateway]) -> None:
    it, gateway = hub
    await publish(it, trade(1))
    for path in ("candles", "series"):
        code, body = await gateway.get(f"/v1/{path}/A-B?", Accept="image/png")
        assert (code, body["status"], "text/csv" in body["detail"]) == (406, 406, True)
        for accept in ("*/*", "text/html, application/*;q=0.5", "application/json"):
            code, _ = await gateway.get(f"/v1/{path}/A-B?", Accept=accept)
            assert code == 200


async def test_openapi_names_the_formats(hub: tuple[Rig, Gateway]) -> None:
    _, gateway = hub
    _, body = await gateway.get("/schema/openapi.json")
    for path in ("candles", "series"):
        answers = body["paths"][f"/v1/{path}/{{symbol}}"]["get"]["responses"]
        assert set(answers["200"]["content"]) == {
            "application/json", "text/csv", "application/vnd.apache.arrow.stream",
        }  # fmt: skip
        assert "406" in answers


# series


async def write(url: str, channel: Channel, points: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """Write series as a publisher does, in big batches."""
    client = command_client(url)
    history = await open_history(client)
    link = await Link.connect(url)
    await link.call([*history.create(KEYS, channel, series_of(channel.kind, 10**8, 10**8), None), b"PING\r\n"])
    for field, values in points.items():
        key = KEYS.series(channel.name, field)
        samples = [
            Sample(key, ts, value, f"1-{at}" if field == "size" else "") for at, (ts, value) in enumerate(values)
        ]
        for begin in range(0, len(samples), 5000):
            replies = await link.call(history.add(samples[begin : begin + 5000]))
            assert history.failed(samples[begin : begin + 5000], replies) == []
    await client.sadd(KEYS.channels, channel.name)
    link.close()
    await client.aclose()


BASE = time.time_ns() // NS_PER_MS // DAY * DAY - DAY


async def points_of(gateway: Gateway, query: str) -> list[list[Any]]:
    code, body = await gateway.get(f"/v1/series/A-B?{query}")
    assert code == 200, body
    msgspec.convert(body, SymbolSeries)
    points: list[list[Any]] = body["venues"][0]["points"]
    return points


QUOTES = {
    "bid": [(BASE + 1000 * at, at / 8) for at in range(300) if at % 60 < 40],
    "ask": [(BASE + 1000 * at, at / 8 + 1) for at in range(300) if at % 60 < 40 and at % 7],
}


@pytest.fixture
async def quotes(url: str) -> AsyncIterator[Gateway]:
    await write(url, Channel("quote", "venue", "A-B"), QUOTES)
    async with gateway_on(url) as gateway:
        yield gateway


async def test_several_fields_stand_side_by_side(quotes: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    bids, asks = dict(QUOTES["bid"]), dict(QUOTES["ask"])
    expected = [[ts, bids.get(ts), asks.get(ts)] for ts in sorted({*bids, *asks})]
    for page in (1000, 7):
        monkeypatch.setattr("gateway.points.PAGE", page)
        assert await points_of(quotes, f"field=bid,ask&start={BASE}&end={BASE + DAY}") == expected
        assert await points_of(quotes, f"field=bid,ask&start={BASE}&end={BASE + DAY}&limit=20") == expected[:20]


@pytest.mark.parametrize("aggregate", ["first", "last", "min", "max", "sum", "avg", "count"])
async def test_one_point_for_each_interval(quotes: Gateway, aggregate: str) -> None:
    make: dict[str, Any] = {
        "first": lambda v: v[0], "last": lambda v: v[-1], "min": min, "max": max, "sum": sum,
        "avg": lambda v: sum(v) / len(v), "count": len,
    }  # fmt: skip
    groups = itertools.groupby(QUOTES["bid"], key=lambda point: point[0] // 10_000 * 10_000)
    expected = {ts: make[aggregate]([value for _, value in group]) for ts, group in groups}
    query = f"start={BASE}&end={BASE + DAY}&interval=10s&aggregate={aggregate}"
    points = await points_of(quotes, query)
    assert [ts for ts, _ in points] == list(expected)
    assert [value for _, value in points] == pytest.approx(list(expected.values()), rel=1e-12)
    filled = await points_of(quotes, query + "&gaps=null")
    assert [ts for ts, _ in filled] == list(range(BASE, points[-1][0] + 1, 10_000))
    assert {ts: value for ts, value in filled if value is not None} == dict(points)
    assert any(value is None for _, value in filled)


async def test_pages_of_points(quotes: Gateway) -> None:
    everything = await points_of(quotes, f"start={BASE}&end={BASE + DAY}")
    found: list[list[Any]] = []
    begin: int | None = BASE
    while begin is not None:
        _, body = await quotes.get(f"/v1/series/A-B?start={begin}&end={BASE + DAY}&limit=37")
        found += body["venues"][0]["points"]
        begin = body["venues"][0]["next"]
    assert found == everything
    _, _, raw = await quotes.request("GET", f"/v1/series/A-B?start={BASE}&end={BASE + DAY}", Accept="text/csv")
    assert raw.decode().splitlines()[:2] == ["venue,time,bid", f"venue,{BASE},0.0"]


@pytest.mark.parametrize(
    "query",
    [
        "field=bid,bid",
        "field=price",
        "aggregate=avg",
        "gaps=null",
        "interval=0m",
        "interval=1w",
        "gaps=zero&interval=1m",
    ],
)
async def test_what_series_cannot_do(quotes: Gateway, query: str) -> None:
    code, body = await quotes.get(f"/v1/series/A-B?{query}")
    assert (code, body["status"]) == (400, 400)
    assert body["detail"]


# long answers


async def test_100_000_rows_in_one_answer_while_others_are_served(url: str) -> None:
    values = [(BASE + 100 * at, float(at)) for at in range(100_000)]
    await write(url, Channel("trade", "venue", "A-B"), {"price": values})
    async with gateway_on(url) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1 << 16)
        path = f"/v1/series/A-B?kind=trade&start={BASE}&end={BASE + DAY}&limit=100000"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head.lower()
        for _ in range(5):  # whoever reads slowly delays nobody
            assert len(await points_of(gateway, f"kind=trade&start={BASE}&end={BASE + DAY}&limit=10")) == 10
        (body,) = await asyncio.gather(reader.read())
        writer.close()
    answer = json.loads(unchunked(body))
    assert answer["venues"][0]["points"] == [list(point) for point in values]
    assert answer["venues"][0]["next"] is None


async def test_a_client_that_leaves_is_no_error(url: str, caplog: pytest.LogCaptureFixture) -> None:
    await write(url, Channel("trade", "venue", "A-B"), {"price": [(BASE + at, float(at)) for at in range(60_000)]})
    async with gateway_on(url) as gateway:
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1 << 16)
            path = f"/v1/series/A-B?kind=trade&start={BASE}&end={BASE + DAY}&limit=100000"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()
        assert len(await points_of(gateway, f"kind=trade&start={BASE}&end={BASE + DAY}&limit=5")) == 5
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_an_answer_that_cannot_go_on_is_not_ended_as_if_it_were_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with EmbeddedRedis(tmp_path / "redis") as own:
        await write(
            own.url, Channel("trade", "venue", "A-B"), {"price": [(BASE + at, float(at)) for at in range(90_000)]}
        )
        async with gateway_on(own.url) as gateway:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1 << 14)
            path = f"/v1/series/A-B?kind=trade&start={BASE}&end={BASE + DAY}&limit=100000"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            await own.kill()
            body = b""
            with suppress(ConnectionError):
                async with asyncio.timeout(30):
                    body = await reader.read()
            writer.close()
    assert not body.endswith(b"0\r\n\r\n")
    assert [record.exc_info for record in caplog.records if record.exc_info] == []
    said = [each for each in caplog.messages if each.startswith("answer cut off")]
    assert len(said) == 1 and "path=/v1/series/A-B" in said[0]


# pure


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1700000000", 1_700_000_000 * 10**9),
        ("1700000000.25", 1_700_000_000_250_000_000),
        ("1700000000123", 1_700_000_000_123 * 10**6),
        ("1700000000123456", 1_700_000_000_123_456_000),
        ("1700000000123456789", 1_700_000_000_123_456_789),
        ("1.7e9", 1_700_000_000 * 10**9),
        ("2023-11-14T22:13:20Z", 1_700_000_000 * 10**9),
        ("2023-11-14T22:13:20.000001", 1_700_000_000_000_001_000),
        ("2023-11-15T00:13:20+02:00", 1_700_000_000 * 10**9),
        ("2023-11-14", 1_699_920_000 * 10**9),
        ("0", 0),
    ],
)
def test_times(text: str, ns: int) -> None:
    assert parse_time("start", text) == ns


@pytest.mark.parametrize(
    "text", ["yesterday", "", "nan", "inf", "-1", "1e30", "1969-12-31", "2300-01-01", "12:00", "1_0e99999"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(RequestError, match="start = "):
        parse_time("start", text)


def test_where_candles_come_from() -> None:
    def names(*intervals: str) -> set[str]:
        return {f"candle.{each}:v:S" for each in intervals}

    default = names("1s", "10s", "1m", "5m", "15m", "1h", "1d")
    for interval, whole, base in (
        ("1m", "1m", "1m"), ("60s", "1m", "1m"), ("5m", "5m", "1m"), ("45m", None, "1m"), ("7d", None, "1m"),
        ("30s", None, "10s"), ("7s", None, "1s"), ("24h", "1d", "1m"), ("1s", "1s", "1s"),
    ):  # fmt: skip
        source = source_of(interval, default, "v", "S")
        assert (source.whole, source.base) == (whole, base), interval
    assert source_of("5m", names("5m", "10s"), "v", "S").base == "10s", "what is published goes first"
    for interval in ("0m", "m", "1w", "1.5h", "367d", "999999999d", "٣m", ""):
        with pytest.raises(RequestError) as caught:
            source_of(interval, default, "v", "S")
        assert set(INTERVALS) < set(caught.value.allowed)
