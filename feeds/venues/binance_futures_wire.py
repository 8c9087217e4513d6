"""Wire formats of Binance USD-M futures where they differ from spot's (feeds/venues/binance_wire.py)."""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from feeds.units import PositiveLevel, PositivePrice
from feeds.venues.binance_wire import Filter, Id, Millis
from hub.model import Price, Size

__all__ = [
    "Contract",
    "Diff",
    "MarkPrice",
    "OpenInterest",
    "Trade",
    "decode_contracts",
    "decode_diff",
    "decode_list",
    "decode_mark",
    "decode_open_interest",
    "decode_trade",
]

Rate: TypeAlias = Annotated[float, Meta(gt=-1e6, lt=1e6)]


class Diff(Struct, gc=False):
    """`{"e":"depthUpdate","E":ms,"T":ms,"s":"BTCUSDT","U":5,"u":9,"pu":2,"b":[["1.0","2.0"]],"a":[]}`.

    Ids are shared by all symbols, so that `U` says nothing about the diff before: `pu` is its `u`.
    """

    E: Millis
    U: Id
    u: Id
    pu: Id
    b: list[PositiveLevel]
    a: list[PositiveLevel]


class Trade(Struct, gc=False):
    """`{"e":"trade","E":ms,"T":ms,"s":"BTCUSDT","t":1,"p":"1.0","q":"2.0","X":"MARKET","m":true}`: a single fill.

    `X` is also INSURANCE_FUND, ADL and more, or missing (2019).
    """

    t: Id
    p: PositivePrice
    q: Size
    T: Millis
    m: bool
    X: str = "MARKET"


class MarkPrice(Struct, gc=False):
    """`{"e":"markPriceUpdate","E":ms,"s":"BTCUSDT","p":"1.0","i":"1.0","P":"1.0","r":"0.0001","T":ms}`.

    `r` is the funding rate, a fraction per interval, and `T` when it is paid; "" and 0 for dated futures. `i`, the
    index, is missing in frames of 2019. `P`, the estimated settlement price, is not used.
    """

    E: Millis
    p: Price
    i: Price | None = None
    r: Rate | Literal[""] = ""
    T: Millis = 0


class OpenInterest(Struct, gc=False):
    """`GET /fapi/v1/openInterest`: `{"openInterest":"83782.317","symbol":"BTCUSDT","time":ms}`, in base units."""

    openInterest: Size


class Contract(Struct):
    """A row of `GET /fapi/v1/exchangeInfo`; `deliveryDate` of a perpetual is in the year 2100."""

    symbol: str
    baseAsset: str
    quoteAsset: str
    status: str = ""
    contractType: str = ""
    marginAsset: str | None = None
    deliveryDate: Millis = 0
    filters: list[Filter] = []


class _Contracts(Struct):
    symbols: list[Contract]


decode_diff = msgspec.json.Decoder(Diff, strict=False).decode
decode_trade = msgspec.json.Decoder(Trade, strict=False).decode
decode_mark = msgspec.json.Decoder(MarkPrice, strict=False).decode
decode_open_interest = msgspec.json.Decoder(OpenInterest, strict=False).decode
decode_contracts = msgspec.json.Decoder(_Contracts, strict=False).decode
decode_list = msgspec.json.Decoder(list[Raw]).decode
