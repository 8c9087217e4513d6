"""feeds/cadence.py: silence is judged by what is usual."""

import pytest

from feeds.cadence import Cadence


def hear(cadence: Cadence, every_s: int, seconds: int, count: int = 0) -> int:
    """Let a stream speak every so many seconds; returns the number of messages so far."""
    for second in range(1, seconds + 1):
        count += second % every_s == 0
        assert not cadence.tick(count, 1.0)
    return count


def silence(cadence: Cadence, count: int, limit: int = 100_000) -> int:
    """Let it be silent; returns after how many seconds it is stale."""
    for second in range(1, limit):
        if cadence.tick(count, 1.0):
            assert cadence.stale
            return second
    return limit


@pytest.mark.parametrize(("every_s", "least", "most"), [(1, 30, 31), (5, 100, 200), (60, 1000, 2500)])
def test_silence_is_out_of_proportion_or_not(every_s: int, least: int, most: int) -> None:
    """Half a minute for a stream that speaks each second, half an hour for one that speaks each minute."""
    cadence = Cadence()
    count = hear(cadence, every_s, every_s * 200)
    assert cadence.gap_s == pytest.approx(every_s, rel=0.2)
    assert least <= silence(cadence, count) <= most


def test_a_stream_that_hardly_spoke_is_never_judged() -> None:
    cadence = Cadence()
    count = hear(cadence, 1, cadence.LEARN - 1)
    assert silence(cadence, count, 10_000) == 10_000


def test_a_stream_that_speaks_again_is_well_at_once_and_says_so_once() -> None:
    cadence = Cadence()
    count = hear(cadence, 1, 100)
    silence(cadence, count)
    assert not cadence.tick(count, 1.0), "stale is said once"
    assert cadence.tick(count + 1, 1.0)
    assert (cadence.stale, cadence.silent_s) == (False, 0.0)
    assert not cadence.tick(count + 2, 1.0)


def test_a_burst_does_not_condemn_the_quiet_after_it() -> None:
    """Half a minute at least, however fast it was before."""
    cadence = Cadence()
    count = 0
    for _ in range(60):
        count += 1000
        cadence.tick(count, 1.0)
    assert silence(cadence, count) >= 30


def test_what_is_usual_is_learned_anew() -> None:
    cadence = Cadence()
    count = hear(cadence, 1, 200)
    for second in range(1, 3000):
        count += second % 20 == 0
        cadence.tick(count, 1.0)
    assert cadence.gap_s > 15
    assert silence(cadence, count) > 400
