"""The replay server as Hyperliquid: requests, what subscriptions begin with, laps, `/info`."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from feeds.replay import ReplayServer
from tests.feeds.replaying import take
from tests.feeds.venues.plays import DATA, rows_of, write

SESSION = DATA / "hyperliquid" / "hftbacktest_2025-01-26_BTC"


def subscription(kind: str, method: str = "subscribe", **more: Any) -> str:
    return json.dumps({"method": method, "subscription": {"type": kind, "coin": "BTC"} | more})


async def info(server: ReplayServer, body: Any) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.post(f"{server.rest_url}/info", json=body) as answer:
        text = await answer.text()
        return answer.status, json.loads(text) if answer.status == 200 else text


async def test_requests_and_their_answers() -> None:
    async with ReplayServer("hyperliquid", [SESSION], speed=0.001) as server:
        with pytest.raises(InvalidStatus):
            await connect(server.ws_url + "/stream")
        async with connect(server.ws_url + "/ws") as socket:
            await socket.send('{"method":"ping"}')
            assert await socket.recv() == '{"channel":"pong"}'
            await socket.send(subscription("l2Book", fast=True))
            (ack,) = await take(socket, 1)
            assert ack["channel"] == "subscriptionResponse"
            assert ack["data"]["subscription"] == {
                "type": "l2Book", "coin": "BTC", "nSigFigs": None, "mantissa": None, "fast": True
            }  # fmt: skip
            wrong = (subscription("l2Book"), subscription("noSuchType"), "{", subscription("bbo", "unsubscribe"), "[]")
            for each in wrong:
                await socket.send(each)
            errors = [row for row in await take(socket, 1 + len(wrong)) if row["channel"] == "error"]
            assert [row["data"].partition(":")[0] for row in errors] == [
                "Already subscribed",
                "Error parsing JSON into valid websocket request",
                "Error parsing JSON into valid websocket request",
                "Already unsubscribed",
                "Error parsing JSON into valid websocket request",
            ]
            await socket.send(subscription("l2Book", "unsubscribe"))
            assert (await take(socket, 1))[0]["data"]["method"] == "unsubscribe"


async def test_a_subscription_begins_with_what_is_newest() -> None:
    async with ReplayServer("hyperliquid", [SESSION], speed=50) as server:
        server.play()
        await asyncio.wait_for(server.finished(), 30)
        recorded = [json.loads(row["raw"]) for row in rows_of(SESSION)]
        trades = [trade for frame in recorded if frame["channel"] == "trades" for trade in frame["data"]]
        async with connect(server.ws_url + "/ws") as socket:
            await socket.send(subscription("l2Book"))
            assert (await take(socket, 2))[1] == [row for row in recorded if row["channel"] == "l2Book"][-1]
            await socket.send(subscription("trades"))
            assert (await take(socket, 2))[1] == {"channel": "trades", "data": trades[-30:]}
        assert (await info(server, {"type": "recentTrades", "coin": "BTC"}))[1] == trades[-30:][::-1]
        assert (await info(server, {"type": "l2Book", "coin": "BTC"}))[1]["coin"] == "BTC"
        request = {"coin": "BTC", "interval": "1m", "startTime": 0, "endTime": trades[-1]["time"]}
        _, candles = await info(server, {"type": "candleSnapshot", "req": request})
        assert sum(candle["n"] for candle in candles) == len(trades)
        assert candles[-1]["c"] == trades[-1]["px"]


async def test_lists_and_refusals() -> None:
    async with ReplayServer("hyperliquid", [SESSION]) as server:
        assert len((await info(server, {"type": "meta"}))[1]["universe"]) == 203
        assert (await info(server, {"type": "spotMeta"}))[1]["tokens"][0]["name"] == "USDC"
        assert (await info(server, {"type": "l2Book", "coin": "NOSUCH"}))[0] == 500
        assert (await info(server, {"type": "nothing"}))[0] == 422
        assert (await info(server, [1]))[0] == 422


async def test_a_lap_tells_new_trades(tmp_path: Path) -> None:
    rows = rows_of(SESSION)[:8]
    path = write(tmp_path / "s", rows)
    async with ReplayServer("hyperliquid", [path], speed=20, loop=True, pause_s=0.2) as server:
        laps = []
        for _ in range(2):
            async with connect(server.ws_url + "/ws") as socket:
                for kind in ("l2Book", "trades"):
                    await socket.send(subscription(kind))
                laps.append([json.loads(frame) async for frame in socket])
    tids = [[trade["tid"] for frame in lap if frame["channel"] == "trades" for trade in frame["data"]] for lap in laps]
    # The second connection begins with the history of the first; what comes then is new.
    assert len(tids[0]) == 30
    assert tids[1][:30] == tids[0]
    assert set(tids[1][30:]).isdisjoint(tids[0])
    times = [[frame["data"]["time"] for frame in lap if frame["channel"] == "l2Book"] for lap in laps]
    assert min(times[1]) > max(times[0])
