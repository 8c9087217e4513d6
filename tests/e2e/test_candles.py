"""Candles over the life of real processes and sockets: what is missing at the start comes from the venue's REST, open
candles go on after a restart and not after a crash."""

import re
import signal
import time
from pathlib import Path

from feeds.venues.binance import Binance
from hub.keys import Keys
from hub.model import Candle, kind_of
from tests.e2e.stack import DEMO, EXCHANGE_INFO, Stack, until
from tests.feeds.candle_venue import candle_venue, prices
from tests.feeds.replaying import cut
from tests.feeds.running import Running

SESSION = DEMO / "cryptofeed_2021-04-04"
SYMBOLS = ["BTC-USDT", "ETH-USDT", "DOT-USDT"]
MINUTE = 60_000_000_000


async def test_what_is_missing_at_the_start_is_asked_of_the_venue(tmp_path: Path) -> None:
    """Since the last candle that was told; the minute that is open is not, and trades go on beside it."""
    session = cut(SESSION, tmp_path / "s", 40)
    kinds = ("trade", "candle")
    async with candle_venue() as venue:
        async with Running(Binance, session, ["BTC-USDT"], instruments=EXCHANGE_INFO, kinds=kinds, speed=2) as hub:
            hub.rest.base_url = venue.url
            now = time.time_ns() // MINUTE
            hub.pipeline.ask_since("BTC-USDT", {"1m": (now - 7) * MINUTE, "5m": (now // 5 - 2) * 5 * MINUTE})

            def told() -> dict[int, Candle]:
                rows = [m for m in hub.heard.messages if isinstance(m, Candle) and kind_of(m) == "candle.1m"]
                return {row.start // MINUTE: row for row in rows}

            await hub.until(lambda: len(told()) >= 5 and hub.heard.trades(), 40)
            rows = told()
            assert set(range(now - 6, now - 1)) <= rows.keys()
            assert min(rows) == now - 6
            for minute, row in rows.items():
                assert (row.open, row.high, row.low, row.close, row.volume) == prices(minute)
                assert (row.source, row.revision) == ("venue", 0)
            assert hub.pipeline.counters["candles_repaired"] >= 5
            connection = hub.runner.connections[0]
            assert max(trade.ts_recv for trade in hub.heard.trades()) <= connection.source.heard <= time.time_ns()


async def test_open_candles_outlive_an_orderly_end_and_no_crash(tmp_path: Path, redis_url: str) -> None:
    key = Keys().open_candles("binance")
    async with Stack(tmp_path, redis_url, [SESSION], SYMBOLS) as hub:
        await hub.venue("--loop", speed=2)
        feed = await hub.feed()

        async def trades() -> bool:
            return all([await hub.redis.exists(f"md:trade:binance:{symbol}") for symbol in SYMBOLS])

        await until(trades, "trades of every symbol", 90)
        assert not await hub.redis.exists(key)
        assert await feed.end(signal.SIGTERM) == 0
        assert set(await hub.redis.hkeys(key)) == {symbol.encode() for symbol in SYMBOLS}
        await hub.redis.delete(*[f"md:trade:binance:{symbol}" for symbol in SYMBOLS])
        feed = await hub.feed()
        await until(trades, "trades after the restart", 90)
        assert not await hub.redis.exists(key), "taken out: it must not be there after a crash"
        assert await feed.end(signal.SIGKILL) == -signal.SIGKILL
        assert not await hub.redis.exists(key)
        await hub.feed()

        async def begun() -> bool:
            return len(runs(feed.logged())) == 3

        await until(begun, "the next run begins", 90)
        assert runs(feed.logged()) == ["0", "3", "0"]


def runs(log: str) -> list[str]:
    """Return of each start how many symbols went on."""
    return re.findall(r"went_on=(\d+)", log)
