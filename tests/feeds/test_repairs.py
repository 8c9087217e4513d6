"""feeds/repairs.py: many due candles, few requests, none forgotten."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.repairs import Repairs, Request
from feeds.venues.binance import Binance
from feeds.venues.kraken import Kraken
from hub.candles import Due
from hub.intervals import interval_ns
from hub.model import CANDLE_TYPES, Candle
from tests.feeds.frames import BTC, ETH

MINUTE = 60_000_000_000
NOW = 1_800_000_000_000_000_000
START = NOW // MINUTE * MINUTE - 100 * MINUTE


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


# answers


def candle(minute: int, *, trades: int = 2, close: float = 5.0, symbol: str = "BTC-USDT") -> Candle:
    """A minute as the venue tells it; minute 0 begins at START."""
    return CANDLE_TYPES["1m"](
        venue="binance", symbol=symbol, id="", ts_event=None, ts_recv=0, ts_pub=0, start=START + minute * MINUTE,
        open=1.0, high=9.0, low=1.0, close=close, volume=float(trades), notional=10.0, vwap=5.0, trades=trades,
        buy_trades=None, sell_trades=None, buy_volume=1.0, sell_volume=None, buy_notional=None, sell_notional=None,
        source="venue", revision=0,
    )  # fmt: skip


def asked(repairs: Repairs, *minutes: int) -> Request:
    for minute in minutes:
        repairs.add(BTC, Due("1m", START + minute * MINUTE))
    (request,) = repairs.take(NOW)
    return request


def told(candles: Sequence[Candle]) -> list[tuple[int, float, float | None]]:
    return [((row.start - START) // MINUTE, row.close, row.volume) for row in candles]


def test_only_what_is_wanted_is_told_and_only_once() -> None:
    repairs = Repairs(Binance, Counter())
    request = asked(repairs, 1, 3)
    assert repairs.waits_for(request)
    rows = [candle(minute) for minute in range(5)]
    assert told(repairs.answered(request, rows, NOW)) == [(1, 5.0, 2.0), (3, 5.0, 2.0)]
    assert not repairs.waits_for(request)
    assert repairs.answered(request, rows, NOW) == []


def test_what_is_not_there_yet_is_asked_for_once_more_up_to_now_and_then_said(caplog: pytest.LogCaptureFixture) -> None:
    counters: Counter[str] = Counter()
    repairs = Repairs(Binance, counters)
    assert told(repairs.answered(asked(repairs, 1, 2), [candle(1)], NOW)) == [(1, 5.0, 2.0)]
    assert repairs.take(NOW + Repairs.AGAIN_NS - 1) == []
    (request,) = repairs.take(NOW + Repairs.AGAIN_NS)
    assert request.starts == (START + 2 * MINUTE,)
    assert int(dict(request.fetch.params)["limit"]) > 1, "a later candle would tell that it had no trades"
    assert counters["candles_missing"] == 0
    assert repairs.answered(request, [candle(1)], NOW + Repairs.AGAIN_NS) == []
    assert counters["candles_missing"] == 1
    repairs.expire(NOW + Repairs.AGAIN_NS)
    assert "the venue does not tell candles venue=binance count=1 of=BTC-USDT 1m" in caplog.text
    repairs.expire(NOW + 10 * Repairs.AGAIN_NS)
    assert len(caplog.records) == 1
    assert repairs.take(NOW + 10 * Repairs.AGAIN_NS) == []


def test_what_the_venue_left_out_between_others_had_no_trades() -> None:
    counters: Counter[str] = Counter()
    repairs = Repairs(Binance, counters)
    assert told(repairs.answered(asked(repairs, 1, 2, 3), [candle(1), candle(4)], NOW)) == [(1, 5.0, 2.0)]
    assert (counters["candles_empty"], counters["candles_missing"]) == (2, 0)
    assert repairs.take(NOW + Repairs.AGAIN_NS) == []


def test_flat_candles_stand_for_what_was_left_out() -> None:
    repairs = Repairs(Binance, Counter(), flat=True)
    rows = repairs.answered(asked(repairs, 1, 2, 3), [candle(1, close=7.0), candle(4)], NOW)
    assert told(rows) == [(1, 7.0, 2.0), (2, 7.0, 0.0), (3, 7.0, 0.0)]
    flat = rows[-1]
    assert (flat.open, flat.high, flat.low, flat.trades, flat.notional, flat.vwap) == (7.0, 7.0, 7.0, 0, 0.0, None)
    assert (flat.source, flat.buy_volume) == ("venue", None)


def test_what_is_never_answered_is_given_up_in_the_end(caplog: pytest.LogCaptureFixture) -> None:
    counters: Counter[str] = Counter()
    repairs = Repairs(Binance, counters)
    request = asked(repairs, 1, 2)
    repairs.expire(NOW + Repairs.PATIENCE_NS - 1)
    assert repairs.waits_for(request)
    repairs.expire(NOW + Repairs.PATIENCE_NS)
    assert not repairs.waits_for(request)
    assert counters == {"candles_missing": 2} and "count=2" in caplog.text


def test_what_the_venue_tells_no_more_is_not_asked() -> None:
    """Kraken answers with its newest 720, whatever is asked for."""
    counters: Counter[str] = Counter()
    repairs = Repairs(Kraken, counters)
    now = START + 1000 * MINUTE
    for minute in (0, 100, 900):
        repairs.add(BTC, Due("1m", START + minute * MINUTE))
    (request,) = repairs.take(now)
    assert request.starts == (START + 900 * MINUTE,)
    assert counters == {"candles_incomplete": 2}
