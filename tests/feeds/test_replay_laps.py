"""Laps of the replay server: ids and times go on upwards, sockets close at each wrap, books can be rebuilt in each."""

import asyncio
import json
import time
from collections import defaultdict
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from feeds.replay import ReplayServer
from tests.feeds.replaying import (
    FIRST,
    SECOND,
    Http,
    Json,
    NaiveBook,
    cut,
    http,
    payloads,
    recorded_books,
    snapshot,
    subscribe,
    until_closed,
)

SYMBOLS = ("BTCUSDT", "ETHUSDT", "DOTUSDT")
SPEED = 20.0
LATE_MS = 60_000


class Follower:
    """A client that follows Binance's rules on one connection, a new one for each lap."""

    def __init__(self, server: ReplayServer, symbols: tuple[str, ...]) -> None:
        self.server, self.symbols = server, symbols
        self.books: dict[str, NaiveBook] = {}
        self.rows: list[Json] = []
        self._fetching: set[asyncio.Task[None]] = set()

    async def lap(self, rest: Http) -> None:
        """Follow until the server closes."""
        self.books = {symbol: NaiveBook() for symbol in self.symbols}
        self.rows = []
        names = [
            f"{symbol.lower()}@{kind}" for symbol in self.symbols for kind in ("depth@100ms", "aggTrade", "kline_1m")
        ]
        async with await subscribe(self.server, *names) as socket:
            async for frame in socket:
                row = json.loads(frame)
                self.rows.append(row)
                if row["data"]["e"] == "depthUpdate":
                    book = self.books[row["data"]["s"]]
                    book.diff(row["data"])
                    if book.last is None and len(book.held) == 1:
                        self._fetching.add(asyncio.create_task(self._load(rest, row["data"]["s"])))
            assert socket.close_code == 1001
        await asyncio.gather(*self._fetching)

    async def _load(self, rest: Http, symbol: str) -> None:
        while not self.books[symbol].load(await rest.json(f"/api/v3/depth?symbol={symbol}&limit=1000")):
            await asyncio.sleep(0.02)


def ids(rows: list[Json]) -> dict[str, list[int]]:
    """Return the numbers of each stream in order, every kind of number on its own."""
    found = defaultdict(list)
    for row in rows:
        data = row["data"]
        for key in {"aggTrade": "aflET", "depthUpdate": "UuE", "kline": "E"}.get(data.get("e", ""), "u"):
            found[f"{row['stream']} {key}"].append(data[key])
    return found


@pytest.mark.parametrize("shift", [False, True])
async def test_three_wraps(tmp_path: Path, shift: bool) -> None:
    session = cut(FIRST, tmp_path / "short", 24)
    tops = {symbol: recorded_books(session, symbol, 100) for symbol in SYMBOLS}
    last: dict[str, int] = {}
    async with ReplayServer("binance", [session], speed=SPEED, loop=True, shift=shift, pause_s=0.4) as server:
        spans = server.tracks[0].recording.spans
        follower = Follower(server, SYMBOLS)
        async with http(server) as rest:
            for lap in range(4):
                await follower.lap(rest)
                for symbol, book in follower.books.items():
                    assert book.gaps == 0
                    assert book.last is not None
                    recorded = book.last - lap * spans[f"{symbol} book"].length
                    assert book.top(100) == tops[symbol][recorded]
                for name, numbers in ids(follower.rows).items():
                    assert numbers == sorted(numbers)
                    assert numbers[0] > last.get(name, 0)
                    last[name] = numbers[-1]
        assert server.tracks[0].lap.number == 4


async def test_nothing_is_missed_by_who_comes_back_within_the_pause(tmp_path: Path) -> None:
    session = cut(SECOND, tmp_path / "short", 20)
    wanted = [row["data"] for row in payloads(session) if row["stream"] == "dentusdt@aggTrade"]
    got: list[list[Any]] = []
    async with ReplayServer("binance", [session], speed=SPEED, loop=True, pause_s=1.5) as server:
        for _ in range(3):
            async with await subscribe(server, "dentusdt@aggTrade") as socket:
                got.append([row["data"] for row in await until_closed(socket)])
    assert got[0] == wanted
    assert [row["a"] for rows in got for row in rows] == list(
        range(wanted[0]["a"], wanted[0]["a"] + 3 * len(wanted))
    ), "trade numbers go on without a hole"
    for rows in got:
        assert [(row["p"], row["q"], row["m"]) for row in rows] == [(row["p"], row["q"], row["m"]) for row in wanted]
        fills = [(row["f"], row["l"]) for row in rows]
        assert all(last + 1 == first for (_, last), (first, _) in pairwise(fills))
    assert got[1][0]["f"] == got[0][-1]["l"] + 1


async def test_book_updates_leave_a_hole_between_laps(tmp_path: Path) -> None:
    session = cut(FIRST, tmp_path / "short", 10)
    books = []
    async with ReplayServer("binance", [session], speed=SPEED, loop=True, pause_s=0.4) as server:
        for _ in range(2):
            async with await subscribe(server, "btcusdt@depth@100ms") as socket:
                books.append(await until_closed(socket))
    assert books[1][0]["data"]["U"] > books[0][-1]["data"]["u"] + 1


async def test_a_snapshot_of_the_last_lap_never_fits_the_next(tmp_path: Path) -> None:
    session = cut(FIRST, tmp_path / "short", 10)
    numbers = [row["data"]["u"] for row in payloads(session) if row["stream"] == "btcusdt@depth@100ms"]
    late = numbers[len(numbers) * 2 // 3]
    async with ReplayServer("binance", [session], speed=4, loop=True, pause_s=0.4) as server, http(server) as rest:
        async with await subscribe(server, "btcusdt@depth@100ms") as socket:
            while json.loads(await socket.recv())["data"]["u"] != late:
                pass
            old = await rest.json("/api/v3/depth?symbol=BTCUSDT&limit=1000")
            await until_closed(socket)
        async with await subscribe(server, "btcusdt@depth@100ms") as socket:
            book = NaiveBook()
            book.diff(json.loads(await socket.recv())["data"])
            assert not book.load(old)


async def test_a_wrap_closes_only_the_sockets_of_its_streams(tmp_path: Path) -> None:
    sessions = [cut(FIRST, tmp_path / "first", 8), cut(SECOND, tmp_path / "second", 100)]
    async with ReplayServer("binance", sessions, speed=SPEED, loop=True, pause_s=0.4) as server:
        async with (
            await subscribe(server, "zilusdt@bookTicker") as other,
            await subscribe(server, "btcusdt@aggTrade") as own,
        ):
            await until_closed(own)
            assert server.tracks[0].lap.number == 1 and server.tracks[1].lap.number == 0
            await other.recv()


async def test_shifted_times_are_the_present(tmp_path: Path) -> None:
    session = cut(FIRST, tmp_path / "short", 12)
    for speed in (1.0, 10.0):
        async with ReplayServer("binance", [session], speed=speed, shift=True) as server:
            now = time.time() * 1000
            async with await subscribe(server, "btcusdt@depth@100ms", "btcusdt@aggTrade") as socket:
                first = json.loads(await socket.recv())["data"]
                assert abs(first["E"] - now) < LATE_MS
                for _ in range(15):
                    data = json.loads(await socket.recv())["data"]
                    # Never ahead of the clock, and behind it by no more than the recorder was and this machine is.
                    assert -LATE_MS < data["E"] - time.time() * 1000 < 2
                    assert data.get("T", 0) <= data["E"]


async def test_rewritten_payloads_keep_everything_else(tmp_path: Path) -> None:
    session = cut(FIRST, tmp_path / "short", 6)
    names = {row["stream"] for row in payloads(session) if "kline" not in row["stream"]}
    wanted = [row for row in payloads(session) if row["stream"] in names]
    moved = {"E", "T", "a", "f", "l", "U", "u"}

    def rest(row: Json) -> Json:
        numbers = {key for key, value in row["data"].items() if key in moved and isinstance(value, int)}
        return {key: value for key, value in row["data"].items() if key not in numbers}

    async with ReplayServer("binance", [session], speed=SPEED, shift=True) as server:
        async with await subscribe(server, *names) as socket:
            got = [json.loads(await socket.recv()) for _ in wanted]
    assert [rest(row) for row in got] == [rest(row) for row in wanted]
    # In the first lap ids stay; only times move.
    assert ids(got)["btcusdt@aggTrade a"] == ids(wanted)["btcusdt@aggTrade a"]
    assert ids(got)["btcusdt@aggTrade E"] != ids(wanted)["btcusdt@aggTrade E"]


@pytest.mark.parametrize("loop", [False, True])
async def test_depth_fits_the_stream_at_any_moment(tmp_path: Path, loop: bool) -> None:
    """A snapshot taken whenever, and the diffs after it, make the recorded book."""
    symbols = ("BTCUSDT", "ETHUSDT", "DOTUSDT")
    session = cut(FIRST, tmp_path / "short", 30)
    tops = {symbol: recorded_books(session, symbol, 100) for symbol in symbols}
    streams = {f"{symbol.lower()}@depth@100ms" for symbol in symbols}
    total = sum(row["stream"] in streams for row in payloads(session))
    books: dict[str, list[NaiveBook]] = {symbol: [] for symbol in symbols}
    async with ReplayServer("binance", [session], speed=15, loop=loop, shift=loop) as server, http(server) as rest:
        async with connect(server.ws_url + "/ws/" + "/".join(f"{s.lower()}@depth@100ms" for s in symbols)) as socket:
            count = 0
            with suppress(TimeoutError):
                while True:
                    async with asyncio.timeout(10):
                        frame = await socket.recv()
                    diff = json.loads(frame)
                    symbol = diff["s"]
                    count += 1
                    if count % 10 == 1:
                        books[symbol].append(NaiveBook())
                    for book in books[symbol]:
                        book.diff(diff)
                    if count % 10 == 1:
                        body = await rest.json(f"/api/v3/depth?symbol={symbol}&limit=1000")
                        assert len(body["bids"]) >= 500 and len(body["asks"]) >= 500
                        books[symbol][-1].load(body)
                    if count > 0.9 * total:
                        break
    assert sum(map(len, books.values())) > 40
    for symbol, all_books in books.items():
        for book in all_books:
            assert book.gaps == 0
            assert book.last is not None
            if book.last in tops[symbol]:
                assert book.top(100) == tops[symbol][book.last]
    assert any(book.last in tops["BTCUSDT"] for book in books["BTCUSDT"])


async def test_depth_is_the_recorded_body_until_the_stream_has_passed_it(tmp_path: Path) -> None:
    session = cut(FIRST, tmp_path / "short", 30)
    recorded = (session / "rest_depth_BTCUSDT_limit1000.json").read_bytes()
    async with ReplayServer("binance", [session], speed=10) as server, http(server) as rest:
        async with rest.session.get("/api/v3/depth?symbol=BTCUSDT&limit=1000") as response:
            assert await response.read() == recorded
        async with rest.session.get("/api/v1/depth?symbol=BTCUSDT&limit=5000") as response:
            assert await response.read() == recorded
        few = await rest.json("/api/v3/depth?symbol=BTCUSDT&limit=5")
        whole = snapshot(session, "BTCUSDT")
        assert few == {**whole, "bids": whole["bids"][:5], "asks": whole["asks"][:5]}
        async with await subscribe(server, "btcusdt@depth@100ms"):
            later = whole
            async with asyncio.timeout(30):
                while later["lastUpdateId"] == whole["lastUpdateId"]:
                    await asyncio.sleep(0.1)
                    later = await rest.json("/api/v3/depth?symbol=BTCUSDT")
        assert later["lastUpdateId"] > whole["lastUpdateId"]
        assert len(later["bids"]) == len(later["asks"]) == 100
