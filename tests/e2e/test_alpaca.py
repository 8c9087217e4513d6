"""Alpaca end to end: login, a session in the documented shape on a real socket, the unchanged feed, a real Redis."""

import json
from pathlib import Path
from typing import Any

from tests.e2e.recorded import log_of, newest
from tests.e2e.stack import Stack, until
from tests.feeds.venues import alpaca_session


async def test_crypto_from_the_venue_to_redis(tmp_path: Path, redis_url: str) -> None:
    session = alpaca_session.write(tmp_path / "session")
    expected = [
        (str(t["i"]), t["p"], t["s"], {"B": "buy", "S": "sell"}[t["tks"]]) for t, _, _ in alpaca_session.frames()
    ]
    async with Stack(tmp_path, redis_url, [session], ["BTC-USD", "AAPL"], venue="alpaca") as hub:
        hub.env |= {"ALPACA_KEY_ID": "a key of the test", "ALPACA_SECRET_KEY": "a secret of the test"}
        await hub.venue()
        feed = await hub.feed(wait=False)

        async def played() -> bool:
            quote = await newest(hub.redis, "quote:alpaca:BTC-USD")
            trades = await log_of(hub.redis, "trade:alpaca:BTC-USD")
            return len(trades) == len(expected) and (quote.get("bid"), quote.get("ask")) == (64000.0, 66000.0)

        await until(played, "every trade is in the log, and the last quote is there", 90)
        trades = await log_of(hub.redis, "trade:alpaca:BTC-USD")
        assert [(t["trade_id"], t["price"], t["size"], t["side"]) for t in trades] == expected
        status = await newest(hub.redis, "status:alpaca:BTC-USD")
        assert (status["state"], status["reason"]) == ("live", "book rebuilt")

        async def accepted() -> bool:
            value: Any = await hub.redis.get("md:feed:alpaca")
            return sorted((row["requested"], row["acked"]) for row in json.loads(value)["connections"]) == [
                (2, 2),
                (3, 3),
            ]

        await until(accepted, "every channel of either connection is there")
        # A stock has no book, so nobody waits for one.
        assert {row["state"] for row in await log_of(hub.redis, "status:alpaca:AAPL")} == {"live"}
        assert "ready 1/1" in feed.logged()
        assert "connection lost" not in feed.logged()
        assert "of the test" not in feed.logged()


async def test_without_keys_it_says_which_are_missing(tmp_path: Path, redis_url: str) -> None:
    async with Stack(tmp_path, redis_url, [], ["BTC-USD"], venue="alpaca") as hub:
        for name in ("ALPACA_KEY_ID", "ALPACA_SECRET_KEY"):
            hub.env.pop(name, None)
        feed = await hub.feed(wait=False)
        assert feed.process is not None
        assert await feed.process.wait() != 0
        assert "ALPACA_KEY_ID, ALPACA_SECRET_KEY" in feed.logged()
