"""What is cancelled while a command to Redis is on its way ends all the same."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from feeds.process import Feed
from feeds.rest import SharedLimiter
from hub.config import RedisSettings, Settings
from hub.keys import Keys
from hub.publisher import Publisher
from hub.reader import Reader
from hub.redisio import command_client
from tests.hub.cancelling import ends


@pytest.fixture
async def feed(redis_url: str) -> AsyncIterator[Feed]:
    settings = Settings(redis=RedisSettings(url=redis_url))
    made = Feed("binance", settings)
    epoch = await made.lease.acquire()
    made.publisher = Publisher(
        redis_url, made.keys, "binance", made.lease, epoch, None, settings.publisher, settings.history, print
    )
    made.pipeline = made._pipeline()
    yield made
    await made.rest.close()
    await made.redis.aclose()


async def test_the_pulse(feed: Feed) -> None:
    await ends(feed._pulse, feed.redis.ping)


async def test_a_wait_for_the_budget(redis_url: str) -> None:
    async with command_client(redis_url) as client:
        limiter = SharedLimiter(client, Keys(), "venue", "rest", 1000, 1.0)
        await ends(lambda: limiter.take(1), client.ping)


async def test_reads(redis_url: str) -> None:
    reader = Reader(redis_url, Keys())
    await ends(reader.ping, reader.ping)
    await reader.close()


async def test_who_survived_a_task_group_is_not_cancelled(redis_url: str) -> None:
    """A recorder opens its connections again in the task in which a group of tasks failed."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError

    async with command_client(redis_url) as client:
        limiter = SharedLimiter(client, Keys(), "venue", "rest", 1000, 1.0)
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
        await limiter.take(1)
    reader = Reader(redis_url, Keys())
    await reader.ping()
    await reader.close()
