"""Run parts as processes: start them stage by stage, restart what crashes, stop them in the opposite order.

Each part has a process group of its own, so that Ctrl-C reaches the supervisor alone and the order of stopping is its
decision. A part ends with the supervisor, by SIGKILL too: the kernel is asked for that where it can (Linux), and every
part watches its parent besides (hub/processes.py).
"""

import asyncio
import os
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from typing import Final

from msgspec import Struct

from hub.cli.console import Console
from hub.processes import SUPERVISED, die_with_parent

__all__ = ["Part", "Supervisor"]

#: Exit codes by which a part says that starting it again cannot help (hub/processes.py).
FINAL_CODES: Final = (2, 3, 4)
#: Within this time of its first start such an exit ends everything.
STARTING_S: Final = 30.0
#: All parts are gone this long after the request to stop; SIGKILL at the latest then.
STOP_BUDGET_S: Final = 4.5
BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MAX_S: Final = 10.0
#: A part that ran this long starts again without delay.
STEADY_S: Final = 30.0
READY_POLL_S: Final = 0.1
READY_HINT_S: Final = 15.0
MAX_LINE: Final = 1 << 20


class Part(Struct, frozen=True, kw_only=True):
    """One process. Lower stages start first and stop last; `ready` is asked until true before the next stage starts."""

    name: str
    argv: list[str]
    stage: int
    env: dict[str, str] = {}
    ready: Callable[[], Awaitable[bool]] | None = None


class _Stopped(Exception):
    pass


class _Failed(Exception):
    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class _Runner:
    """Keeps one part running."""

    def __init__(self, part: Part, console: Console) -> None:
        self.part = part
        self.process: Process | None = None
        self._console = console
        self._reader: asyncio.Task[None] | None = None

    async def keep(self) -> None:
        """Run the part, again and again, until cancelled. Raises _Failed where another start cannot help."""
        first, delay = time.monotonic(), BACKOFF_FIRST_S
        starts = 0
        while True:
            started = time.monotonic()
            code = await self._once()
            starts += 1
            now = time.monotonic()
            if starts == 1 and code in FINAL_CODES and now - first < STARTING_S:
                raise _Failed(f"{self.part.name} cannot start (exit code {code}); its message is above", code)
            if now - started > STEADY_S:
                delay = BACKOFF_FIRST_S
            reason = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._console.complain(f"{self.part.name} ended ({reason}); starting it again in {delay:g} s")
            await asyncio.sleep(delay)
            delay = min(delay * 2, BACKOFF_MAX_S)

    async def _once(self) -> int:
        self.process = await asyncio.create_subprocess_exec(
            *self.part.argv,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env={**os.environ, **self.part.env, SUPERVISED: str(os.getpid())},
            process_group=0,
            preexec_fn=partial(die_with_parent, os.getpid()),
            limit=MAX_LINE,
        )
        # A task of its own: a grandchild that holds the pipe open must not hide the end of the part.
        self._reader = asyncio.get_running_loop().create_task(self._print(self.process))
        code = await self.process.wait()
        await asyncio.wait([self._reader], timeout=0.5)  # its last words come before what is said about them
        return code

    async def _print(self, process: Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than MAX_LINE: the stream has dropped it
                line = b"(a line too long to show)\n"
            if not line:
                return
            self._console.line(self.part.name, line.decode(errors="replace").rstrip())

    async def stop(self, deadline: float) -> None:
        """Ask the part to end, and end its process group by force at `deadline` (time.monotonic())."""
        process = self.process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await process.wait()
        except TimeoutError:
            self._console.complain(f"{self.part.name} did not stop in time and is killed")
            self.kill()
            await process.wait()
        if self._reader is not None:
            await asyncio.wait([self._reader], timeout=0.2)

    def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


class Supervisor:
    """Runs `parts`. `run` returns when stopped (0) or when a part cannot start (its exit code)."""

    def __init__(self, parts: Sequence[Part], console: Console, *, stop_budget_s: float = STOP_BUDGET_S) -> None:
        ordered = sorted(parts, key=lambda part: part.stage)
        self._stages = [[_Runner(p, console) for p in group] for _, group in groupby(ordered, lambda p: p.stage)]
        self._console = console
        self._stop_budget_s = stop_budget_s
        self._stop = asyncio.Event()

    async def run(self, when_ready: Callable[[], Awaitable[None]] | None = None) -> int:
        """Start all parts, call `when_ready`, and stay until `stop()`, SIGINT, SIGTERM or a final failure."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, self.stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup stays in force
            loop.add_signal_handler(signal.SIGHUP, self.stop)
        code = 0
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._start(group, when_ready))
                group.create_task(self._until_stopped())
        except* _Stopped:
            pass
        except* _Failed as failures:
            for failure in failures.exceptions:
                self._console.complain(str(failure))
                code = failure.code if isinstance(failure, _Failed) else 1
        finally:
            await self._stop_all()
        return code

    def stop(self) -> None:
        """Ask for the end; a second time: end at once, by force."""
        if self._stop.is_set():
            for stage in self._stages:
                for runner in stage:
                    runner.kill()
        self._stop.set()

    async def _until_stopped(self) -> None:
        await self._stop.wait()
        raise _Stopped

    async def _start(self, group: asyncio.TaskGroup, when_ready: Callable[[], Awaitable[None]] | None) -> None:
        for stage in self._stages:
            for runner in stage:
                group.create_task(runner.keep())
            for runner in stage:
                await self._until_ready(runner.part)
        if when_ready is not None:
            await when_ready()

    async def _until_ready(self, part: Part) -> None:
        hint = time.monotonic() + READY_HINT_S
        while part.ready is not None and not await part.ready():
            if time.monotonic() > hint:
                self._console.complain(f"{part.name} is not ready yet; waiting")
                hint = time.monotonic() + READY_HINT_S
            await asyncio.sleep(READY_POLL_S)

    async def _stop_all(self) -> None:
        end = time.monotonic() + self._stop_budget_s
        for left, stage in zip(range(len(self._stages), 0, -1), reversed(self._stages), strict=True):
            # An equal share of the time that is left: what a stage does not need, the later ones have.
            now = time.monotonic()
            deadline = now + max(0.0, end - now) / left
            await asyncio.gather(*(runner.stop(deadline) for runner in stage))
