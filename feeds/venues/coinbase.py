"""Coinbase: Advanced Trade, and the Exchange feed as the other form of the same venue.

Documentation: https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis (websocket, rest-api),
https://docs.cdp.coinbase.com/exchange (websocket-feed, rest-api)

Quirks:
- Three conventions for a trade's side: `match` of the Exchange feed and `market_trades` of Advanced Trade name the
  maker's, `ticker` of the Exchange feed the taker's. Trades come from the first two only; the side is turned round.
- The channel asked for as `level2` calls itself `l2_data`. Its snapshot is the whole book, several MB in one frame.
- `sequence_num` counts the messages of the connection; the Exchange feed's books have no number.
- `BTC-USDC` is another name of `BTC-USD`: whichever is asked for, `BTC-USD` comes.
- Errors name no request; a refused one is matched by the product in its text, where there is one.
- Contracts of futures become base units.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec.structs import replace

from feeds.adapter import Adapter, Event, Fetch, Limits, Peek, Refused, Skipped, Subscription
from feeds.rfc3339 import parse_ns
from feeds.units import number
from feeds.venue_candles import venue_candle
from feeds.venues.coinbase_advanced import AdvancedReader
from feeds.venues.coinbase_exchange import ExchangeReader
from feeds.venues.coinbase_products import Events, Products, product_of
from feeds.venues.coinbase_wire import (
    UNREADABLE,
    Candle,
    Envelope,
    Product,
    decode_candle_rows,
    decode_candles,
    decode_envelope,
    decode_peek,
    decode_product_list,
    decode_products,
)
from hub.errors import WireError
from hub.instruments import Instrument, InstrumentKind, canonical_symbol
from hub.intervals import NS_PER_S, interval_ns
from hub.model import Candle as CanonicalCandle

__all__ = ["Coinbase", "CoinbaseExchange"]

#: Interval -> Advanced Trade's word for it.
_GRANULARITIES = {
    "1m": "ONE_MINUTE", "5m": "FIVE_MINUTE", "15m": "FIFTEEN_MINUTE", "30m": "THIRTY_MINUTE",
    "1h": "ONE_HOUR", "2h": "TWO_HOUR", "6h": "SIX_HOUR", "1d": "ONE_DAY",
}  # fmt: skip

#: What a frame is about, by its `channel` or `type`. The ticker is no quote: it lags behind the book.
_KINDS = {
    "l2_data": "book", "market_trades": "trade", "ticker": "ticker", "ticker_batch": "ticker",
    "snapshot": "book", "l2update": "book", "match": "trade", "last_match": "trade",
}  # fmt: skip

_FLAGS = ("view_only", "cancel_only", "limit_only", "post_only")


class Coinbase(Adapter):
    """One connection to Advanced Trade; frames of either form are read. See feeds/adapter.py."""

    venue = "coinbase"
    endpoints: ClassVar[dict[str, str]] = {"": "wss://advanced-trade-ws.coinbase.com"}
    rest_url = "https://api.coinbase.com"
    # Snapshots make a connection slow to start, not the count of channels, of which no limit is known; nor is any of a
    # connection's life. 8 messages a second are allowed; idle channels are closed after 60 to 90 s, hence heartbeats.
    limits = Limits(
        streams_per_connection=120,
        messages_per_s=6,
        connects=6,
        connects_window_s=1,
        rest_weight=8,
        rest_window_s=1,
        lifetime_s=float("inf"),
        heartbeat_s=30,
        subscribe_batch=50,
        max_frame_bytes=64 * 1024 * 1024,
    )
    channels: ClassVar[dict[str, str]] = {
        "trade": "market_trades",
        "quote": "level2",
        "book": "level2",
        "depth": "level2",
        "ticker": "ticker",
        "candle": "market_trades",
    }
    default_symbols = ("BTC-USD", "ETH-USD", "SOL-USD", "XRP-USD", "DOGE-USD")
    candle_intervals = frozenset(_GRANULARITIES)
    candles_per_fetch = 300
    trade_ids_contiguous = True
    quotes_from_book = True
    _heartbeat: ClassVar[str] = "heartbeats"

    def __init__(
        self,
        instruments: Sequence[Instrument],
        book_levels: int = 1000,
        endpoint: str = "",
        credentials: Sequence[str] = (),
    ) -> None:
        super().__init__(instruments, book_levels, endpoint, credentials)
        self._products = Products(self.venue, instruments)
        self._asked: dict[str, None] = {}
        self._advanced = AdvancedReader(self._products)
        self._exchange = ExchangeReader(self._products)
        self._read: Callable[[bytes], Events] = self._advanced.read

    # instruments

    @classmethod
    def instruments_fetches(cls) -> list[Fetch]:
        path = "/api/v3/brokerage/market/products"
        return [Fetch(resource="products", path=path, params=(("product_type", kind),)) for kind in ("SPOT", "FUTURE")]

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        try:
            listed = decode_product_list(body) if body.lstrip()[:1] == b"[" else decode_products(body).products
            rows = [cls._instrument(product) for product in listed]
        except UNREADABLE as error:
            raise WireError(cls.venue, f"products: {error}") from error
        # Contracts of several sizes may expire on one day: then the venue's code of each stands for the asset.
        names = Counter(row.symbol for row in rows)
        return [cls._by_code(row) if names[row.symbol] > 1 and row.kind != "spot" else row for row in rows]

    @classmethod
    def _instrument(cls, row: Product) -> Instrument:
        details = row.future_product_details
        kind: InstrumentKind = "spot"
        expiry = None
        if details is not None:
            kind = "perpetual" if details.contract_expiry_type == "PERPETUAL" else "future"
            expiry = parse_ns(details.contract_expiry) if kind == "future" and details.contract_expiry else None
        base = row.base_currency_id or row.own_base or (details.contract_root_unit if details is not None else "")
        quote = row.quote_currency_id or row.own_quote
        tick = row.price_increment or row.quote_increment
        size = number(details.contract_size) if details is not None else None
        lot = number(row.base_increment)
        return Instrument(
            venue=cls.venue,
            venue_symbol=row.product_id or row.id,
            symbol=canonical_symbol(kind, base, quote, expiry=expiry),
            kind=kind,
            base=base,
            quote=quote,
            settle=quote if details is not None else None,
            name=row.base_name or row.display_name,
            tick_size=number(tick),
            lot_size=float(Decimal(repr(lot)) * Decimal(repr(size))) if lot and size else lot,
            min_notional=number(row.quote_min_size or row.min_market_funds) or None,
            contract_size=size or 1.0,
            expiry=expiry,
            status=_status(row),
            alias_of=row.alias,
        )

    @classmethod
    def _by_code(cls, row: Instrument) -> Instrument:
        code = row.venue_symbol.partition("-")[0]
        return replace(row, symbol=canonical_symbol(row.kind, code, row.quote, expiry=row.expiry))

    @classmethod
    def resource_of(cls, url: str) -> tuple[str, str]:
        parts = urlsplit(url)
        _, _, below = parts.path.partition("/products")
        names = [name for name in below.split("/") if name]
        if not names:
            asked = parse_qs(parts.query).get("product_id", [""])[0]
            return parts.path.rpartition("/")[2], asked
        return (names[1] if len(names) > 1 else "product"), names[0]

    @classmethod
    def peek(cls, payload: bytes, endpoint: str = "") -> list[Peek]:
        try:
            frame = decode_peek(payload)
            kind = _KINDS.get(frame.channel or frame.type)
            text = frame.timestamp or frame.time
            at = parse_ns(text) if text else None
        except UNREADABLE:
            return []
        if kind is None:
            return []
        names = dict.fromkeys([frame.product_id])
        for event in frame.events:
            names[event.product_id] = None
            names.update((item.product_id, None) for item in event.trades)
            names.update((item.product_id, None) for item in event.tickers)
        return [Peek(name, kind, at) for name in names if name]

    # subscriptions

    def learn(self, instruments: Sequence[Instrument]) -> bool:
        return self._products.learn(instruments)

    def venue_channels(self, subs: Sequence[Subscription]) -> list[str]:
        return list(dict.fromkeys(f"{self.channels[sub.kind]}:{product_of(sub.instrument)}" for sub in subs))

    def subscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        names = self.venue_channels(subs)
        self._asked.update(dict.fromkeys(names))
        for channel, products in _by_channel(names).items():
            if channel == self.channels["book"]:
                for product in products:
                    self._products.awaiting(product)
        return [self._request("subscribe", self._heartbeat, []), *self._requests("subscribe", names)] if names else []

    def unsubscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        names = self.venue_channels(subs)
        for name in names:
            self._asked.pop(name, None)
        self._products.unsubscribed(names)
        self._products.forget(_by_channel(names).get(self.channels["book"], []))
        return self._requests("unsubscribe", names)

    def _requests(self, verb: str, names: Sequence[str]) -> list[bytes]:
        batch = self.limits.subscribe_batch
        return [
            self._request(verb, channel, products[at : at + batch])
            for channel, products in _by_channel(names).items()
            for at in range(0, len(products), batch)
        ]

    def _request(self, verb: str, channel: str, products: list[str]) -> bytes:
        request = {"type": verb, "product_ids": products, "channel": channel} if products else {
            "type": verb, "channel": channel,
        }  # fmt: skip
        return msgspec.json.encode(request)

    def resync(self, instrument: Instrument) -> list[bytes | Fetch]:
        # A snapshot comes on subscribing only, and a second subscription to the same is none.
        product = product_of(instrument)
        if not self._products.awaiting(product):
            return []
        channel = self.channels["book"]
        return [self._request(verb, channel, [product]) for verb in ("unsubscribe", "subscribe")]

    # frames

    def receive(self, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        self._products.now = ts_recv
        try:
            return self._read(payload)
        except UNREADABLE:
            return self._other(payload)

    def _other(self, payload: bytes) -> Events:
        """Read a frame of the other form, an answer to no request in particular, or what is left of a broken one."""
        try:
            envelope = decode_envelope(payload)
        except UNREADABLE as error:
            lost = self._exchange.suspect(payload)
            if lost:
                return [*lost, Skipped("unreadable book")]
            raise WireError(self.venue, str(error)) from error
        if envelope.type == "error":
            return [self._refused(envelope)]
        if not envelope.channel and not envelope.type:
            return [Skipped("unknown message")]
        reader = self._advanced if envelope.channel else self._exchange
        if self._read != reader.read:
            self._read = reader.read
            try:
                return reader.read(payload)
            except UNREADABLE:
                pass
        return reader.mend(envelope)

    def _refused(self, envelope: Envelope) -> Refused:
        text = f"{envelope.message}: {envelope.reason}" if envelope.reason else envelope.message
        words = set(text.replace(",", " ").split())
        return Refused(tuple(name for name in self._asked if name.partition(":")[2] in words), text)

    # REST

    @classmethod
    def candles_fetch(cls, instrument: Instrument, interval: str, start: int, count: int, now: int = 0) -> Fetch | None:
        if interval not in cls.candle_intervals:
            return None
        first = start // NS_PER_S
        last = first + (min(count, cls.candles_per_fetch) - 1) * interval_ns(interval) // NS_PER_S
        return cls._candles_request(instrument, interval, start, (("start", str(first)), ("end", str(last))))

    @classmethod
    def _candles_request(
        cls, instrument: Instrument, interval: str, start: int, params: tuple[tuple[str, str], ...]
    ) -> Fetch:
        return Fetch(
            resource="candles",
            path=f"/api/v3/brokerage/market/products/{product_of(instrument)}/candles",
            params=(*params, ("granularity", _GRANULARITIES[interval])),
            instrument=instrument,
            interval=interval,
            start=start,
        )

    def snapshot(self, fetch: Fetch, body: bytes, ts_recv: int) -> list[Event | Fetch]:
        try:
            rows = decode_candle_rows(body) if body.lstrip()[:1] == b"[" else decode_candles(body).candles
        except UNREADABLE as error:
            raise WireError(self.venue, f"{fetch.resource}: {error}") from error
        assert fetch.instrument is not None
        length = interval_ns(fetch.interval)
        closed = [row for row in rows if row.start * NS_PER_S + length <= ts_recv]
        return [
            self._candle(fetch.instrument, fetch.interval, row, ts_recv)
            for row in sorted(closed, key=lambda row: row.start)
        ]

    def _candle(self, instrument: Instrument, interval: str, row: Candle, ts_recv: int) -> CanonicalCandle:
        return venue_candle(
            instrument, interval, row.start * NS_PER_S, (row.open, row.high, row.low, row.close), ts_recv,
            volume=float(Decimal(repr(row.volume)) * Decimal(repr(instrument.contract_size))),
        )  # fmt: skip


class CoinbaseExchange(Coinbase):
    """One connection to the Exchange feed. `level2` wants a login since 2023, `level2_batch` has the same messages."""

    endpoints: ClassVar[dict[str, str]] = {"": "wss://ws-feed.exchange.coinbase.com"}
    rest_url = "https://api.exchange.coinbase.com"
    channels: ClassVar[dict[str, str]] = {
        "trade": "matches",
        "quote": "level2_batch",
        "book": "level2_batch",
        "depth": "level2_batch",
        "ticker": "ticker",
        "candle": "matches",
    }
    candle_intervals = frozenset({"1m", "5m", "15m", "1h", "6h", "1d"})
    _heartbeat: ClassVar[str] = "heartbeat"

    @classmethod
    def instruments_fetches(cls) -> list[Fetch]:
        return [Fetch(resource="products", path="/products")]

    def subscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        products = list(dict.fromkeys(product_of(sub.instrument) for sub in subs))
        beats = self._requests("subscribe", [f"{self._heartbeat}:{product}" for product in products])
        return [*super().subscribe(subs)[1:], *beats]

    def _request(self, verb: str, channel: str, products: list[str]) -> bytes:
        return msgspec.json.encode({"type": verb, "product_ids": products, "channels": [channel]})

    @classmethod
    def _candles_request(
        cls, instrument: Instrument, interval: str, start: int, params: tuple[tuple[str, str], ...]
    ) -> Fetch:
        return Fetch(
            resource="candles",
            path=f"/products/{product_of(instrument)}/candles",
            params=(*params, ("granularity", str(interval_ns(interval) // NS_PER_S))),
            instrument=instrument,
            interval=interval,
            start=start,
        )


def _status(row: Product) -> str:
    if row.status not in ("", "online"):
        return row.status
    if row.trading_disabled or row.is_disabled:
        return "halted"
    return next((flag for flag in _FLAGS if getattr(row, flag)), "auction" if row.auction_mode else "trading")


def _by_channel(names: Sequence[str]) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for name in names:
        channel, _, product = name.partition(":")
        result.setdefault(channel, []).append(product)
    return result
