"""feeds/repairs.py: many due candles, few requests, none forgotten."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from feeds.repairs import Repairs
from feeds.venues.binance import Binance
from hub.candles import Due
from hub.intervals import interval_ns
from tests.feeds.frames import BTC, ETH

MINUTE = 60_000_000_000
NOW = 1_800_000_000_000_000_000


@given(
    st.sets(st.integers(0, 10_000), max_size=60),
    st.sets(st.integers(0, 3), max_size=4),
    st.sampled_from(["1m", "5m", "1h"]),
)
def test_every_due_candle_is_asked_for_once(minutes: set[int], others: set[int], interval: str) -> None:
    """However far apart they are: no request asks for more than the venue answers at once."""
    repairs = Repairs(Binance, Counter())
    length = interval_ns(interval)
    for row, starts in ((BTC, minutes), (ETH, others)):
        for start in starts:
            repairs.add(row, Due(interval, start * length))
            repairs.add(row, Due(interval, start * length))
    asked: dict[str, list[int]] = {"BTC-USDT": [], "ETH-USDT": []}
    for request in repairs.take(NOW):
        fetch, wanted = request.fetch, request.starts
        assert fetch.instrument is not None
        params = dict(fetch.params)
        first, count = int(params["startTime"]) * 1_000_000, int(params["limit"])
        assert 1 <= count <= 1000
        assert (fetch.interval, fetch.start) == (interval, first)
        assert params["symbol"] == fetch.instrument.venue_symbol
        assert all(first <= start < first + count * length for start in wanted)
        asked[fetch.instrument.symbol] += wanted
    assert sorted(asked["BTC-USDT"]) == sorted(start * length for start in minutes)
    assert sorted(asked["ETH-USDT"]) == sorted(start * length for start in others)
    assert repairs.take(NOW) == []


def test_neighbours_are_one_request() -> None:
    repairs = Repairs(Binance, Counter())
    for minute in range(500):
        repairs.add(BTC, Due("1m", minute * MINUTE))
    assert len(repairs.take(NOW)) == 1


def test_what_the_venue_cannot_tell_is_counted() -> None:
    counters: Counter[str] = Counter()
    repairs = Repairs(Binance, counters)
    repairs.add(BTC, Due("10s", 0))
    repairs.add(BTC, Due("1s", 0))
    assert repairs.take(NOW) == []
    assert counters == {"candles_incomplete": 2}
