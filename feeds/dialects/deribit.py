"""Deribit, the venue's side: channels, JSON-RPC over socket and REST.

Documentation: https://docs.deribit.com/

Recorded is mostly `.raw`, which wants a login today: one recorded channel of a book, of trades or of a ticker serves
all intervals of it, under the name that the client subscribed to. A book's snapshot comes as recorded to the first
client, and is made from the changes played so far for those who subscribe later.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Raw

from feeds.dialects.base import Answer, Conversation, Dialect, Item, Lap, Reading, Refused, Rules, Timeline, noise
from feeds.dialects.deribit_socket import DeribitConversation, VenueError
from feeds.dialects.deribit_wire import (
    Book,
    decode_any,
    decode_change,
    decode_frame,
    decode_listed,
    decode_notice,
    decode_trades,
    frame_of,
    moved,
    rows_of,
)
from feeds.dialects.klines import INTERVALS_MS, Klines

__all__ = ["DeribitDialect"]

INTERVALS: Final = ("raw", "100ms", "agg2")
_PATH: Final = "/ws/api/v2"
_REST: Final = "/api/v2/public/"
_NS_PER_MS: Final = 1_000_000
_RESOLUTIONS: Final = {
    "1": "1m", "3": "3m", "5": "5m", "15": "15m", "30": "30m", "60": "1h", "120": "2h", "360": "6h", "720": "12h",
    "1D": "1d",
}  # fmt: skip
_encode = msgspec.json.encode


class DeribitDialect(Dialect):
    """See feeds/dialects/base.py."""

    venue = "deribit"
    rules = Rules(messages_per_s=10, streams=500, ping_s=10, rest_weight=1200)
    holes: ClassVar[dict[str, int]] = {"book": 1000}
    _methods: ClassVar[dict[str, str]] = {
        "test": "_test", "get_time": "_time", "get_instruments": "_get_instruments",
        "get_instrument": "_get_instrument", "get_order_book": "_order_book", "get_tradingview_chart_data": "_chart",
    }  # fmt: skip

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self._recorded: dict[tuple[str, str], str] = {}
        self._tracks: dict[str, Timeline] = {}
        self._books: dict[str, Book] = {}
        self._candles: dict[str, Klines] = {}
        self._own: dict[str, Raw] = {}
        self._listed: dict[str, Raw] | None = None

    # recordings

    def read(self, payload: bytes, binary: bool) -> Reading | None:
        try:
            frame = decode_frame(payload)
            if frame.method != "subscription":
                return None
            notice = decode_notice(frame.params)
            return self._reading(payload, notice.channel, bytes(notice.data))
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError):
            return noise(payload)

    def _reading(self, payload: bytes, channel: str, data: bytes) -> Reading | None:
        kind = channel.partition(".")[0]
        start = payload.index(data, payload.index(b'"data"'))
        ids: list[tuple[str, int]] = []
        if kind == "trades":
            rows = decode_trades(data)
            symbols = {row.instrument_name for row in rows}
            for row in rows:
                ids.append((f"{row.instrument_name} seq", row.trade_seq))
                ids.append((f"{row.instrument_name} trade", int(row.trade_id.rpartition("-")[2])))
            ts = max((row.timestamp for row in rows), default=None)
            symbol = symbols.pop() if len(symbols) == 1 else ""
        elif kind == "book" and channel.count(".") == 2:
            change = decode_change(data)
            symbol, ts = change.instrument_name, change.timestamp
            numbers = {change.change_id, change.prev_change_id} - {None}
            ids = [(f"{symbol} book", number) for number in numbers if number is not None]
            self._books.setdefault(symbol, Book())
        else:
            fields = decode_any(data)
            symbol, ts = fields.get("instrument_name", ""), fields.get("timestamp")
        topics = self._topics(kind, symbol, channel)
        if not topics:
            return None
        ts_event = ts * _NS_PER_MS if isinstance(ts, int) else None
        return Reading(topics, str(symbol), kind, ts_event, tuple(ids), start, start + len(data))

    def _topics(self, kind: str, symbol: object, channel: str) -> tuple[str, ...]:
        if kind not in ("book", "trades", "ticker") or channel.count(".") != 2 or f".{symbol}." not in channel:
            return (channel,)
        if self._recorded.setdefault((kind, str(symbol)), channel) != channel:
            return ()  # two intervals of one book do not make one chain
        return tuple(f"{kind}.{symbol}.{interval}" for interval in INTERVALS)

    def add_body(self, resource: str, symbol: str, url: str, data: bytes) -> tuple[tuple[str, int], ...]:
        if resource == "get_instruments":
            self._own.update(rows_of(data))
        return ()

    def attach(self, symbols: Sequence[str], timeline: Timeline) -> None:
        self._tracks.update(dict.fromkeys(symbols, timeline))

    def begin(self, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            if symbol in self._books:
                self._books[symbol] = Book()

    # channels

    def play(self, item: Item, lap: Lap) -> list[bytes]:
        reading = item.reading
        if reading.kind == "chart" and not lap.exact:
            return []  # moved, a candle would not begin on its minute
        try:
            if reading.kind == "book" and reading.symbol in self._books and b'"change_id"' in item.data:
                self._note_book(item.data)
            data = item.data if lap.exact else moved(item.data, reading.symbol, lap)
            if reading.kind == "trades":
                self._note_trades(data)
        except (msgspec.MsgspecError, ValueError, ArithmeticError):
            return [item.data]  # recorded garbage stays what it was
        return [data]

    def _note_book(self, data: bytes) -> None:
        try:
            change = decode_change(data)
        except msgspec.ValidationError:
            return  # levels without action: a grouped book, whole each time
        self._books[change.instrument_name].play(change)

    def _note_trades(self, data: bytes) -> None:
        for row in decode_trades(data):
            price, amount = bytes(row.price).decode(), bytes(row.amount).decode()
            if self._inverse(row.instrument_name):
                amount = str(Decimal(amount) / Decimal(price))
            candles = self._candles.setdefault(row.instrument_name, Klines())
            candles.add(row.timestamp, price, amount, row.direction == "buy", (row.trade_seq, row.trade_seq))

    def _inverse(self, symbol: str) -> bool:
        row = self._listing().get(symbol)
        return row is not None and (found := decode_listed(row)).kind == "future" and found.quote_currency == "USD"

    def snapshot(self, channel: str) -> bytes | None:
        """Return the frame that a book's channel begins with; None where it is not known, or is yet to be played."""
        symbol = channel.split(".")[1]
        book = self._books.get(symbol)
        if book is None or book.last is None:
            return None
        lap = self._tracks[symbol].lap
        told = book.timestamp if lap.exact else lap.time(book.timestamp * _NS_PER_MS) // _NS_PER_MS
        bids, asks = (
            [("new", price, amount) for price, amount in sorted(side.items(), reverse=side is book.sides[0])]
            for side in book.sides
        )
        data = {
            "type": "snapshot", "timestamp": told, "instrument_name": symbol,
            "change_id": lap.id(f"{symbol} book", book.last), "bids": bids, "asks": asks,
        }  # fmt: skip
        return frame_of(channel, _encode(data))

    def known(self, symbol: str) -> bool:
        return symbol in self._tracks or symbol in self._listing()

    def conversation(self, path: str, query: Mapping[str, str]) -> Conversation:
        if path.rstrip("/") != _PATH:
            raise Refused(f"no such endpoint: {path}", 404)
        return DeribitConversation(self, self.rules.streams)

    # methods: the same over REST and over the socket

    def rest(self, path: str, query: Mapping[str, str]) -> Answer:
        try:
            result = self.call(path.removeprefix(_REST) if path.startswith(_REST) else "", query)
            return Answer(_encode({"jsonrpc": "2.0", "result": result, **self.stamps()}))
        except VenueError as error:
            return Answer(_encode({"jsonrpc": "2.0", "error": error.body, **self.stamps()}), 400)

    def call(self, method: str, params: Mapping[str, Any]) -> object:
        """Carry out `public/<method>`; VenueError where it cannot be."""
        name = self._methods.get(method)
        if name is None:
            raise VenueError(-32601, "Method not found")
        result: object = getattr(self, name)(params)
        return result

    def stamps(self) -> dict[str, object]:
        """Return what the venue adds to each answer: times in us."""
        us = self.clock() // 1000
        return {"usIn": us, "usOut": us, "usDiff": 0, "testnet": False}

    def weight(self, path: str, query: Mapping[str, str]) -> int:
        return 100 if path.endswith("get_instruments") else 1

    def limited(self, status: int, retry_after_s: int) -> Answer:
        error = VenueError(10028, "too_many_requests")
        headers = {"Retry-After": str(retry_after_s)}
        return Answer(_encode({"jsonrpc": "2.0", "error": error.body, **self.stamps()}), status, headers)

    def _test(self, params: Mapping[str, Any]) -> object:
        return {"version": "1.2.26"}

    def _time(self, params: Mapping[str, Any]) -> object:
        return self.clock() // _NS_PER_MS

    def _listing(self) -> dict[str, Raw]:
        if self._listed is None:
            self._listed = {**(rows_of(self.instruments) if self.instruments else {}), **self._own}
        return self._listed

    def _get_instruments(self, params: Mapping[str, Any]) -> object:
        currency, kind = params.get("currency", "any"), params.get("kind")
        if not self._listing():
            raise VenueError(11051, "system_maintenance: no list of instruments is recorded")
        rows = [(row, decode_listed(row)) for row in self._listing().values()]
        return [
            row
            for row, found in rows
            if currency in ("any", found.settlement_currency or found.base_currency) and kind in (None, found.kind)
        ]

    def _get_instrument(self, params: Mapping[str, Any]) -> object:
        row = self._listing().get(str(params.get("instrument_name")))
        if row is None:
            raise VenueError(-32602, "Invalid params", {"reason": "wrong format", "param": "instrument_name"})
        return row

    def _order_book(self, params: Mapping[str, Any]) -> object:
        symbol = str(params.get("instrument_name"))
        frame = self.snapshot(f"book.{symbol}.raw") if symbol in self._tracks else None
        if frame is None:
            raise VenueError(11051, "system_maintenance: this book is not recorded")
        data = decode_any(decode_notice(decode_frame(frame).params).data)
        depth = int(params.get("depth", 5))
        sides = {side: [level[1:] for level in data[side][:depth]] for side in ("bids", "asks")}
        return {
            **{name: data[name] for name in ("timestamp", "instrument_name", "change_id")},
            **sides,
            "state": "open",
        }

    def _chart(self, params: Mapping[str, Any]) -> object:
        symbol, interval = str(params.get("instrument_name")), _RESOLUTIONS.get(str(params.get("resolution")))
        if interval is None or not self.known(symbol):
            raise VenueError(-32602, "Invalid params")
        since, until = int(params["start_timestamp"]), int(params["end_timestamp"])
        candles, track = self._candles.get(symbol), self._tracks.get(symbol)
        now = track.now() // _NS_PER_MS if track is not None else 0
        since -= since % INTERVALS_MS[interval]
        rows = candles.rows(interval, since, until, 5000, now) if candles is not None else []
        columns: dict[str, list[object]] = {
            "ticks": [row.start for row in rows],
            **{name: [float(getattr(row, name)) for row in rows] for name in ("open", "high", "low", "close")},
            "volume": [round(float(row.volume), 8) for row in rows],
            "cost": [round(float(row.notional), 8) for row in rows],
        }
        return {"status": "ok" if rows else "no_data", **columns}
