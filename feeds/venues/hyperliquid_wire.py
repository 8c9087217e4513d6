"""Wire formats of Hyperliquid: what the JSON looks like, field by field. Rules are in feeds/venues/hyperliquid.py.

Frames are `{"channel": …, "data": …}`; numbers are decimal strings, times unix ms.
"""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from feeds.units import PositivePrice
from hub.model import Price, Size

__all__ = [
    "UNREADABLE",
    "Answer",
    "AssetCtx",
    "Bbo",
    "CandleRow",
    "Context",
    "Envelope",
    "Failure",
    "L2Book",
    "Level",
    "Listing",
    "Pair",
    "Perp",
    "Pong",
    "Query",
    "Request",
    "SpotAssetCtx",
    "Subscription",
    "Token",
    "Trade",
    "Trades",
    "decode_candles",
    "decode_envelope",
    "decode_frame",
    "decode_listing",
    "decode_pairs",
    "decode_parts",
    "decode_perps",
    "decode_query",
    "decode_request",
    "decode_trade",
]

Millis: TypeAlias = Annotated[int, Meta(ge=0, le=9_000_000_000_000)]
"""Unix ms, bounded so that ns fit 64 bits."""
Id: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 62))]
Rate: TypeAlias = Annotated[float, Meta(gt=-1e6, lt=1e6)]
Decimals: TypeAlias = Annotated[int, Meta(ge=0, le=18)]


class Level(Struct, gc=False):
    """`{"px":"105055.0","sz":"3.03622","n":5}`; n, the number of orders, is not used."""

    px: PositivePrice
    sz: Size


class Book(Struct, gc=False):
    """`{"coin":"BTC","time":ms,"levels":[[bids],[asks]]}`, best first; `"fast":true` where 5 levels were asked for."""

    coin: str
    time: Millis
    levels: tuple[list[Level], list[Level]]


class Trade(Struct, gc=False):
    """`{"coin":"BTC","side":"B","px":"1.0","sz":"2.0","time":ms,"hash":"0x…","tid":1}`; side is the aggressor's."""

    coin: str
    px: PositivePrice
    sz: Size
    time: Millis
    tid: Id
    side: str | None = None


class Best(Struct, gc=False):
    """`{"coin":"BTC","time":ms,"bbo":[bid,ask]}`; an entry is null or missing where that side is empty."""

    coin: str
    time: Millis
    bbo: list[Level | None]


class Context(Struct, gc=False):
    """What a coin's context says; spot has no funding, oracle price and open interest.

    `funding` is a fraction per hour, `openInterest` in base units, `dayNtlVlm` in quote units, `dayBaseVlm` (newer) in
    base units, `prevDayPx` the price 24 h ago.
    """

    funding: Rate | None = None
    openInterest: Size | None = None
    prevDayPx: Price | None = None
    dayNtlVlm: Size | None = None
    dayBaseVlm: Size | None = None
    oraclePx: Price | None = None
    markPx: Price | None = None


class CoinContext(Struct, gc=False):
    """`{"coin":"SOL","ctx":{…}}`: no time."""

    coin: str
    ctx: Context


class Subscription(Struct, gc=False):
    """`{"type":"l2Book","coin":"HYPE","nSigFigs":null,"mantissa":null}`."""

    type: str
    coin: str = ""


class Request(Struct, gc=False):
    """What a client sent, as acks and errors repeat it; an error may repeat the bare subscription."""

    method: str = "subscribe"
    subscription: Subscription | None = None
    type: str = ""
    coin: str = ""


class L2Book(Struct, gc=False, tag_field="channel", tag="l2Book"):
    data: Book


class Trades(Struct, gc=False, tag_field="channel", tag="trades"):
    data: list[Trade]


class Bbo(Struct, gc=False, tag_field="channel", tag="bbo"):
    data: Best


class AssetCtx(Struct, gc=False, tag_field="channel", tag="activeAssetCtx"):
    data: CoinContext


class SpotAssetCtx(Struct, gc=False, tag_field="channel", tag="activeSpotAssetCtx"):
    data: CoinContext


class Answer(Struct, gc=False, tag_field="channel", tag="subscriptionResponse"):
    data: Request


class Failure(Struct, gc=False, tag_field="channel", tag="error"):
    """`data` is text, with the request at its end."""

    data: str


class Pong(Struct, gc=False, tag_field="channel", tag="pong"):
    """No data."""


class Envelope(Struct, gc=False):
    """A frame of any kind."""

    channel: str = ""
    data: Raw = Raw()


class Perp(Struct):
    """A row of `meta`: `{"name":"BTC","szDecimals":5,"maxLeverage":40,"isDelisted":true}`."""

    name: str
    szDecimals: Decimals
    isDelisted: bool | None = None


class Pair(Struct):
    """A row of `spotMeta`: `{"tokens":[1,0],"name":"PURR/USDC","index":0}`, base and quote by their `index`."""

    tokens: tuple[int, int]
    name: str


class Token(Struct):
    """`{"name":"USDC","szDecimals":8,"index":0}`; `index` is an id, not the place in the list."""

    name: str
    szDecimals: Decimals
    index: int


class Listing(Struct):
    """`meta` (perpetuals; the collateral is a token's index) or, with `tokens`, `spotMeta`."""

    universe: Raw
    tokens: list[Token] | None = None
    collateralToken: int = 0


class CandleRow(Struct, gc=False):
    """`{"t":start,"T":end,"s":"kPEPE","i":"1h","o":"1.0","c":…,"h":…,"l":…,"v":base,"n":trades}`."""

    t: Millis
    T: Millis
    o: Price
    h: Price
    l: Price  # noqa: E741 - the venue's name
    c: Price
    v: Size
    n: Id


class Asked(Struct):
    coin: str = ""


class Query(Struct):
    """The body of a POST to `/info`."""

    type: str
    coin: str = ""
    req: Asked | None = None


_Frame: TypeAlias = L2Book | Trades | Bbo | AssetCtx | SpotAssetCtx | Answer | Failure | Pong

decode_frame = msgspec.json.Decoder(_Frame, strict=False).decode
decode_envelope = msgspec.json.Decoder(Envelope).decode
decode_parts = msgspec.json.Decoder(list[Raw]).decode
decode_trade = msgspec.json.Decoder(Trade, strict=False).decode
decode_query = msgspec.json.Decoder(Query).decode
decode_request = msgspec.json.Decoder(Request).decode
decode_listing = msgspec.json.Decoder(Listing).decode
decode_perps = msgspec.json.Decoder(list[Perp]).decode
decode_pairs = msgspec.json.Decoder(list[Pair]).decode
decode_candles = msgspec.json.Decoder(list[CandleRow], strict=False).decode

#: What msgspec raises on bytes it cannot read: text that is no UTF-8 and endless nesting included.
UNREADABLE = (ValueError, RecursionError)
