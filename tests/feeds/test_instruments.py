"""The instruments process against venues on this machine: what is listed, and what was, is told once and in order."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from redis.asyncio import Redis
from websockets.asyncio.client import connect

from feeds.instruments import Instruments
from hub.config import InstrumentsSettings, RedisSettings, Settings, VenueSettings
from hub.errors import ConfigError, LeaseHeld
from hub.instrument_store import InstrumentStore
from hub.keys import Keys
from hub.model import Listing, decode
from hub.redisio import command_client
from tests.feeds.polling import KEY, Venue
from tests.gateway.kit import gateway_on
from tests.ports import free_port

KEYS = Keys("md:")
BASES = ("BTC", "ETH", "DOT", "SOL", "ADA", "XRP", "LTC", "BNB")


class Binance(Venue):
    """Answers with the list of `bases` against USDT."""

    def __init__(self) -> None:
        super().__init__(self._list)
        self.bases = list(BASES)
        self.statuses: dict[str, str] = {}

    async def _list(self, request: web.Request) -> web.StreamResponse:
        rows = [
            {
                "symbol": f"{base}USDT", "baseAsset": base, "quoteAsset": "USDT",
                "status": self.statuses.get(base, "TRADING"),
                "filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.01"}],
            }
            for base in self.bases
        ]  # fmt: skip
        return web.Response(body=json.dumps({"symbols": rows}).encode())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("LOOK_S", 0.05), ("START_S", 0.0), ("RETRY_S", 0.1)):
        monkeypatch.setattr(f"feeds.instruments.{name}", seconds)
    monkeypatch.setattr("feeds.listings.LOOK_S", 0.05)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with command_client(redis_url) as client:
        yield client


def settings_of(redis_url: str, **rest_urls: str) -> Settings:
    venues = {venue: VenueSettings(rest_url=url) for venue, url in rest_urls.items()}
    return Settings(
        redis=RedisSettings(url=redis_url), instruments=InstrumentsSettings(every_s=0.2), venues=venues
    )  # fmt: skip


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(Instruments(settings).run())
    try:
        yield task
    finally:
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError), outcome


async def until(condition: Callable[[], Any], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.03)


async def listings(redis: Redis, symbol: str, venue: str = "binance") -> list[Listing]:
    entries: Any = await redis.xrange(KEYS.log(f"listing:{venue}:{symbol}"))
    found = [decode(fields[b"payload"]) for _, fields in entries]
    assert [message.id.encode() for message in found] == [name for name, _ in entries]
    return [message for message in found if isinstance(message, Listing)]


async def actions(redis: Redis, symbol: str) -> list[str]:
    return [message.action for message in await listings(redis, symbol)]


async def rows(redis: Redis, venue: str = "binance") -> dict[str, str]:
    return {symbol: row.status for symbol, row in (await InstrumentStore(redis, KEYS).load(venue)).items()}


async def symbols_of(redis: Redis, bases: Sequence[str]) -> bool:
    return set(await rows(redis)) == {f"{base}-USDT" for base in bases}


async def test_listed_changed_delisted_over_redis_websocket_and_rest(redis_url: str, redis: Redis) -> None:
    async with Binance() as venue, running(settings_of(redis_url, binance=venue.url)), gateway_on(redis_url) as gateway:
        await until(lambda: symbols_of(redis, BASES))
        assert await redis.keys("*listing*") == []  # the first list is no news
        async with connect(gateway.ws) as socket:
            await socket.send('{"op":"subscribe","channels":["listing:*:*"],"id":1}')
            assert json.loads(await socket.recv())["type"] == "ack"
            venue.bases.append("NEW")
            venue.bases.remove("DOT")
            venue.statuses["ETH"] = "BREAK"
            told: dict[str, dict[str, Any]] = {}
            async with asyncio.timeout(30):
                while len(told) < 3:
                    message = json.loads(await socket.recv())
                    if message["type"] == "listing":
                        told[message["symbol"]] = message
        assert {symbol: (m["action"], m["changes"]) for symbol, m in told.items()} == {
            "NEW-USDT": ("listed", []),
            "ETH-USDT": ("changed", ["status"]),
            "DOT-USDT": ("delisted", ["status"]),
        }
        assert told["NEW-USDT"]["instrument"]["base"] == "NEW"
        assert json.loads(await redis.get("md:listing:binance:DOT-USDT") or b"") == told["DOT-USDT"]
        _, page = await gateway.get("/v1/instruments?status=delisted")
        (left,) = page["items"]
        assert left["symbol"] == "DOT-USDT" and left["first_seen"] <= left["last_seen"]
        _, page = await gateway.get("/v1/instruments?base=new")
        assert page["items"][0]["last_seen"] >= page["items"][0]["first_seen"]
        venue.bases.append("DOT")

        async def came_back() -> bool:
            return await actions(redis, "DOT-USDT") == ["delisted", "listed"]

        await until(came_back)
        assert (await rows(redis))["DOT-USDT"] == "trading"


@pytest.mark.parametrize(
    "answer",
    [(200, b'{"symbols":[]}'), (200, b"<html>"), (200, b""), (200, b"{}"), (503, b"down"), (200, None)],
    ids=["empty", "html", "nothing", "no list", "503", "partial"],
)
async def test_no_bad_answer_delists_anything(redis_url: str, redis: Redis, answer: tuple[int, bytes | None]) -> None:
    async with Binance() as venue, running(settings_of(redis_url, binance=venue.url)):
        await until(lambda: symbols_of(redis, BASES))
        status, body = answer
        if body is None:
            venue.bases = ["BTC", "ETH"]
        else:
            venue.script.extend([(status, {}, body)] * 1000)

        async def noted() -> bool:
            return (await InstrumentStore(redis, KEYS).syncs(["binance"]))["binance"].error != ""

        await until(noted)
        assert set((await rows(redis)).values()) == {"trading"}
        venue.script.clear()
        venue.bases = list(BASES)

        async def mended() -> bool:
            return not await noted()

        await until(mended)
        assert await redis.keys("*listing*") == []


async def test_a_venue_that_cannot_be_reached_costs_the_others_nothing(redis_url: str, redis: Redis) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    async with Binance() as venue, running(settings_of(redis_url, kraken=nowhere, binance=venue.url)):
        await until(lambda: symbols_of(redis, BASES))

        async def said() -> bool:
            sync = (await InstrumentStore(redis, KEYS).syncs(["kraken"])).get("kraken")
            return sync is not None and "Cannot connect" in sync.error and sync.ts is None

        await until(said)
        asked = len(venue.requests)

        async def asked_again() -> bool:
            return len(venue.requests) > asked

        await until(asked_again)


async def test_what_was_not_told_is_told_by_the_next_process(redis_url: str, redis: Redis) -> None:
    async with Binance() as venue:
        settings = settings_of(redis_url, binance=venue.url)
        async with running(settings):
            await until(lambda: symbols_of(redis, BASES))
            venue.bases.append("ONE")

            async def told() -> bool:
                return await actions(redis, "ONE-USDT") == ["listed"]

            await until(told)
        # Nobody runs; a feed that starts meanwhile finds a new one.
        store = InstrumentStore(redis, KEYS)
        table = await store.load("binance")
        one = table.pop("ONE-USDT")
        await store.store("binance", [*table.values()], ["1m"], 1 << 60, lambda _: True)
        assert len((await store.changes("binance"))[0]) == 1
        async with running(settings):

            async def all_told() -> bool:
                return await actions(redis, "ONE-USDT") == ["listed", "delisted", "listed"]

            await until(all_told)
        epochs = [int(message.id.split("-")[0]) for message in await listings(redis, "ONE-USDT")]
        assert epochs[0] < epochs[1] == epochs[2]
        assert (await store.load("binance"))["ONE-USDT"].first_seen == one.first_seen


async def test_redis_that_lost_everything_is_filled_again(redis_url: str, redis: Redis) -> None:
    async with Binance() as venue, running(settings_of(redis_url, binance=venue.url)):
        await until(lambda: symbols_of(redis, BASES))
        await redis.delete(KEYS.instruments("binance"), KEYS.instruments_sync("binance"))
        await until(lambda: symbols_of(redis, BASES))
        assert await redis.keys("*listing*") == []


async def test_there_is_one_such_process(redis_url: str) -> None:
    async with Binance() as venue:
        settings = settings_of(redis_url, binance=venue.url)
        async with running(settings):
            await until(lambda: _true(venue.requests))
            with pytest.raises(LeaseHeld, match="instruments"):
                await Instruments(settings).run()


async def _true(value: object) -> bool:
    return bool(value)


async def test_a_venue_without_its_keys_is_left_out(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALPHAVANTAGE_API_KEY", raising=False)
    process = Instruments(settings_of(redis_url, alphavantage="", binance=""))
    assert [sync.venue for sync in process.syncs] == ["binance"]
    await process.client.aclose()
    monkeypatch.setenv("ALPHAVANTAGE_API_KEY", KEY)
    process = Instruments(settings_of(redis_url, alphavantage="", binance=""))
    assert [sync.every_s for sync in process.syncs] == [86_400.0, 0.2]
    await process.client.aclose()


def test_venues_that_do_not_exist_stop_the_start() -> None:
    with pytest.raises(ConfigError, match=r"instruments\.venues: there is no venue 'mars'; known: alpaca"):
        Instruments(Settings(instruments=InstrumentsSettings(venues=["mars"])))


async def test_the_feeds_have_half_of_the_budget_to_themselves(redis_url: str) -> None:
    async with command_client(redis_url) as client:
        from feeds.rest import SharedLimiter

        def limiter(spare: float) -> SharedLimiter:
            return SharedLimiter(client, KEYS, "binance", "rest", 10, 86_400.0, spare=spare)

        modest, feed = limiter(5.0), limiter(0.0)
        for _ in range(5):
            assert await modest._try(1) == 0
        assert await modest._try(1) > 0
        for _ in range(5):
            assert await feed._try(1) == 0
        assert await feed._try(1) > 0
        big = limiter(5.0)
        big._key += ":other"
        assert await big._try(10) == 0  # what costs more than the rest is not refused for ever
