"""All clients come back at once: nobody is lost, nobody misses an event, and Redis is asked once per channel."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.gateway.kit import Feed, Gateway, gateway_on, quote, subscribe, trade, until

TRADE = "trade:binance:BTC-USDT"
QUOTE = "quote:binance:BTC-USDT"
CLIENTS = 300


async def come_back(gateway: Gateway, after: str, upto: int) -> ClientConnection:
    """Connect, resume, and read up to trade number `upto`: each exactly once and in order."""
    socket = await gateway.connect(open_timeout=60)
    await subscribe(socket, TRADE, after=after)
    await subscribe(socket, QUOTE)
    expected = int(after.split("-")[1])
    newest = False
    async with asyncio.timeout(60):
        while expected < upto or not newest:
            message: dict[str, Any] = json.loads(await socket.recv())
            if message["type"] == "trade":
                expected += 1
                assert int(message["id"].split("-")[1]) == expected
            else:
                assert message["type"] in ("ack", "quote"), message
                newest = newest or message["type"] == "quote"
    return socket


async def test_a_reconnect_storm(redis_url: str, feed: Feed) -> None:
    await feed.publish(*(trade(n) for n in range(1, 11)), quote(1.0))
    epoch, stop = feed.builder.epoch, asyncio.Event()

    async def publish() -> int:
        number = 10
        while not stop.is_set() or number < 60:
            number += 1
            await feed.publish(trade(number), quote(float(number)))
            await asyncio.sleep(0.02)
        return number

    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(gateway_on(redis_url))
        sockets = await asyncio.gather(*(come_back(first, f"{epoch}-5", 10) for _ in range(CLIENTS)))
        publishing = asyncio.create_task(publish())
        await stack.aclose()  # the gateway goes: every client is sent away
        for socket in sockets:
            try:
                while True:
                    await asyncio.wait_for(socket.recv(), 30)
            except ConnectionClosed as closed:
                assert closed.rcvd is not None
                assert closed.rcvd.code == 1012
    async with gateway_on(redis_url) as second:
        again = await asyncio.gather(*(come_back(second, f"{epoch}-10", 40) for _ in range(CLIENTS)))
        stop.set()
        last = await publishing
        for socket in again:
            await until(socket, "quote", bid=float(last), timeout_s=30)
        runtime = second.runtime
        assert (len(runtime.clients), runtime.joins.gaps, runtime.bus.holes) == (CLIENTS, 0, 0)
        channels = await feed.redis.pubsub_numsub(feed.keys.newest(TRADE), feed.keys.newest(QUOTE))
        assert [count for _, count in channels] == [1, 1], "one subscription for all"
        await asyncio.gather(*(socket.close() for socket in again))


async def test_clients_that_come_and_go_leave_nothing(feed: Feed, gateway: Gateway) -> None:
    """Handshakes given up half way, sockets dropped while they subscribe, closes in the midst of a join."""
    await feed.publish(*(trade(n) for n in range(1, 500)), quote(1.0))

    async def visit(turn: int) -> None:
        if turn % 4 == 0:
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(b"GET /v1/ws HTTP/1.1\r\nHost: t\r\nUpgr")
            writer.transport.abort()
            return
        socket = await gateway.connect(open_timeout=60)
        await subscribe(socket, TRADE, "quote:*:*", **({"after": {TRADE: "1-1"}} if turn % 3 else {"since": 0}))
        if turn % 4 == 1:
            socket.transport.abort()
        elif turn % 4 == 2:
            await until(socket, "ack", timeout_s=30)
            socket.transport.abort()
        else:
            await socket.close()

    for _ in range(3):
        await asyncio.gather(*(visit(turn) for turn in range(60)))
    runtime = gateway.runtime
    async with asyncio.timeout(20):
        while len(runtime.clients) or runtime.subscriptions.replays.count:
            await asyncio.sleep(0.05)
    assert runtime.subscriptions.count == 0
    assert not runtime.subscriptions.by_symbol
    assert not runtime.subscriptions._patterns
    assert runtime.healthy
