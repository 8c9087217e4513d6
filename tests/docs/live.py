"""A small hub that runs: two venues on recorded sessions, every part, one gateway for everybody and one with tokens."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
from msgspec import Struct, structs
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from hub.embedded import EmbeddedRedis
from hub.instrument_store import InstrumentStore
from hub.keys import Keys
from hub.model import is_event
from tests.e2e.stack import DEMO, ROOT, Part, Stack, until
from tests.gateway.tokens import SECRET, mint
from tests.ports import free_port

__all__ = ["Hub", "running_hub"]

SESSIONS: Final = ROOT / "tests" / "data" / "sessions"
#: venue -> recorded session and symbols. Binance has no tickers in its recordings, and marks are of derivatives.
PLAYED: Final = {
    "binance": (DEMO / "cryptofeed_2021-04-04", ["BTC-USDT", "ETH-USDT"]),
    "okx": (SESSIONS / "okx" / "cryptofeed_2022-02-27", ["ZEN-USDT"]),
    "deribit": (SESSIONS / "deribit" / "cryptofeed_2021-07-22", ["BTC-USD-210924-8000-P"]),
}
PARTS: Final = {"instruments": "feeds.instruments", "consolidator": "hub.consolidator", "archive": "hub.archive"}
WAIT_S: Final = 45.0
#: Fields that say which message it is.
TELLING: Final = ("type", "op", "action", "code", "channel", "venue", "symbol", "replaying")
#: An id that is older than everything, for examples of a gap.
OLD_ID: Final = "1609459200000-7"


class Hub(Struct):
    """Addresses of what runs. `guarded` is a gateway with tokens, which also ends first."""

    stack: Stack
    guarded: int
    guard: Part
    metrics: list[str]
    token: str

    async def text(self, path: str, accept: str | None = None) -> str:
        """Return the body of an answer, whatever its status."""
        headers = {"Accept": accept} if accept else {}
        async with aiohttp.ClientSession() as http, http.get(self.stack.rest + path, headers=headers) as answer:
            return await answer.text()

    async def messages(self, channel: str, enough: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Return messages of `channel` until one is `enough`, or for WAIT_S."""
        found: list[dict[str, Any]] = []
        async with connect(self.stack.ws, max_size=None, max_queue=None) as socket:
            ask: dict[str, Any] = {"op": "subscribe", "channels": [channel]}
            if is_event(channel.partition(":")[0]):
                ask["after"] = "0-0"
            await socket.send(json.dumps(ask))
            try:
                async with asyncio.timeout(WAIT_S):
                    while True:
                        message = json.loads(await socket.recv())
                        if message["type"] == channel.partition(":")[0]:
                            found.append(message)
                            if enough(message):
                                return found
            except TimeoutError:
                return found

    async def play(self, lines: list[str], *, tokens: bool) -> list[str]:
        """Send the `>` lines of a dialogue and return all lines as they are now; `<` lines that do not come are "<"."""
        url = f"ws://127.0.0.1:{self.guarded}/v1/ws" if tokens else self.stack.ws
        now: list[str] = []
        async with connect(url, max_size=None, max_queue=None) as socket:
            for line in lines:
                if line.startswith("> "):
                    sent = json.dumps(await self._current(json.loads(line[2:])), separators=(",", ":"))
                    await socket.send(sent)
                    now.append("> " + sent.replace(self.token, "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.…"))
                elif line.startswith("< close "):
                    if line.startswith("< close 1012") and self.guard.process is not None:
                        self.guard.process.terminate()
                    now.append(await _closed(socket))
                else:
                    now.append(("< " + await _next(socket, json.loads(line[2:]))).strip())
        return now

    async def _current(self, op: dict[str, Any]) -> dict[str, Any]:
        """Return a client's message with the token, ids and times of this run."""
        if str(op.get("token", "")).startswith("eyJ"):
            op["token"] = self.token
        if isinstance(op.get("since"), str):
            op["since"] = datetime.fromtimestamp(time.time() - 3, UTC).isoformat(timespec="seconds")[:19] + "Z"
        if isinstance(op.get("after"), dict):
            epoch = await self.stack.epoch()
            op["after"] = {name: i if i == OLD_ID else f"{epoch}-1" for name, i in op["after"].items()}
        return op


async def _closed(socket: ClientConnection) -> str:
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                await socket.recv()
    except TimeoutError:
        return "<"
    except ConnectionClosed as error:
        assert error.rcvd is not None
        return f'< close {error.rcvd.code} "{error.rcvd.reason}"'


async def _next(socket: ClientConnection, example: dict[str, Any]) -> str:
    """Return the next message of the example's sort as it came, empty where none comes."""
    wanted = {name: example[name] for name in TELLING if name in example}
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                text = str(await socket.recv())
                message = json.loads(text)
                if all(message.get(name) == value for name, value in wanted.items()):
                    return text
    except (TimeoutError, ConnectionClosed):
        return ""


@asynccontextmanager
async def running_hub(folder: Path) -> AsyncIterator[Hub]:
    """Start everything; what is asked for has to be waited for."""
    async with AsyncExitStack() as running:
        server = await running.enter_async_context(EmbeddedRedis(folder / "redis"))
        stacks = {}
        for venue, (session, symbols) in PLAYED.items():
            (folder / venue).mkdir()
            stack = Stack(folder / venue, server.url, [session], symbols, venue)
            stack.env |= {
                "TICKWIRE_CANDLES__INTERVALS": '["1s", "10s", "1m"]',
                "TICKWIRE_INSTRUMENTS__VENUES": '["binance"]',
                "TICKWIRE_ARCHIVE__DIR": str(folder / "archive"),
                "TICKWIRE_GATEWAY__WORKERS": "2",
            }
            stacks[venue] = await running.enter_async_context(stack)
        await asyncio.gather(*(stack.venue("--shift", "--loop") for stack in stacks.values()))
        ports = {name: free_port() for name in ("feed", *PARTS)}
        main = stacks["binance"]
        main.env["TICKWIRE_METRICS__PORT"] = str(ports["feed"])
        await asyncio.gather(*(stack.feed(wait=stack is main) for stack in stacks.values()))
        for name, module in PARTS.items():
            main.env = {**main.env, "TICKWIRE_METRICS__PORT": str(ports[name])}
            await main._add(name, module)
        await main.gateway()
        guarded = free_port()
        main.env = {**main.env, "TICKWIRE_GATEWAY__AUTH__SECRET": SECRET, "TICKWIRE_GATEWAY__WORKERS": "1"}
        guard = await main._add("guarded", "gateway", "--port", str(guarded))
        ready = f"http://127.0.0.1:{guarded}/health/ready"
        await until(lambda: main.get(ready), "the gateway with tokens is ready")
        await _change_a_list(server.url)
        metrics = [*(f"http://127.0.0.1:{port}/metrics" for port in ports.values()), f"{main.rest}/metrics"]
        yield Hub(main, guarded, guard, metrics, mint("quote:binance:*", sub="my-bot"))


async def _change_a_list(url: str) -> None:
    """Have the venue change an instrument: what a feed does that finds another list."""
    async with Redis.from_url(url) as client:
        store = InstrumentStore(client, Keys())
        await until(lambda: store.load("binance"), "the list is there")
        rows = list((await store.load("binance")).values())
        changed = [structs.replace(row, tick_size=0.05) if row.symbol == "ETH-USDT" else row for row in rows]
        syncs = await store.syncs(["binance"])
        await store.store("binance", changed, syncs["binance"].intervals, time.time_ns(), lambda _: True)
