"""Alpaca: US stocks (feeds iex, sip, …, and the test stream) and crypto.

Documentation: https://docs.alpaca.markets/docs/streaming-market-data, …/real-time-stock-pricing-data,
…/real-time-crypto-pricing-data, https://docs.alpaca.markets/reference/get-v2-assets-1

Quirks:
- Every frame is an array of items of any kinds. Text frames are JSON, binary ones msgpack; both are read.
- Log in first. One connection an endpoint; a dead one holds its place for a while, and the next is refused with 406.
- Stocks have no aggressor and no book. Ids of their trades are unique for an exchange and a day only, so repeats are
  found here, with both. Crypto trades name the taker.
- A trade may be corrected or cancelled later: that is told as a note on the symbol's trades, and the candles since then
  are asked for. When it was is remembered here: what `t` of a correction is the time of is not documented.
- Sizes of stock quotes are passed on as the venue gives them. The documents say round lots; since the change of the
  consolidated tape in 2025 they may be shares. `quote_lot` is what they are multiplied with.
- Books of crypto have no number and no checksum, so a lost message cannot be noticed: what cannot be read is taken for
  one, and so is a time that goes back. A frame may be about any symbols: one that is cut is about all.
"""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, unquote, urlsplit

import msgspec

from feeds.adapter import (
    Acked,
    Adapter,
    BookGap,
    BookUpdate,
    Event,
    Fetch,
    Limits,
    LoggedIn,
    Peek,
    Refused,
    Revised,
    Skipped,
    Subscription,
)
from feeds.rfc3339 import parse_ns
from feeds.units import number
from feeds.venue_candles import venue_candle
from feeds.venues import alpaca_wire as wire
from feeds.venues.alpaca_wire import UNREADABLE
from hub.errors import WireError
from hub.instruments import Instrument, canonical_symbol
from hub.intervals import NS_PER_S, interval_ns
from hub.model import Candle, Level, Quote, Side, Trade
from hub.sequence import TradeIds

__all__ = ["Alpaca", "AlpacaSip", "time_text"]

Events = list[Event | Fetch]

_KINDS = {"t": "trade", "q": "quote", "o": "book"}
_TAKER: dict[str, Side] = {"B": "buy", "S": "sell"}
_TIMEFRAMES = {"1m": "1Min", "3m": "3Min", "5m": "5Min", "15m": "15Min", "30m": "30Min", "1h": "1Hour"}
_TEST_SYMBOL = "FAKEPACA"
#: Times of so many stock trades are remembered, those of all symbols together.
_TIMES_KEPT = 200_000
_NS_PER_DAY = 86_400 * NS_PER_S

#: Errors that answer a request to subscribe: 400 syntax, 405 symbol limit, 409 plan, 410 wrong channel for the feed.
_REQUEST_ERRORS = frozenset({400, 405, 409, 410})


class Alpaca(Adapter):
    """One connection to one of Alpaca's streams; see feeds/adapter.py."""

    venue = "alpaca"
    endpoints: ClassVar[dict[str, str]] = {
        "iex": "wss://stream.data.alpaca.markets/v2/iex",
        "sip": "wss://stream.data.alpaca.markets/v2/sip",
        "delayed_sip": "wss://stream.data.alpaca.markets/v2/delayed_sip",
        "test": "wss://stream.data.alpaca.markets/v2/test",
        "crypto": "wss://stream.data.alpaca.markets/v1beta3/crypto/us",
    }
    rest_url = "https://data.alpaca.markets"
    # One connection an endpoint, so it is never divided, and never replaced before it ends. A dead one is counted for
    # about 90 s. https://docs.alpaca.markets/docs/streaming-market-data (406)
    limits = Limits(
        streams_per_connection=100_000,
        messages_per_s=5,
        connects=5,
        connects_window_s=10,
        rest_weight=200,
        rest_window_s=60,
        lifetime_s=float("inf"),
        heartbeat_s=30,
        subscribe_batch=500,
        reconnect_s=95,
    )
    channels: ClassVar[dict[str, str]] = {
        "trade": "trades",
        "quote": "quotes",
        "book": "orderbooks",
        "depth": "orderbooks",
        "candle": "trades",
    }
    default_symbols = ("AAPL", "MSFT", "SPY", "BTC-USD", "ETH-USD")
    # Days begin at midnight in New York, and so may what divides them: not the hub's intervals.
    candle_intervals = frozenset(_TIMEFRAMES)
    trade_ids_unique = False
    credentials_env = ("ALPACA_KEY_ID", "ALPACA_SECRET_KEY")
    stock_feed: ClassVar[str] = "iex"
    quote_lot: ClassVar[int] = 1

    def __init__(
        self,
        instruments: Sequence[Instrument],
        book_levels: int = 1000,
        endpoint: str = "",
        credentials: Sequence[str] = (),
    ) -> None:
        super().__init__(instruments, book_levels, endpoint, credentials)
        self._instruments = {row.venue_symbol: row for row in instruments}
        self._repeats: dict[str, TradeIds] = {}
        self._times: dict[tuple[str, str, int], int] = {}  # (symbol, exchange, id) -> int ns
        self._live: dict[str, int] = {}  # symbols with a good book -> the time of its last message, int ns
        self._acked: set[str] = set()
        self._pending: deque[tuple[str, ...]] = deque()
        self._handlers: dict[type, Callable[[Any, int], Events]] = {
            wire.Trade: self._trade,
            wire.Quote: self._quote,
            wire.Book: self._book,
            wire.Correction: self._correction,
            wire.Cancel: self._cancel,
            wire.Success: self._success,
            wire.Failure: self._failure,
            wire.Subscription: self._subscribed,
        }

    @classmethod
    def rest_headers(cls, credentials: Sequence[str]) -> dict[str, str]:
        return dict(zip(("APCA-API-KEY-ID", "APCA-API-SECRET-KEY"), credentials, strict=False))

    @classmethod
    def endpoint_of(cls, kind: str, instrument: Instrument) -> str:
        if instrument.kind != "equity":
            return "crypto"
        return "test" if instrument.venue_symbol == _TEST_SYMBOL else cls.stock_feed

    # instruments

    @classmethod
    def instruments_fetches(cls) -> list[Fetch]:
        path = "https://paper-api.alpaca.markets/v2/assets"
        return [
            Fetch(resource="assets", path=path, params=(("status", "active"), ("asset_class", kind)))
            for kind in ("us_equity", "crypto")
        ]

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        try:
            assets = wire.decode_assets(body)
            rows = [cls._instrument(asset) for asset in assets]
        except UNREADABLE as error:
            raise WireError(cls.venue, f"assets: {error}") from error
        if any(row.kind == "equity" for row in rows):
            # The test stream's one symbol; no list has it.
            rows.append(cls._instrument(wire.Asset(_TEST_SYMBOL, name="the test stream")))
        return rows

    @classmethod
    def _instrument(cls, asset: wire.Asset) -> Instrument:
        base, _, quoted = asset.symbol.partition("/")
        kind: Any = "spot" if asset.asset_class == "crypto" else "equity"
        return Instrument(
            venue=cls.venue,
            venue_symbol=asset.symbol,
            symbol=canonical_symbol(kind, base if kind == "spot" else asset.symbol, quoted),
            kind=kind,
            base=base if kind == "spot" else asset.symbol,
            quote=quoted or "USD",
            name=asset.name,
            tick_size=number(asset.price_increment),
            lot_size=number(asset.min_trade_increment),
            status=asset.status if asset.status != "active" else "trading" if asset.tradable else "halted",
        )

    @classmethod
    def unlisted(cls, venue_symbol: str) -> Instrument:
        """Return an instrument for the venue's spelling alone."""
        return cls._instrument(wire.Asset(venue_symbol, "crypto" if "/" in venue_symbol else "us_equity"))

    @classmethod
    def resource_of(cls, url: str) -> tuple[str, str]:
        parts = urlsplit(url)
        names = [unquote(name) for name in parts.path.split("/") if name]
        resource = names[-1] if names else ""
        if len(names) == 4 and names[:2] == ["v2", "stocks"]:
            return resource, names[2]
        return resource, parse_qs(parts.query).get("symbols", [""])[0]

    @classmethod
    def peek(cls, payload: bytes, endpoint: str = "") -> list[Peek]:
        try:
            names = wire.names_of(payload)
        except UNREADABLE:
            return []
        return [Peek(name.S, _KINDS[name.T], _time(name)) for name in names if name.T in _KINDS and name.S]

    # subscriptions

    def login(self) -> list[bytes]:
        if len(self.credentials) != 2:
            return []
        key, secret = self.credentials
        return [msgspec.json.encode({"action": "auth", "key": key, "secret": secret})]

    def learn(self, instruments: Sequence[Instrument]) -> bool:
        self._instruments.update({row.venue_symbol: row for row in instruments})
        return True

    def venue_channels(self, subs: Sequence[Subscription]) -> list[str]:
        wanted = [sub for sub in subs if sub.instrument.kind != "equity" or sub.kind not in ("book", "depth")]
        return list(dict.fromkeys(f"{self.channels[sub.kind]}:{sub.instrument.venue_symbol}" for sub in wanted))

    def subscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        return self._requests("subscribe", self.venue_channels(subs))

    def unsubscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        names = self.venue_channels(subs)
        self._acked.difference_update(names)
        return self._requests("unsubscribe", names)

    def _requests(self, action: str, names: Sequence[str]) -> list[bytes]:
        batch = self.limits.subscribe_batch
        return [self._request(action, names[at : at + batch]) for at in range(0, len(names), batch)]

    def _request(self, action: str, names: Sequence[str]) -> bytes:
        self._pending.append(tuple(names) if action == "subscribe" else ())
        lists: dict[str, list[str]] = {}
        for name in names:
            channel, _, symbol = name.partition(":")
            lists.setdefault(channel, []).append(symbol)
        return msgspec.json.encode({"action": action, **lists})

    def resync(self, instrument: Instrument) -> list[bytes | Fetch]:
        # A full book comes on subscribing only.
        if instrument.kind == "equity":
            return []
        symbol = instrument.venue_symbol
        self._live.pop(symbol, None)
        return [self._request(action, [f"orderbooks:{symbol}"]) for action in ("unsubscribe", "subscribe")]

    # frames

    def receive(self, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        try:
            items = wire.items_of(payload)
        except UNREADABLE:
            return self._apart(payload, ts_recv)
        events: Events = []
        for item in items:
            handler = self._handlers.get(type(item), self._unused)
            try:
                events += handler(item, ts_recv)
            except ValueError:
                events.append(Skipped("unreadable item"))
        return events

    def _apart(self, payload: bytes, ts_recv: int) -> Events:
        """Read an array in which something cannot be read, item by item."""
        try:
            parts = wire.parts_of(payload)
        except UNREADABLE as error:
            if self._live and wire.is_cut(payload):
                lost = [gap for symbol in list(self._live) for gap in self._lost(symbol, ts_recv)]
                return [*lost, Skipped("unreadable message")]
            raise WireError(self.venue, str(error)) from error
        events: Events = []
        understood = False
        for item, name in parts:
            if item is None:
                events += self._unreadable(name, ts_recv)
                understood = understood or (name is not None and name.T != "" and name.T not in _KINDS)
                continue
            understood = True
            try:
                events += self._handlers.get(type(item), self._unused)(item, ts_recv)
            except ValueError:
                events.append(Skipped("unreadable item"))
        if not understood and not any(type(event) is BookGap for event in events):
            raise WireError(self.venue, "an unreadable message")
        return events

    def _unreadable(self, name: wire.Name | None, ts_recv: int) -> Events:
        if name is not None and name.T == "o" and name.S in self._live:
            return self._lost(name.S, ts_recv)
        return [Skipped("unreadable item" if name is not None and name.T in _KINDS else "unknown message")]

    def _lost(self, symbol: str, ts_recv: int, reason: str = "an unreadable book message") -> Events:
        del self._live[symbol]
        return [BookGap(self._instruments[symbol], reason, ts_recv)]

    def _unused(self, m: wire.Unused, ts_recv: int) -> Events:
        return [Skipped("unused kind")]

    def _trade(self, m: wire.Trade, ts_recv: int) -> Events:
        row = self._instruments.get(m.S)
        if row is None:
            return [Skipped("unknown symbol")]
        at = wire.time_of(m.t)
        if m.i is not None:
            # Unique for a symbol, its exchange and tape, and a day.
            seen = self._repeats.get(m.S)
            if seen is None:
                seen = self._repeats[m.S] = TradeIds(contiguous=False)
            if not seen.new(f"{m.x}{m.z} {(at or 0) // _NS_PER_DAY} {m.i}"):
                return [Skipped("repeated trade")]
            if at is not None and m.x:
                self._times[m.S, m.x, m.i] = at
                if len(self._times) > _TIMES_KEPT:
                    del self._times[next(iter(self._times))]
        side = _TAKER.get(m.tks or "")
        trade_id = "" if m.i is None else str(m.i)
        return [Trade(self.venue, row.symbol, "", at, ts_recv, 0, m.p, m.s, side, trade_id)]

    def _quote(self, m: wire.Quote, ts_recv: int) -> Events:
        row = self._instruments.get(m.S)
        if row is None:
            return [Skipped("unknown symbol")]
        # A price of 0, of the exchange " ", means that there is no quote on that side.
        lot = self.quote_lot if row.kind == "equity" else 1
        bid, bid_size = (m.bp, m.bs * lot if m.bs is not None else None) if m.bp else (None, None)
        ask, ask_size = (m.ap, m.asize * lot if m.asize is not None else None) if m.ap else (None, None)
        return [Quote(self.venue, row.symbol, "", wire.time_of(m.t), ts_recv, 0, bid, bid_size, ask, ask_size)]

    def _book(self, m: wire.Book, ts_recv: int) -> Events:
        row = self._instruments.get(m.S)
        if row is None:
            return [Skipped("unknown symbol")]
        at = wire.time_of(m.t)
        last = self._live.get(m.S)
        if not m.r and last is None:
            return [Skipped("update before snapshot")]
        if not m.r and at is not None and last is not None and at < last:
            return self._lost(m.S, ts_recv, f"a book message of {at} after one of {last}")
        self._live[m.S] = (at or 0) if m.r else at or last or 0
        bids: list[Level] = sorted({level.p: level.s for level in m.b or ()}.items(), reverse=True)
        asks: list[Level] = sorted({level.p: level.s for level in m.a or ()}.items())
        return [BookUpdate(row, bool(m.r), bids, asks, at, ts_recv)]

    def _correction(self, m: wire.Correction, ts_recv: int) -> Events:
        was, now = f"{m.oi} ({m.op} x {m.os})", f"{m.ci} ({m.cp} x {m.cs})"
        return self._revised(m, m.oi, f"trade {was} of exchange {m.x} is corrected to {now}", ts_recv)

    def _cancel(self, m: wire.Cancel, ts_recv: int) -> Events:
        why = "an error" if m.a == "E" else "cancelled"
        return self._revised(m, m.i, f"trade {m.i} ({m.p} x {m.s}) of exchange {m.x} is {why}", ts_recv)

    def _revised(self, m: wire.Correction | wire.Cancel, trade_id: int, reason: str, ts_recv: int) -> Events:
        row = self._instruments.get(m.S)
        if row is None:
            return [Skipped("unknown symbol")]
        told, known = wire.time_of(m.t), self._times.get((m.S, m.x or "", trade_id))
        at = min(told, known) if told is not None and known is not None else told if known is None else known
        return [Revised(row, reason, at, ts_recv)]

    # answers

    def _success(self, m: wire.Success, ts_recv: int) -> Events:
        return [LoggedIn()] if m.msg == "authenticated" else []

    def _failure(self, m: wire.Failure, ts_recv: int) -> Events:
        # Requests are answered in their order.
        names = self._pending.popleft() if m.code in _REQUEST_ERRORS and self._pending else ()
        return [Refused(names, f"{m.code} {m.msg}")]

    def _subscribed(self, m: wire.Subscription, ts_recv: int) -> Events:
        if self._pending:
            self._pending.popleft()
        lists = (("trades", m.trades), ("quotes", m.quotes), ("orderbooks", m.orderbooks))
        names = [f"{channel}:{symbol}" for channel, symbols in lists for symbol in symbols or ()]
        new = [name for name in names if name not in self._acked]
        self._acked.update(new)
        return [Acked(tuple(new))] if new else []

    # REST

    @classmethod
    def candles_fetch(cls, instrument: Instrument, interval: str, start: int, count: int, now: int = 0) -> Fetch | None:
        timeframe = _TIMEFRAMES.get(interval)
        if timeframe is None:
            return None
        last = start + (count - 1) * interval_ns(interval)
        stock = instrument.kind == "equity"
        symbol = quote(instrument.venue_symbol, safe="")
        times = (("start", time_text(start)), ("end", time_text(last)))
        own = ("feed", cls.stock_feed) if stock else ("symbols", instrument.venue_symbol)
        return Fetch(
            resource="bars",
            path=f"/v2/stocks/{symbol}/bars" if stock else "/v1beta3/crypto/us/bars",
            params=(own, ("timeframe", timeframe), *times, ("limit", str(min(count, 10_000)))),
            instrument=instrument,
            interval=interval,
            start=start,
        )

    def snapshot(self, fetch: Fetch, body: bytes, ts_recv: int) -> list[Event | Fetch]:
        assert fetch.instrument is not None
        length = interval_ns(fetch.interval)
        try:
            rows = [(parse_ns(bar.t), bar) for bar in wire.decode_bars(body)]
        except UNREADABLE as error:
            raise WireError(self.venue, f"{fetch.resource}: {error}") from error
        return [
            self._candle(fetch.instrument, fetch.interval, start, bar, ts_recv)
            for start, bar in rows
            if start is not None and start + length <= ts_recv
        ]

    def _candle(self, instrument: Instrument, interval: str, start: int, bar: wire.Bar, ts_recv: int) -> Candle:
        return venue_candle(
            instrument, interval, start, (bar.o, bar.h, bar.l, bar.c), ts_recv,
            volume=bar.v, vwap=bar.vw if bar.v else None, trades=bar.n,
        )  # fmt: skip


class AlpacaSip(Alpaca):
    """Stocks of all exchanges, for those whose plan has them."""

    stock_feed: ClassVar[str] = "sip"


def _time(name: wire.Name) -> int | None:
    try:
        return wire.time_of(name.t)
    except ValueError:
        return None


def time_text(ns: int) -> str:
    """Return int ns as the venue writes times."""
    return datetime.fromtimestamp(ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
