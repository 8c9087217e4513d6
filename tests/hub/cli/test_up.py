"""Supervision: the order of stopping, crashes, and ends of every kind; and what `tickwire up` says."""

import asyncio
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis

from hub import config
from hub.cli import demo, up
from hub.cli.console import Console
from hub.cli.parts import DEFAULT_VENUES
from hub.cli.supervisor import STOP_BUDGET_S, Part, Supervisor
from hub.config import Settings
from hub.embedded import EmbeddedRedis
from hub.errors import ConfigError, RedisUnavailable
from hub.keys import Keys
from hub.model import Status, encode

# A stand-in for a part: writes what happens to it into a file that all parts share.
from tests.pids import alive
from tests.ports import free_port

STAND_IN = """
import os, signal, sys, time
name, journal, answer = sys.argv[1:4]
def note(what):
    with open(journal, "a") as file:
        file.write(f"{name} {what} {os.getpid()}\\n")
def end(*_):
    note("stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if answer == "stubborn" else end)
note("started")
print("hello from", name, flush=True)
if answer.isdigit():
    sys.exit(int(answer))
time.sleep(600)
"""


class Journal:
    def __init__(self, file: Path) -> None:
        self.file = file

    def part(self, name: str, stage: int, answer: str = "stay") -> Part:
        argv = [sys.executable, "-c", STAND_IN, name, str(self.file), answer]
        return Part(name=name, argv=argv, stage=stage, ready=self.until(f"{name} started"))

    def until(self, text: str, times: int = 1) -> Callable[[], "asyncio.Future[bool]"]:
        def ready() -> "asyncio.Future[bool]":
            future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            future.set_result(self.text().count(text) >= times)
            return future

        return ready

    def text(self) -> str:
        return self.file.read_text() if self.file.exists() else ""

    def events(self) -> list[str]:
        return [line.rpartition(" ")[0] for line in self.text().splitlines()]

    def pids(self) -> list[int]:
        return [int(line.rpartition(" ")[2]) for line in self.text().splitlines()]

    async def wait_for(self, text: str, times: int = 1) -> None:
        async with asyncio.timeout(60):
            while self.text().count(text) < times:
                await asyncio.sleep(0.02)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


async def test_starts_by_stage_and_stops_in_the_opposite_order(journal: Journal) -> None:
    output = io.StringIO()
    parts = [journal.part("gateway", 3), journal.part("feed", 2), journal.part("venue", 1), journal.part("redis", 0)]
    supervisor = Supervisor(parts, Console(output))

    async def when_ready() -> None:
        supervisor.stop()

    assert await supervisor.run(when_ready) == 0
    names = ["redis", "venue", "feed", "gateway"]
    assert journal.events() == [f"{name} started" for name in names] + [f"{name} stopped" for name in reversed(names)]
    assert not any(map(alive, journal.pids()))
    assert "feed | hello from feed\n" in output.getvalue()


async def test_every_part_has_a_process_group_of_its_own(journal: Journal) -> None:
    supervisor = Supervisor([journal.part("a", 0), journal.part("b", 0)], Console(io.StringIO()))

    async def when_ready() -> None:
        groups = {os.getpgid(pid) for pid in journal.pids()}
        assert groups == set(journal.pids())
        supervisor.stop()

    assert await supervisor.run(when_ready) == 0


async def test_a_part_that_does_not_stop_is_killed_and_all_is_over_within_5_s(journal: Journal) -> None:
    output = io.StringIO()
    parts = [journal.part("redis", 0), *(journal.part(f"stubborn-{n}", n, "stubborn") for n in (1, 2, 3))]
    supervisor = Supervisor(parts, Console(output))
    asked: list[float] = []

    async def when_ready() -> None:
        asked.append(time.monotonic())
        supervisor.stop()

    assert await supervisor.run(when_ready) == 0
    assert STOP_BUDGET_S < 5
    assert time.monotonic() - asked[0] < 2.5 * STOP_BUDGET_S, "one budget for all three, not one for each"
    assert not any(map(alive, journal.pids()))
    assert journal.events()[-1] == "redis stopped"
    assert "stubborn-2 did not stop in time and is killed" in output.getvalue()


async def test_a_second_request_to_stop_ends_at_once(journal: Journal) -> None:
    supervisor = Supervisor([journal.part("stubborn", 0, "stubborn")], Console(io.StringIO()), stop_budget_s=60)

    async def when_ready() -> None:
        supervisor.stop()
        asyncio.get_running_loop().call_later(0.2, supervisor.stop)

    async with asyncio.timeout(60):
        assert await supervisor.run(when_ready) == 0
    assert not any(map(alive, journal.pids()))


async def test_a_crashed_part_starts_again_and_the_others_stay(journal: Journal) -> None:
    output = io.StringIO()
    supervisor = Supervisor([journal.part("redis", 0), journal.part("feed", 1)], Console(output))

    async def when_ready() -> None:
        os.kill(journal.pids()[1], signal.SIGKILL)
        await journal.wait_for("feed started", 2)
        supervisor.stop()

    assert await supervisor.run(when_ready) == 0
    assert journal.events() == ["redis started", "feed started", "feed started", "feed stopped", "redis stopped"]
    assert "feed ended (signal 9); starting it again in 0.5 s" in output.getvalue()


async def test_restarts_wait_longer_each_time(journal: Journal) -> None:
    output = io.StringIO()
    supervisor = Supervisor([journal.part("feed", 0, "1")], Console(output))

    async def when_ready() -> None:
        await journal.wait_for("feed started", 3)
        supervisor.stop()

    assert await supervisor.run(when_ready) == 0
    waits = re.findall(r"feed ended \(exit code 1\); starting it again in (\S+) s", output.getvalue())
    assert waits[:2] == ["0.5", "1"]


@pytest.mark.parametrize("code", [2, 3, 4])
async def test_a_part_that_cannot_start_ends_everything(journal: Journal, code: int) -> None:
    output = io.StringIO()
    supervisor = Supervisor([journal.part("redis", 0), journal.part("feed", 1, str(code))], Console(output))
    async with asyncio.timeout(60):
        assert await supervisor.run() == code
    assert f"feed cannot start (exit code {code}); its message is above" in output.getvalue()
    assert journal.events() == ["redis started", "feed started", "redis stopped"]


async def test_after_a_restart_such_a_code_is_not_final(journal: Journal) -> None:
    # A feed that comes back may find its own old lease, or Redis away for a moment.
    flag = journal.file.with_suffix(".second")
    code = f"import os, sys; first = not os.path.exists({str(flag)!r}); open({str(flag)!r}, 'a').close(); "
    part = Part(name="feed", argv=[sys.executable, "-c", f"{code}sys.exit(1 if first else 4)"], stage=0)
    output = io.StringIO()
    supervisor = Supervisor([part], Console(output))

    async def when_ready() -> None:
        async with asyncio.timeout(60):
            while "exit code 4" not in output.getvalue():
                await asyncio.sleep(0.02)
        supervisor.stop()

    assert await supervisor.run(when_ready) == 0
    assert "feed ended (exit code 4); starting it again" in output.getvalue()


async def test_a_line_of_any_length_does_not_stop_the_output(journal: Journal) -> None:
    code = "print('x' * 3_000_000); print('after'); import time; time.sleep(600)"
    output = io.StringIO()
    supervisor = Supervisor([Part(name="feed", argv=[sys.executable, "-uc", code], stage=0)], Console(output))

    async def when_ready() -> None:
        async with asyncio.timeout(60):
            while "feed | after\n" not in output.getvalue():
                await asyncio.sleep(0.02)
        supervisor.stop()

    assert await supervisor.run(when_ready) == 0


# A supervisor as a process, with a part that needs the watch over its parent and a real Redis.
DRIVER = """
import asyncio, sys
from hub.cli.console import Console
from hub.cli.supervisor import STOP_BUDGET_S, Part, Supervisor
part, journal = sys.argv[1:]
parts = [
    Part(name="redis", argv=[sys.executable, "-m", "hub.embedded"], stage=0),
    Part(name="feed", argv=[sys.executable, "-c", part, "feed", journal, "stay"], stage=1),
]
async def when_ready():
    print("ready", flush=True)
sys.exit(asyncio.run(Supervisor(parts, Console()).run(when_ready)))
"""


async def supervised(tmp_path: Path, journal: Journal) -> tuple["subprocess.Popen[str]", list[int]]:
    """Start the driver; return it with the process ids of all it started, Redis's included."""
    port = free_port()
    env = {"TICKWIRE_REDIS__DATA_DIR": str(tmp_path / "redis"), "TICKWIRE_REDIS__PORT": str(port)}
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, STAND_IN, str(journal.file)],
        env={**os.environ, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    await journal.wait_for("feed started")
    pid_file = tmp_path / "redis" / "redis.pid"
    async with asyncio.timeout(60):
        while not (pid_file.exists() and pid_file.read_text().strip()):
            await asyncio.sleep(0.02)
    return driver, [child.pid for child in psutil.Process(driver.pid).children(recursive=True)]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_no_process_is_left(tmp_path: Path, journal: Journal, signum: signal.Signals) -> None:
    driver, pids = await supervised(tmp_path, journal)
    assert len(pids) == 3
    driver.send_signal(signum)
    driver.wait(timeout=60)
    async with asyncio.timeout(60):
        while any(map(alive, pids)):
            await asyncio.sleep(0.02)
    assert driver.returncode == (-signal.SIGKILL if signum == signal.SIGKILL else 0)
    # After SIGKILL the kernel and the part's own watch may both tell it to stop.
    events = journal.events() if signum != signal.SIGKILL else list(dict.fromkeys(journal.events()))
    assert events == ["feed started", "feed stopped"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and no settings but the ports: those of the defaults may be in use on this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TICKWIRE_GATEWAY__PORT", str(free_port()))
    return tmp_path


def test_a_taken_default_port_is_stepped_over_and_said(
    elsewhere: Path, redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "REDIS_WAIT_S", 0)
    monkeypatch.setattr(config, "is_set", lambda *_: False)
    monkeypatch.setenv("TICKWIRE_REDIS__PORT", str(redis_server.port))
    plan = up.make_plan(None, is_demo=False)
    port = int(plan.redis_url.rpartition(":")[2].partition("/")[0])
    assert port > redis_server.port
    assert plan.parts[0].env["TICKWIRE_REDIS__PORT"] == str(port)
    assert f"port {redis_server.port} is taken, so this hub's Redis listens on port {port}" in plan.notes[0]


def test_a_taken_configured_port_is_an_error(
    elsewhere: Path, redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "REDIS_WAIT_S", 0)
    monkeypatch.setattr(up, "GATEWAY_WAIT_S", 0)
    monkeypatch.setenv("TICKWIRE_REDIS__PORT", str(redis_server.port))
    with pytest.raises(ConfigError, match=f"redis.port = {redis_server.port} cannot be used"):
        up.make_plan(None, is_demo=False)
    monkeypatch.setenv("TICKWIRE_REDIS__PORT", str(free_port()))
    monkeypatch.setenv("TICKWIRE_GATEWAY__PORT", str(redis_server.port))
    with pytest.raises(ConfigError, match=f"gateway.port = {redis_server.port} cannot be used"):
        up.make_plan(None, is_demo=False)


def test_the_demo_keeps_its_data_apart(elsewhere: Path) -> None:
    plan = up.make_plan(None, is_demo=True)
    env = plan.parts[0].env
    assert env["TICKWIRE_REDIS__DATA_DIR"] == "data/redis-demo"
    servers, feeds = ([f"{what}-{venue}" for venue in demo.VENUES] for what in ("venue", "feed"))
    assert [part.name for part in plan.parts] == ["redis", *servers, *feeds, "instruments", "consolidator", "gateway"]
    parts = {part.name: part for part in plan.parts}
    feed, server = parts["feed-binance"].env, parts["venue-binance"].argv
    port = server[server.index("--port") + 1]
    assert feed["TICKWIRE_VENUES__BINANCE__WS_URL"] == f"ws://127.0.0.1:{port}"
    assert feed["TICKWIRE_VENUES__BINANCE__REST_URL"] == f"http://127.0.0.1:{port}"
    settings = config.load(None, {**env, **feed})
    assert len(settings.venues["binance"].symbols) == 13


def run_up(cwd: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "hub.cli.main", "up"],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_configured_redis_that_is_away_or_refuses_the_password(elsewhere: Path, redis_server: EmbeddedRedis) -> None:
    away = run_up(elsewhere, TICKWIRE_REDIS__URL=f"redis://:secret@127.0.0.1:{free_port()}/0")
    refused = run_up(elsewhere, TICKWIRE_REDIS__URL=f"redis://user:secret@127.0.0.1:{redis_server.port}/0")
    for result in (away, refused):
        assert result.returncode == 3
        assert "secret" not in result.stdout + result.stderr
        assert "Traceback" not in result.stderr
    assert re.search(r"Redis at redis://:\*\*\*@127.0.0.1:\d+/0 cannot be used: .*Connect", away.stderr)
    assert "authentication failed" in refused.stderr


def test_a_wrong_setting_ends_it_before_anything_starts(elsewhere: Path) -> None:
    result = run_up(elsewhere, TICKWIRE_REDIS__PROT="1")
    assert result.returncode == 2
    assert result.stderr == "tickwire: unknown setting redis.prot; did you mean redis.port?\n"
    assert result.stdout == ""


def live_plan(redis_url: str) -> up.Plan:
    return up.Plan(
        settings=Settings(), redis_url=redis_url, embedded=True, parts=[], venues=["binance"], is_demo=False, notes=[]
    )


async def test_when_no_venue_is_reached_it_says_so_and_later_that_one_is(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "PATIENCE_S", 0.0)
    monkeypatch.setattr(up, "WATCH_S", 0.05)
    output = io.StringIO()
    watch = asyncio.create_task(up._watch_venues(live_plan(redis_url), Console(output)))
    async with asyncio.timeout(60):
        while "make demo" not in output.getvalue():
            await asyncio.sleep(0.02)
        assert "NO VENUE COULD BE REACHED (binance: its feed has no pulse)" in output.getvalue()
        assert "keep trying" in output.getvalue()
        keys = Keys()
        status = Status("binance", "*", "1-1", None, 1, 1, "live", None, "", 1)
        async with Redis.from_url(redis_url) as client:
            await client.set(keys.alive("binance"), 1)
            await client.set(keys.newest("status:binance:*"), encode(status))
        await watch
    assert output.getvalue().endswith("binance is live.\n")
    assert output.getvalue().count("NO VENUE") == 1


async def test_the_watch_outlives_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "PATIENCE_S", 0.0)
    output = io.StringIO()
    watch = asyncio.create_task(up._watch_venues(live_plan(f"redis://127.0.0.1:{free_port()}"), Console(output)))
    async with asyncio.timeout(60):
        while "Redis does not answer" not in output.getvalue():
            await asyncio.sleep(0.02)
    assert not watch.done()
    watch.cancel()


async def test_a_configured_redis_is_checked_first(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKWIRE_REDIS__URL", f"redis://127.0.0.1:{free_port()}/0")
    plan = up.make_plan(None, is_demo=False)
    feeds = [f"feed-{venue}" for venue in DEFAULT_VENUES]
    assert [part.name for part in plan.parts] == [*feeds, "instruments", "consolidator", "gateway"]
    with pytest.raises(RedisUnavailable):
        await up._up(plan, Console(io.StringIO()))
