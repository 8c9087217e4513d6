"""Bybit v5, the venue's side: topics by category, answers, books with their snapshots in the stream, REST.

Documentation: https://bybit-exchange.github.io/docs/v5/ws/connect

A recorded frame belongs to the category of the connection it came by; where the recording does not say, it is told in
every category. A deep book is told under the depths of today too. Candles of REST are built from the trades.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw, Struct, field

from feeds.dialects.base import Answer, Conversation, Dialect, Item, Lap, Reading, Refused, Rules, Timeline, noise
from feeds.dialects.bybit_socket import BybitConversation
from feeds.dialects.klines import INTERVALS_MS, Klines

__all__ = ["BybitDialect"]

CATEGORIES: Final = ("spot", "linear", "inverse")
_DEPTHS: Final = ("50", "200", "500", "1000")
_WORDS: Final = {
    "1": "1m", "3": "3m", "5": "5m", "15": "15m", "30": "30m", "60": "1h", "120": "2h", "240": "4h", "360": "6h",
    "720": "12h", "D": "1d", "W": "1w", "M": "1M",
}  # fmt: skip
_TIMES: Final = re.compile(rb'("(?:ts|cts|T)":)(\d+)')
_FUNDING: Final = re.compile(rb'("nextFundingTime":")(\d+)')
_UPDATES: Final = re.compile(rb'("u":)(\d+)')
_TRADE_IDS: Final = re.compile(rb'("i":")([^"]+)')
_NS_PER_MS: Final = 1_000_000

_encode = msgspec.json.encode


class _Frame(Struct):
    topic: str = ""
    type: str = ""
    ts: int | None = None
    data: Raw = field(default_factory=Raw)


class _Levels(Struct):
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    u: int
    seq: int = 0


class _Trade(Struct):
    T: int
    S: str
    p: str
    v: str


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_levels = msgspec.json.Decoder(_Levels).decode
_decode_trades = msgspec.json.Decoder(list[_Trade]).decode


class _Book:
    def __init__(self) -> None:
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}
        self.last = self.seq = 0

    def apply(self, update: _Levels) -> None:
        for side, levels in ((self.bids, update.b), (self.asks, update.a)):
            for price, size in levels:
                if float(size):
                    side[price] = size
                else:
                    side.pop(price, None)
        self.last, self.seq = update.u, update.seq


class BybitDialect(Dialect):
    """See feeds/dialects/base.py."""

    venue = "bybit"
    rules = Rules(messages_per_s=20, streams=10_000, ping_s=20, rest_weight=7200)
    #: The book at the start of a lap does not follow from the one at its end.
    holes: ClassVar[dict[str, int]] = {"book": 1000}

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self._category = ""
        self._tracks: dict[str, Timeline] = {}
        self._books: dict[str, _Book] = {}
        self._candles: dict[str, Klines] = {}
        self._rows: dict[str, dict[str, Any]] = {name: {} for name in CATEGORIES}
        self._given = b""

    # recordings

    def sent(self, payload: bytes) -> None:
        if payload[:4] in (b"ws:/", b"wss:"):
            category = urlsplit(payload.decode(errors="replace")).path.rpartition("/")[2]
            self._category = category if category in CATEGORIES else ""

    def read(self, payload: bytes, binary: bool) -> Reading | None:
        if binary:
            return noise(payload)
        try:
            frame = _decode_frame(payload)
            channel, _, symbol = frame.topic.rpartition(".")
            if not channel or not symbol:
                return None
            depth = channel.partition(".")[2] if channel.startswith("orderbook") else ""
            deep = depth in _DEPTHS
            ids: tuple[tuple[str, int], ...] = ()
            if depth:
                ids = ((f"{symbol} {channel} book", _decode_levels(frame.data).u),)
            elif channel == "publicTrade":
                _decode_trades(frame.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError):
            return noise(payload)
        names = (
            [frame.topic, *(f"orderbook.{other}.{symbol}" for other in _DEPTHS if other != depth)]
            if deep
            else [frame.topic]
        )
        categories = [self._category] if self._category else CATEGORIES
        topics = tuple(f"{category}/{name}" for name in names for category in categories)
        ts_event = frame.ts * _NS_PER_MS if frame.ts is not None else None
        return Reading(topics, f"{categories[0]}/{symbol}", f"{frame.type} {channel}", ts_event, ids, 0, len(payload))

    def add_body(self, resource: str, symbol: str, url: str, data: bytes) -> tuple[tuple[str, int], ...]:
        if resource.startswith("instruments-info"):
            self._list(data)
        return ()

    def _list(self, body: bytes) -> None:
        result = msgspec.json.decode(body)["result"]
        self._rows[result["category"]].update((row["symbol"], row) for row in result["list"])

    def attach(self, symbols: Sequence[str], timeline: Timeline) -> None:
        self._tracks.update(dict.fromkeys(symbols, timeline))

    def begin(self, symbols: Sequence[str]) -> None:
        gone = {name for name in self._books if name.partition(" ")[0] in symbols}
        for name in gone:
            del self._books[name]

    # stream

    def play(self, item: Item, lap: Lap) -> list[bytes]:
        kind, _, channel = item.reading.kind.partition(" ")
        if channel.startswith("kline") and not lap.exact:
            return []
        try:
            self._note(kind, channel, item, lap)
            return [item.data if lap.exact else _moved(item, channel, lap)]
        except (msgspec.MsgspecError, ValueError, ArithmeticError):
            return [item.data]  # recorded garbage stays what it was

    def _note(self, kind: str, channel: str, item: Item, lap: Lap) -> None:
        name = item.reading.symbol
        if channel == "publicTrade":
            candles = self._candles.setdefault(name, Klines())
            for trade in _decode_trades(_decode_frame(item.data).data):
                at = lap.time(trade.T * _NS_PER_MS) // _NS_PER_MS
                candles.add(at, trade.p, trade.v, trade.S == "Buy", (0, 0))
        elif channel.startswith("orderbook."):
            key = f"{name} {channel}"
            if kind == "snapshot":
                self._books[key] = _Book()
            if key in self._books:
                self._books[key].apply(_decode_levels(_decode_frame(item.data).data))

    def snapshot(self, category: str, topic: str) -> bytes | None:
        """Return the frame that begins `topic`, a book; None where there is none yet."""
        channel, _, symbol = topic.rpartition(".")
        wanted = [channel] if channel == "orderbook.1" else [channel, *(f"orderbook.{depth}" for depth in _DEPTHS)]
        for name in (f"{category}/{symbol}", f"{CATEGORIES[0]}/{symbol}"):
            for each in wanted if channel.startswith("orderbook.") else ():
                book, track = self._books.get(f"{name} {each}"), self._tracks.get(name)
                if book is not None and track is not None:
                    ts = track.now() // _NS_PER_MS
                    bids = sorted(book.bids.items(), key=lambda level: -float(level[0]))
                    asks = sorted(book.asks.items(), key=lambda level: float(level[0]))
                    last = track.lap.id(f"{symbol} {each} book", book.last)
                    data = {"s": symbol, "b": bids, "a": asks, "u": last, "seq": book.seq}
                    return _encode({"topic": topic, "type": "snapshot", "ts": ts, "data": data, "cts": ts})
        return None

    def conversation(self, path: str, query: Mapping[str, str]) -> Conversation:
        category = path.removeprefix("/v5/public/")
        if category not in CATEGORIES or category == path:
            raise Refused("no such path", 404)
        return BybitConversation(category, self._known, self.snapshot)

    def _known(self, name: str) -> bool:
        category, _, symbol = name.partition("/")
        return name in self._tracks or symbol in self._listing(category)

    # REST

    def rest(self, path: str, query: Mapping[str, str]) -> Answer:
        if path == "/v5/market/time":
            now = self.clock()
            return self._answer({"timeSecond": str(now // 10**9), "timeNano": str(now)})
        category = query.get("category", "spot" if path.endswith("/kline") else "")
        if path not in ("/v5/market/instruments-info", "/v5/market/kline"):
            return Answer(b"404 page not found", 404, {"Content-Type": "text/plain"})
        if category not in CATEGORIES:
            return self._answer({}, 10001, "Illegal category")
        return self._page(category, query) if path.endswith("-info") else self._bars(category, query)

    def weight(self, path: str, query: Mapping[str, str]) -> int:
        return 1

    def limited(self, status: int, retry_after_s: int) -> Answer:
        # Whoever asks too much is refused by 403, for at least ten minutes.
        return Answer(b"access too frequent", 403 if status == 418 else 429, {"Content-Type": "text/plain"})

    def _answer(self, result: object, code: int = 0, text: str = "OK") -> Answer:
        now = self.clock() // _NS_PER_MS
        return Answer(_encode({"retCode": code, "retMsg": text, "result": result, "retExtInfo": {}, "time": now}))

    def _listing(self, category: str) -> Mapping[str, Any]:
        if self.instruments is not None and self.instruments is not self._given:
            self._given = self.instruments
            self._list(self.instruments)
        return self._rows[category]

    def _page(self, category: str, query: Mapping[str, str]) -> Answer:
        rows = list(self._listing(category).values())
        start, size = int(query.get("cursor", "0")), min(int(query.get("limit", "500")), 1000)
        more = str(start + size) if start + size < len(rows) and category != "spot" else ""
        page = rows if category == "spot" else rows[start : start + size]
        return self._answer({"category": category, "list": page, "nextPageCursor": more})

    def _bars(self, category: str, query: Mapping[str, str]) -> Answer:
        symbol, interval = query.get("symbol", ""), _WORDS.get(query.get("interval", ""), "")
        name = f"{category}/{symbol}"
        if interval not in INTERVALS_MS or not self._known(name):
            return self._answer({}, 10001, "Not supported symbols or interval")
        try:
            since, until = (int(query[key]) if key in query else None for key in ("start", "end"))
            limit = min(int(query.get("limit", "200")), 1000)
        except ValueError:
            return self._answer({}, 10001, "params error")
        rows = []
        if name in self._candles:
            now = self._tracks[name].now() // _NS_PER_MS
            rows = self._candles[name].rows(interval, since, until, limit, now)
        listed = [
            [str(row.start), row.open, row.high, row.low, row.close, f"{row.volume:f}", f"{row.notional:f}"]
            for row in reversed(rows)
        ]
        return self._answer({"symbol": symbol, "category": category, "list": listed})


def _moved(item: Item, channel: str, lap: Lap) -> bytes:
    """Return a frame with its ids and times as told in `lap`, all other bytes as they were."""
    symbol = item.reading.symbol.partition("/")[2]

    def timed(match: re.Match[bytes]) -> bytes:
        return match[1] + b"%d" % (lap.time(int(match[2]) * _NS_PER_MS) // _NS_PER_MS)

    data = _FUNDING.sub(timed, _TIMES.sub(timed, item.data))
    if channel.startswith("orderbook"):
        space = f"{symbol} {channel} book"
        return _UPDATES.sub(lambda match: match[1] + b"%d" % lap.id(space, int(match[2])), data)
    # Trade ids are digits or UUIDs: a lap of its own makes either new.
    suffix = b"-%d" % lap.number if lap.number else b""
    return _TRADE_IDS.sub(lambda match: match[0] + suffix, data) if channel == "publicTrade" else data
