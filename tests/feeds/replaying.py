"""Helpers of the replay tests: parts of the demo's sessions, a client, and Binance's book rules, naively."""

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from websockets.asyncio.client import ClientConnection, connect

from feeds.replay import ReplayServer

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo" / "binance"
FIRST, SECOND = DEMO / "cryptofeed_2021-04-04", DEMO / "cryptofeed_2021-04-05"
LISTING = DEMO / "cryptofeed_2021-04-17" / "rest_exchangeInfo.json.gz"

Json = dict[str, Any]


def lines(session: Path) -> list[Json]:
    """Return the received lines of a session."""
    with gzip.open(session / "ws.jsonl.gz") as file:
        return [row for row in map(json.loads, file) if "dir" not in row]


def payloads(session: Path) -> list[Json]:
    return [json.loads(row["raw"]) for row in lines(session)]


def cut(session: Path, out: Path, seconds: float) -> Path:
    """Write the first `seconds` of a session, with all of its REST bodies, and return the folder."""
    out.mkdir(parents=True)
    rows = lines(session)
    with gzip.open(out / "ws.jsonl.gz", "wb") as file:
        for row in rows:
            if row["t"] < rows[0]["t"] + seconds:
                file.write(json.dumps(row).encode() + b"\n")
    for body in session.glob("rest_*"):
        (out / body.name).write_bytes(body.read_bytes())
    return out


def snapshot(session: Path, symbol: str) -> Json:
    body: Json = json.loads((session / f"rest_depth_{symbol}_limit1000.json").read_bytes())
    return body


class NaiveBook:
    """A book after Binance's documented rules; `gaps` counts diffs that did not follow."""

    def __init__(self) -> None:
        self.last: int | None = None
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}
        self.gaps = 0
        self.held: list[Json] = []

    def diff(self, diff: Json) -> None:
        if self.last is None:
            self.held.append(diff)
        elif diff["u"] <= self.last:
            return
        elif diff["U"] > self.last + 1:
            self.gaps += 1
        else:
            self._set(diff)

    def load(self, body: Json) -> bool:
        """Take a snapshot; False where it is older than the held diffs reach back."""
        if self.held and body["lastUpdateId"] + 1 < self.held[0]["U"]:
            return False
        self.last = body["lastUpdateId"]
        self.bids, self.asks = dict(body["bids"]), dict(body["asks"])
        for diff in self.held:
            self.diff(diff)
        self.held.clear()
        return True

    def _set(self, diff: Json) -> None:
        self.last = diff["u"]
        for side, levels in ((self.bids, diff["b"]), (self.asks, diff["a"])):
            for price, size in levels:
                if float(size) == 0:
                    side.pop(price, None)
                else:
                    side[price] = size

    def top(self, count: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Return the best `count` levels of each side."""
        bids = sorted(self.bids.items(), key=lambda level: -float(level[0]))
        asks = sorted(self.asks.items(), key=lambda level: float(level[0]))
        return bids[:count], asks[:count]


def recorded_books(session: Path, symbol: str, count: int) -> dict[int, Any]:
    """Return the top of the recorded book after each diff, by the diff's last update id."""
    book = NaiveBook()
    book.load(snapshot(session, symbol))
    tops: dict[int, Any] = {book.last or 0: book.top(count)}
    for row in payloads(session):
        if row["stream"] == f"{symbol.lower()}@depth@100ms":
            book.diff(row["data"])
            tops[book.last or 0] = book.top(count)
    assert book.gaps == 0
    return tops


async def subscribe(server: ReplayServer, *streams: str, path: str = "/stream") -> ClientConnection:
    """Connect, subscribe and take the acknowledgement."""
    socket = await connect(server.ws_url + path, max_queue=None)
    await socket.send(json.dumps({"method": "SUBSCRIBE", "params": list(streams), "id": 1}))
    assert json.loads(await socket.recv()) == {"result": None, "id": 1}
    return socket


async def take(socket: ClientConnection, count: int) -> list[Json]:
    return [json.loads(await socket.recv()) for _ in range(count)]


async def until_closed(socket: ClientConnection) -> list[Json]:
    """Return all frames up to the server's close."""
    return [json.loads(frame) async for frame in socket]


@asynccontextmanager
async def http(server: ReplayServer) -> AsyncIterator["Http"]:
    async with aiohttp.ClientSession(server.rest_url) as session:
        yield Http(session)


class Http:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.session.get(path) as response:
            return response.status, await response.json()

    async def json(self, path: str) -> Any:
        status, body = await self.get(path)
        assert status == 200, body
        return body
