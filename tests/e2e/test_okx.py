"""OKX end to end: recorded books on a real socket, the unchanged feed, a real Redis."""

from pathlib import Path

from tests.e2e.recorded import log_of, newest
from tests.e2e.stack import ROOT, Stack, until
from tests.feeds.venues.plays import Follower, Row, of, play

SESSION = ROOT / "tests" / "data" / "sessions" / "okx" / "cryptofeed_2022-02-27"
SYMBOLS = ["ZEN-USDT", "ELON-USDT", "UNI-USD-PERP", "BTC-USD-220325-40000-C"]


def book_of(messages: list[Row]) -> list[dict[float, float]]:
    follower = Follower()
    for message in messages:
        follower.take(message)
    return [{float(price): float(size) for price, size in side.items()} for side in (follower.bids, follower.asks)]


async def test_trades_books_and_quotes_from_the_venue_to_redis(tmp_path: Path, redis_url: str) -> None:
    _, recorded = play("okx", SESSION)
    async with Stack(tmp_path, redis_url, [SESSION], SYMBOLS, venue="okx") as hub:
        await hub.venue(speed=10)
        feed = await hub.feed()

        async def ended() -> bool:
            for symbol in SYMBOLS:
                wanted = [row["trade_id"] for row in of(recorded, "trade", symbol)]
                found = [row["trade_id"] for row in await log_of(hub.redis, f"trade:okx:{symbol}")]
                if found != wanted or not await newest(hub.redis, f"quote:okx:{symbol}"):
                    return False
            return True

        await until(ended, "every recorded trade is in its log, and there are quotes", 90)
        for symbol in SYMBOLS:

            async def same(symbol: str = symbol) -> bool:
                return book_of(await log_of(hub.redis, f"book:okx:{symbol}")) == book_of(of(recorded, "book", symbol))

            await until(same, f"the book of {symbol} is the recorded one", 90)
            status = await newest(hub.redis, f"status:okx:{symbol}")
            assert (status["state"], status["reason"]) == ("live", "book rebuilt")
        assert "connection lost" not in feed.logged()
        assert "refused" not in feed.logged()
