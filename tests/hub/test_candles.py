"""hub/candles.py against candles added up in one go, and against the venue's own."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hub.candles import CandleBuilder, Due, Empty, SavedCandles
from hub.intervals import interval_ns
from hub.model import CANDLE_TYPES, Candle, Side, Trade, kind_of
from tests.feeds.naive import Row, event, rows_of, session

S = 1_000_000_000
MS = 1_000_000
START = 1_617_566_400 * S
"""A full hour."""
GRACE = 1500 * MS


def trade(at: int, price: float = 1.0, size: float = 1.0, side: Side | None = "buy", count: int = 1) -> Trade:
    """A trade at `at` ns after START."""
    return Trade("venue", "A-B", "", START + at, START + at, 0, price, size, side, "1", count)


def venue_candle(at: int, volume: float, close: float = 1.0, interval: str = "1s", trades: int | None = None) -> Candle:
    """A candle from `at` ns after START as a venue tells it."""
    return CANDLE_TYPES[interval](
        venue="venue", symbol="A-B", id="", ts_event=None, ts_recv=START + at + 60 * S, ts_pub=0, start=START + at,
        open=close, high=close, low=close, close=close, volume=volume, notional=None, vwap=None, trades=trades,
        buy_trades=None, sell_trades=None, buy_volume=None, sell_volume=None, buy_notional=None, sell_notional=None,
        source="venue", revision=0,
    )  # fmt: skip


def builder(*intervals: str, covered: int = 0, empty: Empty = "skip") -> CandleBuilder:
    made = CandleBuilder("venue", "A-B", intervals or ("1s", "10s", "1m"), GRACE, empty=empty)
    made.covered(START + covered)
    return made


def told(candles: Iterable[Candle]) -> list[tuple[str, int, int, float | None]]:
    """Return (kind, start in s after START, revision, volume)."""
    return [(kind_of(row), (row.start - START) // S, row.revision, row.volume) for row in candles]


def added_up(trades: Iterable[Trade], interval: str) -> dict[int, dict[str, Any]]:
    """Return start -> what a candle of these trades says, in the order in which they came."""
    groups: dict[int, list[Trade]] = defaultdict(list)
    for row in trades:
        assert row.ts_event is not None
        groups[row.ts_event // interval_ns(interval) * interval_ns(interval)].append(row)
    result = {}
    for start, rows in groups.items():
        by_time = sorted(rows, key=lambda row: row.ts_event or 0)
        bought, sold = ([row for row in rows if row.side == side] for side in ("buy", "sell"))
        volume, notional = sum(row.size for row in rows), sum(row.price * row.size for row in rows)
        result[start] = {
            "start": start,
            "open": by_time[0].price,
            "high": max(row.price for row in rows),
            "low": min(row.price for row in rows),
            "close": by_time[-1].price,
            "volume": volume,
            "notional": notional,
            "vwap": notional / volume if volume else None,
            "trades": sum(row.count for row in rows),
            "buy_trades": sum(row.count for row in bought),
            "sell_trades": sum(row.count for row in sold),
            "buy_volume": sum(row.size for row in bought),
            "sell_volume": sum(row.size for row in sold),
            "buy_notional": sum(row.price * row.size for row in bought),
            "sell_notional": sum(row.price * row.size for row in sold),
            "source": "trades",
        }
    return result


def says(candle: Candle) -> dict[str, Any]:
    names = next(iter(added_up([trade(0)], "1s").values()))
    return {name: getattr(candle, name) for name in names}


# properties

INTERVALS = ("1s", "10s", "1m")
#: seconds that pass, then what happens: a trade so many ms late, a hole, its end, or the clock
Step: TypeAlias = tuple[int, str, int, int, Side | None]
steps: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(
        st.integers(0, 4000),
        st.sampled_from(["trade", "trade", "trade", "trade", "late", "hole", "old hole", "whole", "clock", "clock"]),
        st.integers(0, 18_000),
        st.integers(1, 9),
        st.sampled_from(["buy", "sell", None]),
    ),
    max_size=120,
)


class Play:
    """One builder and everything that was told to it and by it."""

    def __init__(self, covered_ms: int = 0) -> None:
        self.builder = CandleBuilder("venue", "A-B", INTERVALS, GRACE)
        self.now = START + covered_ms * MS
        self.builder.covered(self.now)
        self.first = self.now
        self.gaps: list[tuple[int, int]] = [(0, self.now)]
        self.trades: list[Trade] = []
        self.candles: list[Candle] = []
        self.due: list[Due] = []

    def step(self, wait_ms: int, what: str, late_ms: int, number: int, side: Side | None) -> None:
        self.now += wait_ms * MS
        if what in ("trade", "late"):
            # On time is anything up to the grace; what is before the first coverage never happened for us.
            at = max(self.first, self.now - (late_ms if what == "late" else late_ms % 1400) * MS)
            row = Trade("venue", "A-B", "", at, self.now, 0, float(number), float(number % 4), side, "1", number)
            self.trades.append(row)
            self.take(self.builder.add(row))
        elif what in ("hole", "old hole"):
            since = self.now - (late_ms * MS if what == "old hole" else 0)
            self.gaps.append((since, 1 << 62))
            self.builder.uncovered(since)
        elif what == "whole":
            self.gaps = [(begin, min(end, self.now)) for begin, end in self.gaps]
            self.builder.covered(self.now)
        else:
            self.close()

    def close(self) -> None:
        candles, due = self.builder.close(self.now)
        self.take(candles)
        self.due += due

    def take(self, candles: list[Candle]) -> None:
        for row in candles:
            assert self.whole(row.start, kind_of(row).partition(".")[2]), "a candle that may miss trades was told"
        self.candles += candles

    def whole(self, start: int, interval: str) -> bool:
        return not any(begin < start + interval_ns(interval) and end > start for begin, end in self.gaps)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 70_000), steps)
@example(0, [(0, "trade", 0, 1, "buy"), (3000, "clock", 0, 1, None), (0, "late", 2000, 2, "sell")])
@example(500, [(0, "trade", 0, 1, "buy"), (9000, "clock", 0, 1, None), (100, "old hole", 6000, 1, None)])
def test_candles_are_what_adding_up_gives(covered_ms: int, script: list[Step]) -> None:
    """However late trades come, whatever is missing in between: what was told last of each candle is right.

    Revisions count from 0, and a candle that may miss trades is not told but due, once.
    """
    play = Play(covered_ms)
    for step in script:
        play.step(*step)
    play.now += 70 * S
    play.close()
    assert play.builder.too_late == 0
    told_last: dict[tuple[str, int], Candle] = {}
    for row in play.candles:
        key = kind_of(row).partition(".")[2], row.start
        assert row.revision == (told_last[key].revision + 1 if key in told_last else 0)
        told_last[key] = row
    due = [(row.interval, row.start) for row in play.due]
    assert len(due) == len(set(due))
    for interval in INTERVALS:
        length = interval_ns(interval)
        expected = added_up(play.trades, interval)
        closed_until = (play.now - GRACE) // length * length
        for start in range(play.first // length * length, closed_until, length):
            if play.whole(start, interval):
                assert (interval, start) not in due
                found = told_last.get((interval, start))
                assert (found and says(found)) == expected.get(start)
            else:
                assert (interval, start) in due


@settings(max_examples=100, deadline=None)
@given(steps)
def test_forming_candles_are_what_came_so_far_and_told_only_when_it_changed(script: list[Step]) -> None:
    play = Play()
    last: dict[str, dict[str, Any]] = {}
    held: dict[str, int] = {}
    for step in script:
        play.step(*step)
        if step[1] == "clock":
            for interval in play.builder.spoilt(play.now):
                start = held.pop(interval, play.now // interval_ns(interval) * interval_ns(interval))
                assert not play.whole(start, interval)
                last.pop(interval, None)
            assert all(play.whole(start, interval) for interval, start in held.items()), "nothing else is left there"
            assert play.builder.spoilt(play.now) == []
            for row in play.builder.forming(play.now):
                interval = kind_of(row).removeprefix("forming.")
                assert row.start == play.now // interval_ns(interval) * interval_ns(interval)
                assert play.whole(row.start, interval)
                assert says(row) == added_up(play.trades, interval)[row.start]
                assert last.get(interval) != says(row)
                last[interval] = says(row)
                held[interval] = row.start
            for interval in INTERVALS:
                start = play.now // interval_ns(interval) * interval_ns(interval)
                expected = added_up(play.trades, interval).get(start)
                if expected is not None and play.whole(start, interval) and expected["trades"]:
                    assert last[interval] == expected
            assert play.builder.forming(play.now) == []


# cases


def test_a_candle_closes_by_the_clock_after_the_grace() -> None:
    """Not by the next trade: a quiet market closes its candles too."""
    made = builder("1s")
    made.add(trade(300 * MS))
    assert made.close(START + S + GRACE - 1) == ([], [])
    assert told(made.close(START + S + GRACE)[0]) == [("candle.1s", 0, 0, 1.0)]
    assert made.close(START + 10 * S) == ([], [])


def test_a_late_trade_is_a_revision_and_an_early_one_waits() -> None:
    made = builder("1s", "10s")
    made.add(trade(300 * MS))
    made.add(trade(1200 * MS, size=5.0))
    assert told(made.close(START + 2600 * MS)[0]) == [("candle.1s", 0, 0, 1.0)]
    assert told(made.add(trade(100 * MS, price=7.0, size=2.0))) == [("candle.1s", 0, 1, 3.0)]
    assert told(made.add(trade(900 * MS, size=4.0))) == [("candle.1s", 0, 2, 7.0)]
    assert told(made.close(START + 12 * S)[0]) == [("candle.1s", 1, 0, 5.0), ("candle.10s", 0, 0, 12.0)]
    (first, second) = made.add(trade(500 * MS))
    assert told([first, second]) == [("candle.1s", 0, 3, 8.0), ("candle.10s", 0, 1, 13.0)]
    assert (second.open, second.close, second.high, second.trades) == (7.0, 1.0, 7.0, 5)


def test_a_late_trade_of_an_empty_interval_makes_its_candle() -> None:
    made = builder("1s", "10s")
    made.add(trade(300 * MS))
    made.close(START + 8 * S)
    assert told(made.add(trade(4200 * MS, size=3.0))) == [("candle.1s", 4, 0, 3.0)]
    assert told(made.add(trade(4300 * MS, size=3.0))) == [("candle.1s", 4, 1, 6.0)]


def test_a_trade_that_is_later_than_anything_kept_is_counted() -> None:
    made = builder("1s", "10s")
    for at in range(0, 300):
        made.add(trade(at * S))
        made.close(START + at * S)
    assert made.add(trade(5 * S)) == []
    assert made.too_late == 1
    assert told(made.add(trade(200 * S))) == [("candle.1s", 200, 1, 2.0)]
    assert made.too_late == 2, "its 10 s candle is as old as none that is kept"


def test_old_candles_of_a_quiet_market_can_still_be_revised() -> None:
    made = builder("1s", "10s")
    made.add(trade(0))
    made.close(START + 600 * S)
    assert told(made.add(trade(1 * MS))) == [("candle.1s", 0, 1, 2.0), ("candle.10s", 0, 1, 2.0)]


def test_no_trades_no_candle() -> None:
    made = builder()
    assert made.close(START + 3600 * S) == ([], [])
    assert made.forming(START + 3600 * S) == []


def test_the_interval_cut_by_the_first_coverage_is_due_and_nothing_before_it() -> None:
    made = builder("1s", "1m", covered=30_300 * MS)
    made.add(trade(30_400 * MS))
    candles, due = made.close(START + 70 * S)
    assert told(candles) == []
    assert due == [Due("1s", START + 30 * S), Due("1m", START)]


def test_nothing_is_kept_of_a_market_that_was_never_covered() -> None:
    """A venue that never says that its streams are there must not fill the memory."""
    made = CandleBuilder("venue", "A-B", ("1s",), GRACE)
    for at in range(1000):
        assert made.add(trade(at * S)) == []
        assert made.close(START + at * S) == ([], [])
    made.covered(START + 1000 * S)
    assert made.close(START + 1010 * S) == ([], [])


def test_candles_between_a_loss_and_the_return_are_due() -> None:
    made = builder("1s", "10s")
    made.add(trade(2 * S))
    made.uncovered(START + 3 * S + 200 * MS)
    made.covered(START + 5 * S + 100 * MS)
    made.add(trade(6 * S))
    candles, due = made.close(START + 12 * S)
    assert told(candles) == [("candle.1s", 2, 0, 1.0), ("candle.1s", 6, 0, 1.0)]
    assert due == [*(Due("1s", START + at * S) for at in (3, 4, 5)), Due("10s", START)]
    assert made.close(START + 13 * S) == ([], [])


def test_what_was_told_before_a_hole_was_seen_is_due_and_then_a_revision() -> None:
    made = builder("1s", "10s")
    made.add(trade(2 * S))
    made.add(trade(4 * S))
    assert len(made.close(START + 8 * S)[0]) == 2
    made.uncovered(START + 4 * S)
    made.covered(START + 8 * S)
    candles, due = made.close(START + 8 * S + 50 * MS)
    assert (candles, due) == ([], [Due("1s", START + at * S) for at in (4, 5)])
    assert told(made.told(venue_candle(4 * S, 7.0))) == [("candle.1s", 4, 1, 7.0)]
    assert told(made.told(venue_candle(5 * S, 3.0))) == [("candle.1s", 5, 0, 3.0)]
    assert told(made.told(venue_candle(4 * S, 8.0))) == [("candle.1s", 4, 2, 8.0)]
    assert told(made.told(venue_candle(5 * S, 4.0))) == [("candle.1s", 5, 1, 4.0)]


def test_holes_without_end_stay_bounded() -> None:
    made = builder()
    for at in range(20_000):
        made.add(trade(at * 10 * S))
        made.uncovered(START + at * 10 * S)
        made.covered(START + at * 10 * S + 1)
        made.close(START + at * 10 * S)
    assert len(made._gaps) <= made.GAPS_MAX


def test_a_long_way_back_asks_for_no_more_than_a_thousand_candles_an_interval() -> None:
    made = builder()
    made.close(START + 86_400 * S)
    made.uncovered(START)
    made.covered(START + 86_400 * S)
    _, due = made.close(START + 86_400 * S + 1)
    assert max([row.interval for row in due].count(interval) for interval in INTERVALS) == made.due_max


def test_trades_without_a_venue_time_count_when_they_came() -> None:
    made = builder("1s")
    made.add(Trade("venue", "A-B", "", None, START + 300 * MS, 0, 2.0, 1.0, None, "1"))
    (candle,) = made.close(START + 3 * S)[0]
    assert (candle.start, candle.buy_trades, candle.sell_trades, candle.trades) == (START, 0, 0, 1)


# empty intervals that have candles


def test_flat_candles_repeat_the_last_close() -> None:
    made = builder("1s", "10s", empty="flat")
    made.add(trade(200 * MS, price=3.0))
    made.add(trade(300 * MS, price=2.0))
    first, second, third = made.close(START + 4600 * MS)[0]
    assert told([first, second, third]) == [
        ("candle.1s", 0, 0, 2.0),
        ("candle.1s", 1, 0, 0.0),
        ("candle.1s", 2, 0, 0.0),
    ]
    assert (third.open, third.high, third.low, third.close, third.vwap) == (2.0, 2.0, 2.0, 2.0, None)
    assert (third.trades, third.buy_trades, third.notional, third.ts_event) == (0, 0, 0.0, None)
    rows = made.close(START + 22 * S)[0]
    assert told(rows)[-2:] == [("candle.10s", 0, 0, 2.0), ("candle.10s", 10, 0, 0.0)]


def test_no_flat_candle_before_a_close_is_known() -> None:
    made = builder("1s", empty="flat")
    assert made.close(START + 8 * S) == ([], [])
    made.add(trade(9 * S, price=4.0))
    assert told(made.close(START + 12600 * MS)[0]) == [("candle.1s", 9, 0, 1.0), ("candle.1s", 10, 0, 0.0)]


def test_a_late_trade_changes_the_flat_candles_after_it_or_ends_them() -> None:
    made = builder("1s", empty="flat")
    made.add(trade(200 * MS, price=3.0))
    made.close(START + 5600 * MS)
    rows = made.add(trade(900 * MS, price=7.0))
    assert [(row.start - START, row.revision, row.close) for row in rows] == [
        (0, 1, 7.0), (1 * S, 1, 7.0), (2 * S, 1, 7.0), (3 * S, 1, 7.0),
    ]  # fmt: skip
    rows = made.add(trade(2500 * MS, price=5.0))
    assert [(row.start - START, row.revision, row.close) for row in rows] == [(2 * S, 2, 5.0), (3 * S, 2, 5.0)]
    assert rows[0].volume == 1.0 and rows[1].volume == 0.0
    (only,) = made.add(trade(2400 * MS, price=9.0))
    assert only.close == 5.0, "the close stays, and so do the flat candles"


def test_flat_candles_behind_a_hole_wait_for_the_venue() -> None:
    """What the close was is not known until the venue, or a trade, tells it."""
    made = builder("1s", empty="flat")
    made.add(trade(200 * MS, price=3.0))
    made.uncovered(START + 1 * S)
    made.covered(START + 2 * S)
    candles, due = made.close(START + 6600 * MS)
    assert told(candles) == [("candle.1s", 0, 0, 1.0)] and due == [Due("1s", START + S)]
    rows = made.told(venue_candle(1 * S, 2.0, close=8.0))
    assert [(row.start - START, row.revision, row.close, row.source) for row in rows] == [
        (1 * S, 0, 8.0, "venue"), (2 * S, 0, 8.0, "trades"), (3 * S, 0, 8.0, "trades"), (4 * S, 0, 8.0, "trades"),
    ]  # fmt: skip


def test_what_repeats_a_close_ends_at_the_next_hole() -> None:
    made = builder("1s", empty="flat")
    made.add(trade(200 * MS, price=3.0))
    made.uncovered(START + 2 * S)
    made.covered(START + 3 * S)
    assert told(made.close(START + 6600 * MS)[0]) == [("candle.1s", 0, 0, 1.0), ("candle.1s", 1, 0, 0.0)]
    assert [row.start - START for row in made.add(trade(300 * MS, price=4.0))] == [0, S]


@pytest.mark.parametrize("trades", [0, None])
def test_candles_without_trades_of_the_venue_follow_the_setting(trades: int | None) -> None:
    skipping, flat = builder("1m"), builder("1m", empty="flat")
    for made in (skipping, flat):
        made.uncovered(START)
        made.covered(START + 70 * S)
        made.close(START + 122 * S)
    assert skipping.told(venue_candle(0, 0.0, interval="1m", trades=trades)) == []
    assert told(flat.told(venue_candle(0, 0.0, interval="1m", trades=trades))) == [("candle.1m", 0, 0, 0.0)]


def test_a_candle_that_was_told_and_had_no_trades_is_taken_back_by_a_revision() -> None:
    made = builder("1s")
    made.add(trade(200 * MS))
    made.close(START + 3 * S)
    assert told(made.told(venue_candle(0, 0.0, trades=0))) == [("candle.1s", 0, 1, 0.0)]


def test_flat_candles_held_back_by_a_doubt_come_when_it_is_settled() -> None:
    made = builder("1s", empty="flat")
    made.add(trade(200 * MS, price=3.0))
    made.close(START + 3600 * MS)
    made.uncovered(START + 1500 * MS, provable=True)
    made.covered(START + 4 * S)
    candles, due = made.close(START + 6600 * MS)
    assert candles == [] and due == [Due("1s", START + at * S) for at in (1, 2, 3)]
    rows = made.judged(True, START + 7 * S)
    assert told(rows) == [("candle.1s", 2, 0, 0.0), ("candle.1s", 3, 0, 0.0), ("candle.1s", 4, 0, 0.0)]
    assert made.judged(True, START + 7 * S) == []


# over a restart


def again(made: CandleBuilder, floor: int = 0) -> CandleBuilder:
    """Return the builder of the next run, by way of bytes."""
    saved = msgspec.msgpack.decode(msgspec.msgpack.encode(made.save()), type=SavedCandles)
    after = CandleBuilder("venue", "A-B", list(saved.series), GRACE)
    assert after.restore(saved, floor)
    return after


def test_a_builder_of_other_intervals_begins_anew() -> None:
    """A longer interval that was not built before would miss what is in it already."""
    saved = builder("1s", "10s").save()
    for intervals in (("1s",), ("1s", "10s", "1m"), ("10s",)):
        assert not CandleBuilder("venue", "A-B", intervals, GRACE).restore(saved)


def test_trades_that_the_earlier_run_had_do_not_count_again() -> None:
    made = builder("1s", "10s")
    made.add(trade(9500 * MS))
    made.uncovered(START + 10 * S)
    after = again(made, floor=START + 10 * S)
    after.covered(START + 11 * S)
    assert after.add(trade(9500 * MS)) == []
    assert told(after.close(START + 12 * S)[0]) == [("candle.1s", 9, 0, 1.0), ("candle.10s", 0, 0, 1.0)]


def test_a_late_trade_of_a_candle_that_nobody_remembers_is_too_late() -> None:
    """It must not make a candle of itself alone."""
    made = builder("1s")
    for at in range(60):
        made.add(trade(at * S))
        made.close(START + at * S)
    after = again(made)
    assert after.add(trade(20 * S)) == []
    assert after.too_late == 1
    assert told(after.add(trade(56 * S))) == [("candle.1s", 56, 1, 2.0)]


def test_a_day_that_missed_trades_is_not_revised_from_those_it_has() -> None:
    """A late trade right after midnight: the gap of the day before is still known."""
    made = builder("1s", "1m", covered=10 * S)
    made.add(trade(59 * S))
    candles, due = made.close(START + 62 * S)
    assert told(candles) == [("candle.1s", 59, 0, 1.0)] and Due("1m", START) in due
    assert told(made.add(trade(59_900 * MS))) == [("candle.1s", 59, 1, 2.0)]


def test_after_a_crash_the_venue_is_asked_since_the_last_candle_told() -> None:
    made = CandleBuilder("venue", "A-B", ("1s", "1m"), GRACE, due_max=3)
    made.resume_after({"1m": START, "5m": START})
    made.covered(START + 200 * S)
    made.add(trade(201 * S))
    assert [entry.start - START for entry in made.close(START + 242 * S)[1] if entry.interval == "1m"] == [
        60 * S, 120 * S, 180 * S,
    ]  # fmt: skip


def test_what_the_next_trade_disproves_is_no_gap() -> None:
    made = builder("1s", "10s")
    made.add(trade(2 * S))
    made.close(START + 4600 * MS)
    made.uncovered(START + 2500 * MS, provable=True)
    made.covered(START + 5 * S)
    assert made.doubtful
    assert made.judged(True, START + 6 * S) == []
    made.add(trade(6 * S))
    candles, due = made.close(START + 12 * S)
    assert told(candles) == [("candle.1s", 6, 0, 1.0), ("candle.10s", 0, 0, 2.0)] and due == []


# the venue's candles

KLINE = {
    "open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "notional": "q", "trades": "n",
    "buy_volume": "V", "buy_notional": "Q",
}  # fmt: skip


def recorded() -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    """Return trades and one-minute candles of the session by symbol."""
    trades: dict[str, list[Row]] = defaultdict(list)
    klines: dict[str, list[Row]] = defaultdict(list)
    for row in rows_of(session("cryptofeed_2021-04-04")):
        found = event(row)
        if found.get("e") == "aggTrade":
            trades[found["s"]].append(found)
        elif found.get("e") == "kline":
            klines[found["s"]].append(found["k"])
    return trades, klines


def canonical(row: Row) -> Trade:
    side: Side = "sell" if row["m"] else "buy"
    ts = row["T"] * MS
    count = row["l"] - row["f"] + 1
    return Trade("binance", row["s"], "", ts, ts, 0, float(row["p"]), float(row["q"]), side, "", count)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT", "DOTUSDT"])
def test_forming_minutes_equal_those_the_venue_told(symbol: str) -> None:
    """The session holds one minute from its first trade on: at each of the venue's updates ours says the same."""
    trades, klines = (table[symbol] for table in recorded())
    minute = max(row["t"] for row in klines)
    compared = 0
    for kline in (row for row in klines if row["t"] == minute):
        made = CandleBuilder("binance", symbol, ("1s", "10s", "1m"), GRACE)
        made.covered((minute - 20_000) * MS)
        seen = [row for row in trades if row["l"] <= kline["L"]]
        if not seen or seen[-1]["l"] != kline["L"]:
            continue
        for row in seen:
            made.add(canonical(row))
            made.close(row["T"] * MS)
        (candle,) = (row for row in made.forming(seen[-1]["T"] * MS) if kind_of(row) == "forming.1m")
        assert candle.start == minute * MS
        for ours, theirs in KLINE.items():
            assert getattr(candle, ours) == pytest.approx(float(kline[theirs]), rel=1e-9), ours
        compared += 1
    assert compared > 5


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT", "DOTUSDT"])
def test_a_closed_minute_is_what_the_venue_added_since_the_recording_began(symbol: str) -> None:
    """Of the minute that was open when the recording began, the sums since the venue's first update must agree."""
    trades, klines = (table[symbol] for table in recorded())
    (closed,) = (row for row in klines if row["x"])
    known = {row["l"] for row in trades}
    first = next(row for row in klines if row["t"] == closed["t"] and row["L"] in known)
    made = CandleBuilder("binance", symbol, ("1s", "1m"), GRACE)
    made.covered(closed["t"] * MS)
    candles: list[Candle] = []
    for row in trades:
        if first["L"] < row["f"]:
            made.add(canonical(row))
            candles += made.close(row["T"] * MS)[0]
    (candle,) = (row for row in candles if kind_of(row) == "candle.1m")
    for ours, theirs in (("volume", "v"), ("notional", "q"), ("buy_volume", "V"), ("buy_notional", "Q")):
        assert getattr(candle, ours) == pytest.approx(float(closed[theirs]) - float(first[theirs]), rel=1e-6), ours
    assert candle.trades == closed["n"] - first["n"]
    assert candle.close == float(closed["c"])
    assert candle.start == closed["t"] * MS


def test_sizes_in_quote_units_are_the_notional() -> None:
    """Inverse contracts: 300 contracts of 1 USD are 300 USD at any price. Price times size would be USD squared."""
    made = CandleBuilder("venue", "A-USD-PERP", ("1s",), GRACE, quoted=True)
    made.covered(1000 * S)
    first, second = 1001 * S, 1001 * S + 1
    made.add(Trade("venue", "A-USD-PERP", "", first, first, 0, 50_000.0, 100.0, "buy", "1"))
    made.add(Trade("venue", "A-USD-PERP", "", second, second, 0, 40_000.0, 200.0, "sell", "2"))
    candle = made.close(1010 * S)[0][0]
    assert (candle.volume, candle.notional, candle.vwap) == (300.0, 300.0, None)
    assert (candle.buy_notional, candle.sell_notional) == (100.0, 200.0)
