"""Candles of recorded trades against the candles that the venue itself sent in the same recording.

The venue's candle is of some moment, and of which one it does not say: after one of the trades ours must be the same,
in every field it gives. Binance's may also be of a moment between two fills that it aggregates to one trade: then it
lies between two of ours. No other difference was found.
"""

import gzip
from bisect import bisect
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from feeds.rfc3339 import parse_ns
from hub.candles import CandleBuilder
from hub.intervals import NS_PER_MS, NS_PER_S, interval_ns
from hub.model import Candle, Trade, kind_of
from tests.feeds.venues.plays import DATA, ROOT, frames_of, play, rows_of

#: symbol, start in ns, and the fields it gives
Theirs: TypeAlias = tuple[str, int, dict[str, float]]

KLINE = {
    "open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "notional": "q", "trades": "n",
    "buy_volume": "V", "buy_notional": "Q",
}  # fmt: skip
LISTED = ROOT / "demo" / "binance" / "cryptofeed_2021-04-17" / "rest_exchangeInfo.json.gz"
FUTURES = DATA / "binance_futures" / "cryptofeed_2021-07-22"
SPOT = ROOT / "demo" / "binance" / "cryptofeed_2021-04-04"
COINBASE = DATA / "coinbase" / "advanced_trade_2026-08-09_cut"


def trades_of(venue: str, session: Path) -> dict[str, list[Trade]]:
    """Return the trades as the hub publishes them, by symbol."""
    _, messages = play(venue, session, gzip.decompress(LISTED.read_bytes()) if venue == "binance" else None)
    found: dict[str, list[Trade]] = {}
    for row in messages:
        if row["type"] == "trade":
            values = {name: row[name] for name in Trade.__struct_fields__}
            trade = Trade(**values | {"price": float(row["price"]), "size": float(row["size"])})
            found.setdefault(trade.symbol, []).append(trade)
    return found


def ours(trades: list[Trade], interval: str, start: int) -> Iterator[Candle]:
    """Return the open candle after each of the trades of one interval."""
    made = CandleBuilder("venue", trades[0].symbol, ("1s", interval), 10 * NS_PER_S)
    made.covered(start)
    for trade in trades:
        ts = trade.ts_event if trade.ts_event is not None else trade.ts_recv
        if start <= ts < start + interval_ns(interval):
            made.add(trade)
            yield from (row for row in made.forming(ts) if kind_of(row) == f"forming.{interval}")


def binance_klines(session: Path, suffix: str = "") -> list[Theirs]:
    found = []
    for frame in frames_of(rows_of(session)):
        data = frame.get("data", frame)
        if isinstance(data, dict) and data.get("e") == "kline" and data["k"]["i"] == "1m":
            kline = data["k"]
            symbol = f"{kline['s'].removesuffix('USDT')}-USDT{suffix}"
            found.append((symbol, kline["t"] * NS_PER_MS, {name: float(kline[k]) for name, k in KLINE.items()}))
    return found


def coinbase_candles(session: Path) -> list[Theirs]:
    found = []
    for frame in frames_of(rows_of(session)):
        for event in frame["events"] if frame.get("channel") == "candles" else ():
            for row in event["candles"]:
                fields = {name: float(row[name]) for name in ("open", "high", "low", "close", "volume")}
                found.append((row["product_id"], int(row["start"]) * NS_PER_S, fields))
    return found


def coinbase_trades(session: Path) -> dict[str, list[Trade]]:
    """Return all trades of the stream, those included that happened before it: a feed leaves them out."""
    found: dict[str, dict[int, Trade]] = {}
    for frame in frames_of(rows_of(session)):
        for event in frame["events"] if frame.get("channel") == "market_trades" else ():
            for row in event["trades"]:
                ts = parse_ns(row["time"])
                assert ts is not None
                price, size = float(row["price"]), float(row["size"])
                trade = Trade("coinbase", row["product_id"], "", ts, ts, 0, price, size, None, row["trade_id"])
                found.setdefault(trade.symbol, {})[int(row["trade_id"])] = trade
    return {symbol: [rows[number] for number in sorted(rows)] for symbol, rows in found.items()}


def same(candle: Candle, fields: dict[str, float]) -> bool:
    return all(getattr(candle, name) == pytest.approx(value, rel=1e-9) for name, value in fields.items())


def compared(trades: dict[str, list[Trade]], theirs: list[Theirs], interval: str) -> int:
    """Compare all candles of which every trade was recorded; returns how many are the same as one of ours."""
    count = 0
    for symbol, start, fields in theirs:
        rows = trades.get(symbol, [])
        if not rows or (rows[0].ts_event or 0) >= start:
            continue  # trades from before the recording are in it
        states = list(ours(rows, interval, start))
        if any(same(candle, fields) for candle in states):
            count += 1
        else:
            assert inside(states, fields), f"{symbol} {start} {fields}"
    return count


def inside(states: list[Candle], fields: dict[str, float]) -> bool:
    """Tell whether a candle was taken after some of the fills of one trade: none of ours has as many."""
    counts = [candle.trades or 0 for candle in states]
    at = bisect(counts, fields["trades"])
    if fields["trades"] in counts:
        return False
    sums = ("volume", "notional", "buy_volume", "buy_notional")
    above = [getattr(states[at - 1], name) <= fields[name] * (1 + 1e-9) for name in sums] if at else []
    below = [getattr(states[at], name) * (1 + 1e-9) >= fields[name] for name in sums] if at < len(states) else []
    return bool(above or below) and all((*above, *below))


def test_binance() -> None:
    assert compared(trades_of("binance", SPOT), binance_klines(SPOT), "1m") >= 50


def test_binance_futures() -> None:
    """Nothing else than the aggregated trades is in these: no liquidation by the insurance fund happened meanwhile."""
    trades = trades_of("binance_futures", FUTURES)
    assert compared(trades, binance_klines(FUTURES, "-PERP"), "1m") >= 8


def test_coinbase() -> None:
    """The stream begins with the last hundred trades: they reach back behind the start of the candle."""
    assert compared(coinbase_trades(COINBASE), coinbase_candles(COINBASE), "5m") >= 3
