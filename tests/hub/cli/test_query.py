"""Reads, watch and doctor as people and scripts use them: processes, their output and exit codes."""

import asyncio
import csv
import io
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from rich.console import Console

from hub.cli.query import COLUMNS, fitting, number, table
from hub.embedded import EmbeddedRedis
from tests.gateway.kit import Feed, Gateway, book, gateway_on, quote, status, trade
from tests.gateway.tokens import SECRET, mint
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
async def feed(redis_url: str) -> AsyncIterator[Feed]:
    async with Feed(redis_url) as feed:
        await feed.publish(status("live"), quote(1.5), book([(1.5, 1.0)], [(2.5, 2.0)], "snapshot"), trade(1), trade(2))
        yield feed


@pytest.fixture
async def gateway(redis_url: str, feed: Feed) -> AsyncIterator[Gateway]:
    async with gateway_on(redis_url) as gateway:
        yield gateway


async def tickwire(*argv: str, cwd: Path = ROOT, **env: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub.cli.main", *argv, cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_tables_json_and_csv(gateway: Gateway) -> None:
    code, out, err = await tickwire("quote", "BTC-USDT", "--url", gateway.http)
    assert code == 0 and "binance" in out and "1.5" in out and "live" in out and err == ""
    code, out, _ = await tickwire("quote", "BTC-USDT", "--json", TICKWIRE_URL=gateway.http)
    assert [(row["venue"], row["bid"], row["state"]) for row in json.loads(out)] == [("binance", 1.5, "live")]
    code, out, err = await tickwire("trades", "BTC-USDT", "--csv", "--limit", "1", "--url", gateway.http)
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["price"], row["trade_id"], row["side"]) == ("2.0", "2", "buy")
    code, out, _ = await tickwire("book", "BTC-USDT", "--csv", "--url", gateway.http)
    assert [(r["side"], r["price"]) for r in csv.DictReader(io.StringIO(out))] == [("bid", "1.5"), ("ask", "2.5")]
    code, out, _ = await tickwire("venues", "--json", "--url", gateway.http)
    assert [(row["venue"], row["state"]) for row in json.loads(out)] == [("binance", "live")]
    code, out, err = await tickwire("candles", "BTC-USDT", "--csv", "--url", gateway.http)
    assert (code, len(out.splitlines())) == (0, 1) and "nothing there" in err and "down" in err
    code, out, err = await tickwire("instruments", "--json", "--url", gateway.http)
    assert (code, json.loads(out), err) == (0, [], "nothing there\n")


async def test_exit_codes_say_what_is_wrong(gateway: Gateway, redis_url: str) -> None:
    for argv, code, words in (
        (["quote", "NOPE", "--url", gateway.http], 8, "nobody publishes 'NOPE'"),
        (["candles", "BTC-USDT", "--interval", "7x", "--url", gateway.http], 8, "7x"),
        (["book", "BTC-USDT", "--depth", "0", "--url", gateway.http], 8, "allowed: 1 to 5000"),
        (["quote", "--url", "http://127.0.0.1:9"], 7, "127.0.0.1:9"),
        (["quote", "--url", "nonsense"], 2, "no address of a hub"),
        (["book"], 2, "SYMBOL"),
        (["book", "BTC-USDT", "--dept", "3"], 2, "--depth"),
        (["quot"], 2, "did you mean 'quote'?"),
        (["watch", "BTC-USDT", "--url", "http://127.0.0.1:9"], 7, "127.0.0.1:9"),
    ):
        found, out, err = await tickwire(*argv)
        assert (found, out) == (code, ""), argv
        assert words in err and "Traceback" not in err
    async with gateway_on(redis_url, auth={"secret": SECRET}) as guarded:
        found, _, err = await tickwire("quote", "BTC-USDT", "--url", guarded.http)
        assert found == 8 and "token is needed" in err
        found, out, _ = await tickwire("quote", "BTC-USDT", "--url", guarded.http, TICKWIRE_TOKEN=mint())
        assert found == 0 and "1.5" in out


async def test_the_configured_gateway_is_the_default(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "hub.toml").write_text(f"[gateway]\nport = {gateway.port}\n")
    code, out, _ = await tickwire("quote", "--json", cwd=tmp_path)
    assert code == 0 and json.loads(out)[0]["symbol"] == "BTC-USDT"


async def test_watch_into_a_pipe_is_a_line_per_quote(gateway: Gateway, feed: Feed) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub.cli.main", "watch", "BTC-USDT", "--url", gateway.http, cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    async with asyncio.timeout(60):
        assert (await process.stdout.readline()).decode().endswith(" BTC-USDT binance 1.5 2.5 5000.00 bp live\n")
        await feed.redis.delete(feed.keys.alive("binance"))
        while b"BTC-USDT binance is down" not in await process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        await process.communicate()
    assert process.returncode == 130


async def test_watch_on_a_terminal_shows_the_table_and_ends_with_ctrl_c(gateway: Gateway) -> None:
    controller, terminal = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "140", "LINES": "20"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub.cli.main", "watch", "BTC-USDT", "--url", gateway.http, cwd=ROOT, env=env,
        stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    os.set_blocking(controller, False)
    shown = b""
    try:
        async with asyncio.timeout(60):
            while not (b"binance" in shown and b"live" in shown and b"1.5" in shown and b"spread" in shown):
                await asyncio.sleep(0.05)
                try:
                    shown += os.read(controller, 65_536)
                except BlockingIOError:
                    assert process.returncode is None, shown.decode(errors="replace")
            process.send_signal(signal.SIGINT)
            while process.returncode is None:
                await asyncio.sleep(0.05)
                try:
                    os.read(controller, 65_536)
                except OSError:  # the terminal's other end closes with the process
                    pass
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(controller)
    assert process.returncode == 130


async def test_a_reader_that_goes_away_ends_watch_quietly(gateway: Gateway, feed: Feed) -> None:
    command = f"{sys.executable} -m hub.cli.main watch BTC-USDT --url {gateway.http} | head -1"
    process = await asyncio.create_subprocess_shell(
        command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    work = asyncio.create_task(process.communicate())
    async with asyncio.timeout(60):
        while not work.done():
            await feed.publish(quote(1.5))
            await asyncio.sleep(0.1)
    out, err = await work
    assert out.decode().count("\n") == 1 and err == b""


async def doctor(tmp_path: Path, *argv: str, **env: str) -> tuple[int, dict[str, dict[str, str]]]:
    code, out, err = await tickwire("doctor", "--json", *argv, cwd=tmp_path, **env)
    assert err == "" or "Traceback" not in err
    return code, {check["name"]: check for check in json.loads(out)}


async def test_doctor_on_a_healthy_hub(tmp_path: Path, gateway: Gateway, redis_server: EmbeddedRedis) -> None:
    env = {"TICKWIRE_REDIS__URL": redis_server.url, "TICKWIRE_GATEWAY__PORT": str(gateway.port)}
    code, checks = await doctor(tmp_path, "--offline", **env)
    assert code == 0
    good = {"config", f"gateway port {gateway.port}", "redis", "redis TimeSeries", "redis eviction", "feeds"}
    assert {name for name in good if checks[name]["level"] == "ok"} == good
    assert "clock of Redis" in checks and "alive: binance" in checks["feeds"]["text"]
    code, out, _ = await tickwire("doctor", "--offline", cwd=tmp_path, **env)
    assert code == 0 and "ok    redis eviction: noeviction" in out


async def test_doctor_names_what_is_wrong(tmp_path: Path) -> None:
    async with asyncio.timeout(60):
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        taken = server.sockets[0].getsockname()[1]
        env = {"TICKWIRE_REDIS__URL": "redis://127.0.0.1:9/0", "TICKWIRE_GATEWAY__PORT": str(taken)}
        code, checks = await doctor(tmp_path, "--offline", **env)
        server.close()
    assert code == 1
    assert checks["redis"]["level"] == "fail" and "correct redis.url" in checks["redis"]["todo"]
    assert (
        checks[f"gateway port {taken}"]["level"] == "fail" and "gateway.port" in checks[f"gateway port {taken}"]["todo"]
    )
    (tmp_path / "hub.toml").write_text("[gateway]\nprot = 1\n")
    code, checks = await doctor(tmp_path)
    assert code == 1 and "gateway.port" in checks["config"]["text"]


async def test_doctor_tells_that_redis_is_full(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path / "redis") as server:
        code = {}
        for limit in ("1gb", "1mb"):
            setting = await tickwire("redis-cli", "CONFIG", "SET", "maxmemory", limit, TICKWIRE_REDIS__URL=server.url)
            assert setting[0] == 0
            env = {"TICKWIRE_REDIS__URL": server.url, "TICKWIRE_GATEWAY__PORT": str(free_port())}
            code[limit], checks = await doctor(tmp_path, "--offline", **env)
            assert checks["redis memory"]["level"] == ("ok" if limit == "1gb" else "fail")
    assert code == {"1gb": 0, "1mb": 1}


async def test_doctor_asks_no_venue_about_a_demo(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path / "redis-demo"):
        env = {"TICKWIRE_REDIS__DATA_DIR": str(tmp_path / "redis"), "TICKWIRE_GATEWAY__PORT": str(free_port())}
        code, checks = await doctor(tmp_path, **env)
    assert code == 0 and "demo" in checks["venues"]["text"]
    assert not [name for name in checks if name.startswith("venue ")]


async def test_doctor_misses_feeds_that_never_began(tmp_path: Path, gateway: Gateway, redis_url: str) -> None:
    (tmp_path / "hub.toml").write_text("[venues.binance]\n[venues.kraken]\n[venues.okx]\nenabled = false\n")
    env = {"TICKWIRE_REDIS__URL": redis_url, "TICKWIRE_GATEWAY__PORT": str(gateway.port)}
    code, checks = await doctor(tmp_path, "--offline", **env)
    assert code == 0 and checks["feeds"]["level"] == "warn"
    assert checks["feeds"]["text"] == "alive: binance; without a pulse: kraken"


async def test_doctor_reaches_venues_and_reads_their_clocks(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(headers={"Date": "Thu, 01 Jan 2026 00:00:00 GMT"})

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    (tmp_path / "hub.toml").write_text(
        f'[venues.binance]\nws_url = "ws://127.0.0.1:{port}"\nrest_url = "http://127.0.0.1:{port}"\n'
        '[venues.kraken]\nws_url = "ws://127.0.0.1:9"\nrest_url = "http://127.0.0.1:9"\n'
        f'[venues.alpaca]\nws_url = "ws://127.0.0.1:{port}"\nrest_url = "http://127.0.0.1:{port}"\n'
    )
    env = {"ALPACA_KEY_ID": "", "ALPACA_SECRET_KEY": "", "TICKWIRE_REDIS__URL": "redis://127.0.0.1:9/0"}
    try:
        code, checks = await doctor(tmp_path, **env)
    finally:
        await runner.cleanup()
    assert code == 1
    assert checks["venue binance"]["level"] == "ok" and str(port) in checks["venue binance"]["text"]
    assert checks["venue binance clock"]["level"] == "fail" and "chrony" in checks["venue binance clock"]["todo"]
    assert checks["venue kraken"]["level"] == "fail" and "127.0.0.1:9" in checks["venue kraken"]["text"]
    assert "ALPACA_KEY_ID" in checks["venue alpaca keys"]["text"]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_narrow_terminal_loses_columns_but_no_prices_and_states(width: int) -> None:
    record = {
        "symbol": "BTC-USDT", "venue": "all", "bid": 57_986.02, "bid_size": 3.1, "ask": 57_986.03, "ask_size": 1.25,
        "bid_venue": "binance_futures", "ask_venue": "binance_futures", "state": "resyncing", "age_ms": 1500,
    }  # fmt: skip
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(fitting(console, COLUMNS["quote"], lambda columns: table(columns, [record])))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in shown
    assert [word in shown for word in ("BTC-USDT", "57,986.02", "57,986.03", "resyncing")] == [True] * 4
    assert ("binance_futures" in shown) == (width == 200)


def test_numbers_are_shown_as_people_write_them() -> None:
    shown = [number(value) for value in (0.4831560000000001, 58017.93, 1e-08, 123456789.5, 3.0)]
    assert shown == ["0.483156", "58,017.93", "0.00000001", "123,456,789.5", "3"]
