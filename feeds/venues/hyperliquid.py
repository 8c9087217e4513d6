"""Hyperliquid: perpetuals, those of builders' exchanges included, and spot.

Documentation: https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api
(websocket/subscriptions, info-endpoint, rate-limits-and-user-limits, tick-and-lot-size)

Quirks:
- A book is told as snapshots only, without numbers: whatever was lost, the next one makes it whole. By default one of
  20 levels comes every 5 s; with `fast`, which is asked for here, one of 5 levels every half second.
- A subscription to trades begins with the last ones, again after each reconnect; the pipeline knows them by `tid`,
  which is unique but in no order.
- There is no tick size: prices have at most 5 significant digits and 6 (spot: 8) less the size's decimals.
- REST is POST alone. Perpetuals are named "BTC", "kPEPE" (a thousand), "dex:COIN"; spot "PURR/USDC" or "@<index>".
"""

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from feeds.adapter import (
    Acked,
    Adapter,
    BookUpdate,
    Event,
    Fetch,
    Limits,
    Peek,
    Refused,
    Skipped,
    Subscription,
)
from feeds.venues.hyperliquid_rest import candles_of, instruments_of
from feeds.venues.hyperliquid_wire import (
    UNREADABLE,
    Answer,
    AssetCtx,
    Bbo,
    Failure,
    L2Book,
    Pong,
    SpotAssetCtx,
    Trades,
    decode_envelope,
    decode_frame,
    decode_parts,
    decode_query,
    decode_request,
    decode_trade,
)
from feeds.venues.hyperliquid_wire import Trade as WireTrade
from hub.errors import WireError
from hub.instruments import Instrument
from hub.intervals import NS_PER_MS, interval_ns
from hub.model import Mark, Quote, Side, Ticker, Trade

__all__ = ["Hyperliquid"]

_SIDES: dict[str, Side] = {"B": "buy", "A": "sell"}

#: What a request answers with beside its list of instruments is not needed: it counts as that list.
_LISTS = {"metaAndAssetCtxs": "meta", "allPerpMetas": "meta", "spotMetaAndAssetCtxs": "spotMeta"}

_CHANNELS = {"l2Book", "trades", "bbo", "activeAssetCtx", "activeSpotAssetCtx", "subscriptionResponse", "error"}

_Events = list[Event | Fetch]


class Hyperliquid(Adapter):
    """One connection to Hyperliquid; see feeds/adapter.py."""

    venue = "hyperliquid"
    endpoints: ClassVar[dict[str, str]] = {"": "wss://api.hyperliquid.xyz/ws"}
    rest_url = "https://api.hyperliquid.xyz"
    limits = Limits(
        streams_per_connection=1000,
        messages_per_s=20,
        connects=30,
        connects_window_s=60,
        rest_weight=1200,
        rest_window_s=60,
        lifetime_s=inf,
        heartbeat_s=60,
        ping_s=30,
        subscribe_batch=1,
    )
    channels: ClassVar[dict[str, str]] = {
        "trade": "trades",
        "quote": "bbo",
        "book": "l2Book",
        "depth": "l2Book",
        "ticker": "activeAssetCtx",
        "mark": "activeAssetCtx",
        "candle": "trades",
    }
    default_symbols = ("BTC-USDC-PERP", "ETH-USDC-PERP", "SOL-USDC-PERP", "HYPE-USDC-PERP", "XRP-USDC-PERP")
    candle_intervals = frozenset({"1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "8h", "12h", "1d"})
    candles_per_fetch = 500
    candle_reach = 5000

    def __init__(
        self,
        instruments: Sequence[Instrument],
        book_levels: int = 1000,
        endpoint: str = "",
        credentials: Sequence[str] = (),
    ) -> None:
        super().__init__(instruments, book_levels, endpoint, credentials)
        self._instruments = {row.venue_symbol: row for row in instruments}
        self._books: dict[str, tuple[int, Any]] = {}
        self._quotes: dict[str, tuple[int, Any]] = {}
        self._handlers: dict[type, Callable[[Any, int], _Events]] = {
            L2Book: self._book,
            Trades: self._trades,
            Bbo: self._bbo,
            AssetCtx: self._context,
            SpotAssetCtx: self._spot_context,
            Answer: self._answer,
            Failure: self._failure,
            Pong: lambda frame, ts_recv: [],
        }

    # instruments

    @classmethod
    def instruments_fetches(cls) -> list[Fetch]:
        return [cls._info(name, {"type": name}) for name in ("meta", "spotMeta")]

    @staticmethod
    def _info(resource: str, query: dict[str, Any], **more: Any) -> Fetch:
        weight = more.pop("weight", 20)
        return Fetch(resource=resource, path="/info", body=msgspec.json.encode(query), weight=weight, **more)

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        return instruments_of(cls.venue, body)

    @classmethod
    def resource_of(cls, url: str) -> tuple[str, str]:
        address, _, request = url.partition("#")
        if not request:
            return urlsplit(address).path.rsplit("/", 1)[-1], ""
        query = decode_query(request)
        return _LISTS.get(query.type, query.type), query.coin or (query.req.coin if query.req else "")

    @classmethod
    def peek(cls, payload: bytes, endpoint: str = "") -> list[Peek]:
        try:
            frame = decode_frame(payload)
        except UNREADABLE:
            return []
        if isinstance(frame, Trades):
            return [Peek(trade.coin, "trade", trade.time * NS_PER_MS) for trade in frame.data]
        if isinstance(frame, L2Book):
            return [Peek(frame.data.coin, "book", frame.data.time * NS_PER_MS)]
        if isinstance(frame, Bbo):
            return [Peek(frame.data.coin, "quote", frame.data.time * NS_PER_MS)]
        if isinstance(frame, AssetCtx):
            return [Peek(frame.data.coin, kind, None) for kind in ("ticker", "mark")]
        if isinstance(frame, SpotAssetCtx):
            return [Peek(frame.data.coin, "ticker", None)]
        return []

    # subscriptions

    def learn(self, instruments: Sequence[Instrument]) -> bool:
        self._instruments.update({row.venue_symbol: row for row in instruments})
        return True

    def venue_channels(self, subs: Sequence[Subscription]) -> list[str]:
        names = (f"{self.channels[sub.kind]} {sub.instrument.venue_symbol}" for sub in subs)
        return list(dict.fromkeys(names))

    def subscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        return self._requests("subscribe", subs)

    def unsubscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        return self._requests("unsubscribe", subs)

    def _requests(self, method: str, subs: Sequence[Subscription]) -> list[bytes]:
        # One coin a message: lists are ignored without a word.
        frames = []
        for name in self.venue_channels(subs):
            channel, _, coin = name.partition(" ")
            wanted: dict[str, object] = {"type": channel, "coin": coin}
            if channel == "l2Book":
                wanted["fast"] = True
            frames.append(msgspec.json.encode({"method": method, "subscription": wanted}))
        return frames

    def ping(self) -> bytes | None:
        # The venue closes a connection that it sent nothing to for 60 s; the answer counts.
        return b'{"method":"ping"}'

    # frames

    def receive(self, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        try:
            frame = decode_frame(payload)
        except UNREADABLE as error:
            return self._unread(payload, ts_recv, error)
        return self._handlers[type(frame)](frame, ts_recv)

    def _unread(self, payload: bytes, ts_recv: int, error: Exception) -> _Events:
        """Skip what is of no known channel; of several trades keep those that can be read."""
        try:
            envelope = decode_envelope(payload)
            if envelope.channel not in _CHANNELS:
                return [Skipped("unknown channel" if envelope.channel else "unknown message")]
            if envelope.channel == "trades":
                rows = [row for part in decode_parts(envelope.data) if (row := _trade(bytes(part))) is not None]
                if rows:
                    return [*self._trades(Trades(rows), ts_recv), Skipped("unreadable item")]
        except UNREADABLE:
            pass
        raise WireError(self.venue, str(error)) from error

    def _answer(self, frame: Answer, ts_recv: int) -> _Events:
        wanted = frame.data.subscription
        if wanted is None or frame.data.method != "subscribe":
            return []
        return [Acked((f"{wanted.type} {wanted.coin}",))]

    def _failure(self, frame: Failure, ts_recv: int) -> _Events:
        try:
            request = decode_request(frame.data[frame.data.index("{") :])
        except UNREADABLE:
            return [Refused((), frame.data)]
        wanted = request.subscription or request
        if not wanted.type:
            return [Refused((), frame.data)]
        names = (f"{wanted.type} {wanted.coin}",)
        return [Acked(names) if frame.data.startswith("Already subscribed") else Refused(names, frame.data)]

    def _trades(self, frame: Trades, ts_recv: int) -> _Events:
        events: _Events = []
        for row in frame.data:
            instrument = self._instruments.get(row.coin)
            if instrument is None:
                events.append(Skipped("unknown symbol"))
                continue
            events.append(
                Trade(
                    self.venue, instrument.symbol, "", row.time * NS_PER_MS, ts_recv, 0,
                    row.px, row.sz, _SIDES.get(row.side or ""), str(row.tid),
                )
            )  # fmt: skip
        return events

    def _bbo(self, frame: Bbo, ts_recv: int) -> _Events:
        m = frame.data
        instrument = self._instruments.get(m.coin)
        if instrument is None:
            return [Skipped("unknown symbol")]
        if not _newer(self._quotes, m.coin, m.time, m.bbo):
            return [Skipped("repeated quote")]
        bid = m.bbo[0] if m.bbo else None
        ask = m.bbo[1] if len(m.bbo) > 1 else None
        return [
            Quote(
                self.venue, instrument.symbol, "", m.time * NS_PER_MS, ts_recv, 0,
                bid.px if bid else None, bid.sz if bid else None, ask.px if ask else None, ask.sz if ask else None,
            )
        ]  # fmt: skip

    def _context(self, frame: AssetCtx, ts_recv: int) -> _Events:
        events = self._spot_context(frame, ts_recv)
        ticker, m = events[0], frame.data.ctx
        if isinstance(ticker, Ticker):
            events.append(
                Mark(
                    self.venue, ticker.symbol, "", None, ts_recv, 0,
                    m.markPx, m.oraclePx, m.funding, None, m.openInterest,
                )
            )  # fmt: skip
        return events

    def _spot_context(self, frame: AssetCtx | SpotAssetCtx, ts_recv: int) -> _Events:
        instrument = self._instruments.get(frame.data.coin)
        if instrument is None:
            return [Skipped("unknown symbol")]
        m = frame.data.ctx
        return [
            Ticker(
                self.venue, instrument.symbol, "", None, ts_recv, 0,
                None, m.prevDayPx, None, None, m.dayBaseVlm, m.dayNtlVlm, None, None,
            )
        ]  # fmt: skip

    # book

    def _book(self, frame: L2Book, ts_recv: int) -> _Events:
        m = frame.data
        instrument = self._instruments.get(m.coin)
        if instrument is None:
            return [Skipped("unknown symbol")]
        if not _newer(self._books, m.coin, m.time, m.levels):
            return [Skipped("repeated book")]
        bids, asks = ([(level.px, level.sz) for level in side] for side in m.levels)
        # It goes on beyond the levels told, but nothing is ever applied to them: the next snapshot replaces all.
        return [BookUpdate(instrument, True, bids, asks, m.time * NS_PER_MS, ts_recv)]

    def resync(self, instrument: Instrument) -> list[bytes | Fetch]:
        # The next snapshot is on its way.
        return []

    def snapshot(self, fetch: Fetch, body: bytes, ts_recv: int) -> list[Event | Fetch]:
        return [*candles_of(self.venue, fetch, body, ts_recv)]

    @classmethod
    def candles_fetch(cls, instrument: Instrument, interval: str, start: int, count: int, now: int = 0) -> Fetch | None:
        if interval not in cls.candle_intervals:
            return None
        count = min(count, cls.candles_per_fetch)
        end = start + count * interval_ns(interval)
        asked = {
            "coin": instrument.venue_symbol,
            "interval": interval,
            "startTime": start // NS_PER_MS,
            "endTime": end // NS_PER_MS - 1,
        }
        return cls._info(
            "candleSnapshot",
            {"type": "candleSnapshot", "req": asked},
            weight=20 + count // 60,
            instrument=instrument,
            interval=interval,
            start=start,
        )


def _trade(data: bytes) -> WireTrade | None:
    try:
        return decode_trade(data)
    except UNREADABLE:
        return None


def _newer(last: dict[str, tuple[int, Any]], coin: str, time: int, content: Any) -> bool:
    """Tell whether this is news, and remember it: later than the last, or another state of the same block."""
    before = last.get(coin)
    if before is not None and (time < before[0] or (time == before[0] and content == before[1])):
        return False
    last[coin] = time, content
    return True
