"""hub/redisio.py: clients that fail in time and say why, without the password."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from hub.embedded import EmbeddedRedis
from hub.errors import RedisUnavailable
from hub.redisio import check, command_client, script
from tests.ports import free_port

SCRIPTS = sorted(file.stem for file in (Path(__file__).resolve().parents[2] / "hub" / "lua").glob("*.lua"))


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """A server that accepts and never answers."""
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    try:
        yield f"redis://:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()
        for writer in held:
            writer.close()
        await server.wait_closed()


async def test_a_server_that_can_be_used_says_what_it_is(redis_url: str) -> None:
    info = await check(redis_url)
    assert info["redis_version"]
    assert info["run_id"]


async def test_no_server_is_said_with_the_address() -> None:
    port = free_port()
    with pytest.raises(RedisUnavailable, match=rf"Redis at redis://127\.0\.0\.1:{port}.* cannot be used"):
        await check(f"redis://127.0.0.1:{port}/0")


@pytest.mark.parametrize("url", ["http://127.0.0.1", "redis://127.0.0.1:port/0", "nonsense", ""])
async def test_an_address_that_is_none_is_said(url: str) -> None:
    with pytest.raises(RedisUnavailable, match="cannot be used"):
        await check(url)


@pytest.mark.parametrize("password", ["", "wrong-secret"])
async def test_a_wrong_password_is_said_and_never_shown(tmp_path: Path, password: str) -> None:
    async with EmbeddedRedis(tmp_path) as server:
        async with command_client(server.url) as client:
            await client.config_set("requirepass", "right-secret")
        address = server.url.removeprefix("redis://")
        with pytest.raises(RedisUnavailable, match=r"(?i)auth") as caught:
            await check(f"redis://:{password}@{address}" if password else server.url)
        assert "secret" not in str(caught.value)
        await check(f"redis://:right-secret@{address}")


async def test_an_answer_that_never_comes_is_a_failure_in_time() -> None:
    async with silent() as url:
        client = command_client(url, timeout_s=0.3)
        with pytest.raises(RedisError):
            async with asyncio.timeout(30):
                await client.get("x")
        await client.aclose()


async def test_a_broken_connection_is_tried_once_more(redis_url: str) -> None:
    async with command_client(redis_url) as client, command_client(redis_url) as other:
        await client.set("x", 1)
        for row in await other.client_list():
            if row["name"] == "tickwire" and row["id"] != str(await other.client_id()):
                await other.client_kill(row["addr"])
        assert await client.get("x") == b"1"


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_is_found_and_says_what_it_does(name: str) -> None:
    assert script(name).startswith("-- ")
    assert "KEYS" in script(name)
