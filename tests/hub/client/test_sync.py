"""The blocking front: a plain program, no event loop of its own."""

import asyncio
import threading
from pathlib import Path

import pytest

from hub.client import Quote, SyncClient
from hub.errors import HubError, NotFound
from tests.e2e.stack import Stack
from tests.gateway.kit import Feed, quote

CHANNEL = "quote:binance:BTC-USDT"


def use(url: str, published: threading.Event, go_on: threading.Event) -> None:
    with SyncClient(url) as hub:
        assert [row.bid for row in hub.quotes("BTC-USDT")] == [1.0]
        with pytest.raises(NotFound):
            hub.trades("NO-SUCH")
        with hub.stream(CHANNEL) as stream:
            assert next(item.bid for item in stream if isinstance(item, Quote)) == 1.0
            with pytest.raises(TimeoutError):
                while True:
                    stream.next(timeout_s=0.05)
            go_on.set()
            assert published.wait(60)
            assert next(item.bid for item in stream if isinstance(item, Quote)) == 2.0
            assert stream.state(CHANNEL) == ("live", "")
        assert list(stream) == []
    with pytest.raises(HubError, match="closed"):
        hub.quotes()
    hub.close()


@pytest.mark.parametrize("way", ["gateway", "redis"])
async def test_reads_and_streams_without_await(tmp_path: Path, redis_url: str, way: str) -> None:
    async with Feed(redis_url) as feed, Stack(tmp_path, redis_url, [], []) as stack:
        await feed.publish(quote(1.0))
        if way == "gateway":
            await stack.gateway()
        published, go_on = threading.Event(), threading.Event()
        work = asyncio.create_task(
            asyncio.to_thread(use, stack.rest if way == "gateway" else redis_url, published, go_on)
        )
        while not go_on.is_set() and not work.done():
            await asyncio.sleep(0.02)
        await feed.publish(quote(2.0))
        published.set()
        await work
    assert [thread.name for thread in threading.enumerate() if thread.name == "tickwire client"] == []
