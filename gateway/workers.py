"""Several gateway processes on one port: the parent starts them, starts again what dies, and stops them together.

Each worker listens on a socket of its own (SO_REUSEPORT), has its own event loop and its own subscriptions in Redis,
and ends with the parent, by SIGKILL too (hub/processes.py). The kernel spreads new connections over the workers.
"""

import asyncio
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.siblings import PARENT, offer
from hub.processes import SUPERVISED

__all__ = ["Workers", "run_workers"]

logger = logging.getLogger(__name__)

#: Exit codes by which a worker says that starting it again cannot help (hub/processes.py).
FINAL_CODES = (2, 3)
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.1, 5.0
#: A worker that ran this long is started again without delay.
STEADY_S = 10.0
#: What a worker may need to end, besides the time in which it parts from its clients.
STOP_S = 6.0


class _CannotStart(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


class Workers(Collector):
    """`count` processes of the command `argv`, each with its number and the folder they share."""

    def __init__(self, argv: Sequence[str], count: int, folder: Path, stop_s: float) -> None:
        self.argv, self.count, self.folder, self.stop_s = list(argv), count, folder, stop_s
        self.restarts = [0] * count
        self._processes: dict[int, asyncio.subprocess.Process] = {}

    async def run(self) -> int:
        """Keep all workers running until cancelled; returns the exit code of one that cannot start."""
        try:
            async with offer(self.folder, PARENT, self), asyncio.TaskGroup() as group:
                for number in range(self.count):
                    group.create_task(self._keep(number))
        except* _CannotStart as errors:
            first = errors.exceptions[0]
            code = first.code if isinstance(first, _CannotStart) else 1
        finally:
            await asyncio.shield(asyncio.ensure_future(self._stop()))
        return code

    async def _keep(self, number: int) -> None:
        delay_s = BACKOFF_FIRST_S
        while True:
            started = time.monotonic()
            code = await self._once(number)
            if not self.restarts[number] and code in FINAL_CODES:
                raise _CannotStart(code)
            if time.monotonic() - started > STEADY_S:
                delay_s = BACKOFF_FIRST_S
            logger.error("worker ended worker=%d exit_code=%d restart_s=%g", number, code, delay_s)
            self.restarts[number] += 1
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, BACKOFF_MAX_S)

    async def _once(self, number: int) -> int:
        process = await asyncio.create_subprocess_exec(
            *self.argv, "--worker", str(number), "--siblings", str(self.folder),
            stdin=asyncio.subprocess.DEVNULL, env={**os.environ, SUPERVISED: str(os.getpid())},
        )  # fmt: skip
        self._processes[number] = process
        logger.info("worker started worker=%d pid=%d", number, process.pid)
        return await process.wait()

    async def _stop(self) -> None:
        running = [process for process in self._processes.values() if process.returncode is None]
        for process in running:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        ending = [asyncio.ensure_future(process.wait()) for process in running]
        if ending:
            await asyncio.wait(ending, timeout=self.stop_s)
        for process in running:
            if process.returncode is None:
                logger.error("worker did not stop in time and is killed pid=%d", process.pid)
                process.kill()
        await asyncio.gather(*ending)

    def collect(self) -> Iterator[Metric]:
        counter = CounterMetricFamily(
            "tickwire_gateway_worker_restarts", "Times a worker was started again", labels=["worker"]
        )
        for number, count in enumerate(self.restarts):
            counter.add_metric([str(number)], count)
        yield counter


async def run_workers(arguments: Sequence[str], count: int, drain_s: float) -> int:
    """Run `python -m gateway ARGUMENTS` `count` times until cancelled."""
    with tempfile.TemporaryDirectory(prefix="tickwire-gateway-") as folder:
        argv = [sys.executable, "-m", "gateway", *arguments]
        return await Workers(argv, count, Path(folder), drain_s + STOP_S).run()
