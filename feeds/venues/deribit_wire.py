"""Wire formats of Deribit: what the JSON looks like, field by field. Rules are in feeds/venues/deribit.py.

Numbers are bare JSON and may have exponents (`2.0e3`). Times are unix ms.
"""

from typing import Annotated, Generic, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from hub.model import Level, Price, Size

__all__ = [
    "UNREADABLE",
    "Book",
    "Change",
    "Chart",
    "Frame",
    "GroupedBook",
    "Listed",
    "Named",
    "Quote",
    "Stats",
    "Ticker",
    "Trade",
    "decode_book",
    "decode_chart",
    "decode_data",
    "decode_error",
    "decode_frame",
    "decode_grouped",
    "decode_heartbeat",
    "decode_listed",
    "decode_named",
    "decode_names",
    "decode_notice",
    "decode_quote",
    "decode_result",
    "decode_rows",
    "decode_ticker",
    "decode_trades",
]

T = TypeVar("T")

Millis: TypeAlias = Annotated[int, Meta(ge=0, le=9_000_000_000_000)]
"""Unix ms, bounded so that ns fit 64 bits."""
Id: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 62))]
Change: TypeAlias = tuple[Literal["new", "change", "delete"], Price, Size]
"""(action, price, absolute amount); what is deleted has amount 0.0"""


class Frame(Struct, gc=False):
    """A notification `{"method":"subscription","params":{…}}` or an answer `{"id":1,"result":…}`, `{"error":{…}}`."""

    method: str = ""
    params: Raw = Raw()
    id: int | str | None = None
    result: Raw = Raw()
    error: Raw = Raw()


class Notice(Struct, gc=False):
    """`params` of a subscription: `{"channel":"book.BTC-PERPETUAL.100ms","data":…}`."""

    channel: str
    data: Raw


class Heartbeat(Struct, gc=False):
    """`params` of a heartbeat: `{"type":"test_request"}`."""

    type: str


class Error(Struct, gc=False):
    """`{"code":10028,"message":"too_many_requests","data":null}`."""

    code: int = 0
    message: str = ""


class Params(Struct, Generic[T], gc=False):
    data: T


class Notification(Struct, Generic[T], gc=False):
    """A whole frame with its data typed: read in one pass where the channel is known already."""

    params: Params[T]


class Named(Struct, gc=False):
    """The fields by which `data` tells what it is about."""

    instrument_name: str
    timestamp: Millis | None = None


class Book(Struct, gc=False):
    """`book.<instrument>.<interval>`. Without `type` (recordings of 2020) a snapshot is what names no predecessor."""

    instrument_name: str
    timestamp: Millis
    change_id: Id
    bids: list[Change]
    asks: list[Change]
    prev_change_id: Id | None = None
    type: Literal["snapshot", "change"] | None = None


class GroupedBook(Struct, gc=False):
    """`book.<instrument>.<group>.<depth>.<interval>`: the best levels, whole each time, no predecessor."""

    instrument_name: str
    timestamp: Millis
    change_id: Id
    bids: list[Level]
    asks: list[Level]


class Trade(Struct, gc=False):
    """One of the list that `trades.…` carries; `direction` is the taker's, `amount` USD for inverse contracts."""

    instrument_name: str
    trade_seq: Id
    trade_id: Annotated[str, Meta(min_length=1, max_length=64)]
    timestamp: Millis
    price: Price
    amount: Size
    direction: str | None = None


class Quote(Struct, gc=False):
    """`quote.<instrument>`; an empty side has amount 0 or null."""

    instrument_name: str
    timestamp: Millis
    best_bid_price: Price | None = None
    best_bid_amount: Size | None = None
    best_ask_price: Price | None = None
    best_ask_amount: Size | None = None


class Stats(Struct, gc=False):
    """24 hours: `volume` in base units, `volume_notional` in quote units, `volume_usd` in USD."""

    high: Price | None = None
    low: Price | None = None
    volume: Size | None = None
    volume_usd: Size | None = None
    volume_notional: Size | None = None


class Ticker(Quote, gc=False):
    """`ticker.<instrument>.<interval>`; `current_funding` (perpetuals) is a fraction per 8 hours."""

    last_price: Price | None = None
    mark_price: Price | None = None
    index_price: Price | None = None
    open_interest: Size | None = None
    current_funding: Price | None = None
    stats: Stats | None = None


class Listed(Struct):
    """A row of `public/get_instruments`; lists of 2021 lack the currencies of settlement and counter value."""

    instrument_name: str
    kind: str
    base_currency: str
    quote_currency: str
    counter_currency: str | None = None
    settlement_currency: str | None = None
    settlement_period: str | None = None
    instrument_type: str | None = None
    future_type: str | None = None
    option_type: str | None = None
    tick_size: Price | None = None
    min_trade_amount: Size | None = None
    contract_size: Size = 1.0
    expiration_timestamp: int | None = None
    is_active: bool = True
    state: str | None = None


class Chart(Struct):
    """`public/get_tradingview_chart_data`: columns of equal length; volume in base units, cost in quote units."""

    ticks: list[Millis]
    open: list[Price]
    high: list[Price]
    low: list[Price]
    close: list[Price]
    volume: list[Size]
    cost: list[Size]


class Answer(Struct, Generic[T]):
    """A REST body."""

    result: T


decode_frame = msgspec.json.Decoder(Frame).decode
decode_notice = msgspec.json.Decoder(Notice).decode
decode_heartbeat = msgspec.json.Decoder(Heartbeat).decode
decode_error = msgspec.json.Decoder(Error).decode
decode_names = msgspec.json.Decoder(list[str]).decode
decode_named = msgspec.json.Decoder(Named).decode
decode_rows = msgspec.json.Decoder(list[Raw]).decode
decode_book = msgspec.json.Decoder(Notification[Book]).decode
decode_grouped = msgspec.json.Decoder(Notification[GroupedBook]).decode
decode_trades = msgspec.json.Decoder(Notification[list[Trade]]).decode
decode_data = msgspec.json.Decoder(Notification[Raw]).decode
decode_quote = msgspec.json.Decoder(Notification[Quote]).decode
decode_ticker = msgspec.json.Decoder(Notification[Ticker]).decode
decode_result = msgspec.json.Decoder(Answer[list[Raw]]).decode
decode_listed = msgspec.json.Decoder(Listed).decode
decode_chart = msgspec.json.Decoder(Answer[Chart]).decode

#: What msgspec raises on bytes it cannot read: text that is no UTF-8 and endless nesting included.
UNREADABLE = (ValueError, RecursionError)
