"""Wire formats of Kraken's WebSocket v2 and REST: what the JSON looks like. Rules are in feeds/venues/kraken.py."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from feeds.items import Items
from feeds.units import PositivePrice
from hub.model import Level, Price, Size

__all__ = [
    "UNREADABLE",
    "AckResult",
    "BookFrame",
    "BookItem",
    "Envelope",
    "Heartbeat",
    "RawLevel",
    "TextLevel",
    "TickerFrame",
    "TickerItem",
    "TradeFrame",
    "TradeItem",
    "decode_envelope",
    "decode_frame",
    "decode_peeked",
    "read_book_items",
    "read_levels",
    "read_ticker_items",
    "read_trade_items",
]

Checksum: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 32)]
Id: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 62))]


class RawLevel(Struct, gc=False):
    """`{"price":63381.0,"qty":0.00005100}`: numbers whose trailing zeros count, so they are kept as they came."""

    price: Raw
    qty: Raw


class TextLevel(Struct, array_like=True, gc=False):
    """The digits of a level."""

    price: str
    qty: str


class BookItem(Struct, gc=False):
    """`{"symbol":"BTC/USD","bids":[…],"asks":[…],"checksum":3726153463,"timestamp":"…Z"}`; qty absolute, 0 removes."""

    symbol: str
    bids: list[RawLevel] = []
    asks: list[RawLevel] = []
    checksum: Checksum | None = None
    timestamp: str | None = None


class TradeItem(Struct, gc=False):
    """`{"symbol":"BTC/USD","side":"buy","price":1.0,"qty":2.0,"trade_id":1,"timestamp":"…Z"}`; side: the taker's."""

    symbol: str
    price: PositivePrice
    qty: Size
    trade_id: Id
    timestamp: str
    side: str | None = None


class TickerItem(Struct, gc=False):
    """Best bid and ask, and rolling 24 h: `volume` in base units, `change` = last less the price 24 h ago."""

    symbol: str
    last: Price | None = None
    bid: Price | None = None
    bid_qty: Size | None = None
    ask: Price | None = None
    ask_qty: Size | None = None
    high: Price | None = None
    low: Price | None = None
    volume: Size | None = None
    change: Price | None = None
    timestamp: str | None = None


class BookFrame(Struct, gc=False, tag_field="channel", tag="book"):
    """`{"channel":"book","type":"snapshot"|"update","data":[…]}`."""

    type: str
    data: list[BookItem]


class TradeFrame(Struct, gc=False, tag_field="channel", tag="trade"):
    type: str
    data: list[TradeItem]


class TickerFrame(Struct, gc=False, tag_field="channel", tag="ticker"):
    type: str
    data: list[TickerItem]


class Heartbeat(Struct, gc=False, tag_field="channel", tag="heartbeat"):
    """`{"channel":"heartbeat"}`, every second."""


class AckResult(Struct, gc=False):
    channel: str = ""
    symbol: str = ""
    depth: int | None = None


class Envelope(Struct, gc=False):
    """Any frame: one that has no type of its own, or `{"method":"subscribe","result":{…},"success":true,"req_id":1}`,
    `{"method":"subscribe","error":"…","success":false,"symbol":"…"}`, `{"method":"pong"}`."""

    channel: str = ""
    type: str = ""
    data: Raw = Raw()
    method: str = ""
    success: bool | None = None
    error: str | None = None
    symbol: str = ""
    req_id: int | None = None
    result: AckResult | None = None


class PeekedItem(Struct, gc=False):
    symbol: str = ""
    timestamp: str | None = None


class Peeked(Struct, gc=False):
    channel: str = ""
    data: list[PeekedItem] = []


decode_frame = msgspec.json.Decoder(BookFrame | TradeFrame | TickerFrame | Heartbeat).decode
decode_envelope = msgspec.json.Decoder(Envelope).decode
decode_peeked = msgspec.json.Decoder(Peeked).decode
read_book_items = Items(BookItem)
read_trade_items = Items(TradeItem)
read_ticker_items = Items(TickerItem)

#: What msgspec and float raise on bytes they cannot read: text that is no UTF-8 and endless nesting included.
UNREADABLE = (ValueError, RecursionError)


def read_levels(rows: Sequence[TextLevel], *, falling: bool) -> tuple[list[Level], list[str]]:
    """Return levels best first, and of each the digits that the checksum is made of; ValueError where one is none.

    The venue orders the levels of an update in no way and may repeat a price: the last one counts.
    """
    levels: list[Level] = []
    texts: list[str] = []
    for row in rows:
        price_text, size_text = row.price, row.qty
        price, size = float(price_text), float(size_text)
        if not (0 < price < 1e30 and 0 <= size < 1e30):
            raise ValueError(f"no level: {price_text[:40]} {size_text[:40]}")
        digits = price_text.replace(".", "").lstrip("0") + size_text.replace(".", "").lstrip("0")
        if not digits.isdecimal():
            digits = _digits(price_text) + _digits(size_text)
        levels.append((price, size))
        texts.append(digits)
    if len(levels) < 2:
        return levels, texts
    last = {level[0]: at for at, level in enumerate(levels)}
    order = [last[price] for price in sorted(last, reverse=falling)]
    return [levels[at] for at in order], [texts[at] for at in order]


def _digits(text: str) -> str:
    """Write an exponent out, drop the point and leading zeros."""
    return format(Decimal(text), "f").replace(".", "").lstrip("0")
