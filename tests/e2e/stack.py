"""The hub's real processes, started for one test and ended by their ids: venue server, feed, gateway."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.ports import free_port

__all__ = ["DEMO", "ROOT", "Part", "Stack", "until"]

ROOT = Path(__file__).resolve().parent.parent.parent
DEMO = ROOT / "demo" / "binance"
EXCHANGE_INFO = DEMO / "cryptofeed_2021-04-17" / "rest_exchangeInfo.json.gz"


async def until(condition: Callable[[], Awaitable[object]], what: str, timeout_s: float = 60.0) -> None:
    """Wait until `condition` gives something true; AssertionError naming `what` otherwise."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    while loop.time() < end:
        try:
            if await condition():
                return
        except (OSError, aiohttp.ClientError, RedisConnectionError):
            pass
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {timeout_s:g} s: {what}")


class Part:
    """One process: `python -m <module> …`."""

    def __init__(self, name: str, arguments: Sequence[str], env: dict[str, str], log: Path) -> None:
        self.name, self.arguments, self.env, self.log = name, list(arguments), env, log
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *self.arguments, cwd=ROOT, env=self.env, stdout=log, stderr=log
            )

    async def end(self, signum: int = signal.SIGTERM, timeout_s: float = 30.0) -> int:
        """Send `signum` and return the exit code; SIGKILL after `timeout_s`."""
        process = self.process
        assert process is not None
        if process.returncode is None:
            process.send_signal(signum)
        try:
            return await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"{self.name} did not end within {timeout_s:g} s") from None

    def logged(self) -> str:
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""


class Stack:
    """Venue server on recorded sessions, feed and gateway on a given Redis. `async with` ends what was started.

    Without `instruments` the venue's list is the sessions' own; Binance's lies beside them.
    """

    def __init__(
        self,
        folder: Path,
        redis_url: str,
        sessions: Sequence[Path],
        symbols: Sequence[str],
        venue: str = "binance",
        instruments: Path | None = None,
    ) -> None:
        self.folder, self.redis_url, self.sessions, self.symbols = folder, redis_url, list(sessions), list(symbols)
        self.name = venue
        self.instruments = EXCHANGE_INFO if venue == "binance" and instruments is None else instruments
        self.venue_port, self.gateway_port = free_port(), free_port()
        self.env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("TICKWIRE_")},
            "PYTHONUNBUFFERED": "1",
            "TICKWIRE_REDIS__URL": redis_url,
            f"TICKWIRE_VENUES__{venue.upper()}__WS_URL": f"ws://127.0.0.1:{self.venue_port}",
            f"TICKWIRE_VENUES__{venue.upper()}__REST_URL": f"http://127.0.0.1:{self.venue_port}",
            f"TICKWIRE_VENUES__{venue.upper()}__SYMBOLS": repr(list(symbols)).replace("'", '"'),
            "TICKWIRE_PUBLISHER__LOG_TRADES": "200000",
            "TICKWIRE_PUBLISHER__LOG_BOOKS": "200000",
        }
        self.parts: list[Part] = []
        self.redis: Redis = Redis.from_url(redis_url)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in reversed(self.parts):
            if part.process is not None and part.process.returncode is None:
                part.process.kill()
                await part.process.wait()
            if kind is not None:
                sys.stderr.write(f"--- {part.name}\n{part.logged()[-4000:]}\n")
        await self.redis.aclose()

    async def _add(self, name: str, *arguments: str) -> Part:
        part = Part(name, arguments, self.env, self.folder / f"{name}.log")
        self.parts.append(part)
        await part.start()
        return part

    async def venue(self, *flags: str, speed: float = 1.0) -> Part:
        """Start the venue server and wait until it answers."""
        listed = ("--instruments", str(self.instruments)) if self.instruments is not None else ()
        part = await self._add(
            "venue", "feeds.replay", self.name, *map(str, self.sessions), *listed,
            "--port", str(self.venue_port), "--speed", str(speed), *flags,
        )  # fmt: skip
        await until(self.venue_answers, "venue server answers")
        return part

    async def venue_answers(self) -> bool:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.venue_port}/"):
            return True

    async def feed(self, *, wait: bool = True) -> Part:
        """Start the feed and, unless told otherwise, wait until every book is live."""
        part = await self._add("feed", "feeds", self.name)
        if wait:
            await until(self.books_live, "every book is live")
        return part

    async def gateway(self) -> Part:
        """Start the gateway and wait until it is ready."""
        part = await self._add("gateway", "gateway", "--port", str(self.gateway_port))
        await until(lambda: self.get(f"{self.rest}/health/ready"), "gateway is ready")
        return part

    @property
    def rest(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.gateway_port}/v1/ws"

    async def get(self, url: str) -> bytes | None:
        """Return the body of a 200 answer, None of any other."""
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return await response.read() if response.status == 200 else None

    async def epoch(self) -> int:
        """Return the epoch that the feed's pulse names; 0 where it has none."""
        value: Any = await self.redis.get(f"md:alive:{self.name}")
        return int(value or 0)

    async def books_live(self) -> bool:
        keys = [f"md:book:{self.name}:{symbol}" for symbol in self.symbols]
        return await self.redis.exists(*keys) == len(keys)
