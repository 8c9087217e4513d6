"""Several processes on one port: who serves, what /metrics says, deaths, the end, and a successor on the same port."""

import asyncio
import io
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from hub.cli.console import Console
from hub.cli.parts import build_parts
from hub.cli.supervisor import Supervisor
from hub.config import GatewaySettings, Settings
from tests.gateway.kit import Feed, Gateway, gateway_on, quote, subscribe, trade, until
from tests.pids import alive
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
QUOTE = "quote:binance:BTC-USDT"
TRADE = "trade:binance:BTC-USDT"


async def get(port: int, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await asyncio.wait_for(reader.read(), 60)).decode().partition("\r\n\r\n")
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return int(head.split()[1]), body


async def numbers(port: int, name: str) -> dict[str, float]:
    """Return a metric of each worker."""
    _, text = await get(port, "/metrics")
    found = re.findall(rf'^tickwire_gateway_{name}{{worker="(\d+)"}} (\S+)$', text, re.MULTILINE)
    return {worker: float(value) for worker, value in found}


async def all_up(port: int, count: int) -> None:
    async with asyncio.timeout(60):
        while True:
            with suppress(OSError, IndexError):
                if list((await numbers(port, "worker_up")).values()) == [1.0] * count:
                    return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def running(
    port: int, redis_url: str, *arguments: str, workers: int = 2, **env: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "--port", str(port), "--redis", redis_url, "--workers", str(workers),
        *arguments, cwd=ROOT, env={**os.environ, "TICKWIRE_CONFIG": os.devnull, **env},
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), 60)


def children(process: asyncio.subprocess.Process) -> list[int]:
    return [child.pid for child in psutil.Process(process.pid).children()]


async def clients(stack: AsyncExitStack, port: int, count: int) -> list[ClientConnection]:
    address = f"ws://127.0.0.1:{port}/v1/ws"
    return [await stack.enter_async_context(connect(address, compression=None)) for _ in range(count)]


async def test_all_serve_and_any_tells_the_numbers_of_all(redis_url: str, feed: Feed) -> None:
    port = free_port()
    await feed.publish(trade(1))
    async with running(port, redis_url), AsyncExitStack() as stack:
        await all_up(port, 2)
        sockets = await clients(stack, port, 40)
        for socket in sockets:
            await subscribe(socket, TRADE)
            await until(socket, "trade")
        await feed.publish(trade(2), trade(3))
        for socket in sockets:
            assert [(await until(socket, "trade"))["price"] for _ in range(2)] == [2.0, 3.0]
        for _ in range(6):  # whichever is asked
            found = await numbers(port, "clients")
            assert sum(found.values()) == 40
            assert len(found) == 2
            assert min(found.values()) > 0
        assert await numbers(port, "topics") == {"0": 2.0, "1": 2.0}, "the trades and the venue's status"
        _, text = await get(port, "/metrics")
        families = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
        assert not [name for name, count in Counter(families).items() if count > 1]
        assert 'process_resident_memory_bytes{worker="1"}' in text


async def test_a_killed_worker_is_replaced_and_the_others_do_not_notice(redis_url: str, feed: Feed) -> None:
    port = free_port()
    await feed.publish(quote(1.0))
    async with running(port, redis_url) as parent, AsyncExitStack() as stack:
        await all_up(port, 2)
        sockets = await clients(stack, port, 20)
        for socket in sockets:
            await subscribe(socket, QUOTE)
            await until(socket, "quote")
        before = await numbers(port, "clients")
        victim = children(parent)[0]
        os.kill(victim, signal.SIGKILL)
        lost = 0
        await feed.publish(quote(2.0))
        for socket in sockets:
            try:
                assert (await until(socket, "quote"))["bid"] == 2.0
            except ConnectionClosed:
                lost += 1
        assert lost in before.values()
        await all_up(port, 2)
        restarts = await numbers(port, "worker_restarts_total")
        assert sorted(restarts.values()) == [0.0, 1.0]
        assert victim not in children(parent)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_no_worker_outlives_its_parent(redis_url: str, feed: Feed, number: signal.Signals) -> None:
    port = free_port()
    async with running(port, redis_url) as parent:
        await all_up(port, 2)
        pids = children(parent)
        assert len(pids) == 2
        parent.send_signal(number)
        assert await asyncio.wait_for(parent.wait(), 60) == (0 if number is signal.SIGTERM else -number)
        async with asyncio.timeout(60):
            while any(alive(pid) for pid in pids):
                await asyncio.sleep(0.05)


async def test_workers_that_cannot_start_end_the_parent(redis_url: str) -> None:
    async with running(free_port(), redis_url, "--host", "0.0.0.0") as parent:
        assert await asyncio.wait_for(parent.wait(), 60) == 2
    async with running(free_port(), f"redis://127.0.0.1:{free_port()}") as parent:
        assert await asyncio.wait_for(parent.wait(), 60) == 3


async def test_a_port_in_use_is_not_shared_by_mistake(redis_url: str) -> None:
    port = free_port()
    async with running(port, redis_url, workers=1):
        async with asyncio.timeout(60):
            while True:
                with suppress(OSError):
                    await get(port, "/health/live")
                    break
                await asyncio.sleep(0.05)
        for workers in (1, 2):
            async with running(port, redis_url, workers=workers) as second:
                assert await asyncio.wait_for(second.wait(), 60) == 2


async def test_clients_are_sent_away_one_after_the_other(redis_url: str, feed: Feed) -> None:
    ended: list[float] = []
    hints: list[int] = []

    async def leave(socket: ClientConnection) -> None:
        await socket.wait_closed()
        ended.append(time.monotonic())
        assert socket.close_code == 1012
        assert socket.close_reason is not None
        match = re.search(r"reconnect_ms=(\d+)$", socket.close_reason)
        assert match is not None
        hints.append(int(match[1]))

    async with AsyncExitStack() as stack:
        gateway: Gateway
        async with gateway_on(redis_url, drain_s=5.0) as gateway:
            sockets = await clients(stack, gateway.port, 300)
            leaving = [asyncio.create_task(leave(socket)) for socket in sockets]
        await asyncio.gather(*leaving)
    assert max(ended) - min(ended) > 0.05
    assert len(set(hints)) > 50, "so that they do not come back at once"
    assert min(hints) >= 100


async def test_a_successor_takes_over_while_the_old_one_still_drains(redis_url: str, feed: Feed) -> None:
    """From first to last no connection is refused, and a client resumes without losing an event."""
    port = free_port()
    await feed.publish(trade(1))
    refused: list[OSError] = []
    stop = asyncio.Event()

    async def knock() -> int:
        count = 0
        while not stop.is_set():
            try:
                status, _ = await get(port, "/health/live")
                assert status == 200
                count += 1
            except OSError as error:
                refused.append(error)
            await asyncio.sleep(0.005)
        return count

    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(running(port, redis_url))
        await all_up(port, 2)
        knocking = asyncio.create_task(knock())
        sockets = await clients(stack, port, 100)
        await subscribe(sockets[-1], TRADE)
        last = (await until(sockets[-1], "trade"))["id"]
        await stack.enter_async_context(running(port, redis_url, "--take-over"))
        async with asyncio.timeout(60):
            while len(await listening(port, besides=old.pid)) < 2:
                await asyncio.sleep(0.1)
        old.terminate()
        await feed.publish(trade(2))
        with suppress(ConnectionClosed):
            while True:
                last = (await until(sockets[-1], "trade"))["id"]
        for socket in sockets:
            await socket.wait_closed()
            assert socket.close_code == 1012
        assert await asyncio.wait_for(old.wait(), 60) == 0
        stop.set()
        assert await knocking > 10
        assert refused == []
        await feed.publish(trade(3))
        async with connect(f"ws://127.0.0.1:{port}/v1/ws") as again:
            await subscribe(again, TRADE, after=last)
            found = [(await until(again, "trade"))["price"]]
            while found[-1] != 3.0:
                found.append((await until(again, "trade"))["price"])
            assert found in ([2.0, 3.0], [3.0])


async def listening(port: int, besides: int = 0) -> set[int]:
    """Return the processes that listen on the port and are no children of process `besides`."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            sockets = process.net_connections("tcp") if process.ppid() != besides else []
            if any(s.status == psutil.CONN_LISTEN and s.laddr.port == port for s in sockets):
                found.add(process.pid)
    return found


async def test_under_the_supervisor_of_up(redis_url: str, feed: Feed) -> None:
    port = free_port()
    settings = Settings(gateway=GatewaySettings(port=port, workers=2))
    env = {
        "TICKWIRE_GATEWAY__PORT": str(port),
        "TICKWIRE_GATEWAY__WORKERS": "2",
        "TICKWIRE_CONFIG": os.devnull,
        "PYTHONPATH": str(ROOT),
    }
    parts = [part for part in build_parts(settings, redis_url, env, embedded=False) if part.name == "gateway"]
    supervisor = Supervisor(parts, Console(io.StringIO()))
    run = asyncio.create_task(supervisor.run())
    try:
        await all_up(port, 2)
        async with AsyncExitStack() as stack:
            sockets = await clients(stack, port, 10)
            pids = await listening(port)
            supervisor.stop()
            assert await asyncio.wait_for(run, 60) == 0
            for socket in sockets:
                await socket.wait_closed()
                assert socket.close_code == 1012
            assert not [pid for pid in pids if alive(pid)]
    finally:
        supervisor.stop()
        await run
