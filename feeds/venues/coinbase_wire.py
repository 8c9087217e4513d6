"""Wire formats of Coinbase: Advanced Trade, the Exchange feed, REST. Rules are in feeds/venues/coinbase*.py."""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from feeds.units import PositiveLevel, PositivePrice
from hub.model import Price, Size

__all__ = [
    "UNREADABLE",
    "AdvancedFrame",
    "Candles",
    "Envelope",
    "ExchangeFrame",
    "Heartbeat",
    "Heartbeats",
    "L2Data",
    "L2Event",
    "L2Update",
    "LastMatch",
    "MarketTrades",
    "Match",
    "PeekFrame",
    "Product",
    "Rejected",
    "Snapshot",
    "StatusFrame",
    "Subscribed",
    "Subscriptions",
    "Ticker",
    "TickerBatch",
    "TickerFrame",
    "TickerItem",
    "TradeItem",
    "TradesEvent",
    "Update",
    "decode_advanced",
    "decode_candle_rows",
    "decode_candles",
    "decode_envelope",
    "decode_event_name",
    "decode_exchange",
    "decode_l2_event",
    "decode_peek",
    "decode_product_list",
    "decode_products",
    "decode_raws",
    "decode_ticker",
    "decode_ticker_raws",
    "decode_trade_raws",
]

Id: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 62))]
TradeId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]


# Advanced Trade: https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels


class AdvancedFrame(Struct, gc=False, tag_field="channel"):
    """`{"channel":…,"timestamp":"…Z" (ns),"sequence_num":0,"events":[…]}`; numbers count the connection's messages."""

    timestamp: str
    sequence_num: Id


class Update(Struct, gc=False):
    """`{"side":"bid","event_time":"…","price_level":"1.0","new_quantity":"2.0"}`: absolute, "0" removes."""

    side: Literal["bid", "offer"]
    price_level: PositivePrice
    new_quantity: Size


class L2Event(Struct, gc=False):
    type: Literal["snapshot", "update"]
    product_id: str
    updates: list[Update]


class L2Data(AdvancedFrame, gc=False, tag="l2_data"):
    """What the channel that is asked for as `level2` calls itself."""

    events: list[L2Event]


class TradeItem(Struct, gc=False):
    """`{"trade_id":"1","product_id":…,"price":"1.0","size":"2.0","side":"BUY","time":"…"}`: `side` is the maker's."""

    trade_id: TradeId | Id
    product_id: str
    price: PositivePrice
    size: Size
    time: str
    side: str | None = ""


class TradesEvent(Struct, gc=False):
    """Newest first. `snapshot`: trades from before the subscription."""

    type: str
    trades: list[TradeItem]


class MarketTrades(AdvancedFrame, gc=False, tag="market_trades"):
    events: list[TradesEvent]


class TickerItem(Struct, gc=False):
    """`{"product_id":…,"price":…,"volume_24_h":…,"low_24_h":…,"high_24_h":…,"best_bid":…,"best_bid_quantity":…}`."""

    product_id: str
    price: Price | None = None
    volume_24_h: Size | None = None
    low_24_h: Price | None = None
    high_24_h: Price | None = None
    best_bid: Price | None = None
    best_bid_quantity: Size | None = None
    best_ask: Price | None = None
    best_ask_quantity: Size | None = None


class TickerEvent(Struct, gc=False):
    tickers: list[TickerItem]


class TickerFrame(AdvancedFrame, gc=False, tag="ticker"):
    events: list[TickerEvent]


class TickerBatch(TickerFrame, gc=False, tag="ticker_batch"):
    """The same every 5 s."""


class SubscriptionsEvent(Struct, gc=False):
    subscriptions: dict[str, list[str]]


class Subscriptions(AdvancedFrame, gc=False, tag="subscriptions"):
    """All channels of the connection so far, with their products: the answer to each request."""

    events: list[SubscriptionsEvent]


class Heartbeats(AdvancedFrame, gc=False, tag="heartbeats"):
    """One a second; its `current_time` is no RFC 3339."""


class Candles(AdvancedFrame, gc=False, tag="candles"):
    """Five-minute candles."""


class StatusFrame(AdvancedFrame, gc=False, tag="status"):
    """Products and their state."""


# Exchange feed: https://docs.cdp.coinbase.com/exchange/websocket-feed/channels


class ExchangeFrame(Struct, gc=False, tag_field="type"):
    """`{"type":…,…}`."""


class Snapshot(ExchangeFrame, gc=False, tag="snapshot"):
    """`{"type":"snapshot","product_id":"BTC-USD","bids":[["1.0","2.0"]],"asks":[]}`: the full book."""

    product_id: str
    bids: list[PositiveLevel]
    asks: list[PositiveLevel]
    time: str = ""


class L2Update(ExchangeFrame, gc=False, tag="l2update"):
    """`{"type":"l2update","product_id":…,"changes":[["buy","1.0","2.0"]],"time":"…"}`: absolute, 0 removes."""

    product_id: str
    changes: list[tuple[Literal["buy", "sell"], PositivePrice, Size]]
    time: str = ""


class Match(ExchangeFrame, gc=False, tag="match"):
    """`{"type":"match","trade_id":1,"side":"sell","size":"1.0","price":"2.0","product_id":…,"time":…}`: the maker's."""

    trade_id: Id
    product_id: str
    price: PositivePrice
    size: Size
    time: str
    side: str | None = ""


class LastMatch(ExchangeFrame, gc=False, tag="last_match"):
    """The newest trade before the subscription, told again."""

    trade_id: Id
    product_id: str


class Ticker(ExchangeFrame, gc=False, tag="ticker"):
    """`side` is the taker's here and not read: trades come from `match`. Sizes of the best prices are newer fields."""

    product_id: str
    time: str = ""
    price: Price | None = None
    open_24h: Price | None = None
    volume_24h: Size | None = None
    low_24h: Price | None = None
    high_24h: Price | None = None
    best_bid: Price | None = None
    best_bid_size: Size | None = None
    best_ask: Price | None = None
    best_ask_size: Size | None = None


class Heartbeat(ExchangeFrame, gc=False, tag="heartbeat"):
    """`{"type":"heartbeat","sequence":90,"last_trade_id":20,"product_id":…,"time":…}`: one a second and product."""

    product_id: str = ""
    last_trade_id: Id | None = None
    time: str = ""


class SubscribedChannel(Struct, gc=False):
    name: str
    product_ids: list[str] | None = None


class Subscribed(ExchangeFrame, gc=False, tag="subscriptions"):
    """All channels of the connection so far: the answer to each request."""

    channels: list[SubscribedChannel]


class Rejected(ExchangeFrame, gc=False, tag="error"):
    """`{"type":"error","message":"Failed to subscribe","reason":"BTC-FOO is not a valid product"}`."""

    message: str = ""
    reason: str = ""


# What cannot be read at once


class Envelope(Struct, gc=False):
    """What either form says of itself."""

    channel: str = ""
    type: str = ""
    timestamp: str = ""
    sequence_num: Id | None = None
    events: Raw = Raw()
    product_id: str = ""
    message: str = ""
    reason: str = ""


class EventName(Struct, gc=False):
    type: str = ""
    product_id: str = ""


class TradeRaws(Struct, gc=False):
    trades: Raw
    type: str = ""


class TickerRaws(Struct, gc=False):
    tickers: list[Raw]


class PeekItem(Struct, gc=False):
    product_id: str = ""


class PeekEvent(Struct, gc=False):
    product_id: str = ""
    trades: list[PeekItem] = []
    tickers: list[PeekItem] = []


class PeekFrame(Struct, gc=False):
    """Either form, as far as its subject goes."""

    channel: str = ""
    type: str = ""
    timestamp: str = ""
    time: str = ""
    product_id: str = ""
    events: list[PeekEvent] = []


# REST


class PerpetualDetails(Struct):
    pass


class FutureDetails(Struct):
    contract_code: str = ""
    contract_expiry: str | None = None
    contract_size: str = ""
    contract_root_unit: str = ""
    contract_expiry_type: str = ""


class Product(Struct, rename={"own_quote": "quote_currency", "own_base": "base_currency"}):
    """A row of `/market/products` (Advanced Trade: product_id, …) or of `/products` (Exchange: id, …)."""

    product_id: str = ""
    id: str = ""
    base_currency_id: str = ""
    quote_currency_id: str = ""
    own_base: str = ""
    own_quote: str = ""
    base_name: str | None = None
    display_name: str | None = None
    price_increment: str = ""
    quote_increment: str = ""
    base_increment: str = ""
    quote_min_size: str = ""
    min_market_funds: str = ""
    status: str = ""
    trading_disabled: bool = False
    is_disabled: bool = False
    view_only: bool = False
    cancel_only: bool = False
    limit_only: bool = False
    post_only: bool = False
    auction_mode: bool = False
    product_type: str = "SPOT"
    alias: str = ""
    future_product_details: FutureDetails | None = None


class ProductList(Struct):
    products: list[Product]


class Candle(Struct):
    """`start` in unix seconds."""

    start: Annotated[int, Meta(ge=0, le=9_000_000_000)]
    low: Price
    high: Price
    open: Price
    close: Price
    volume: Size


class CandleList(Struct):
    candles: list[Candle]


class CandleRow(Candle, array_like=True):
    """`[time, low, high, open, close, volume]`."""


_Advanced: TypeAlias = (
    L2Data | MarketTrades | TickerFrame | TickerBatch | Subscriptions | Heartbeats | Candles | StatusFrame
)
_Exchange: TypeAlias = Snapshot | L2Update | Match | LastMatch | Ticker | Heartbeat | Subscribed | Rejected

decode_advanced = msgspec.json.Decoder(_Advanced, strict=False).decode
decode_exchange = msgspec.json.Decoder(_Exchange, strict=False).decode
decode_envelope = msgspec.json.Decoder(Envelope).decode
decode_raws = msgspec.json.Decoder(list[Raw]).decode
decode_event_name = msgspec.json.Decoder(EventName).decode
decode_l2_event = msgspec.json.Decoder(L2Event, strict=False).decode
decode_trade_raws = msgspec.json.Decoder(TradeRaws).decode
decode_ticker_raws = msgspec.json.Decoder(TickerRaws).decode
decode_peek = msgspec.json.Decoder(PeekFrame).decode
decode_products = msgspec.json.Decoder(ProductList).decode
decode_product_list = msgspec.json.Decoder(list[Product]).decode
decode_candles = msgspec.json.Decoder(CandleList, strict=False).decode
decode_candle_rows = msgspec.json.Decoder(list[CandleRow], strict=False).decode

_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode

#: What msgspec raises on bytes it cannot read: text that is no UTF-8 and endless nesting included.
UNREADABLE = (ValueError, RecursionError)


def decode_ticker(data: Raw) -> TickerItem:
    """Read one ticker in which the venue may have left fields empty: `""` is absent."""
    fields = {name: value for name, value in _decode_fields(data).items() if bytes(value) != b'""'}
    return msgspec.json.decode(msgspec.json.encode(fields), type=TickerItem, strict=False)
