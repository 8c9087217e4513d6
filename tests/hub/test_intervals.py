"""hub/intervals.py: the lengths of candles."""

import pytest

from hub.intervals import INTERVALS, interval_ns


@pytest.mark.parametrize("name", INTERVALS)
def test_intervals_are_what_their_names_say(name: str) -> None:
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86_400}[name[-1]]
    assert interval_ns(name) == int(name[:-1]) * unit * 1_000_000_000


@pytest.mark.parametrize("name", INTERVALS)
def test_every_interval_divides_the_day(name: str) -> None:
    """So that candles align to midnight UTC."""
    assert 86_400 * 1_000_000_000 % interval_ns(name) == 0


def test_an_unknown_interval_is_a_bug_of_the_caller() -> None:
    with pytest.raises(KeyError):
        interval_ns("2m")
