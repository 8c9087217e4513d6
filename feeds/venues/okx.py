"""OKX v5: spot, perpetuals, futures and options on one wire format.

Documentation: https://www.okx.com/docs-v5/en/#overview (websocket, order-book-trading-market-data, public-data)

Quirks:
- Books: every update names its predecessor, and equality of the two is all there is to check: `seqId` may fall (a reset
  after maintenance) and jumps as a rule; an empty update that follows itself is a keep-alive.
- `checksum` is 0 since June 2026, which says nothing; where it is another number it is checked. Recordings before 2023
  have the checksum alone.
- Sizes of derivatives are contracts: they become base units, or quote units where the contract is inverse.
- Candle channels are on the endpoint `business` alone. The hub makes its candles from trades; recorded ones count where
  a session has no trades of the instrument.
- The heartbeat is the bare word `ping`; the answer `pong` is no JSON.
- Acknowledgements come one per channel; errors name their channel in the text, if at all.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Final
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
    Rotate,
    Skipped,
    Subscription,
)
from feeds.units import SizesOf, number, size_of
from feeds.venues import okx_rest
from feeds.venues import okx_wire as wire
from feeds.venues.okx_book import Chain, checksum
from feeds.venues.okx_marks import MARK_CHANNELS, Marks, index_of
from feeds.venues.okx_rest import BARS, INTERVAL_OF
from feeds.venues.okx_wire import UNREADABLE, Arg, Frame
from hub.errors import WireError
from hub.instruments import Instrument
from hub.intervals import NS_PER_MS
from hub.model import Quote, Ticker, Trade

__all__ = ["Okx"]

#: Families whose options are listed: the venue lists options by family only.
_OPTION_FAMILIES = ("BTC-USD", "ETH-USD")
#: Books of up to 400 levels, kept up by updates. All but `books` want a login by now; recordings have them.
_FULL = ("books", "books-l2-tbt", "books50-l2-tbt")
_KINDS = {
    "trades": "trade", "trades-all": "trade", "bbo-tbt": "quote", "tickers": "ticker", "mark-price": "mark",
    "funding-rate": "mark", "open-interest": "mark", **dict.fromkeys(_FULL, "book"),
}  # fmt: skip
_BUSINESS = re.compile("candle|trades-all$|mark-price-candle|index-candle")
_NAMED = re.compile(r"channel: ?([\w-]+), ?instId: ?([\w.-]+)")
#: How pushes are written as a rule, `{"arg":…,"action":…,"data":…}`: then the data is a slice.
_DATA: Final = b'"data":'
_BRACE: Final = ord("}")
_HEADS_MAX: Final = 10_000
#: A service upgrade: the connection is about to be closed.
_UPGRADE = "64008"

_Handler = Callable[[Frame, Any, int], list[Event | Fetch]]


class Okx(Adapter):
    """One connection to OKX; see feeds/adapter.py."""

    venue = "okx"
    endpoints: ClassVar[dict[str, str]] = {
        "public": "wss://ws.okx.com:8443/ws/v5/public",
        "business": "wss://ws.okx.com:8443/ws/v5/business",
    }
    rest_url = "https://www.okx.com"
    limits = Limits(
        streams_per_connection=200,
        symbols_per_connection=29,  # below 30 books of 400 levels on a connection
        messages_per_s=3,
        connects=3,
        connects_window_s=1,
        rest_weight=40,
        rest_window_s=2,
        lifetime_s=7 * 86_400,
        heartbeat_s=30,
        ping_s=10,
        subscribe_batch=200,
        requests=480,
        requests_window_s=3600,
    )
    channels: ClassVar[dict[str, str]] = {
        "trade": "trades",
        "quote": "bbo-tbt",
        "book": "books",
        "depth": "books",
        "ticker": "tickers",
        "mark": "mark-price",
        "candle": "trades",
    }
    default_symbols = ("BTC-USDT", "ETH-USDT", "SOL-USDT", "BTC-USDT-PERP", "ETH-USDT-PERP")
    candle_intervals = frozenset(BARS)
    candles_per_fetch = okx_rest.OLD_CANDLES_MAX
    checksum = staticmethod(checksum)
    book_window = 400

    def __init__(
        self,
        instruments: Sequence[Instrument],
        book_levels: int = 1000,
        endpoint: str = "",
        credentials: Sequence[str] = (),
    ) -> None:
        super().__init__(instruments, book_levels, endpoint, credentials)
        self._instruments = {row.venue_symbol: row for row in instruments}
        self._sizes = {row.symbol: SizesOf(row.contract_size) for row in instruments if row.contract_size != 1}
        self._routes: dict[Arg, tuple[_Handler, Any]] = {}
        self._heads: dict[bytes, tuple[_Handler, Any, Arg, str]] = {}  # the same by what comes before the data
        self._owners: dict[tuple[str, str], Arg] = {}
        self._chains: dict[str, Chain] = {}
        self._marks = Marks()
        self._quoted: dict[str, tuple[int, int]] = {}
        self._requests: dict[str, tuple[str, ...]] = {}
        self._next_id = 1
        self._handlers: dict[str, _Handler] = {
            "trades": self._trades,
            "trades-all": self._trades,
            "bbo-tbt": self._quotes,
            "tickers": self._tickers,
            **dict.fromkeys(MARK_CHANNELS["perpetual"], self._mark),
            **dict.fromkeys(_FULL, self._book),
            **{f"candle{bar}": self._candles for bar in INTERVAL_OF},
        }

    # instruments

    @classmethod
    def endpoint_of(cls, kind: str, instrument: Instrument) -> str:
        return "business" if _BUSINESS.match(cls.channels[kind]) else "public"

    @classmethod
    def may_cross(cls, instrument: Instrument) -> bool:
        # In the call auction before the opening the best ask may lie below the best bid.
        return instrument.status == "preopen"

    @classmethod
    def instruments_fetches(cls) -> list[Fetch]:
        queries = [(("instType", name),) for name in ("SPOT", "SWAP", "FUTURES")]
        options = [(("instType", "OPTION"), ("instFamily", family)) for family in _OPTION_FAMILIES]
        return [
            Fetch(resource="instruments", path="/api/v5/public/instruments", params=params, weight=2)
            for params in (*queries, *options)
        ]

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        try:
            return okx_rest.read_instruments(body)
        except UNREADABLE as error:
            raise WireError(cls.venue, f"instruments: {error}") from error

    @classmethod
    def resource_of(cls, url: str) -> tuple[str, str]:
        parts = urlsplit(url)
        symbol = parse_qs(parts.query).get("instId", [""])[0].split(" ")[0]
        return parts.path.rsplit("/", 1)[-1], symbol

    @classmethod
    def peek(cls, payload: bytes, endpoint: str = "") -> list[Peek]:
        try:
            frame = wire.decode_frame(payload)
            channel, name = frame.arg.channel, frame.arg.instId
            candle = channel.removeprefix("candle") in INTERVAL_OF and channel.startswith("candle")
            kind = "candle" if candle else _KINDS.get(channel)
            if kind is None or not name or frame.event or bytes(frame.data)[:1] != b"[":
                return []
            if candle:
                wire.read_candles(frame.data)
                return [Peek(name, kind, None)]
            stamps = [push.ts for push in wire.decode_stamps(frame.data) if isinstance(push.ts, int)]
        except UNREADABLE:
            return []
        return [Peek(name, kind, max(stamps) * NS_PER_MS if stamps else None)]

    # subscriptions

    def _args(self, subs: Iterable[Subscription]) -> list[Arg]:
        args: dict[Arg, None] = {}
        for sub in subs:
            row = sub.instrument
            if sub.kind != "mark":
                args[Arg(self.channels[sub.kind], row.venue_symbol)] = None
                continue
            for channel in MARK_CHANNELS.get(row.kind, ()):
                args[Arg(channel, index_of(row) if channel == "index-tickers" else row.venue_symbol)] = None
        return list(args)

    def learn(self, instruments: Sequence[Instrument]) -> bool:
        self._instruments.update({row.venue_symbol: row for row in instruments})
        self._sizes.update({row.symbol: SizesOf(row.contract_size) for row in instruments if row.contract_size != 1})
        return True

    def venue_channels(self, subs: Sequence[Subscription]) -> list[str]:
        return [_name(arg) for arg in self._args(subs)]

    def subscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        return self._request("subscribe", self._args(subs))

    def unsubscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        return self._request("unsubscribe", self._args(subs))

    def _request(self, operation: str, args: list[Arg]) -> list[bytes]:
        frames = []
        for at in range(0, len(args), self.limits.subscribe_batch):
            batch = args[at : at + self.limits.subscribe_batch]
            number = str(self._next_id)
            self._next_id += 1
            frames.append(msgspec.json.encode({"id": number, "op": operation, "args": batch}))
            if operation == "subscribe":
                self._requests[number] = tuple(_name(arg) for arg in batch)
        return frames

    def ping(self) -> bytes | None:
        return b"ping"

    # frames

    def receive(self, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        end = payload.find(_DATA)
        head = self._heads.get(payload[:end])
        try:
            if head is not None and payload[-1] == _BRACE:
                handler, target, arg, action = head
                try:
                    data: Any = payload[end + len(_DATA) : -1]  # decoders take bytes as well as Raw
                    return handler(Frame(arg, data, action), target, ts_recv)
                except UNREADABLE:
                    pass  # something comes after the data, or it is broken
            frame = wire.decode_frame(payload)
            try:
                handler, target = self._routes[frame.arg]
            except KeyError:
                return self._first(frame, ts_recv)
            if frame.event:
                return self._answer(frame)
            events = handler(frame, target, ts_recv)
            if len(self._heads) < _HEADS_MAX and payload[end + len(_DATA) : -1] == bytes(frame.data):
                self._heads[payload[:end]] = handler, target, frame.arg, frame.action
            return events
        except UNREADABLE as error:
            if payload == b"pong":
                return []
            raise WireError(self.venue, str(error)) from error

    def _first(self, frame: Frame, ts_recv: int) -> list[Event | Fetch]:
        """Route what has no route yet: first push of a channel, answers."""
        arg = frame.arg
        if frame.event:
            return self._answer(frame)
        handler = self._handlers.get(arg.channel)
        if handler is None or not arg.instId:
            return [Skipped("unknown channel" if arg.channel else "unknown message")]
        target: Any = self._instruments.get(arg.instId)
        if arg.channel == "index-tickers":
            target = [row for row in self._instruments.values() if index_of(row) == arg.instId]
        elif handler == self._mark:
            target = [target] if target else []
        elif handler == self._book and target:
            target = self._chain(target)
        if not target:
            return [Skipped("unknown symbol")]
        kind = _KINDS.get(arg.channel)
        if kind in ("trade", "book") and self._owners.setdefault((kind, arg.instId), arg) != arg:
            # Two channels with the same trades would count each twice; two books would be mixed up.
            handler = _second
        events = handler(frame, target, ts_recv)
        self._routes[arg] = handler, target
        return events

    def _answer(self, frame: Frame) -> list[Event | Fetch]:
        if frame.event == "subscribe":
            chain = self._chains.get(frame.arg.instId) if frame.arg.channel in _FULL else None
            if chain is not None:
                chain.waiting = False  # the next push is the snapshot
            return [Acked((_name(frame.arg),))]
        if frame.event == "unsubscribe":
            return []
        if frame.event == "error":
            named = _NAMED.search(frame.msg)
            channels = (f"{named[1]}:{named[2]}",) if named else self._requests.pop(frame.id, ())
            return [Refused(channels, f"{frame.code} {frame.msg}")]
        if frame.event == "notice" and frame.code == _UPGRADE:
            return [Rotate(frame.msg)]
        return [Skipped("unknown event")]

    def _trades(self, frame: Frame, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        symbol = instrument.symbol
        sizes, venue = self._sizes.get(symbol), self.venue
        events: list[Event | Fetch]
        if sizes is None:
            pushes, bad = wire.read_trades(frame.data)
            events = [
                Trade(venue, symbol, "", m.ts * NS_PER_MS, ts_recv, 0, m.px, m.sz, m.side, m.tradeId, m.count)
                for m in pushes
            ]
        else:
            contracts, bad = wire.read_trades_sizes(frame.data)
            events = [
                Trade(venue, symbol, "", m.ts * NS_PER_MS, ts_recv, 0, m.px, sizes[m.sz], m.side, m.tradeId, m.count)
                for m in contracts
            ]
        return events + _unreadable(bad)

    def _quotes(self, frame: Frame, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        pushes, bad = wire.read_quotes(frame.data)
        factor = Decimal(repr(instrument.contract_size))
        events: list[Event | Fetch] = []
        for m in pushes:
            told, number_told = self._quoted.get(instrument.symbol, (0, 0))
            if m.ts <= told and 0 < m.seqId < number_told:  # after maintenance numbers fall, but time does not
                events.append(Skipped("older quote"))
                continue
            self._quoted[instrument.symbol] = m.ts, m.seqId
            bid, ask = (
                (side[0].price, size_of(side[0].size, factor)) if side else (None, None) for side in (m.bids, m.asks)
            )
            events.append(Quote(self.venue, instrument.symbol, "", m.ts * NS_PER_MS, ts_recv, 0, *bid, *ask))
        return events + _unreadable(bad)

    def _tickers(self, frame: Frame, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        pushes, bad = wire.read_tickers(frame.data)
        factor = Decimal(repr(instrument.contract_size))
        events: list[Event | Fetch] = []
        for m in pushes:
            # Spot: base and quote. Derivatives: contracts and base; of inverse ones the contracts are the quote side.
            sized = size_of(m.vol24h, factor) if m.vol24h else None
            other = number(m.volCcy24h)
            if instrument.size_unit == "quote":
                volume, quote_volume = other, sized
            else:
                volume, quote_volume = sized, other if m.instType == "SPOT" else None
            events.append(
                Ticker(
                    self.venue, instrument.symbol, "", m.ts * NS_PER_MS, ts_recv, 0,
                    number(m.last), number(m.open24h), number(m.high24h), number(m.low24h), volume, quote_volume,
                    number(m.bidPx), number(m.askPx),
                )
            )  # fmt: skip
        return events + _unreadable(bad)

    def _mark(self, frame: Frame, instruments: list[Instrument], ts_recv: int) -> list[Event | Fetch]:
        marks, bad = self._marks.read(frame.arg.channel, frame.data, instruments, ts_recv)
        return [*marks, *_unreadable(bad)]

    # book

    def _book(self, frame: Frame, chain: Chain, ts_recv: int) -> list[Event | Fetch]:
        return chain.read(frame, ts_recv)

    def _chain(self, instrument: Instrument) -> Chain:
        chain = self._chains.get(instrument.venue_symbol)
        if chain is None:
            chain = Chain(instrument, self._sizes.get(instrument.symbol))
            self._chains[instrument.venue_symbol] = chain
        return chain

    def resync(self, instrument: Instrument) -> list[bytes | Fetch]:
        name = instrument.venue_symbol
        self._chain(instrument).lost()
        arg = self._owners.get(("book", name), Arg(self.channels["book"], name))
        return [*self._request("unsubscribe", [arg]), *self._request("subscribe", [arg])]

    # candles

    def _candles(self, frame: Frame, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        if ("trade", instrument.venue_symbol) in self._owners:
            return [Skipped("candle beside trades")]
        rows, bad = wire.read_candles(frame.data)
        interval = INTERVAL_OF[frame.arg.channel.removeprefix("candle")]
        return [*okx_rest.candles(instrument, interval, rows, ts_recv), *_unreadable(bad)]

    @classmethod
    def candles_fetch(cls, instrument: Instrument, interval: str, start: int, count: int, now: int = 0) -> Fetch | None:
        return okx_rest.candles_fetch(instrument, interval, start, count, now)

    def snapshot(self, fetch: Fetch, body: bytes, ts_recv: int) -> list[Event | Fetch]:
        assert fetch.instrument is not None
        try:
            rows = okx_rest.read_candles(body)
            return [*okx_rest.candles(fetch.instrument, fetch.interval, rows, ts_recv)]
        except UNREADABLE as error:
            raise WireError(self.venue, f"{fetch.resource}: {error}") from error


def _name(arg: Arg) -> str:
    return f"{arg.channel}:{arg.instId}"


def _second(frame: Frame, target: Any, ts_recv: int) -> list[Event | Fetch]:
    return [Skipped("second channel of the same")]


def _unreadable(count: int) -> list[Event | Fetch]:
    return [Skipped("unreadable item")] * count if count else []
