"""feeds/pipeline.py with Binance's adapter: from frames to messages, over losses, repeats and rotations."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from feeds.adapter import Fetch
from feeds.pipeline import Pipeline, Source
from feeds.venues.binance import Binance
from hub.config import BookSettings, CandleSettings
from hub.model import Book, Candle, Quote, Status, Trade, kind_of
from tests.feeds.frames import (
    BTC,
    ETH,
    MS,
    T0,
    Recorder,
    adapter,
    agg_trade,
    best,
    depth_body,
    diff,
    framed,
    ticker,
)

S = 1_000_000_000
NOW = T0 * MS
ALL = ("trade", "quote", "book", "depth", "ticker", "candle")


class Feed:
    """A pipeline over two symbols, and connections to it."""

    def __init__(self, kinds: Sequence[str] = ALL, books: BookSettings | None = None) -> None:
        self.sink = Recorder()
        self.pipeline = Pipeline(Binance, kinds, books or BookSettings(), CandleSettings(), self.sink)
        self.now = NOW
        self.source = self.connect()
        for row in (BTC, ETH):
            self.pipeline.add(row)
        self.pipeline.covered([BTC.symbol, ETH.symbol], self.now)
        self.fetches: list[Fetch] = []

    def connect(self, generation: int = 1) -> Source:
        return Source(adapter(), generation)

    def receive(self, *frames: bytes, source: Source | None = None) -> list[Any]:
        """Read frames as they come from a connection; returns what was published."""
        for frame in frames:
            self._feed(source or self.source, (source or self.source).adapter.receive(frame, self.now))
        return self.sink.take()

    def answer(self, body: bytes, symbol: str = "BTC-USDT", source: Source | None = None) -> list[Any]:
        """Answer the oldest fetch of a symbol."""
        fetch = next(fetch for fetch in self.fetches if fetch.instrument and fetch.instrument.symbol == symbol)
        self.fetches.remove(fetch)
        self._feed(source or self.source, (source or self.source).adapter.snapshot(fetch, body, self.now))
        return self.sink.take()

    def _feed(self, source: Source, events: Any) -> None:
        self.fetches += [intent for intent in self.pipeline.feed(source, events) if isinstance(intent, Fetch)]

    def live(self, symbol: str = "BTC-USDT", last: int = 100, source: Source | None = None) -> list[Any]:
        """Bring a book up: one held diff, one snapshot."""
        name = symbol.replace("-", "")
        self.receive(diff(last + 1, last + 1, symbol=name), source=source)
        return self.answer(depth_body(last, [(10.0, 1.0), (9.0, 1.0)], [(11.0, 1.0)]), symbol, source)

    def tick(self, seconds: float = 0.05) -> list[Any]:
        self.now += int(seconds * S)
        self.due = self.pipeline.tick(self.now)
        return self.sink.take()


def kinds(messages: Sequence[Any]) -> list[str]:
    return [kind_of(message) for message in messages]


def statuses(messages: Sequence[Any]) -> list[tuple[str, str, str | None]]:
    return [(row.symbol, row.state, row.kind) for row in messages if isinstance(row, Status)]


# the ordinary day


def test_each_frame_becomes_its_message() -> None:
    feed = Feed()
    (trade,) = feed.receive(agg_trade(7, 10.5, 0.25, sold=True, fills=3))
    assert isinstance(trade, Trade)
    assert (trade.symbol, trade.price, trade.size, trade.side, trade.trade_id, trade.count) == (
        "BTC-USDT", 10.5, 0.25, "sell", "7", 3,
    )  # fmt: skip
    assert (trade.ts_event, trade.ts_recv) == (T0 * MS, feed.now)
    (quote,) = feed.receive(best(5, 10.0, 11.0))
    assert isinstance(quote, Quote)
    assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size, quote.ts_event) == (10.0, 1.0, 11.0, 2.0, None)
    (day,) = feed.receive(ticker(2.0))
    assert msgspec.structs.astuple(day)[6:] == (2.0, 1.0, 9.0, 0.5, 100.0, 200.0, 1.9, 2.1)


def test_a_book_comes_up_with_one_fetch_and_says_so() -> None:
    feed = Feed()
    feed.pipeline.started(feed.now)
    assert statuses(feed.sink.take()) == [
        ("BTC-USDT", "resyncing", "book"), ("ETH-USDT", "resyncing", "book"),
    ]  # fmt: skip
    assert [what for what, _ in feed.sink.log if what == "withdraw"] == ["withdraw"] * 6
    assert feed.receive(diff(95, 101), diff(102, 103, [(10.0, 5.0)])) == []
    assert [fetch.resource for fetch in feed.fetches] == ["depth"]
    found = feed.answer(depth_body(101, [(10.0, 1.0)], [(11.0, 1.0)]))
    assert kinds(found) == ["book", "quote", "depth", "status", "book", "quote"]
    assert statuses(found) == [("BTC-USDT", "live", None)]
    assert kinds(feed.receive(diff(104, 104, [(10.0, 6.0)]))) == ["book", "quote"]


def test_own_quotes_end_derived_ones() -> None:
    feed = Feed()
    assert "quote" in kinds(feed.live())
    assert kinds(feed.receive(best(200, 10.0, 11.0))) == ["quote"]
    assert kinds(feed.receive(diff(102, 102, [(10.5, 1.0)]))) == ["book"]


def test_a_snapshot_too_old_is_asked_for_again() -> None:
    feed = Feed()
    feed.receive(diff(200, 201))
    assert feed.answer(depth_body(150)) == []
    assert len(feed.fetches) == 1
    assert "book" in kinds(feed.answer(depth_body(200, [(1.0, 1.0)])))


# losses


def test_a_gap_ends_one_book_at_once_and_only_that() -> None:
    feed = Feed()
    feed.live()
    feed.live("ETH-USDT")
    feed.sink.log.clear()
    found = feed.receive(diff(103, 104, [(10.0, 2.0)]))
    assert statuses(found) == [("BTC-USDT", "resyncing", "book")]
    assert kinds(found) == ["status"]
    # Invalid first, said second: in this order, so that both are in one batch.
    assert [what for what, _ in feed.sink.log] == ["withdraw", "withdraw", "withdraw", "publish"]
    assert [item for what, item in feed.sink.log if what == "withdraw"] == [
        (kind, "BTC-USDT") for kind in ("book", "depth", "quote")
    ]
    assert len(feed.fetches) == 1
    assert feed.receive(diff(105, 106, [(10.0, 3.0)])) == []
    assert feed.tick(1) == []
    assert kinds(feed.receive(diff(102, 102, [(10.0, 2.0)], symbol="ETHUSDT")))[:1] == ["book"]
    found = feed.answer(depth_body(105, [(10.0, 7.0)], [(11.0, 1.0)]))
    assert statuses(found) == [("BTC-USDT", "live", None)]
    assert [message.bids for message in found if isinstance(message, Book)] == [[(10.0, 7.0)], [(10.0, 3.0)]]
    assert feed.pipeline.counters["resyncs"] == 1


def test_one_resync_is_in_flight_for_a_symbol() -> None:
    """However often its messages are lost meanwhile."""
    feed = Feed()
    feed.live()
    feed.receive(diff(103, 103), diff(105, 105), diff(110, 110), diff(120, 121))
    assert len(feed.fetches) == 1
    assert kinds(feed.answer(depth_body(119, [(1.0, 1.0)]))) == ["book", "quote", "status"]
    assert kinds(feed.tick(0.1)) == ["depth"]


@pytest.mark.parametrize(
    "body", [depth_body(101, [(12.0, 1.0)], [(11.0, 1.0)]), depth_body(101, [(10.0, 1.0)], [(9.0, 1.0)])]
)
def test_a_crossed_snapshot_is_never_published(body: bytes) -> None:
    feed = Feed()
    feed.receive(diff(102, 102, [(10.0, 5.0)]))
    found = feed.answer(body)
    assert kinds(found) == ["status"]
    assert statuses(found) == [("BTC-USDT", "resyncing", "book")]
    assert len(feed.fetches) == 1
    assert feed.receive(diff(103, 103)) == []
    assert "book" in kinds(feed.answer(depth_body(102, [(10.0, 1.0)], [(11.0, 1.0)])))


def test_a_lost_trade_is_announced_before_the_next_one() -> None:
    feed = Feed()
    found = feed.receive(agg_trade(1), agg_trade(2), agg_trade(6), agg_trade(7))
    assert kinds(found) == ["trade", "trade", "status", "trade", "trade"]
    assert (found[2].state, found[2].kind, found[2].reason) == ("live", "trade", "3 trades lost, ids 3 to 5")
    assert feed.pipeline.counters["trades_lost"] == 3


def test_the_announcement_of_lost_trades_does_not_hide_a_lost_book() -> None:
    """The newest status of a symbol describes it whole."""
    feed = Feed()
    feed.live()
    feed.receive(agg_trade(1))
    feed.receive(diff(105, 106))
    (note, _) = feed.receive(agg_trade(5))
    assert (note.state, note.kind) == ("resyncing", "book")
    assert "3 trades lost, ids 2 to 4" in note.reason


def test_trades_that_come_twice_are_told_once() -> None:
    feed = Feed()
    found = feed.receive(agg_trade(1), agg_trade(1), agg_trade(2), agg_trade(1))
    assert [message.trade_id for message in found] == ["1", "2"]
    assert feed.pipeline.counters["trades_repeated"] == 2


def test_a_candle_of_a_minute_with_a_hole_at_its_edge_is_asked_of_the_venue() -> None:
    """The lost trades happened between the one before the hole and the one after it, in either minute."""
    feed = Feed(["trade", "candle"])
    at = (T0 // 60_000 + 2) * 60_000
    feed.tick(at / 1000 - feed.now / S + 30)
    feed.receive(agg_trade(1, ms=at + 30_000))
    feed.tick(31)
    feed.receive(agg_trade(5, ms=at + 60_500))
    found = feed.tick(65)
    minutes = [message.start for message in found if isinstance(message, Candle) and kind_of(message) == "candle.1m"]
    assert minutes == []
    assert [(due.interval, due.start // MS) for _, due in feed.due if due.interval == "1m"] == [
        ("1m", at), ("1m", at + 60_000),
    ]  # fmt: skip


# connections


def test_what_a_lost_connection_carried_is_stale_and_its_books_are_gone() -> None:
    feed = Feed()
    feed.live()
    feed.sink.log.clear()
    feed.pipeline.lost(feed.source, [BTC.symbol, ETH.symbol], "cut", feed.now)
    found = feed.sink.take()
    assert statuses(found) == [
        ("BTC-USDT", "stale", None), ("BTC-USDT", "resyncing", None), ("ETH-USDT", "stale", None),
    ]  # fmt: skip
    assert ("withdraw", ("book", "BTC-USDT")) in feed.sink.log
    second = feed.connect(2)
    feed.pipeline.flowing(second, [BTC.symbol, ETH.symbol], feed.now)
    assert statuses(feed.sink.take()) == [("BTC-USDT", "resyncing", "book"), ("ETH-USDT", "live", None)]
    assert statuses(feed.live(last=500, source=second)) == [("BTC-USDT", "live", None)]


def test_a_dead_connection_has_no_say_any_more() -> None:
    feed = Feed()
    feed.live()
    second = feed.connect(2)
    assert kinds(feed.live(last=300, source=second))[0] == "book"
    assert feed.receive(diff(102, 102, [(1.0, 1.0)])) == []
    assert feed.receive(diff(110, 111)) == [], "its gap is its own"
    assert kinds(feed.receive(diff(302, 302, [(10.0, 2.0)]), source=second))[0] == "book"


def test_a_rotation_repeats_and_loses_nothing() -> None:
    """Two connections tell the same: each trade and each quote once, the book goes on."""
    feed = Feed()
    feed.live()
    second = feed.connect(2)
    found = feed.receive(agg_trade(1), best(50, 1.0, 2.0))
    found += feed.receive(agg_trade(1), agg_trade(2), best(50, 1.0, 2.0), source=second)
    found += feed.receive(agg_trade(2), agg_trade(3), best(51, 1.0, 2.0))
    found += feed.receive(agg_trade(3), best(51, 1.0, 2.0), source=second)
    assert [message.trade_id for message in found if isinstance(message, Trade)] == ["1", "2", "3"]
    assert feed.pipeline.counters["trades_lost"] == 0
    assert not feed.pipeline.owns_books(second, [BTC.symbol])
    found = feed.live(last=101, source=second)
    assert feed.pipeline.owns_books(second, [BTC.symbol])
    assert statuses(found) == []
    assert kinds(feed.receive(diff(103, 103, [(9.5, 1.0)]), source=second))[0] == "book"


def test_quotes_of_an_older_connection_end_with_the_first_of_the_newer() -> None:
    feed = Feed()
    second = feed.connect(2)
    assert kinds(feed.receive(best(1, 1.0, 2.0))) == ["quote"]
    assert kinds(feed.receive(best(5, 1.0, 2.0), source=second)) == ["quote"]
    assert feed.receive(best(4, 1.0, 2.0), best(6, 1.0, 2.0)) == []


def test_a_new_epoch_says_everything_again() -> None:
    """States too: those said last may be among what was dropped."""
    feed = Feed()
    feed.live()
    feed.receive(diff(101, 101, symbol="ETHUSDT"))
    feed.pipeline.started(feed.now)
    feed.live(last=200, source=feed.source)
    feed.sink.take()
    feed.pipeline.new_epoch("new epoch: because", feed.now)
    found = feed.sink.take()
    assert statuses(found) == [
        ("*", "live", None), ("BTC-USDT", "live", None), ("ETH-USDT", "resyncing", "book"),
    ]  # fmt: skip
    assert [(message.symbol, message.action) for message in found if isinstance(message, Book)] == [
        ("BTC-USDT", "snapshot")
    ]


# silence


def test_a_stream_that_fell_silent_is_stale_until_it_speaks() -> None:
    feed = Feed()
    for number in range(200):
        feed.receive(best(number + 1, 1.0, 2.0))
        feed.tick(0.5)
    feed.sink.take()
    found = feed.tick(1)
    for _ in range(60):
        found += feed.tick(1)
    assert [row for row in statuses(found)] == [("BTC-USDT", "stale", "quote")]
    assert "usually one every 0.5 s" in next(row.reason for row in found if isinstance(row, Status))
    assert feed.pipeline.silent([BTC.symbol, ETH.symbol])
    feed.receive(best(1000, 1.0, 2.0))
    assert statuses(feed.tick(1)) == [("BTC-USDT", "live", None)]
    assert not feed.pipeline.silent([BTC.symbol])


def test_a_book_that_waits_for_its_snapshot_is_not_silent() -> None:
    """Its diffs come and are held; the venue's REST may be away for long."""
    feed = Feed(["book", "depth"])
    feed.live()
    update = 102
    for _ in range(100):
        feed.receive(diff(update, update, [(10.0, float(update))]))
        update += 1
        feed.tick(0.5)
    feed.receive(diff(update + 5, update + 5))
    feed.sink.take()
    for step in range(120):
        feed.receive(diff(update + 6 + step, update + 6 + step))
        feed.tick(1)
        assert not feed.pipeline.silent([BTC.symbol])
    assert statuses(feed.sink.take()) == []


def test_a_symbol_nobody_trades_is_never_stale() -> None:
    feed = Feed()
    feed.receive(best(1, 1.0, 2.0), agg_trade(1))
    found = [message for _ in range(300) for message in feed.tick(10)]
    assert statuses(found) == []


# what may come as well


def test_unknown_things_are_counted() -> None:
    feed = Feed()
    frames = [
        agg_trade(1, symbol="NOSUCH"), framed("btcusdt@kline_1m", {"e": "kline", "s": "BTCUSDT"}),
        b'{"x":1}', framed("!ticker@arr", []),
        b'{"result":null,"id":77}',
    ]  # fmt: skip
    assert feed.receive(*frames) == []
    assert feed.pipeline.counters == {
        "skipped_unknown_symbol": 1, "skipped_unknown_channel": 1, "skipped_unknown_message": 1, "skipped_array": 1,
    }  # fmt: skip


def test_totals_tell_what_came() -> None:
    feed = Feed(["trade", "quote"])
    feed.receive(agg_trade(1), agg_trade(2), best(1, 1.0, 2.0))
    assert feed.pipeline.totals() == {"trade": (2, feed.now), "quote": (1, feed.now)}
    assert feed.pipeline.count("BTC-USDT", "candle") == 2
    assert feed.pipeline.count("ETH-USDT", "trade") == 0


def test_a_book_close_to_the_end_of_its_range_is_refreshed_while_it_stays_live() -> None:
    feed = Feed(["book", "depth"], BookSettings(levels=10))
    source = Source(adapter(levels=10), 1)
    feed.receive(diff(101, 101), source=source)
    bids = [(100.0 - step, 1.0) for step in range(10)]
    feed.answer(depth_body(100, bids, [(101.0 + step, 1.0) for step in range(10)]), source=source)
    update = 102
    while not feed.fetches and update < 200:
        found = feed.receive(diff(update, update, [(99.5, float(update))]), source=source)
        assert statuses(found) == []
        update += 1
    assert len(feed.fetches) == 1
    feed.receive(diff(update, update, [(99.0, 42.0)]), source=source)
    found = feed.answer(depth_body(update - 1, [(99.5, 7.0), *bids], [(101.0, 1.0)]), source=source)
    assert statuses(found) == []
    (book,) = [message for message in found if isinstance(message, Book)]
    assert book.action == "snapshot"
    assert dict(book.bids)[99.0] == 42.0, "a live book does not go back in time"
    assert kinds(feed.receive(diff(update + 1, update + 1, [(99.0, 1.0)]), source=source))[:1] == ["book"]
