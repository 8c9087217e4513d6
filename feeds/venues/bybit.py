"""Bybit v5: spot, linear and inverse contracts on one wire format, one connection a category.

Documentation: https://bybit-exchange.github.io/docs/v5/ws/connect (websocket/public, market)

Quirks:
- A message does not say its category, and BTCUSDT is in two of them: the connection tells. The categories are this
  adapter's endpoints and the sections of its instruments.
- Books: `u` grows by one a message; a snapshot replaces at any time, also where the service restarted and `u` is 1.
  Level 1 is snapshots alone, said again after three seconds without a change.
- Tickers of contracts are deltas: what is missing did not change. Those of spot have neither best bid nor ask.
- One acknowledgement a request, without the topics; one bad topic refuses all of a request, so a refused request is
  sent again topic by topic.
- At most 10 topics a request (spot), 21,000 characters of topics a connection.
- `v` of inverse contracts is in quote currency.
"""

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

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
    Send,
    Skipped,
    Subscription,
)
from feeds.units import number
from feeds.venues import bybit_rest
from feeds.venues import bybit_wire as wire
from feeds.venues.bybit_rest import INTERVAL_OF, WORDS
from feeds.venues.bybit_wire import UNREADABLE, Frame
from hub.errors import WireError
from hub.instruments import Instrument
from hub.intervals import NS_PER_MS
from hub.model import Mark, Quote, Ticker, Trade

__all__ = ["Bybit"]

SECTIONS = ("spot", "linear", "inverse")
#: depths of `orderbook.<depth>`; 500 was replaced by 1000
_DEPTHS = frozenset({"50", "200", "500", "1000"})
_TICKER = frozenset(
    {"lastPrice", "prevPrice24h", "highPrice24h", "lowPrice24h", "volume24h", "turnover24h", "bid1Price", "ask1Price"}
)
_MARK = frozenset({"markPrice", "indexPrice", "fundingRate", "nextFundingTime", "openInterest"})
#: What is never below zero; ns of later times would not fit 64 bits.
_LARGEST = {"volume24h": inf, "turnover24h": inf, "openInterest": inf, "nextFundingTime": 9e12}

_Handler = Callable[[Frame, Any, int], list[Event | Fetch]]


class _Book:
    """One book: `last` is the newest `u` and `told` its time in ms; `waiting`: a snapshot was asked for."""

    __slots__ = ("instrument", "last", "live", "told", "topic", "waiting", "window")

    def __init__(self, instrument: Instrument, topic: str, window: int) -> None:
        self.instrument, self.topic, self.window = instrument, topic, window
        self.last = self.told = 0
        self.live = self.waiting = False

    def older(self, frame: Frame, u: int) -> bool:
        """Tell whether a message came before what was applied: after a restart numbers fall, but time does not."""
        # https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook: u of 1 is a snapshot after a restart.
        return self.live and u <= self.last and (frame.ts is None or frame.ts <= self.told - (u == 1))


class Bybit(Adapter):
    """One connection to Bybit; see feeds/adapter.py."""

    venue = "bybit"
    endpoints: ClassVar[dict[str, str]] = {name: f"wss://stream.bybit.com/v5/public/{name}" for name in SECTIONS}
    rest_url = "https://api.bybit.com"
    limits = Limits(
        streams_per_connection=400,
        messages_per_s=10,
        connects=500,
        connects_window_s=300,
        rest_weight=600,
        rest_window_s=5,
        lifetime_s=7 * 86_400,
        heartbeat_s=60,
        ping_s=20,
        subscribe_batch=10,
        ban_statuses=frozenset({403}),  # "access too frequent": ten minutes of silence
        ban_s=600,
    )
    channels: ClassVar[dict[str, str]] = {
        "trade": "publicTrade",
        "quote": "orderbook.1",
        "book": "orderbook.1000",
        "depth": "orderbook.1000",
        "ticker": "tickers",
        "mark": "tickers",
        "candle": "publicTrade",
    }
    default_symbols = ("BTC-USDT", "ETH-USDT", "SOL-USDT", "BTC-USDT-PERP", "ETH-USDT-PERP")
    candle_intervals = frozenset(WORDS)
    book_window = 1000

    def __init__(
        self,
        instruments: Sequence[Instrument],
        book_levels: int = 1000,
        endpoint: str = "",
        credentials: Sequence[str] = (),
    ) -> None:
        super().__init__(instruments, book_levels, endpoint or SECTIONS[0], credentials)
        self._instruments = {(row.section or self.endpoint, row.venue_symbol): row for row in instruments}
        self._routes: dict[str, dict[str, tuple[_Handler, Any]]] = {name: {} for name in SECTIONS}
        self._books: dict[str, _Book] = {}
        self._traded: set[str] = set()
        self._quoted: dict[str, tuple[int, int]] = {}
        self._tickers: dict[str, dict[str, float | None]] = {}
        self._requests: dict[str, tuple[str, ...]] = {}
        self._next_id = 1
        self._handlers: dict[str, _Handler] = {
            "publicTrade": self._trades,
            "orderbook.1": self._quote,
            **{f"orderbook.{depth}": self._book for depth in _DEPTHS},
            "tickers": self._ticker,
            **{f"kline.{word}": self._candles for word in INTERVAL_OF},
        }

    # instruments

    @classmethod
    def endpoint_of(cls, kind: str, instrument: Instrument) -> str:
        return instrument.section or SECTIONS[0]

    @classmethod
    def instruments_fetches(cls) -> list[Fetch]:
        return [
            Fetch(
                resource=f"instruments-info/{name}",
                path="/v5/market/instruments-info",
                params=(("category", name), ("limit", "1000")),
            )
            for name in SECTIONS
        ]

    @classmethod
    def next_page(cls, fetch: Fetch, body: bytes) -> Fetch | None:
        try:
            return bybit_rest.next_page(fetch, body)
        except UNREADABLE as error:
            raise WireError(cls.venue, f"{fetch.resource}: {error}") from error

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        try:
            return bybit_rest.read_instruments(body)
        except UNREADABLE as error:
            raise WireError(cls.venue, f"instruments-info: {error}") from error

    @classmethod
    def resource_of(cls, url: str) -> tuple[str, str]:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        symbol, category = (query.get(key, [""])[0].split(" ")[0] for key in ("symbol", "category"))
        return f"{parts.path.rsplit('/', 1)[-1]}/{category or SECTIONS[0]}", symbol

    @classmethod
    def peek(cls, payload: bytes, endpoint: str = "") -> list[Peek]:
        try:
            frame = wire.decode_frame(payload)
        except UNREADABLE:
            return []
        channel, _, symbol = frame.topic.rpartition(".")
        kind = _kind(channel)
        if kind is None or not symbol or bytes(frame.data)[:1] not in (b"[", b"{"):
            return []
        ts = frame.ts * NS_PER_MS if frame.ts is not None else None
        return [Peek(f"{endpoint or SECTIONS[0]}/{symbol}", kind, ts)]

    # subscriptions

    def learn(self, instruments: Sequence[Instrument]) -> bool:
        self._instruments.update({(row.section or self.endpoint, row.venue_symbol): row for row in instruments})
        return True

    def venue_channels(self, subs: Sequence[Subscription]) -> list[str]:
        names = (
            f"{self.channels[sub.kind]}.{sub.instrument.venue_symbol}"
            for sub in subs
            if sub.kind != "mark" or sub.instrument.kind != "spot"
        )
        return list(dict.fromkeys(names))

    def subscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        return self._request("subscribe", self.venue_channels(subs))

    def unsubscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        return self._request("unsubscribe", self.venue_channels(subs))

    def _request(self, operation: str, topics: Sequence[str], size: int | None = None) -> list[bytes]:
        size = size or self.limits.subscribe_batch
        frames = []
        for at in range(0, len(topics), size):
            batch = tuple(topics[at : at + size])
            name = str(self._next_id)
            self._next_id += 1
            frames.append(msgspec.json.encode({"req_id": name, "op": operation, "args": batch}))
            if operation == "subscribe":
                self._requests[name] = batch
        return frames

    def ping(self) -> bytes | None:
        return b'{"op":"ping"}'

    # frames

    def receive(self, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        try:
            frame = wire.decode_frame(payload)
            try:
                # A recording may go from one connection to another: the endpoint is looked at each time.
                handler, target = self._routes[self.endpoint][frame.topic]
            except KeyError:
                return self._first(frame, ts_recv)
            return handler(frame, target, ts_recv)
        except UNREADABLE as error:
            raise WireError(self.venue, str(error)) from error

    def _first(self, frame: Frame, ts_recv: int) -> list[Event | Fetch]:
        """Route what has no route yet: first push of a topic, answers."""
        if not frame.topic:
            return self._answer(frame)
        channel, _, symbol = frame.topic.rpartition(".")
        handler = self._handlers.get(channel)
        if handler is None:
            return [Skipped("unknown channel")]
        instrument = self._instruments.get((self.endpoint, symbol))
        if instrument is None:
            return [Skipped("unknown symbol")]
        target: Any = instrument
        if handler == self._book:
            book = _Book(instrument, frame.topic, int(channel.partition(".")[2]))
            target = self._books.setdefault(instrument.symbol, book)
            if target.topic != frame.topic:
                handler = _second  # two depths of one book would be mixed up
        events = handler(frame, target, ts_recv)
        self._routes[self.endpoint][frame.topic] = handler, target
        return events

    def _answer(self, frame: Frame) -> list[Event | Fetch]:
        if frame.type == "COMMAND_RESP":
            batch = wire.decode_batch(frame.data)
            answers: list[Event | Fetch] = [Refused((topic,), "refused") for topic in batch.failTopics]
            return [*answers, Acked(tuple(batch.successTopics))] if batch.successTopics else answers
        if frame.op in ("ping", "pong", "unsubscribe"):
            return []
        if frame.op != "subscribe" or frame.success is None:
            return [Skipped("unknown message")]
        topics = self._requests.pop(frame.req_id, ())
        if frame.success:
            for book in self._books.values():
                if book.topic in topics:
                    book.waiting = False  # the next push is the snapshot
            return [Acked(topics)] if topics else []
        if len(topics) > 1:
            return [Send(request) for request in self._request("subscribe", topics, 1)]
        return [Refused(topics, frame.ret_msg)]

    def _trades(self, frame: Frame, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        pushes, bad = wire.read_trades(frame.data)
        venue, symbol = self.venue, instrument.symbol
        self._traded.add(symbol)
        events: list[Event | Fetch] = [
            Trade(
                venue, symbol, "", m.T * NS_PER_MS, ts_recv, 0, m.p, m.v, "buy" if m.S == "Buy" else "sell", m.i
            )
            for m in pushes
        ]  # fmt: skip
        return events + _unreadable(bad) if bad else events

    def _quote(self, frame: Frame, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        if frame.type != "snapshot":
            return [Skipped("unknown type")]
        m = wire.decode_book(frame.data)
        symbol, ts = instrument.symbol, frame.ts or 0
        told, number_told = self._quoted.get(symbol, (0, 0))
        if ts <= told and m.u < number_told:
            return [Skipped("older quote")]
        self._quoted[symbol] = ts, m.u
        bid, ask = m.b[0] if m.b else (None, None), m.a[0] if m.a else (None, None)
        return [Quote(self.venue, symbol, "", _ns(frame), ts_recv, 0, *bid, *ask)]

    # tickers: contracts tell what changed

    def _ticker(self, frame: Frame, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        snapshot = frame.type == "snapshot"
        known = self._tickers.get(instrument.symbol)
        if not snapshot and (known is None or frame.type != "delta"):
            return [Skipped("delta before snapshot" if known is None else "unknown type")]
        data = wire.decode_ticker(frame.data)
        told = {key: _number(key, data[key]) for key in data.keys() & (_TICKER | _MARK)}
        known = told if snapshot or known is None else {**known, **told}
        self._tickers[instrument.symbol] = known
        events: list[Event | Fetch] = []
        if not told.keys().isdisjoint(_TICKER):
            events.append(self._of_24h(instrument, known, _ns(frame), ts_recv))
        if not told.keys().isdisjoint(_MARK):
            events.append(self._mark(instrument, known, _ns(frame), ts_recv))
        return events

    def _of_24h(self, row: Instrument, known: dict[str, float | None], ts: int | None, ts_recv: int) -> Ticker:
        volume, turnover = known.get("volume24h"), known.get("turnover24h")
        if row.size_unit == "quote":
            volume, turnover = turnover, volume
        return Ticker(
            self.venue, row.symbol, "", ts, ts_recv, 0,
            known.get("lastPrice"), known.get("prevPrice24h"), known.get("highPrice24h"), known.get("lowPrice24h"),
            volume, turnover, known.get("bid1Price"), known.get("ask1Price"),
        )  # fmt: skip

    def _mark(self, row: Instrument, known: dict[str, float | None], ts: int | None, ts_recv: int) -> Mark:
        due = known.get("nextFundingTime")
        return Mark(
            self.venue, row.symbol, "", ts, ts_recv, 0,
            known.get("markPrice"), known.get("indexPrice"), known.get("fundingRate"),
            None if not due else int(due) * NS_PER_MS, known.get("openInterest"),
        )  # fmt: skip

    # book

    def _book(self, frame: Frame, book: _Book, ts_recv: int) -> list[Event | Fetch]:
        m = wire.decode_book(frame.data)
        if book.older(frame, m.u):
            return [Skipped("repeated update")]
        if frame.type == "snapshot" or m.u == 1:
            book.last, book.told, book.live, book.waiting = m.u, frame.ts or 0, True, False
            return [BookUpdate(book.instrument, True, m.b, m.a, _ns(frame), ts_recv, window=book.window)]
        if frame.type != "delta":
            return [Skipped("unknown type")]
        if not book.live:
            if book.waiting:
                return [Skipped("update before snapshot")]
            book.waiting = True
            return [BookGap(book.instrument, "an update came before any snapshot", ts_recv)]
        if m.u != book.last + 1:
            book.live, book.waiting = False, True
            return [BookGap(book.instrument, f"sequence gap: expected {book.last + 1}, received {m.u}", ts_recv)]
        book.last, book.told = m.u, frame.ts or book.told
        m.b.sort(reverse=True)
        m.a.sort()
        return [BookUpdate(book.instrument, False, m.b, m.a, _ns(frame), ts_recv)]

    def resync(self, instrument: Instrument) -> list[bytes | Fetch]:
        topic = f"{self.channels['book']}.{instrument.venue_symbol}"
        book = self._books.setdefault(instrument.symbol, _Book(instrument, topic, self.book_window or 0))
        book.live, book.waiting = False, True
        return [*self._request("unsubscribe", [book.topic]), *self._request("subscribe", [book.topic])]

    # candles

    def _candles(self, frame: Frame, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        if instrument.symbol in self._traded:
            return [Skipped("candle beside trades")]
        rows, bad = wire.read_klines(frame.data)
        interval = INTERVAL_OF[frame.topic.split(".")[1]]
        closed = [bybit_rest.candle(instrument, interval, row, ts_recv) for row in rows if row.confirm]
        return [*closed, *_unreadable(bad)]

    @classmethod
    def candles_fetch(cls, instrument: Instrument, interval: str, start: int, count: int, now: int = 0) -> Fetch | None:
        return bybit_rest.candles_fetch(instrument, interval, start, count)

    def snapshot(self, fetch: Fetch, body: bytes, ts_recv: int) -> list[Event | Fetch]:
        assert fetch.instrument is not None
        try:
            return [*bybit_rest.read_candles(fetch.instrument, fetch.interval, body, ts_recv)]
        except UNREADABLE as error:
            raise WireError(self.venue, f"{fetch.resource}: {error}") from error


def _kind(channel: str) -> str | None:
    name, _, detail = channel.partition(".")
    if name == "orderbook":
        return "quote" if detail == "1" else "book" if detail in _DEPTHS else None
    if name == "kline":
        return "candle" if detail in INTERVAL_OF else None
    return {"publicTrade": "trade", "tickers": "ticker"}.get(channel)


def _number(key: str, value: object) -> float | None:
    """Read a field of a ticker; ValueError where it is none: what is kept goes into every later message."""
    found = None if value is None else number(str(value))
    if found is not None and key in _LARGEST and not 0 <= found <= _LARGEST[key]:
        raise ValueError(f"{key} {found}")
    return found


def _ns(frame: Frame) -> int | None:
    return frame.ts * NS_PER_MS if frame.ts is not None else None


def _second(frame: Frame, target: Any, ts_recv: int) -> list[Event | Fetch]:
    return [Skipped("second channel of the same")]


def _unreadable(count: int) -> list[Event | Fetch]:
    return [Skipped("unreadable item")] * count
