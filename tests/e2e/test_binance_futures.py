"""Binance USD-M futures end to end: two recorded connections on real sockets, the unchanged feed, a real Redis."""

from pathlib import Path
from typing import Any

import msgspec

from tests.e2e.recorded import log_of, newest
from tests.e2e.stack import ROOT, Stack, until
from tests.feeds.venues.plays import play

VENUE = "binance_futures"
SESSION = ROOT / "tests" / "data" / "sessions" / VENUE / "cryptofeed_2021-07-22"
SYMBOLS = ["SUSHI-USDT-PERP", "AKRO-USDT-PERP", "KEEP-USDT-PERP", "CTK-USDT-PERP"]


def levels(message: dict[str, Any]) -> Any:
    return [[[float(number) for number in level] for level in message[side]] for side in ("bids", "asks")]


async def test_two_endpoints_from_the_venue_to_redis(tmp_path: Path, redis_url: str) -> None:
    _, expected = play(VENUE, SESSION)
    async with Stack(tmp_path, redis_url, [SESSION], SYMBOLS, venue=VENUE) as hub:
        await hub.venue(speed=6)
        feed = await hub.feed()

        async def ended() -> bool:
            for symbol in SYMBOLS:
                wanted = [row["trade_id"] for row in expected if row["type"] == "trade" and row["symbol"] == symbol]
                if [row["trade_id"] for row in await log_of(hub.redis, f"trade:{VENUE}:{symbol}")] != wanted:
                    return False
                book = [row for row in expected if row["type"] == "book" and row["symbol"] == symbol][-1]
                log = await log_of(hub.redis, f"book:{VENUE}:{symbol}")
                if not log or levels(log[-1]) != levels(book):
                    return False
                quote = [row for row in expected if row["type"] == "quote" and row["symbol"] == symbol][-1]
                found = await newest(hub.redis, f"quote:{VENUE}:{symbol}")
                if (found["bid"], found["ask"]) != (float(quote["bid"]), float(quote["ask"])):
                    return False
            return True

        await until(ended, "every trade once, every book at its last diff, every quote the last one", 90)
        for symbol in SYMBOLS:
            assert (await newest(hub.redis, f"status:{VENUE}:{symbol}"))["state"] == "live"
        value: Any = await hub.redis.get(f"md:feed:{VENUE}")
        report = msgspec.json.decode(value)
        urls = {connection["url"].rpartition(str(hub.venue_port))[2] for connection in report["connections"]}
        assert urls == {"/public/stream", "/market/stream"}
        for connection in report["connections"]:
            assert connection["acked"] == connection["requested"] > 0
        assert (report["books_live"], report["counters"].get("resyncs", 0)) == (4, 0)
        assert "connection lost" not in feed.logged()
