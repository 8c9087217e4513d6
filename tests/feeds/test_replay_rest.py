"""The replay server's REST: instruments, candles, errors and weights as the venue has them."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from feeds.dialects.books import RecordedBook, RecordedSnapshot
from feeds.dialects.klines import Klines, floor_ms
from feeds.replay import ReplayServer
from feeds.venues.binance import Binance
from hub.cli.demo import SYMBOLS
from hub.errors import SessionError
from tests.feeds.replaying import FIRST, LISTING, SECOND, Json, cut, http, payloads, subscribe


@pytest.fixture
async def server() -> AsyncIterator[ReplayServer]:
    async with ReplayServer("binance", [FIRST, SECOND], speed=60) as server:
        yield server


async def test_instruments_lie_beside_the_sessions(server: ReplayServer) -> None:
    async with http(server) as rest, rest.session.get("/api/v3/exchangeInfo") as response:
        body = await response.read()
    assert body == gzip.decompress(LISTING.read_bytes())
    assert {row.symbol for row in Binance.parse_instruments(body)} >= set(SYMBOLS)


async def test_instruments_from_a_file(tmp_path: Path) -> None:
    session = cut(FIRST, tmp_path / "alone" / "session", 1)
    async with ReplayServer("binance", [session]) as server, http(server) as rest:
        assert (await rest.get("/api/v3/exchangeInfo"))[0] == 503
    async with ReplayServer("binance", [session], instruments=LISTING) as server, http(server) as rest:
        assert len((await rest.json("/api/v3/exchangeInfo"))["symbols"]) > 1000
    with pytest.raises(SessionError):
        ReplayServer("binance", [session], instruments=tmp_path / "nothing.json")


async def test_instruments_can_be_asked_for_one_by_one(server: ReplayServer) -> None:
    async with http(server) as rest:
        one = await rest.json("/api/v3/exchangeInfo?symbol=BTCUSDT")
        two = await rest.json('/api/v3/exchangeInfo?symbols=["BTCUSDT","DOTUSDT"]')
        assert [row["symbol"] for row in one["symbols"]] == ["BTCUSDT"]
        assert [row["symbol"] for row in two["symbols"]] == ["BTCUSDT", "DOTUSDT"]
        assert (await rest.get("/api/v3/exchangeInfo?symbol=NOSUCH"))[1]["code"] == -1121


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/v3/depth?symbol=NOSUCH", 400, -1121),
        ("/api/v3/klines?symbol=NOSUCH&interval=1m", 400, -1121),
        ("/api/v3/depth", 400, -1102),
        ("/api/v3/depth?symbol=BTCUSDT&limit=many", 400, -1100),
        ("/api/v3/depth?symbol=BTCUSDT&limit=-1", 400, -1100),
        ("/api/v3/klines?symbol=BTCUSDT&interval=7m", 400, -1120),
        ("/api/v3/klines?symbol=BTCUSDT", 400, -1120),
        ("/api/v3/exchangeInfo?symbols=BTC", 400, -1100),
        ("/api/v3/depth?symbol=BNBBTC", 503, -1001),
    ],
)
async def test_errors_are_the_venues(server: ReplayServer, path: str, status: int, code: int) -> None:
    async with http(server) as rest:
        got, body = await rest.get(path)
    assert (got, body["code"]) == (status, code)
    if code == -1121:
        assert body == {"code": -1121, "msg": "Invalid symbol."}


async def test_what_is_not_served_is_404(server: ReplayServer) -> None:
    async with http(server) as rest:
        for path in ("/", "/api/v3/account", "/api/v2/depth?symbol=BTCUSDT", "/ws/x"):
            async with rest.session.get(path) as response:
                assert response.status == 404


async def test_weights_add_up(server: ReplayServer) -> None:
    async with http(server) as rest:
        used = 0
        for path, weight in (
            ("/api/v3/ping", 1),
            ("/api/v3/time", 1),
            ("/api/v3/exchangeInfo", 20),
            ("/api/v3/klines?symbol=BTCUSDT&interval=1m", 2),
            ("/api/v3/depth?symbol=BTCUSDT", 5),
            ("/api/v3/depth?symbol=BTCUSDT&limit=500", 25),
            ("/api/v3/depth?symbol=BTCUSDT&limit=1000", 50),
            ("/api/v3/depth?symbol=BTCUSDT&limit=5000", 250),
        ):
            async with rest.session.get(path) as response:
                used += weight
                assert int(response.headers["X-MBX-USED-WEIGHT-1M"]) == used


async def test_more_than_the_weight_is_refused(server: ReplayServer) -> None:
    async with http(server) as rest:
        statuses = []
        for _ in range(26):
            async with rest.session.get("/api/v3/depth?symbol=NEOUSDC&limit=5000") as response:
                statuses.append(response.status)
                pause = response.headers.get("Retry-After")
    assert statuses[:24] == [200] * 24
    # The minute may end meanwhile, and a new budget begin.
    if statuses[-1] != 200:
        assert statuses[-1] == 429 and pause is not None and 1 <= int(pause) <= 61


async def test_scripted_refusals(server: ReplayServer) -> None:
    server.limit(429, 3)
    server.limit(418, 120, times=2)
    async with http(server) as rest:
        seen = []
        for _ in range(4):
            async with rest.session.get("/api/v3/ping") as response:
                seen.append((response.status, response.headers.get("Retry-After")))
    assert seen == [(429, "3"), (418, "120"), (418, "120"), (200, None)]


async def test_time_is_that_of_the_session_or_now() -> None:
    async with ReplayServer("binance", [FIRST]) as server, http(server) as rest:
        first = payloads(FIRST)[0]["data"]["E"]
        assert abs((await rest.json("/api/v3/time"))["serverTime"] - first) < 1000
    async with ReplayServer("binance", [FIRST], shift=True) as server, http(server) as rest:
        assert abs((await rest.json("/api/v3/time"))["serverTime"] - time.time() * 1000) < 60_000
        told = (await rest.json("/api/v3/exchangeInfo"))["serverTime"]
        assert abs(told - time.time() * 1000) < 60_000


# candles


def naive_candle(trades: list[Json]) -> list[Any]:
    prices = [Decimal(row["p"]) for row in trades]
    sizes = [Decimal(row["q"]) for row in trades]
    bought = [(size, price) for row, size, price in zip(trades, sizes, prices, strict=True) if not row["m"]]
    return [
        prices[0], max(prices), min(prices), prices[-1], sum(sizes), sum(row["l"] - row["f"] + 1 for row in trades),
        sum((size for size, _ in bought), Decimal(0)),
    ]  # fmt: skip


def told_candle(row: list[Any]) -> list[Any]:
    return [*(Decimal(text) for text in row[1:6]), row[8], Decimal(row[9])]


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize(("interval", "length"), [("1m", 60_000), ("1s", 1000)])
async def test_candles_are_those_of_the_trades(shift: bool, interval: str, length: int) -> None:
    trades = []
    async with ReplayServer("binance", [FIRST], speed=40, shift=shift) as server, http(server) as rest:
        async with await subscribe(server, "btcusdt@aggTrade") as socket:
            trades = [json.loads(await socket.recv())["data"] for _ in range(1227)]
            await server.finished()
            rows = await rest.json(f"/api/v3/klines?symbol=BTCUSDT&interval={interval}&limit=1000")
    by_start: dict[int, list[Json]] = {}
    for trade in trades:
        by_start.setdefault(trade["T"] - trade["T"] % length, []).append(trade)
    starts = [row[0] for row in rows]
    assert starts == list(range(starts[0], starts[0] + len(starts) * length, length))
    assert set(starts) >= set(by_start)
    last = None
    for row in rows:
        assert row[6] == row[0] + length - 1 and row[11] == "0"
        assert all(isinstance(text, str) and len(text.partition(".")[2]) == 8 for text in row[1:6])
        if row[0] in by_start:
            assert told_candle(row) == naive_candle(by_start[row[0]])
            # Quote volume has eight decimals at the venue.
            assert abs(Decimal(row[7]) - sum(Decimal(t["p"]) * Decimal(t["q"]) for t in by_start[row[0]])) < Decimal(
                "1e-7"
            )
        else:
            assert row[1:5] == [last] * 4 and row[8] == 0
        last = row[4]


async def test_candles_by_start_end_and_limit() -> None:
    async with ReplayServer("binance", [FIRST], speed=60) as server, http(server) as rest:
        assert await rest.json("/api/v3/klines?symbol=BTCUSDT&interval=1m") == []
        async with await subscribe(server, "btcusdt@aggTrade"):
            await server.finished()
        path = "/api/v3/klines?symbol=BTCUSDT&interval=1s"
        rows = await rest.json(path)
        assert len(rows) > 80
        assert await rest.json(f"{path}&limit=3") == rows[-3:]
        assert await rest.json(f"{path}&limit=3&startTime={rows[10][0]}") == rows[10:13]
        assert await rest.json(f"{path}&startTime={rows[10][0]}&endTime={rows[11][0]}") == rows[10:12]
        assert await rest.json(f"{path}&limit=2&endTime={rows[5][6]}") == rows[4:6]
        for interval in ("5m", "1h", "1d", "1w", "1M"):
            (row,) = await rest.json(f"/api/v3/klines?symbol=BTCUSDT&interval={interval}")
            assert row[0] == floor_ms(rows[0][0], interval) and row[8] == sum(each[8] for each in rows)


async def test_recorded_candles_are_served_where_no_trade_is(tmp_path: Path) -> None:
    session = tmp_path / "session"
    session.mkdir()
    row = [
        1586987400000,
        "6733.55",
        "6737.79",
        "6726.61",
        "6727.14",
        "121.2",
        1586987699999,
        "815879.4",
        2208,
        "5",
        "6",
        "0",
    ]
    (session / "klines.json").write_text(json.dumps([row]))
    url = "/api/v3/klines?symbol=BTCUSDT&interval=5m&limit=24"
    (session / "rest_index.jsonl").write_text(json.dumps({"t": None, "url": url, "file": "klines.json"}))
    async with ReplayServer("binance", [session]) as server, http(server) as rest:
        assert await rest.json(url) == [row]
        assert await rest.json(f"{url}&startTime=1586987400001") == []


async def test_candle_stream_of_a_moved_lap(tmp_path: Path) -> None:
    """A recorded candle that is moved would not begin on its minute: it is told anew from the trades."""
    session = cut(FIRST, tmp_path / "short", 75)
    names = ("btcusdt@kline_1m", "btcusdt@aggTrade")
    async with ReplayServer("binance", [session], speed=30, shift=True) as server:
        trades: list[Json] = []
        async with await subscribe(server, *names) as socket:
            count = 0
            for _ in range(1000):
                data = json.loads(await socket.recv())["data"]
                if data["e"] == "aggTrade":
                    trades.append(data)
                    continue
                count += 1
                kline = data["k"]
                assert kline["t"] % 60_000 == 0 and kline["T"] == kline["t"] + 59_999
                inside = [row for row in trades if kline["t"] <= row["T"] <= kline["T"]]
                assert Decimal(kline["v"]) == sum(Decimal(row["q"]) for row in inside)
                assert (kline["o"], kline["c"], kline["x"]) == (inside[0]["p"], inside[-1]["p"], data["E"] > kline["T"])
                assert (kline["f"], kline["L"]) == (inside[0]["f"], inside[-1]["l"])
    assert count > 20


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    assert time.strftime("%a %H:%M", time.gmtime(floor_ms(1617566592629, "1w") / 1000)) == "Mon 00:00"
    assert time.strftime("%d %H:%M", time.gmtime(floor_ms(1617566592629, "1M") / 1000)) == "01 00:00"


def test_candles_are_bounded() -> None:
    candles = Klines()
    for second in range(Klines.SECONDS + 500):
        candles.add(second * 1000, "1.0", "2.0", True, (second, second))
    rows = candles.rows("1s", 0, None, 100_000, (Klines.SECONDS + 499) * 1000)
    assert len(rows) == Klines.SECONDS and rows[0].start == 500_000


# recorded books


def book(*lasts: int) -> RecordedBook:
    built = RecordedBook({5, 10})
    for last in lasts:
        levels = [(f"{100 - at}", "1") for at in range(5)]
        built.add(RecordedSnapshot(last, levels, [("101", "1")], 5, b"%d" % last))
    return built


def test_a_hole_in_the_recording_ends_the_book_until_the_next_snapshot() -> None:
    built = book(10, 30)
    built.apply(9, 12, [("100", "2")], [])
    assert (now := built.current(5)) is not None and now.last == 12 and now.bids[0] == ("100", "2")
    built.apply(20, 22, [], [])
    assert (now := built.current(5)) is not None and (now.last, now.body) == (30, b"30")
    built.apply(31, 33, [("100", "3")], [])
    assert (now := built.current(5)) is not None and now.last == 33 and now.bids[0] == ("100", "3")
    built.apply(40, 41, [], [])
    assert built.current(5) is None
    built.reset()
    assert (now := built.current(5)) is not None and now.last == 10


def test_levels_beyond_a_cut_are_not_told() -> None:
    built = book(10)
    built.apply(11, 11, [("96", "0"), ("50", "9")], [("900", "9")])
    # Four known bids are left of five: fewer than the smallest page, which would pass for the whole side.
    assert built.current(5) is None
    assert (now := built.current(4)) is not None
    assert (now.bids[-1], now.asks) == (("97", "1"), [("101", "1"), ("900", "9")])
    built.apply(12, 12, [("99.5", "1")], [])
    assert (now := built.current(10)) is not None and len(now.bids) == 5


async def test_rest_survives_garbage(server: ReplayServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"\x00\xff garbage \r\n\r\n")
    assert b"400" in await reader.readline()
    writer.close()
    async with http(server) as rest:
        async with rest.session.post("/api/v3/ping") as response:
            assert response.status == 405
        assert await rest.json("/api/v3/ping") == {}
