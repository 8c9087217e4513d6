"""The fan-out: Redis pub/sub to WebSocket clients, beside other servers of the same run.

    python -m scripts.bench_fanout [--reps 3] [--seconds 2] [--scenarios all] [--bench DIR] [--python-load]

Prints, per scenario and server, delivered messages per server CPU-second (and that as a multiple of the references),
p50 and p99 from publisher to client, and memory per connection: medians over the repetitions, and all single figures.
Servers take turns within a repetition; each has a core of its own, all else shares another. Only ratios of one run
count: the same binary varies by 15 to 20 % from run to run, and below 0.1 a difference means nothing.

The references are `websockets`' `broadcast()` (scripts/broadcast_server.py), a server of this kind made of a library
from the registry, and, where the folder `bench` with the C sources is found (beside the repository under `shared`, or
by --bench) and gcc is there, the floor: the least a C server can do, once with a send per message and once batched.
The C load generator is used then too; else the one in scripts/fanout_load.py, which is slower than what it measures, so
that the closed loop shows the cost of a message, not the most that can be had.
"""

import argparse
import asyncio
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import uvloop
from msgspec import Struct

from hub.embedded import EmbeddedRedis, free_port
from scripts import fanout_load
from scripts.fanout_load import Load, Result
from scripts.harness import LOAD_CORE, ROOT, SERVER_CORE, command_on, median, running, stay_on, temporary_redis

BESIDE = ROOT.parent / "shared" / "bench"

SCENARIOS = {
    "one": ("1 symbol, 1,000 clients, closed loop, 1 message in flight", Load(clients=1000, window=1)),
    "many": (
        "100 symbols, 1,000 clients on 10 each, closed loop, 20 messages in flight",
        Load(clients=1000, symbols=100, per_client=10, window=20),
    ),
    "idle": ("1 symbol, 5,000 clients, 10 messages/s: memory", Load(clients=5000, rate=10)),
    "calm": ("1 symbol, 1 client, 1,000 messages/s: latency without load", Load(clients=1, rate=1000)),
}


class Server(Struct, frozen=True):
    name: str
    command: list[str]
    port: int


def servers(redis_port: int, tools: Path | None) -> list[Server]:
    """Return everything that can run here; `tools` is where the C programs are."""
    python, ports = sys.executable, [free_port() for _ in range(4)]
    found = [
        Server(
            "tickwire gateway",
            [python, "-m", "gateway", "--port", str(ports[0]), "--redis", f"redis://127.0.0.1:{redis_port}/0"],
            ports[0],
        ),
        Server(
            "websockets broadcast()",
            [python, "-m", "scripts.broadcast_server", "--port", str(ports[1]), "--redis-port", str(redis_port)],
            ports[1],
        ),
    ]
    if tools is not None:
        for mode, port in zip(("each", "batch"), ports[2:], strict=True):
            found.append(
                Server(f"C floor, {mode}", [str(tools / "floor"), str(port), str(redis_port), mode, "md:"], port)
            )
    return found


def built(sources: Path, folder: Path) -> Path | None:
    """Compile the C programs into `folder`; None where sources or compiler are missing, which is said."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not (sources / "floor.c").is_file():
        print("C floor left out: it needs gcc and the folder with floor.c (--bench)")
        return None
    for name in ("floor", "loadgen"):
        done = subprocess.run(
            [compiler, "-O2", "-o", str(folder / name), str(sources / f"{name}.c")], capture_output=True, text=True
        )
        if done.returncode:
            print(f"C floor left out: {name}.c does not compile here: {done.stderr.strip()[:300]}")
            return None
    return folder


async def by_loadgen(tools: Path, load: Load, redis: EmbeddedRedis, port: int, pid: int) -> Result:
    """Measure with the C load generator."""
    pace = ["--window", str(load.window)] if load.window else ["--rate", str(load.rate), "--sample", "1"]
    command = [
        str(tools / "loadgen"), "--port", str(port), "--redis-port", str(redis.port), "--server-pid", str(pid),
        "--conns", str(load.clients), "--symbols", str(load.symbols), "--per-conn", str(load.per_client),
        "--warmup", str(load.warmup_s), "--duration", str(load.seconds), "--drain", "0.5", *pace,
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(*command_on(LOAD_CORE, command), stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    if process.returncode:
        raise SystemExit(f"the load generator ended with exit code {process.returncode}")
    return msgspec.convert(json.loads(out), Result)


async def once(server: Server, load: Load, redis: EmbeddedRedis, tools: Path | None) -> Result:
    async with running(server.command, server.port, SERVER_CORE) as process:
        await asyncio.sleep(0.3)
        if tools is not None:
            return await by_loadgen(tools, load, redis, server.port, process.pid)
        return await fanout_load.measure(load, redis.url, server.port, process.pid)


def table(title: str, clients: int, results: dict[str, list[Result]]) -> str:
    """Return the figures of one scenario; ratios are medians of the ratios within one repetition."""
    names = list(results)
    references = names[1:]
    lines = [f"\n{title}"]
    head = f"{'server':24}{'k per CPU-s':>12}{'p50 us':>10}{'p99 us':>10}{'KB/conn':>9}{'CPU':>6}"
    lines.append(head + "".join(f"{'x ' + name:>{len(name) + 4}}" for name in references) + "  all runs, k per CPU-s")
    for name, runs in results.items():
        figures = [run.delivered_per_cpu_s for run in runs]
        line = f"{name:24}{median(figures) / 1000:12,.0f}{median(r.p50_us for r in runs):10,.0f}"
        memory = f"{median(r.rss_per_conn_kb for r in runs):9.1f}" if clients >= 1000 else f"{'-':>9}"
        line += f"{median(r.p99_us for r in runs):10,.0f}{memory}{median(r.server_cpu for r in runs):6.2f}"
        for reference in references:
            bases = [run.delivered_per_cpu_s for run in results[reference]]
            line += f"{median(a / b for a, b in zip(figures, bases, strict=True)):{len(reference) + 4}.2f}"
        lines.append(line + "  " + " ".join(f"{figure / 1000:.0f}" for figure in figures))
    return "\n".join(lines)


async def bench(options: argparse.Namespace) -> None:
    stay_on(LOAD_CORE)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="tickwire-bench-") as folder:
        tools = None if options.python_load else built(options.bench, Path(folder))
        async with temporary_redis(Path(folder) / "redis", LOAD_CORE) as redis:
            field = servers(redis.port, tools)
            for name in options.scenarios:
                title, load = SCENARIOS[name]
                load = msgspec.structs.replace(load, seconds=options.seconds)
                results: dict[str, list[Result]] = {server.name: [] for server in field}
                for rep in range(options.reps):
                    for server in [*field[rep % len(field) :], *field[: rep % len(field)]]:
                        results[server.name].append(await once(server, load, redis, tools))
                print(table(title, load.clients, results), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="measured seconds of each run")
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--bench", type=Path, default=BESIDE, help="folder with floor.c and loadgen.c")
    parser.add_argument("--python-load", action="store_true", help="do without the C programs")
    uvloop.run(bench(parser.parse_args()))


if __name__ == "__main__":
    main()
