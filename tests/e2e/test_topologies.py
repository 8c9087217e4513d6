"""Publisher and gateway on a Cluster and on a Sentinel's master: everything arrives, and a failover is survived."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.kit import Gateway, gateway_on, subscribe, until
from tests.hub.publishing import Rig, quote, rig, snapshot, status, trade, update
from tests.servers import cluster, eventually, sentinels

SYMBOLS = [f"S{number}-X" for number in range(12)]


async def pulse(it: Rig) -> None:
    await it.lease.renew(it.publisher.epoch, b"{}")


@pytest.mark.parametrize("kind", ["cluster", "sentinel"])
async def test_everything_reaches_clients_and_rest(tmp_path: Path, kind: str) -> None:
    async with cluster(tmp_path) if kind == "cluster" else sentinels(tmp_path) as servers:
        async with rig(servers.url) as it, gateway_on(servers.url) as gateway:
            await pulse(it)
            for symbol in SYMBOLS:
                for item in (
                    quote(1, symbol),
                    trade(1, symbol),
                    snapshot({1.0: 2.0}, symbol),
                    status("live", "", symbol),
                ):
                    it.publisher.publish(item)
            await it.drained()
            async with gateway.connect() as socket, gateway.connect() as patterns:
                await subscribe(socket, *(f"trade:venue:{symbol}" for symbol in SYMBOLS), "book:venue:S3-X")
                await subscribe(patterns, "quote:*:*")
                for _ in SYMBOLS:
                    await until(socket, "trade")
                    await until(patterns, "quote")
                await pulse(it)
                for number in range(2, 30):
                    for symbol in SYMBOLS:
                        it.publisher.publish(trade(number, symbol))
                        it.publisher.publish(quote(number, symbol))
                    it.publisher.publish(update(1.0, float(number), "S3-X"))
                    await asyncio.sleep(0.005)
                found: dict[str, list[float]] = {symbol: [] for symbol in SYMBOLS}
                sizes: list[float] = []
                while sum(map(len, found.values())) < 28 * len(SYMBOLS) or sizes[-1:] != [29.0]:
                    message = json.loads(await asyncio.wait_for(socket.recv(), 60))
                    if message["type"] == "trade":
                        found[message["symbol"]].append(message["price"])
                    elif message["type"] == "book":
                        sizes += [size for _, size in message["bids"]]
                assert all(prices == [float(n) for n in range(2, 30)] for prices in found.values())
                new = await asyncio.gather(until(patterns, "quote", symbol="NEW-X"), _publish(it, "NEW-X"))
                assert new[0]["bid"] == 5.0
            await _replay(gateway)
            assert (it.publisher.counters["redis_errors"], it.publisher.counters["redis_reconnects"]) == (0, 0)
            await _rest(it, gateway)


async def _publish(it: Rig, symbol: str) -> None:
    it.publisher.publish(quote(5, symbol))
    await it.drained()


async def _replay(gateway: Gateway) -> None:
    """Logs of all nodes are read from their beginning, then the channels are live."""
    async with gateway.connect() as socket:
        await subscribe(socket, *(f"trade:venue:{symbol}" for symbol in SYMBOLS), since=0)
        seen: dict[str, list[float]] = {symbol: [] for symbol in SYMBOLS}
        live = 0
        async with asyncio.timeout(60):
            while live < len(SYMBOLS):
                message = json.loads(await socket.recv())
                live += message["type"] == "live"
                if message["type"] == "trade":
                    seen[message["symbol"]].append(message["price"])
        assert all(prices == [float(n) for n in range(1, 30)] for prices in seen.values())


async def _rest(it: Rig, gateway: Gateway) -> None:
    await pulse(it)
    code, quotes = await gateway.get("/v1/quotes?symbols=" + ",".join(SYMBOLS))
    assert code == 200
    assert {row["symbol"] for row in quotes["items"]} == set(SYMBOLS)
    code, book = await gateway.get("/v1/books/S3-X?venue=venue")
    assert (code, book["books"][0]["bids"]) == (200, [[1.0, 29.0]])
    code, trades = await gateway.get("/v1/trades/S5-X?venue=venue")
    assert (code, len(trades["venues"][0]["trades"])) == (200, 29)
    code, venues = await gateway.get("/v1/venues")
    assert (code, venues["venues"][0]["venue"]) == (200, "venue")


async def test_a_failover_begins_a_new_epoch_and_clients_stay_connected(tmp_path: Path) -> None:
    """The new master is another run, and may lack what the old one had not passed on."""
    async with sentinels(tmp_path) as servers:

        def again(it: Rig) -> None:
            it.publisher.publish(status("live", "new epoch"))
            it.publisher.publish(snapshot({1.0: 2.0}))

        async with rig(servers.url, on_new_epoch=again) as it, gateway_on(servers.url) as gateway:
            pulses = asyncio.create_task(_pulses(it))
            it.publisher.publish(trade(1))
            it.publisher.publish(snapshot({1.0: 1.0}))
            await it.drained()
            async with gateway.connect() as socket:
                await subscribe(socket, "trade:venue:A-B", "book:venue:A-B")
                first = await until(socket, "trade")
                servers.master.kill()
                await eventually(servers.follows, 30)
                await asyncio.sleep(0.5)
                it.publisher.publish(trade(2))
                # The new book may come before or after the trade: channels have no order among each other.
                heard: dict[str, Any] = {}
                async with asyncio.timeout(60):
                    while heard.get("trade", first)["price"] != 2.0 or heard.get("book", {}).get("bids") != [
                        [1.0, 2.0]
                    ]:
                        message = json.loads(await socket.recv())
                        heard[message["type"]] = message
                assert int(heard["trade"]["id"].partition("-")[0]) > int(first["id"].partition("-")[0])
                assert heard["book"]["action"] == "snapshot"
            assert len(it.reasons) == 1
            assert "another run" in it.reasons[0]
            assert not it.running.done()
            pulses.cancel()


async def _pulses(it: Rig) -> None:
    while True:
        try:
            await pulse(it)
        except Exception:
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)
