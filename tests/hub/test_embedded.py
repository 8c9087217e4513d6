"""hub/embedded.py and hub/redis_binary.py on real servers: found, started, killed, started again."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from hub.embedded import EmbeddedRedis, configured_port
from hub.errors import ConfigError
from hub.redis_binary import find_server
from tests.pids import alive
from tests.ports import free_port


async def command(url: str, *args: str | float) -> Any:
    async with Redis.from_url(url) as client:
        return await cast(Any, client).execute_command(*args)  # redis-py leaves it untyped


async def wait_for(condition: Any, timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture
def path_server(tmp_path: Path) -> Path:
    """A folder with a `redis-server` as a system package would put it: no wheel, no module beside it."""
    server = find_server(tmp_path / "libraries")
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "redis-server"
    library_path = server.env.get("LD_LIBRARY_PATH", "")
    script.write_text(f"#!/bin/sh\nLD_LIBRARY_PATH='{library_path}' exec '{server.binary}' \"$@\"\n")
    script.chmod(0o755)
    return folder


async def test_time_series_and_data_over_restart_and_kill(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "data")
    async with server:
        assert await command(server.url, "TS.ADD", "series", 1000, 1.5) == 1000
        await command(server.url, "SET", "key", "value")
        assert await server.stop() == 0
        await server.start()
        assert await command(server.url, "TS.RANGE", "series", "-", "+") == [[1000, 1.5]]
        await command(server.url, "TS.ADD", "series", 2000, 2.5)
        run_id = (await command(server.url, "INFO", "server"))["run_id"]
        assert await server.kill() == -signal.SIGKILL
        await server.start()
        assert await command(server.url, "TS.RANGE", "series", "-", "+") == [[1000, 1.5], [2000, 2.5]]
        assert await command(server.url, "GET", "key") == b"value"
        assert (await command(server.url, "INFO", "server"))["run_id"] != run_id


async def test_wiped_data_is_gone_and_the_address_stays(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path / "data") as server:
        url = server.url
        await command(url, "SET", "key", "value")
        await server.kill()
        server.wipe()
        await server.start()
        assert server.url == url
        assert await command(url, "GET", "key") is None


async def test_settings_of_the_server(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path / "with space", maxmemory="64mb") as server:
        info = await command(server.url, "CONFIG", "GET", "*")
        assert info[b"bind"] == b"127.0.0.1"
        assert info[b"appendonly"] == b"yes"
        assert info[b"appendfsync"] == b"everysec"
        assert info[b"maxmemory"] == str(64 << 20).encode()
        assert info[b"maxmemory-policy"] == b"noeviction"
        assert info[b"save"] == b""
        assert b"pubsub 33554432 8388608 60" in info[b"client-output-buffer-limit"]
        assert configured_port(tmp_path / "with space") == server.port


def test_nothing_starts_twice_on_one_object(tmp_path: Path) -> None:
    async def run() -> None:
        async with EmbeddedRedis(tmp_path) as server:
            with pytest.raises(RuntimeError):
                await server.start()
            with pytest.raises(RuntimeError):
                server.wipe()

    asyncio.run(run())


async def test_a_port_that_is_taken_names_the_setting(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path / "one") as one:
        two = EmbeddedRedis(tmp_path / "two", one.port)
        with pytest.raises(ConfigError, match=f"redis.port = {one.port} cannot be used: another program listens"):
            await two.start()
        assert await command(one.url, "PING")


async def test_a_server_that_refuses_its_settings_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"redis-server ended at start with exit code 1: .*argument must be a memory"):
        await EmbeddedRedis(tmp_path, maxmemory="plenty").start()


def test_the_installed_server_comes_first(tmp_path: Path, path_server: Path) -> None:
    server = find_server(tmp_path, path=str(path_server))
    assert server.origin == "wheel"
    assert server.module is not None
    assert server.cli is not None


async def test_without_the_wheel_a_server_on_path_is_used(
    tmp_path: Path, path_server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(path_server))
    async with EmbeddedRedis(tmp_path / "data", wheel=False) as server:
        await command(server.url, "XADD", "log", "*", "payload", "x")
        assert await command(server.url, "MODULE", "LIST") == []
        await server.kill()
        await server.start()
        assert await command(server.url, "XLEN", "log") == 1


def test_a_valkey_server_on_path_will_do(tmp_path: Path, path_server: Path) -> None:
    (path_server / "redis-server").rename(path_server / "valkey-server")
    server = find_server(tmp_path, wheel=False, path=str(path_server))
    assert (server.origin, server.module) == ("path", None)
    assert server.binary.endswith("valkey-server")


@pytest.mark.parametrize("place", ["lib/redistimeseries.so", "lib/redis/modules/redistimeseries.so"])
def test_the_module_of_a_server_on_path_is_found(tmp_path: Path, path_server: Path, place: str) -> None:
    module = tmp_path / place
    module.parent.mkdir(parents=True)
    module.touch()
    assert find_server(tmp_path, wheel=False, path=str(path_server)).module == str(module)


def test_no_server_at_all_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no Redis server was found. Install one \(Debian: apt-get install redis"):
        find_server(tmp_path, wheel=False, path=str(tmp_path))


def test_libraries_are_linked_anew_where_the_installation_moved(tmp_path: Path) -> None:
    stale = tmp_path / "lib" / "libssl.so.1.1"
    stale.parent.mkdir()
    stale.symlink_to(tmp_path / "gone")
    find_server(tmp_path)
    assert stale.exists()


def part(data_dir: Path, port: int, **env: str) -> "subprocess.Popen[str]":
    """`python -m hub.embedded`, as `tickwire up` starts it."""
    settings = {"TICKWIRE_REDIS__DATA_DIR": str(data_dir), "TICKWIRE_REDIS__PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, "-m", "hub.embedded"],
        env={**os.environ, **settings, **env},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


async def answers(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await command(f"redis://127.0.0.1:{port}", "PING")
                return
            except RedisConnectionError:
                await asyncio.sleep(0.05)


def server_pid(data_dir: Path) -> int:
    return int((data_dir / "redis.pid").read_text())


async def test_the_part_ends_cleanly_on_sigterm(tmp_path: Path) -> None:
    port = free_port()
    process = part(tmp_path, port)
    await answers(port)
    pid = server_pid(tmp_path)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert not alive(pid)


async def test_the_server_dies_with_its_part_and_the_next_start_has_the_data(tmp_path: Path) -> None:
    port = free_port()
    first = part(tmp_path, port)
    await answers(port)
    await command(f"redis://127.0.0.1:{port}", "SET", "key", "value")
    pid = server_pid(tmp_path)
    first.kill()
    first.communicate(timeout=60)
    second = part(tmp_path, port)  # at once: it waits for the dying server
    try:
        await wait_for(lambda: not alive(pid))
        await answers(port)
        assert await command(f"redis://127.0.0.1:{port}", "GET", "key") == b"value"
    finally:
        second.terminate()
        second.communicate(timeout=60)
    assert second.returncode == 0


async def test_a_second_part_on_the_same_folder_refuses(tmp_path: Path) -> None:
    port = free_port()
    first = part(tmp_path, port)
    try:
        await answers(port)
        second = part(tmp_path, free_port())
        _, errors = second.communicate(timeout=60)
        assert second.returncode == 2
        assert f"is in use (started by process {first.pid}, redis-server is process {server_pid(tmp_path)})" in errors
        assert await command(f"redis://127.0.0.1:{port}", "PING")
    finally:
        first.terminate()
        first.communicate(timeout=60)


async def test_the_part_ends_with_its_server(tmp_path: Path) -> None:
    port = free_port()
    process = part(tmp_path, port)
    assert process.stderr is not None
    assert any(f"redis answers port={port}" in line for line in iter(process.stderr.readline, ""))
    os.kill(server_pid(tmp_path), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGKILL
    assert "redis-server ended by itself" in errors


async def test_the_part_without_any_server_exits_as_documented(tmp_path: Path) -> None:
    process = part(tmp_path, free_port(), TICKWIRE_REDIS__SERVER="path", PATH=str(tmp_path))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "no Redis server was found" in errors
