"""Redis is killed under a running feed, with and without its data: nothing is wrong silently, all of it recovers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from hub.embedded import EmbeddedRedis
from tests.e2e.recorded import log_of, newest, normalized
from tests.e2e.stack import DEMO, EXCHANGE_INFO, Stack, until
from tests.e2e.test_feed import followed, inner
from tests.ports import free_port

SESSION = DEMO / "cryptofeed_2021-04-04"
SYMBOLS = ["BTC-USDT", "ETH-USDT", "DOT-USDT"]
OUTAGE_S = 5


@pytest.fixture
async def own_redis(tmp_path: Path) -> AsyncIterator[EmbeddedRedis]:
    """A server that a test may kill."""
    async with EmbeddedRedis(tmp_path / "redis", free_port()) as server:
        async with Redis.from_url(server.url) as client:  # what a slow disk would lose is not what is tested
            await client.config_set("appendfsync", "always")
        yield server


@pytest.mark.parametrize("wiped", [False, True], ids=["data kept", "data lost"])
async def test_a_feed_survives_the_death_of_redis(tmp_path: Path, own_redis: EmbeddedRedis, wiped: bool) -> None:
    recorded = await normalized(SESSION, EXCHANGE_INFO)
    async with Stack(tmp_path, own_redis.url, [SESSION], SYMBOLS) as hub:
        hub.env["TICKWIRE_HISTORY__TICK_S"] = str(20 * 366 * 86_400)  # the trades are of 2021
        await hub.venue(speed=5)
        await hub.feed()
        epoch = await hub.epoch()
        await asyncio.sleep(2)
        await own_redis.kill()
        await asyncio.sleep(OUTAGE_S)
        if wiped:
            own_redis.wipe()
        await own_redis.start()

        async def back() -> bool:
            return await hub.epoch() > epoch and await hub.books_live()

        await until(back, "a new epoch with every book", 90)
        venue_log = await log_of(hub.redis, "status:binance:*")
        assert any("new epoch: Redis came back as another run" in m["reason"] for m in venue_log)
        assert await hub.redis.sismember("md:channels", "trade:binance:BTC-USDT")
        for symbol in SYMBOLS:
            await _follows_to_the_end(hub, symbol, epoch, wiped, recorded)
        assert await hub.redis.execute_command("TS.RANGE", "{md:trade:binance:BTC-USDT}:price", "-", "+")  # type: ignore[no-untyped-call]


async def _follows_to_the_end(
    hub: Stack, symbol: str, epoch: int, wiped: bool, recorded: list[dict[str, object]]
) -> None:
    wanted = [m["trade_id"] for m in recorded if m["type"] == "trade" and m["symbol"] == symbol]
    expected = followed([m for m in recorded if m["type"] == "book" and m["symbol"] == symbol])

    async def ended() -> bool:
        trade = await newest(hub.redis, f"trade:binance:{symbol}")
        book = followed(await log_of(hub.redis, f"book:binance:{symbol}"))
        return trade.get("trade_id") == wanted[-1] and inner(book) == inner(expected)

    await until(ended, f"{symbol}: the last trade, and the book of the whole session", 60)
    log = await log_of(hub.redis, f"trade:binance:{symbol}")
    ids = list(dict.fromkeys(m["trade_id"] for m in log))
    assert ids == (wanted[-len(ids) :] if wiped else wanted), "no trade is missing, before or after"
    later = [int(m["id"].partition("-")[2]) for m in log if int(m["id"].partition("-")[0]) > epoch]
    assert later == list(range(1, len(later) + 1)), "a new epoch counts from 1 without holes"
    first = next(m for m in await log_of(hub.redis, f"book:binance:{symbol}") if int(m["id"].split("-")[0]) > epoch)
    assert first["action"] == "snapshot"
