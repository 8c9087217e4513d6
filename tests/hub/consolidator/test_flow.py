"""hub/consolidator/flow.py: candles of venue `all` are whole or not there."""

from hub.consolidator.flow import DOUBT_NS
from hub.consolidator.settings import ConsolidatorSettings
from hub.model import Candle, kind_of
from tests.hub.consolidator.rig import START, SYMBOL, Rig, S


def of(candles: list[Candle], interval: str) -> list[Candle]:
    return [candle for candle in candles if kind_of(candle) == f"candle.{interval}"]


def starts(candles: list[Candle], interval: str = "1s") -> list[int]:
    return [(candle.start - START) // S for candle in of(candles, interval)]


def traded(rig: Rig, seconds: int, *venues: str) -> list[Candle]:
    """Half a second after each second's begin every venue trades; returns the closed candles."""
    found: list[Candle] = []
    for _ in range(seconds):
        found += rig.run(0.5)
        for number, venue in enumerate(venues):
            rig.trade(venue, 100.0 + number)
        found += rig.run(0.5)
    return found


def test_trades_of_all_venues_are_one_candle() -> None:
    rig = Rig()
    rig.source("a"), rig.source("b")
    candles = traded(rig, 14, "a", "b")
    first = of(candles, "1s")[0]
    assert (first.venue, first.symbol, first.open, first.high, first.low, first.close) == (
        "all", SYMBOL, 100.0, 101.0, 100.0, 101.0,
    )  # fmt: skip
    assert (first.volume, first.trades, first.vwap, first.source) == (2.0, 2, 100.5, "trades")
    assert starts(candles) == list(range(12))
    assert [(c.start, c.trades) for c in of(candles, "10s")] == [(START, 20)]


def test_candles_in_which_a_venue_comes_are_left_out() -> None:
    rig = Rig()
    rig.source("a")
    candles = traded(rig, 3, "a") + rig.run(0.25)
    rig.source("b")
    candles += rig.run(0.75) + traded(rig, 20, "a", "b")
    assert starts(candles) == [0, 1, 2, *range(4, 22)]
    assert starts(candles, "10s") == [10], "the first ten seconds are not whole"


def test_candles_in_which_a_dead_venue_may_have_traded_are_left_out() -> None:
    rig = Rig(ConsolidatorSettings(grace_ms=5000))
    rig.source("a"), rig.source("b")
    candles = traded(rig, 10, "a", "b")
    rig.engine.pulse("a", None, None, rig.now)  # found out: it was last seen a moment ago, and may have died before
    candles += traded(rig, 12, "b")
    doubtful = range(10 - DOUBT_NS // S - 1, 10)
    assert starts(candles) == [second for second in range(17) if second not in doubtful]


def test_trades_that_were_lost_cost_their_candle() -> None:
    rig = Rig(ConsolidatorSettings(grace_ms=5000))
    rig.source("a")
    candles = traded(rig, 10, "a") + rig.run(0.25)
    rig.engine.symbol_status(rig.source("a"), rig.status("live", "trade", "5 trades lost"), rig.now)
    candles += rig.run(0.75) + traded(rig, 9, "a")
    assert 10 not in starts(candles)
    assert {0, 5, 11, 14} <= set(starts(candles))


def test_without_venues_there_are_no_candles() -> None:
    rig = Rig()
    rig.source("a")
    rig.engine.pulse("a", None, None, rig.now)
    rig.trade("a", 100.0)
    assert traded(rig, 5, "a") == []


def test_an_open_candle_that_is_whole_no_more_is_taken_away() -> None:
    rig = Rig()
    rig.source("a")
    traded(rig, 12, "a")
    rig.withdrawn.clear()
    traded(rig, 1, "a")
    assert rig.withdrawn == [], "it is whole"
    rig.source("b")
    rig.run(0.25)
    assert rig.withdrawn == [f"forming.10s:{SYMBOL}"], "and the second that is over was whole"
    rig.run(5)
    assert len(rig.withdrawn) == 1, "once"
    rig.messages.clear()
    rig.trade("b", 100.0)
    rig.engine.tick(rig.now + S // 4)
    told = [kind_of(message) for message in rig.messages]
    assert "forming.1s" in told and "forming.10s" not in told
