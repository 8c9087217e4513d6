"""HTX (Huobi): spot, USDT swaps, coin swaps and coin futures.

Documentation: https://huobiapi.github.io/docs/spot/v1/en/, https://huobiapi.github.io/docs/usdt_swap/v1/en/,
https://huobiapi.github.io/docs/coin_margined_swap/v1/en/

Quirks:
- Each frame is a gzip member; what the client sends is text. The venue pings, and cuts who does not echo the number.
- One topic per request; the id of a request is the topic here, so that refusals name what they refuse.
- A spot book is on a path of its own, `/feed`. Books come in several forms, see feeds/venues/htx_books.py;
  merged depths (`step1` and up) are none.
- Ids of spot trades do not fit 64 bits; `tradeId` is what tells trades apart.
- Contract sizes are in contracts. Volumes of 24 h count both sides of a trade, so they are halved; the sizes of single
  trades are as the venue gives them.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import ClassVar
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
)
from feeds.venues import htx_rest as rest
from feeds.venues.htx_books import HtxBooks, Sizes, is_book, request
from feeds.venues.htx_instruments import division_of, instruments_fetches, read_instruments
from feeds.venues.htx_marks import HtxMarks
from feeds.venues.htx_wire import (
    UNREADABLE,
    Answer,
    TradeRow,
    best_price,
    decode_answer,
    decode_bbo,
    decode_contract_bbo,
    decode_peeked,
    decode_ticker,
    decode_trades,
    decode_trades_loosely,
    read_trade_rows,
    unpacked,
)
from hub.errors import WireError
from hub.instruments import Instrument
from hub.intervals import NS_PER_MS
from hub.model import Quote, Ticker, Trade

__all__ = ["Htx"]

#: channel -> canonical kind; the forms of a book are told by `_is_book`
_KINDS = {
    "trade.detail": "trade", "bbo": "quote", "ticker": "ticker", "detail": "ticker", "mark_price.1min": "mark",
    "index.1min": "mark",
}  # fmt: skip

#: What the hub has no use for, by the first word of the channel.
_UNUSED = {"kline": "venue candle", "depth": "merged depth"}

_Handler = Callable[[bytes, Instrument, int], list[Event | Fetch]]


class Htx(Adapter):
    """One connection to HTX; see feeds/adapter.py."""

    venue = "htx"
    endpoints: ClassVar[dict[str, str]] = {
        "spot": "wss://api.huobi.pro/ws",
        "feed": "wss://api.huobi.pro/feed",
        "linear-swap": "wss://api.hbdm.com/linear-swap-ws",
        "coin-swap": "wss://api.hbdm.com/swap-ws",
        "futures": "wss://api.hbdm.com/ws",
        "index": "wss://api.hbdm.com/ws_index",
    }
    rest_url = "https://api.huobi.pro"
    # Ten requests a second is what the documents allow for `req`; pongs wait behind the subscriptions of a connection.
    limits = Limits(
        streams_per_connection=40,
        messages_per_s=12,
        connects=60,
        connects_window_s=60,
        rest_weight=10,
        rest_window_s=1,
        lifetime_s=7 * 86_400,
        heartbeat_s=20,
    )
    channels: ClassVar[dict[str, str]] = {
        "trade": "trade.detail",
        "quote": "bbo",
        "book": "mbp.150",
        "depth": "mbp.150",
        "ticker": "ticker",
        "mark": "mark_price.1min",
        "candle": "trade.detail",
    }
    default_symbols = ("BTC-USDT", "ETH-USDT", "SOL-USDT", "BTC-USDT-PERP", "ETH-USDT-PERP")
    candle_intervals = frozenset(rest.PERIODS)
    candles_per_fetch = rest.CANDLES_MAX
    candle_reach = rest.CANDLES_MAX
    _of_contracts: ClassVar[dict[str, tuple[str, ...]]] = {
        "book": ("depth.size_150.high_freq",),
        "depth": ("depth.size_150.high_freq",),
        "ticker": ("detail",),
        "mark": ("mark_price.1min", "index.1min"),
    }

    def __init__(
        self,
        instruments: Sequence[Instrument],
        book_levels: int = 1000,
        endpoint: str = "",
        credentials: Sequence[str] = (),
    ) -> None:
        super().__init__(instruments, book_levels, endpoint, credentials)
        self._instruments = {row.venue_symbol: row for row in instruments}
        self._sizes = {row.symbol: Sizes(row.contract_size) for row in instruments if row.contract_size != 1}
        self._books = HtxBooks(self._sizes)
        self._routes: dict[bytes, tuple[_Handler, Instrument]] = {}
        self._quoted: dict[str, int] = {}
        self._marks = HtxMarks()
        self._handlers: dict[str, _Handler] = {
            "trade.detail": self._trades,
            "bbo": self._quote,
            "ticker": self._ticker,
            "detail": self._ticker,
            "mark_price.1min": self._marks.price,
            "index.1min": self._marks.index,
        }

    @classmethod
    def endpoint_of(cls, kind: str, instrument: Instrument) -> str:
        division = division_of(instrument.venue_symbol)
        if division == "spot":
            return "feed" if kind in {"book", "depth"} else "spot"
        return "index" if kind == "mark" else division

    @classmethod
    def endpoint_at(cls, url: str) -> str:
        # Spot and futures share a path, not a host.
        parts = urlsplit(url)
        for name, known in cls.endpoints.items():
            if urlsplit(known)[1:3] == parts[1:3]:
                return name
        return super().endpoint_at(url)

    # instruments

    @classmethod
    def instruments_fetches(cls) -> list[Fetch]:
        return instruments_fetches()

    @classmethod
    def parse_instruments(cls, body: bytes) -> list[Instrument]:
        try:
            return read_instruments(cls.venue, body)
        except UNREADABLE as error:
            raise WireError(cls.venue, f"instruments: {error}") from error

    @classmethod
    def resource_of(cls, url: str) -> tuple[str, str]:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        symbol = (query.get("symbol") or query.get("contract_code") or [""])[0]
        return parts.path.rsplit("/", 1)[-1], symbol

    @classmethod
    def peek(cls, payload: bytes, endpoint: str = "") -> list[Peek]:
        try:
            frame = decode_peeked(unpacked(payload))
        except UNREADABLE:
            return []
        _, symbol, channel = _parts(frame.ch or frame.rep or frame.topic)
        kind = "book" if is_book(channel) else _KINDS.get(channel)
        if frame.op == "notify" and channel == "funding_rate":
            kind = "mark"
        if not symbol or kind is None:
            return []
        return [Peek(symbol, kind, _ns(frame.ts))]

    # subscriptions

    def _topics(self, sub: Subscription) -> list[str]:
        symbol = sub.instrument.venue_symbol
        channels: tuple[str, ...] = (self.channels[sub.kind],)
        if division_of(symbol) != "spot":
            channels = self._of_contracts.get(sub.kind, channels)
        elif sub.kind == "mark":
            channels = ()
        return [f"market.{symbol}.{channel}" for channel in channels]

    def learn(self, instruments: Sequence[Instrument]) -> bool:
        self._instruments.update({row.venue_symbol: row for row in instruments})
        self._sizes.update({row.symbol: Sizes(row.contract_size) for row in instruments if row.contract_size != 1})
        return True

    def venue_channels(self, subs: Sequence[Subscription]) -> list[str]:
        return list(dict.fromkeys(topic for sub in subs for topic in self._topics(sub)))

    def subscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        return [request("sub", topic) for topic in self.venue_channels(subs)]

    def unsubscribe(self, subs: Sequence[Subscription]) -> list[bytes]:
        return [request("unsub", topic) for topic in self.venue_channels(subs)]

    def resync(self, instrument: Instrument) -> list[bytes | Fetch]:
        return self._books.resync(instrument)

    # frames

    def receive(self, payload: bytes, ts_recv: int) -> list[Event | Fetch]:
        try:
            data = unpacked(payload)
            if data.startswith(b'{"ch":"'):
                end = data.find(b'"', 7)
                route = self._routes.get(data[7:end])
                if route is not None:
                    return route[0](data, route[1], ts_recv)
            return self._first(data, ts_recv)
        except UNREADABLE as error:
            raise WireError(self.venue, str(error)) from error

    def _first(self, data: bytes, ts_recv: int) -> list[Event | Fetch]:
        """Route what has no route yet: first frame of a topic, answers, pings."""
        frame = decode_answer(data)
        if not frame.ch:
            return self._answer(frame, data, ts_recv)
        _, symbol, channel = _parts(frame.ch)
        instrument = self._instruments.get(symbol)
        if instrument is None:
            return [Skipped("unknown symbol")]
        if is_book(channel):
            handler, events = self._books.first(channel, data, instrument, ts_recv)
        else:
            known = self._handlers.get(channel)
            if known is None:
                return [
                    Skipped(next((why for how, why in _UNUSED.items() if channel.startswith(how)), "unknown channel"))
                ]
            handler, events = known, known(data, instrument, ts_recv)
        self._routes[frame.ch.encode()] = (handler, instrument)
        return events

    def _answer(self, frame: Answer, data: bytes, ts_recv: int) -> list[Event | Fetch]:
        if frame.ping is not None:
            return [Send(b'{"pong":%d}' % frame.ping)]
        if frame.op:
            return self._notified(frame, data, ts_recv)
        if frame.status == "error":
            return self._refusal(frame)
        _, symbol, channel = _parts(frame.rep or frame.subbed)
        instrument = self._instruments.get(symbol)
        if frame.rep:
            if instrument is None or not is_book(channel):
                return [Skipped("unknown answer")]
            return self._books.answered(channel, frame, instrument, ts_recv)
        if not frame.subbed:
            return [] if frame.unsubbed else [Skipped("unknown message")]
        wanted = self._books.acked(channel, instrument, ts_recv) if instrument is not None else []
        return [Acked((frame.subbed,)), *wanted]

    def _refusal(self, frame: Answer) -> list[Event | Fetch]:
        text = bytes(frame.id)
        name = msgspec.json.decode(text) if text[:1] == b'"' else ""
        topic = name if name.startswith("market.") else ""
        return [Refused((topic,) if topic else (), frame.err_msg or frame.err_code)]

    def _notified(self, frame: Answer, data: bytes, ts_recv: int) -> list[Event | Fetch]:
        if frame.op == "ping":
            return [Send(b'{"op":"pong","ts":%b}' % (bytes(frame.ts) or b"null"))]
        if frame.op != "notify" or not frame.topic.endswith(".funding_rate"):
            return [Skipped("notification")]
        return [*self._marks.notified(data, self._instruments, ts_recv)]

    # trades and quotes

    def _trades(self, data: bytes, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        try:
            return [self._trade(row, instrument, ts_recv) for row in decode_trades(data).tick.data]
        except ValueError:
            rows, lost = read_trade_rows(decode_trades_loosely(data).tick.data)
        found: list[Event | Fetch] = []
        for row in rows:
            try:
                found.append(self._trade(row, instrument, ts_recv))
            except ValueError:
                lost += 1
        if not found:
            raise ValueError("no trade of a frame can be read")
        return [*found, *[Skipped("unreadable item")] * lost]

    def _trade(self, row: TradeRow, instrument: Instrument, ts_recv: int) -> Trade:
        sizes = self._sizes.get(instrument.symbol)
        size = row.amount if sizes is None else sizes[row.amount]
        return Trade(
            self.venue, instrument.symbol, "", row.ts * NS_PER_MS, ts_recv, 0, row.price, size, row.direction, row.name
        )

    def _quote(self, data: bytes, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        if division_of(instrument.venue_symbol) != "spot":
            return self._contract_quote(data, instrument, ts_recv)
        frame = decode_bbo(data)
        m, symbol = frame.tick, instrument.symbol
        if m.seqId is not None:
            if m.seqId <= self._quoted.get(symbol, -1):
                return [Skipped("repeated quote")]
            self._quoted[symbol] = m.seqId
        at = _ns(m.quoteTime if m.quoteTime is not None else frame.ts)
        return [Quote(self.venue, symbol, "", at, ts_recv, 0, m.bid, m.bidSize, m.ask, m.askSize)]

    def _contract_quote(self, data: bytes, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        frame = decode_contract_bbo(data)
        m, symbol = frame.tick, instrument.symbol
        if m.mrid is not None:
            if m.mrid <= self._quoted.get(symbol, -1):
                return [Skipped("repeated quote")]
            self._quoted[symbol] = m.mrid
        at = _ns(m.ts if m.ts is not None else frame.ts)
        bids, asks = (self._books.sized(instrument, [level] if level is not None else None) for level in (m.bid, m.ask))
        bid, bid_size = bids[0] if bids else (None, None)
        ask, ask_size = asks[0] if asks else (None, None)
        return [Quote(self.venue, symbol, "", at, ts_recv, 0, bid, bid_size, ask, ask_size)]

    def _ticker(self, data: bytes, instrument: Instrument, ts_recv: int) -> list[Event | Fetch]:
        frame = decode_ticker(data)
        m = frame.tick
        volume, turnover = m.amount, m.vol
        if division_of(instrument.venue_symbol) != "spot":
            if instrument.size_unit == "quote" and m.vol is not None:
                turnover = float(Decimal(repr(m.vol)) * Decimal(repr(instrument.contract_size)))
            else:
                turnover = m.trade_turnover
            volume, turnover = _half(volume), _half(turnover)
        last = m.lastPrice if m.lastPrice is not None else m.close
        return [
            Ticker(
                self.venue, instrument.symbol, "", _ns(frame.ts), ts_recv, 0,
                last, m.open, m.high, m.low, volume, turnover, best_price(m.bid), best_price(m.ask),
            )
        ]  # fmt: skip

    # REST

    @classmethod
    def candles_fetch(cls, instrument: Instrument, interval: str, start: int, count: int, now: int = 0) -> Fetch | None:
        return rest.candles_fetch(instrument, interval, start)

    def snapshot(self, fetch: Fetch, body: bytes, ts_recv: int) -> list[Event | Fetch]:
        instrument = fetch.instrument
        assert instrument is not None
        try:
            if fetch.resource == "kline":
                return [*rest.read_candles(self.venue, fetch, body, ts_recv)]
            return [*self._marks.fetched(fetch.resource, body, instrument, ts_recv)]
        except UNREADABLE as error:
            raise WireError(self.venue, f"{fetch.resource}: {error}") from error


def _parts(topic: str) -> tuple[str, str, str]:
    """Split `market.btcusdt.trade.detail` into `market`, symbol and channel."""
    head, _, rest_of_it = topic.partition(".")
    symbol, _, channel = rest_of_it.partition(".")
    return head, symbol, channel


def _ns(ms: int | None) -> int | None:
    return ms * NS_PER_MS if ms is not None else None


def _half(volume: float | None) -> float | None:
    return float(Decimal(repr(volume)) / 2) if volume is not None else None
