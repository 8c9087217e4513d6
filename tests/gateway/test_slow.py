"""Clients that do not read: bounded memory, told before anything is left out, and nobody else notices."""

import asyncio
import json
import socket as sockets
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.gateway.kit import Feed, Gateway, eventually, gateway_on, messages, quote, subscribe, trade, until

QUOTE = "quote:binance:BTC-USDT"
TRADE = "trade:binance:BTC-USDT"


async def stalled(gateway: Gateway, *channels: str) -> Any:
    """Connect a client with a small receive buffer that subscribes and then stops reading."""
    raw = sockets.socket()
    raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", gateway.port))
    client = await gateway.connect(sock=raw, max_queue=1)
    await subscribe(client, *channels)
    for _ in channels:
        await until(client, "ack")
    client.transport.pause_reading()
    return client


async def publish_until(feed: Feed, gateway: Gateway, done: Any, *, make: Any, timeout_s: float = 60.0) -> int:
    """Publish batches until `done()`; returns how many messages that took."""
    number = 0
    async with asyncio.timeout(timeout_s):
        while not done():
            await feed.publish(*(make(number + i) for i in range(100)), maxlen=200_000)
            number += 100
            await asyncio.sleep(0)
    return number


async def test_a_reader_of_trades_that_stalls_is_closed_and_can_resume(redis_url: str, feed: Feed) -> None:
    async with gateway_on(redis_url, queue_bytes=200_000) as gateway, gateway.connect() as healthy:
        slow = await stalled(gateway, TRADE)
        await subscribe(healthy, TRADE)
        await until(healthy, "ack")
        found: list[dict[str, Any]] = []

        async def read() -> None:
            async for text in healthy:
                found.append(json.loads(text))  # noqa: PERF401 - it is looked at meanwhile

        reading = asyncio.create_task(read())
        clients = gateway.runtime.clients
        count = await publish_until(feed, gateway, lambda: clients.slow_closed, make=lambda n: trade(n + 1))
        slow.transport.resume_reading()
        got, closed = [], None
        try:
            while True:
                got.append(json.loads(await asyncio.wait_for(slow.recv(), 30)))
        except ConnectionClosed as error:
            closed = error.rcvd
        assert closed is not None
        assert closed.code == 4008
        assert [m["type"] for m in got[-2:]] == ["lagging", "closing"]
        seqs = [int(m["id"].split("-")[1]) for m in got if m["type"] == "trade"]
        assert seqs == list(range(1, len(seqs) + 1)), "what was sent has no hole"
        assert got[-1]["last"] == {TRADE: f"{feed.builder.epoch}-{seqs[-1]}"}
        await eventually(lambda: len(found) >= count)
        reading.cancel()
        assert [int(m["id"].split("-")[1]) for m in found] == list(range(1, count + 1)), "the others miss nothing"
        async with gateway.connect() as again:
            await subscribe(again, TRADE, after=got[-1]["last"])
            rest = [m for m in await messages(again) if m["type"] == "trade"]
            assert [int(m["id"].split("-")[1]) for m in rest] == list(range(seqs[-1] + 1, count + 1))


async def test_a_reader_of_quotes_that_stalls_gets_the_newest_afterwards(redis_url: str, feed: Feed) -> None:
    async with gateway_on(redis_url) as gateway:
        slow = await stalled(gateway, QUOTE)
        clients = gateway.runtime.clients
        await publish_until(feed, gateway, lambda: clients.held, make=lambda n: quote(n + 1.0))
        for number in range(500):
            await feed.publish(quote(float(number)))
        await feed.publish(quote(12345.0))
        assert clients.held == 1
        slow.transport.resume_reading()
        found = await messages(slow, 0.5)
        lagging = [m for m in found if m["type"] == "lagging"]
        assert lagging
        assert lagging[0]["action"] == "conflated"
        assert found[-1]["bid"] == 12345.0
        assert clients.held == 0
        await feed.publish(quote(1.5))
        assert (await until(slow, "quote"))["bid"] == 1.5
        await slow.close()


async def test_a_client_that_never_reads_is_closed_in_time(redis_url: str, feed: Feed) -> None:
    async with gateway_on(redis_url, stall_timeout_s=1.0) as gateway:
        slow = await stalled(gateway, QUOTE)
        clients = gateway.runtime.clients
        await publish_until(feed, gateway, lambda: clients.held, make=lambda n: quote(n + 1.0))
        await eventually(lambda: not len(clients))
        assert clients.slow_closed == 1
        slow.transport.abort()


async def test_a_silent_client_is_closed_one_that_answers_pings_is_not(redis_url: str, feed: Feed) -> None:
    async with gateway_on(redis_url, idle_timeout_s=3.0) as gateway, gateway.connect() as polite:
        mute = await gateway.connect()
        mute.transport.pause_reading()
        await eventually(lambda: gateway.runtime.clients.idle_closed)
        await polite.send('{"op":"ping","id":1}')
        await until(polite, "pong")
        mute.transport.resume_reading()
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(mute.recv(), 30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011
