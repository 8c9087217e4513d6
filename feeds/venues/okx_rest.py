"""OKX over REST: the lists of instruments, and candles (the stream's rows are the same). Rules are in okx.py."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from feeds.adapter import Fetch
from feeds.units import number, product, size_of
from feeds.venue_candles import average_price, venue_candle
from feeds.venues.okx_wire import CandleRow, Listed, decode_candles, decode_instruments
from hub.instruments import Instrument, canonical_symbol
from hub.intervals import NS_PER_MS, interval_ns
from hub.model import Candle

__all__ = [
    "BARS",
    "CANDLES_MAX",
    "INTERVAL_OF",
    "OLD_CANDLES_MAX",
    "candles",
    "candles_fetch",
    "read_candles",
    "read_instruments",
]

VENUE = "okx"
_STATUS = {"live": "trading", "suspend": "halted"}
_TYPES: dict[str, Any] = {"SPOT": "spot", "SWAP": "perpetual", "FUTURES": "future", "OPTION": "option"}
CANDLES_MAX = 300
#: Older ones than the newest so many are elsewhere, and come fewer at a time.
CANDLES_KEPT = 1440
OLD_CANDLES_MAX = 100
#: interval -> the venue's word. Bars of six hours and longer begin at 16:00 UTC unless they are the `utc` ones.
BARS = {
    "1m": "1m", "3m": "3m", "5m": "5m", "15m": "15m", "30m": "30m", "1h": "1H", "2h": "2H", "4h": "4H",
    "6h": "6Hutc", "12h": "12Hutc", "1d": "1Dutc",
}  # fmt: skip
INTERVAL_OF = {bar: interval for interval, bar in BARS.items()}


def read_instruments(body: bytes) -> list[Instrument]:
    """Read an answer; ValueError where it is none. Rows of no known type, or that say too little, are left out."""
    answer = decode_instruments(body)
    if answer.code != "0":
        raise ValueError(f"code {answer.code} {answer.msg}")
    rows = [row for listed in answer.data if (row := _readable(listed)) is not None]
    if answer.data and not rows:
        raise ValueError("no row that can be read")
    return rows


def _readable(row: Listed) -> Instrument | None:
    try:
        return _instrument(row)
    except (ValueError, OverflowError):
        return None


def _instrument(row: Listed) -> Instrument | None:
    kind = _TYPES.get(row.instType)
    pair = f"{row.baseCcy}-{row.quoteCcy}" if kind == "spot" else row.uly or row.instFamily
    base, _, quote = pair.partition("-")
    # Families tell apart what has the same index: BTC-USD and BTC-USD_UM.
    one, _, other = (pair if kind == "spot" else row.instFamily or row.uly).partition("-")
    if kind is None or not all((base, quote, one, other, row.ctVal or kind == "spot")):
        return None
    # A contract is worth ctVal x ctMult: 1 x 0.1 BTC for an option of 2022, 0.01 x 1 BTC for a swap.
    factor = Decimal(1) if kind == "spot" else product(row.ctVal, row.ctMult)
    expiry = int(row.expTime) * NS_PER_MS if kind in ("future", "option") else None
    return Instrument(
        venue=VENUE,
        venue_symbol=row.instId,
        symbol=canonical_symbol(kind, one, other, expiry=expiry, strike=row.stk, right=row.optType),
        kind=kind,
        base=base,
        quote=quote,
        settle=row.settleCcy or None,
        name=f"{base}/{quote}" if kind == "spot" else row.instId,
        tick_size=number(row.tickSz),
        lot_size=size_of(row.lotSz, factor) if row.lotSz else None,
        contract_size=float(factor),
        size_unit="quote" if row.ctType == "inverse" else "base",
        expiry=expiry,
        status=_STATUS.get(row.state, row.state),
    )


def candles_fetch(instrument: Instrument, interval: str, start: int, count: int, now: int) -> Fetch | None:
    """Ask for candles from `start` (int ns): `after` and `before` are bounds, older than and newer than."""
    if interval not in BARS:
        return None
    first, length = start // NS_PER_MS, interval_ns(interval) // NS_PER_MS
    old = start < now - (CANDLES_KEPT - CANDLES_MAX) * interval_ns(interval)
    count = min(count, OLD_CANDLES_MAX if old else CANDLES_MAX)
    params = (
        ("instId", instrument.venue_symbol),
        ("bar", BARS[interval]),
        ("after", str(first + count * length)),
        ("before", str(first - 1)),
        ("limit", str(count)),
    )
    return Fetch(
        resource="history-candles" if old else "candles",
        path=f"/api/v5/market/{'history-candles' if old else 'candles'}",
        params=params,
        weight=2 if old else 1,
        instrument=instrument,
        interval=interval,
        start=start,
    )


def read_candles(body: bytes) -> list[CandleRow]:
    """Read an answer, oldest first; ValueError where it is none."""
    answer = decode_candles(body)
    if answer.code != "0":
        raise ValueError(f"code {answer.code} {answer.msg}")
    return answer.data[::-1]


def candles(instrument: Instrument, interval: str, rows: Iterable[CandleRow], ts_recv: int) -> list[Candle]:
    """Return the closed ones among `rows`."""
    length = interval_ns(interval)
    return [
        _candle(instrument, interval, row, ts_recv)
        for row in rows
        if row.confirm == "1" or (not row.confirm and row.ts * NS_PER_MS + length <= ts_recv)
    ]


def _candle(instrument: Instrument, interval: str, row: CandleRow, ts_recv: int) -> Candle:
    volume = size_of(row.vol, Decimal(repr(instrument.contract_size)))
    # Quote units: the last column, of spot the one before it as well. Inverse contracts are counted in quote already.
    turnover = row.volCcyQuote or (row.volCcy if instrument.kind == "spot" and instrument.base else "")
    notional = number(turnover) if instrument.size_unit == "base" else None
    start = row.ts * NS_PER_MS
    return venue_candle(
        instrument, interval, start, (row.open, row.high, row.low, row.close), ts_recv,
        ts_event=start + interval_ns(interval) - NS_PER_MS, volume=volume, notional=notional,
        vwap=average_price(notional, volume),
    )  # fmt: skip
