"""hub/analytics: each number equals a naive computation from its definition (ANALYTICS.md)."""

from math import fsum, log, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.analytics import Market
from hub.analytics.bands import Bands
from hub.analytics.cross import CrossSpread
from hub.analytics.order_flow import OrderFlow
from hub.analytics.top import Imbalance, Microprice, Spread, imbalance_of, microprice_of, spread_bps_of
from hub.analytics.volatility import Volatility
from hub.analytics.vwap import Vwap
from hub.analytics.window import BINS, WindowSum
from hub.model import Depth, Level, Quote, Trade

S = 1_000_000_000
START = 1_700_000_000 * S
HEAD = ("all", "BTC-USD", "", None, START, 0)
MARKET = Market(symbol="BTC-USD", windows_s=(10,), levels=5)

price = st.sampled_from([99.0, 99.5, 100.0, 100.5, 101.0])
size = st.floats(0.001, 1e6)
gap = st.integers(0, 4 * S)


def quote(
    bid: float | None,
    bid_size: float | None,
    ask: float | None,
    ask_size: float | None,
    venues: tuple[str, ...] = ("a",),
) -> Quote:
    mid = (bid + ask) / 2 if bid is not None and ask is not None else None
    return Quote(*HEAD, bid, bid_size, ask, ask_size, mid=mid, venues=list(venues))


def in_window(now: int, length_s: int, events: list[tuple[int, float]]) -> list[float]:
    """The values in the last BINS bins, as the definition of a window says."""
    width = length_s * S // BINS
    return [value for ts, value in events if now // width - BINS < ts // width <= now // width]


@given(st.lists(st.tuples(gap, st.floats(-1e9, 1e9)), max_size=200), st.integers(0, 20 * S))
def test_a_window_is_the_sum_of_what_is_in_it(steps: list[tuple[int, float]], later: int) -> None:
    window, now, events = WindowSum(10), START, list[tuple[int, float]]()
    for wait, value in steps:
        now += wait
        events.append((now, value))
        window.add(value, now)
        inside = in_window(now, 10, events)
        total, count = window.read(now)
        assert count == len(inside)
        assert total == pytest.approx(fsum(inside), abs=1e-9 * fsum(map(abs, inside)))
    now += later
    inside = in_window(now, 10, events)
    assert window.read(now)[1] == len(inside)
    assert window.read(now)[0] == pytest.approx(fsum(inside), abs=1e-9 * fsum(map(abs, inside)))


def test_a_window_does_not_drift() -> None:
    """A huge value that left leaves nothing behind, as subtracting it would."""
    window = WindowSum(10)
    window.add(1e17, START)
    for second in range(1, 1000):
        window.add(0.1, START + second * S)
    total, count = window.read(START + 999 * S)
    assert total == pytest.approx(1.0, rel=1e-15)
    assert count == 10


def test_a_window_is_bounded() -> None:
    window = WindowSum(10)
    for step in range(50_000):
        window.add(1.0, START + step * 1_000_000)
    assert len(window._front) + len(window._back) <= 2 * BINS


def test_a_clock_that_goes_back_counts_as_now() -> None:
    window = WindowSum(10)
    window.add(1.0, START)
    window.add(1.0, START - 60 * S)
    assert window.read(START) == (2.0, 2)


def test_the_best_level() -> None:
    assert spread_bps_of(99.0, 101.0) == 200.0
    assert spread_bps_of(101.0, 99.0) == -200.0
    assert spread_bps_of(-1.0, 1.0) is None
    assert microprice_of(99.0, 3.0, 101.0, 1.0) == 100.5
    assert imbalance_of(3.0, 1.0) == 0.5
    for sizes in ((None, 1.0), (1.0, None), (0.0, 0.0)):
        assert microprice_of(99.0, sizes[0], 101.0, sizes[1]) is imbalance_of(*sizes) is None


def test_measures_of_the_best_level() -> None:
    spread, micro, imbalance = Spread(MARKET), Microprice(MARKET), Imbalance(MARKET)
    asked = quote(99.0, 3.0, 101.0, 1.0)
    for measure in (spread, micro):
        measure.on_quote(asked, {}, START)
    assert spread.numbers(START) == {"spread": 2.0}
    assert micro.numbers(START) == {"microprice_bps": pytest.approx(0.5 / 100 * 1e4)}
    bids: list[Level] = [(float(100 - n), 2.0) for n in range(8)]
    imbalance.on_depth(Depth(*HEAD, bids, [(101.0, 5.0)]), START)
    assert imbalance.numbers(START) == {"imbalance_5": pytest.approx((10 - 5) / 15)}
    for measure in (spread, micro):
        measure.on_quote(quote(99.0, 3.0, None, None), {}, START)
        assert list(measure.numbers(START).values()) == [None]


levels = st.lists(st.tuples(st.integers(1, 400), size), max_size=5, unique_by=lambda level: level[0])


@given(levels, levels, st.sampled_from([1.0, 10.0, 100.0]))
def test_depth_within_a_band(below: list[tuple[int, float]], above: list[tuple[int, float]], bps: float) -> None:
    bids: list[Level] = sorted(((100 - ticks / 100, size) for ticks, size in below), reverse=True)
    asks: list[Level] = sorted((100 + ticks / 100, size) for ticks, size in above)
    bands = Bands(Market(symbol="X", bands_bps=(bps,), levels=5))
    bands.on_depth(Depth(*HEAD, bids, asks), START)
    wanted: list[float | None] = [None, None]
    if bids and asks:
        mid = (bids[0][0] + asks[0][0]) / 2
        inside = [
            [s for p, s in bids if p >= mid * (1 - bps / 1e4)],
            [s for p, s in asks if p <= mid * (1 + bps / 1e4)],
        ]
        # Five levels are all that is shown: with all of them inside, there may be more.
        wanted = [None if len(sizes) == 5 else fsum(sizes) for sizes in inside]
    numbers = bands.numbers(START)
    assert list(numbers) == [f"bid_depth_{bps:g}bps", f"ask_depth_{bps:g}bps"]
    for number, expected in zip(numbers.values(), wanted, strict=True):
        assert (number is None) == (expected is None)
        assert number is None or number == pytest.approx(expected)


def naive_contribution(before: Quote, after: Quote) -> float:
    """The cases of the paper, one by one."""
    assert before.bid is not None and before.ask is not None and after.bid is not None and after.ask is not None
    assert before.bid_size is not None and before.ask_size is not None
    assert after.bid_size is not None and after.ask_size is not None
    if after.bid > before.bid:
        demand = after.bid_size
    elif after.bid == before.bid:
        demand = after.bid_size - before.bid_size
    else:
        demand = -before.bid_size
    if after.ask < before.ask:
        supply = after.ask_size
    elif after.ask == before.ask:
        supply = after.ask_size - before.ask_size
    else:
        supply = -before.ask_size
    return demand - supply


tops = st.tuples(gap, price, size, price, size, st.sampled_from([("a",), ("a",), ("a", "b")]))


@given(st.lists(tops, max_size=60))
def test_order_flow(steps: list[tuple[int, float, float, float, float, tuple[str, ...]]]) -> None:
    flow, now, events = OrderFlow(MARKET), START, list[tuple[int, float]]()
    assert flow.numbers(now) == {"ofi_10s": None}
    last: Quote | None = None
    for wait, bid, bid_size, ask, ask_size, venues in steps:
        now += wait
        new = quote(bid, bid_size, ask, ask_size, venues)
        flow.on_quote(new, {}, now)
        if last is not None and last.venues == new.venues:
            events.append((now, naive_contribution(last, new)))
        last = new
        inside = in_window(now, 10, events)
        assert flow.numbers(now)["ofi_10s"] == pytest.approx(fsum(inside), abs=1e-9 * fsum(map(abs, inside)))


def test_a_side_that_is_missing_contributes_nothing_to_order_flow() -> None:
    flow = OrderFlow(MARKET)
    for each in (quote(99.0, 1.0, 101.0, 1.0), quote(None, None, 101.0, 5.0), quote(99.0, 4.0, 101.0, 1.0)):
        flow.on_quote(each, {}, START)
    assert flow.numbers(START) == {"ofi_10s": 0.0}


@settings(deadline=None)
@given(st.lists(st.tuples(gap, st.sampled_from([None, 99.0, 100.0, 100.5, 103.0, 250.0])), max_size=60))
def test_volatility(steps: list[tuple[int, float | None]]) -> None:
    measure, now, ticks = Volatility(MARKET), START, list[tuple[int, float | None]]()
    for wait, mid in steps:
        now += wait
        ticks.append((now, mid))
        measure.on_quote(quote(mid, 1.0, mid, 1.0) if mid is not None else quote(None, None, 1.0, 1.0), {}, now)
        number, wanted = measure.numbers(now)["volatility_10s"], naive_volatility(ticks, now)
        assert (number is None) == (wanted is None)
        assert number is None or number == pytest.approx(wanted, rel=1e-9, abs=1e-9)


def naive_volatility(ticks: list[tuple[int, float | None]], now: int) -> float | None:
    """Sample each whole second, then sum squared log returns; a missing mid ends the line of samples."""
    first = ticks[0][0] // S
    returns: list[tuple[int, float]] = []
    before: float | None = None
    for second in range(first, now // S):
        inside = [mid for ts, mid in ticks if ts // S == second]
        if None in inside:
            before = None
        sample = next(mid for ts, mid in reversed(ticks) if ts // S <= second)
        if sample is not None and before is not None:
            returns.append((second * S, log(sample / before) ** 2))
        before = sample
    squares = in_window(now, 10, returns)
    return sqrt(fsum(squares)) * 1e4 if squares and ticks[-1][1] is not None else None


@given(st.lists(st.tuples(gap, st.floats(0.01, 1e6), size), max_size=60))
def test_vwap(steps: list[tuple[int, float, float]]) -> None:
    measure, now, trades = Vwap(MARKET), START, list[tuple[int, float, float]]()
    assert measure.numbers(now) == {"vwap_10s": None}
    for wait, at, much in steps:
        now += wait
        trades.append((now, at, much))
        measure.on_trade(Trade(*HEAD, at, much, "buy", "1"), now)
        volume = fsum(in_window(now, 10, [(ts, s) for ts, _, s in trades]))
        notional = fsum(in_window(now, 10, [(ts, p * s) for ts, p, s in trades]))
        assert measure.numbers(now)["vwap_10s"] == pytest.approx(notional / volume)


def test_vwap_does_not_divide_by_prices() -> None:
    measure = Vwap(Market(symbol="X", quoted=True, windows_s=(10,)))
    measure.on_trade(Trade(*HEAD, 100.0, 1.0, "buy", "1"), START)
    assert measure.numbers(START) == {"vwap_10s": None}


@given(st.dictionaries(st.sampled_from("abcd"), st.tuples(st.none() | price, st.none() | price)))
def test_cross_spread(venues: dict[str, tuple[float | None, float | None]]) -> None:
    measure = CrossSpread(MARKET)
    quotes = {name: quote(bid, 1.0, ask, 1.0) for name, (bid, ask) in venues.items()}
    bids = [bid for bid, _ in venues.values() if bid is not None]
    asks = [ask for _, ask in venues.values() if ask is not None]
    best = quote(max(bids, default=None), 1.0, min(asks, default=None), 1.0)
    measure.on_quote(best, quotes, START)
    gaps = [
        bid - ask
        for buyer, (bid, _) in venues.items()
        for seller, (_, ask) in venues.items()
        if buyer != seller and bid is not None and ask is not None
    ]
    number = measure.numbers(START)["cross_spread_bps"]
    assert (number is None) == (not gaps)
    assert number is None or number == pytest.approx(max(gaps) / best.mid * 1e4)  # type: ignore[operator]
