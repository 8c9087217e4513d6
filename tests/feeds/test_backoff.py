"""feeds/backoff.py: later and later, with jitter, under a cap."""

import pytest

from feeds.backoff import Backoff


@pytest.mark.parametrize(("base_s", "cap_s"), [(0.25, 30.0), (1.0, 30.0), (0.1, 0.3)])
def test_delays_double_under_a_cap_and_never_meet(base_s: float, cap_s: float) -> None:
    rows = []
    for _ in range(50):
        backoff = Backoff(base_s, cap_s)
        delays = [backoff.next_s() for _ in range(12)]
        for place, delay in enumerate(delays):
            limit = min(cap_s, base_s * 2**place)
            assert limit / 2 <= delay <= limit
        rows.append(delays)
    assert len({delays[8] for delays in rows}) == 50


def test_success_begins_anew() -> None:
    backoff = Backoff(0.25, 30.0)
    for _ in range(10):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 0.25


def test_it_goes_on_for_ever() -> None:
    backoff = Backoff()
    assert max(backoff.next_s() for _ in range(5000)) <= 30.0
