"""Coinbase end to end: recorded sessions on a real socket, the unchanged feed, a real Redis."""

from pathlib import Path
from typing import Any

import msgspec

from tests.e2e.recorded import log_of, newest
from tests.e2e.stack import ROOT, Stack, until
from tests.feeds.venues.coinbase_naive import frames_of, trades_of

SESSIONS = ROOT / "tests" / "data" / "sessions" / "coinbase"
SESSION = SESSIONS / "advanced_trade_2026-08-09_cut"
#: The second is another name of the first: the venue sends one book.
SYMBOLS = ["ETH-USD", "ETH-USDC"]


async def test_advanced_trade_from_the_venue_to_redis(tmp_path: Path, redis_url: str) -> None:
    expected = [row[1:] for row in trades_of(frames_of(SESSION)) if row[0] == "ETH-USD"]
    async with Stack(tmp_path, redis_url, [SESSION], SYMBOLS, venue="coinbase") as hub:
        await hub.venue(speed=2)
        feed = await hub.feed()

        async def played() -> bool:
            logs = [await log_of(hub.redis, f"trade:coinbase:{symbol}") for symbol in SYMBOLS]
            return [len(log) for log in logs] == [len(expected)] * 2

        await until(played, "every trade is in the log", 90)
        for symbol in SYMBOLS:
            trades = await log_of(hub.redis, f"trade:coinbase:{symbol}")
            assert [(t["price"], t["size"], t["side"], t["trade_id"]) for t in trades] == [
                (float(price), float(size), side, number) for price, size, side, number in expected
            ]
            status = await newest(hub.redis, f"status:coinbase:{symbol}")
            assert (status["state"], status["reason"]) == ("live", "book rebuilt")
            quote = await newest(hub.redis, f"quote:coinbase:{symbol}")
            assert quote["bid"] < quote["ask"] and quote["bid_size"] > 0
            assert (await newest(hub.redis, f"ticker:coinbase:{symbol}"))["volume"] > 0
        value: Any = await hub.redis.get("md:feed:coinbase")
        report = msgspec.json.decode(value)
        (connection,) = report["connections"]
        assert connection["acked"] == connection["requested"] == 3  # level2, market_trades, ticker of one product
        assert connection["refused"] == {}
        assert "connection lost" not in feed.logged()
