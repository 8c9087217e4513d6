"""hub/venues.py: how readers judge whether a value is good."""

import itertools

import msgspec
import pytest

from hub.model import State, Status
from hub.venues import ChannelReport, ConnectionReport, FeedReport, affects, state_of

STATES: list[State] = ["live", "stale", "resyncing", "down"]


def status(state: State, kind: str | None = None, symbol: str = "A-B") -> Status:
    return Status("venue", symbol, "1-1", None, 1, 1, state, kind, f"because {state}", 1)


def test_without_a_pulse_everything_is_down() -> None:
    state, reason = state_of("quote", False, status("live", symbol="*"), status("live"))
    assert state == "down"
    assert "pulse" in reason


@pytest.mark.parametrize(("venue", "symbol"), [*itertools.product(STATES, STATES)])
def test_the_worst_of_venue_and_symbol_counts(venue: State, symbol: State) -> None:
    worst = max(venue, symbol, key=STATES.index)
    state, reason = state_of("trade", True, status(venue, symbol="*"), status(symbol))
    assert (state, reason) == (worst, "" if worst == "live" else f"because {worst}")


@pytest.mark.parametrize(
    ("about", "kind", "touched"),
    [
        (None, "trade", True),
        ("book", "book", True),
        ("book", "depth", True),  # depth lives and dies with the book
        ("book", "quote", False),
        ("book", "trade", False),
        ("quote", "quote", True),
        ("quote", "book", False),
    ],
)
def test_a_status_touches_its_kind_and_what_is_made_from_it(about: str | None, kind: str, touched: bool) -> None:
    assert affects(status("resyncing", about), kind) is touched
    assert state_of(kind, True, None, status("resyncing", about))[0] == ("resyncing" if touched else "live")


def test_where_there_is_no_value_any_status_explains_it() -> None:
    """A quote that was derived from a book goes away with the book."""
    assert state_of("quote", True, None, status("resyncing", "book"), present=False)[0] == "resyncing"
    assert state_of("quote", True, None, None, present=False) == ("live", "")


def test_a_report_is_read_as_it_was_written() -> None:
    connection = ConnectionReport(url="wss://x", connected=True, since=1, requested=3, acked=2, with_data=1)
    report = FeedReport(
        venue="venue", epoch=5, holder="me", symbols=["A-B"], books_live=1, books_wanted=1, connections=[connection],
        kinds={"trade": ChannelReport(messages=1, ts_recv=2)}, counters={"wire_errors": 3}, ts=4,
    )  # fmt: skip
    assert msgspec.json.decode(msgspec.json.encode(report), type=FeedReport) == report
