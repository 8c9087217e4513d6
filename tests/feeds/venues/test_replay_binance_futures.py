"""The replay server as Binance USD-M futures: paths, laps, REST."""

import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from feeds.dialects.binance_futures import BinanceFuturesDialect
from feeds.replay import ReplayServer
from tests.feeds.replaying import http, take
from tests.feeds.venues.plays import DATA, Row, rows_of, write

SESSION = DATA / "binance_futures" / "cryptofeed_2021-07-22"


async def test_a_stream_is_silent_on_the_wrong_path() -> None:
    async with ReplayServer("binance_futures", [SESSION], speed=20) as server:
        names = ["sushiusdt@aggTrade", "sushiusdt@depth@100ms", "sushiusdt@bookTicker"]
        request = json.dumps({"method": "SUBSCRIBE", "params": names, "id": 1})
        async with (
            connect(server.ws_url + "/public/stream") as public,
            connect(server.ws_url + "/market/stream") as market,
        ):
            for socket in (public, market):
                await socket.send(request)
                assert (await take(socket, 1)) == [{"result": None, "id": 1}]
            assert {row["data"]["e"] for row in await take(public, 40)} == {"depthUpdate", "bookTicker"}
            assert {row["data"]["e"] for row in await take(market, 3)} == {"aggTrade"}
        for path in ("/stream", "/ws/sushiusdt@aggTrade", "/private/ws"):
            with pytest.raises(InvalidStatus):
                await connect(server.ws_url + path)
        async with connect(server.ws_url + "/market/ws/sushiusdt@aggTrade"):
            pass


async def test_a_lap_moves_ids_and_times_and_leaves_a_hole(tmp_path: Path) -> None:
    rows = [row for row in rows_of(SESSION) if "sushiusdt@depth" in row["raw"] and "dir" not in row][:12]
    path = write(tmp_path / "s", rows)
    recorded = [json.loads(row["raw"])["data"] for row in rows]
    async with ReplayServer("binance_futures", [path], speed=50, loop=True, pause_s=0.1) as server:
        laps: list[list[Row]] = []
        for _ in range(2):
            async with connect(server.ws_url + "/public/ws/sushiusdt@depth@100ms") as socket:
                laps.append([json.loads(frame) async for frame in socket])
    first, second = laps
    assert first == recorded
    assert second
    assert all(later["pu"] == earlier["u"] for earlier, later in pairwise(second))
    assert second[0]["pu"] > first[-1]["u"] + 1000 - 1
    assert second[-1]["b"] == first[-1]["b"]
    assert second[-1]["T"] - second[0]["T"] == first[-1]["T"] - first[-len(second)]["T"]
    assert min(row["E"] for row in second) > max(row["E"] for row in first)


async def test_no_time_stays_none_in_a_moved_lap(tmp_path: Path) -> None:
    data = {"e": "markPriceUpdate", "E": 1609830121004, "s": "BTCBUSD_210129", "p": "31799.27", "r": "", "T": 0}
    row = {"t": 1609830121.1, "raw": json.dumps({"stream": "btcbusd_210129@markPrice@1s", "data": data})}
    async with ReplayServer("binance_futures", [write(tmp_path / "s", [row])], shift=True) as server:
        async with connect(server.ws_url + "/market/stream?streams=btcbusd_210129@markPrice@1s") as socket:
            (found,) = await take(socket, 1)
    assert found["data"]["T"] == 0
    assert found["data"]["E"] > data["E"]


async def test_rest_has_books_of_the_pages_there_are() -> None:
    async with ReplayServer("binance_futures", [SESSION]) as server, http(server) as client:
        listed = await client.json("/fapi/v1/exchangeInfo")
        assert len(listed["symbols"]) == 122
        book = await client.json("/fapi/v1/depth?symbol=SUSHIUSDT&limit=1000")
        assert {"lastUpdateId", "E", "T", "bids", "asks"} <= book.keys()
        short = await client.json("/fapi/v1/depth?symbol=SUSHIUSDT&limit=5")
        assert (len(short["bids"]), len(short["asks"])) == (5, 5)
        cases: list[tuple[str, int, int]] = [
            ("/fapi/v1/depth?symbol=SUSHIUSDT&limit=5000", 400, -4021),
            ("/fapi/v1/depth?symbol=NOSUCH&limit=5", 400, -1121),
            ("/fapi/v1/openInterest?symbol=SUSHIUSDT", 503, -1001),
        ]
        for path, status, code in cases:
            answer: tuple[int, Any] = await client.get(path)
            assert (answer[0], answer[1]["code"]) == (status, code)


def test_weights() -> None:
    weigh = BinanceFuturesDialect(lambda: 0).weight
    table: dict[str, dict[int, int]] = defaultdict(dict)
    for limit in (5, 100, 500, 1000, 1500):
        for resource in ("depth", "klines", "openInterest"):
            table[resource][limit] = weigh(f"/fapi/v1/{resource}", {"limit": str(limit)})
    assert table["depth"] == {5: 2, 100: 5, 500: 10, 1000: 20, 1500: 20}
    assert table["klines"] == {5: 1, 100: 1, 500: 2, 1000: 5, 1500: 10}
    assert set(table["openInterest"].values()) == {1}
