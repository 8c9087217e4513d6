"""feeds/backfill.py: days of candles over real HTTP into a real Redis, killed and resumed, twice with one result."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from feeds import filling
from feeds.backfill import backfill, order, span
from feeds.filling import Tally, add_range, pages
from hub.config import Settings
from hub.errors import ConfigError, FetchError, RequestError, UnknownInstrument, WireError
from hub.history import Query, open_history
from hub.keys import Keys, channel_name
from tests.feeds.candle_venue import ROWS, CandleVenue, candle_venue, prices, too_many
from tests.ports import free_port

KEYS = Keys("md:")
ROOT = Path(__file__).resolve().parents[2]
FIELDS = ("open", "high", "low", "close", "volume")
NS = 1_000_000_000


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as made:
        for venue, row in ROWS.items():
            await made.hset(KEYS.instruments(venue), row.symbol, msgspec.json.encode(row))
        yield made


def settings_of(redis_url: str, venue: str, server: CandleVenue, **candles: Any) -> Settings:
    made = msgspec.convert({"redis": {"url": redis_url}, "venues": {venue: {"rest_url": server.url}}}, Settings)
    return msgspec.structs.replace(made, candles=msgspec.structs.replace(made.candles, **candles))


async def fill(settings: Settings, venue: str, since: str, until: str = "", notes: list[str] | None = None) -> Tally:
    wanted = order(settings, venue, "1m", since, until, time.time_ns())
    if notes is not None:
        notes += wanted.notes
    return await backfill(settings, ROWS[venue].symbol, wanted, (notes if notes is not None else []).append)


async def stored(client: Redis, venue: str) -> dict[int, dict[str, float]]:
    """Return minute -> field -> value of everything in history."""
    history = await open_history(client)
    name = channel_name("candle.1m", venue, ROWS[venue].symbol)
    rows: dict[int, dict[str, float]] = {}
    for field in (*FIELDS, "buy_volume", "trades"):
        (points,) = await history.read([Query(KEYS.series(name, field), "last")], 0, 1 << 45, 1_000_000)
        for ts, value in points:
            rows.setdefault(ts // 60_000, {})[field] = value
    return rows


def told(minute: int) -> dict[str, float]:
    return dict(zip(FIELDS, prices(minute), strict=True))


def these(row: Mapping[str, float]) -> dict[str, float]:
    return {field: row[field] for field in FIELDS}


@pytest.mark.parametrize(("venue", "since", "least", "requests"), [
    ("binance", "2d", 2870, 3), ("okx", "1d", 1430, 15), ("bybit", "2d", 2870, 3), ("kraken", "11h", 650, 1),
])  # fmt: skip
async def test_every_minute_is_stored_once_and_a_second_run_asks_nothing(
    redis_url: str, client: Redis, venue: str, since: str, least: int, requests: int
) -> None:
    """Pages by each venue's rule: oldest first, newest first between bounds, or the newest whatever is asked."""
    async with candle_venue() as server:
        settings = settings_of(redis_url, venue, server)
        tally = await fill(settings, venue, since)
        rows = await stored(client, venue)
        assert tally.stored == len(rows) >= least
        assert (tally.wanted, tally.missing, tally.refused) == (tally.stored, 0, 0)
        assert list(rows) == list(range(min(rows), max(rows) + 1))
        assert max(rows) >= int(time.time() // 60) - 3
        assert all(these(row) == told(minute) for minute, row in rows.items())
        assert requests <= server.requests <= requests + 1
        before = server.requests
        # What became old enough meanwhile is new; nothing else is asked for or changed.
        again = await fill(settings, venue, since)
        assert server.requests <= before + 1
        assert again.stored <= 2 and again.known >= least
        assert (await stored(client, venue)).items() >= {m: row for m, row in rows.items()}.items()
        assert await client.ttl(KEYS.series(channel_name("candle.1m", venue, ROWS[venue].symbol), "open")) > 0


async def test_old_candles_of_okx_come_from_where_it_keeps_them(redis_url: str, client: Redis) -> None:
    async with candle_venue() as server:
        tally = await fill(settings_of(redis_url, "okx", server), "okx", "3d", "2d")
        assert tally.stored == tally.wanted >= 1439
        assert all(these(row) == told(minute) for minute, row in (await stored(client, "okx")).items())


async def test_what_the_feed_stored_is_not_touched(redis_url: str, client: Redis) -> None:
    """Its candles have buys and sells; the venue's own often have not."""
    async with candle_venue() as server:
        minute = int(time.time() // 60) - 30
        name = channel_name("candle.1m", "kraken", "BTC-USD")
        for field in (*FIELDS, "buy_volume"):
            await client.ts().add(KEYS.series(name, field), minute * 60_000, 7.0)
        tally = await fill(settings_of(redis_url, "kraken", server), "kraken", "2h")
        rows = await stored(client, "kraken")
        assert rows.pop(minute) == dict.fromkeys((*FIELDS, "buy_volume"), 7.0)
        assert tally.known == 1 and tally.stored == len(rows) >= 117
        assert all("buy_volume" not in row for row in rows.values())


async def test_it_needs_no_lease_and_leaves_the_logs_alone(redis_url: str, client: Redis) -> None:
    await client.set(KEYS.lease("binance"), "somebody else")
    async with candle_venue() as server:
        await fill(settings_of(redis_url, "binance", server), "binance", "2h")
    assert await client.get(KEYS.lease("binance")) == b"somebody else"
    assert not await client.exists(KEYS.log("candle.1m:binance:BTC-USDT"), KEYS.newest("candle.1m:binance:BTC-USDT"))
    assert not await client.exists(KEYS.channels)


# minutes without trades


@pytest.mark.parametrize("omits", [False, True])
@pytest.mark.parametrize("empty", ["skip", "flat"])
async def test_minutes_without_trades_follow_the_setting(
    redis_url: str, client: Redis, omits: bool, empty: str
) -> None:
    """Whether the venue gives them as zeros or leaves them out, at the edges of pages too."""

    def quiet(minute: int) -> bool:
        return minute % 1000 > 980 or minute % 10 == 3

    async with candle_venue(quiet=quiet, omits=omits) as server:
        tally = await fill(settings_of(redis_url, "binance", server, empty=empty), "binance", "2d")
        rows = await stored(client, "binance")
        assert tally.stored == len(rows)
        traded = {minute: row for minute, row in rows.items() if not quiet(minute)}
        assert len(traded) > 2300 and all(these(row) == told(minute) for minute, row in traded.items())
        if empty == "skip":
            assert len(rows) == len(traded)
            return
        first = min(minute for minute in rows)
        last = max(traded)
        assert [minute for minute in range(first, last) if minute not in rows] == []
        for minute in range(first + 1, last):
            if quiet(minute) and omits:
                before = next(m for m in range(minute - 1, first - 1, -1) if not quiet(m))
                close = prices(before)[3]
                assert these(rows[minute]) == {
                    "open": close, "high": close, "low": close, "close": close, "volume": 0.0,
                }  # fmt: skip


# the venue's limits and moods


async def test_429_is_waited_for_and_said(redis_url: str, client: Redis) -> None:
    async with candle_venue() as server:
        server.answers[2] = too_many
        notes: list[str] = []
        tally = await fill(settings_of(redis_url, "binance", server), "binance", "2d", notes=notes)
        assert tally.stored == tally.wanted == len(await stored(client, "binance"))
        assert len(notes) == 1 and "429" in notes[0] and "waiting" in notes[0]
        assert server.requests == 4


async def test_a_venue_that_fails_now_and_then_is_asked_again(
    redis_url: str, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with candle_venue() as server:
        server.answers[1] = lambda: web.Response(status=502, text="bad gateway")
        tally = await fill(settings_of(redis_url, "bybit", server), "bybit", "3h")
        assert tally.stored == tally.wanted
        monkeypatch.setattr(filling, "TRIES", 2)
        server.answers |= dict.fromkeys(range(3, 9), server.answers[1])
        with pytest.raises(FetchError, match="502"):
            await fill(settings_of(redis_url, "bybit", server), "bybit", "6h")


async def test_an_answer_that_cannot_be_read_stops_it(redis_url: str, client: Redis) -> None:
    async with candle_venue() as server:
        server.answers[1] = lambda: web.Response(text='{"code":-1121,"msg":"Invalid symbol."}')
        with pytest.raises(WireError, match="klines"):
            await fill(settings_of(redis_url, "binance", server), "binance", "3h")


# interruption


class Command:
    """`tickwire backfill` as a process of its own."""

    def __init__(self, folder: Path, redis_url: str, venue: str, url: str) -> None:
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("TICKWIRE_")} | {
            "TICKWIRE_REDIS__URL": redis_url,
            f"TICKWIRE_VENUES__{venue.upper()}__REST_URL": url,
        }
        self.folder, self.venue = folder, venue

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hub.cli.main", "backfill", *arguments, cwd=ROOT,
            env=self.env | {"TICKWIRE_CONFIG": str(self.folder / "hub.toml")},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        process = await self.start(*arguments)
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hub.toml").write_text("")
    return tmp_path


@pytest.mark.parametrize(("venue", "since", "signum", "code"), [
    ("binance", "4d", signal.SIGKILL, -signal.SIGKILL), ("okx", "9h", signal.SIGINT, 130),
    ("bybit", "4d", signal.SIGTERM, -signal.SIGTERM),
])  # fmt: skip
async def test_it_goes_on_where_it_was_stopped(
    redis_url: str, client: Redis, folder: Path, venue: str, since: str, signum: signal.Signals, code: int
) -> None:
    """After three pages; minutes without trades, which are not stored, are not asked for again either."""
    async with candle_venue(quiet=lambda minute: minute % 50 == 7, omits=True) as server:
        command = Command(folder, redis_url, venue, server.url)
        server.stop_at = 4
        first = await command.start(venue, ROWS[venue].symbol, "--since", since, "--interval", "1m")
        await asyncio.wait_for(server.waiting.wait(), 60)
        before = await stored(client, venue)
        assert before
        first.send_signal(signum)
        _, err = await asyncio.wait_for(first.communicate(), 30)
        assert first.returncode == code
        assert signum != signal.SIGINT or b"goes on from here" in err
        server.stop_at = None
        asked, server.asked = server.asked[:3], []
        returned, out, err_text = await command.run(venue, ROWS[venue].symbol, "--since", since)
        assert (returned, err_text) == (0, "")
        assert out.startswith(f"{venue} {ROWS[venue].symbol} 1m: ") and f"{len(before)} were there" in out
        assert min(minute for minute, _ in server.asked) > max(last for _, last in asked[:2])
        rows = await stored(client, venue)
        assert rows.items() >= before.items()
        wanted = [minute for minute in range(min(rows), max(rows) + 1) if minute % 50 != 7]
        assert list(rows) == wanted and all(these(row) == told(minute) for minute, row in rows.items())


# what cannot be done


def test_orders(redis_url: str) -> None:
    settings, now = msgspec.convert({}, Settings), 1_800_000_000 * NS
    wanted = order(settings, "binance", "1m", "2d", "1d", now)
    assert (wanted.since, wanted.until) == (now - 2 * 86_400 * NS, now - 86_400 * NS)
    wanted = order(settings, "binance", "1m", "90d", "", now)
    assert wanted.since == now - 30 * 86_400 * NS and "43200 candles" in wanted.notes[0]
    wanted = order(settings, "kraken", "1m", "2d", "", now)
    assert (now - wanted.since) // (60 * NS) == 720 and "newest 720" in wanted.notes[0]
    for interval in ("1h", "10s", "7m", ""):
        with pytest.raises(RequestError, match="allowed for binance: 1m"):
            order(settings, "binance", interval, "2d", "", now)
    with pytest.raises(ConfigError, match=r"there is no venue 'nyse'; known: .*binance"):
        order(settings, "nyse", "1m", "2d", "", now)
    for since, until in (("2d", "3d"), ("1s", ""), ("2100-01-01", "")):
        with pytest.raises(RequestError, match="no whole candle"):
            order(settings, "binance", "1m", since, until, now)
    off = msgspec.convert({"history": {"enabled": False}}, Settings)
    with pytest.raises(ConfigError, match=r"history\.enabled"):
        order(off, "binance", "1m", "2d", "", now)


def test_times() -> None:
    assert span("2d", 10 * 86_400 * NS) == 8 * 86_400 * NS
    assert span("99d", 86_400 * NS) == 0
    assert span("2026-01-01T00:00:00Z", 0) == span("1767225600", 0) == span("1767225600000", 0) == 1_767_225_600 * NS
    for text in ("yesterday", "", "-3d", "5-7", "nan"):
        with pytest.raises(RequestError, match="time"):
            span(text, 0)


async def test_errors_have_exit_codes_and_say_what_is_allowed(redis_url: str, client: Redis, folder: Path) -> None:
    async with candle_venue() as server:
        command = Command(folder, redis_url, "binance", server.url)
        command.env["TICKWIRE_VENUES__ALPACA__ENABLED"] = "true"
        for arguments, code, text in (
            (("nyse", "BTC-USDT", "--since", "1d"), 2, "there is no venue 'nyse'; known: "),
            (("binance", "BTC-USDT", "--since", "1d", "--interval", "3m"), 8, "allowed for binance: 1m"),
            (("binance", "BTC-USDT", "--since", "soon"), 8, "'soon' is no time"),
            (("binance", "BTC-USDT"), 2, "--since"),
        ):
            returned, out, err = await command.run(*arguments)
            assert (returned, out) == (code, "") and text in err, err
            assert "Traceback" not in err
        assert server.requests == 0
        lost = Command(folder, f"redis://127.0.0.1:{free_port()}/0", "binance", server.url)
        returned, _, err = await lost.run("binance", "BTC-USDT", "--since", "1d")
        assert returned == 3 and "Redis at" in err and "Traceback" not in err
        server.answers[1] = lambda: web.Response(text="[1]")
        returned, _, err = await command.run("binance", "BTC-USDT", "--since", "1d")
        assert returned == 9 and "klines" in err and "Traceback" not in err


async def test_an_unknown_symbol_is_looked_for_at_the_venue(redis_url: str, client: Redis) -> None:
    listing = ROOT / "demo" / "binance" / "cryptofeed_2021-04-17" / "rest_exchangeInfo.json.gz"
    async with candle_venue() as server:
        body = listing.read_bytes()
        answer = lambda: web.Response(body=body, headers={"Content-Encoding": "gzip"})  # noqa: E731
        server.answers = {1: answer, 2: answer}
        settings = settings_of(redis_url, "binance", server)
        wanted = order(settings, "binance", "1m", "2h", "", time.time_ns())
        with pytest.raises(UnknownInstrument, match="BTC-USDT"):
            await backfill(settings, "BTC-USDX", wanted, print)
        tally = await backfill(settings, "ETH-BTC", wanted, print)
        assert tally.stored == tally.wanted


# parts


@given(st.integers(0, 5000), st.integers(1, 5000), st.integers(1, 700))
def test_pages_cover_everything_once(first: int, count: int, per_page: int) -> None:
    found = pages(first * 60, (first + count) * 60, 60, per_page)
    assert found[0].start == first * 60 and found[-1].end == (first + count) * 60
    assert all(one.end == other.start for one, other in pairwise(found))
    assert all(0 < (page.end - page.start) // 60 <= per_page for page in found)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=12))
def test_ranges_hold_what_was_added_and_nothing_else(parts: list[tuple[int, int]]) -> None:
    ranges: list[tuple[int, int]] = []
    for start, length in parts:
        ranges = add_range(ranges, start, start + length)
    assert {at for first, last in ranges for at in range(first, last)} == {
        at for start, length in parts for at in range(start, start + length)
    }
    assert all(one[1] < other[0] for one, other in pairwise(ranges))
