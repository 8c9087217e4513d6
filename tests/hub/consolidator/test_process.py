"""The consolidator on a real Redis, its venues made up: what comes later, goes, or cannot be read."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from hub.config import Settings, load
from hub.consolidator.process import Consolidator
from hub.errors import ConfigError, LeaseHeld, RedisUnavailable
from hub.instruments import Instrument
from hub.keys import Keys
from hub.model import Depth, Level
from tests.e2e.stack import until
from tests.gateway.kit import Feed, head, quote, status, trade
from tests.hub import publishing
from tests.hub.publishing import rig
from tests.servers import cluster

KEYS = Keys()
SYMBOL = "BTC-USDT"


def depth(bids: list[Level], asks: list[Level], venue: str = "binance", symbol: str = SYMBOL) -> Depth:
    return Depth(**head(venue, symbol), bids=bids, asks=asks)


class Made:
    """A consolidator in this process, and what it left in Redis."""

    def __init__(self, consolidator: Consolidator, redis: Redis) -> None:
        self.consolidator, self.redis = consolidator, redis

    async def newest(self, channel: str) -> dict[str, Any]:
        value: Any = await self.redis.get(KEYS.newest(channel))
        return json.loads(value) if value else {}

    async def until(self, condition: Callable[[dict[str, Any]], object], channel: str = f"quote:all:{SYMBOL}") -> Any:
        """Wait until the newest message of a channel is as wanted; returns it."""
        found: dict[str, Any] = {}

        async def as_wanted() -> bool:
            found.clear()
            found.update(await self.newest(channel))
            return bool(found and condition(found))

        try:
            await until(as_wanted, f"{channel} is as wanted", 15)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {found}") from None
        return found

    async def venues(self, *wanted: str) -> None:
        await self.until(lambda message: message["venues"] == list(wanted))


def settings_for(redis_url: str, config_file: str = os.devnull, **own: str) -> Settings:
    environ = {f"TICKWIRE_{name.upper()}": value for name, value in own.items()}
    return load(config_file, {"TICKWIRE_REDIS__URL": redis_url, **environ})


@asynccontextmanager
async def made(redis_url: str, **own: str) -> AsyncIterator[Made]:
    consolidator = Consolidator(settings_for(redis_url, **own))
    task = asyncio.create_task(consolidator.run())
    async with Redis.from_url(redis_url) as redis:
        made = Made(consolidator, redis)
        try:
            await made.until(lambda message: message["state"] == "live", "status:all:*")
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_what_is_there_and_what_comes_later(redis_url: str) -> None:
    async with Feed(redis_url) as binance, Feed(redis_url, "kraken") as kraken:
        await binance.publish(quote(1.0), depth([(1.0, 1.0)], [(2.0, 1.0)]))
        async with made(redis_url) as hub:
            await hub.venues("binance")
            await kraken.publish(quote(1.5, venue="kraken"), depth([(1.5, 1.0)], [(2.5, 1.0)], "kraken"))
            await hub.venues("binance", "kraken")
            message = await hub.until(lambda message: message["bid"] == 1.5)
            assert (message["bid_venue"], message["ask"], message["ask_venue"]) == ("kraken", 2.0, "binance")
            merged = await hub.until(lambda m: len(m["venues"]) == 2, f"depth:all:{SYMBOL}")
            assert merged["bids"] == [[1.5, 1.0], [1.0, 1.0]]
            assert merged["bid_venues"] == [{"kraken": 1.0}, {"binance": 1.0}]
            await kraken.publish(quote(7.0, "ETH-USDT", "kraken"))
            await hub.until(lambda message: message["bid"] == 7.0, "quote:all:ETH-USDT")
            names: Any = await hub.redis.smembers(KEYS.channels)
            assert {b"quote:all:BTC-USDT", b"depth:all:BTC-USDT", b"quote:all:ETH-USDT"} <= names


async def test_a_withdrawn_quote_stops_counting_with_its_status(redis_url: str) -> None:
    async with Feed(redis_url) as binance, Feed(redis_url, "kraken") as kraken, made(redis_url) as hub:
        await binance.publish(quote(1.0), depth([(1.0, 1.0)], []))
        await kraken.publish(quote(1.5, venue="kraken"))
        await hub.venues("binance", "kraken")
        gone = (f"quote:binance:{SYMBOL}", f"depth:binance:{SYMBOL}")
        await binance.publish(status("resyncing", SYMBOL, "book"), withdraw=gone)
        await hub.venues("kraken")
        await hub.until(lambda message: message["venues"] == [], f"depth:all:{SYMBOL}")
        await kraken.publish(status("stale", SYMBOL, venue="kraken"))
        await hub.venues()
        said = await hub.until(lambda message: "kraken stale: test" in message["reason"], f"status:all:{SYMBOL}")
        assert (said["state"], said["kind"]) == ("resyncing", None), "the worst of quote and depth"
        await binance.publish(quote(1.2), status("live", SYMBOL))
        await hub.venues("binance")


async def test_a_venue_without_a_pulse_does_not_count(redis_url: str) -> None:
    async with Feed(redis_url) as binance, made(redis_url) as hub:
        await binance.publish(quote(1.0))
        await hub.venues("binance")
        await binance.pulse(px=1)
        await hub.venues()
        await binance.pulse()
        await hub.venues("binance")


async def test_what_cannot_be_read_is_counted_and_skipped(redis_url: str) -> None:
    async with Feed(redis_url) as binance, made(redis_url) as hub:
        await binance.publish(quote(1.0), trade(1), quote(1.0, "ETH-USDT"))
        await hub.venues("binance")
        await hub.until(lambda message: message["bid"] == 1.0, "quote:all:ETH-USDT")
        for channel in (f"quote:binance:{SYMBOL}", f"trade:binance:{SYMBOL}", "status:binance:*", "channels"):
            for payload in (b"", b"{", b"\xff", b"null"):
                await hub.redis.publish(KEYS.newest(channel), payload)
        for number in range(3):
            position = f"{binance.builder.epoch}-{1000 + number}"
            await hub.redis.publish("md:quote:binance:ETH-USDT", f'{{"type":"quote","id":"{position}"}}')
        await hub.redis.publish(KEYS.channels, "quote:binance:a b c")
        await binance.publish(quote(2.0))
        await hub.until(lambda message: message["bid"] == 2.0)
        assert hub.consolidator.inputs.unreadable >= 3


async def test_a_retired_symbol_and_leftovers_are_taken_away(redis_url: str) -> None:
    async with Feed(redis_url) as binance, Feed(redis_url, "all") as earlier:
        await binance.publish(quote(1.0), quote(2.0, "ETH-USDT"))
        await earlier.publish(quote(9.0, "OLD-USDT", "all"))
        async with made(redis_url) as hub:

            async def gone() -> bool:
                return not await hub.redis.exists("md:quote:all:OLD-USDT")

            await until(gone, "what an earlier run left is gone")
            await hub.until(lambda message: message["bid"] == 2.0, "quote:all:ETH-USDT")
            await hub.redis.srem(KEYS.channels, "quote:binance:ETH-USDT")
            await hub.consolidator.inputs.bus.learn_channels()

            async def retired() -> bool:
                return not await hub.redis.exists("md:quote:all:ETH-USDT")

            await until(retired, "a symbol without venues is gone")
            assert not await hub.redis.sismember(KEYS.channels, "quote:all:ETH-USDT")
            assert "quote:binance:ETH-USDT" not in hub.consolidator.inputs.channels.topics
            await binance.publish(quote(3.0, "ETH-USDT"))
            await hub.redis.sadd(KEYS.channels, "quote:binance:ETH-USDT")
            await hub.redis.publish(KEYS.channels, "quote:binance:ETH-USDT")
            await hub.until(lambda message: message["bid"] == 3.0, "quote:all:ETH-USDT")


async def test_a_thousand_symbols(redis_url: str) -> None:
    symbols = [f"S{number:04}-USDT" for number in range(1000)]
    async with Feed(redis_url) as binance, Feed(redis_url, "kraken") as kraken:
        for feed in (binance, kraken):
            await feed.publish(*(quote(float(n), name, feed.venue) for n, name in enumerate(symbols)))
        async with made(redis_url) as hub:
            for number in (0, 500, 999):
                message = await hub.until(lambda m: len(m["venues"]) == 2, f"quote:all:{symbols[number]}")
                assert message["bid"] == number
            await kraken.publish(*(quote(n + 0.5, name, "kraken") for n, name in enumerate(symbols)))
            for number in (0, 500, 999):
                await hub.until(partial(_has_bid, number + 0.5), f"quote:all:{symbols[number]}")
            assert len(hub.consolidator.report().symbols) == 1000


def _has_bid(bid: float, message: dict[str, Any]) -> bool:
    return bool(message["bid"] == bid)


async def test_sizes_in_other_units_are_left_out(redis_url: str) -> None:
    symbol = "BTC-USD-PERP"
    async with Feed(redis_url, "bybit") as inverse, Feed(redis_url, "deribit") as linear:
        row = Instrument(
            venue="bybit", venue_symbol="BTCUSD", symbol=symbol, kind="perpetual", base="BTC", quote="USD",
            size_unit="quote",
        )  # fmt: skip
        async with Redis.from_url(redis_url) as redis:
            await redis.hset(KEYS.instruments("bybit"), symbol, json.dumps(_plain(row)))
        await inverse.publish(quote(1.0, symbol, "bybit"))
        async with made(redis_url) as hub:
            await hub.until(lambda message: message["venues"] == ["bybit"], f"quote:all:{symbol}")
            await linear.publish(quote(0.5, symbol, "deribit"))
            message = await hub.until(lambda message: message["venues"] == ["deribit"], f"quote:all:{symbol}")
            assert message["bid"] == 0.5


def _plain(row: Instrument) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__}


async def test_groups_and_a_plugin(redis_url: str, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from hub.analytics import Measure\n"
        "class Bad(Measure):\n    def on_quote(self, quote, venues, now):\n        raise RuntimeError('no')\n"
        "    def numbers(self, now):\n        return {'bad': 1}\n"
        "class Count(Measure):\n    n = 0\n    def on_trade(self, trade, now):\n        self.n += 1\n"
        "    def numbers(self, now):\n        return {'trades_seen': self.n}\n"
        "MEASURES = {'bad': Bad, 'count': Count}\n"
    )
    file = tmp_path / "hub.toml"
    file.write_text(
        f'[consolidator]\nplugins = ["{plugin}"]\nanalytics = ["bad", "count", "spread"]\n'
        '[consolidator.groups]\n"BTC-USD" = ["BTC-USDT", "BTC-USDC"]\n'
    )
    async with Feed(redis_url) as binance, made(redis_url, config_file=str(file)) as hub:
        await binance.publish(quote(1.0), trade(1), quote(1.5, "BTC-USDC"))
        message = await hub.until(lambda message: message["bid"] == 1.5, "quote:all:BTC-USD")
        assert message["ask"] == 2.0
        await binance.publish(trade(2), trade(3))
        message = await hub.until(lambda m: m["analytics"]["trades_seen"] >= 2, "quote:all:BTC-USD")
        assert message["analytics"]["spread"] == 0.5
        assert hub.consolidator.report().counters["analytics_errors_bad"] >= 1


async def test_one_publisher(redis_url: str) -> None:
    async with made(redis_url):
        with pytest.raises(LeaseHeld, match="all is already published"):
            await Consolidator(settings_for(redis_url)).run()


async def test_it_says_why_it_cannot_run(redis_url: str) -> None:
    with pytest.raises(ConfigError, match="nothing to run"):
        Consolidator(settings_for(redis_url, consolidator__enabled="false"))
    with pytest.raises(ConfigError, match="no measure"):
        Consolidator(settings_for(redis_url, consolidator__analytics='["nothing"]'))
    with pytest.raises(RedisUnavailable):
        await Consolidator(settings_for("redis://127.0.0.1:1/0")).run()


@pytest.mark.parametrize(
    ("kinds", "read"), [('["depth"]', {"depth"}), ('["candle"]', {"trade"}), ('["quote"]', {"quote", "depth", "trade"})]
)
async def test_only_what_is_needed_is_read(redis_url: str, kinds: str, read: set[str]) -> None:
    async with Feed(redis_url) as binance:
        await binance.publish(quote(1.0), depth([(1.0, 1.0)], []), trade(1))
        async with made(redis_url, consolidator__kinds=kinds) as hub:
            kind = kinds[2:-2]
            if kind != "candle":
                await hub.until(lambda message: message["venues"] == ["binance"], f"{kind}:all:{SYMBOL}")
            topics = hub.consolidator.inputs.channels.topics.values()
            assert {topic.kind for topic in topics} - {"status"} == read
            names: Any = await hub.redis.smembers(KEYS.channels)
            others = {name.decode().partition(":")[0] for name in names if b":all:" in name} - {"status", kind}
            assert not {other for other in others if not other.startswith(("candle", "forming"))}


async def test_on_a_cluster(tmp_path: Path) -> None:
    """Channels of one symbol are on different nodes, in no order among each other."""
    async with cluster(tmp_path) as servers, rig(servers.url) as feed:

        async def pulse() -> None:
            while True:
                await feed.lease.renew(feed.publisher.epoch, b"{}")
                await asyncio.sleep(0.5)

        beating = asyncio.create_task(pulse())
        consolidator = Consolidator(settings_for(servers.url))
        running = asyncio.create_task(consolidator.run())
        hub = Made(consolidator, feed.client)
        symbols = [f"S{number}-X" for number in range(6)]
        try:
            for symbol in symbols:
                feed.publisher.publish(publishing.quote(1, symbol))
                feed.publisher.publish(publishing.depth(1, symbol))
            for symbol in symbols:
                for kind in ("quote", "depth"):
                    await hub.until(lambda message: message["venues"] == ["venue"], f"{kind}:all:{symbol}")
            for symbol in symbols:
                for kind in ("quote", "depth"):
                    feed.publisher.withdraw(kind, symbol)
                feed.publisher.publish(publishing.status("resyncing", symbol=symbol))
            for symbol in symbols:
                for kind in ("quote", "depth"):
                    await hub.until(lambda message: message["venues"] == [], f"{kind}:all:{symbol}")
        finally:
            for task in (running, beating):
                task.cancel()
            await asyncio.gather(running, beating, return_exceptions=True)
