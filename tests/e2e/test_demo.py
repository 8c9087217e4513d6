"""`tickwire up --demo`, as a new user runs it: every symbol shows data, and it ends cleanly."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from hub.cli.demo import SYMBOLS
from tests.e2e.stack import Part, until
from tests.pids import alive
from tests.ports import free_port

SILENT = {"NEO-USDC", "RENBTC-ETH"}
"""No trade of these is in the recorded sessions."""


class Demo:
    """The whole hub on recorded sessions, in a folder and on ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.port, self.redis_port = free_port(), free_port()
        env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("TICKWIRE_")},
            "TICKWIRE_GATEWAY__PORT": str(self.port),
            "TICKWIRE_REDIS__PORT": str(self.redis_port),
            "TICKWIRE_REDIS__DATA_DIR": str(folder / "data"),
        }
        self.part = Part("up", ["hub.cli.main", "up", "--demo"], env, folder / "up.log")

    async def start(self) -> None:
        await self.part.start()
        await until(self.ready, "the hub is up", 120)

    async def ready(self) -> bool:
        return "Tickwire is up" in self.part.logged()

    async def rest(self, path: str) -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return msgspec.json.decode(body) if b" 200 " in head.partition(b"\r\n")[0] else None

    def children(self) -> list[int]:
        assert self.part.process is not None
        return [child.pid for child in psutil.Process(self.part.process.pid).children(recursive=True)]

    async def clean_up(self) -> None:
        process = self.part.process
        if process is not None and process.returncode is None:
            pids = self.children()
            process.kill()
            await process.wait()
            for pid in pids:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)


@pytest.mark.timeout(600)
async def test_the_demo_shows_every_symbol_and_ends_cleanly(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    try:
        await demo.start()

        async def complete() -> bool:
            quotes = await demo.rest("/v1/quotes?symbols=" + ",".join(SYMBOLS))
            if quotes is None:
                return False
            text = msgspec.json.encode(quotes).decode()
            return all(f'"{symbol}"' in text for symbol in SYMBOLS) and '"bid":null' not in text

        await until(complete, "a best bid and ask for each symbol", 60)
        for symbol in SYMBOLS:
            await until(lambda name=symbol: _has_book(demo, name), f"{symbol}: a book", 90)  # type: ignore[misc]
        for symbol in sorted(set(SYMBOLS) - SILENT):
            await until(lambda name=symbol: _has_trades(demo, name), f"{symbol}: trades", 100)  # type: ignore[misc]
        for symbol in SYMBOLS:
            await until(lambda name=symbol: _is_consolidated(demo, name), f"{symbol}: venue all", 90)  # type: ignore[misc]
        await _ends_cleanly(demo)
        await demo.start()
        assert await demo.rest("/v1/venues") is not None, "a second start on the same data"
        await _ends_cleanly(demo)
    except BaseException:
        sys.stderr.write(demo.part.logged()[-6000:])
        raise
    finally:
        await demo.clean_up()


async def _has_book(demo: Demo, symbol: str) -> bool:
    answer = await demo.rest(f"/v1/books/{symbol}?venue=binance&depth=5")
    return bool(answer and answer["books"][0]["bids"] and answer["books"][0]["asks"])


async def _has_trades(demo: Demo, symbol: str) -> bool:
    answer = await demo.rest(f"/v1/trades/{symbol}?venue=binance")
    return bool(answer and answer["venues"][0]["trades"])


async def _is_consolidated(demo: Demo, symbol: str) -> bool:
    answer = await demo.rest(f"/v1/quotes/{symbol}?venue=all")
    return bool(answer and answer["quotes"][0]["venues"] == ["binance"] and answer["quotes"][0]["state"] == "live")


async def _ends_cleanly(demo: Demo) -> None:
    pids = demo.children()
    assert await demo.part.end(signal.SIGINT) == 0
    assert not [pid for pid in pids if alive(pid)]
    demo.part.log.unlink()
