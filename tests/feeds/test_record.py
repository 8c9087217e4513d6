"""Recording from a venue server over real sockets; what was recorded prints the same messages as the original."""

import asyncio
import gzip
import io
import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from feeds.normalize import Normalizer
from feeds.record import record
from feeds.registry import adapter_of
from feeds.replay import ReplayServer
from feeds.session import Session, SessionWriter
from hub.config import Settings
from hub.errors import FetchError, SessionError, UnknownInstrument
from tests.feeds.replaying import FIRST, LISTING, ROOT, SECOND, Json, cut

TRADE_FIELDS = ("trade_id", "price", "size", "side", "ts_event", "count")
SYMBOLS = ("BTC-USDT", "DOT-USDT", "ETH-USDT")


async def record_from(server: ReplayServer, symbols: Iterable[str], out: Path, seconds: float) -> Session:
    await record("binance", list(symbols), str(out), Settings(), server.ws_url, server.rest_url, seconds)
    return Session(out)


async def record_whole(server: ReplayServer, symbols: Iterable[str], out: Path) -> Session:
    """Record until the server has played everything, however long that takes here."""
    recording = asyncio.create_task(
        record("binance", list(symbols), str(out), Settings(), server.ws_url, server.rest_url, None)
    )
    await asyncio.wait({recording, asyncio.create_task(server.finished())}, return_when=asyncio.FIRST_COMPLETED)
    size = -1
    while size != (size := sum(file.stat().st_size for file in out.iterdir())):
        await asyncio.sleep(2.0)  # the recorder flushes once a second
    recording.cancel()
    await asyncio.gather(recording, return_exceptions=True)
    return Session(out)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


def normalized(session: Session, instruments: Path | None = None) -> list[Json]:
    output = io.BytesIO()
    listing = gzip.decompress(instruments.read_bytes()) if instruments else None
    Normalizer(adapter_of("binance"), session, output, listing).run()
    return [json.loads(line) for line in output.getvalue().splitlines()]


def trades(rows: list[Json]) -> dict[str, list[Any]]:
    found = defaultdict(list)
    for row in rows:
        if row["type"] == "trade":
            found[row["symbol"]].append(
                [row[key] for key in ("trade_id", "price", "size", "side", "ts_event", "count")]
            )
    return found


def books(rows: list[Json], depth: int) -> dict[str, dict[int, Any]]:
    """Return the top of each book after each message, by symbol and venue time: naively rebuilt."""
    sides: dict[str, tuple[dict[float, float], dict[float, float]]] = {}
    found: dict[str, dict[int, Any]] = defaultdict(dict)
    for row in rows:
        if row["type"] != "book":
            continue
        if row["action"] == "snapshot":
            sides[row["symbol"]] = ({}, {})
        bids, asks = sides[row["symbol"]]
        for side, levels in ((bids, row["bids"]), (asks, row["asks"])):
            for price, size in levels:
                side.pop(price, None)
                if size:
                    side[price] = size
        top = sorted(bids.items(), reverse=True)[:depth], sorted(asks.items())[:depth]
        if row["ts_event"] is not None:
            found[row["symbol"]][row["ts_event"]] = top
    return found


@pytest.mark.parametrize(("original", "symbols"), [(FIRST, SYMBOLS), (SECOND, ("ZIL-USDT", "NEO-USDC", "DENT-USDT"))])
async def test_a_recorded_session_prints_the_messages_of_the_original(
    tmp_path: Path, original: Path, symbols: tuple[str, ...]
) -> None:
    async with ReplayServer("binance", [original], speed=25) as server:
        session = await record_whole(server, symbols, tmp_path / "recorded")
    again = [row for row in normalized(session) if row["symbol"] in symbols]
    first = [row for row in normalized(Session(original), LISTING) if row["symbol"] in symbols]
    assert trades(again) == trades(first)
    quotes = [[(r["symbol"], r["bid"], r["ask"]) for r in rows if r["type"] == "quote"] for rows in (again, first)]
    if original is SECOND:
        assert quotes[0] == quotes[1]
    ours, theirs = books(again, 50), books(first, 50)
    assert ours.keys() == theirs.keys() == set(symbols)
    for symbol in symbols:
        # The recorder's snapshot came at another moment than the original's, so the books begin at another diff.
        common = ours[symbol].keys() & theirs[symbol].keys()
        assert len(common) > 0.9 * len(theirs[symbol])
        assert all(ours[symbol][ts] == theirs[symbol][ts] for ts in common)
    assert not [row for row in again if row["type"] == "status" and row["state"] != "live"]


async def test_what_a_session_holds(tmp_path: Path) -> None:
    async with ReplayServer("binance", [FIRST], speed=25) as server:
        session = await record_from(server, ["BTC-USDT"], tmp_path / "recorded", 3.0)
        frames = list(session.frames())
        resources = [adapter_of("binance").resource_of(body.url) for body in session.bodies]
        assert (frames[0].direction, frames[0].payload) == ("open", f"{server.ws_url}/stream".encode())
    assert frames[1].direction == "out" and json.loads(frames[1].payload)["method"] == "SUBSCRIBE"
    assert {frame.direction for frame in frames[2:]} == {"in"}
    times = [frame.ts for frame in frames]
    assert None not in times and times == sorted(times, key=lambda ts: ts or 0)
    assert resources[:2] == [("exchangeInfo", ""), ("depth", "BTCUSDT")]
    assert all(body.ts is not None and body.read() for body in session.bodies)


async def test_of_several_connections_each_frame_says_its_own(tmp_path: Path) -> None:
    """Bybit's frames, for one, do not say whether they are of spot or of contracts."""
    original = ROOT / "tests" / "data" / "sessions" / "binance_futures" / "cryptofeed_2021-07-22"
    async with ReplayServer("binance_futures", [original], speed=10) as server:
        out, symbols = tmp_path / "recorded", ["SUSHI-USDT-PERP"]
        await record("binance_futures", symbols, str(out), Settings(), server.ws_url, server.rest_url, 5.0)
    frames = list(Session(out).frames())
    opened = [frame.payload.decode() for frame in frames if frame.direction == "open"]
    assert len(opened) == 2
    kinds: dict[int | None, set[str]] = defaultdict(set)
    for frame in frames:
        if frame.direction == "in" and b'"e":' in frame.payload:
            kinds[frame.on].add(json.loads(frame.payload)["data"]["e"])
    public, market = (next(n for n, name in enumerate(opened) if part in name) for part in ("/public", "/market"))
    assert kinds.keys() == {0, 1}
    assert "depthUpdate" in kinds[public] and "aggTrade" in kinds[market] and "aggTrade" not in kinds[public]


async def test_a_closed_connection_is_opened_again(tmp_path: Path) -> None:
    out = tmp_path / "recorded"
    index = out / "rest_index.jsonl"

    def snapshots_asked() -> int:
        return index.read_text().count("/depth?") if index.exists() else 0

    async with ReplayServer("binance", [FIRST], speed=5) as server:
        track = server.tracks[0]

        async def book_after(asked: int) -> None:
            """Wait until the snapshot was recorded, and some changes after it."""
            await until(lambda: snapshots_asked() == asked)
            enough = track.position + 200
            await until(lambda: track.position > enough)

        recording = asyncio.create_task(record_from(server, ["BTC-USDT"], out, 100.0))
        await book_after(1)
        server.limit(429, 1)
        server.disconnect()
        await book_after(2)
        recording.cancel()
        await asyncio.gather(recording, return_exceptions=True)
    session = Session(out)
    opened = [frame for frame in session.frames() if frame.direction == "open"]
    assert len(opened) == 2
    rows = normalized(session)
    snapshots = [row for row in rows if row["type"] == "book" and row["action"] == "snapshot"]
    assert len(snapshots) == 2, "the book is rebuilt after the second opening, from the second body"


async def test_laps_are_recorded_as_one_stream(tmp_path: Path) -> None:
    short = cut(SECOND, tmp_path / "short", 20)
    async with ReplayServer(
        "binance", [short], speed=20, loop=True, shift=True, pause_s=2.0, instruments=LISTING
    ) as server:
        recording = asyncio.create_task(record_from(server, ["DENT-USDT"], tmp_path / "recorded", 100.0))
        await until(lambda: server.tracks[0].lap.number == 2)
        laps = 2
        recording.cancel()
        await asyncio.gather(recording, return_exceptions=True)
    session = Session(tmp_path / "recorded")
    rows = normalized(session)
    numbers = [int(row["trade_id"]) for row in rows if row["type"] == "trade"]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert len([row for row in rows if row["type"] == "book" and row["action"] == "snapshot"]) >= laps


async def test_what_cannot_begin_says_why(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    async with ReplayServer("binance", [FIRST]) as server:
        with pytest.raises(UnknownInstrument, match="BTC-USDT"):
            await record_from(server, ["BTC-USDTT"], tmp_path / "new", 1)
        with pytest.raises(SessionError, match="not empty"):
            await record_from(server, ["BTC-USDT"], full, 1)
    with pytest.raises(FetchError):
        await record_from(server, ["BTC-USDT"], tmp_path / "new", 1)
    assert not (tmp_path / "new").exists()


async def test_ctrl_c_leaves_a_whole_session(tmp_path: Path) -> None:
    out = tmp_path / "recorded"
    async with ReplayServer("binance", [FIRST], speed=5) as server:
        command = [sys.executable, "-m", "feeds.record", "binance", "--symbols", "BTC-USDT,ETH-USDT", "--out", str(out)]
        urls = ["--ws-url", server.ws_url, "--rest-url", server.rest_url]
        process = await asyncio.create_subprocess_exec(
            *command, *urls, cwd=ROOT, env=os.environ | {"TICKWIRE_LOG__FORMAT": "human"}, stderr=subprocess.PIPE
        )
        while server.tracks[0].position < 1000:
            await asyncio.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
    assert process.returncode == 0, errors
    assert b"session written" in errors
    session = Session(out)
    assert len(list(session.frames())) > 100
    assert {row["symbol"] for row in normalized(session) if row["type"] == "trade"} == {"BTC-USDT", "ETH-USDT"}


def test_binary_frames_are_kept(tmp_path: Path) -> None:
    writer = SessionWriter(tmp_path / "session")
    writer.frame(1_000_000_000, b'{"a":1}')
    writer.frame(2_000_000_000, b"\xff\xfe")
    writer.flush()
    writer.close()
    frames = list(Session(tmp_path / "session").frames())
    assert [(frame.ts, frame.payload, frame.binary) for frame in frames] == [
        (1_000_000_000, b'{"a":1}', False),
        (2_000_000_000, b"\xff\xfe", True),
    ]
