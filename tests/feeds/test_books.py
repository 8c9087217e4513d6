"""feeds/books.py: what leaves a book, and that nothing leaves it while it is not good."""

from collections.abc import Sequence
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.adapter import BookUpdate
from feeds.books import BookKeeper
from feeds.venues.binance import Binance
from hub.config import BookSettings
from hub.model import Book, Depth, Level, Quote
from tests.feeds.frames import BTC, MS, Recorder

Side: TypeAlias = dict[float, float]
DEFAULT = BookSettings()


def keeper(sink: Recorder, settings: BookSettings = DEFAULT, *, want_depth: bool = True) -> BookKeeper:
    return BookKeeper(Binance, "BTC-USDT", settings, sink, want_depth=want_depth)


def snapshot(bids: Sequence[Level], asks: Sequence[Level], at_ms: int = 0, *, complete: bool = True) -> BookUpdate:
    return BookUpdate(BTC, True, list(bids), list(asks), None, at_ms * MS, complete, complete)


def update(bids: Sequence[Level], asks: Sequence[Level], at_ms: int = 0) -> BookUpdate:
    return BookUpdate(BTC, False, list(bids), list(asks), at_ms * MS, at_ms * MS)


class Follower:
    """A reader of what is published, which checks each message against what it knows."""

    def __init__(self) -> None:
        self.bids: Side = {}
        self.asks: Side = {}
        self.live = False

    def read(self, messages: Sequence[object], levels: int) -> None:
        for message in messages:
            if isinstance(message, Book):
                self._book(message)
            elif isinstance(message, Depth):
                assert self.live
                assert message.bids == sorted(self.bids.items(), reverse=True)[:levels]
                assert message.asks == sorted(self.asks.items())[:levels]
            elif isinstance(message, Quote):
                assert self.live
                bid, ask = max(self.bids, default=None), min(self.asks, default=None)
                assert (message.bid, message.ask) == (bid, ask)
                assert message.bid_size == (None if bid is None else self.bids[bid])
                assert message.ask_size == (None if ask is None else self.asks[ask])

    def _book(self, message: Book) -> None:
        if message.action == "snapshot":
            self.bids, self.asks, self.live = {}, {}, True
        assert self.live
        assert message.action == "snapshot" or message.bids or message.asks
        for side, levels in ((self.bids, message.bids), (self.asks, message.asks)):
            for price, size in levels:
                side[price] = size
                if not size:
                    del side[price]


bid_deltas = st.lists(st.tuples(st.integers(1, 40).map(float), st.sampled_from([0.0, 1.0, 2.0])), max_size=5)
ask_deltas = st.lists(st.tuples(st.integers(36, 80).map(float), st.sampled_from([0.0, 1.0, 2.0])), max_size=5)
moves = st.lists(st.tuples(st.integers(0, 150), bid_deltas, ask_deltas, st.booleans()), max_size=30)


@settings(max_examples=200, deadline=None)
@given(moves, st.integers(1, 15), st.integers(1, 4), st.integers(1, 8))
def test_a_reader_of_what_is_published_always_has_the_book(
    script: list[tuple[int, list[Level], list[Level], bool]], kept: int, levels: int, every: int
) -> None:
    """Depth and quote are its top; a renewal is the book as it is; after a problem nothing comes before a snapshot."""
    sink, follower = Recorder(), Follower()
    kept = max(kept, levels)
    book = keeper(sink, BookSettings(levels=1, kept=kept, snapshot_every=every, depth_levels=levels))
    now = 0
    for wait, bids, asks, again in script:
        now += wait
        if again:
            bids = sorted({price: size for price, size in bids if size}.items(), reverse=True)
            asks = sorted({price: size for price, size in asks if size}.items())
        problem = book.restart(snapshot(bids, asks, now)) if again else book.change(update(bids, asks, now))
        if problem is not None:
            assert sink.take() == []
            book.invalidate()
            follower.live = False
        book.flush(now * MS)
        follower.read(sink.take(), levels)
        assert book.live == follower.live
        if book.live:
            assert follower.bids == dict(book.book.bids.levels())
            assert follower.asks == dict(book.book.asks.levels())
            assert max(len(follower.bids), len(follower.asks)) <= kept
        if sink.log and sink.log[-1][0] == "renew":
            renewed = sink.log[-1][1]
            assert (dict(renewed.bids), dict(renewed.asks)) == (follower.bids, follower.asks)


def test_nothing_leaves_a_book_before_its_snapshot() -> None:
    sink = Recorder()
    book = keeper(sink)
    assert book.change(update([(1.0, 1.0)], [])) is None
    book.flush(10**18)
    book.republish()
    assert sink.log == []


def test_a_snapshot_is_book_quote_and_depth() -> None:
    sink = Recorder()
    book = keeper(sink)
    assert book.restart(snapshot([(1.0, 2.0)], [(3.0, 4.0)], 1000)) is None
    assert sink.taken() == ["book", "quote", "depth"]
    assert book.live


def test_an_update_outside_the_known_range_says_nothing() -> None:
    sink = Recorder()
    book = keeper(sink)
    book.restart(snapshot([(2.0, 1.0)], [(3.0, 1.0)], 1000, complete=False))
    sink.take()
    assert book.change(update([(1.0, 1.0)], [(4.0, 1.0)], 2000)) is None
    assert sink.take() == []


@pytest.mark.parametrize("bids", [[(3.0, 1.0)], [(3.5, 1.0)]])
def test_a_crossed_book_is_a_problem_and_nothing_of_it_is_told(bids: list[Level]) -> None:
    sink = Recorder()
    book = keeper(sink)
    book.restart(snapshot([(2.0, 1.0)], [(3.0, 1.0)], 1000))
    sink.take()
    assert "crossed book" in (book.change(update(bids, [], 2000)) or "")
    assert sink.take() == []


def test_a_crossed_snapshot_is_a_problem() -> None:
    sink = Recorder()
    book = keeper(sink)
    assert "crossed book" in (book.restart(snapshot([(3.0, 1.0)], [(2.0, 1.0)])) or "")
    assert (sink.log, book.live) == ([], False)


def test_a_market_that_left_the_known_range_is_a_problem() -> None:
    """The venue has bids, but none that the snapshot vouches for: no bid at all would be a lie."""
    sink = Recorder()
    book = keeper(sink)
    book.restart(snapshot([(2.0, 1.0)], [(3.0, 1.0)], 1000, complete=False))
    sink.take()
    assert "left the range" in (book.change(update([(2.0, 0.0), (1.0, 5.0)], [], 2000)) or "")
    assert sink.take() == []


def test_a_side_that_is_truly_empty_is_none() -> None:
    sink = Recorder()
    book = keeper(sink)
    book.restart(snapshot([(2.0, 1.0)], [(3.0, 1.0)], 1000))
    sink.take()
    assert book.change(update([(2.0, 0.0)], [], 2000)) is None
    quotes = [message for message in sink.take() if isinstance(message, Quote)]
    assert [(quote.bid, quote.bid_size, quote.ask) for quote in quotes] == [(None, None, 3.0)]


def test_depth_is_conflated_and_the_last_one_is_never_lost() -> None:
    """At most ten a second, each the newest; what changed last comes when its turn has come."""
    sink = Recorder()
    book = keeper(sink)
    book.restart(snapshot([(1.0, 1.0)], [(3.0, 1.0)], 1000))
    for step in range(1, 100):
        book.change(update([(1.0, 1.0 + step)], [], 1000 + step * 10))
        book.flush((1000 + step * 10) * MS)
    depths = [message for message in sink.take() if isinstance(message, Depth)]
    assert 9 <= len(depths) <= 11
    book.flush(5000 * MS)
    (last,) = sink.take()
    assert isinstance(last, Depth)
    assert last.bids == [(1.0, 100.0)]
    book.flush(9000 * MS)
    assert sink.take() == [], "what did not change is not said again"


def test_a_change_below_the_top_levels_is_no_new_depth_or_quote() -> None:
    sink = Recorder()
    book = keeper(sink, BookSettings(depth_levels=1))
    book.restart(snapshot([(2.0, 1.0), (1.0, 1.0)], [(3.0, 1.0)], 1000))
    sink.take()
    book.change(update([(1.0, 7.0)], [], 3000))
    assert sink.taken() == ["book"]


def test_the_key_is_renewed_every_so_many_updates() -> None:
    sink = Recorder()
    book = keeper(sink, BookSettings(snapshot_every=3))
    book.restart(snapshot([(1.0, 1.0)], []))
    for number in range(2, 12):
        book.change(update([(float(number), 1.0)], []))
    renewed = [len(item.bids) for what, item in sink.log if what == "renew"]
    assert renewed == [4, 7, 10]


def test_what_could_be_taken_for_current_is_withdrawn() -> None:
    sink = Recorder()
    book = keeper(sink)
    book.restart(snapshot([(1.0, 1.0)], [(2.0, 1.0)]))
    sink.log.clear()
    book.invalidate()
    assert sink.log == [("withdraw", (kind, "BTC-USDT")) for kind in ("book", "depth", "quote")]
    sink.take()
    assert book.change(update([(1.0, 2.0)], [], 9000)) is None
    book.flush(10_000 * MS)
    book.republish()
    assert sink.take() == []


def test_the_venues_own_quote_is_neither_made_nor_withdrawn_here() -> None:
    sink = Recorder()
    book = keeper(sink, want_depth=False)
    book.derive = False
    book.restart(snapshot([(1.0, 1.0)], [(2.0, 1.0)]))
    assert sink.taken() == ["book"]
    sink.log.clear()
    book.invalidate()
    assert sink.log == [("withdraw", ("book", "BTC-USDT"))]


def test_after_a_break_the_same_top_is_told_again() -> None:
    """It was withdrawn meanwhile."""
    sink = Recorder()
    book = keeper(sink)
    for at in (1000, 2000):
        book.restart(snapshot([(1.0, 1.0)], [(2.0, 1.0)], at))
        assert sink.taken() == ["book", "quote", "depth"]
        book.invalidate()


def test_a_new_epoch_begins_with_the_whole_book() -> None:
    sink = Recorder()
    book = keeper(sink)
    book.restart(snapshot([(1.0, 1.0)], [(2.0, 1.0)]))
    book.change(update([(0.5, 1.0)], []))
    sink.take()
    book.republish()
    (message,) = sink.take()
    assert isinstance(message, Book)
    assert (message.action, message.bids, message.asks) == ("snapshot", [(1.0, 1.0), (0.5, 1.0)], [(2.0, 1.0)])
