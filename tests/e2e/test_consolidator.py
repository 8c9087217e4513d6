"""Two venues' feeds, the consolidator and a gateway as processes: they are killed and come back, `all` says so."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from websockets.asyncio.client import connect

from hub.embedded import EmbeddedRedis
from tests.e2e.recorded import log_of, newest
from tests.e2e.stack import ROOT, Part, Stack, until
from tests.ports import free_port

SESSIONS = ROOT / "tests" / "data" / "sessions"
SYMBOL = "ETH-USD"
QUOTE, DEPTH = f"quote:all:{SYMBOL}", f"depth:all:{SYMBOL}"
BOTH = ["coinbase", "kraken"]


class Hub:
    """Coinbase and Kraken, played again and again."""

    def __init__(self, coinbase: Stack, kraken: Stack) -> None:
        self.coinbase, self.kraken = coinbase, kraken
        self.redis = kraken.redis
        self.kraken_feed: Part

    async def start(self) -> None:
        await asyncio.gather(*(stack.venue("--loop", "--shift") for stack in (self.coinbase, self.kraken)))
        await self.coinbase.feed(wait=False)
        self.kraken_feed = await self.kraken.feed(wait=False)

    async def consolidator(self) -> Part:
        return await self.kraken._add("consolidator", "hub.consolidator")

    async def venues(self, wanted: list[str], timeout_s: float = 90) -> None:
        """Wait until quote and depth are made of `wanted`."""

        async def made() -> bool:
            found = [(await newest(self.redis, channel)).get("venues") for channel in (QUOTE, DEPTH)]
            return found == [wanted, wanted]

        await until(made, f"venues are {wanted}", timeout_s)

    async def epoch(self) -> int:
        value: Any = await self.redis.get("md:alive:all")
        return int(value or 0)

    async def goes_on(self) -> None:
        """Wait for quotes that are new, in order."""
        before = await newest(self.redis, QUOTE)

        async def newer() -> bool:
            return position(await newest(self.redis, QUOTE)) > position(before)

        await until(newer, "quotes go on", 90)


def position(message: dict[str, Any]) -> tuple[int, int]:
    epoch, _, seq = message["id"].partition("-")
    return int(epoch), int(seq)


@asynccontextmanager
async def hub_on(redis_url: str, folder: Path) -> AsyncIterator[Hub]:
    (folder / "coinbase").mkdir()
    (folder / "kraken").mkdir()
    async with (
        Stack(
            folder / "coinbase", redis_url, [SESSIONS / "coinbase" / "advanced_trade_2026-08-09_cut"], [SYMBOL],
            venue="coinbase",
        ) as coinbase,
        Stack(
            folder / "kraken", redis_url, [SESSIONS / "kraken" / "crossbook_2026-08-02_ETHUSD_d25"], [SYMBOL],
            venue="kraken",
        ) as kraken,
    ):  # fmt: skip
        hub = Hub(coinbase, kraken)
        await hub.start()
        yield hub


async def test_a_feed_is_killed_and_comes_back(tmp_path: Path, redis_url: str) -> None:
    async with hub_on(redis_url, tmp_path) as hub:
        await hub.consolidator()
        await hub.kraken.gateway()
        await hub.venues(BOTH)
        async with connect(hub.kraken.ws, max_queue=None) as client:
            await client.send(msgspec.json.encode({"op": "subscribe", "channels": [QUOTE]}).decode())
            await hub.kraken_feed.end(signal.SIGKILL)
            async with asyncio.timeout(60):
                message: dict[str, Any] = {}
                while message.get("venues") != ["coinbase"]:
                    message = msgspec.json.decode(await client.recv())
            assert message["bid_venue"] == message["ask_venue"] == "coinbase"
        await hub.venues(["coinbase"])
        await hub.goes_on()
        status = await newest(hub.redis, f"status:all:{SYMBOL}")
        assert status["state"] == "live", "one venue is left"
        await until(partial(_rest_shows_it, hub), "REST says the same")  # the gateway looks for itself
        await hub.kraken.feed(wait=False)
        await hub.venues(BOTH)
        await _candles_are_made(hub)


async def _rest_shows_it(hub: Hub) -> bool:
    answer = msgspec.json.decode(await hub.kraken.get(f"{hub.kraken.rest}/v1/quotes/{SYMBOL}") or b"{}")
    states = {row["venue"]: row["state"] for row in answer["quotes"]}
    return (states["all"], states["kraken"]) == ("live", "down")


async def _candles_are_made(hub: Hub) -> None:
    async def made() -> bool:
        return bool(await log_of(hub.redis, f"candle.1s:all:{SYMBOL}"))

    await until(made, "a candle across venues", 60)
    for candle in await log_of(hub.redis, f"candle.1s:all:{SYMBOL}"):
        assert candle["low"] <= candle["open"] <= candle["high"]
        assert candle["source"] == "trades"


async def test_the_consolidator_is_killed_and_goes_on(tmp_path: Path, redis_url: str) -> None:
    async with hub_on(redis_url, tmp_path) as hub:
        first = await hub.consolidator()
        await hub.kraken.gateway()
        await hub.venues(BOTH)
        before, epoch = position(await newest(hub.redis, QUOTE)), await hub.epoch()
        second = await hub.consolidator()
        assert second.process is not None
        assert await asyncio.wait_for(second.process.wait(), 60) == 4, "one publisher is allowed"
        assert "already published" in second.logged()
        await first.end(signal.SIGKILL)

        async def down() -> bool:
            body = await hub.kraken.get(f"{hub.kraken.rest}/v1/quotes/{SYMBOL}?venue=all")
            return bool(body and msgspec.json.decode(body)["quotes"][0]["state"] == "down")

        await until(down, "venue all is down")
        third = await hub.consolidator()

        async def newer() -> bool:
            return position(await newest(hub.redis, QUOTE)) > before and await hub.epoch() > epoch

        await until(newer, "ids grow", 90)
        await hub.venues(BOTH)
        assert await third.end() == 0
        assert await hub.epoch() == 0, "the lease was given back"
        assert (await newest(hub.redis, "status:all:*"))["state"] == "down"


@pytest.mark.parametrize("wiped", [False, True], ids=["data kept", "data lost"])
async def test_redis_is_killed_and_comes_back(tmp_path: Path, wiped: bool) -> None:
    async with EmbeddedRedis(tmp_path / "redis", free_port()) as server, hub_on(server.url, tmp_path) as hub:
        consolidator = await hub.consolidator()
        await hub.venues(BOTH)
        epoch = await hub.epoch()
        await server.kill()
        await asyncio.sleep(2)
        if wiped:
            server.wipe()
        await server.start()

        async def recovered() -> bool:
            return await hub.epoch() > epoch

        await until(recovered, "a new epoch", 90)
        await hub.venues(BOTH)
        await hub.goes_on()
        assert (await newest(hub.redis, QUOTE))["id"].startswith(f"{await hub.epoch()}-")
        statuses = await log_of(hub.redis, "status:all:*")
        assert any("new epoch" in status["reason"] for status in statuses)
        assert await consolidator.end() == 0


async def test_metrics(tmp_path: Path, redis_url: str) -> None:
    port = free_port()
    async with hub_on(redis_url, tmp_path) as hub:
        hub.kraken.env["TICKWIRE_METRICS__PORT"] = str(port)
        await hub.consolidator()
        await hub.venues(BOTH)
        wanted = 'tickwire_feed_books_live{venue="all"} 1.0', 'tickwire_feed_messages_total{kind="quote",venue="all"}'

        async def told() -> bool:
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                text = await answer.text()
            return all(each in text for each in wanted)

        await until(told, "the consolidator's figures")
