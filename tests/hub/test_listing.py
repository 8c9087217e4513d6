"""hub/listing.py: what a new list changes, and which list is not believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from hub.instruments import Instrument
from hub.intervals import NS_PER_S
from hub.listing import DELISTED, GONE_FEW, GONE_PART, KEPT_NS, Merged, merge

NOW = 1_800_000_000 * NS_PER_S
BEFORE = NOW - 3600 * NS_PER_S


def row(symbol: str, **fields: object) -> Instrument:
    base = Instrument(venue="v", venue_symbol=symbol.lower(), symbol=symbol, kind="spot", base=symbol, quote="USD")
    return structs.replace(base, **fields)


def known(*symbols: str, **fields: object) -> dict[str, Instrument]:
    return {symbol: row(symbol, first_seen=BEFORE, **fields) for symbol in symbols}


def listed(before: dict[str, Instrument], *rows: Instrument, now: int = NOW) -> Merged:
    return merge(before, rows, now, seen_before=BEFORE, expected=lambda _: True)


def told(merged: Merged) -> list[tuple[str, str, list[str]]]:
    return [(change.action, change.instrument.symbol, change.changes) for change in merged.changes]


def test_the_first_list_is_no_news() -> None:
    merged = merge({}, [row("A"), row("B")], NOW, seen_before=None, expected=lambda _: True)
    assert [each.first_seen for each in merged.rows] == [NOW, NOW]
    assert merged.changes == []


def test_listed_delisted_changed() -> None:
    merged = listed(known("A", "B", "C"), row("A"), row("B", tick_size=0.1, status="halted"), row("D"))
    assert told(merged) == [
        ("changed", "B", ["tick_size", "status"]),
        ("listed", "D", []),
        ("delisted", "C", ["status"]),
    ]
    rows = {each.symbol: each for each in merged.rows}
    assert "A" not in rows
    assert (rows["B"].first_seen, rows["D"].first_seen) == (BEFORE, NOW)
    assert (rows["C"].status, rows["C"].last_seen, rows["C"].first_seen) == (DELISTED, BEFORE, BEFORE)


def test_what_comes_back_is_listed_and_was_first_seen_when_it_was() -> None:
    merged = listed(known("A") | known("B", status=DELISTED, last_seen=BEFORE), row("A"), row("B"))
    assert told(merged) == [("listed", "B", [])]
    assert (merged.rows[0].first_seen, merged.rows[0].last_seen) == (BEFORE, None)


def test_delisted_once_and_forgotten_some_day() -> None:
    before = known("A") | known("B", status=DELISTED, last_seen=BEFORE)
    assert listed(before, row("A")) == Merged([], [], [], "")
    assert listed(before, row("A"), now=BEFORE + KEPT_NS + 1).forgotten == ["B"]


@pytest.mark.parametrize("count", [0, 1, 60])
def test_a_list_that_lacks_much_is_not_believed(count: int) -> None:
    before = known(*(f"S{number}" for number in range(100)))
    merged = listed(before, *(row(symbol) for symbol in list(before)[:count]))
    assert (merged.changes, merged.rows) == ([], [])
    assert merged.doubt


def test_what_a_doubtful_list_has_counts_all_the_same() -> None:
    before = known(*(f"S{number}" for number in range(100)))
    merged = listed(before, row("NEW"), row("S1", lot_size=2.0))
    assert told(merged) == [("listed", "NEW", []), ("changed", "S1", ["lot_size"])]
    assert "lacks 99 of 100" in merged.doubt


def test_expired_instruments_are_expected_to_go() -> None:
    before = known(*(f"OLD{number}" for number in range(90)), expiry=NOW - 1) | known("A")
    merged = listed(before, row("A"))
    assert merged.doubt == ""
    assert len(merged.changes) == 90


def test_some_rows_are_no_list() -> None:
    merged = merge(known("A", "B"), [row("B", tick_size=1.0), row("C")], NOW, seen_before=BEFORE)
    assert {each.symbol for each in merged.rows} == {"B", "C"}
    assert merged.changes == []


def test_what_no_list_would_have_is_not_missed() -> None:
    merged = merge(
        known("A", "EUR"), [row("A")], NOW, seen_before=BEFORE, expected=lambda each: each.symbol != "EUR"
    )  # fmt: skip
    assert merged == Merged([], [], [], "")


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)))
def test_applied_the_rows_are_the_list(old: set[int], new: set[int]) -> None:
    before = known(*(f"S{number}" for number in sorted(old)))
    merged = listed(before, *(row(f"S{number}") for number in sorted(new)))
    after = before | {each.symbol: each for each in merged.rows}
    living = {symbol for symbol, each in after.items() if each.status != DELISTED}
    wanted = {f"S{number}" for number in new}
    missing = len(old - new)
    if not new or missing > max(GONE_FEW, GONE_PART * len(old)):
        assert merged.doubt
        assert living == wanted | set(before)
    else:
        assert merged.doubt == ""
        assert living == wanted
    assert {change.action for change in merged.changes} <= {"listed", "delisted"}
