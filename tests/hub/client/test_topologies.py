"""Straight from a Cluster and from a Sentinel's master: the same streams and reads."""

from pathlib import Path

import pytest

from hub.client import Client, Gap, Quote, Trade
from tests.hub.client.kit import collect, until
from tests.hub.publishing import quote, rig, snapshot, status, trade, update
from tests.servers import cluster, sentinels

SYMBOLS = [f"S{number}-X" for number in range(6)]


@pytest.mark.parametrize("kind", ["cluster", "sentinel"])
async def test_streams_and_reads(tmp_path: Path, kind: str) -> None:
    async with cluster(tmp_path) if kind == "cluster" else sentinels(tmp_path) as servers:
        async with rig(servers.url) as it, Client(servers.url) as hub:
            await it.lease.renew(it.publisher.epoch, b"{}")
            for symbol in SYMBOLS:
                for message in (
                    quote(1, symbol),
                    trade(1, symbol),
                    snapshot({1.0: 2.0}, symbol),
                    status("live", "", symbol),
                ):
                    it.publisher.publish(message)
            await it.drained()
            stream = hub.stream("trade:venue:*", "quote:*:S3-X")
            left = {("trade", symbol) for symbol in SYMBOLS} | {("quote", "S3-X")}
            while left:
                for item in await collect(stream, lambda _: True):
                    assert isinstance(item, Trade | Quote), item
                    left.discard((type(item).__name__.lower(), item.symbol))
            for number in range(2, 20):
                for symbol in SYMBOLS:
                    it.publisher.publish(trade(number, symbol))
                it.publisher.publish(update(1.0, float(number), "S3-X"))
            await it.drained()
            heard: dict[str, list[float]] = {symbol: [] for symbol in SYMBOLS}
            while any(len(prices) < 18 for prices in heard.values()):
                for item in await collect(stream, lambda _: True):
                    assert not isinstance(item, Gap)
                    if isinstance(item, Trade):
                        heard[item.symbol].append(item.price)
            assert all(prices == [float(n) for n in range(2, 20)] for prices in heard.values())
            await it.lease.renew(it.publisher.epoch, b"{}")
            assert {row.symbol: row.bid for row in await hub.quotes()} == {symbol: 1.0 for symbol in SYMBOLS}
            assert [row.price for row in await hub.trades("S3-X", limit=2)] == [18.0, 19.0]
            await until(lambda: _size(hub, 19.0))


async def _size(hub: Client, wanted: float) -> bool:
    (book,) = await hub.book("S3-X")
    return wanted in [size for _, size in book.bids + book.asks]
