"""The lean Redis link against a real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from hub.embedded import EmbeddedRedis
from hub.errors import RedisUnavailable
from hub.link import Link, Push, RedisReplyError, pack
from tests.ports import free_port


async def test_replies_come_in_order_and_errors_are_values(redis_url: str) -> None:
    link = await Link.connect(redis_url)
    replies = await link.call([pack("SET", "k", b"v"), pack("NONSENSE"), pack("GET", "k"), pack("GET", "none")])
    assert (replies[0], replies[2], replies[3]) == (b"OK", b"v", None)
    assert isinstance(replies[1], RedisReplyError)
    link.close()
    await asyncio.wait_for(link.closed, 30)
    with pytest.raises(ConnectionError):
        await link.call([pack("PING")])


async def test_replies_keep_their_place_among_pushes(redis_url: str) -> None:
    """What every join relies on: a message published before a read is pushed before the read's reply."""
    order: list[Any] = []

    def pushed(pushes: list[Push]) -> None:
        order.extend(int(push[2]) for push in pushes if push[0] == b"message")

    link = await Link.connect(redis_url, pushed)
    link.write(pack("SUBSCRIBE", "c"))
    stop = asyncio.Event()

    async def publish() -> None:
        async with Redis.from_url(redis_url) as redis:
            number = 0
            while not stop.is_set():
                async with redis.pipeline(transaction=False) as pipe:
                    for _ in range(5):
                        number += 1
                        pipe.set("c", number)
                        pipe.publish("c", number)
                    await pipe.execute()

    publisher = asyncio.create_task(publish())
    for _ in range(200):
        link.send(pack("GET", "c"), 1, lambda replies: order.append(("read", int(replies[0] or 0))))  # type: ignore[index]
        await asyncio.sleep(0.0005)
    stop.set()
    await publisher
    await link.call([pack("PING")])
    last = 0
    for entry in order:
        if isinstance(entry, int):
            assert entry == last + 1
            last = entry
        else:
            assert entry[1] >= last, "the read holds everything that was pushed before it"
    link.close()


async def test_waiting_replies_fail_when_the_link_breaks(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path) as server:
        link = await Link.connect(server.url)
        waiting = link.call([pack("BLPOP", "nothing", 0)])
        await asyncio.sleep(0.1)
        await server.kill()
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(waiting, 30)
        assert link.closed.done()


async def test_unreachable_and_wrong_password(tmp_path: Path) -> None:
    with pytest.raises(RedisUnavailable):
        await Link.connect(f"redis://127.0.0.1:{free_port()}")
    async with EmbeddedRedis(tmp_path) as server:
        async with Redis.from_url(server.url) as redis:
            await redis.config_set("requirepass", "right")
        with pytest.raises(RedisUnavailable) as error:
            await Link.connect(server.url.replace("//", "//:hunter2@"))
        assert "hunter2" not in str(error.value)
        link = await Link.connect(server.url.replace("//", "//:right@"))
        assert await link.call([pack("PING")]) == [b"PONG"]
        link.close()
        await link.closed


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """A server that answers whatever it is asked with the same bytes; gives its URL."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(answer)
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await asyncio.wait_for(ended.wait(), 30)
    server.close()
    await server.wait_closed()


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async with answering(b"") as url:
        with pytest.raises(RedisUnavailable, match="no answer"):
            await Link.connect(url, timeout_s=0.2)


async def test_bytes_that_are_no_resp_end_the_link() -> None:
    async with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        with pytest.raises(RedisUnavailable):
            await Link.connect(url, timeout_s=30)
