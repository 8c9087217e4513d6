"""Both ways to the hub under one name, and a publisher that goes on while things break."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from hub.client import Client, Item, Stream, Trade
from hub.position import parse_position
from tests.gateway.kit import Feed, gateway_on, trade

__all__ = ["TRADE", "collect", "hub_over", "next_of", "publish_trades", "seqs", "until"]

TRADE = "trade:binance:BTC-USDT"

T = TypeVar("T")


@asynccontextmanager
async def hub_over(way: str, redis_url: str, **options: Any) -> AsyncIterator[Client]:
    """A client over a gateway of its own, or straight from Redis."""
    if way == "redis":
        async with Client(redis_url, **options) as hub:
            yield hub
        return
    async with gateway_on(redis_url) as gateway, Client(gateway.http, **options) as hub:
        yield hub


async def next_of(stream: Stream, kind: type[T], timeout_s: float = 40.0) -> T:
    """Return the next item of one type."""
    async with asyncio.timeout(timeout_s):
        async for item in stream:
            if isinstance(item, kind):
                return item
    raise AssertionError("the stream ended")


async def collect(stream: Stream, done: Callable[[list[Item]], bool], timeout_s: float = 40.0) -> list[Item]:
    """Return what comes, up to the batch of which `done` holds."""
    found: list[Item] = []
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                batch = await stream.batch()
                found += batch
                if done(batch):
                    break
    except TimeoutError:
        raise AssertionError(f"not in {timeout_s:g} s; last items: {found[-5:]}") from None
    return found


async def until(condition: Callable[[], Awaitable[object] | object], timeout_s: float = 40.0) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(timeout_s):
        while True:
            value = condition()
            if await value if isinstance(value, Awaitable) else value:
                return
            await asyncio.sleep(0.02)


def seqs(items: list[Item]) -> list[int]:
    """Return the sequence numbers of the trades."""
    return [parse_position(item.id)[1] for item in items if isinstance(item, Trade)]


@asynccontextmanager
async def publish_trades(feed: Feed, every_s: float = 0.002) -> AsyncIterator[list[int]]:
    """Publish trades until the block ends; yields the list of their numbers, which grows."""
    sent: list[int] = []

    async def work() -> None:
        for number in itertools.count(1):
            await feed.publish(trade(number), maxlen=100_000)
            sent.append(number)
            await asyncio.sleep(every_s)

    task = asyncio.create_task(work())
    try:
        yield sent
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
