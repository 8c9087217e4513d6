"""hub/consolidator/engine.py: quotes, depths and statuses of venue `all`, and who counts."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.analytics.measure import Market, Measure, Numbers
from hub.consolidator.engine import groups_of
from hub.consolidator.settings import ConsolidatorSettings
from hub.model import Depth, Level, Quote, Status, Trade
from tests.hub.consolidator.rig import SYMBOL, Rig
from tests.hub.consolidator.test_ladder import naive


def test_the_best_of_each_side_with_its_venue() -> None:
    rig = Rig()
    rig.quote("kraken", 100.0, 102.0, (3.0, 1.0))
    rig.quote("binance", 99.0, 101.0, (5.0, 2.0))
    quote = rig.newest(Quote)
    assert (quote.bid, quote.bid_size, quote.bid_venue) == (100.0, 3.0, "kraken")
    assert (quote.ask, quote.ask_size, quote.ask_venue) == (101.0, 2.0, "binance")
    assert (quote.mid, quote.market, quote.venues) == (100.5, "normal", ["binance", "kraken"])
    assert quote.spread_bps == pytest.approx(1 / 100.5 * 1e4)
    assert quote.microprice == pytest.approx((100 * 2 + 101 * 3) / 5)
    assert quote.imbalance == pytest.approx(0.2)
    assert (quote.venue, quote.ts_event, quote.imbalance_n, quote.analytics) == ("all", 5, None, {})


@pytest.mark.parametrize(("ask", "market"), [(100.5, "normal"), (100.0, "locked"), (99.5, "crossed")])
def test_between_venues_the_market_may_be_locked_or_crossed(ask: float, market: str) -> None:
    rig = Rig()
    rig.quote("a", 100.0, 110.0)
    rig.quote("b", 90.0, ask)
    quote = rig.newest(Quote)
    assert quote.market == market
    assert (quote.spread_bps > 0, quote.spread_bps < 0) == (market == "normal", market == "crossed")


def test_a_venue_crossed_in_itself_does_not_count() -> None:
    rig = Rig()
    rig.quote("a", 100.0, 101.0)
    rig.quote("b", 105.0, 104.0)
    rig.depth("b", [(105.0, 1.0)], [(104.0, 1.0)])
    assert rig.newest(Quote).venues == ["a"]
    assert rig.newest(Depth).venues == []
    rig.quote("b", 100.5, 104.0)
    assert rig.newest(Quote).bid_venue == "b"


def test_one_side_is_null_where_nobody_has_it() -> None:
    rig = Rig()
    rig.quote("a", 100.0, None)
    quote = rig.newest(Quote)
    assert (quote.bid, quote.ask, quote.ask_size, quote.ask_venue) == (100.0, None, None, None)
    assert (quote.mid, quote.spread_bps, quote.microprice, quote.imbalance, quote.market) == (None,) * 5
    assert quote.venues == ["a"]


def test_no_quote_is_said_twice() -> None:
    rig = Rig()
    rig.quote("a", 100.0, 101.0)
    assert len(rig.said(Quote)) == 1
    rig.quote("a", 100.0, 101.0)
    rig.quote("b", 90.0, 111.0)
    assert [quote.venues for quote in rig.said(Quote)] == [["a", "b"]], "once per turn"
    rig.quote("b", 91.0, 111.0)
    assert rig.said(Quote) == []


def test_depth_is_merged_by_price() -> None:
    rig = Rig()
    rig.depth("a", [(100.0, 1.0), (99.0, 2.0)], [(101.0, 1.0)])
    rig.depth("b", [(100.0, 0.5), (98.0, 2.0)], [(100.5, 4.0), (101.0, 1.0)])
    depth = rig.newest(Depth)
    assert depth.bids == [(100.0, 1.5), (99.0, 2.0), (98.0, 2.0)]
    assert depth.bid_venues == [{"a": 1.0, "b": 0.5}, {"a": 2.0}, {"b": 2.0}]
    assert depth.asks == [(100.5, 4.0), (101.0, 2.0)]
    assert depth.ask_venues == [{"b": 4.0}, {"a": 1.0, "b": 1.0}]
    assert depth.venues == ["a", "b"]


def test_the_depth_is_throttled_and_the_last_one_comes() -> None:
    rig = Rig(ConsolidatorSettings(depth_per_s=10))
    for size in range(1, 50):
        rig.depth("a", [(100.0, float(size))], [])
        rig.now += 1_000_000
        rig.engine.flush(rig.now)
    rig.now += 200_000_000
    depths = rig.said(Depth)
    assert len(depths) <= 3
    assert depths[-1].bids == [(100.0, 49.0)]


def test_imbalance_n_looks_at_the_top_levels() -> None:
    rig = Rig(ConsolidatorSettings(imbalance_levels=2, depth_per_s=1000))
    rig.depth("a", [(100.0, 1.0), (99.0, 2.0), (98.0, 50.0)], [(101.0, 1.0), (102.0, 4.0), (103.0, 9.0)])
    rig.quote("a", 100.0, 101.0)
    assert rig.newest(Quote).imbalance_n == pytest.approx((3 - 5) / 8)


@pytest.mark.parametrize("state", ["stale", "resyncing", "down"])
@pytest.mark.parametrize("whole_venue", [True, False])
def test_a_venue_that_is_not_live_stops_counting_at_once(state: Any, whole_venue: bool) -> None:
    rig = Rig()
    for venue, bid in (("a", 100.0), ("b", 99.0)):
        rig.quote(venue, bid, 101.0)
        rig.depth(venue, [(bid, 1.0)], [(101.0, 1.0)])
    assert rig.newest(Quote).venues == rig.newest(Depth).venues == ["a", "b"]

    def say(status: Status) -> None:
        if whole_venue:
            rig.engine.venue_status("a", status, rig.now)
        else:
            rig.engine.symbol_status(rig.source("a"), status, rig.now)

    say(rig.status(state))
    quote = rig.newest(Quote)
    assert (quote.bid, quote.bid_venue, quote.venues) == (99.0, "b", ["b"])
    assert rig.newest(Depth).venues == ["b"]
    assert [status.state for status in rig.said(Status)] == ["live"]
    say(rig.status("live"))
    assert rig.newest(Quote).venues == ["a", "b"]


def test_a_book_that_is_resynced_takes_the_depth_with_it_and_leaves_the_venues_own_quote() -> None:
    rig = Rig()
    rig.quote("a", 100.0, 101.0)
    rig.depth("a", [(100.0, 1.0)], [])
    rig.said(Quote)
    rig.engine.symbol_status(rig.source("a"), rig.status("resyncing", "book"), rig.now)
    assert rig.newest(Depth).bids == []
    assert rig.said(Quote) == []
    rig.engine.quote(rig.source("a"), None, rig.now)  # read again: it was made of the book and is gone
    quote = rig.newest(Quote)
    assert (quote.bid, quote.venues) == (None, [])


def test_without_any_venue_there_are_nulls_and_a_status_that_says_why() -> None:
    rig = Rig()
    rig.quote("a", 100.0, 101.0)
    rig.depth("a", [(100.0, 1.0)], [])
    rig.said(Quote)
    rig.engine.pulse("a", None, None, rig.now)
    quote = rig.newest(Quote)
    assert (quote.bid, quote.ask, quote.mid, quote.market, quote.venues) == (None, None, None, None, [])
    status = rig.newest(Status)
    assert (status.venue, status.state) == ("all", "down")
    assert "a down: the feed has no pulse" in status.reason
    rig.engine.pulse("a", 2, b"another", rig.now)
    assert rig.said(Quote) == [], "what the dead process said is void"
    rig.quote("a", 100.0, 101.0)
    assert rig.newest(Quote).venues == ["a"]
    assert (rig.newest(Status).kind, rig.said(Status)) == ("depth", [])
    rig.depth("a", [(100.0, 1.0)], [])
    assert rig.newest(Status).state == "live"


def test_values_of_a_publisher_that_was_replaced_are_void() -> None:
    rig = Rig()
    rig.quote("a", 100.0, 101.0)
    rig.said(Quote)
    rig.engine.pulse("a", 7, b"a", rig.now)
    assert rig.said(Quote) == [], "another epoch of the same process"
    assert rig.engine.health.is_current("a", "1-5")
    rig.engine.pulse("a", 9, b"successor", rig.now)
    assert rig.newest(Quote).venues == []
    assert not rig.engine.health.is_current("a", "8-5")
    assert rig.engine.health.is_current("a", "9-1")


def test_cut_off_nothing_counts() -> None:
    rig = Rig()
    rig.quote("a", 100.0, 101.0)
    rig.said(Quote)
    rig.engine.cut_off(True, rig.now)
    assert rig.newest(Quote).venues == []
    rig.engine.cut_off(False, rig.now)
    assert rig.newest(Quote).venues == ["a"]


def test_nothing_is_said_before_everything_was_read() -> None:
    rig = Rig()
    source = rig.engine.add("a", SYMBOL, "base", rig.now)
    rig.engine.offer(source, "quote", rig.now)
    assert rig.said(Quote) == []
    rig.engine.ready(source, rig.now)
    assert rig.newest(Quote).venues == []


def test_groups_merge_quote_currencies_and_keep_the_others_alone() -> None:
    rig = Rig(ConsolidatorSettings(groups={"BTC-USD": ["BTC-USD", "BTC-USDC"]}, depth_per_s=1000))
    rig.quote("a", 100.0, 102.0)
    rig.quote("a", 101.0, 103.0, symbol="BTC-USDC")
    rig.quote("b", 99.0, 101.5, symbol="BTC-USDC")
    rig.depth("a", [(100.0, 1.0)], [])
    rig.depth("a", [(100.0, 2.0)], [], symbol="BTC-USDC")
    quote = rig.newest(Quote)
    assert (quote.bid, quote.bid_venue, quote.ask, quote.ask_venue) == (101.0, "a", 101.5, "b")
    assert quote.venues == ["a", "b"]
    assert rig.newest(Depth).bid_venues == [{"a": 3.0}]
    assert rig.newest(Quote, "BTC-USDC").bid == 101.0
    assert groups_of({"X": ["A", "B", "A"], "Y": ["B"]}) == {"A": ["X"], "B": ["X", "Y"]}


def test_only_wanted_symbols() -> None:
    rig = Rig(ConsolidatorSettings(symbols=["ETH-USD"]))
    rig.quote("a", 100.0, 102.0)
    rig.quote("a", 10.0, 12.0, symbol="ETH-USD")
    assert rig.said(Quote) == []
    assert rig.newest(Quote, "ETH-USD").bid == 10.0


def test_sizes_in_other_units_are_not_merged() -> None:
    rig = Rig()
    rig.source("inverse", unit="quote")
    rig.quote("inverse", 100.0, 101.0)
    assert rig.newest(Quote).venues == ["inverse"], "alone they are fine"
    rig.quote("linear", 99.0, 102.0)
    quote = rig.newest(Quote)
    assert (quote.bid, quote.venues) == (99.0, ["linear"])
    rig.source("inverse2", unit="quote")
    rig.quote("inverse2", 100.0, 101.0)
    assert rig.said(Quote) == []


def test_a_symbol_without_sources_is_taken_away() -> None:
    rig = Rig()
    rig.quote("a", 100.0, 101.0)
    rig.quote("b", 99.0, 101.0)
    rig.said(Quote)
    rig.engine.remove(rig.source("a"), rig.now)
    assert rig.newest(Quote).venues == ["b"]
    rig.engine.remove(rig.source("b"), rig.now)
    assert rig.retired == [SYMBOL]
    assert rig.newest(Status).state == "down"
    assert rig.said(Quote) == []
    assert not rig.engine.outputs


def test_numbers_are_said_again_while_something_comes() -> None:
    class Count(Measure):
        trades = 0

        def on_trade(self, trade: Trade, now: int) -> None:
            self.trades += 1

        def numbers(self, now: int) -> Numbers:
            return {"trades": float(self.trades)}

    rig = Rig(measures={"count": Count})
    rig.quote("a", 100.0, 101.0)
    assert rig.newest(Quote).analytics == {"trades": 0.0}
    rig.trade("a", 100.5)
    rig.run(2)
    assert rig.newest(Quote).analytics == {"trades": 1.0}
    rig.run(2)
    assert rig.said(Quote) == []


def test_an_error_costs_the_numbers_of_its_measure_only() -> None:
    class Bad(Measure):
        def __init__(self, market: Market) -> None:
            super().__init__(market)
            if market.symbol == "ETH-USD":
                raise RuntimeError("not for me")

        def on_quote(self, quote: Quote, venues: Any, now: int) -> None:
            if quote.bid == 13.0:
                raise ZeroDivisionError

        def numbers(self, now: int) -> Numbers:
            return {"bad": float("nan"), "worse": 1.0}

    class Good(Measure):
        def numbers(self, now: int) -> Numbers:
            return {"good": 2, "worse": 3.0}

    class Text(Measure):
        def numbers(self, now: int) -> Numbers:
            return {"text": "abc"}  # type: ignore[dict-item]  # as a plug-in may

    rig = Rig(measures={"bad": Bad, "good": Good, "text": Text})
    rig.quote("a", 12.0, 101.0)
    assert rig.newest(Quote).analytics == {"bad": None, "worse": 1.0, "good": 2.0}
    rig.quote("a", 13.0, 101.0)
    assert rig.newest(Quote).analytics == {"bad": None, "worse": 1.0, "good": 2.0}
    rig.quote("a", 12.0, 101.0, symbol="ETH-USD")
    assert rig.newest(Quote, "ETH-USD").analytics == {"good": 2.0, "worse": 3.0}
    assert (rig.engine.errors["bad"], rig.engine.errors["good"]) == (2, 0)
    assert rig.engine.errors["text"] >= 3


VENUES = ("a", "b", "c")
price = st.sampled_from([1.0, 2.0, 3.0, 4.0, 5.0])
size = st.sampled_from([0.1, 0.2, 0.3, 5.0])
side = st.dictionaries(price, size, max_size=4)
venue = st.sampled_from(VENUES)
step = st.one_of(
    st.tuples(st.just("quote"), venue, st.none() | price, st.none() | price, size),
    st.tuples(st.just("depth"), venue, side, side),
    st.tuples(st.just("gone"), venue, st.sampled_from(["quote", "depth"])),
    st.tuples(st.just("pulse"), venue, st.none() | st.integers(1, 3), st.sampled_from([b"p", b"q"])),
    st.tuples(st.just("venue"), venue, st.sampled_from(["live", "stale", "down"]), st.none() | st.just("book")),
    st.tuples(
        st.just("symbol"), venue, st.sampled_from(["live", "resyncing"]), st.sampled_from([None, "book", "trade"])
    ),
    st.tuples(st.just("cut"), st.booleans()),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(step, max_size=40))
def test_always_what_a_look_at_everything_gives(steps: list[Any]) -> None:
    """Random values, withdrawals, statuses and restarts, against a computation from nothing after each."""
    rig = Rig()
    for name in VENUES:
        rig.source(name)
    state: dict[str, Any] = {
        name: {"quote": None, "depth": None, "alive": True, "holder": name.encode(), "venue": None, "symbol": None}
        for name in VENUES
    }
    cut = False
    for kind, *rest in steps:
        if kind == "cut":
            (cut,) = rest
            rig.engine.cut_off(cut, rig.now)
        else:
            _apply(rig, state[rest[0]], kind, rest)
        rig.now += 2_000_000
        rig.engine.flush(rig.now)
        _compare(rig, state, cut)


def _apply(rig: Rig, known: dict[str, Any], kind: str, rest: list[Any]) -> None:
    name, source = rest[0], rig.source(rest[0])
    if kind == "quote":
        known["quote"] = rig.quote(name, rest[1], rest[2], (rest[3], rest[3]))
    elif kind == "depth":
        bids: list[Level] = sorted(rest[1].items(), reverse=True)
        asks: list[Level] = sorted(rest[2].items())
        known["depth"] = (bids, asks)
        rig.depth(name, bids, asks)
    elif kind == "gone":
        known[rest[1]] = None
        getattr(rig.engine, rest[1])(source, None, rig.now)
    elif kind == "pulse":
        epoch, holder = rest[1:]
        if (epoch is None and known["alive"]) or (epoch is not None and holder != known["holder"]):
            known["quote"] = known["depth"] = None
        known["alive"] = epoch is not None
        known["holder"] = holder if epoch is not None else known["holder"]
        rig.engine.pulse(name, epoch, holder, rig.now)
    else:
        known[kind] = rig.status(rest[1], rest[2])
        if kind == "venue":
            rig.engine.venue_status(name, known[kind], rig.now)
        else:
            rig.engine.symbol_status(source, known[kind], rig.now)


def _counts(known: dict[str, Any], kind: str, cut: bool) -> bool:
    about = {None, "quote"} if kind == "quote" else {None, "depth", "book"}
    wrong = [s for s in (known["venue"], known["symbol"]) if s is not None and s.state != "live" and s.kind in about]
    return known["alive"] and not wrong and not cut and known[kind] is not None


def _compare(rig: Rig, state: dict[str, Any], cut: bool) -> None:
    merged = rig.engine.outputs[SYMBOL].merged
    quotes = {n: k["quote"] for n, k in state.items() if _counts(k, "quote", cut)}
    quotes = {n: q for n, q in quotes.items() if q.bid is None or q.ask is None or q.bid < q.ask}
    depths = {n: k["depth"] for n, k in state.items() if _counts(k, "depth", cut)}
    depths = {n: (b, a) for n, (b, a) in depths.items() if not b or not a or b[0][0] < a[0][0]}
    quote, depth = merged.quote(), merged.depth()
    bids = sorted((-q.bid, -q.bid_size, n) for n, q in quotes.items() if q.bid is not None)
    asks = sorted((q.ask, -q.ask_size, n) for n, q in quotes.items() if q.ask is not None)
    assert (quote.bid, quote.bid_size, quote.bid_venue) == (
        (-bids[0][0], -bids[0][1], bids[0][2]) if bids else (None, None, None)
    )
    assert (quote.ask, quote.ask_size, quote.ask_venue) == (
        (asks[0][0], -asks[0][1], asks[0][2]) if asks else (None, None, None)
    )
    assert quote.venues == sorted(quotes)
    for sign, position, levels, venues in ((1, 0, depth.bids, depth.bid_venues), (-1, 1, depth.asks, depth.ask_venues)):
        sides = {rig.source(n): dict(both[position]) for n, both in depths.items()}
        assert (levels, venues) == naive(sides, sign)
    assert depth.venues == sorted(depths)
    newest = [m for m in rig.messages if isinstance(m, Quote)][-1]
    assert (newest.bid, newest.ask, newest.bid_venue, newest.venues) == (
        quote.bid, quote.ask, quote.bid_venue, quote.venues,
    ), "what was said last is what is"  # fmt: skip
