"""The unchanged feed process against recorded sessions on real sockets: what ends up in a real Redis."""

import asyncio
import base64
import gzip
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
from redis.asyncio import Redis

from feeds.dialects.books import RecordedBook, RecordedSnapshot
from tests.e2e.recorded import log_of, newest, normalized, substance
from tests.e2e.stack import DEMO, EXCHANGE_INFO, Stack, until

SESSION = DEMO / "cryptofeed_2021-04-04"
SYMBOLS = ["BTC-USDT", "ETH-USDT", "DOT-USDT"]
INFO = EXCHANGE_INFO


def stack(tmp_path: Path, redis_url: str, session: Path = SESSION) -> Stack:
    return Stack(tmp_path, redis_url, [session], SYMBOLS)


async def test_logs_of_a_feed_equal_normalize(tmp_path: Path, redis_url: str) -> None:
    expected = await normalized(SESSION, INFO)
    async with stack(tmp_path, redis_url) as hub:
        await hub.venue(speed=20)
        await hub.feed()
        last = {(m["type"], m["symbol"]): substance(m) for m in expected if m["type"] in {"trade", "book"}}

        async def ended() -> bool:
            logs = [await log_of(hub.redis, f"{kind}:binance:{symbol}") for kind, symbol in last]
            return [substance(log[-1]) for log in logs if log] == list(last.values())

        await until(ended, "the last trade and book message of every symbol is in its log", 90)
        for kind, symbol in last:
            log = await log_of(hub.redis, f"{kind}:binance:{symbol}")
            wanted = [m for m in expected if m["type"] == kind and m["symbol"] == symbol]
            if kind == "trade" or substance(log[0]) == substance(wanted[0]):
                assert [substance(m) for m in log] == [substance(m) for m in wanted]
            else:  # on a busy machine its snapshot is asked for later than the recorded one was
                assert inner(followed(log)) == inner(followed(wanted))
            if kind == "trade":
                assert [m["ts_event"] for m in log] == [m["ts_event"] for m in wanted]
            epochs = {m["id"].split("-")[0] for m in log}
            assert len(epochs) == 1
            assert [int(m["id"].split("-")[1]) for m in log] == list(range(1, len(log) + 1))


def without_one_diff(target: Path, symbol: str, *, later_snapshot: bool) -> None:
    """Copy the session without one book message of `symbol` from its middle.

    With `later_snapshot` the venue has a REST book again that is twenty messages younger.
    """
    shutil.copytree(SESSION, target)
    with gzip.open(SESSION / "ws.jsonl.gz", "rb") as file:
        lines = file.read().splitlines(keepends=True)
    diffs = [at for at, line in enumerate(lines) if symbol.encode() in line and b"depthUpdate" in line]
    middle = len(diffs) // 2
    if later_snapshot:
        book = RecordedBook({5, 10, 20, 50, 100, 500, 1000, 5000})
        recorded = msgspec.json.decode((SESSION / f"rest_depth_{symbol}_limit1000.json").read_bytes())
        book.add(RecordedSnapshot(recorded["lastUpdateId"], recorded["bids"], recorded["asks"], 1000, b""))
        for at in diffs[: middle + 20]:
            data = msgspec.json.decode(msgspec.json.decode(lines[at])["raw"])["data"]
            book.apply(data["U"], data["u"], data["b"], data["a"])
        now = book.current(1000)
        assert now is not None
        body = {"lastUpdateId": now.last, "bids": now.bids, "asks": now.asks}
        (target / "later.json").write_bytes(msgspec.json.encode(body))
        row = {
            "t": msgspec.json.decode(lines[diffs[middle + 20]])["t"],
            "url": f"/api/v3/depth?symbol={symbol}&limit=1000",
        }
        with (target / "rest_index.jsonl").open("ab") as index:
            index.write(msgspec.json.encode({**row, "file": "later.json"}) + b"\n")
    del lines[diffs[middle]]
    with gzip.open(target / "ws.jsonl.gz", "wb") as file:
        file.writelines(lines)


NOISE: list[dict[str, Any]] = [
    {"raw": "not json"},
    {"raw": '{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","a":1'},
    {"raw": '{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","a":"x","p":[],"q":null,"f":1,"l":1,"T":1,"m":0}}'},
    {"raw": '{"stream":"btcusdt@depth@100ms","data":{"E":1,"U":1,"u":1,"b":[["nan","1"]],"a":[["1","-1"]]}}'},
    {"raw": '{"stream":"nosuchthing@aggTrade","data":{"e":"aggTrade","s":"NOSUCHTHING","a":1}}'},
    {"raw": "[" * 100_000},
    {"raw": '{"e":"' + "x" * 10_000_000 + '"}'},
    {"b64": base64.b64encode(bytes(range(256)) * 10).decode()},
]


def with_noise(target: Path) -> None:
    """Copy the session with garbage between its frames."""
    shutil.copytree(SESSION, target)
    with gzip.open(SESSION / "ws.jsonl.gz", "rb") as file:
        lines = file.read().splitlines(keepends=True)
    for at, noise in enumerate(NOISE * 2):
        index = (at + 1) * len(lines) // (2 * len(NOISE) + 1)
        row = {"t": msgspec.json.decode(lines[index])["t"], **noise}
        lines.insert(index, msgspec.json.encode(row) + b"\n")
    with gzip.open(target / "ws.jsonl.gz", "wb") as file:
        file.writelines(lines)


async def test_garbage_between_the_frames_costs_nothing_else(tmp_path: Path, redis_url: str) -> None:
    with_noise(tmp_path / "session")
    recorded = await normalized(SESSION, INFO)
    async with stack(tmp_path, redis_url, tmp_path / "session") as hub:
        await hub.venue(speed=20)
        feed = await hub.feed()
        for symbol in SYMBOLS:
            wanted = [m["trade_id"] for m in recorded if m["type"] == "trade" and m["symbol"] == symbol]
            expected = inner(followed([m for m in recorded if m["type"] == "book" and m["symbol"] == symbol]))

            async def whole(
                symbol: str = symbol, wanted: list[str] = wanted, expected: list[list[tuple[float, float]]] = expected
            ) -> bool:
                trades = [m["trade_id"] for m in await log_of(hub.redis, f"trade:binance:{symbol}")]
                return (
                    trades == wanted and inner(followed(await log_of(hub.redis, f"book:binance:{symbol}"))) == expected
                )

            await until(whole, f"{symbol}: all trades, and the whole book", 90)
            statuses = await log_of(hub.redis, f"status:binance:{symbol}")
            assert [m["state"] for m in statuses] == ["resyncing", "live"]
        assert feed.process is not None and feed.process.returncode is None
        report = await newest(hub.redis, "feed:binance")
        assert report["counters"]["wire_errors"] >= len(NOISE)


class Listener:
    """Hears book, depth, quote, trade and status of all symbols over pub/sub, in order."""

    def __init__(self, redis: Redis) -> None:
        self.heard: list[dict[str, Any]] = []
        self._pubsub = redis.pubsub()

    async def __aenter__(self) -> Self:
        kinds = ("book", "depth", "quote", "trade", "status")
        await self._pubsub.subscribe(*(f"md:{kind}:binance:{symbol}" for kind in kinds for symbol in SYMBOLS))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pubsub.aclose()  # type: ignore[no-untyped-call]

    async def hear_until(self, condition: Callable[[], bool], timeout_s: float = 90) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                message = await self._pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
                if message is not None:
                    self.heard.append(msgspec.json.decode(message["data"]))

    @property
    def gaps(self) -> list[int]:
        return [at for at, m in enumerate(self.heard) if m["type"] == "status" and "sequence gap" in m["reason"]]

    def after_gap(self, symbol: str, *kinds: str) -> list[dict[str, Any]]:
        if not self.gaps:
            return []
        return [m for m in self.heard[self.gaps[0] + 1 :] if m["symbol"] == symbol and m["type"] in kinds]


async def test_a_lost_book_message_takes_one_book_away(tmp_path: Path, redis_url: str) -> None:
    without_one_diff(tmp_path / "session", "ETHUSDT", later_snapshot=False)
    async with stack(tmp_path, redis_url, tmp_path / "session") as hub, Listener(hub.redis) as listener:
        await hub.venue(speed=10)
        await hub.feed()
        await listener.hear_until(lambda: len(listener.after_gap("BTC-USDT", "book")) > 100)
        status = listener.heard[listener.gaps[0]]
        assert (status["symbol"], status["state"]) == ("ETH-USDT", "resyncing")
        assert len(listener.gaps) == 1
        assert not await hub.redis.exists(*(f"md:{kind}:binance:ETH-USDT" for kind in ("book", "depth", "quote")))
        assert listener.after_gap("ETH-USDT", "book", "depth", "quote") == []
        assert listener.after_gap("ETH-USDT", "trade")
        for symbol in ("BTC-USDT", "DOT-USDT"):
            assert listener.after_gap(symbol, "quote") and listener.after_gap(symbol, "depth")
            assert await hub.redis.exists(*(f"md:{kind}:binance:{symbol}" for kind in ("book", "depth", "quote"))) == 3


async def test_a_lost_book_is_rebuilt_from_a_newer_snapshot(tmp_path: Path, redis_url: str) -> None:
    without_one_diff(tmp_path / "session", "ETHUSDT", later_snapshot=True)
    expected = followed(
        [m for m in await normalized(SESSION, INFO) if m["type"] == "book" and m["symbol"] == "ETH-USDT"]
    )
    async with stack(tmp_path, redis_url, tmp_path / "session") as hub, Listener(hub.redis) as listener:
        await hub.venue(speed=10)
        await hub.feed()
        await listener.hear_until(lambda: len(listener.after_gap("ETH-USDT", "book")) > 100)
        after = listener.after_gap("ETH-USDT", "book", "depth", "quote", "status")
        assert (after[0]["type"], after[0]["action"]) == ("book", "snapshot")
        live = next(m for m in after if m["type"] == "status")
        assert (live["state"], live["reason"]) == ("live", "book rebuilt")

        async def same() -> bool:
            log = await log_of(hub.redis, "book:binance:ETH-USDT")
            return inner(followed(log)) == inner(expected)

        await until(same, "the book is the one of the session without a hole", 90)


def followed(messages: list[dict[str, Any]]) -> dict[str, dict[float, float]]:
    """Return the levels that somebody has who applied `messages`."""
    sides: dict[str, dict[float, float]] = {"bids": {}, "asks": {}}
    for message in messages:
        for side, levels in sides.items():
            if message["action"] == "snapshot":
                levels.clear()
            for price, size in message[side]:
                levels[price] = size
                if size == 0:
                    del levels[price]
    return sides


def inner(sides: dict[str, dict[float, float]]) -> list[list[tuple[float, float]]]:
    """Return the 400 best levels a side: well inside what either snapshot guarantees."""
    bids, asks = sorted(sides["bids"].items(), reverse=True), sorted(sides["asks"].items())
    return [bids[:400], asks[:400]]


async def test_a_second_feed_refuses_and_names_the_holder(tmp_path: Path, redis_url: str) -> None:
    async with stack(tmp_path, redis_url) as hub:
        await hub.venue()
        first = await hub.feed()
        second = await hub.feed(wait=False)
        assert second.process is not None and first.process is not None
        assert await asyncio.wait_for(second.process.wait(), 60) == 4
        assert f"pid {first.process.pid}" in second.logged()
        assert first.process.returncode is None


async def test_a_killed_feed_has_no_pulse_and_comes_back_in_a_new_epoch(tmp_path: Path, redis_url: str) -> None:
    async with stack(tmp_path, redis_url) as hub:
        await hub.venue()
        feed = await hub.feed()
        epoch = await hub.epoch()
        await feed.end(signal.SIGKILL)
        assert await hub.redis.pttl("md:alive:binance") <= 3000, "and no longer than this after its death"

        async def gone() -> bool:
            return not await hub.redis.exists("md:alive:binance")

        await until(gone, "the pulse is gone")
        await hub.feed(wait=False)

        async def back() -> bool:
            book = await newest(hub.redis, "book:binance:BTC-USDT")
            return await hub.epoch() > epoch and bool(book) and int(book["id"].partition("-")[0]) > epoch

        await until(back, "a new epoch with new books", 90)


async def test_a_stopped_feed_flushes_says_down_and_frees_the_venue(tmp_path: Path, redis_url: str) -> None:
    async with stack(tmp_path, redis_url) as hub:
        await hub.venue()
        feed = await hub.feed()
        assert await feed.end(signal.SIGINT) == 0
        status = await newest(hub.redis, "status:binance:*")
        assert (status["state"], status["reason"]) == ("down", "the feed was stopped")
        assert not await hub.redis.exists("md:lease:binance", "md:alive:binance")


async def test_a_venue_that_goes_away_is_said_and_survived(tmp_path: Path, redis_url: str) -> None:
    async with stack(tmp_path, redis_url) as hub:
        venue = await hub.venue("--loop")
        await hub.feed()
        await venue.end(signal.SIGKILL)

        async def labelled() -> bool:
            status = await newest(hub.redis, "status:binance:*")
            return status["state"] == "down" and not await hub.redis.exists(
                "md:book:binance:BTC-USDT", "md:depth:binance:BTC-USDT", "md:quote:binance:BTC-USDT"
            )

        await until(labelled, "the venue is down and nothing of its books is served")
        await venue.start()
        await until(hub.books_live, "books are back", 90)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "redis://:not-the-password@{address}/0"])
async def test_a_redis_that_cannot_be_used_is_a_clear_error(tmp_path: Path, redis_url: str, url: str) -> None:
    address = redis_url.removeprefix("redis://").partition("/")[0]
    async with Redis.from_url(redis_url) as admin:
        await admin.config_set("requirepass", "secret-of-the-test")
        try:
            async with stack(tmp_path, url.format(address=address)) as hub:
                feed = await hub.feed(wait=False)
                assert feed.process is not None
                assert await asyncio.wait_for(feed.process.wait(), 60) == 3
                assert "cannot be used" in feed.logged()
                assert "not-the-password" not in feed.logged()
        finally:
            await admin.config_set("requirepass", "")
