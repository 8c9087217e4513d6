"""What breaks on the way: gateway and Redis killed under a running publisher. No event is lost, none comes twice."""

import asyncio
import signal
from pathlib import Path

import pytest

from hub.client import Client, Gap, Quote, Status, Trade
from hub.redis_binary import find_server
from tests.e2e.stack import Stack
from tests.gateway.kit import Feed, quote, trade
from tests.hub.client.kit import TRADE, collect, next_of, publish_trades, seqs
from tests.ports import free_port
from tests.servers import Node, eventually


@pytest.mark.parametrize("channels", [(TRADE,), ("trade:binance:*",)])
async def test_a_killed_gateway_costs_nothing(tmp_path: Path, redis_url: str, channels: tuple[str, ...]) -> None:
    async with Feed(redis_url) as feed, Stack(tmp_path, redis_url, [], []) as stack:
        await feed.publish(trade(1))
        gateway = await stack.gateway()
        async with Client(stack.rest) as hub, publish_trades(feed, 0.02) as sent:
            stream = hub.stream(*channels)
            items = await collect(stream, lambda new: max(seqs(new), default=0) >= 50)
            for signum in (signal.SIGKILL, signal.SIGTERM):
                await gateway.end(signum)
                if signum == signal.SIGKILL:
                    # Away for so long that it is told.
                    items += await collect(stream, lambda items: any(isinstance(i, Status) for i in items))
                    assert stream.state(TRADE)[0] == "down"
                fresh = f"NEW{signum:d}-USDT"
                await feed.publish(trade(1, fresh))
                gateway = await stack.gateway()
                wanted = {("BTC-USDT", str(sent[-1] + 10)), *([(fresh, "1")] if channels != (TRADE,) else [])}
                while wanted:
                    async with asyncio.timeout(40):
                        items += (new := await stream.batch())
                    wanted -= {(item.symbol, item.trade_id) for item in new if isinstance(item, Trade)}
        own = [item for item in items if isinstance(item, Trade) and item.symbol == "BTC-USDT"]
        numbers = seqs([*own])
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert [item for item in items if isinstance(item, Gap)] == []
        assert stream.reconnects >= 2
        # What began while nobody was connected was not missed either: it was waited for.


@pytest.mark.parametrize("way", ["gateway", "redis"])
async def test_a_redis_that_restarts_with_its_data_costs_nothing(tmp_path: Path, way: str) -> None:
    node = Node(find_server(tmp_path), tmp_path / "redis", free_port(), "appendonly yes", "appendfsync always")
    await node.start()
    url = f"redis://127.0.0.1:{node.port}/0"
    try:
        async with Feed(url) as feed, Stack(tmp_path, url, [], []) as stack:
            if way == "gateway":
                await stack.gateway()
            async with Client(stack.rest if way == "gateway" else url) as hub:
                await feed.publish(trade(1))
                stream = hub.stream(TRADE)
                first = await next_of(stream, Trade)
                await feed.publish(*(trade(n) for n in range(2, 20)))
                items = [first, *await collect(stream, lambda items: seqs(items)[-1:] == [19])]
                await asyncio.to_thread(node.kill)
                down = await collect(stream, lambda new: any(isinstance(i, Status) and i.state == "down" for i in new))
                assert stream.state(TRADE)[0] == "down"
                await node.start()
                await eventually(lambda: _answers(feed))
                await feed.pulse()
                await feed.publish(*(trade(n) for n in range(20, 40)))
                items += down + await collect(stream, lambda items: seqs(items)[-1:] == [39])
                assert seqs(items) == list(range(1, 40))
                assert [item for item in items if isinstance(item, Gap)] == []
    finally:
        await asyncio.to_thread(node.kill)


async def _answers(feed: Feed) -> bool:
    return bool(await feed.redis.ping())


async def test_states_are_told_again_after_a_break(tmp_path: Path, redis_url: str) -> None:
    channel = "quote:binance:BTC-USDT"
    async with Feed(redis_url) as feed, Stack(tmp_path, redis_url, [], []) as stack:
        await feed.publish(quote(1.0))
        gateway = await stack.gateway()
        async with Client(stack.rest) as hub:
            stream = hub.stream(channel)
            await next_of(stream, Quote)
            await gateway.end(signal.SIGKILL)
            told = await next_of(stream, Status)
            assert (told.state, told.venue, told.kind) == ("down", "binance", "quote")
            await stack.gateway()
            told = await next_of(stream, Status)
            assert (told.state, stream.state(channel)) == ("live", ("live", ""))
            await feed.publish(quote(2.0))
            assert (await next_of(stream, Quote)).bid == 2.0
