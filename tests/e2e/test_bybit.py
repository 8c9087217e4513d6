"""Bybit end to end: one symbol of two categories over two sockets, the unchanged feed, a real Redis."""

from pathlib import Path
from typing import Any

import msgspec

from tests.e2e.recorded import log_of, newest
from tests.e2e.stack import Stack, until
from tests.feeds.venues.plays import Follower, Row, lines, write
from tests.feeds.venues.test_bybit import LISTS, made, naive_books

SYMBOLS = {"spot": "BTC-USDT", "linear": "BTC-USDT-PERP"}
LISTING = "https://api.bybit.com/v5/market/instruments-info?category="


def session(folder: Path, category: str, count: int) -> tuple[Path, list[Row]]:
    """Write a session of one category, twenty frames a second, and return it with its lines."""
    rows = lines(*made(count))
    for number, row in enumerate(rows):
        row["t"] = rows[0]["t"] + number / 20
    opened = {"t": rows[0]["t"], "raw": f"wss://stream.bybit.com/v5/public/{category}", "dir": "open"}
    bodies = [(LISTING + name, body) for name, body in zip(("spot", "linear", "inverse"), LISTS, strict=True)]
    return write(folder / category, [opened, *rows], bodies), rows


async def test_two_categories_from_the_venue_to_redis(tmp_path: Path, redis_url: str) -> None:
    sessions = {category: session(tmp_path, category, 50 + 10 * n) for n, category in enumerate(SYMBOLS)}
    paths = [path for path, _ in sessions.values()]
    async with Stack(tmp_path, redis_url, paths, list(SYMBOLS.values()), venue="bybit") as hub:
        await hub.venue(speed=4)
        feed = await hub.feed()
        for category, symbol in SYMBOLS.items():
            rows = sessions[category][1]
            trades = [item["i"] for row in rows for item in _trades(row)]
            bids, asks = naive_books(rows)["BTCUSDT"][-1]

            async def ended(symbol: str = symbol, trades: list[str] = trades, sides: Any = (bids, asks)) -> bool:
                follower = Follower()
                for message in await log_of(hub.redis, f"book:bybit:{symbol}"):
                    follower.take(message)
                found = [{float(p): float(s) for p, s in side.items()} for side in (follower.bids, follower.asks)]
                told = [row["trade_id"] for row in await log_of(hub.redis, f"trade:bybit:{symbol}")]
                # The second socket may subscribe when the first has started the recordings.
                same = found == [{float(p): float(s) for p, s in side.items()} for side in sides]
                return same and bool(told) and told == trades[-len(told) :]

            await until(ended, f"trades and book of {symbol} are the recorded ones", 90)
            quote = await newest(hub.redis, f"quote:bybit:{symbol}")
            assert (quote["bid"], quote["ask"]) == (99.99, 100.01)
            status = await newest(hub.redis, f"status:bybit:{symbol}")
            assert (status["state"], status["reason"]) == ("live", "book rebuilt")
        value: Any = await hub.redis.get("md:feed:bybit")
        connections = msgspec.json.decode(value)["connections"]
        assert sorted(entry["url"].rpartition("/")[2] for entry in connections) == ["linear", "spot"]
        assert all(entry["acked"] == entry["requested"] and not entry["refused"] for entry in connections)
        assert "connection lost" not in feed.logged()


def _trades(row: Row) -> list[Row]:
    frame = msgspec.json.decode(row["raw"])
    return frame["data"] if frame["topic"].startswith("publicTrade") else []
