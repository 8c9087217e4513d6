"""Wire formats of Binance: what the JSON looks like, field by field. Rules are in feeds/venues/binance.py."""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from feeds.units import PositiveLevel, PositivePrice
from hub.model import Price, Size

__all__ = [
    "UNREADABLE",
    "AggTrade",
    "BookTicker",
    "DepthSnapshot",
    "Diff",
    "ExchangeInfo",
    "Filter",
    "Frame",
    "Id",
    "Inner",
    "Kline",
    "Millis",
    "Symbol",
    "Ticker",
    "Trade",
    "decode_agg_trade",
    "decode_book_ticker",
    "decode_diff",
    "decode_frame",
    "decode_info",
    "decode_inner",
    "decode_klines",
    "decode_snapshot",
    "decode_ticker",
    "decode_trade",
]

Millis: TypeAlias = Annotated[int, Meta(ge=0, le=9_000_000_000_000)]
"""Unix ms, bounded so that ns fit 64 bits."""
Id: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 62))]


class Frame(Struct, gc=False):
    """`{"stream":"btcusdt@aggTrade","data":{…}}`, or an answer `{"result":null,"id":1}`, `{"code":2,"msg":"…"}`."""

    stream: str = ""
    data: Raw = Raw()
    id: int | str | None = None
    error: Raw = Raw()
    msg: str | None = None
    e: str = ""
    s: str = ""
    result: Raw = Raw()


class Inner(Struct, gc=False):
    """The fields by which a payload tells what it is."""

    e: str = ""
    E: Millis | None = None
    s: str = ""


class AggTrade(Struct, gc=False):
    """`{"e":"aggTrade","s":"BTCUSDT","a":1,"p":"1.0","q":"2.0","f":1,"l":3,"T":ms,"m":true}`; m: the buyer is maker."""

    a: Id
    p: PositivePrice
    q: Size
    f: Id
    l: Id  # noqa: E741 - the venue's name
    T: Millis
    m: bool


class Trade(Struct, gc=False):
    """`{"e":"trade","E":ms,"s":"BTCUSDT","t":1,"p":"1.0","q":"2.0","T":ms,"m":true}`: a single fill."""

    t: Id
    p: PositivePrice
    q: Size
    T: Millis
    m: bool


class BookTicker(Struct, gc=False):
    """`{"u":1,"s":"BTCUSDT","b":"1.0","B":"2.0","a":"1.1","A":"3.0"}`: no type, no time; 0 where a side is empty."""

    u: Id
    b: Price
    B: Size
    a: Price
    A: Size


class Diff(Struct, gc=False):
    """`{"e":"depthUpdate","E":ms,"s":"BTCUSDT","U":1,"u":3,"b":[["1.0","2.0"]],"a":[]}`: U..u inclusive, absolute."""

    E: Millis
    U: Id
    u: Id
    b: list[PositiveLevel]
    a: list[PositiveLevel]


class Ticker(Struct, gc=False):
    """`{"e":"24hrTicker","E":ms,"c":last,"o":open,"h":high,"l":low,"v":base,"q":quote,"b":bid,"a":ask}`, 24 h.

    A price is 0 where there is none: nothing was traded, or a side is empty.
    """

    E: Millis
    c: Price
    o: Price
    h: Price
    l: Price  # noqa: E741 - the venue's name
    v: Size
    q: Size
    b: Price | None = None
    a: Price | None = None


class DepthSnapshot(Struct, gc=False):
    """`GET /api/v3/depth`: `{"lastUpdateId":1,"bids":[["1.0","2.0"]],"asks":[]}`; futures add the time as `E`."""

    lastUpdateId: Id
    bids: list[PositiveLevel]
    asks: list[PositiveLevel]
    E: Millis | None = None


class Filter(Struct):
    filterType: str
    tickSize: float | None = None
    stepSize: float | None = None
    minNotional: float | None = None
    notional: float | None = None


class Symbol(Struct):
    symbol: str
    status: str
    baseAsset: str
    quoteAsset: str
    filters: list[Filter] = []


class ExchangeInfo(Struct):
    symbols: list[Symbol]


Kline = tuple[Millis, Price, Price, Price, Price, Size, Millis, Size, Id, Size, Size, str]
"""open time, open, high, low, close, volume, close time, quote volume, trades, taker base, taker quote, unused"""

decode_frame = msgspec.json.Decoder(Frame).decode
decode_inner = msgspec.json.Decoder(Inner).decode
decode_agg_trade = msgspec.json.Decoder(AggTrade, strict=False).decode
decode_trade = msgspec.json.Decoder(Trade, strict=False).decode
decode_book_ticker = msgspec.json.Decoder(BookTicker, strict=False).decode
decode_diff = msgspec.json.Decoder(Diff, strict=False).decode
decode_ticker = msgspec.json.Decoder(Ticker, strict=False).decode
decode_snapshot = msgspec.json.Decoder(DepthSnapshot, strict=False).decode
decode_info = msgspec.json.Decoder(ExchangeInfo, strict=False).decode
decode_klines = msgspec.json.Decoder(list[Kline], strict=False).decode

#: What msgspec raises on bytes it cannot read: text that is no UTF-8 and endless nesting included.
UNREADABLE = (ValueError, RecursionError)
