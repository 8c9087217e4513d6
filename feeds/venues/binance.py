"""Binance spot.

Documentation: https://developers.binance.com/docs/binance-spot-api-docs
(web-socket-streams, rest-api/market-data-endpoints)

Quirks:
- The combined form `{"stream": …, "data": …}` names the stream; raw payloads (`/ws/<stream>`) do not, and best bid/ask
  has no event type and no time. Both forms are read.
- There is no book snapshot on the socket: the diffs are held until a REST snapshot fits them.
- A REST snapshot has at most 5000 levels a side; what lies beyond stays unknown until it changes.
- Trades are the aggregated ones: one taker order at one price is one message, and their ids have no holes.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Raw

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
    Rotate,
    Skipped,
    Subscription,
)
from feeds.venue_candles import venue_candle
from feeds.venues.binance_wire import (
    UNREADABLE,
    Frame,
    Inner,
    Kline,
    Symbol,
    decode_agg_trade,
    decode_book_ticker,
    decode_diff,
    decode_frame,
    decode_info,
    decode_inner,
    decode_klines,
    decode_snapshot,
    decode_ticker,
    decode_trade,
)
from hub.errors import SequenceGap, WireError
from hub.instruments import Instrument, canonical_symbol
from hub.intervals import NS_PER_MS, interval_ns
from hub.model import Candle, Level, Quote, Side, Ticker, Trade
from hub.sequence import SnapshotSync

__all__ = ["Binance"]

_STATUS = {"TRADING": "trading", "HALT": "halted", "BREAK": "break", "CANCEL_ONLY": "cancel_only"}

#: event type -> canonical kind
_KINDS = {"aggTrade": "trade", "trade": "trade", "bookTicker": "quote", "depthUpdate": "book", "24hrTicker": "ticker"}

#: Sizes of full pages: a side with this many levels goes on beyond them.
_PAGES = frozenset({5, 10, 20, 50, 100, 500, 1000, 5000})

#: How frames of the combined form are written as a rule, `{"stream":"…","data":…}`: then the data is a slice.
_DATA: Final = b'"data":'
_BRACE: Final = ord("}")

_Handler = Callable[[Any, Instrument, int], list[Event | Fetch]]


class Binance(Adapter):
    """One connection to Binance spot; see feeds/adapter.py."""

    venue = "binance"
    endpoints: ClassVar[dict[str, str]] = {"": "wss://stream.binance.com:9443/stream"}
    rest_url = "https://api.binance.com"
    limits = Limits(
        streams_per_connection=1024,
        messages_per_s=5,
        connects=300,
        connects_window_s=300,
        rest_weight=6000,
        rest_window_s=60,
        lifetime_s=86_400,
        heartbeat_s=60,
    )
    channels: ClassVar[dict[str, str]] = {
        "trade": "aggTrade",
        "quote": "bookTicker",
        "book": "depth@100ms",
        "depth": "depth@100ms",
        "ticker": "ticker",
        "candle": "aggTrade",
    }
    default_symbols = ("BTC-USDT", "ETH-USDT", "SOL-USDT", "XRP-USDT", "DOGE-USDT")
    candle_intervals = frozenset({"1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d"})
    trade_ids_contiguous = True
    _rest: ClassVar[str] = "/api/v3"
    _kinds: ClassVar[dict[str, str]] = _KINDS

    def __init__(
        self,
        instruments: Sequence[Instrument],
        book_levels: int = 1000,
        endpoint: str = "",
        credentials: Sequence[str] = (),
    ) -> None:
        super().__init__(instruments, book_levels, endpoint, credentials)
        self._instruments = {row.venue_symbol: row for row in instruments}
        self._routes: dict[str, tuple[_Handler, Instrument]] = {}
        self._heads: dict[bytes, tuple[_Handler, Instrument]] = {}  # the same by what comes before the data
        self._syncs: dict[str, SnapshotSync[BookUpdate]] = {}
        self._fetching: set[str] = set()
        self._quoted: dict[str, int] = {}
        self._requests: dict[int | str, tuple[str, ...]] = {}
        self._next_id = 1
        self._handlers: dict[str, _Handler] = {
            "aggTrade": self._agg_trade,
            "trade": self._trade,
            "bookTicker": self._book_ticker,
            "depth": self._diff,
            "depth@100ms": self._diff,
            "depthUpdate": self._diff,
            "ticker": self._ticker,
            "24hrTicker": self._ticker,
        }

    # instruments

    @classmethod
    def instruments_fetches(cls) -> list[Fetch]:
        return [Fetch(resource="exchangeInfo", path=f"{cls._rest}/exchangeInfo", weight=20)]

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        try:
            return [cls._instrument(row) for row in decode_info(body).symbols]
        except UNREADABLE as error:
            raise WireError(cls.venue, f"exchangeInfo: {error}") from error

    @classmethod
    def _instrument(cls, row: Symbol) -> Instrument:
        filters = {entry.filterType: entry for entry in row.filters}
        price, lot = filters.get("PRICE_FILTER"), filters.get("LOT_SIZE")
        notional = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL")
        return Instrument(
            venue=cls.venue,
            venue_symbol=row.symbol,
            symbol=canonical_symbol("spot", row.baseAsset, row.quoteAsset),
            kind="spot",
            base=row.baseAsset,
            quote=row.quoteAsset,
            name=f"{row.baseAsset}/{row.quoteAsset}",
            tick_size=price.tickSize if price else None,
            lot_size=lot.stepSize if lot else None,
            min_notional=notional.minNotional if notional else None,
            status=_STATUS.get(row.status, row.status.lower()),
        )

    @classmethod
    def resource_of(cls, url: str) -> tuple[str, str]:
        parts = urlsplit(url)
        symbol = parse_qs(parts.query).get("symbol", [""])[0].split(" ")[0]
        return parts.path.rsplit("/", 1)[-1], symbol

    @classmethod
    def peek(cls, payload: bytes, endpoint: str = "") -> list[Peek]:
        try:
            frame = decode_frame(payload)
            data = bytes(frame.data) if frame.stream else payload
            inner = decode_inner(data) if data[:1] == b"{" else Inner()
            if inner.s and not inner.e:
                decode_book_ticker(data)  # it has no name: only its fields tell that it is one
        except UNREADABLE:
            return []
        kind = cls._kinds.get(inner.e or "bookTicker")
        if not inner.s or kind is None:
            return []
        return [Peek(inner.s, kind, inner.E * NS_PER_MS if inner.E is not None else None)]

    # subscriptions

    def learn(self, instruments: Sequence[Instrument]) -> bool:
        self._instruments.update({row.venue_symbol: row for row in instruments})
        return True

    def venue_channels(self, subs: Sequence[Subscription]) -> list[str]:
        names = (f"{sub.instrument.venue_symbol.lower()}@{self.channels[sub.kind]}" for sub in subs)
        return list(dict.fromkeys(names))

    def subscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        return self._request("SUBSCRIBE", self.venue_channels(subs))

    def unsubscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        return self._request("UNSUBSCRIBE", self.venue_channels(subs))

    def _request(self, method: str, names: list[str]) -> list[bytes]:
        frames = []
        for at in range(0, len(names), self.limits.subscribe_batch):
            batch = names[at : at + self.limits.subscribe_batch]
            frames.append(msgspec.json.encode({"method": method, "params": batch, "id": self._next_id}))
            if method == "SUBSCRIBE":
                self._requests[self._next_id] = tuple(batch)
            self._next_id += 1
        return frames

    # frames

    def receive(self, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        end = payload.find(_DATA)
        route = self._heads.get(payload[:end])
        if route is not None and payload[-1] == _BRACE:
            try:
                return route[0](payload[end + len(_DATA) : -1], route[1], ts_recv)
            except UNREADABLE:
                pass  # something comes after the data, or it is broken
        try:
            frame = decode_frame(payload)
            try:
                handler, instrument = self._routes[frame.stream]
            except KeyError:
                return self._first(frame, payload, ts_recv)
            return handler(frame.data, instrument, ts_recv)
        except UNREADABLE as error:
            raise WireError(self.venue, str(error)) from error

    def _first(self, frame: Frame, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        """Route what has no route yet: first frame of a stream, raw payloads, answers."""
        if not frame.stream and not frame.e and (frame.id is not None or frame.error or frame.msg):
            return self._answer(frame)
        symbol, _, channel = frame.stream.partition("@")
        if not frame.stream or symbol.startswith("!"):
            return self._raw(bytes(frame.data) if frame.stream else payload, ts_recv)
        if bytes(frame.data)[:1] != b"{":
            return [Skipped("array")]
        inner = decode_inner(frame.data)
        return self._dispatch(frame.stream, inner.s or symbol.upper(), channel, frame.data, ts_recv)

    def _raw(self, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        if payload[:1] != b"{":
            return [Skipped("array")]
        inner = decode_frame(payload)
        if inner.e == "serverShutdown":
            return [Rotate("the venue announced a shutdown")]
        if not inner.s:
            return [Skipped("unknown message")]
        return self._dispatch("", inner.s, inner.e or "bookTicker", payload, ts_recv)

    def _dispatch(
        self, stream: str, venue_symbol: str, channel: str, data: Raw | bytes, ts_recv: int
    ) -> list[Event | Fetch]:
        instrument = self._instruments.get(venue_symbol)
        if instrument is None:
            return [Skipped("unknown symbol")]
        handler = self._handlers.get(channel)
        if handler is None:
            return [Skipped("unknown channel")]
        if channel in {"aggTrade", "trade"}:
            # Both forms of one symbol would count each fill twice: the first form seen is the one.
            other = self._trade if channel == "aggTrade" else self._agg_trade
            if any(route == (other, instrument) for route in self._routes.values()):
                return [Skipped("second trade form")]
        events = handler(data, instrument, ts_recv)
        self._routes[stream or f"{venue_symbol} {channel}"] = (handler, instrument)
        if stream:
            self._heads[b'{"stream":"%b",' % stream.encode()] = (handler, instrument)
        return events

    def _answer(self, frame: Frame) -> list[Event | Fetch]:
        channels = self._requests.pop(frame.id, ()) if frame.id is not None else ()
        if frame.error or frame.msg is not None:
            return [Refused(channels, frame.msg or bytes(frame.error).decode())]
        result: list[Event | Fetch] = [Acked(channels)] if channels else []
        for name in channels:
            symbol, _, channel = name.partition("@")
            instrument = self._instruments.get(symbol.upper())
            if channel == self.channels["book"] and instrument is not None:
                result += self._wanted(instrument)
        return result

    def _agg_trade(self, data: Any, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        m = decode_agg_trade(data)
        if m.l < m.f:
            raise WireError(self.venue, f"a trade of the fills {m.f} to {m.l}")
        return [
            Trade(
                self.venue, instrument.symbol, "", m.T * NS_PER_MS, ts_recv, 0,
                m.p, m.q, "sell" if m.m else "buy", str(m.a), m.l - m.f + 1,
            )
        ]  # fmt: skip

    def _trade(self, data: Any, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        m = decode_trade(data)
        side: Side = "sell" if m.m else "buy"
        return [Trade(self.venue, instrument.symbol, "", m.T * NS_PER_MS, ts_recv, 0, m.p, m.q, side, str(m.t))]

    def _book_ticker(self, data: Any, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        m = decode_book_ticker(data)
        if m.u <= self._quoted.get(instrument.symbol, -1):
            return [Skipped("repeated quote")]
        self._quoted[instrument.symbol] = m.u
        bid, ask = m.b or None, m.a or None  # 0 stands for an empty side
        bid_size, ask_size = m.B if bid else None, m.A if ask else None
        return [Quote(self.venue, instrument.symbol, "", None, ts_recv, 0, bid, bid_size, ask, ask_size)]

    def _ticker(self, data: Any, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        m = decode_ticker(data)
        return [
            Ticker(
                self.venue, instrument.symbol, "", m.E * NS_PER_MS, ts_recv, 0,
                m.c or None, m.o or None, m.h or None, m.l or None, m.v, m.q, m.b or None, m.a or None,
            )
        ]  # fmt: skip

    # book

    def _diff(self, data: Any, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        m = decode_diff(data)
        if m.u < m.U:
            raise WireError(self.venue, f"a diff from {m.U} to {m.u}")
        return self._follow(instrument, m.U, m.u, BookUpdate(instrument, False, m.b, m.a, m.E * NS_PER_MS, ts_recv))

    def _follow(self, instrument: Instrument, first: int, last: int, update: BookUpdate) -> list[Event | Fetch]:
        """Apply or hold `update`, which takes the book from before `first` to `last`."""
        sync = self._syncs.get(instrument.symbol)
        if sync is None:
            sync = self._syncs[instrument.symbol] = SnapshotSync()
        try:
            if sync.delta(first, last, update):
                return [update]
        except SequenceGap as gap:
            return [BookGap(instrument, str(gap), update.ts_recv)]
        return [] if sync.live else [*self._wanted(instrument)]

    def _wanted(self, instrument: Instrument) -> list[Fetch]:
        """Ask for a snapshot unless one is on its way."""
        if instrument.symbol in self._fetching:
            return []
        self._fetching.add(instrument.symbol)
        limit = self.book_levels
        return [
            Fetch(
                resource="depth",
                path=f"{self._rest}/depth",
                params=(("symbol", instrument.venue_symbol), ("limit", str(limit))),
                weight=self._depth_weight(limit),
                instrument=instrument,
            )
        ]

    @staticmethod
    def _depth_weight(limit: int) -> int:
        return 5 if limit <= 100 else 25 if limit <= 500 else 50 if limit <= 1000 else 250

    def resync(self, instrument: Instrument) -> list[bytes | Fetch]:
        sync = self._syncs.get(instrument.symbol)
        if sync is not None and sync.live:
            sync.reset()
        return [*self._wanted(instrument)]

    def refresh(self, instrument: Instrument) -> list[bytes | Fetch]:
        sync = self._syncs.get(instrument.symbol)
        if sync is None or not sync.live:
            return []
        sync.hold()
        return [*self._wanted(instrument)]

    def snapshot(self, fetch: Fetch, body: bytes, ts_recv: int) -> list[Event | Fetch]:
        try:
            if fetch.resource == "klines":
                return [*self._klines(fetch, body, ts_recv)]
            return self._depth_snapshot(fetch, body, ts_recv)
        except UNREADABLE as error:
            raise WireError(self.venue, f"{fetch.resource}: {error}") from error

    def _depth_snapshot(self, fetch: Fetch, body: bytes, ts_recv: int) -> list[Event | Fetch]:
        instrument = fetch.instrument
        assert instrument is not None
        m = decode_snapshot(body)
        self._fetching.discard(instrument.symbol)
        sync = self._syncs.setdefault(instrument.symbol, SnapshotSync())
        if not sync.holding:
            return []
        replaces = sync.live
        held = sync.snapshot(m.lastUpdateId)
        if held is None:
            return [*self._wanted(instrument)]
        complete = self._complete(m.bids), self._complete(m.asks)
        # A live book must not go back in time: what it has seen already becomes part of the snapshot.
        then = tuple(held) if replaces else ()
        ts_event = m.E * NS_PER_MS if m.E is not None else None
        first = BookUpdate(instrument, True, m.bids, m.asks, ts_event, ts_recv, *complete, then)
        return [first] if replaces else [first, *held]

    def _complete(self, levels: list[Level]) -> bool:
        return len(levels) < self.book_levels and len(levels) not in _PAGES

    # candles

    @classmethod
    def candles_fetch(cls, instrument: Instrument, interval: str, start: int, count: int, now: int = 0) -> Fetch | None:
        if interval not in cls.candle_intervals:
            return None
        params = (
            ("symbol", instrument.venue_symbol),
            ("interval", interval),
            ("startTime", str(start // NS_PER_MS)),
            ("limit", str(min(count, 1000))),
        )
        return Fetch(
            resource="klines",
            path=f"{cls._rest}/klines",
            params=params,
            weight=cls._klines_weight(count),
            instrument=instrument,
            interval=interval,
            start=start,
        )

    @staticmethod
    def _klines_weight(count: int) -> int:
        return 2

    def _klines(self, fetch: Fetch, body: bytes, ts_recv: int) -> list[Candle]:
        instrument = fetch.instrument
        assert instrument is not None
        # The last row may be the candle that is still open.
        rows = [row for row in decode_klines(body) if row[0] * NS_PER_MS + interval_ns(fetch.interval) <= ts_recv]
        return [self._candle(instrument, fetch.interval, row, ts_recv) for row in rows]

    def _candle(self, instrument: Instrument, interval: str, row: Kline, ts_recv: int) -> Candle:
        volume, notional, bought, bought_notional = (Decimal(repr(row[at])) for at in (5, 7, 9, 10))
        return venue_candle(
            instrument, interval, row[0] * NS_PER_MS, row[1:5], ts_recv, ts_event=row[6] * NS_PER_MS,
            volume=float(volume), notional=float(notional), vwap=float(notional / volume) if volume else None,
            trades=row[8], buy_volume=float(bought), sell_volume=float(volume - bought),
            buy_notional=float(bought_notional), sell_notional=float(notional - bought_notional),
        )  # fmt: skip
