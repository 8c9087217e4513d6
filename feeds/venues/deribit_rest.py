"""Deribit's REST bodies: the list of instruments and candles. Rules of the stream are in feeds/venues/deribit.py."""

import re
from typing import Final

from feeds.adapter import Fetch
from feeds.venue_candles import average_price, venue_candle
from feeds.venues.deribit_wire import UNREADABLE, Listed, decode_chart, decode_listed, decode_result
from hub.errors import WireError
from hub.instruments import Instrument, InstrumentKind, canonical_symbol
from hub.intervals import NS_PER_MS, interval_ns
from hub.model import Candle

__all__ = ["RESOLUTIONS", "candles_of", "instruments_of"]

#: interval -> the venue's word
RESOLUTIONS: Final = {
    "1m": "1", "3m": "3", "5m": "5", "15m": "15", "30m": "30", "1h": "60", "2h": "120", "6h": "360", "12h": "720",
    "1d": "1D",
}  # fmt: skip
#: Combos are missing on purpose: there is no canonical name for them.
_KINDS: Final[dict[str, InstrumentKind]] = {"spot": "spot", "future": "future", "option": "option"}
#: BTC-24SEP21-40000-P, MATIC_USDC-9MAR24-1d02-C: `d` is the strike's decimal point.
_OPTION: Final = re.compile(r".+-(\d+(?:d\d+)?)-([CP])")
#: ns beyond this do not fit 64 bits. What never expires is said to expire in the year 3000.
_MS_MAX: Final = 9_000_000_000_000


def instruments_of(venue: str, body: bytes) -> list[Instrument]:
    """Read an answer to get_instruments; a row that cannot be read is left out, WireError where none can."""
    problem: Exception | None = None
    rows: list[Instrument] = []
    try:
        listed = decode_result(body).result
    except UNREADABLE as error:
        raise WireError(venue, f"get_instruments: {error}") from error
    for raw in listed:
        try:
            row = decode_listed(raw)
            if row.kind in _KINDS:
                rows.append(_instrument(venue, row))
        except UNREADABLE as error:
            problem = error
    if problem is not None and not rows:
        raise WireError(venue, f"get_instruments: {problem}") from problem
    return rows


def _instrument(venue: str, row: Listed) -> Instrument:
    perpetual = row.kind == "future" and row.settlement_period == "perpetual"
    kind: InstrumentKind = "perpetual" if perpetual else _KINDS[row.kind]
    inverse = kind in ("perpetual", "future") and _reversed(row)
    # The option's price is in its base currency, its strike in the counter currency; lists of 2021 leave that out.
    counter = row.counter_currency or row.quote_currency
    if kind == "option" and counter == row.base_currency:
        counter = "USD"
    expiry = _expiry(row) if kind in ("future", "option") else None
    strike, right = _strike(row.instrument_name) if kind == "option" else ("", "")
    return Instrument(
        venue=venue,
        venue_symbol=row.instrument_name,
        symbol=canonical_symbol(kind, row.base_currency, counter, expiry=expiry, strike=strike, right=right),
        kind=kind,
        base=row.base_currency,
        quote=row.quote_currency,
        settle=row.settlement_currency or (row.base_currency if inverse else row.quote_currency),
        name=row.instrument_name,
        tick_size=row.tick_size,
        lot_size=row.min_trade_amount,
        contract_size=row.contract_size if kind != "spot" else 1.0,
        size_unit="quote" if inverse else "base",
        expiry=expiry,
        status=_status(row),
    )


def _reversed(row: Listed) -> bool:
    form = row.instrument_type or row.future_type
    # Lists of 2021 do not say it; all contracts quoted in USD were inverse.
    return form == "reversed" if form is not None else row.quote_currency == "USD"


def _expiry(row: Listed) -> int:
    ms = row.expiration_timestamp
    if ms is None or not 0 < ms <= _MS_MAX:
        raise ValueError(f"{row.instrument_name} expires at {ms}")
    return ms * NS_PER_MS


def _strike(name: str) -> tuple[str, str]:
    match = _OPTION.fullmatch(name)
    if match is None:
        raise ValueError(f"an option named {name!r}")
    return match[1].replace("d", "."), match[2]


def _status(row: Listed) -> str:
    if row.state not in (None, "open"):
        return str(row.state)
    return "trading" if row.is_active else "inactive"


def candles_of(venue: str, fetch: Fetch, body: bytes, ts_recv: int) -> list[Candle]:
    """Read an answer to get_tradingview_chart_data; open and empty candles are left out."""
    assert fetch.instrument is not None
    try:
        m = decode_chart(body).result
        rows = list(zip(m.ticks, m.open, m.high, m.low, m.close, m.volume, m.cost, strict=True))
    except UNREADABLE as error:
        raise WireError(venue, f"{fetch.resource}: {error}") from error
    last = ts_recv - interval_ns(fetch.interval)
    ended = [row for row in rows if row[5] and row[0] * NS_PER_MS <= last]
    return [_candle(fetch.instrument, fetch.interval, row, ts_recv) for row in ended]


def _candle(
    instrument: Instrument,
    interval: str,
    row: tuple[int, float, float, float, float, float, float],
    ts_recv: int,
) -> Candle:
    start_ms, opened, high, low, close, volume, cost = row
    begin = start_ms * NS_PER_MS
    return venue_candle(
        instrument, interval, begin, (opened, high, low, close), ts_recv, ts_event=begin + interval_ns(interval),
        # The venue counts volume in the base and cost in the quote currency; sizes of inverse contracts are the latter.
        volume=cost if instrument.size_unit == "quote" else volume,
        notional=cost, vwap=average_price(cost, volume),
    )  # fmt: skip
