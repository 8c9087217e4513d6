"""hub/statuses.py: a message per change, and the newest tells everything."""

from hypothesis import given
from hypothesis import strategies as st

from hub.model import State, Status
from hub.statuses import StatusBoard

SEVERITY: list[State] = ["live", "stale", "resyncing", "down"]


def said(status: Status | None) -> tuple[State, str | None, str] | None:
    return None if status is None else (status.state, status.kind, status.reason)


def test_what_is_wrong_is_said_once_and_taken_back_once() -> None:
    board = StatusBoard("venue")
    assert said(board.mark("A-B", "book", "resyncing", "gap", 1)) == ("resyncing", "book", "gap")
    assert board.mark("A-B", "book", "resyncing", "gap", 2) is None
    assert said(board.mark("A-B", "book", "live", "rebuilt", 3)) == ("live", None, "rebuilt")
    assert board.mark("A-B", "book", "live", "rebuilt", 4) is None


def test_a_symbol_is_as_bad_as_its_worst_part() -> None:
    board = StatusBoard("venue")
    board.mark("A-B", "quote", "stale", "silent", 1)
    assert said(board.mark("A-B", "book", "resyncing", "gap", 2)) == ("resyncing", None, "silent; gap")
    assert said(board.mark("A-B", "book", "live", "", 3)) == ("stale", "quote", "silent")
    assert said(board.mark("A-B", "quote", "live", "again", 4)) == ("live", None, "again")


def test_causes_are_taken_back_each_for_itself() -> None:
    board = StatusBoard("venue")
    board.mark("A-B", "book", "resyncing", "gap", 1)
    board.mark("A-B", "book", "stale", "silent", 2, cause="silence")
    assert said(board.mark("A-B", "book", "live", "", 3)) == ("stale", "book", "silent")
    assert said(board.mark("A-B", "book", "live", "speaks", 4, cause="silence")) == ("live", None, "speaks")


def test_since_is_when_the_state_began() -> None:
    board = StatusBoard("venue")
    first = board.mark("A-B", "book", "resyncing", "one", 10)
    second = board.mark("A-B", "book", "resyncing", "another reason", 20)
    third = board.mark("A-B", "book", "live", "", 30)
    times = [(status.since, status.ts_recv) for status in (first, second, third) if status is not None]
    assert times == [(10, 10), (10, 20), (30, 30)]


def test_the_first_word_may_be_that_all_is_well() -> None:
    board = StatusBoard("venue")
    assert said(board.mark("*", None, "live", "connected", 1)) == ("live", None, "connected")
    assert board.mark("*", None, "live", "connected", 2) is None
    assert board.states() == {"*": "live"}


def test_an_announcement_changes_no_state() -> None:
    board = StatusBoard("venue")
    assert said(board.note("A-B", "trade", "5 lost", 1)) == ("live", "trade", "5 lost")
    board.mark("A-B", "book", "resyncing", "gap", 2)
    assert said(board.note("A-B", "trade", "5 lost", 3)) == ("resyncing", "book", "5 lost; gap")
    assert board.mark("A-B", "book", "resyncing", "gap", 4) is None
    assert board.state("A-B") == "resyncing"


def test_everything_can_be_said_again() -> None:
    board = StatusBoard("venue")
    board.mark("*", None, "down", "cut", 1)
    board.mark("A-B", "book", "resyncing", "gap", 2)
    board.mark("C-D", None, "live", "fine", 3)
    again = board.again(9)
    assert [(status.symbol, *(said(status) or ()), status.since, status.ts_recv) for status in again] == [
        ("A-B", "resyncing", "book", "gap", 2, 9), ("C-D", "live", None, "fine", 3, 9),
    ]  # fmt: skip
    assert board.mark("A-B", "book", "resyncing", "gap", 10) is None


marks = st.tuples(st.sampled_from(["book", "quote", None]), st.sampled_from(SEVERITY), st.sampled_from(["", "silence"]))


@given(st.lists(marks, max_size=30))
def test_the_newest_message_always_says_the_worst_there_is(script: list[tuple[str | None, State, str]]) -> None:
    board = StatusBoard("venue")
    standing: dict[tuple[str | None, str], State] = {}
    newest: Status | None = None
    for now, (kind, state, cause) in enumerate(script):
        status = board.mark("A-B", kind, state, f"{state} {cause}", now, cause=cause)
        if state == "live":
            standing.pop((kind, cause), None)
        else:
            standing[kind, cause] = state
        if status is not None:
            assert newest is None or said(status) != said(newest)
            newest = status
        assert newest is not None
        assert newest.state == max(standing.values(), key=SEVERITY.index, default="live")
        kinds = {kind for kind, _ in standing}
        assert newest.kind == (kinds.pop() if len(kinds) == 1 else None)
