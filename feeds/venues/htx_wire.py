"""Wire formats of HTX: what the JSON looks like, field by field. Rules are in feeds/venues/htx.py."""

import zlib
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct, field

from feeds.items import Items
from feeds.units import PositiveLevel, PositivePrice
from hub.model import Level, Price, Side, Size

__all__ = [
    "UNREADABLE",
    "Answer",
    "BookFrame",
    "BookTick",
    "TradeRow",
    "best_price",
    "decode_answer",
    "decode_bbo",
    "decode_book",
    "decode_book_data",
    "decode_contract_bbo",
    "decode_funding",
    "decode_index",
    "decode_peeked",
    "decode_ticker",
    "decode_trades",
    "decode_trades_loosely",
    "read_trade_rows",
    "unpacked",
]

Millis: TypeAlias = Annotated[int, Meta(ge=0, le=9_000_000_000_000)]
"""Unix ms, bounded so that ns fit 64 bits."""
Id: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 62))]

#: A frame's text is never longer; what unpacks to more is no frame.
TEXT_MAX = 16 * 1024 * 1024

#: What zlib and msgspec raise on bytes they cannot read: endless nesting included.
UNREADABLE = (ValueError, RecursionError, zlib.error)


class Answer(Struct, gc=False):
    """What is no data: `{"ping":ms}`, `{"id":"1","status":"ok","subbed":topic}`, `{"rep":topic,"data":{…}}`,
    `{"status":"error","err-code":"bad-request","err-msg":"…"}`, and the notifications' `{"op":"ping","ts":"ms"}`."""

    ch: str = ""
    ping: Id | None = None
    id: Raw = Raw()
    status: str = ""
    subbed: str = ""
    unsubbed: str = ""
    rep: str = ""
    data: Raw = Raw()
    err_msg: str = field(name="err-msg", default="")
    err_code: str = field(name="err-code", default="")
    op: str = ""
    topic: str = ""
    ts: Raw = Raw()


class BookTick(Struct, gc=False):
    """All forms of a book: `version` counts a contract's messages, `seqNum` and `prevSeqNum` chain those of `mbp`.

    A side without a change is left out or null; sizes are absolute, 0 removes.
    """

    bids: list[PositiveLevel] | None = None
    asks: list[PositiveLevel] | None = None
    ts: Millis | None = None
    event: str = ""
    version: Id | None = None
    seqNum: Id | None = None
    prevSeqNum: Id | None = None


class BookFrame(Struct, gc=False):
    """`{"ch":"market.btcusdt.mbp.150","ts":ms,"tick":{…}}`; `update`: a part of a depth, as some recorders keep it."""

    tick: BookTick
    ts: Millis | None = None
    update: bool = False


class TradeRow(Struct, gc=False):
    """`{"id":100182534526255757567432481,"ts":ms,"tradeId":1,"amount":1.0,"price":2.0,"direction":"buy"}`.

    direction: the taker's; `id` does not fit 64 bits and is not one trade's alone where there is a `tradeId`.
    """

    ts: Millis
    amount: Size
    price: PositivePrice
    direction: Side
    id: Raw = Raw()
    tradeId: Id | None = None

    @property
    def name(self) -> str:
        """What tells the trade apart; ValueError where nothing does."""
        if self.tradeId is not None:
            return str(self.tradeId)
        text = bytes(self.id).decode().strip('"')
        if not text.isdecimal() or len(text) > 64:
            raise ValueError("a trade without an id")
        return text


class TradeTick(Struct, gc=False):
    data: list[TradeRow]


class TradeFrame(Struct, gc=False):
    tick: TradeTick


class LooseTick(Struct, gc=False):
    data: Raw


class LooseTradeFrame(Struct, gc=False):
    tick: LooseTick


class Bbo(Struct, gc=False):
    """`{"seqId":1,"ask":1.1,"askSize":2.0,"bid":1.0,"bidSize":3.0,"quoteTime":ms,"symbol":"btcusdt"}`."""

    bid: Price | None = None
    bidSize: Size | None = None
    ask: Price | None = None
    askSize: Size | None = None
    quoteTime: Millis | None = None
    seqId: Id | None = None


class BboFrame(Struct, gc=False):
    tick: Bbo
    ts: Millis | None = None


class ContractBbo(Struct, gc=False):
    """`{"mrid":1,"bid":[31784.1,5911],"ask":[31784.2,4],"ts":ms,"version":1}`: price and contracts."""

    bid: Level | None = None
    ask: Level | None = None
    ts: Millis | None = None
    mrid: Id | None = None


class ContractBboFrame(Struct, gc=False):
    tick: ContractBbo
    ts: Millis | None = None


class Day(Struct, gc=False):
    """24 h of `ticker` (spot) and `detail`: `amount` in base units, `vol` in quote units or contracts.

    Best prices are numbers, or `[price, contracts]`, or absent.
    """

    open: Price | None = None
    high: Price | None = None
    low: Price | None = None
    close: Price | None = None
    amount: Size | None = None
    vol: Size | None = None
    trade_turnover: Size | None = None
    bid: Raw = Raw()  # a union of number and pair crashes msgspec 0.22
    ask: Raw = Raw()
    lastPrice: Price | None = None


class DayFrame(Struct, gc=False):
    tick: Day
    ts: Millis | None = None


class IndexTick(Struct, gc=False):
    """The candle of a mark or index price; its close is the newest."""

    close: Price


class IndexFrame(Struct, gc=False):
    tick: IndexTick
    ts: Millis | None = None


class Funding(Struct, gc=False):
    """`{"contract_code":"BTC-USDT","funding_rate":"0.00075","settlement_time":"ms"}`."""

    contract_code: str
    funding_rate: Price | None = None
    settlement_time: Millis | None = None


class FundingFrame(Struct, gc=False):
    data: list[Funding]
    ts: Millis | None = None


class Peeked(Struct, gc=False):
    ch: str = ""
    rep: str = ""
    op: str = ""
    topic: str = ""
    ts: Millis | None = None


decode_answer = msgspec.json.Decoder(Answer).decode
decode_book = msgspec.json.Decoder(BookFrame, strict=False).decode
decode_book_data = msgspec.json.Decoder(BookTick, strict=False).decode
decode_trades = msgspec.json.Decoder(TradeFrame, strict=False).decode
decode_trades_loosely = msgspec.json.Decoder(LooseTradeFrame).decode
decode_bbo = msgspec.json.Decoder(BboFrame, strict=False).decode
decode_contract_bbo = msgspec.json.Decoder(ContractBboFrame, strict=False).decode
decode_ticker = msgspec.json.Decoder(DayFrame, strict=False).decode
decode_index = msgspec.json.Decoder(IndexFrame, strict=False).decode
decode_funding = msgspec.json.Decoder(FundingFrame, strict=False).decode
decode_peeked = msgspec.json.Decoder(Peeked, strict=False).decode
_decode_level = msgspec.json.Decoder(Level, strict=False).decode
_decode_price = msgspec.json.Decoder(Price, strict=False).decode
read_trade_rows = Items(TradeRow)


def best_price(data: Raw) -> float | None:
    """Read a best price of `Day`; None where there is none."""
    text = bytes(data)
    if not text or text == b"null":
        return None
    return _decode_level(text)[0] if text[:1] == b"[" else _decode_price(text)


def unpacked(payload: bytes) -> bytes:
    """Return a frame's text: the venue sends whole gzip members; recordings may hold the text itself."""
    if payload[:2] != b"\x1f\x8b":
        return payload
    member = zlib.decompressobj(wbits=31)
    text = member.decompress(payload, TEXT_MAX)
    if not member.eof:
        raise ValueError("a gzip member that is cut off or too long")
    return text
