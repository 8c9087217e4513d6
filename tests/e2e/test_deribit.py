"""Deribit end to end: recorded options on a real socket, the unchanged feed, a real Redis."""

from pathlib import Path
from typing import Any

import msgspec

from tests.e2e.recorded import newest
from tests.e2e.stack import ROOT, Stack, until

SESSION = ROOT / "tests" / "data" / "sessions" / "deribit" / "cryptofeed_2021-07-22"
#: The last one is listed, but nothing of it was recorded.
SYMBOLS = ["BTC-USD-210924-8000-P", "ETH-USD-210730-2800-C", "BTC-USD-211231-300000-C", "BTC-USD-PERP"]


async def test_options_from_the_venue_to_redis(tmp_path: Path, redis_url: str) -> None:
    async with Stack(tmp_path, redis_url, [SESSION], SYMBOLS, venue="deribit") as hub:
        await hub.venue("--ping", "1", speed=3)
        feed = await hub.feed(wait=False)

        async def lives() -> bool:
            books = [await newest(hub.redis, f"book:deribit:{symbol}") for symbol in SYMBOLS[:3]]
            quotes = [await newest(hub.redis, f"quote:deribit:{symbol}") for symbol in SYMBOLS[:3]]
            return all(books) and all(quotes)

        await until(lives, "books and quotes are there")
        ticker = await newest(hub.redis, f"ticker:deribit:{SYMBOLS[0]}")
        assert ticker["ask_price"] is not None
        for symbol in SYMBOLS[:3]:
            status = await newest(hub.redis, f"status:deribit:{symbol}")
            assert (status["state"], status["reason"]) == ("live", "book rebuilt")

        async def reported() -> dict[str, Any]:
            value: Any = await hub.redis.get("md:feed:deribit")
            report: dict[str, Any] = msgspec.json.decode(value)
            return report if report["books_live"] == 3 and report["books_wanted"] == 4 else {}

        await until(reported, "the report counts books")
        (connection,) = (await reported())["connections"]
        assert connection["acked"] == connection["requested"] == 16
        assert connection["refused"] == {}

        async def grown() -> bool:
            length: Any = await hub.redis.xlen(f"{{md:book:deribit:{SYMBOLS[0]}}}:log")
            return int(length) > 25

        # Heartbeats are asked for meanwhile, each second: unanswered, the venue would have closed.
        await until(grown, "changes come", 90)
        assert "connection lost" not in feed.logged()
