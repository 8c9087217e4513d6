"""Deribit: perpetuals, futures, options and spot over JSON-RPC.

Documentation: https://docs.deribit.com/ (JSON-RPC over WebSocket, subscriptions, public methods)

Quirks:
- An unknown instrument is no error: the answer to a subscribe lists what is subscribed, and the rest is missing in it.
- A book begins with a snapshot on the socket; each change names its predecessor's `change_id`, which is not one less.
  After a gap unsubscribing and subscribing gives a new snapshot. There is no checksum.
- `amount` is USD for inverse contracts (BTC-PERPETUAL), the base currency for options, linear contracts and spot.
- Heartbeats are asked for; each `test_request` must be answered with `public/test`, else the venue closes.
- Trades come in lists. `trade_seq` has no holes per instrument, `trade_id` has.
- Combos (strategies of several legs) have no canonical name and are left out of the list of instruments.
- `.raw` channels need a login today; recordings of 2021 have them without.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar, Final
from urllib.parse import parse_qs, urlsplit

import msgspec

from feeds.adapter import (
    Acked,
    Adapter,
    Event,
    Fetch,
    Limits,
    Peek,
    Refused,
    Send,
    Skipped,
    Subscription,
    TradesLost,
)
from feeds.items import Items
from feeds.units import SIDES
from feeds.venues.deribit_book import Books
from feeds.venues.deribit_rest import RESOLUTIONS, candles_of, instruments_of
from feeds.venues.deribit_wire import (
    UNREADABLE,
    Frame,
    decode_data,
    decode_error,
    decode_frame,
    decode_heartbeat,
    decode_named,
    decode_names,
    decode_notice,
    decode_quote,
    decode_rows,
    decode_ticker,
    decode_trades,
)
from feeds.venues.deribit_wire import Quote as WireQuote
from feeds.venues.deribit_wire import Trade as WireTrade
from hub.errors import WireError
from hub.instruments import Instrument
from hub.intervals import NS_PER_MS, interval_ns
from hub.model import Mark, Quote, Ticker, Trade

__all__ = ["Deribit"]

#: How every notification begins, up to the channel's name.
_HEAD: Final = b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"'
_HEARTBEAT_S: Final = 30
_KINDS: Final = {"trades": "trade", "book": "book", "quote": "quote", "ticker": "ticker"}
_trade_items = Items(WireTrade)

_Handler = Callable[[bytes, str, int], list[Event | Fetch]]


class Deribit(Adapter):
    """One connection to Deribit; see feeds/adapter.py."""

    venue = "deribit"
    endpoints: ClassVar[dict[str, str]] = {"": "wss://www.deribit.com/ws/api/v2"}
    rest_url = "https://www.deribit.com"
    # Credits: a subscribe costs 3,000 of 30,000 that refill at about 10,000 a second, too many end the session;
    # other requests 500 of 50,000. The venue names no end of a connection: a day is the hub's own.
    # https://docs.deribit.com/#rate-limits
    limits = Limits(
        streams_per_connection=500,
        messages_per_s=3,
        connects=32,
        connects_window_s=60,
        rest_weight=100,
        rest_window_s=10,
        lifetime_s=86_400,
        heartbeat_s=2 * _HEARTBEAT_S,
        subscribe_batch=250,
    )
    channels: ClassVar[dict[str, str]] = {
        "trade": "trades.{}.100ms",
        "quote": "quote.{}",
        "book": "book.{}.100ms",
        "depth": "book.{}.100ms",
        "ticker": "ticker.{}.100ms",
        "mark": "ticker.{}.100ms",
        "candle": "trades.{}.100ms",
    }
    default_symbols = ("BTC-USD-PERP", "ETH-USD-PERP", "BTC-USDC-PERP", "ETH-USDC-PERP", "SOL-USDC-PERP")
    candle_intervals = frozenset(RESOLUTIONS)

    def __init__(
        self,
        instruments: Sequence[Instrument],
        book_levels: int = 1000,
        endpoint: str = "",
        credentials: Sequence[str] = (),
    ) -> None:
        super().__init__(instruments, book_levels, endpoint, credentials)
        self._instruments = {row.venue_symbol: row for row in instruments}
        self._routes: dict[bytes, tuple[_Handler, str]] = {}
        self._books = Books(self._instruments)
        self._trade_seqs: dict[str, int] = {}
        self._newest: dict[tuple[str, str], int] = {}  # (quote or ticker, the venue's symbol) -> its time, ms
        self._requests: dict[int | str, tuple[str, ...]] = {}
        self._next_id = 1
        self._handlers: dict[str, _Handler] = {
            "trades": self._trades,
            "quote": self._quote,
            "book": self._books.change,
            "ticker": self._ticker,
        }

    # instruments

    @classmethod
    def instruments_fetches(cls) -> list[Fetch]:
        # The venue allows about one such request in ten seconds.
        params = (("currency", "any"), ("expired", "false"))
        return [Fetch(resource="get_instruments", path="/api/v2/public/get_instruments", params=params, weight=100)]

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        return instruments_of(cls.venue, body)

    @classmethod
    def resource_of(cls, url: str) -> tuple[str, str]:
        parts = urlsplit(url)
        return parts.path.rsplit("/", 1)[-1], parse_qs(parts.query).get("instrument_name", [""])[0]

    @classmethod
    def peek(cls, payload: bytes, endpoint: str = "") -> list[Peek]:
        try:
            frame = decode_frame(payload)
            if frame.method != "subscription":
                return []
            notice = decode_notice(frame.params)
            kind = _KINDS.get(notice.channel.partition(".")[0])
            if kind is None:
                return []
            rows = decode_rows(notice.data) if kind == "trade" else [notice.data]
            named = [decode_named(row) for row in rows]
        except UNREADABLE:
            return []
        times = {row.instrument_name: row.timestamp for row in named}
        return [Peek(name, kind, ms * NS_PER_MS if ms is not None else None) for name, ms in times.items()]

    # subscriptions

    def learn(self, instruments: Sequence[Instrument]) -> bool:
        self._instruments.update({row.venue_symbol: row for row in instruments})
        return True

    def venue_channels(self, subs: Sequence[Subscription]) -> list[str]:
        return list(dict.fromkeys(self.channels[sub.kind].format(sub.instrument.venue_symbol) for sub in subs))

    def subscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        first = self._next_id == 1
        frames = [self._request("public/set_heartbeat", {"interval": _HEARTBEAT_S})] if first else []
        return frames + self._per_batch("public/subscribe", self.venue_channels(subs))

    def unsubscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        return self._per_batch("public/unsubscribe", self.venue_channels(subs))

    def _per_batch(self, method: str, names: list[str]) -> list[bytes]:
        frames = []
        for at in range(0, len(names), self.limits.subscribe_batch):
            batch = names[at : at + self.limits.subscribe_batch]
            if method == "public/subscribe":
                self._requests[self._next_id] = tuple(batch)
            frames.append(self._request(method, {"channels": batch}))
        return frames

    def _request(self, method: str, params: dict[str, object]) -> bytes:
        number = self._next_id
        self._next_id += 1
        return msgspec.json.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})

    # frames

    def receive(self, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        try:
            if payload.startswith(_HEAD):
                route = self._routes.get(payload[len(_HEAD) : payload.find(b'"', len(_HEAD))])
                if route is not None:
                    return route[0](payload, route[1], ts_recv)
            return self._first(payload, ts_recv)
        except UNREADABLE as error:
            lost = self._books.suspect(payload, ts_recv)
            if lost:
                return [*lost, Skipped("unreadable book")]
            raise WireError(self.venue, str(error)) from error

    def _first(self, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        """Route what has no route yet: the first frame of a channel, answers, heartbeats."""
        frame = decode_frame(payload)
        if frame.method == "subscription":
            return self._notice(payload, decode_notice(frame.params).channel, ts_recv)
        if frame.method == "heartbeat":
            asked = decode_heartbeat(frame.params).type == "test_request"
            return [Send(self._request("public/test", {}))] if asked else []
        if not frame.method and (bytes(frame.result) or bytes(frame.error)):
            return self._answer(frame)
        return [Skipped("unknown message")]

    def _notice(self, payload: bytes, channel: str, ts_recv: int) -> list[Event | Fetch]:
        parts = channel.split(".")
        handler = self._handlers.get(parts[0])
        if parts[0] == "book" and len(parts) == 5:
            # Levels of several prices in one are no levels.
            handler = self._books.grouped if parts[2] == "none" else None
        if handler is None:
            return [Skipped("unknown channel")]
        events = handler(payload, channel, ts_recv)
        if not any(type(event) is Skipped for event in events):
            self._routes[channel.encode()] = (handler, channel)
        return events

    def _answer(self, frame: Frame) -> list[Event | Fetch]:
        channels = self._requests.pop(frame.id, None) if frame.id is not None else None
        if bytes(frame.error):
            error = decode_error(frame.error)
            return [Refused(channels or (), f"{error.code} {error.message}")]
        if channels is None:
            return []
        subscribed = set(decode_names(frame.result))
        acked = tuple(name for name in channels if name in subscribed)
        missing = tuple(name for name in channels if name not in subscribed)
        answers: list[Event | Fetch] = [Acked(acked)] if acked else []
        # The venue leaves out what it does not know: https://docs.deribit.com/#public-subscribe
        return answers + ([Refused(missing, "not subscribed by the venue: unknown instrument")] if missing else [])

    def _trades(self, payload: bytes, channel: str, ts_recv: int) -> list[Event | Fetch]:
        try:
            rows = decode_trades(payload).params.data
        except UNREADABLE:
            return self._readable_trades(payload, ts_recv)
        events: list[Event | Fetch] = []
        for row in rows:
            self._trade(row, ts_recv, events)
        return events

    def _readable_trades(self, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        """Read a list that holds something unreadable: it costs that trade, not those beside it."""
        rows, unreadable = _trade_items(decode_data(payload).params.data)
        events: list[Event | Fetch] = [Skipped("unreadable trade")] * unreadable
        for row in rows:
            self._trade(row, ts_recv, events)
        return events

    def _trade(self, row: WireTrade, ts_recv: int, events: list[Event | Fetch]) -> None:
        instrument = self._instruments.get(row.instrument_name)
        if instrument is None:
            events.append(Skipped("unknown symbol"))
            return
        ts_event, seq = row.timestamp * NS_PER_MS, row.trade_seq
        last = self._trade_seqs.get(row.instrument_name, seq - 1)
        if seq > last:
            self._trade_seqs[row.instrument_name] = seq
            if seq > last + 1:
                events.append(TradesLost(instrument.symbol, last + 1, seq - 1, ts_event, ts_recv))
        events.append(
            Trade(
                self.venue, instrument.symbol, "", ts_event, ts_recv, 0,
                row.price, row.amount, SIDES.get(row.direction or ""), row.trade_id,
            )
        )  # fmt: skip

    def _newer(self, kind: str, m: WireQuote) -> bool:
        """Tell whether `m` is not older than the last of its kind, and remember it."""
        key = kind, m.instrument_name
        if m.timestamp < self._newest.get(key, 0):
            return False
        self._newest[key] = m.timestamp
        return True

    def _quote(self, payload: bytes, channel: str, ts_recv: int) -> list[Event | Fetch]:
        m = decode_quote(payload).params.data
        instrument = self._instruments.get(m.instrument_name)
        if instrument is None:
            return [Skipped("unknown symbol")]
        if not self._newer("quote", m):
            return [Skipped("old quote")]
        # An empty side has price 0 and amount 0.
        bid, bid_size = (m.best_bid_price, m.best_bid_amount) if m.best_bid_amount else (None, None)
        ask, ask_size = (m.best_ask_price, m.best_ask_amount) if m.best_ask_amount else (None, None)
        return [
            Quote(self.venue, instrument.symbol, "", m.timestamp * NS_PER_MS, ts_recv, 0, bid, bid_size, ask, ask_size)
        ]

    def _ticker(self, payload: bytes, channel: str, ts_recv: int) -> list[Event | Fetch]:
        m = decode_ticker(payload).params.data
        instrument = self._instruments.get(m.instrument_name)
        if instrument is None:
            return [Skipped("unknown symbol")]
        if not self._newer("ticker", m):
            return [Skipped("old ticker")]
        symbol, ts_event, stats = instrument.symbol, m.timestamp * NS_PER_MS, m.stats
        high, low, volume, notional = (None, None, None, None)
        if stats is not None:
            high, low, volume, notional = stats.high, stats.low, stats.volume, stats.volume_notional
            if notional is None and instrument.quote == "USD":
                notional = stats.volume_usd
        bid = m.best_bid_price if m.best_bid_amount else None
        ask = m.best_ask_price if m.best_ask_amount else None
        events: list[Event | Fetch] = [
            Ticker(
                self.venue, symbol, "", ts_event, ts_recv, 0,
                m.last_price, None, high, low, volume, notional, bid, ask,
            )
        ]  # fmt: skip
        if instrument.kind != "spot" or m.open_interest is not None:
            # Funding is paid continuously: there is no next time.
            events.append(
                Mark(
                    self.venue, symbol, "", ts_event, ts_recv, 0,
                    m.mark_price, m.index_price, m.current_funding, None, m.open_interest,
                )
            )  # fmt: skip
        return events

    # book

    def resync(self, instrument: Instrument) -> list[bytes | Fetch]:
        return self._again(instrument) if self._books.reset(instrument) else []

    def refresh(self, instrument: Instrument) -> list[bytes | Fetch]:
        # Changes go on until the new snapshot replaces the book.
        return [] if self._books.whole(instrument) else self._again(instrument)

    def _again(self, instrument: Instrument) -> list[bytes | Fetch]:
        names = self.venue_channels([Subscription("book", instrument)])
        return [*self._per_batch("public/unsubscribe", names), *self._per_batch("public/subscribe", names)]

    # candles

    @classmethod
    def candles_fetch(cls, instrument: Instrument, interval: str, start: int, count: int, now: int = 0) -> Fetch | None:
        if interval not in RESOLUTIONS:
            return None
        end = start + min(count, 5000) * interval_ns(interval)
        params = (
            ("instrument_name", instrument.venue_symbol),
            ("start_timestamp", str(start // NS_PER_MS)),
            ("end_timestamp", str(end // NS_PER_MS - 1)),
            ("resolution", RESOLUTIONS[interval]),
        )
        resource = "get_tradingview_chart_data"
        path = f"/api/v2/public/{resource}"
        return Fetch(resource=resource, path=path, params=params, instrument=instrument, interval=interval, start=start)

    def snapshot(self, fetch: Fetch, body: bytes, ts_recv: int) -> list[Event | Fetch]:
        return [*candles_of(self.venue, fetch, body, ts_recv)]
