"""Canonical messages: what every consumer of the hub reads, and how they are written as bytes.

One Struct per kind. Field order on the wire is `type, venue, symbol, id, ts_event, ts_recv, ts_pub`, then the kind's
own fields, so that the id can be found without decoding. Prices and sizes are float64 JSON numbers in shortest
round-trip form; sizes are in base units unless the instrument's `size_unit` says `quote`. Times are int nanoseconds
UTC. Absent is `None`, never 0.

Positions, channels and Redis names live in hub/keys.py; who assigns `id` and `ts_pub` is hub/builder.py.
"""

from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import Annotated, Any, Final, Literal, TypeAlias, cast

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from hub.intervals import INTERVALS

__all__ = [
    "CANDLE_TYPES",
    "EVENT_KINDS",
    "FORMING_TYPES",
    "KINDS",
    "STATE_KINDS",
    "Action",
    "Book",
    "Candle",
    "Depth",
    "Level",
    "Listing",
    "Mark",
    "Market",
    "Message",
    "Price",
    "Quote",
    "Side",
    "Size",
    "State",
    "Status",
    "Ticker",
    "Trade",
    "decode",
    "encode",
    "is_event",
    "kind_of",
]

Side: TypeAlias = Literal["buy", "sell"]
Action: TypeAlias = Literal["snapshot", "update"]
State: TypeAlias = Literal["live", "stale", "resyncing", "down"]
Market: TypeAlias = Literal["normal", "locked", "crossed"]
Price: TypeAlias = Annotated[float, Meta(gt=-1e30, lt=1e30)]
"""In quote units. Bounded, so that no NaN or infinity gets in; negative prices exist."""
Size: TypeAlias = Annotated[float, Meta(ge=0, lt=1e30)]
"""In base units, or as the instrument's `size_unit` says; never negative, NaN or infinite."""
Level: TypeAlias = tuple[Price, Size]
"""(price, size)"""


class Message(Struct, frozen=True, gc=False, tag_field="type"):
    """What all kinds have in common.

    `id` is `"<epoch>-<seq>"`, the position in the channel; `ts_event` the venue's time (`None` where it gives none),
    `ts_recv` when the hub read it off the socket, `ts_pub` when the hub handed it to Redis. A message not yet
    published has an empty id and `ts_pub` 0.
    """

    venue: str
    symbol: str
    id: str
    ts_event: int | None
    ts_recv: int
    ts_pub: int


class Trade(Message, frozen=True, gc=False, tag="trade"):
    """A fill. `side` is the aggressor's, `count` the fills in this message."""

    price: Price
    size: Size
    side: Side | None
    trade_id: str
    count: int = 1


class Quote(Message, frozen=True, gc=False, tag="quote"):
    """Best bid and ask. What follows them exists in consolidated quotes only (venue `all`), where it is always there.

    `venues` are those that count, sorted; `bid_venue` and `ask_venue` the ones with the best price. `mid` and
    `microprice` are in quote units, `spread_bps` in 1/10,000 of mid, `imbalance` (best level) and `imbalance_n` (top
    levels) between -1 (asks only) and 1. `market` says whether the best prices of different venues are apart, equal or
    overlap; None where a side is missing. `analytics` are named numbers, an open set.
    """

    bid: Price | None
    bid_size: Size | None
    ask: Price | None
    ask_size: Size | None
    bid_venue: str | UnsetType | None = UNSET
    ask_venue: str | UnsetType | None = UNSET
    mid: float | UnsetType | None = UNSET
    spread_bps: float | UnsetType | None = UNSET
    microprice: float | UnsetType | None = UNSET
    imbalance: float | UnsetType | None = UNSET
    imbalance_n: float | UnsetType | None = UNSET
    market: Market | UnsetType | None = UNSET
    venues: list[str] | UnsetType = UNSET
    analytics: dict[str, float | None] | UnsetType = UNSET


class Depth(Message, frozen=True, gc=False, tag="depth"):
    """The top levels of a book, best first; self-contained.

    Consolidated (venue `all`), each level has its size by venue at the same place of `bid_venues` and `ask_venues`, and
    `venues` are those that count, sorted.
    """

    bids: list[Level]
    asks: list[Level]
    bid_venues: list[dict[str, Size]] | UnsetType = UNSET
    ask_venues: list[dict[str, Size]] | UnsetType = UNSET
    venues: list[str] | UnsetType = UNSET


class Book(Message, frozen=True, gc=False, tag="book"):
    """Full book: a `snapshot` replaces everything, an `update` sets absolute sizes, 0 removes. Best first."""

    action: Action
    bids: list[Level]
    asks: list[Level]


class Ticker(Message, frozen=True, gc=False, tag="ticker"):
    """Rolling 24 hours. `volume` in base units, `quote_volume` in quote units."""

    last_price: float | None
    open_price: float | None
    high_price: float | None
    low_price: float | None
    volume: float | None
    quote_volume: float | None
    bid_price: float | None
    ask_price: float | None


class Candle(Message, frozen=True, gc=False):
    """A candle; its `type` is `candle.<interval>` when closed and `forming.<interval>` while open.

    `start` is int nanoseconds UTC, the interval is half-open. `source` says whether the hub built it from trades or
    took it from the venue; fields a venue does not give are `None`. `revision` counts corrections, from 0.
    """

    start: int
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    notional: float | None
    vwap: float | None
    trades: int | None
    buy_trades: int | None
    sell_trades: int | None
    buy_volume: float | None
    sell_volume: float | None
    buy_notional: float | None
    sell_notional: float | None
    source: Literal["trades", "venue"]
    revision: int


class Mark(Message, frozen=True, gc=False, tag="mark"):
    """Derivatives: `funding_rate` a fraction per interval, `next_funding_ts` int ns, `open_interest` like sizes."""

    mark_price: float | None
    index_price: float | None
    funding_rate: float | None
    next_funding_ts: int | None
    open_interest: float | None


class Status(Message, frozen=True, gc=False, tag="status"):
    """State of a venue (symbol `*`) or of one symbol; `kind` None means all kinds. `since` is int ns.

    The newest status of a symbol describes it whole: `kind` names what is affected, `state` is the worst of it.
    """

    state: State
    kind: str | None
    reason: str
    since: int


class Listing(Message, frozen=True, gc=False, tag="listing"):
    """A venue's list of instruments changed: `symbol` was `listed` (or is again), `delisted`, or `changed`.

    `changes` names what is different; `instrument` is the row, with the fields that REST `instruments` shows.
    """

    action: Literal["listed", "delisted", "changed"]
    changes: list[str]
    instrument: dict[str, str | float | int | None]


def _candle_type(tag: str) -> type[Candle]:
    # A Struct's tag is fixed per class, so each interval has a class of its own that differs in the tag alone.
    return cast(type[Candle], msgspec.defstruct("Candle", (), bases=(Candle,), tag=tag, frozen=True, gc=False))


#: interval -> class of closed candles, and of open ones
CANDLE_TYPES: Final[dict[str, type[Candle]]] = {name: _candle_type(f"candle.{name}") for name in INTERVALS}
FORMING_TYPES: Final[dict[str, type[Candle]]] = {name: _candle_type(f"forming.{name}") for name in INTERVALS}

EVENT_KINDS: Final = frozenset({"trade", "book", "status", "listing"} | {f"candle.{name}" for name in INTERVALS})
STATE_KINDS: Final = frozenset({"quote", "depth", "ticker", "mark"} | {f"forming.{name}" for name in INTERVALS})
KINDS: Final = EVENT_KINDS | STATE_KINDS


def is_event(kind: str) -> bool:
    """Tell whether `kind` is a sequence in which each message counts; state kinds are replaced by the newest."""
    return kind in EVENT_KINDS


def kind_of(message: Message) -> str:
    """Return the kind, e.g. `trade` or `candle.1m`."""
    return cast(str, message.__struct_config__.tag)


_types: list[Any] = [
    Trade,
    Quote,
    Depth,
    Book,
    Ticker,
    Mark,
    Status,
    Listing,
    *CANDLE_TYPES.values(),
    *FORMING_TYPES.values(),
]
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(reduce(or_, _types))

#: bytes of one message as they stand in Redis and on the WebSocket
encode: Final[Callable[[Message], bytes]] = msgspec.json.Encoder().encode


def decode(payload: bytes | str) -> Message:
    """Parse one canonical message; msgspec.DecodeError (ValidationError included) where it is none."""
    return _decoder.decode(payload)
