"""What the benchmarks share: servers as processes on one core, a Redis of their own, CPU time and memory, medians."""

import asyncio
import os
import shutil
import statistics
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from hub.embedded import EmbeddedRedis

__all__ = ["LOAD_CORE", "ROOT", "SERVER_CORE", "Usage", "command_on", "median", "running", "stay_on", "temporary_redis"]

ROOT = Path(__file__).resolve().parent.parent
_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
#: The server under test has a core for itself; Redis, publisher and clients share another, where there is one.
SERVER_CORE, LOAD_CORE = _CORES[0], _CORES[-1]


def command_on(core: int, command: Sequence[str]) -> list[str]:
    """Return `command`, bound to a core where the system can do that."""
    taskset = shutil.which("taskset")
    return [taskset, "-c", str(core), *command] if taskset else list(command)


def stay_on(core: int) -> None:
    """Bind this process, and what it starts from now on, to a core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


class Usage:
    """CPU seconds and resident memory of a process and its children."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)

    def _tree(self) -> Iterable[psutil.Process]:
        return [self._root, *self._root.children(recursive=True)]

    def cpu_s(self) -> float:
        total = 0.0
        for process in self._tree():
            with suppress(psutil.NoSuchProcess):
                # In nanoseconds where Linux tells; the clock ticks of psutil are 10 ms.
                try:
                    total += int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]) / 1e9
                except (OSError, ValueError):
                    times = process.cpu_times()
                    total += times.user + times.system
        return total

    def rss(self) -> int:
        """Bytes."""
        return sum(process.memory_info().rss for process in self._tree())


@asynccontextmanager
async def running(
    command: Sequence[str], port: int | None = None, core: int | None = None, env: dict[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a server until the end of the block; it listens on `port` when the block begins."""
    words = command_on(core, command) if core is not None else list(command)
    environ = {**os.environ, "TICKWIRE_CONFIG": os.devnull, "TICKWIRE_LOG__LEVEL": "warning", **(env or {})}
    process = await asyncio.create_subprocess_exec(*words, cwd=ROOT, env=environ, stdout=sys.stderr, stderr=sys.stderr)
    try:
        if port is not None:
            async with asyncio.timeout(30):
                await _until_listens(process, port)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 8)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _until_listens(process: asyncio.subprocess.Process, port: int) -> None:
    while True:
        if process.returncode is not None:
            raise SystemExit(f"a server ended with exit code {process.returncode}; its message is above")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


@asynccontextmanager
async def temporary_redis(folder: Path, core: int | None = None) -> AsyncIterator[EmbeddedRedis]:
    """Run a Redis in `folder`, on one core if asked for."""
    async with EmbeddedRedis(folder) as server:
        if core is not None and hasattr(os, "sched_setaffinity") and server.pid is not None:
            for thread in psutil.Process(server.pid).threads():
                os.sched_setaffinity(thread.id, {core})
        yield server


def median(figures: Iterable[float]) -> float:
    return statistics.median(figures)
