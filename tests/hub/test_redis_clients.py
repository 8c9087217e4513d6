"""hub/redis_clients.py: whoever is cancelled during a command to Redis ends, with each kind of client."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from hub.errors import RedisUnavailable
from hub.redis_clients import uncancelled
from hub.redisio import command_client, mget
from hub.topology import Address, find_master, find_nodes, parse_address
from tests.hub.cancelling import ends
from tests.servers import cluster, sentinels

FORMS = {"single": "SingleClient", "sentinel": "MasterClient", "cluster": "ClusterClient"}
TEXT = "{k}:text"


@pytest.fixture(params=list(FORMS))
async def url(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "single":
        yield redis_url
        return
    async with cluster(tmp_path) if request.param == "cluster" else sentinels(tmp_path) as servers:
        yield servers.url


async def command(client: Redis) -> None:
    await client.get(TEXT)


async def script(client: Redis) -> None:
    reply: Any = client.eval("return redis.call('GET', KEYS[1])", 1, TEXT)
    await reply


async def several(client: Redis) -> None:
    await mget(client, [TEXT, "other", "third"])


async def refused(client: Redis) -> None:
    """A command that fails, and a caller who goes on after that."""
    with suppress(RedisError):
        reply: Any = client.lpush(TEXT, "x")
        await reply


async def pipeline(client: Redis, *, transaction: bool = False) -> None:
    async with client.pipeline(transaction=transaction) as pipe:
        pipe.get(TEXT)
        pipe.get("{k}:other")
        await pipe.execute()


async def transaction(client: Redis) -> None:
    await pipeline(client, transaction=True)


async def watching(client: Redis) -> None:
    async with client.pipeline() as pipe:
        await pipe.watch(TEXT)
        await pipe.get(TEXT)


WAYS: list[Callable[[Redis], Awaitable[None]]] = [command, script, several, refused, pipeline, transaction]


async def test_who_is_cancelled_during_a_command_ends(request: pytest.FixtureRequest, url: str) -> None:
    form = request.node.callspec.params["url"]
    async with command_client(url) as client:
        assert type(client).__name__ == FORMS[form]
        await client.set(TEXT, "x")
        for way in WAYS if form == "cluster" else [*WAYS, watching]:
            await ends(partial(way, client), client.ping, 20)
        assert await client.get(TEXT) == b"x"


@pytest.mark.parametrize("url", ["sentinel", "cluster"], indirect=True)
# redis-py leaves sockets to the garbage collector where it is cancelled while it connects.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_who_is_cancelled_while_a_server_is_looked_for_ends(url: str) -> None:
    address = parse_address(url)
    find: Callable[[Address], Awaitable[Any]] = find_nodes if address.kind == "cluster" else find_master
    await ends(partial(find, address), partial(asyncio.sleep, 0), 60)
    gc.collect()


async def test_who_was_cancelled_cleans_up(redis_url: str) -> None:
    async with command_client(redis_url) as client:
        began = asyncio.Event()

        async def work() -> None:
            try:
                began.set()
                await asyncio.Event().wait()
            finally:
                await client.set("cleaned", "up")
                await pipeline(client)
                await client.set("cleaned", "all")

        task = asyncio.ensure_future(work())
        await began.wait()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert await client.get("cleaned") == b"all"


async def swallow(error: Exception | None = None) -> str:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if error is not None:
            raise error from None
    return "answer"


@pytest.mark.parametrize("error", [None, RedisConnectionError("gone")])
async def test_a_cancellation_that_was_swallowed_is_raised(error: Exception | None) -> None:
    task = asyncio.ensure_future(uncancelled(swallow(error)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_a_timeout_that_was_swallowed_is_one() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await uncancelled(swallow())
    assert await uncancelled(asyncio.sleep(0, "answer")) == "answer"


async def test_without_a_cancellation_nothing_changes() -> None:
    async def fail() -> None:
        raise RedisUnavailable("redis://x", "gone")

    assert await uncancelled(asyncio.sleep(0, "answer")) == "answer"
    with pytest.raises(RedisUnavailable):
        await uncancelled(fail())
