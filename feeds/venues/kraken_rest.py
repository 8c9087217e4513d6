"""Kraken's REST: instruments and candles. The WebSocket is feeds/venues/kraken.py.

Documentation: https://docs.kraken.com/api/docs/rest-api/get-tradable-asset-pairs, …/get-ohlc-data

Quirks: names are v1's (`XBT/USD`, XDG for DOGE) where v2 says `BTC/USD`; errors come with HTTP 200. The channel
`instrument` has the same list in v2's words, and is read too.
"""

from decimal import Decimal
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

from feeds.adapter import Fetch
from feeds.venue_candles import venue_candle
from hub.instruments import Instrument, canonical_symbol
from hub.intervals import NS_PER_S, interval_ns
from hub.model import Candle, Price, Size

__all__ = ["CANDLES_MAX", "MINUTES", "ohlc_fetch", "read_instruments", "read_ohlc", "v2_name"]

#: interval -> the venue's, in minutes
MINUTES: Final = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "1d": 1440}

#: The venue answers with its newest candles, at most so many, whatever is asked for.
CANDLES_MAX: Final = 720

_STATUS = {"online": "trading"}

#: v1's and REST's word for an asset -> v2's
_ASSETS = {"XBT": "BTC", "XDG": "DOGE"}
_V1_ASSETS = {name: old for old, name in _ASSETS.items()}

_Digits = Annotated[int, Meta(ge=0, le=30)]
_Seconds = Annotated[int, Meta(ge=0, le=9_000_000_000)]


class _Pair(Struct):
    """A row of AssetPairs: `wsname` is v1's name, decimals are counts of digits."""

    wsname: str = ""
    pair_decimals: _Digits | None = None
    lot_decimals: _Digits | None = None
    tick_size: Price | None = None
    costmin: Price | None = None
    status: str = "online"


class _Listed(Struct):
    """A row of `pairs` in the channel `instrument`."""

    symbol: str
    base: str
    quote: str
    status: str = "online"
    price_increment: Price | None = None
    qty_increment: Price | None = None
    cost_min: Price | None = None


class _ListedData(Struct):
    pairs: list[_Listed]


class _Listing(Struct):
    """`{"error":[],"result":{"XXBTZUSD":{…}}}`, or `{"channel":"instrument","data":{"pairs":[…]}}`."""

    error: list[str] = []
    result: dict[str, _Pair] | None = None
    data: _ListedData | None = None


class _OhlcRow(Struct, array_like=True):
    """`[1762777140,"106038.3","106038.3","106038.3","106038.3","106038.3","0.00032101",1]`, the first in seconds."""

    time: _Seconds
    open: Price
    high: Price
    low: Price
    close: Price
    vwap: Price
    volume: Size
    count: int


class _Ohlc(Struct):
    """Rows stand under the pair's name, whatever it is, beside `last`, a cursor."""

    error: list[str] = []
    result: dict[str, Raw] = {}


_decode_listing = msgspec.json.Decoder(_Listing, strict=False).decode
_decode_ohlc = msgspec.json.Decoder(_Ohlc).decode
_decode_rows = msgspec.json.Decoder(list[_OhlcRow], strict=False).decode


def v2_name(pair: str) -> str:
    """Return `BTC/USD` for `XBT/USD`."""
    return "/".join(_ASSETS.get(asset, asset) for asset in pair.split("/"))


def read_instruments(venue: str, body: bytes) -> list[Instrument]:
    """Read AssetPairs or a frame of the channel `instrument`; ValueError where it is neither."""
    listing = _decode_listing(body)
    if listing.data is not None:
        return [_instrument(venue, row) for row in listing.data.pairs]
    if listing.error or listing.result is None:
        raise ValueError(", ".join(listing.error) or "no result")
    # Dark pools have no name on the WebSocket.
    return [_instrument(venue, _listed(row)) for row in listing.result.values() if "/" in row.wsname]


def _listed(row: _Pair) -> _Listed:
    symbol = v2_name(row.wsname)
    base, _, quote = symbol.partition("/")
    tick = row.tick_size if row.tick_size is not None else _step(row.pair_decimals)
    return _Listed(symbol, base, quote, row.status, tick, _step(row.lot_decimals), row.costmin)


def _step(decimals: int | None) -> float | None:
    return float(Decimal(1).scaleb(-decimals)) if decimals is not None else None


def _instrument(venue: str, row: _Listed) -> Instrument:
    return Instrument(
        venue=venue,
        venue_symbol=row.symbol,
        symbol=canonical_symbol("spot", row.base, row.quote),
        kind="spot",
        base=row.base,
        quote=row.quote,
        name=row.symbol,
        tick_size=row.price_increment,
        lot_size=row.qty_increment,
        min_notional=row.cost_min,
        status=_STATUS.get(row.status, row.status),
    )


def ohlc_fetch(instrument: Instrument, interval: str, start: int) -> Fetch | None:
    """Ask for candles from `start` (int ns) on; None where the venue has none of this interval."""
    if interval not in MINUTES:
        return None
    pair = "".join(_V1_ASSETS.get(asset, asset) for asset in instrument.venue_symbol.split("/"))
    return Fetch(
        resource="OHLC",
        path="/0/public/OHLC",
        params=(("pair", pair), ("interval", str(MINUTES[interval])), ("since", str(start // NS_PER_S - 1))),
        instrument=instrument,
        interval=interval,
        start=start,
    )


def read_ohlc(venue: str, fetch: Fetch, body: bytes, ts_recv: int) -> list[Candle]:
    """Return the closed candles from `fetch.start` on; ValueError where `body` has none to read."""
    answer = _decode_ohlc(body)
    if answer.error:
        raise ValueError(", ".join(answer.error))
    rows = [row for name, data in answer.result.items() if name != "last" for row in _decode_rows(data)]
    # The last row is the candle that is still open.
    newest = ts_recv - interval_ns(fetch.interval)
    return [_candle(fetch, row, ts_recv) for row in rows if fetch.start <= row.time * NS_PER_S <= newest]


def _candle(fetch: Fetch, row: _OhlcRow, ts_recv: int) -> Candle:
    assert fetch.instrument is not None
    start = row.time * NS_PER_S
    return venue_candle(
        fetch.instrument, fetch.interval, start, (row.open, row.high, row.low, row.close), ts_recv,
        ts_event=start + interval_ns(fetch.interval), volume=row.volume, vwap=row.vwap if row.volume else None,
        trades=row.count,
    )  # fmt: skip
