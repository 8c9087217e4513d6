"""feeds/pipeline.py and feeds/candle_store.py: what candles know of stalls, rotations, restarts and crashes."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from feeds.candle_store import CandleStore
from feeds.pipeline import Pipeline, Source
from feeds.venues.binance import Binance
from hub.config import BookSettings, CandleSettings
from hub.keys import Keys, channel_name
from hub.model import CANDLE_TYPES, Candle, encode, kind_of
from tests.feeds.frames import BTC, ETH, MS, T0, Recorder, agg_trade

S = 1_000_000_000
AT = T0 // 60_000 * 60_000
"""a full minute, unix ms"""
KEYS = Keys("md:")


class Numberless(Binance):
    """Its trade ids have holes: a jump says nothing."""

    trade_ids_contiguous = False


class Feed:
    """A pipeline with candles of one symbol, its connection, and a clock in ms after AT."""

    def __init__(self, adapter: type[Binance] = Binance, **candles: Any) -> None:
        self.adapter, self.sink = adapter, Recorder()
        settings = CandleSettings(intervals=["1s", "1m"], **candles)
        self.pipeline = Pipeline(adapter, ["trade", "candle"], BookSettings(), settings, self.sink)
        self.pipeline.add(BTC)
        self.generation = 0
        self.due: list[tuple[str, int]] = []
        self.candles: list[Candle] = []

    def connect(self, at: int) -> Source:
        self.generation += 1
        source = Source(self.adapter([BTC, ETH]), self.generation)
        self.pipeline.flowing(source, [BTC.symbol], (AT + at) * MS)
        return source

    def trade(self, source: Source, number: int, at: int, size: float = 1.0) -> None:
        now = (AT + at) * MS
        source.heard = now
        self.pipeline.feed(source, source.adapter.receive(agg_trade(number, size=size, ms=AT + at), now))

    def tick(self, at: int) -> None:
        due = self.pipeline.tick((AT + at) * MS)
        self.due += [(entry.interval, entry.start // MS - AT) for _, entry in due if entry.interval == "1m"]
        minutes = [message for message in self.sink.take() if kind_of(message) == "candle.1m"]
        self.candles += [message for message in minutes if isinstance(message, Candle)]

    def told(self) -> list[tuple[int, int, float | None]]:
        """Return (start in ms after AT, revision, volume) of the minutes told."""
        return [(row.start // MS - AT, row.revision, row.volume) for row in self.candles]


# stalls


@pytest.mark.parametrize("adapter", [Binance, Numberless])
def test_a_stall_noticed_late_makes_the_candles_told_meanwhile_doubtful(adapter: type[Binance]) -> None:
    """The connection was dead since its last data, not since somebody noticed."""
    feed = Feed(adapter)
    source = feed.connect(100)
    feed.trade(source, 1, 500)
    feed.trade(source, 2, 70_000)
    feed.tick(182_000)
    assert feed.told() == [(60_000, 0, 1.0)] and feed.due == [("1m", 0)]
    feed.due.clear()
    feed.pipeline.lost(source, [BTC.symbol], "silent", (AT + 185_000) * MS)
    feed.tick(185_050)
    assert feed.due == [("1m", 60_000), ("1m", 120_000)], "what was told since is asked for"
    feed.connect(190_000)
    feed.tick(242_000)
    assert feed.due[2:] == [("1m", 180_000)]


def test_trades_on_their_way_when_the_last_data_came_are_in_doubt_too() -> None:
    feed = Feed()
    source = feed.connect(100)
    feed.trade(source, 1, 500)
    feed.trade(source, 2, 60_700)
    feed.tick(61_600)
    assert feed.due == [("1m", 0)], "cut by the start"
    feed.tick(121_600)
    feed.due.clear()
    source.heard = (AT + 120_900) * MS
    feed.pipeline.lost(source, [BTC.symbol], "cut", (AT + 121_700) * MS)
    feed.tick(121_750)
    assert feed.due == [("1m", 60_000)], "the grace before"


def test_a_next_trade_without_a_hole_proves_that_nothing_was_missed() -> None:
    """A reconnect costs no candle where the venue numbers its trades."""
    feed = Feed()
    source = feed.connect(-5000)
    feed.trade(source, 1, 500)
    feed.pipeline.lost(source, [BTC.symbol], "cut", (AT + 3000) * MS)
    source = feed.connect(5000)
    feed.trade(source, 2, 30_000, size=2.0)
    feed.tick(62_000)
    assert feed.told() == [(0, 0, 3.0)]
    assert ("1m", 0) not in feed.due


@pytest.mark.parametrize(("adapter", "following"), [(Binance, 3), (Numberless, 2), (Numberless, 3)])
def test_a_hole_over_a_reconnect_or_ids_that_prove_nothing(adapter: type[Binance], following: int) -> None:
    feed = Feed(adapter)
    source = feed.connect(-5000)
    feed.trade(source, 1, 500)
    feed.pipeline.lost(source, [BTC.symbol], "cut", (AT + 3000) * MS)
    source = feed.connect(5000)
    feed.trade(source, following, 30_000)
    feed.tick(62_000)
    assert feed.told() == [] and ("1m", 0) in feed.due


def test_a_rotation_from_a_connection_that_was_dead_leaves_a_gap() -> None:
    """It was heard last before the next one flowed: what came between, nobody has."""
    feed = Feed(Numberless)
    dead = feed.connect(-5000)
    feed.trade(dead, 1, 500)
    following = feed.connect(20_000)
    feed.pipeline.handed_over(dead, following, [BTC.symbol], "rotated", (AT + 22_000) * MS)
    feed.trade(following, 9, 30_000)
    feed.tick(62_000)
    assert feed.told() == [] and ("1m", 0) in feed.due
    alive, after = following, feed.connect(90_000)
    feed.trade(alive, 12, 91_000)
    feed.pipeline.handed_over(alive, after, [BTC.symbol], "rotated", (AT + 92_000) * MS)
    feed.trade(after, 15, 93_000)
    feed.tick(122_000)
    assert feed.told() == [(60_000, 0, 2.0)]


# empty candles of the venue


def venue_minute(at: int, volume: float, trades: int) -> Candle:
    return CANDLE_TYPES["1m"](
        venue="binance", symbol=BTC.symbol, id="", ts_event=None, ts_recv=(AT + at + 61_000) * MS, ts_pub=0,
        start=(AT + at) * MS, open=3.0, high=3.0, low=3.0, close=3.0, volume=volume, notional=None, vwap=None,
        trades=trades, buy_trades=None, sell_trades=None, buy_volume=None, sell_volume=None, buy_notional=None,
        sell_notional=None, source="venue", revision=0,
    )  # fmt: skip


@pytest.mark.parametrize(("empty", "told"), [
    ("skip", [(60_000, 0, 4.0)]),
    # The first gives a close, which the second repeats until the venue tells it.
    ("flat", [(0, 0, 0.0), (60_000, 0, 0.0), (60_000, 1, 4.0)]),
])  # fmt: skip
def test_candles_of_the_venue_follow_the_setting(empty: str, told: list[tuple[int, int, float]]) -> None:
    feed = Feed(empty=empty)
    feed.connect(30_000)
    feed.tick(122_000)
    feed.pipeline.repaired(venue_minute(0, 0.0, 0))
    feed.pipeline.repaired(venue_minute(60_000, 4.0, 2))
    feed.tick(122_050)
    assert feed.told() == told


# forming


def test_forming_candles_come_so_often_and_no_oftener() -> None:
    feed = Feed(forming_per_s=4.0)
    source = feed.connect(0)
    found = 0
    for step in range(200):
        feed.trade(source, step + 1, 10_000 + 50 * step)
        feed.pipeline.tick((AT + 10_000 + 50 * step) * MS)
        found += sum(kind_of(message) == "forming.1s" for message in feed.sink.take())
    assert 36 <= found <= 41, "ten seconds of trades every 50 ms"


def test_an_open_candle_that_misses_trades_is_taken_away() -> None:
    """Else it would stand there as the newest for the rest of its minute or day, though nobody renews it."""
    feed = Feed(Numberless)
    feed.tick(-1000)
    assert feed.sink.withdrawn() == ["forming.1s", "forming.1m"], "what an earlier run left there"
    source = feed.connect(0)
    feed.tick(1000)
    feed.trade(source, 1, 1500)
    feed.tick(1900)
    assert feed.sink.withdrawn() == []
    feed.pipeline.lost(source, [BTC.symbol], "gone", (AT + 2000) * MS)
    feed.tick(2300)
    assert feed.sink.withdrawn() == ["forming.1s", "forming.1m"]
    source = feed.connect(3000)
    feed.trade(source, 2, 4100)
    feed.tick(4600)
    assert feed.sink.withdrawn() == []
    forming = [detail for what, detail in feed.sink.log if what == "publish" and kind_of(detail) == "forming.1m"]
    assert [row.trades for row in forming] == [1], "what came before the loss"
    feed.tick(60_500)
    feed.trade(source, 3, 61_000)
    feed.tick(61_500)
    _, newest = [entry for entry in feed.sink.log if entry[0] == "publish" and kind_of(entry[1]) == "forming.1m"][-1]
    assert newest.start == (AT + 60_000) * MS, "the next one is told"


# restarts


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as made:
        yield made


def store(client: Redis, intervals: Sequence[str] = ("1m",)) -> CandleStore:
    return CandleStore(client, KEYS, "binance", intervals)


async def next_run(client: Redis, feed: Feed, source: Source, stopped_at: int, kept: CandleStore) -> Feed:
    """End `feed` in an orderly way, and begin another one."""
    feed.pipeline.stopped(source, [BTC.symbol], (AT + stopped_at) * MS)
    await kept.keep(feed.pipeline)
    assert await client.exists(KEYS.open_candles("binance"))
    after = Feed(feed.adapter)
    await store(client).go_on(after.pipeline)
    assert not await client.exists(KEYS.open_candles("binance"))
    return after


async def first_run(client: Redis, adapter: type[Binance] = Binance) -> tuple[Feed, Source, CandleStore]:
    feed, kept = Feed(adapter), store(client)
    await kept.go_on(feed.pipeline)
    source = feed.connect(-5000)
    feed.trade(source, 1, 500)
    feed.trade(source, 2, 10_000)
    feed.tick(12_000)
    return feed, source, kept


async def test_a_restart_that_missed_no_trade_goes_on_with_the_open_candles(client: Redis) -> None:
    feed, source, kept = await first_run(client)
    after = await next_run(client, feed, source, 12_500, kept)
    source = after.connect(20_000)
    after.trade(source, 3, 30_000, size=4.0)
    after.tick(62_000)
    assert after.told() == [(0, 0, 6.0)] and after.due == []


@pytest.mark.parametrize(("adapter", "following"), [(Binance, 4), (Numberless, 3)])
async def test_a_restart_that_may_have_missed_trades_asks_the_venue(
    client: Redis, adapter: type[Binance], following: int
) -> None:
    feed, source, kept = await first_run(client, adapter)
    after = await next_run(client, feed, source, 12_500, kept)
    source = after.connect(70_000)
    after.trade(source, following, 80_000)
    after.tick(182_000)
    assert after.told() == [(120_000, 0, 0.0)] or after.told() == []
    assert after.due == [("1m", 0), ("1m", 60_000)]


@pytest.mark.parametrize("adapter", [Binance, Numberless])
async def test_what_the_venue_repeats_to_the_new_connection_counts_once(client: Redis, adapter: type[Binance]) -> None:
    """Some send the last trades to whoever subscribes. The minute ended before the restart is whole."""
    feed, source, kept = await first_run(client, adapter)
    feed.trade(source, 3, 59_900)
    feed.trade(source, 4, 62_500)
    feed.tick(60_800)
    after = await next_run(client, feed, source, 62_600, kept)
    source = after.connect(63_000)
    for number, at in ((2, 10_000), (3, 59_900), (4, 62_500)):
        after.trade(source, number, at)
    after.tick(64_000)
    assert after.told() == [(0, 0, 3.0)]
    assert after.pipeline.counters["trades_repeated"] == 3


async def test_after_a_crash_there_is_nothing_old_to_go_on_with(client: Redis) -> None:
    """The state of the run before the one that crashed was taken out: the venue is asked since the last candle."""
    feed, source, kept = await first_run(client)
    crashed = await next_run(client, feed, source, 12_500, kept)
    source = crashed.connect(20_000)
    crashed.trade(source, 3, 30_000)
    crashed.tick(62_000)
    for number, candle in enumerate(crashed.candles, 1):
        log = KEYS.log(channel_name("candle.1m", "binance", BTC.symbol))
        await client.xadd(log, {"payload": encode(candle)}, id=f"1-{number}")
    after = Feed()
    await store(client).go_on(after.pipeline)
    source = after.connect(185_000)
    after.trade(source, 4, 186_000)
    after.tick(242_000)
    assert after.told() == [] and after.due == [("1m", 60_000), ("1m", 120_000), ("1m", 180_000)]


async def test_the_newest_candle_counts_not_the_last_revision(client: Redis) -> None:
    log = KEYS.log(channel_name("candle.1m", "binance", BTC.symbol))
    for number, at in enumerate((0, 60_000, 120_000, 0), 1):
        await client.xadd(log, {"payload": encode(venue_minute(at, 1.0, 1))}, id=f"1-{number}")
    assert await store(client).last_told([BTC.symbol, ETH.symbol]) == {BTC.symbol: {"1m": (AT + 120_000) * MS}}
    assert await store(client, ()).last_told([BTC.symbol]) == {}


async def test_nothing_is_asked_where_that_is_switched_off(client: Redis) -> None:
    after = Feed(repair_max=0)
    after.pipeline.ask_since(BTC.symbol, {"1m": (AT - 600_000) * MS})
    after.connect(30_000)
    after.tick(122_000)
    assert after.due == []


async def test_a_feed_that_ends_before_it_began_leaves_what_was_kept(client: Redis) -> None:
    feed, source, kept = await first_run(client)
    feed.pipeline.stopped(source, [BTC.symbol], (AT + 12_500) * MS)
    await kept.keep(feed.pipeline)
    stored = await client.hgetall(KEYS.open_candles("binance"))
    await store(client).keep(Feed().pipeline)
    assert stored and await client.hgetall(KEYS.open_candles("binance")) == stored
    assert 0 < await client.ttl(KEYS.open_candles("binance")) <= 7 * 86_400


async def test_what_cannot_be_read_is_left_out(client: Redis, caplog: pytest.LogCaptureFixture) -> None:
    await client.hset(KEYS.open_candles("binance"), BTC.symbol, b"\x93of another version")
    feed = Feed()
    await store(client).go_on(feed.pipeline)
    assert "open candles not read" in caplog.text
    source = feed.connect(-5000)
    feed.trade(source, 1, 500)
    feed.tick(62_000)
    assert feed.told() == [(0, 0, 1.0)]
