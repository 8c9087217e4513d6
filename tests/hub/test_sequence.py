"""hub/sequence.py: whatever happens to messages on the way, nothing is applied across a hole."""

from dataclasses import dataclass, field
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.errors import SequenceGap
from hub.sequence import SnapshotSync, TradeIds

State: TypeAlias = dict[int, int]
Delta: TypeAlias = tuple[int, int, State]
"""first, last, and the values that the keys touched in between have at `last`"""

KEYS = 2


def truth(upto: int) -> State:
    """Return the venue's state after update `upto`: each one sets one of a few keys to its own number."""
    return {number % KEYS: number for number in range(max(1, upto - KEYS + 1), upto + 1)}


def delta(first: int, last: int) -> Delta:
    return first, last, {number % KEYS: number for number in range(first, last + 1)}


@dataclass
class Follower:
    """Somebody who applies what SnapshotSync says and nothing else."""

    sync: SnapshotSync[Delta] = field(default_factory=SnapshotSync)
    state: State = field(default_factory=dict)
    gaps: int = 0

    def receive(self, first: int, last: int) -> None:
        item = delta(first, last)
        try:
            if self.sync.delta(first, last, item):
                self.state |= item[2]
        except SequenceGap:
            self.gaps += 1
        self.check()

    def snapshot(self, last: int) -> bool:
        held = self.sync.snapshot(last)
        if held is not None:
            self.state = truth(last)
            for _, _, values in held:
                self.state |= values
        self.check()
        return held is not None

    def check(self) -> None:
        if self.sync.live:
            assert self.state == truth(self.sync.last)


lengths = st.lists(st.integers(1, 4), min_size=1, max_size=40)
fates = st.sampled_from(["told", "told", "told", "told", "told", "told", "lost", "twice", "swapped", "again", "merged"])
snapshots = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12), st.booleans()), max_size=6)


@settings(max_examples=500)
@given(lengths, st.lists(fates, min_size=40, max_size=40), snapshots)
def test_never_anything_but_the_venues_state(
    sizes: list[int], what: list[str], answers: list[tuple[int, int, bool]]
) -> None:
    """Messages lost, repeated, swapped, sent again later or cut differently; snapshots old and new, late or soon."""
    stream: list[tuple[int, int]] = []
    at = 1
    for size, fate in zip(sizes, what, strict=False):
        piece = (at, at + size - 1)
        at += size
        if fate == "swapped" and stream:
            stream.insert(-1, piece)
        elif fate == "merged" and stream:
            stream.append((stream[-1][0], piece[1]) if stream[-1][1] + 1 == piece[0] else piece)
        elif fate != "lost":
            stream.append(piece)
        if fate == "twice":
            stream.append(piece)
        if fate == "again" and len(stream) > 4:
            stream.append(stream[-4])
    follower = Follower()
    due = {place: (back, hold) for place, back, hold in answers}
    for place, (first, last) in enumerate(stream):
        follower.receive(first, last)
        if place in due:
            back, hold = due[place]
            if hold and follower.sync.live:
                follower.sync.hold()
            follower.snapshot(max(0, last - back))
    follower.snapshot(at - 1)
    assert follower.sync.live
    assert follower.state == truth(at - 1)


@given(lengths, st.integers(0, 30), st.integers(0, 30), st.integers(0, 20))
def test_a_whole_stream_has_no_gaps(sizes: list[int], asked: int, wait: int, back: int) -> None:
    """A snapshot fits as soon as it reaches back to the first held delta, and everything after it is applied."""
    follower = Follower()
    at, pieces = 1, []
    for size in sizes:
        pieces.append((at, at + size - 1))
        at += size
    asked %= len(pieces)
    began, taken = pieces[asked][0], False
    for place, (first, last) in enumerate(pieces):
        if place >= asked:
            follower.receive(first, last)
        if place == min(asked + wait, len(pieces) - 1):
            upto = max(0, last - back)
            taken = follower.snapshot(upto)
            assert taken == (upto >= began - 1)
    assert follower.gaps == 0
    if taken:
        assert follower.sync.last == at - 1


@pytest.mark.parametrize(
    ("first", "last", "outcome"),
    [
        (101, 105, "applied"),  # "each event's U == previous u + 1"
        (99, 105, "applied"),  # "U <= lastUpdateId+1 <= u"
        (90, 100, "dropped"),  # "drop any event where u <= lastUpdateId"
        (100, 100, "dropped"),
        (102, 105, "gap"),  # "U > book id + 1: a message was lost"
        (300, 300, "gap"),
    ],
)
def test_the_three_ways_of_a_delta(first: int, last: int, outcome: str) -> None:
    """https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams: a local order book."""
    sync: SnapshotSync[str] = SnapshotSync()
    sync.delta(95, 97, "old")
    assert sync.snapshot(100) == []
    if outcome == "gap":
        with pytest.raises(SequenceGap) as caught:
            sync.delta(first, last, "new")
        assert (caught.value.expected, caught.value.received) == (101, first)
        assert not sync.live
        # The one that showed the gap is the first of those held for the next snapshot.
        assert sync.snapshot(first - 1) == ["new"]
        return
    assert sync.delta(first, last, "new") is (outcome == "applied")
    assert sync.last == (last if outcome == "applied" else 100)


def test_one_gap_is_told_once_and_then_everything_is_held() -> None:
    sync: SnapshotSync[int] = SnapshotSync()
    sync.snapshot(10)
    with pytest.raises(SequenceGap):
        sync.delta(12, 12, 12)
    assert [sync.delta(number, number, number) for number in (13, 14, 15)] == [False] * 3
    assert sync.snapshot(10) is None
    assert sync.snapshot(13) == [14, 15]


def test_a_hole_among_the_held_makes_the_older_ones_useless() -> None:
    sync: SnapshotSync[int] = SnapshotSync()
    for number in (1, 2, 5, 6):
        sync.delta(number, number, number)
    assert sync.snapshot(3) is None
    assert sync.snapshot(4) == [5, 6]


def test_a_repeat_among_the_held_is_not_applied_late() -> None:
    """It would bring back old sizes, and the next delta would look like a gap."""
    sync: SnapshotSync[str] = SnapshotSync()
    for first, last, item in ((3, 4, "a"), (5, 8, "b"), (3, 4, "a again"), (8, 8, "b again")):
        assert not sync.delta(first, last, item)
    assert sync.snapshot(2) == ["a", "b"]
    assert sync.delta(9, 10, "c")


def test_what_is_held_is_bounded() -> None:
    sync: SnapshotSync[int] = SnapshotSync()
    count = sync.HELD_MAX + 100
    for number in range(1, count + 1):
        sync.delta(number, number, number)
    assert sync.snapshot(50) is None
    assert sync.snapshot(100) == list(range(101, count + 1))


def test_a_live_book_gets_a_new_snapshot_without_going_back() -> None:
    sync: SnapshotSync[int] = SnapshotSync()
    sync.snapshot(10)
    assert sync.delta(11, 12, 1)
    sync.hold()
    assert sync.delta(13, 14, 2)
    assert sync.delta(15, 16, 3)
    assert sync.snapshot(9) is None, "older than what is held"
    assert sync.live
    assert sync.snapshot(14) == [3]
    assert (sync.live, sync.last) == (True, 16)
    sync.hold()
    assert sync.snapshot(20) == []
    assert sync.last == 20
    assert not sync.delta(17, 20, 4)


# trades


@given(st.lists(st.integers(1, 30), max_size=60))
def test_trades_are_new_once(ids: list[int]) -> None:
    seen: set[int] = set()
    trades = TradeIds(contiguous=True)
    for number in ids:
        assert trades.new(str(number)) is (number not in seen)
        seen.add(number)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60, unique=True))
def test_every_id_that_did_not_come_is_told_once_as_missing(ids: list[int]) -> None:
    """Told when the next higher one comes; one that comes after all was late, not lost."""
    trades = TradeIds(contiguous=True)
    missing: list[int] = []
    for number in ids:
        hole = trades.missing_before(str(number))
        if hole is not None:
            missing += range(hole[0], hole[1] + 1)
    assert len(missing) == len(set(missing))
    late = {number for place, number in enumerate(ids) if number < max(ids[: place + 1])}
    assert set(missing) == set(range(ids[0], max(ids) + 1)) - set(ids) | {number for number in late if number > ids[0]}


def test_ids_that_a_venue_does_not_count_are_never_missing() -> None:
    trades = TradeIds(contiguous=False)
    assert [trades.missing_before(text) for text in ("5", "9", "a-b")] == [None] * 3


def test_the_window_of_ids_is_bounded() -> None:
    trades = TradeIds(contiguous=True)
    for number in range(3 * trades.WINDOW):
        assert trades.new(str(number))
    assert len(trades._seen) == len(trades._order) == trades.WINDOW
    assert not trades.new(str(2 * trades.WINDOW))


def test_numbers_before_the_window_are_known_to_be_old() -> None:
    trades, others = TradeIds(contiguous=True), TradeIds(contiguous=False)
    for number in range(1, TradeIds.WINDOW + 11):
        assert not trades.forgotten("1") or number > TradeIds.WINDOW
        trades.new(str(number))
        others.new(str(number))
    assert [trades.forgotten(text) for text in ("1", "10", "11", "99999", "a-b")] == [True, True, False, False, False]
    assert not others.forgotten("1")  # its numbers may mean nothing
