"""Kraken end to end: a recorded book on a real socket, the unchanged feed, a real Redis."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

from tests.e2e.recorded import log_of, newest
from tests.e2e.stack import ROOT, Stack, until
from tests.feeds.venues.plays import Follower, of, play

SESSION = ROOT / "tests" / "data" / "sessions" / "kraken" / "crossbook_2026-08-02_BTCUSD_d25"
#: The last one is listed, but nothing of it was recorded.
SYMBOLS = ["BTC-USD", "DOGE-USD"]


def with_trades(target: Path) -> Path:
    """Copy the session with a trade and a best price in each second: the recorder took the book alone."""
    shutil.copytree(SESSION, target)
    with gzip.open(SESSION / "ws.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    found: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        found.append(row)
        if number > 3 and '"heartbeat"' in row["raw"]:
            stamp = json.loads(rows[number - 1]["raw"] if '"book"' in rows[number - 1]["raw"] else rows[3]["raw"])
            at = stamp["data"][0]["timestamp"]
            for channel, fields in (
                ("trade", f'"side":"sell","price":63380.{number % 10},"qty":0.00010000,"trade_id":{number}'),
                ("ticker", '"bid":63388.7,"bid_qty":0.25,"ask":63388.8,"ask_qty":0.50,"last":63388.7,"volume":9.5'),
            ):
                item = f'{{"symbol":"BTC/USD",{fields},"timestamp":"{at}"}}'
                found.append({"t": row["t"], "raw": f'{{"channel":"{channel}","type":"update","data":[{item}]}}'})
    with gzip.open(target / "ws.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in found)
    return target


async def test_book_trades_and_quotes_from_the_venue_to_redis(tmp_path: Path, redis_url: str) -> None:
    session = with_trades(tmp_path / "session")
    _, recorded = play("kraken", session)
    wanted = [row["trade_id"] for row in of(recorded, "trade")]
    assert len(wanted) > 30
    async with Stack(tmp_path, redis_url, [session], SYMBOLS, venue="kraken") as hub:
        await hub.venue("--ping", "3", speed=10)
        feed = await hub.feed(wait=False)

        async def ended() -> bool:
            found = [row["trade_id"] for row in await log_of(hub.redis, "trade:kraken:BTC-USD")]
            return found == wanted

        await until(ended, "every trade is in its log", 90)
        theirs = Follower()
        for row in of(recorded, "book"):
            expected = theirs.take(row)
        floats = [{float(price): float(size) for price, size in side.items()} for side in expected]

        async def same() -> bool:
            ours = Follower()
            for row in await log_of(hub.redis, "book:kraken:BTC-USD"):
                found = ours.take(row)
            return [{float(price): float(size) for price, size in side.items()} for side in found] == floats

        await until(same, "the book is the recorded one", 90)
        status = await newest(hub.redis, "status:kraken:BTC-USD")
        assert (status["state"], status["reason"]) == ("live", "book rebuilt")

        async def last_ticker() -> bool:
            quote = await newest(hub.redis, "quote:kraken:BTC-USD")
            ticker = await newest(hub.redis, "ticker:kraken:BTC-USD")
            best = [quote.get(name) for name in ("bid", "bid_size", "ask", "ask_size")]
            return best == [63388.7, 0.25, 63388.8, 0.5] and ticker.get("volume") == 9.5

        await until(last_ticker, "quote and 24 hours are those of the last ticker")

        async def accepted() -> bool:
            value: Any = await hub.redis.get("md:feed:kraken")
            return [(row["requested"], row["acked"]) for row in json.loads(value)["connections"]] == [(6, 6)]

        await until(accepted, "the report says that every channel is there")
        assert "connection lost" not in feed.logged()
        assert "refused" not in feed.logged()
