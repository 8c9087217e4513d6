"""Wire formats of Alpaca: items of its arrays, in JSON and in msgpack. Rules are in feeds/venues/alpaca.py."""

import struct
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from feeds.rfc3339 import parse_ns
from feeds.units import PositivePrice
from hub.intervals import NS_PER_S
from hub.model import Price, Size

__all__ = [
    "UNREADABLE",
    "Asset",
    "Bar",
    "Book",
    "Cancel",
    "Correction",
    "Failure",
    "Item",
    "Name",
    "Quote",
    "Subscription",
    "Success",
    "Trade",
    "Unused",
    "decode_assets",
    "decode_bars",
    "is_cut",
    "items_of",
    "names_of",
    "parts_of",
    "time_of",
]

Id: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class Item(Struct, gc=False, tag_field="T"):
    """`{"T":kind,"S":symbol,"t":time,…}`. The time stays raw: text in JSON, extension -1 in msgpack, both in ns."""


class Trade(Item, gc=False, tag="t"):
    """`{"T":"t","S":"AAPL","i":628,"x":"K","p":162.92,"s":3,"c":["@"],"z":"C","t":…}`; crypto has `tks` "B"|"S"."""

    S: str
    p: PositivePrice
    s: Size
    t: Raw
    i: Id | None = None
    x: str | None = ""
    z: str | None = ""
    tks: str | None = ""


class Quote(Item, gc=False, tag="q", rename={"asize": "as"}):
    """`{"T":"q","S":"AMD","bx":"K","bp":91.95,"bs":2,"ax":"Q","ap":91.98,"as":1,"c":["R"],"z":"C","t":…}`."""

    S: str
    t: Raw
    bp: Price | None = None
    bs: Size | None = None
    ap: Price | None = None
    asize: Size | None = None


class BookLevel(Struct, gc=False):
    p: PositivePrice
    s: Size


class Book(Item, gc=False, tag="o"):
    """`{"T":"o","S":"MKR/USD","t":…,"b":[{"p":1.0,"s":2.0}],"a":[],"r":true}`; r: the full book; sizes absolute."""

    S: str
    t: Raw
    b: list[BookLevel] | None = None
    a: list[BookLevel] | None = None
    r: bool | None = False


class Correction(Item, gc=False, tag="c"):
    """`{"T":"c","S":"EEM","x":"M","oi":1,"op":39.1,"os":100,"ci":2,"cp":39.2,"cs":100,"t":…}`: o was, c is."""

    S: str
    t: Raw
    oi: Id
    op: Price
    os: Size
    ci: Id
    cp: Price
    cs: Size
    x: str | None = ""


class Cancel(Item, gc=False, tag="x"):
    """`{"T":"x","S":"GOOGL","i":465,"x":"D","p":105.31,"s":300,"a":"C","t":…}`; a: C cancelled, E an error."""

    S: str
    t: Raw
    i: Id
    p: Price
    s: Size
    a: str | None = ""
    x: str | None = ""


class Unused(Item, gc=False, tag="b"):
    """Minute bars: candles are built from trades."""


class UpdatedBar(Unused, gc=False, tag="u"):
    """Minute bars that late trades changed."""


class DailyBar(Unused, gc=False, tag="d"):
    """The day so far."""


class TradingStatus(Unused, gc=False, tag="s"):
    """Halts."""


class Luld(Unused, gc=False, tag="l"):
    """Limit up, limit down."""


class Imbalance(Unused, gc=False, tag="i"):
    """Before an auction."""


class Success(Item, gc=False, tag="success"):
    """`connected`, then `authenticated`."""

    msg: str = ""


class Failure(Item, gc=False, tag="error"):
    """`{"T":"error","code":406,"msg":"connection limit exceeded"}`."""

    code: int = 0
    msg: str = ""


class Subscription(Item, gc=False, tag="subscription"):
    """All that is subscribed now: the answer to each request."""

    trades: list[str] | None = None
    quotes: list[str] | None = None
    orderbooks: list[str] | None = None


class Name(Struct, gc=False):
    """By what an item tells what it is about."""

    T: str = ""
    S: str = ""
    t: Raw = Raw()


class Asset(Struct):
    """A row of `GET /v2/assets` of the trading API; increments are text, and of crypto only."""

    symbol: str
    asset_class: str = msgspec.field(name="class", default="us_equity")
    name: str | None = None
    status: str = "active"
    tradable: bool = True
    min_trade_increment: str | None = None
    price_increment: str | None = None


class Bar(Struct, gc=False):
    """A candle of REST; `t` is its start. Of crypto, one without a trade is made of quotes: v, n and vw are 0."""

    t: str
    o: Price
    h: Price
    l: Price  # noqa: E741 - the venue's name
    c: Price
    v: Size
    n: Annotated[int, Meta(ge=0)] | None = None
    vw: Price | None = None


class _Bars(Struct):
    bars: list[Bar] | dict[str, list[Bar]] | None = None


_Any: TypeAlias = (
    Trade | Quote | Book | Correction | Cancel | Unused | UpdatedBar | DailyBar | TradingStatus | Luld | Imbalance
    | Success | Failure | Subscription
)  # fmt: skip

_json_items = msgspec.json.Decoder(list[_Any]).decode
_msgpack_items = msgspec.msgpack.Decoder(list[_Any]).decode
_json_names = msgspec.json.Decoder(list[Name]).decode
_msgpack_names = msgspec.msgpack.Decoder(list[Name]).decode
_json_parts = msgspec.json.Decoder(list[Raw]).decode
_msgpack_parts = msgspec.msgpack.Decoder(list[Raw]).decode
_json_item = msgspec.json.Decoder(_Any).decode
_msgpack_item = msgspec.msgpack.Decoder(_Any).decode
_json_name = msgspec.json.Decoder(Name).decode
_msgpack_name = msgspec.msgpack.Decoder(Name).decode
decode_assets = msgspec.json.Decoder(list[Asset]).decode
_decode_bars = msgspec.json.Decoder(_Bars).decode

#: What is raised by bytes that cannot be read: text that is no UTF-8 and endless nesting included.
UNREADABLE = (ValueError, RecursionError)


def items_of(payload: bytes) -> list[Any]:
    """Read a frame; a text frame begins with `[`, which no array in msgpack does."""
    return _json_items(payload) if payload[:1] == b"[" else _msgpack_items(payload)


def names_of(payload: bytes) -> list[Name]:
    return _json_names(payload) if payload[:1] == b"[" else _msgpack_names(payload)


def parts_of(payload: bytes) -> list[tuple[Any, Name | None]]:
    """Read a frame item by item: (the item, None where it is unreadable; its name, None where even that is)."""
    if payload[:1] == b"{":  # an item outside an array
        payload = b"[" + payload + b"]"
    text = payload[:1] == b"["
    parts = _json_parts(payload) if text else _msgpack_parts(payload)
    return [(_read(_json_item if text else _msgpack_item, part), _read(_name(text), part)) for part in parts]


def _name(text: bool) -> Any:  # a decoder of either kind
    return _json_name if text else _msgpack_name


def _read(decode: Any, part: Raw) -> Any:
    try:
        return decode(part)
    except UNREADABLE:
        return None


def is_cut(payload: bytes) -> bool:
    """Tell whether bytes that are no message begin as an array of items does."""
    return payload[:1] == b"[" or b"\x90" <= payload[:1] <= b"\x9f" or payload[:1] in (b"\xdc", b"\xdd")


def time_of(raw: Raw) -> int | None:
    """Return int ns; ValueError where it is no time. A msgpack timestamp has 4, 8 or 12 bytes."""
    data = bytes(raw)
    if data[:1] == b'"':
        return parse_ns(data[1:-1].decode())
    if data[:2] == b"\xd6\xff" and len(data) == 6:
        return int.from_bytes(data[2:], "big") * NS_PER_S
    if data[:2] == b"\xd7\xff" and len(data) == 10:
        value = int.from_bytes(data[2:], "big")
        ns, seconds = value >> 34, value & ((1 << 34) - 1)
    elif data[:3] == b"\xc7\x0c\xff" and len(data) == 15:
        ns, seconds = struct.unpack(">Iq", data[3:])
    else:
        raise ValueError(f"no time: {data[:40]!r}")
    if ns >= NS_PER_S or seconds > 9_000_000_000:
        raise ValueError(f"a time out of range: {data!r}")
    return seconds * NS_PER_S + ns if seconds >= 0 else None


def decode_bars(body: bytes) -> list[Bar]:
    """Read candles of one symbol, by whichever path they were asked for."""
    bars = _decode_bars(body).bars
    if bars is None:
        return []
    return bars if isinstance(bars, list) else [bar for rows in bars.values() for bar in rows]
