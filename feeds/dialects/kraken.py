"""Kraken spot, the venue's side of WebSocket v2: channels, acknowledgements, heartbeats, books with snapshots, REST.

Documentation: https://docs.kraken.com/api/docs/websocket-v2/book, https://docs.kraken.com/api/docs/rest-api

A book is told in the depth that was recorded, and its acknowledgement says so, whatever depth was asked for. A client
that subscribes later gets a snapshot of the book as it stands. Recordings of v1 are not spoken: they need v1's server.
"""

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Raw, Struct, field

from feeds.dialects.base import Answer, Conversation, Dialect, Item, Lap, Reading, Refused, Rules, Timeline, noise
from feeds.dialects.klines import INTERVALS_MS, Klines
from feeds.dialects.kraken_socket import DEPTHS, KrakenConversation

__all__ = ["KrakenDialect"]

_CHANNELS: Final = frozenset({"book", "trade", "ticker"})
_MINUTES: Final = {"1": "1m", "5": "5m", "15": "15m", "30": "30m", "60": "1h", "240": "4h", "1440": "1d"}
_TIMES: Final = re.compile(rb'("timestamp"\s*:\s*")([^"]+)(")')
_TRADES: Final = re.compile(rb'("trade_id"\s*:\s*)(\d+)')
_V1: Final = {"XBT": "BTC", "XDG": "DOGE"}
_CANDLES_MAX: Final = 720
_NS_PER_MS: Final = 1_000_000

_encode = msgspec.json.encode


class _Level(Struct):
    price: Raw
    qty: Raw


class _Item(Struct):
    symbol: str = ""
    bids: list[_Level] = []
    asks: list[_Level] = []
    timestamp: str = ""
    price: Raw = field(default_factory=Raw)
    qty: Raw = field(default_factory=Raw)
    side: str = ""
    trade_id: int = 0


class _Frame(Struct):
    channel: str = ""
    type: str = ""
    method: str = ""
    data: Raw = field(default_factory=Raw)
    result: dict[str, Any] | None = None


class _Pair(Struct):
    wsname: str = ""


class _Pairs(Struct):
    result: dict[str, _Pair] = {}


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_items = msgspec.json.Decoder(list[_Item]).decode
_decode_pairs = msgspec.json.Decoder(_Pairs).decode


class _Book:
    """A book in the venue's digits, cut to its depth."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
        self.at = ""

    def apply(self, item: _Item) -> None:
        self.at = item.timestamp
        for place, (side, levels) in enumerate(zip(self.sides, (item.bids, item.asks), strict=True)):
            for level in levels:
                price, size = bytes(level.price).decode(), bytes(level.qty).decode()
                if float(size):
                    side[price] = size
                else:
                    side.pop(price, None)
            for price, _ in self.best(place)[self.depth :]:
                del side[price]

    def best(self, place: int) -> list[tuple[str, str]]:
        return sorted(self.sides[place].items(), key=lambda level: float(level[0]), reverse=place == 0)

    def told(self, symbol: str) -> bytes:
        """Return the frame of a snapshot, with the time of the book: a later one would lie behind what follows."""
        bids, asks = self.best(0), self.best(1)
        parts = [text.replace(".", "").lstrip("0") for level in asks[:10] + bids[:10] for text in level]
        rows = [",".join(f'{{"price":{price},"qty":{size}}}' for price, size in side) for side in (bids, asks)]
        return (
            f'{{"channel":"book","type":"snapshot","data":[{{"symbol":"{symbol}","bids":[{rows[0]}],"asks":[{rows[1]}],'
            f'"checksum":{zlib.crc32("".join(parts).encode())},"timestamp":"{self.at}"}}]}}'
        ).encode()


class KrakenDialect(Dialect):
    """See feeds/dialects/base.py."""

    venue = "kraken"
    rules = Rules(messages_per_s=20, streams=2000, ping_s=1, rest_weight=60)
    _resources: ClassVar[dict[str, str]] = {
        "AssetPairs": "_pairs", "OHLC": "_ohlc", "Time": "_time", "SystemStatus": "_status",
    }  # fmt: skip

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self._tracks: dict[str, Timeline] = {}
        self._depths: dict[str, int] = {}
        self._books: dict[str, _Book] = {}
        self._candles: dict[str, Klines] = {}
        self._listed: frozenset[str] | None = None

    # recordings

    def read(self, payload: bytes, binary: bool) -> Reading | None:
        if payload[:1] == b"[":
            return None
        try:
            frame = _decode_frame(payload)
            if frame.method == "subscribe" and frame.result and frame.result.get("channel") == "book":
                self._depths[str(frame.result.get("symbol"))] = int(frame.result.get("depth") or DEPTHS[0])
            if frame.channel not in _CHANNELS:
                return None
            items = _decode_items(frame.data)
            symbols = {item.symbol for item in items}
            times = [ns_of(item.timestamp) for item in items if item.timestamp]
            ids = [(f"{item.symbol} trade", item.trade_id) for item in items if frame.channel == "trade"]
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
            return noise(payload)
        if frame.channel == "book" and frame.type == "snapshot":
            for item in items:
                levels = max(len(item.bids), len(item.asks))
                self._depths.setdefault(item.symbol, next((depth for depth in DEPTHS if depth >= levels), levels))
        topics = tuple(f"{frame.channel}:{symbol}" for symbol in symbols)
        symbol = symbols.pop() if len(symbols) == 1 else ""
        return Reading(topics, symbol, frame.channel, max(times, default=None), tuple(ids), 0, len(payload))

    def add_body(self, resource: str, symbol: str, url: str, data: bytes) -> tuple[tuple[str, int], ...]:
        return ()

    def attach(self, symbols: Sequence[str], timeline: Timeline) -> None:
        self._tracks.update(dict.fromkeys(symbols, timeline))

    def begin(self, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            self._books.pop(symbol, None)

    # channels

    def play(self, item: Item, lap: Lap) -> list[bytes]:
        try:
            data = item.data if lap.exact else _moved(item.data, item.reading.symbol, lap)
            self._note(item.reading.kind, data)
        except (msgspec.MsgspecError, ValueError, ArithmeticError):
            return [item.data]  # recorded garbage stays what it was
        return [data]

    def _note(self, kind: str, data: bytes) -> None:
        if kind not in ("book", "trade"):
            return
        frame = _decode_frame(data)
        for each in _decode_items(frame.data):
            if kind == "book":
                if frame.type == "snapshot":
                    self._books[each.symbol] = _Book(self._depths[each.symbol])
                if each.symbol in self._books:
                    self._books[each.symbol].apply(each)
            else:
                candles = self._candles.setdefault(each.symbol, Klines())
                price, size = bytes(each.price).decode(), bytes(each.qty).decode()
                ms, number = ns_of(each.timestamp) // _NS_PER_MS, each.trade_id
                candles.add(ms, price, size, each.side == "buy", (number, number))

    def snapshot(self, symbol: str) -> bytes | None:
        """Return the frame that a book begins with; None where it is not known, or is yet to be played."""
        book = self._books.get(symbol)
        return book.told(symbol) if book is not None else None

    def depth(self, symbol: str, asked: int) -> int:
        """Return the depth in which the book of `symbol` is told."""
        return self._depths.get(symbol, asked)

    def known(self, symbol: str) -> bool:
        if self._listed is None:
            rows = _decode_pairs(self.instruments).result.values() if self.instruments else ()
            self._listed = frozenset(_v2(row.wsname) for row in rows)
        return symbol in self._tracks or symbol in self._listed

    def now(self) -> str:
        return text_of(self.clock())

    def conversation(self, path: str, query: Mapping[str, str]) -> Conversation:
        if path != "/v2":
            raise Refused("no such path", 404)
        return KrakenConversation(self)

    # REST

    def rest(self, path: str, query: Mapping[str, str]) -> Answer:
        head, _, name = path.rpartition("/")
        if head != "/0/public" or name not in self._resources:
            return _error("EGeneral:Unknown method", 404)
        return Answer(getattr(self, self._resources[name])(query))

    def weight(self, path: str, query: Mapping[str, str]) -> int:
        return 1

    def limited(self, status: int, retry_after_s: int) -> Answer:
        return _error("EGeneral:Too many requests", 429)

    def _pairs(self, query: Mapping[str, str]) -> bytes:
        return self.instruments if self.instruments is not None else _error("EService:Unavailable").body

    def _time(self, query: Mapping[str, str]) -> bytes:
        return _result({"unixtime": self.clock() // 1_000_000_000})

    def _status(self, query: Mapping[str, str]) -> bytes:
        return _result({"status": "online", "timestamp": self.now()})

    def _ohlc(self, query: Mapping[str, str]) -> bytes:
        interval = _MINUTES.get(query.get("interval", "1"))
        pair = query.get("pair", "")
        symbol = next((name for name in self._tracks if _altname(name) == pair or name == _v2(pair)), "")
        if interval is None or not symbol:
            return _error("EGeneral:Invalid arguments" if interval is None else "EQuery:Unknown asset pair").body
        now = self._tracks[symbol].now() // _NS_PER_MS
        candles = self._candles.get(symbol)
        rows = candles.rows(interval, None, None, _CANDLES_MAX, now) if candles is not None else []
        told = [
            [
                row.start // 1000, row.open, row.high, row.low, row.close,
                f"{row.notional / row.volume:.8f}" if row.volume else "0.0", f"{row.volume:f}", row.trades,
            ]
            for row in rows
        ]  # fmt: skip
        last = (now - INTERVALS_MS[interval]) // 1000
        return _result({pair: told, "last": last})


def ns_of(text: str) -> int:
    """Read a time of the venue, microseconds at the finest."""
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def text_of(ns: int) -> str:
    """Write int ns as the venue does."""
    return (
        datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ns // 1000 % 10**6:06d}Z"
    )


def _moved(data: bytes, symbol: str, lap: Lap) -> bytes:
    """Return a frame with its ids and times as told in `lap`, all other bytes as they were."""
    data = _TIMES.sub(lambda match: match[1] + text_of(lap.time(ns_of(match[2].decode()))).encode() + match[3], data)
    return _TRADES.sub(lambda match: match[1] + b"%d" % lap.id(f"{symbol} trade", int(match[2])), data)


def _v2(pair: str) -> str:
    return "/".join(_V1.get(asset, asset) for asset in pair.split("/"))


def _altname(symbol: str) -> str:
    old = {name: word for word, name in _V1.items()}
    return "".join(old.get(asset, asset) for asset in symbol.split("/"))


def _result(result: object) -> bytes:
    return _encode({"error": [], "result": result})


def _error(text: str, status: int = 200) -> Answer:
    return Answer(_encode({"error": [text]}), status)
