"""Kraken spot, WebSocket v2 (and recordings of v1, see feeds/venues/kraken_v1.py).

Documentation: https://docs.kraken.com/api/docs/websocket-v2/book, …/trade, …/ticker,
https://docs.kraken.com/api/docs/guides/spot-ws-book-v2 (checksum), https://docs.kraken.com/api/docs/rest-api

Quirks:
- No sequence numbers: a CRC32 over the digits of the ten best levels a side comes with every book message. What is lost
  below them shows when it moves up. Times of a book's messages never go back, so that swapped ones show at once.
- The venue keeps the subscribed depth and sends no removal for what it pushes out: each side is cut to that depth.
- A book message that cannot be read is a lost one, and the checksum may not show it: the book is subscribed again.
- Best bid and ask come with the channel `ticker`, for each change of them only where `event_trigger` says so.
- One acknowledgement per symbol; a refusal leaves the socket open, with heartbeats on it.
- REST names assets as v1 did: XBT for BTC, XDG for DOGE. Its errors come with HTTP 200.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit
from zlib import crc32

import msgspec

from feeds.adapter import (
    Acked,
    Adapter,
    BookGap,
    BookUpdate,
    Event,
    Fetch,
    Limits,
    Peek,
    Refused,
    Skipped,
    Subscription,
)
from feeds.items import Items
from feeds.rfc3339 import parse_ns
from feeds.units import SIDES
from feeds.venues.kraken_rest import CANDLES_MAX, MINUTES, ohlc_fetch, read_instruments, read_ohlc, v2_name
from feeds.venues.kraken_v1 import KrakenV1, peek_v1
from feeds.venues.kraken_wire import (
    UNREADABLE,
    AckResult,
    BookFrame,
    BookItem,
    Envelope,
    Heartbeat,
    RawLevel,
    TextLevel,
    TickerFrame,
    TickerItem,
    TradeFrame,
    TradeItem,
    decode_envelope,
    decode_frame,
    decode_peeked,
    read_book_items,
    read_levels,
    read_ticker_items,
    read_trade_items,
)
from hub.book import OrderBook
from hub.errors import WireError
from hub.instruments import Instrument
from hub.model import Quote, Ticker, Trade

__all__ = ["Kraken"]

#: Depths a subscription may have; others are refused.
DEPTHS = (10, 25, 100, 500, 1000)

#: Levels a side that the checksum covers.
CHECKED = 10

#: channel -> canonical kinds
_KINDS = {"trade": ("trade",), "ticker": ("quote", "ticker"), "book": ("book",)}

#: What the hub does not use: it has better, or no use for it. A frame of these costs a counter.
_UNUSED = {"ohlc": "venue candle", "instrument": "instruments", "level3": "orders"}

#: How a frame of books names its channel and its symbols, where no more than that can be read of it.
_IS_BOOK = re.compile(rb'"channel"\s*:\s*"book"')
_SYMBOLS = re.compile(rb'"symbol"\s*:\s*"([^"]*)"')

#: (item, type of its frame, ts_recv) -> events
_Handler = Callable[[Any, str, int], list[Event | Fetch]]


def _checksum(book: OrderBook) -> int:
    """CRC32 of price and size digits of the ten best asks, then bids, without points and leading zeros.

    https://docs.kraken.com/api/docs/guides/spot-ws-book-v2
    """
    return crc32("".join(book.asks.best_texts(CHECKED) + book.bids.best_texts(CHECKED)).encode())


class Kraken(Adapter):
    """One connection to Kraken; see feeds/adapter.py."""

    venue = "kraken"
    endpoints: ClassVar[dict[str, str]] = {"": "wss://ws.kraken.com/v2"}
    rest_url = "https://api.kraken.com"
    # Connections: about 150 in 10 min. Messages: the venue's limit moves with its load. No forced cut is documented.
    limits = Limits(
        streams_per_connection=600,
        messages_per_s=5,
        connects=150,
        connects_window_s=600,
        rest_weight=5,
        rest_window_s=5,
        lifetime_s=7 * 86_400,
        heartbeat_s=10,
        subscribe_batch=100,
    )
    channels: ClassVar[dict[str, str]] = {
        "trade": "trade",
        "quote": "ticker",
        "book": "book",
        "depth": "book",
        "ticker": "ticker",
        "candle": "trade",
    }
    default_symbols = ("BTC-USD", "ETH-USD", "SOL-USD", "XRP-USD", "BTC-USDT")
    candle_intervals = frozenset(MINUTES)
    candles_per_fetch = CANDLES_MAX
    candle_reach = CANDLES_MAX
    checksum = staticmethod(_checksum)
    book_window = DEPTHS[-1]

    def __init__(
        self,
        instruments: Sequence[Instrument],
        book_levels: int = 1000,
        endpoint: str = "",
        credentials: Sequence[str] = (),
    ) -> None:
        super().__init__(instruments, book_levels, endpoint, credentials)
        self._instruments = {row.venue_symbol: row for row in instruments}
        self.depth = next((depth for depth in DEPTHS if depth >= book_levels), DEPTHS[-1])
        self._depths: dict[str, int] = {}
        self._book_at: dict[str, int] = {}  # venue time of a live book's last message, int ns
        self._ticker_at: dict[str, int] = {}
        self._requests: dict[int, dict[str, None]] = {}
        self._next_id = 1
        self._v1 = KrakenV1(self._instruments)
        self._handlers: dict[type, _Handler] = {
            BookFrame: self._book,
            TradeFrame: self._trade,
            TickerFrame: self._ticker,
        }
        self._readers: dict[str, tuple[Items[Any], _Handler]] = {
            "book": (read_book_items, self._book),
            "trade": (read_trade_items, self._trade),
            "ticker": (read_ticker_items, self._ticker),
        }

    # instruments

    @classmethod
    def instruments_fetches(cls) -> list[Fetch]:
        return [Fetch(resource="AssetPairs", path="/0/public/AssetPairs")]

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        try:
            return read_instruments(cls.venue, body)
        except UNREADABLE as error:
            raise WireError(cls.venue, f"AssetPairs: {error}") from error

    @classmethod
    def resource_of(cls, url: str) -> tuple[str, str]:
        parts = urlsplit(url)
        pair = parse_qs(parts.query).get("pair", [""])[0]
        return parts.path.rsplit("/", 1)[-1], v2_name(pair)

    @classmethod
    def peek(cls, payload: bytes, endpoint: str = "") -> list[Peek]:
        if payload[:1] == b"[":
            return peek_v1(payload)
        try:
            frame = decode_peeked(payload)
            kinds = _KINDS.get(frame.channel, ())
            return [
                Peek(item.symbol, kind, _time(item.timestamp) if item.timestamp else None)
                for item in frame.data
                if item.symbol
                for kind in kinds
            ]
        except UNREADABLE:
            return []

    @classmethod
    def listed_key(cls, key: str) -> str:
        return v2_name(key)

    # subscriptions

    def learn(self, instruments: Sequence[Instrument]) -> bool:
        self._instruments.update({row.venue_symbol: row for row in instruments})
        return True

    def venue_channels(self, subs: Sequence[Subscription]) -> list[str]:
        return list(dict.fromkeys(f"{self.channels[sub.kind]}:{sub.instrument.venue_symbol}" for sub in subs))

    def subscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        return self._request("subscribe", self.venue_channels(subs))

    def unsubscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        return self._request("unsubscribe", self.venue_channels(subs))

    def _request(self, method: str, names: Iterable[str]) -> list[bytes]:
        symbols: dict[str, list[str]] = {}
        for name in names:
            channel, _, symbol = name.partition(":")
            symbols.setdefault(channel, []).append(symbol)
        size = self.limits.subscribe_batch
        return [
            self._frame(method, channel, wanted[at : at + size])
            for channel, wanted in symbols.items()
            for at in range(0, len(wanted), size)
        ]

    def _frame(self, method: str, channel: str, symbols: list[str]) -> bytes:
        params: dict[str, object] = {"channel": channel, "symbol": symbols}
        if channel == "book":
            params["depth"] = self.depth
        if method == "subscribe":
            self._requests[self._next_id] = dict.fromkeys(f"{channel}:{symbol}" for symbol in symbols)
            if channel == "book":
                self._depths.update(dict.fromkeys(symbols, self.depth))
            params["snapshot"] = channel != "trade"
        if channel == "ticker":
            params["event_trigger"] = "bbo"
        frame = msgspec.json.encode({"method": method, "params": params, "req_id": self._next_id})
        self._next_id += 1
        return frame

    def resync(self, instrument: Instrument) -> list[bytes | Fetch]:
        """Subscribe again: a new snapshot comes with that and with nothing else."""
        self._book_at.pop(instrument.venue_symbol, None)
        self._v1.forget(instrument)
        names = [f"book:{instrument.venue_symbol}"]
        return [*self._request("unsubscribe", names), *self._request("subscribe", names)]

    def ping(self) -> bytes | None:
        return b'{"method":"ping"}'

    # frames

    def receive(self, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        try:
            if payload[:1] == b"[":
                return self._v1.receive(payload, ts_recv)
            frame = decode_frame(payload)
        except UNREADABLE:
            return self._other(payload, ts_recv)
        if type(frame) is Heartbeat:
            return []
        try:
            handler, data = self._handlers[type(frame)], frame.data
            if len(data) == 1:
                return handler(data[0], frame.type, ts_recv)
            return [event for item in data for event in handler(item, frame.type, ts_recv)]
        except UNREADABLE:
            return self._other(payload, ts_recv)

    def _other(self, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        """Read what has no type of its own, and frames in which not every item can be read."""
        try:
            frame = decode_envelope(payload)
            if frame.channel in self._readers:
                return self._one_by_one(frame, payload, ts_recv)
            return self._answer(frame, payload)
        except UNREADABLE as error:
            v1 = payload[:1] == b"["
            lost = self._v1.suspect(payload, ts_recv) if v1 else self._suspect(payload, ts_recv)
            if lost:
                return [*lost, Skipped("unreadable book")]
            raise WireError(self.venue, str(error)) from error

    def _suspect(self, payload: bytes, ts_recv: int, read: Collection[str] = ()) -> list[Event | Fetch]:
        """Give up the books of which `payload` told something unreadable; `read`: those of it that were not."""
        if not _IS_BOOK.search(payload):
            return []
        named = {str(name, errors="replace") for name in _SYMBOLS.findall(payload)} or set(self._book_at)
        lost = [name for name in self._book_at if name in named and name not in read]
        for name in lost:
            del self._book_at[name]
        return [BookGap(self._instruments[name], "an unreadable book message", ts_recv) for name in lost]

    def _one_by_one(self, frame: Envelope, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        read, handler = self._readers[frame.channel]
        items, lost = read(frame.data)
        events: list[Event | Fetch] = []
        read_well: list[str] = []
        reason: ValueError | None = None
        for item in items:
            try:
                events += handler(item, frame.type, ts_recv)
                read_well.append(item.symbol)
            except ValueError as error:
                if len(items) + lost == 1:
                    raise
                lost += 1
                reason = error
        if reason is not None and not read_well:
            raise reason
        if lost:
            events += self._suspect(payload, ts_recv, read_well)
        return [*events, *[Skipped("unreadable item")] * lost]

    def _answer(self, frame: Envelope, payload: bytes) -> list[Event | Fetch]:
        if frame.channel == "status" or frame.method == "pong":
            return []
        if frame.channel:
            return [Skipped(_UNUSED.get(frame.channel, "unknown channel"))]
        if not frame.method and frame.error:  # "Exceeded msg rate" says not of which request
            return [Refused((), frame.error)]
        if not frame.method:
            return self._v1.answer(payload)
        if frame.method != "subscribe":
            return [] if frame.success else [Skipped("refused request")]
        asked = self._requests.get(frame.req_id, {}) if frame.req_id is not None else {}
        if frame.success is not True:
            return self._refusal(frame, asked)
        result = frame.result or AckResult()
        if result.depth is not None and result.channel == "book":
            self._depths[result.symbol] = result.depth
        name = f"{result.channel}:{result.symbol}"
        asked.pop(name, None)
        return [Acked((name,))]

    def _refusal(self, frame: Envelope, asked: dict[str, None]) -> list[Event | Fetch]:
        """One symbol of a request is refused, or, where none is named, all of them that were not accepted."""
        names = [name for name in asked if not frame.symbol or name.partition(":")[2] == frame.symbol]
        for name in names:
            del asked[name]
        return [Refused(tuple(names), frame.error or "no reason given")]

    def _trade(self, item: TradeItem, kind: str, ts_recv: int) -> list[Event | Fetch]:
        instrument = self._instruments.get(item.symbol)
        if instrument is None:
            return [Skipped("unknown symbol")]
        return [
            Trade(
                self.venue, instrument.symbol, "", _time(item.timestamp), ts_recv, 0,
                item.price, item.qty, SIDES.get(item.side or ""), str(item.trade_id),
            )
        ]  # fmt: skip

    def _ticker(self, item: TickerItem, kind: str, ts_recv: int) -> list[Event | Fetch]:
        instrument = self._instruments.get(item.symbol)
        if instrument is None:
            return [Skipped("unknown symbol")]
        at = _time(item.timestamp) if item.timestamp is not None else None
        if at is not None:
            if at < self._ticker_at.get(item.symbol, 0):
                return [Skipped("old ticker")]
            self._ticker_at[item.symbol] = at
        opened = None
        if item.last is not None and item.change is not None:
            # The venue tells the price 24 h ago by its distance from the last one.
            opened = float(Decimal(repr(item.last)) - Decimal(repr(item.change)))
        symbol = instrument.symbol
        return [
            Quote(self.venue, symbol, "", at, ts_recv, 0, item.bid, item.bid_qty, item.ask, item.ask_qty),
            Ticker(
                self.venue, symbol, "", at, ts_recv, 0,
                item.last, opened, item.high, item.low, item.volume, None, item.bid, item.ask,
            ),
        ]  # fmt: skip

    # book

    def _book(self, item: BookItem, kind: str, ts_recv: int) -> list[Event | Fetch]:
        instrument = self._instruments.get(item.symbol)
        if instrument is None:
            return [Skipped("unknown symbol")]
        bids, bid_texts = read_levels(_texts(item.bids), falling=True) if item.bids else ([], [])
        asks, ask_texts = read_levels(_texts(item.asks), falling=False) if item.asks else ([], [])
        at = _time(item.timestamp) if item.timestamp is not None else None
        snapshot = kind == "snapshot"
        if not snapshot:
            last = self._book_at.get(item.symbol)
            if last is None:
                return [Skipped("book before its snapshot")]
            if at is not None and at < last:
                del self._book_at[item.symbol]
                return [BookGap(instrument, f"a book message of {at} after one of {last}", ts_recv)]
        # Whose clock a snapshot goes by is not documented: updates are compared with updates.
        self._book_at[item.symbol] = 0 if snapshot else at or 0
        window = self._window(item) if snapshot else None
        texts = (bid_texts, ask_texts)
        return [BookUpdate(instrument, snapshot, bids, asks, at, ts_recv, True, True, (), item.checksum, texts, window)]

    def _window(self, item: BookItem) -> int:
        """Return the depth of the subscription: acknowledged, asked for, or else the least that holds the snapshot."""
        levels = max(len(item.bids), len(item.asks))
        known = self._depths.get(item.symbol, 0)
        return known if known >= levels else next((depth for depth in DEPTHS if depth >= levels), levels)

    # candles

    @classmethod
    def candles_fetch(cls, instrument: Instrument, interval: str, start: int, count: int, now: int = 0) -> Fetch | None:
        return ohlc_fetch(instrument, interval, start)

    def snapshot(self, fetch: Fetch, body: bytes, ts_recv: int) -> list[Event | Fetch]:
        try:
            return [*read_ohlc(self.venue, fetch, body, ts_recv)]
        except UNREADABLE as error:
            raise WireError(self.venue, f"{fetch.resource}: {error}") from error


def _time(text: str) -> int:
    ns = parse_ns(text)
    if ns is None:
        raise ValueError(f"a time before 1970: {text[:40]!r}")
    return ns


def _texts(levels: list[RawLevel]) -> list[TextLevel]:
    return [TextLevel(str(level.price, "ascii"), str(level.qty, "ascii")) for level in levels]
