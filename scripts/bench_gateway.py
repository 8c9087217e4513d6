"""What a gateway's worker does beside the fan-out: handshakes, REST among 10,000 clients, garbage collection.

    python -m scripts.bench_gateway [--reps 5] [--clients 10000] [--handshakes 2000]

Handshakes completed per CPU-second of the server stand beside those of uvicorn with an ASGI application that accepts
and does nothing else, in the same run, in turns. REST is asked (`/v1/quotes/BTC-USDT`, one connection, one request
after the other, a few ms apart) with the clients connected, first while nothing is published, then while each gets 10
messages per second. A full garbage collection is made, and timed, in the gateway while those clients are connected.
"""

import argparse
import asyncio
import gc
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from redis.asyncio import Redis

from hub.embedded import free_port
from hub.model import Quote, encode
from scripts.harness import LOAD_CORE, SERVER_CORE, Usage, command_on, median, running, stay_on, temporary_redis

CHANNEL = "quote:binance:BTC-USDT"
PER_S = 10
ASK_EVERY_S = 0.004
ASK_FOR_S = 6.0


async def accept_only(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The reference, an ASGI application: accept a WebSocket and wait until the client goes."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass


def gateway_with_clock(timings: str) -> None:
    """Run `python -m gateway` with the other arguments; at SIGUSR1 it notes in a file how long a collection takes."""

    def collect(*_: object) -> None:
        began = time.perf_counter()
        gc.collect()
        with open(timings, "a") as file:
            file.write(f"{(time.perf_counter() - began) * 1e3}\n")

    signal.signal(signal.SIGUSR1, collect)
    runpy.run_module("gateway", run_name="__main__", alter_sys=True)


@asynccontextmanager
async def crowd(port: int, path: str, clients: int, *more: str) -> AsyncIterator[None]:
    """Keep `clients` connected during the block."""
    command = [sys.executable, "-m", "scripts.crowd", "--port", str(port), "--path", path, "--clients", str(clients)]
    process = await asyncio.create_subprocess_exec(
        *command_on(LOAD_CORE, [*command, *more]), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        if await asyncio.wait_for(process.stdout.readline(), 120) != b"ready\n":
            raise SystemExit("the clients did not all connect; the reason is above")
        yield
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 20)
        except TimeoutError:
            process.kill()
            await process.wait()


async def handshakes_per_cpu_s(pid: int, port: int, path: str, count: int) -> float:
    usage = Usage(pid)
    async with crowd(port, path, 200, "--leave"):
        await asyncio.sleep(0.3)
    before = usage.cpu_s()
    async with crowd(port, path, count, "--leave"):
        await asyncio.sleep(0.3)
    return count / (usage.cpu_s() - before)


async def asked(port: int) -> list[float]:
    """Ask for a quote again and again; returns the times in ms, ascending."""
    times: list[float] = []
    async with aiohttp.ClientSession() as http:
        until = time.monotonic() + ASK_FOR_S
        while time.monotonic() < until:
            began = time.perf_counter()
            async with http.get(f"http://127.0.0.1:{port}/v1/quotes/BTC-USDT") as answer:
                await answer.read()
                if answer.status != 200:
                    raise SystemExit(f"REST answered {answer.status}")
            times.append((time.perf_counter() - began) * 1e3)
            await asyncio.sleep(ASK_EVERY_S)
    return sorted(times)


async def publish(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        await redis.sadd("md:channels", CHANNEL)
        number = 0
        while True:
            number += 1
            now = time.time_ns()
            quote = Quote("binance", "BTC-USDT", f"1-{number}", now, now, now, 100.0, 1.0, 100.5, 2.0)
            payload = encode(quote)
            await redis.set(f"md:{CHANNEL}", payload)
            await redis.publish(f"md:{CHANNEL}", payload)
            await asyncio.sleep(1 / PER_S)


def percentile(times: list[float], share: float) -> float:
    return times[min(len(times) - 1, int(len(times) * share))]


async def once(redis_url: str, clients: int, handshakes: int, timings: Path, *, swap: bool) -> dict[str, float]:
    """Measure everything once; `swap` has the reference shake hands first."""
    port, other = free_port(), free_port()
    code = "import sys; from scripts import bench_gateway; bench_gateway.gateway_with_clock(sys.argv.pop(1))"
    words = [str(timings), "--port", str(port), "--redis", redis_url]
    reference = [
        sys.executable, "-m", "uvicorn", "scripts.bench_gateway:accept_only", "--port", str(other),
        "--log-level", "warning", "--no-access-log",
    ]  # fmt: skip
    found: dict[str, float] = {}
    async with (
        running([sys.executable, "-c", code, *words], port, SERVER_CORE) as gateway,
        running(reference, other, SERVER_CORE) as bare,
    ):
        pairs = [("gateway", gateway.pid, port, "/v1/ws"), ("uvicorn", bare.pid, other, "/")]
        for name, pid, where, path in reversed(pairs) if swap else pairs:
            found[name] = await handshakes_per_cpu_s(pid, where, path, handshakes)
        talker = asyncio.create_task(publish(redis_url))
        await asyncio.sleep(0.5)
        async with crowd(port, "/v1/ws", clients, "--channel", CHANNEL):
            talker.cancel()
            quiet = await asked(port)
            talker = asyncio.create_task(publish(redis_url))
            busy = await asked(port)
            for _ in range(3):
                gateway.send_signal(signal.SIGUSR1)
                await asyncio.sleep(0.5)
            talker.cancel()
    found |= {"REST p50, quiet": percentile(quiet, 0.5), "REST p99, quiet": percentile(quiet, 0.99)}
    found |= {"REST p50": percentile(busy, 0.5), "REST p99": percentile(busy, 0.99)}
    found["collection"] = taken(timings)
    return found


def taken(timings: Path) -> float:
    """Return the median of the times noted, and forget them."""
    noted = median(map(float, timings.read_text().split()))
    timings.unlink()
    return noted


def line(name: str, figures: list[float], digits: int) -> str:
    """Return a row: the median and all figures."""
    return f"  {name:30}{median(figures):10,.{digits}f}  " + " ".join(f"{figure:,.{digits}f}" for figure in figures)


async def bench(options: argparse.Namespace) -> None:
    stay_on(LOAD_CORE)
    runs: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="tickwire-bench-") as folder:
        async with temporary_redis(Path(folder) / "redis", LOAD_CORE) as redis:
            for number in range(options.reps):
                timings = Path(folder) / "timings"
                runs.append(await once(redis.url, options.clients, options.handshakes, timings, swap=bool(number % 2)))
    ratios = [run["gateway"] / run["uvicorn"] for run in runs]
    print("handshakes per CPU-second           median  all runs")
    for name in ("gateway", "uvicorn"):
        print(
            f"  {name:30}{median(run[name] for run in runs):10,.0f}  " + " ".join(f"{run[name]:,.0f}" for run in runs)
        )
    print(f"  {'gateway / uvicorn':30}{median(ratios):10.2f}  " + " ".join(f"{ratio:.2f}" for ratio in ratios))
    print(f"ms, {options.clients:,} clients, bursts {PER_S}/s")
    for name in ("REST p50, quiet", "REST p99, quiet", "REST p50", "REST p99", "collection"):
        print(f"  {name:30}{median(run[name] for run in runs):10.2f}  " + " ".join(f"{run[name]:.1f}" for run in runs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--handshakes", type=int, default=2000)
    uvloop.run(bench(parser.parse_args()))


if __name__ == "__main__":
    main()
