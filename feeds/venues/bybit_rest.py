"""Bybit over REST: the lists of instruments, and candles (the stream's are alike). Rules are in bybit.py."""

from decimal import Decimal
from typing import Any
from urllib.parse import unquote

from msgspec import Raw

from feeds.adapter import Fetch
from feeds.units import number, size_of
from feeds.venue_candles import average_price, venue_candle
from feeds.venues.bybit_wire import KlineRow, Listed, decode_body, decode_klines, decode_listing
from hub.instruments import Instrument, InstrumentKind, canonical_symbol
from hub.intervals import NS_PER_MS, interval_ns
from hub.model import Candle

__all__ = ["INTERVAL_OF", "WORDS", "candle", "candles_fetch", "next_page", "read_candles", "read_instruments"]

VENUE = "bybit"
CANDLES_MAX = 1000
#: interval -> the venue's word
WORDS = {
    "1m": "1", "3m": "3", "5m": "5", "15m": "15", "30m": "30", "1h": "60", "2h": "120", "4h": "240", "6h": "360",
    "12h": "720", "1d": "D",
}  # fmt: skip
INTERVAL_OF = {word: interval for interval, word in WORDS.items()}
_STATUS = {"Trading": "trading", "PreLaunch": "preopen"}


def _result(body: bytes) -> Raw:
    answer = decode_body(body)
    if answer.retCode != 0:
        raise ValueError(f"retCode {answer.retCode} {answer.retMsg}")
    return answer.result


def read_instruments(body: bytes) -> list[Instrument]:
    """Read an answer; ValueError where it is none. Rows that say too little are left out."""
    listing = decode_listing(_result(body))
    if listing.category not in ("spot", "linear", "inverse"):
        raise ValueError(f"a list of category {listing.category!r}")
    rows = [row for listed in listing.rows if (row := _readable(listed, listing.category)) is not None]
    if listing.rows and not rows:
        raise ValueError("no row that can be read")
    return rows


def next_page(fetch: Fetch, body: bytes) -> Fetch | None:
    """Return the request for the next page of a list, None after the last one."""
    cursor = unquote(decode_listing(_result(body)).nextPageCursor)  # comes as it stands in a URL
    if not cursor:
        return None
    params = tuple((key, value) for key, value in fetch.params if key != "cursor")
    return Fetch(resource=fetch.resource, path=fetch.path, params=(*params, ("cursor", cursor)), weight=fetch.weight)


def _readable(row: Listed, section: str) -> Instrument | None:
    try:
        return _instrument(row, section)
    except (ValueError, OverflowError):
        return None


def _instrument(row: Listed, section: str) -> Instrument | None:
    if not (row.symbol and row.baseCoin and row.quoteCoin):
        return None
    kind: InstrumentKind = "spot"
    if section != "spot":
        kind = "future" if row.contractType.endswith("Futures") else "perpetual"
    expiry = int(row.deliveryTime) * NS_PER_MS if kind == "future" else None
    lots, notional = row.lotSizeFilter, row.lotSizeFilter.minNotionalValue or row.lotSizeFilter.minOrderAmt
    return Instrument(
        venue=VENUE,
        venue_symbol=row.symbol,
        symbol=canonical_symbol(kind, row.baseCoin, row.quoteCoin, expiry=expiry),
        kind=kind,
        base=row.baseCoin,
        quote=row.quoteCoin,
        settle=row.settleCoin or None,
        name=f"{row.baseCoin}/{row.quoteCoin}" if kind == "spot" else row.symbol,
        tick_size=number(row.priceFilter.tickSize),
        lot_size=number(lots.qtyStep or lots.basePrecision),
        min_notional=number(notional),
        # Sizes are base units; an inverse contract is one unit of the quote currency.
        size_unit="quote" if section == "inverse" else "base",
        expiry=expiry,
        status=_STATUS.get(row.status, row.status.lower()),
        section=section,
    )


def candles_fetch(instrument: Instrument, interval: str, start: int, count: int) -> Fetch | None:
    """Ask for `count` candles from `start` (int ns)."""
    if interval not in WORDS:
        return None
    first, count = start // NS_PER_MS, min(count, CANDLES_MAX)
    params = (
        ("category", instrument.section or "spot"),
        ("symbol", instrument.venue_symbol),
        ("interval", WORDS[interval]),
        ("start", str(first)),
        ("end", str(first + count * interval_ns(interval) // NS_PER_MS - 1)),
        ("limit", str(count)),
    )
    return Fetch(
        resource=f"kline/{instrument.section or 'spot'}",
        path="/v5/market/kline",
        params=params,
        instrument=instrument,
        interval=interval,
        start=start,
    )


def read_candles(instrument: Instrument, interval: str, body: bytes, ts_recv: int) -> list[Candle]:
    """Read an answer, oldest first, without the candle that is still open; ValueError where it is none."""
    length = interval_ns(interval)
    rows: list[Any] = decode_klines(_result(body)).rows[::-1]
    pushes = [KlineRow(int(row[0]), row[1], row[2], row[3], row[4], row[5], row[6], True) for row in rows]
    return [candle(instrument, interval, row, ts_recv) for row in pushes if row.start * NS_PER_MS + length <= ts_recv]


def candle(instrument: Instrument, interval: str, row: KlineRow, ts_recv: int) -> Candle:
    """Return a closed candle. Turnover is in quote units; of inverse contracts, whose volume is, in base units."""
    volume = size_of(row.volume, Decimal(1))
    notional = number(row.turnover) if instrument.size_unit == "base" else None
    start = row.start * NS_PER_MS
    return venue_candle(
        instrument, interval, start, (row.open, row.high, row.low, row.close), ts_recv,
        ts_event=start + interval_ns(interval) - NS_PER_MS, volume=volume, notional=notional,
        vwap=average_price(notional, volume),
    )  # fmt: skip
