"""HTX end to end: recorded gzip frames on real sockets, the unchanged feed, a real Redis."""

import json
from pathlib import Path
from typing import Any

from tests.e2e.recorded import log_of, newest
from tests.e2e.stack import ROOT, Stack, until
from tests.feeds.venues.plays import Follower, of, play

DATA = ROOT / "tests" / "data" / "sessions" / "htx"
SPOT, LINEAR = DATA / "cryptofeed_2021-04-17_spot", DATA / "cryptofeed_2022-02-17_linear-swap"
SYMBOLS = ["DOGE-ETH", "NEST-ETH", "OMG-BTC", "BTC-USDT-PERP"]


async def test_spot_and_a_swap_from_the_venue_to_redis(tmp_path: Path, redis_url: str) -> None:
    """Spot books are aligned by requests on a socket of their own; the swap's are counted; pings are answered."""
    recorded = [row for path in (SPOT, LINEAR) for row in play("htx", path)[1]]
    async with Stack(tmp_path, redis_url, [SPOT, LINEAR], SYMBOLS, venue="htx") as hub:
        await hub.venue("--ping", "2")
        feed = await hub.feed(wait=False)
        trades = 0
        for symbol in SYMBOLS:
            wanted = [row["trade_id"] for row in of(recorded, "trade", symbol)]
            theirs = Follower()
            for row in of(recorded, "book", symbol):
                expected = theirs.take(row)
            floats = [{float(price): float(size) for price, size in side.items()} for side in expected]

            async def same(symbol: str = symbol, floats: object = floats, wanted: list[str] = wanted) -> bool:
                told = [row["trade_id"] for row in await log_of(hub.redis, f"trade:htx:{symbol}")]
                if told and told[-1] != wanted[-1]:
                    return False
                ours = Follower()
                book: Any = None
                for row in await log_of(hub.redis, f"book:htx:{symbol}"):
                    book = ours.take(row)
                return book and [{float(p): float(s) for p, s in side.items()} for side in book] == floats

            await until(same, f"the book of {symbol} is the recorded one", 90)
            # The sockets are opened one after the other, and the recording began with the first.
            found = [row["trade_id"] for row in await log_of(hub.redis, f"trade:htx:{symbol}")]
            assert found == wanted[len(wanted) - len(found) :]
            trades += len(found)
            status = await newest(hub.redis, f"status:htx:{symbol}")
            assert (status["state"], status["reason"]) == ("live", "book rebuilt")
            quote = await newest(hub.redis, f"quote:htx:{symbol}")
            bids, asks = floats
            assert [quote[name] for name in ("bid", "bid_size", "ask", "ask_size")] == [
                max(bids), bids[max(bids)], min(asks), asks[min(asks)],
            ]  # fmt: skip
        assert trades

        async def accepted() -> bool:
            value: Any = await hub.redis.get("md:feed:htx")
            rows = json.loads(value)["connections"]
            paths = {row["url"].rpartition("/")[2] for row in rows if row["acked"] == row["requested"]}
            return len(rows) == 4 and paths == {"ws", "feed", "linear-swap-ws", "ws_index"}

        await until(accepted, "the report says that every channel of the four sockets is there")
        assert "connection lost" not in feed.logged()
        assert "refused" not in feed.logged()
