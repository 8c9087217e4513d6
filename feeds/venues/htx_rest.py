"""HTX's REST: candles, funding and open interest. The WebSocket is feeds/venues/htx.py.

Documentation: https://huobiapi.github.io/docs/spot/v1/en/, https://huobiapi.github.io/docs/usdt_swap/v1/en/

Quirks: spot has one host and contracts another; candles come newest first, and cannot
be asked for by time; errors come with HTTP 200.
"""

from decimal import Decimal
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

from feeds.adapter import Fetch
from feeds.venue_candles import average_price, venue_candle
from feeds.venues.htx_instruments import CONTRACTS_API, CONTRACTS_URL, Division, division_of
from feeds.venues.htx_wire import Millis
from hub.instruments import Instrument
from hub.intervals import NS_PER_MS, NS_PER_S, interval_ns
from hub.model import Candle, Price, Size

__all__ = [
    "CANDLES_MAX",
    "PERIODS",
    "candles_fetch",
    "funding_fetch",
    "interest_fetch",
    "read_candles",
    "read_funding",
    "read_interest",
]

CANDLES_MAX: Final = 2000

#: interval -> the venue's; its days begin at midnight of Singapore, so they are none of ours
PERIODS: Final = {"1m": "1min", "5m": "5min", "15m": "15min", "30m": "30min", "1h": "60min", "4h": "4hour"}

_CANDLES: dict[Division, tuple[str, str]] = {
    "spot": ("/market/history/kline", "symbol"),
    "futures": (f"{CONTRACTS_URL}/market/history/kline", "symbol"),
    "coin-swap": (f"{CONTRACTS_URL}/swap-ex/market/history/kline", "contract_code"),
    "linear-swap": (f"{CONTRACTS_URL}/linear-swap-ex/market/history/kline", "contract_code"),
}

_Digits = Annotated[int, Meta(ge=0, le=30)]
_Seconds = Annotated[int, Meta(ge=0, le=9_000_000_000)]


class _Candle(Struct):
    """`amount` in base units, `vol` in quote units or contracts; `id` is the start in seconds."""

    id: _Seconds
    open: Price
    high: Price
    low: Price
    close: Price
    amount: Size
    vol: Size
    count: int | None = None
    trade_turnover: Size | None = None


class _Candles(Struct):
    status: str = "ok"
    data: list[_Candle] = []
    err_msg: str = msgspec.field(name="err-msg", default="")


class _Funding(Struct):
    funding_rate: Price | None = None
    funding_time: Millis | None = None


class _FundingAnswer(Struct):
    data: _Funding


class _Interest(Struct):
    """`volume` in contracts (one-sided), `amount` in base units."""

    contract_code: str
    volume: Raw


class _InterestAnswer(Struct):
    data: list[_Interest]


_decode_candles = msgspec.json.Decoder(_Candles, strict=False).decode
_decode_funding = msgspec.json.Decoder(_FundingAnswer, strict=False).decode
_decode_interest = msgspec.json.Decoder(_InterestAnswer, strict=False).decode


# candles


def candles_fetch(instrument: Instrument, interval: str, start: int) -> Fetch | None:
    """Ask for the newest candles; None where the venue has none of this interval."""
    if interval not in PERIODS:
        return None
    path, name = _CANDLES[division_of(instrument.venue_symbol)]
    return Fetch(
        resource="kline",
        path=path,
        params=((name, instrument.venue_symbol), ("period", PERIODS[interval]), ("size", str(CANDLES_MAX))),
        instrument=instrument,
        interval=interval,
        start=start,
    )


def read_candles(venue: str, fetch: Fetch, body: bytes, ts_recv: int) -> list[Candle]:
    """Return the closed candles from `fetch.start` on, oldest first; ValueError where there are none to read."""
    answer = _decode_candles(body)
    if answer.status != "ok":
        raise ValueError(answer.err_msg or answer.status)
    newest = ts_recv - interval_ns(fetch.interval)  # what begins later is still open
    rows = [row for row in reversed(answer.data) if fetch.start <= row.id * NS_PER_S <= newest]
    return [_candle(fetch, row, ts_recv) for row in rows]


def _candle(fetch: Fetch, row: _Candle, ts_recv: int) -> Candle:
    assert fetch.instrument is not None
    instrument, start = fetch.instrument, row.id * NS_PER_S
    volume: float = row.amount
    notional = row.trade_turnover if instrument.kind != "spot" else row.vol
    if instrument.size_unit == "quote":
        volume, notional = float(Decimal(repr(row.vol)) * Decimal(repr(instrument.contract_size))), None
    return venue_candle(
        instrument, fetch.interval, start, (row.open, row.high, row.low, row.close), ts_recv,
        ts_event=start + interval_ns(fetch.interval), volume=volume, notional=notional,
        vwap=average_price(notional, volume), trades=row.count,
    )  # fmt: skip


# derivatives


def funding_fetch(instrument: Instrument) -> Fetch | None:
    """Ask for the funding rate of a swap."""
    return _swap_fetch(instrument, "swap_funding_rate")


def interest_fetch(instrument: Instrument) -> Fetch | None:
    """Ask for the open interest of a swap."""
    return _swap_fetch(instrument, "swap_open_interest")


def _swap_fetch(instrument: Instrument, resource: str) -> Fetch | None:
    host = CONTRACTS_API.get(division_of(instrument.venue_symbol))
    if host is None:
        return None
    params = (("contract_code", instrument.venue_symbol),)
    return Fetch(resource=resource, path=f"{host}/{resource}", params=params, instrument=instrument)


def read_funding(body: bytes) -> tuple[float | None, int | None]:
    """Return the rate of the running interval and when it ends, int ns; ValueError where there is none."""
    row = _decode_funding(body).data
    return row.funding_rate, row.funding_time * NS_PER_MS if row.funding_time is not None else None


def read_interest(instrument: Instrument, body: bytes) -> float:
    """Return the open interest in the instrument's own unit; ValueError where there is none."""
    for row in _decode_interest(body).data:
        if row.contract_code == instrument.venue_symbol:
            contracts = msgspec.json.decode(row.volume, type=Size, strict=False)
            return float(Decimal(repr(contracts)) * Decimal(repr(instrument.contract_size)))
    raise ValueError(f"no open interest of {instrument.venue_symbol}")
