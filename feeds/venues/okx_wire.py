"""Wire formats of OKX: what the JSON looks like, field by field. Rules are in feeds/venues/okx.py."""

from typing import Annotated, Generic, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from feeds.items import Items
from feeds.units import PositivePrice
from hub.model import Price, Side, Size

__all__ = [
    "UNREADABLE",
    "Arg",
    "BookOf",
    "CandleRow",
    "Frame",
    "Listed",
    "Row",
    "SizeRow",
    "TextRow",
    "decode_books",
    "decode_books_sizes",
    "decode_books_texts",
    "decode_candles",
    "decode_frame",
    "decode_instruments",
    "decode_stamps",
    "read_candles",
    "read_funding",
    "read_index",
    "read_interest",
    "read_marks",
    "read_quotes",
    "read_tickers",
    "read_trades",
    "read_trades_sizes",
]

Millis: TypeAlias = Annotated[int, Meta(ge=0, le=9_000_000_000_000)]
"""Unix ms, quoted; bounded so that ns fit 64 bits."""
Id: TypeAlias = Annotated[int, Meta(ge=-1, le=(1 << 62))]
SizeText: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?$", max_length=64)]
"""Decimal text, multiplied as such."""
T = TypeVar("T")
Count: TypeAlias = Annotated[int, Meta(ge=1, le=(1 << 53))]


class Arg(Struct, frozen=True, gc=False):
    """`{"channel":"books","instId":"BTC-USDT"}`; some channels take `instType` or `instFamily` instead."""

    channel: str = ""
    instId: str = ""


class Frame(Struct, gc=False):
    """A push `{"arg":{…},"action":"update","data":[…]}`, or an answer `{"event":"subscribe","arg":{…},"id":"1"}`,
    `{"event":"error","code":"60018","msg":"…"}`."""

    arg: Arg = Arg()
    data: Raw = Raw()
    action: str = ""
    event: str = ""
    code: str = ""
    msg: str = ""
    id: str = ""


class TradeOf(Struct, Generic[T], gc=False):
    """`{"instId":"BTC-USDT","tradeId":"1","px":"1.0","sz":"2.0","side":"sell","ts":"ms","count":"1"}`; sz in contracts
    where the instrument is one, side the taker's, count: fills merged in it (absent before 2023)."""

    tradeId: Annotated[str, Meta(min_length=1, max_length=64)]
    px: PositivePrice
    sz: T
    side: Side
    ts: Millis
    count: Count = 1


class Row(Struct, array_like=True, gc=False):
    """`["41006.8","0.60038921","0","1"]`: price, size, a dead field, number of orders."""

    price: PositivePrice
    size: Size


class SizeRow(Struct, array_like=True, gc=False):
    """A row of contracts: the size is multiplied as text."""

    price: PositivePrice
    size: str


class TextRow(Struct, array_like=True, gc=False):
    """A row whose digits go into a checksum."""

    price: str
    size: str


class BookOf(Struct, Generic[T], gc=False):
    """`{"asks":[…],"bids":[…],"ts":"ms","checksum":0,"seqId":2,"prevSeqId":1}`, best first, absolute sizes.

    Without sequence numbers before 2023; `checksum` is always 0 since June 2026.
    """

    asks: list[T]
    bids: list[T]
    ts: Millis
    checksum: int = 0
    seqId: Id | None = None
    prevSeqId: Id | None = None


class QuotePush(Struct, gc=False):
    """`{"asks":[["83.81","11.9","0","1"]],"bids":[],"ts":"ms","seqId":3}`: a side without orders is empty."""

    asks: list[SizeRow]
    bids: list[SizeRow]
    ts: Millis
    seqId: Id = 0


class TickerPush(Struct, gc=False):
    """24 h. SPOT: vol24h base, volCcy24h quote; else vol24h contracts, volCcy24h base. "" where there is none."""

    ts: Millis
    instType: str = ""
    last: str = ""
    open24h: str = ""
    high24h: str = ""
    low24h: str = ""
    vol24h: str = ""
    volCcy24h: str = ""
    bidPx: str = ""
    askPx: str = ""


class MarkPush(Struct, gc=False):
    """`{"instType":"SWAP","instId":"X-USDT-SWAP","markPx":"2.1","ts":"ms"}`."""

    markPx: str = ""
    ts: Millis | None = None


class IndexPush(Struct, gc=False):
    """`{"instId":"X-USDT","idxPx":"2.1","ts":"ms"}`: `instId` is the index, not the contract."""

    idxPx: str = ""
    ts: Millis | None = None


class FundingPush(Struct, gc=False):
    """`{"fundingRate":"0.0001","fundingTime":"ms"}`: the rate that is due at `fundingTime`, the next settlement."""

    fundingRate: str = ""
    fundingTime: Millis | Literal[""] = ""
    ts: Millis | Literal[""] | None = None


class InterestPush(Struct, gc=False):
    """`{"oi":"5000","oiCcy":"555.55","ts":"ms"}`: contracts, and base currency."""

    oi: str = ""
    ts: Millis | None = None


class Stamp(Struct, gc=False):
    """The time of any push, "" or absent in some."""

    ts: Millis | Literal[""] | None = None


class CandleRow(Struct, array_like=True, gc=False):
    """`["ms","open","high","low","close","vol","volCcy","volCcyQuote","1"]`; 7 columns before 2023. confirm 1: closed.

    vol: contracts, or base (SPOT); volCcy: base, or quote (SPOT); volCcyQuote: quote.
    """

    ts: Millis
    open: Price
    high: Price
    low: Price
    close: Price
    vol: str
    volCcy: str = ""
    volCcyQuote: str = ""
    confirm: str = ""


class Listed(Struct):
    """One row of `GET /api/v5/public/instruments`; all texts, "" where a field does not apply."""

    instId: str
    instType: str
    baseCcy: str = ""
    quoteCcy: str = ""
    settleCcy: str = ""
    uly: str = ""
    instFamily: str = ""
    ctVal: str = ""
    ctMult: str = ""
    ctType: str = ""
    ctValCcy: str = ""
    expTime: str = ""
    stk: str = ""
    optType: str = ""
    tickSz: str = ""
    lotSz: str = ""
    state: str = ""


class InstrumentsBody(Struct):
    """`{"code":"0","msg":"","data":[…]}`; any other code is an error, with HTTP 200 too."""

    code: str
    data: list[Listed]
    msg: str = ""


class CandlesBody(Struct):
    code: str
    data: list[CandleRow]
    msg: str = ""


decode_frame = msgspec.json.Decoder(Frame).decode
decode_stamps = msgspec.json.Decoder(list[Stamp], strict=False).decode
decode_instruments = msgspec.json.Decoder(InstrumentsBody).decode
decode_candles = msgspec.json.Decoder(CandlesBody, strict=False).decode
read_trades = Items(TradeOf[Size])
read_trades_sizes = Items(TradeOf[SizeText])
decode_books = msgspec.json.Decoder(list[BookOf[Row]], strict=False).decode
decode_books_sizes = msgspec.json.Decoder(list[BookOf[SizeRow]], strict=False).decode
decode_books_texts = msgspec.json.Decoder(list[BookOf[TextRow]], strict=False).decode
read_quotes = Items(QuotePush)
read_tickers = Items(TickerPush)
read_marks = Items(MarkPush)
read_index = Items(IndexPush)
read_funding = Items(FundingPush)
read_interest = Items(InterestPush)
read_candles = Items(CandleRow)

#: What msgspec raises on bytes it cannot read: text that is no UTF-8 and endless nesting included.
UNREADABLE = (ValueError, RecursionError)
