"""`python -m gateway` as a process: what it refuses, how it says so, how it ends."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from gateway.server import refuse_remote
from hub.config import GatewaySettings
from hub.embedded import EmbeddedRedis
from hub.errors import ConfigError
from tests.gateway.kit import Feed, quote, subscribe, until
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]


async def run(*arguments: str, **env: str) -> tuple[int, str]:
    """Run to the end; returns exit code and everything it wrote."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments, cwd=ROOT, env={**os.environ, "TICKWIRE_CONFIG": os.devnull, **env},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode()


@asynccontextmanager
async def running(port: int, redis_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "--port", str(port), "--redis", redis_url, cwd=ROOT,
        env={**os.environ, "TICKWIRE_CONFIG": os.devnull}, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_other_addresses_are_refused_until_asked_for(redis_url: str) -> None:
    code, out = await run("--host", "0.0.0.0", "--port", str(free_port()), "--redis", redis_url)
    assert code == 2
    assert "allow_remote_without_auth" in out
    for host in ("0.0.0.0", "", "::", "192.168.1.5", "example.org"):
        with pytest.raises(ConfigError):
            refuse_remote(GatewaySettings(host=host))
        refuse_remote(GatewaySettings(host=host, allow_remote_without_auth=True))
    for host in ("127.0.0.1", "::1", "localhost", "127.1.2.3"):
        refuse_remote(GatewaySettings(host=host))


async def test_a_taken_port_is_said(redis_url: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, out = await run("--port", str(port), "--redis", redis_url)
    assert code == 2
    assert f"127.0.0.1:{port}" in out


async def test_redis_that_cannot_be_used_is_said_without_the_password() -> None:
    code, out = await run("--port", str(free_port()), "--redis", f"redis://:hunter2@127.0.0.1:{free_port()}/0")
    assert code == 3
    assert "redis://:***@127.0.0.1" in out
    assert "hunter2" not in out


async def test_a_wrong_password_is_said(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path) as server, Feed(server.url) as feed:
        await feed.redis.config_set("requirepass", "right")
        code, out = await run("--port", str(free_port()), "--redis", server.url.replace("//", "//:hunter2@"))
        assert code == 3
        assert "hunter2" not in out
        assert "auth" in out.lower()


@pytest.mark.parametrize("arguments", [["--port", "0"], ["--port", "x"], ["--nonsense"]])
async def test_bad_arguments(arguments: list[str]) -> None:
    code, out = await run(*arguments)
    assert code == 2
    assert "usage" in out


async def test_sigterm_parts_from_clients_and_ends_in_time(redis_url: str, feed: Feed) -> None:
    port = free_port()
    await feed.publish(quote())
    async with running(port, redis_url) as process:
        async with connect(f"ws://127.0.0.1:{port}/v1/ws") as client, connect(f"ws://127.0.0.1:{port}/v1/ws") as mute:
            await subscribe(client, "quote:binance:BTC-USDT")
            await until(client, "quote")
            mute.transport.pause_reading()
            process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await asyncio.wait_for(client.recv(), 60)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
            assert await asyncio.wait_for(process.wait(), 60) == 0
            mute.transport.abort()


async def test_a_killed_gateway_is_replaced_on_the_same_port(redis_url: str, feed: Feed) -> None:
    port = free_port()
    await feed.publish(quote(1.0))
    for bid in (1.0, 2.0):
        async with running(port, redis_url) as process, connect(f"ws://127.0.0.1:{port}/v1/ws/BTC-USDT") as client:
            assert (await until(client, "quote"))["bid"] == bid
            await feed.publish(quote(bid + 1))
            assert (await until(client, "quote"))["bid"] == bid + 1
            process.kill()
            await process.wait()
