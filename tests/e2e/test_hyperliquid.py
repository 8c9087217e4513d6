"""Hyperliquid end to end: recorded snapshots and trades on a real socket, the unchanged feed, a real Redis."""

from pathlib import Path
from typing import Any

import msgspec

from tests.e2e.recorded import log_of, newest
from tests.e2e.stack import ROOT, Stack, until
from tests.feeds.venues.plays import play

VENUE, SYMBOL = "hyperliquid", "BTC-USDC-PERP"
SESSION = ROOT / "tests" / "data" / "sessions" / VENUE / "hftbacktest_2025-01-26_BTC"


async def test_from_the_venue_to_redis(tmp_path: Path, redis_url: str) -> None:
    _, expected = play(VENUE, SESSION)
    # Nothing of spot was recorded, but it is listed.
    async with Stack(tmp_path, redis_url, [SESSION], [SYMBOL, "PURR-USDC"], venue=VENUE) as hub:
        await hub.venue(speed=3)
        feed = await hub.feed(wait=False)
        wanted = [(row["trade_id"], float(row["price"]), row["side"]) for row in expected if row["type"] == "trade"]
        books = [row for row in expected if row["type"] == "book"]

        async def ended() -> bool:
            trades = await log_of(hub.redis, f"trade:{VENUE}:{SYMBOL}")
            log = await log_of(hub.redis, f"book:{VENUE}:{SYMBOL}")
            told = [(row["trade_id"], row["price"], row["side"]) for row in trades]
            return told == wanted and bool(log) and log[-1]["ts_event"] == books[-1]["ts_event"]

        await until(ended, "every trade once, the last book", 90)
        book = await newest(hub.redis, f"book:{VENUE}:{SYMBOL}")
        for side in ("bids", "asks"):
            assert book[side] == [[float(number) for number in level] for level in books[-1][side]]
        quote = await newest(hub.redis, f"quote:{VENUE}:{SYMBOL}")
        assert [quote["bid"], quote["bid_size"]] == book["bids"][0]
        assert (await newest(hub.redis, f"status:{VENUE}:{SYMBOL}"))["state"] == "live"
        value: Any = await hub.redis.get(f"md:feed:{VENUE}")
        report = msgspec.json.decode(value)
        (connection,) = report["connections"]
        assert connection["acked"] == connection["requested"] == 8
        assert (report["books_live"], report["books_wanted"]) == (1, 2)
        assert "connection lost" not in feed.logged()
