"""hub/candles.py against one polars query over all trades: late ones, equal times, restarts, empty intervals."""

from typing import Any, TypeAlias

import msgspec
import polars as pl
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hub.candles import CandleBuilder, Empty, SavedCandles
from hub.intervals import interval_ns
from hub.model import Candle, Side, Trade, kind_of

S = 1_000_000_000
MS = 1_000_000
START = 1_617_580_800 * S - 90 * S
"""90 seconds before a full hour, of which 2h and 4h begin too."""
GRACE = 1500 * MS
INTERVALS = ("1s", "10s", "1m", "2h")
SUMS = (
    "volume", "notional", "trades", "buy_trades", "sell_trades", "buy_volume", "sell_volume", "buy_notional",
    "sell_notional",
)  # fmt: skip

#: ms that pass, what happens, how late (ms), price and size in quarters, count, side
Step: TypeAlias = tuple[int, str, int, int, int, int, Side | None]
steps: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(
        st.one_of(st.just(0), st.integers(0, 6000)),
        st.sampled_from(["trade"] * 4 + ["late"] * 3 + ["clock"] * 3 + ["restart", "restart with a loss", "reconnect"]),
        st.integers(0, 4000),
        st.integers(-3, 9),
        st.integers(0, 9),
        st.integers(1, 4),
        st.sampled_from(["buy", "sell", None]),
    ),
    max_size=80,
)


def batch(trades: list[Trade], interval: str, *, quoted: bool) -> dict[int, dict[str, Any]]:
    """Return start -> candle, by one query."""
    if not trades:
        return {}
    notional = pl.col("size") if quoted else pl.col("price") * pl.col("size")
    frame = pl.DataFrame(
        [(t.ts_event, n, t.price, t.size, t.side, t.count) for n, t in enumerate(trades)],
        schema={"ts": pl.Int64, "n": pl.Int64, "price": pl.Float64, "size": pl.Float64, "side": pl.String,
                "count": pl.Int64},
        orient="row",
    ).with_columns(start=pl.col("ts") // interval_ns(interval) * interval_ns(interval), notional=notional)  # fmt: skip
    bought, sold = (pl.col("side").eq_missing(pl.lit(side)) for side in ("buy", "sell"))
    rows = (
        frame.sort("ts", "n")
        .group_by("start", maintain_order=True)
        .agg(
            open=pl.col("price").first(),
            high=pl.col("price").max(),
            low=pl.col("price").min(),
            close=pl.col("price").last(),
            volume=pl.col("size").sum(),
            notional=pl.col("notional").sum(),
            trades=pl.col("count").sum(),
            buy_trades=pl.col("count").filter(bought).sum(),
            sell_trades=pl.col("count").filter(sold).sum(),
            buy_volume=pl.col("size").filter(bought).sum(),
            sell_volume=pl.col("size").filter(sold).sum(),
            buy_notional=pl.col("notional").filter(bought).sum(),
            sell_notional=pl.col("notional").filter(sold).sum(),
        )
        .with_columns(
            vwap=None if quoted else pl.when(pl.col("volume") > 0).then(pl.col("notional") / pl.col("volume"))
        )
        .to_dicts()
    )
    return {row["start"]: row for row in rows}


def says(candle: Candle) -> dict[str, Any]:
    return {name: getattr(candle, name) for name in ("start", "open", "high", "low", "close", "vwap", *SUMS)}


class Play:
    """One symbol over restarts: what was told to its builders and by them, and where trades are really missing."""

    def __init__(self, *, quoted: bool, empty: Empty) -> None:
        self.options: dict[str, Any] = {"quoted": quoted, "empty": empty}
        self.now = START
        self.builder = self.fresh()
        self.builder.covered(START)
        self.gaps: list[tuple[int, int]] = [(0, START)]
        self.trades: list[Trade] = []
        self.told: dict[tuple[str, int], Candle] = {}
        self.due: set[tuple[str, int]] = set()

    def fresh(self) -> CandleBuilder:
        return CandleBuilder("venue", "A-B", INTERVALS, GRACE, **self.options)

    def step(self, wait_ms: int, what: str, late_ms: int, price: int, size: int, count: int, side: Side | None) -> None:
        self.now += wait_ms * MS
        if what in ("trade", "late"):
            at = max(START, self.now - (late_ms if what == "late" else late_ms % 1200) * MS)
            # Times of the venue are coarse: several trades have one.
            at -= at % (100 * MS)
            trade = Trade("venue", "A-B", "", at, self.now, 0, price / 4, size / 4, side, "1", count)
            self.trades.append(trade)
            self.take(self.builder.add(trade))
        elif what == "clock":
            self.clock()
        elif what == "reconnect":
            self.away(late_ms, loss=False)
        else:
            self.restart(late_ms, loss=what == "restart with a loss")

    def restart(self, away_ms: int, *, loss: bool) -> None:
        saved = msgspec.msgpack.encode(self.builder.save())
        self.builder = self.fresh()
        assert self.builder.restore(msgspec.msgpack.decode(saved, type=SavedCandles))
        self.away(away_ms, loss=loss)

    def away(self, away_ms: int, *, loss: bool) -> None:
        """Nothing comes for a while; the next trade shows whether anything was missed."""
        # Where something is lost it is lost from then on; where nothing is, the doubt may reach far back.
        since = self.now - (0 if loss else away_ms * MS)
        self.builder.uncovered(since, provable=True)
        if away_ms % 2 and not loss:
            self.clock()
        self.now += away_ms * MS
        self.builder.covered(self.now)
        assert self.builder.doubtful
        self.take(self.builder.judged(not loss, self.now))
        if loss:
            self.gaps.append((since, self.now))

    def clock(self) -> None:
        candles, due = self.builder.close(self.now)
        self.take(candles)
        self.due |= {(entry.interval, entry.start) for entry in due}

    def take(self, candles: list[Candle]) -> None:
        for candle in candles:
            key = kind_of(candle).removeprefix("candle."), candle.start
            before = self.told.get(key)
            assert candle.revision == (before.revision + 1 if before is not None else 0)
            assert before is None or says(before) != says(candle) or candle.trades
            self.told[key] = candle

    def whole(self, interval: str, start: int) -> bool:
        return not any(begin < start + interval_ns(interval) and end > start for begin, end in self.gaps)


@settings(max_examples=250, deadline=None)
@given(steps, st.booleans(), st.sampled_from(["skip", "flat"]))
@example(
    [
        (0, "trade", 0, 4, 4, 1, "buy"),
        (4000, "clock", 0, 0, 0, 1, None),
        (0, "late", 3900, 8, 4, 1, "sell"),
        (0, "restart", 100, 0, 0, 1, None),
        (0, "late", 3500, 2, 4, 1, None),
        (2000, "clock", 0, 0, 0, 1, None),
    ],
    False,
    "flat",
)
@example(
    [(0, "trade", 0, 4, 4, 1, "buy"), (3000, "reconnect", 3501, 0, 0, 1, None), (5000, "clock", 0, 0, 0, 1, None)],
    False,
    "skip",
)
def test_candles_equal_one_query_over_all_trades(script: list[Step], quoted: bool, empty: Empty) -> None:
    """Whatever order they came in and however often the feed was started anew meanwhile.

    Where a trade may be missing nothing is told afterwards; the venue is asked.
    """
    play = Play(quoted=quoted, empty=empty)
    for step in script:
        play.step(*step)
    play.now += 130 * S
    play.clock()
    for interval in INTERVALS:
        length = interval_ns(interval)
        expected = batch(play.trades, interval, quoted=quoted)
        close: float | None = None
        for start in range(START // length * length, (play.now - GRACE) // length * length, length):
            found = play.told.get((interval, start))
            if not play.whole(interval, start):
                assert (interval, start) in play.due
                close = None
            elif found is None and (interval, start) in play.due:
                close = None  # it ended while in doubt: the venue was asked
            elif start in expected:
                assert found is not None and says(found) == expected[start]
                close = found.close
            elif empty == "flat" and close is not None:
                assert found is not None and (found.open, found.high, found.low, found.close) == (close,) * 4
                assert not any(getattr(found, name) for name in SUMS) and found.vwap is None
            else:
                assert found is None
    assert play.builder.too_late == 0
