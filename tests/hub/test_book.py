"""hub/book.py: after any deltas a book is what a rebuilt one would be, and its followers have the same."""

from collections.abc import Sequence
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.book import BookSide, OrderBook
from hub.model import Level

Side: TypeAlias = dict[float, float]
Update: TypeAlias = tuple[list[Level], list[Level]]

prices = st.integers(1, 60).map(lambda number: number / 8)
sizes = st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.0, 1e-8, 123456.789])
deltas = st.lists(st.tuples(prices, sizes), max_size=12)
sides = st.dictionaries(prices, sizes.filter(bool), max_size=40)


def change(side: Side, levels: Sequence[Level]) -> None:
    """Do what anyone does who is told absolute sizes."""
    for price, size in levels:
        side[price] = size
        if not size:
            del side[price]


def ranked(side: Side, *, bids: bool) -> list[Level]:
    return sorted(side.items(), reverse=bids)


def copy_of(book: OrderBook) -> tuple[Side, Side]:
    return dict(book.bids.levels()), dict(book.asks.levels())


@given(sides, sides, st.lists(st.tuples(deltas, deltas), max_size=15))
def test_deltas_applied_equal_a_rebuilt_book(
    bids: Side, asks: Side, updates: list[tuple[list[Level], list[Level]]]
) -> None:
    book = OrderBook()
    book.replace(bids.items(), asks.items())
    for new_bids, new_asks in updates:
        assert book.apply(new_bids, new_asks) == (new_bids, new_asks)
        change(bids, new_bids)
        change(asks, new_asks)
        rebuilt = OrderBook()
        rebuilt.replace(bids.items(), asks.items())
        assert book.bids.levels() == rebuilt.bids.levels() == ranked(bids, bids=True)
        assert book.asks.levels() == rebuilt.asks.levels() == ranked(asks, bids=False)
        assert book.bids.levels(3) == ranked(bids, bids=True)[:3]
        assert book.asks.best() == (ranked(asks, bids=False)[0] if asks else None)
        assert (len(book.bids), len(book.asks)) == (len(bids), len(asks))
        assert book.crossed() == bool(bids and asks and max(bids) >= min(asks))


@settings(max_examples=200)
@given(sides, sides, st.integers(1, 25), st.integers(1, 12), st.lists(st.tuples(deltas, deltas), max_size=20))
def test_what_is_kept_is_true_and_a_follower_has_the_same(
    bids: Side, asks: Side, snapshot: int, kept: int, updates: list[Update]
) -> None:
    """The venue tells its best levels once and every change after; at most `kept` a side stay here.

    Within the bounds the book is the venue's, level for level, and whoever applies what `apply` returned has the same.
    """
    top = ranked(bids, bids=True)[:snapshot], ranked(asks, bids=False)[:snapshot]
    book = OrderBook(kept)
    book.replace(*top, bids_complete=len(bids) <= snapshot, asks_complete=len(asks) <= snapshot)
    follower = copy_of(book)
    for new_bids, new_asks in updates:
        change(bids, new_bids)
        change(asks, new_asks)
        told = book.apply(new_bids, new_asks)
        for side, levels in zip(follower, told, strict=True):
            for price, size in levels:
                side[price] = size
                if not size:
                    del side[price]
        assert follower == copy_of(book)
        assert max(len(book.bids), len(book.asks)) <= kept
        assert follower[0] == {price: size for price, size in bids.items() if price >= book.bids.bound}
        assert follower[1] == {price: size for price, size in asks.items() if -price >= book.asks.bound}


@given(sides, st.integers(0, 45))
def test_truncate_tells_what_it_forgets(side: Side, count: int) -> None:
    ours = BookSide(-1)
    ours.replace(side.items(), complete=True)
    gone = ours.truncate(count)
    levels = ranked(side, bids=False)
    assert ours.levels() == levels[:count]
    assert sorted(gone) == [(price, 0.0) for price, _ in levels[count:]]
    assert ours.bound == (-levels[:count][-1][0] if gone and count else float("-inf"))


@pytest.mark.parametrize(
    ("bids", "asks", "crossed"),
    [
        ([(1.0, 1.0)], [(1.1, 1.0)], False),
        ([(1.1, 1.0)], [(1.1, 1.0)], True),
        ([(1.2, 1.0), (1.0, 5.0)], [(1.1, 1.0)], True),
        ([], [(1.1, 1.0)], False),
        ([(1.2, 1.0)], [], False),
        ([], [], False),
    ],
)
def test_a_best_bid_at_or_above_the_best_ask_is_impossible(bids: list[Level], asks: list[Level], crossed: bool) -> None:
    book = OrderBook()
    book.replace(bids, asks)
    assert book.crossed() is crossed


def test_a_snapshot_replaces_everything() -> None:
    book = OrderBook(kept=2)
    book.replace([(3.0, 1.0), (2.0, 1.0), (1.0, 1.0)], [(4.0, 1.0)])
    assert book.bids.bound == 2.0
    book.replace([(1.5, 2.0), (1.4, 0.0)], [])
    assert copy_of(book) == ({1.5: 2.0}, {})
    assert book.apply([(1.0, 3.0)], [(9.0, 1.0)]) == ([(1.0, 3.0)], [(9.0, 1.0)])
    assert copy_of(book) == ({1.5: 2.0, 1.0: 3.0}, {9.0: 1.0})


def test_beyond_the_worst_price_of_a_snapshot_nothing_is_kept_or_told() -> None:
    """Its true levels there are unknown: one that is told later would stand beside holes nobody sees."""
    book = OrderBook()
    book.replace([(3.0, 1.0), (2.0, 1.0)], [(4.0, 1.0), (5.0, 1.0)], bids_complete=False, asks_complete=False)
    assert book.apply([(1.9, 5.0), (2.5, 1.0)], [(5.1, 5.0)]) == ([(2.5, 1.0)], [])
    assert book.apply([(2.0, 0.0)], []) == ([(2.0, 0.0)], [])
    assert book.apply([(2.0, 4.0), (1.99, 1.0)], []) == ([(2.0, 4.0)], [])
    assert copy_of(book) == ({3.0: 1.0, 2.5: 1.0, 2.0: 4.0}, {4.0: 1.0, 5.0: 1.0})


def test_a_level_that_comes_and_is_pruned_in_one_update_is_told_as_removed() -> None:
    book = OrderBook(kept=2)
    book.replace([(3.0, 1.0), (2.0, 1.0)], [])
    bids, _ = book.apply([(1.0, 9.0), (4.0, 1.0)], [])
    assert dict(bids) == {4.0: 1.0, 2.0: 0.0, 1.0: 0.0}
    assert book.bids.levels() == [(4.0, 1.0), (3.0, 1.0)]


def test_a_bounded_side_that_ran_out_is_left() -> None:
    side = BookSide(1)
    side.replace([(3.0, 1.0)], complete=False)
    assert (side.left, side.thinner(2), side.thinner(1)) == (False, True, False)
    side.apply([(3.0, 0.0)])
    assert (side.left, side.thinner(1)) == (True, True)
    side.replace([(3.0, 1.0)], complete=True)
    side.apply([(3.0, 0.0)])
    assert (side.left, side.thinner(1)) == (False, False)
