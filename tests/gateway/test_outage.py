"""Redis away and back, feeds dead and back: told in time, repaired without hole, clients stay connected."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.embedded import EmbeddedRedis
from tests.gateway.kit import Feed, Gateway, book, gateway_on, messages, quote, status, subscribe, trade, until
from tests.ports import free_port

QUOTE = "quote:binance:BTC-USDT"
TRADE = "trade:binance:BTC-USDT"
BOOK = "book:binance:BTC-USDT"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedRedis]:
    """A Redis of this test's own, because it is killed."""
    async with EmbeddedRedis(tmp_path, free_port()) as server:
        yield server


async def test_a_missing_pulse_is_told_and_its_return_too(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(quote(), status("live"))
    await feed.pulse(3000)
    async with gateway.connect() as socket, gateway.connect() as stranger:
        await subscribe(socket, QUOTE)
        await subscribe(stranger, "quote:other:X")
        await until(socket, "quote")
        down = await until(socket, "status", state="down")
        assert (down["venue"], down["symbol"], down["id"], down["kind"]) == ("binance", "*", "0-0", None)
        assert "pulse" in down["reason"]
        _, quotes = await gateway.get("/v1/quotes/BTC-USDT")
        assert quotes["quotes"][0]["state"] == "down"
        _, venues = await gateway.get("/v1/venues")
        assert venues["venues"][0]["state"] == "down"
        async with gateway.connect() as late:
            await subscribe(late, QUOTE)
            assert (await until(late, "ack"))["state"] == "down"
        await feed.pulse()
        assert (await until(socket, "status"))["state"] == "live"
        assert [m["type"] for m in await messages(stranger)] == ["ack"], "not about its venue"


async def test_statuses_come_unasked_to_those_they_are_about(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(quote(), quote(symbol="ETH-USDT"), status("live"))
    async with gateway.connect() as btc, gateway.connect() as eth, gateway.connect() as both:
        await subscribe(btc, QUOTE)
        await subscribe(eth, "quote:binance:ETH-USDT")
        await subscribe(both, QUOTE, "status:binance:BTC-USDT", "status:binance:*")
        for socket in (btc, eth, both):
            await messages(socket)
        (payload,) = await feed.publish(status("stale", "BTC-USDT"))
        assert await btc.recv(decode=False) == payload, "the feed's own bytes"
        assert [m["state"] for m in await messages(both)] == ["stale"], "once, although subscribed as well"
        assert await messages(eth) == []
        await feed.publish(status("resyncing"))
        for socket in (btc, eth, both):
            assert [m["state"] for m in await messages(socket)] == ["resyncing"]


@pytest.mark.parametrize("wipe", [False, True])
async def test_redis_killed_and_back(server: EmbeddedRedis, wipe: bool) -> None:
    """With its data every event arrives exactly once; without, the loss is told and the stream goes on."""
    async with Feed(server.url) as feed, gateway_on(server.url) as gateway, gateway.connect() as socket:
        await feed.redis.config_set("appendfsync", "always")
        await feed.publish(trade(1), trade(2), quote(1.0), book([(1.0, 1.0)], [(2.0, 1.0)], "snapshot"))
        await subscribe(socket, TRADE, QUOTE, BOOK)
        await messages(socket)
        await server.kill()
        down = await until(socket, "status", state="down")
        assert "Redis" in down["reason"]
        code, problem = await gateway.get("/v1/quotes/BTC-USDT")
        assert (code, problem["status"], problem["code"]) == (503, 503, "redis_unavailable")
        assert (await gateway.get("/health/ready"))[0] == 503
        assert (await gateway.get("/health/live"))[0] == 200
        async with gateway.connect() as late:
            await subscribe(late, QUOTE)
            assert (await until(late, "ack"))["state"] == "down"
            await asyncio.sleep(0.5)  # it is tried more than once meanwhile
            if wipe:
                server.wipe()
            await server.start()
            async with Feed(server.url, epoch=feed.builder.epoch + (1 if wipe else 0)) as again:
                if not wipe:
                    for channel in feed.builder.channels.values():
                        again.builder.channels[channel.name] = channel
                        again.builder._by_type = feed.builder._by_type
                first = 1 if wipe else 3
                await again.publish(
                    *(trade(n) for n in range(first, first + 3)),
                    quote(7.0),
                    book([(1.0, 7.0)], [(2.0, 1.0)], "snapshot"),
                    status("live"),
                )
                await until(late, "quote", bid=7.0)
                found = await messages(socket, 1.5)
                trades = [m["id"] for m in found if m["type"] == "trade"]
                if wipe:
                    assert trades == sorted(set(trades))
                    assert trades[-1] == f"{again.builder.epoch}-3"
                    gaps = {m["channel"]: m for m in found if m["type"] == "gap"}
                    assert gaps[TRADE]["last"] == f"{feed.builder.epoch}-2"
                    assert gaps[BOOK]["next"] is None or gaps[BOOK]["next"].startswith(str(again.builder.epoch))
                else:
                    assert trades == [f"{feed.builder.epoch}-{n}" for n in (3, 4, 5)]
                    assert not [m for m in found if m["type"] == "gap"]
                assert [m["bid"] for m in found if m["type"] == "quote"][-1] == 7.0
                assert [m for m in found if m["type"] == "book"][-1]["bids"] == [[1.0, 7.0]]
                assert [m["state"] for m in found if m["type"] == "status"][-1] == "live"
                assert (await gateway.get("/health/ready"))[0] == 200
                assert gateway.runtime.bus.reconnects == 1


async def test_patterns_survive_a_redis_that_lost_its_data(server: EmbeddedRedis) -> None:
    """Nobody retired the channels: they stay, what is lost is told, and REST knows them."""
    async with Feed(server.url) as feed, gateway_on(server.url) as gateway, gateway.connect() as socket:
        await feed.publish(trade(1), trade(2), quote(1.0))
        await subscribe(socket, "trade:binance:*", "quote:*:*")
        await messages(socket)
        await server.kill()
        await until(socket, "status", state="down")
        server.wipe()
        await server.start()
        async with asyncio.timeout(30):
            while not gateway.runtime.bus.connected:
                await asyncio.sleep(0.02)
        code, quotes = await gateway.get("/v1/quotes/BTC-USDT")
        assert (code, quotes["quotes"][0]["state"]) == (200, "down")
        async with Feed(server.url, epoch=feed.builder.epoch + 1) as again:
            await again.publish(status("live"), trade(1), trade(2), quote(7.0))
            found = await messages(socket, 1.5)
            assert not [m for m in found if m["type"] == "ack"]
            assert [m["last"] for m in found if m["type"] == "gap" and m["channel"] == TRADE] == [
                f"{feed.builder.epoch}-2"
            ]
            assert [m["id"] for m in found if m["type"] == "trade"][-1] == f"{again.builder.epoch}-2"
            assert [m["bid"] for m in found if m["type"] == "quote"] == [7.0]


async def test_a_cut_subscription_is_repaired_without_anyone_noticing(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(trade(1), quote(1.0))
    async with gateway.connect() as socket:
        await subscribe(socket, TRADE, QUOTE)
        await messages(socket)
        await feed.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[no-untyped-call]
        for number in range(2, 40):
            await feed.publish(trade(number), quote(float(number)))
            await asyncio.sleep(0.005)
        found = await messages(socket)
        assert [m["price"] for m in found if m["type"] == "trade"] == [float(n) for n in range(2, 40)]
        bids = [m["bid"] for m in found if m["type"] == "quote"]
        assert bids == sorted(set(bids))
        assert bids[-1] == 39.0
        assert not [m for m in found if m["type"] not in {"trade", "quote"}]
        assert gateway.runtime.bus.reconnects == 1


async def test_a_missing_number_is_fetched_from_the_log(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(trade(1))
    async with gateway.connect() as socket:
        await subscribe(socket, TRADE)
        await messages(socket)
        message = trade(2)
        channel, position, payload = feed.builder.build(message, 1)
        await feed.redis.xadd(channel.log, {"payload": payload}, id=position)  # its PUBLISH is lost
        await feed.publish(trade(3), trade(4))
        await feed.publish(trade(5))
        assert [m["price"] for m in await messages(socket)] == [2.0, 3.0, 4.0, 5.0]


async def test_repeated_batches_are_dropped(feed: Feed, gateway: Gateway) -> None:
    await feed.publish(trade(1))
    async with gateway.connect() as socket:
        await subscribe(socket, TRADE)
        await messages(socket)
        payloads = await feed.publish(trade(2), trade(3))
        for payload in payloads:
            await feed.redis.publish(feed.keys.newest(TRADE), payload)
        await feed.redis.publish(feed.keys.newest(TRADE), b"noise")
        await feed.publish(trade(4))
        assert [m["price"] for m in await messages(socket)] == [2.0, 3.0, 4.0]
        assert (gateway.runtime.bus.repeats, gateway.runtime.bus.malformed) == (2, 1)


async def test_redis_that_does_not_answer_counts_as_away_and_blocks_nothing(server: EmbeddedRedis) -> None:
    async with Feed(server.url) as feed, gateway_on(server.url) as gateway, gateway.connect() as socket:
        await feed.publish(quote(1.0))
        await subscribe(socket, QUOTE)
        await until(socket, "quote")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        down = await until(socket, "status", state="down")
        assert "does not answer" in down["reason"]
        for number in range(10):  # while Redis still sleeps
            await socket.send(json.dumps({"op": "ping", "id": number}))
            await until(socket, "pong", id=number)
        os.kill(server.pid, signal.SIGCONT)
        await until(socket, "status", state="live")
        await feed.publish(quote(2.0))
        assert (await until(socket, "quote"))["bid"] == 2.0


async def test_what_did_not_change_meanwhile_is_still_there(feed: Feed, gateway: Gateway) -> None:
    """The link breaks; a value that stayed the same is known again, so that asking for its state says so."""
    await feed.publish(quote(1.0), status("live"))
    async with gateway.connect() as socket:
        await subscribe(socket, QUOTE, max_rate=1)
        await until(socket, "quote")
        bus = gateway.runtime.bus
        bus.drop("test")
        async with asyncio.timeout(20):
            while not (bus.connected and bus.reconnects):
                await asyncio.sleep(0.01)
        await subscribe(socket, QUOTE, id=2)
        assert (await until(socket, "ack", id=2))["state"] == "live"
        await feed.publish(quote(2.0))
        assert (await until(socket, "quote"))["bid"] == 2.0
