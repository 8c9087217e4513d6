"""Wire formats of Bybit v5: what the JSON looks like, field by field. Rules are in feeds/venues/bybit.py."""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct, field

from feeds.items import Items
from feeds.units import PositiveLevel, PositivePrice
from hub.model import Price, Size

__all__ = [
    "UNREADABLE",
    "BookPush",
    "Frame",
    "Kline",
    "KlineRow",
    "Listed",
    "decode_batch",
    "decode_body",
    "decode_book",
    "decode_frame",
    "decode_klines",
    "decode_listing",
    "decode_ticker",
    "read_klines",
    "read_trades",
]

Millis: TypeAlias = Annotated[int, Meta(ge=0, le=9_000_000_000_000)]
"""Unix ms, bounded so that ns fit 64 bits."""
Id: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 62))]


class Batch(Struct):
    """What an option socket answers to a request: `{"failTopics":[],"successTopics":["…"]}`."""

    failTopics: list[str] = []
    successTopics: list[str] = []


class Frame(Struct, gc=False):
    """A push `{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":ms,"data":…,"cts":ms}`, keys in any order; or an
    answer `{"success":true,"ret_msg":"","conn_id":"…","req_id":"1","op":"subscribe"}`."""

    topic: str = ""
    type: str = ""
    ts: Millis | None = None
    data: Raw = field(default_factory=Raw)
    success: bool | None = None
    ret_msg: str = ""
    req_id: str = ""
    op: str = ""


class TradePush(Struct, gc=False):
    """`{"T":ms,"s":"BTCUSDT","S":"Buy","v":"0.001","p":"16578.50","i":"2100…","BT":false}`; S: the taker's side, v:
    base (USD of inverse contracts), i: digits of spot, else a UUID. Block and RPI trades are among them."""

    T: Millis
    S: Literal["Buy", "Sell"]
    v: Size
    p: PositivePrice
    i: Annotated[str, Meta(min_length=1, max_length=64)]


class BookPush(Struct, gc=False):
    """`{"s":"BTCUSDT","b":[["30247.20","30.028"]],"a":[],"u":177400507,"seq":66544703342}`: absolute sizes, 0 removes;
    a delta's order is not promised."""

    b: list[PositiveLevel]
    a: list[PositiveLevel]
    u: Id


class KlineRow(Struct, gc=False):
    """`{"start":ms,"end":ms,"interval":"5","open":"1",…,"volume":"2","turnover":"3","confirm":false}`."""

    start: Millis
    open: Price
    high: Price
    low: Price
    close: Price
    volume: str
    turnover: str
    confirm: bool


class PriceFilter(Struct):
    tickSize: str = ""


class LotFilter(Struct):
    """Derivatives have `qtyStep` and `minNotionalValue`, spot has `basePrecision` and `minOrderAmt`."""

    qtyStep: str = ""
    basePrecision: str = ""
    minNotionalValue: str = ""
    minOrderAmt: str = ""


class Listed(Struct):
    """One row of `GET /v5/market/instruments-info`."""

    symbol: str
    baseCoin: str
    quoteCoin: str
    status: str = ""
    settleCoin: str = ""
    contractType: str = ""
    deliveryTime: str = ""
    priceFilter: PriceFilter = field(default_factory=PriceFilter)
    lotSizeFilter: LotFilter = field(default_factory=LotFilter)


class Listing(Struct):
    category: str
    rows: list[Listed] = field(name="list")
    nextPageCursor: str = ""


class Body(Struct):
    """`{"retCode":0,"retMsg":"OK","result":{…}}`; another retCode is an error, with HTTP 200 as well."""

    retCode: int
    result: Raw = field(default_factory=Raw)
    retMsg: str = ""


Kline = tuple[str, Price, Price, Price, Price, str, str]
"""start (ms), open, high, low, close, volume, turnover"""


class Klines(Struct):
    rows: list[Kline] = field(name="list")


decode_frame = msgspec.json.Decoder(Frame).decode
decode_batch = msgspec.json.Decoder(Batch).decode
decode_book = msgspec.json.Decoder(BookPush, strict=False).decode
decode_ticker = msgspec.json.Decoder(dict[str, str | int | float | bool | None]).decode
decode_body = msgspec.json.Decoder(Body).decode
decode_listing = msgspec.json.Decoder(Listing).decode
decode_klines = msgspec.json.Decoder(Klines, strict=False).decode
read_trades = Items(TradePush)
read_klines = Items(KlineRow)

#: What msgspec raises on bytes it cannot read: text that is no UTF-8 and endless nesting included.
UNREADABLE = (ValueError, RecursionError)
