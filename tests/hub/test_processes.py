"""hub/processes.py: exit codes, signals, and ending with the process that started it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from hub.errors import (
    ConfigError,
    HubError,
    LeaseHeld,
    LeaseLost,
    RedisUnavailable,
    SessionError,
    UnknownInstrument,
    WireError,
)
from hub.processes import exit_code
from tests.pids import alive

PART = """
import asyncio, sys
from hub import processes
from hub.config import Settings
from hub.errors import *
{setup}
async def main():
    print("started", flush=True)
    try:
        {body}
    finally:
        print("cleaned up", flush=True)
processes.run(main, "part", Settings())
"""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (UnknownInstrument("binance", "X"), 2),
        (RedisUnavailable("redis://h", "x"), 3),
        (LeaseHeld("binance", "x"), 4),
        (LeaseLost("binance", "x"), 5),
        (SessionError("x"), 6),
        (WireError("binance", "x"), 9),
        (ValueError("x"), 1),
        (ExceptionGroup("g", [ExceptionGroup("h", [LeaseLost("binance", "x")])]), 5),
        (ExceptionGroup("g", [ConfigError("x"), ValueError("a bug beside it must not be hidden")]), 1),
    ],
)
def test_exit_codes(error: Exception, code: int) -> None:
    assert exit_code(error) == code


def test_every_error_with_a_code_is_a_hub_error() -> None:
    from hub.processes import EXIT_CODES

    assert all(issubclass(kind, HubError) for kind in EXIT_CODES)


def start(body: str, setup: str = "", **env: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PART.format(body=body, setup=setup)],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("return", 0, ""),
        ("return 7", 7, ""),
        ("raise ConfigError('gateway.port = 0')", 2, "gateway.port = 0"),
        ("raise ExceptionGroup('g', [LeaseHeld('binance', 'host pid 1')])", 4, "published by host pid 1"),
        ("raise RedisUnavailable('redis://:***@h', 'refused')", 3, "refused"),
        ("raise KeyError('bug')", 1, "KeyError: 'bug'"),
    ],
)
def test_a_process_exits_with_the_code_and_message_of_its_error(body: str, code: int, message: str) -> None:
    process = start(body)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert output == "started\ncleaned up\n"
    assert message in errors
    assert ("Traceback" in errors) == (code == 1)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_it_clean_up(signum: signal.Signals) -> None:
    process = start("await asyncio.sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signum)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "cleaned up\n")
    assert f"stopping signal={signum.name}" in errors


@pytest.fixture
def pids() -> Iterator[list[int]]:
    """Process ids a test started through another process; what is left of them ends with the test."""
    started: list[int] = []
    yield started
    for pid in started:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


# A supervisor in small: starts the part, says its process id, and waits.
SUPERVISOR = """
import os, subprocess, sys, time
part = subprocess.Popen([sys.executable, "-c", sys.argv[1]], env={**os.environ, "TICKWIRE_SUPERVISED": "1"})
print(part.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("body", "setup"),
    [
        pytest.param("await asyncio.sleep(600)", "", id="asked by the kernel"),
        pytest.param("await asyncio.sleep(600)", "processes._libc = None", id="by watching its parent"),
        pytest.param(
            "import time\n        time.sleep(600)", "processes.ORPHAN_LIMIT_S = 1", id="although its event loop hangs"
        ),
    ],
)
async def test_a_supervised_process_ends_with_its_killed_supervisor(body: str, setup: str, pids: list[int]) -> None:
    part = PART.format(body=body, setup=setup)
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, part], stdout=subprocess.PIPE, text=True)
    with supervisor:
        assert supervisor.stdout is not None
        pids.append(int(supervisor.stdout.readline()))
        assert supervisor.stdout.readline() == "started\n"
        supervisor.kill()
        async with asyncio.timeout(60):
            while alive(pids[0]):
                await asyncio.sleep(0.05)
