"""HTX, the venue's side: topics, gzip frames, pings, requests for books, REST.

Documentation: https://huobiapi.github.io/docs/spot/v1/en/, https://huobiapi.github.io/docs/usdt_swap/v1/en/

Recorded are mostly whole books (`depth.step0`). What follows from them is told too: best prices (`bbo`), and changes
with numbers of their own: `mbp.150` on `/feed`, `depth.size_150.high_freq` for contracts. Lists of instruments are told
in the form that was recorded, whatever version was asked for; a list that nobody recorded is empty.
"""

import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from feeds.dialects.base import Answer, Conversation, Dialect, Item, Lap, Reading, Refused, Rules, Timeline, noise
from feeds.dialects.htx_book import RecordedBook
from feeds.dialects.htx_socket import HtxConversation
from feeds.dialects.klines import INTERVALS_MS, Klines

__all__ = ["HtxDialect"]

PATHS: Final = ("/ws", "/feed", "/linear-swap-ws", "/swap-ws", "/ws_index")
_PERIODS: Final = {
    "1min": "1m", "5min": "5m", "15min": "15m", "30min": "30m", "60min": "1h", "4hour": "4h", "1day": "1d",
}  # fmt: skip
_LISTS: Final = {
    "/v2/settings/common/symbols": "spot",
    "/v1/common/symbols": "spot",
    "/linear-swap-api/v1/swap_contract_info": "linear-swap",
    "/swap-api/v1/swap_contract_info": "coin-swap",
    "/api/v1/contract_contract_info": "futures",
}
_NS_PER_MS: Final = 1_000_000
_UNREADABLE = (msgspec.MsgspecError, ValueError, TypeError, KeyError, AttributeError, RecursionError, zlib.error)

_encode = msgspec.json.encode
_decode = msgspec.json.decode


class HtxDialect(Dialect):
    """See feeds/dialects/base.py."""

    venue = "htx"
    rules = Rules(messages_per_s=20, streams=1000, ping_s=5, rest_weight=600)

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self._tracks: dict[str, Timeline] = {}
        self._books: dict[str, RecordedBook] = {}
        self._quoted: set[str] = set()
        self._candles: dict[str, Klines] = {}
        self._lists: dict[str, bytes] = {}
        self._names: frozenset[str] | None = None
        self.told: dict[str, bytes] = {}
        """topic -> what the item being played is in this form"""

    # recordings

    def read(self, payload: bytes, binary: bool) -> Reading | None:
        try:
            frame = _decode(unpacked(payload))
            if not isinstance(frame, dict) or not ("ch" in frame or "rep" in frame):
                return None
            return self._reading(frame, len(payload))
        except _UNREADABLE:
            return noise(payload)

    def _reading(self, frame: dict[str, Any], size: int) -> Reading | None:
        topic: str = frame.get("ch") or frame["rep"]
        symbol, channel = parts(topic)
        ts_event = int(frame["ts"]) * _NS_PER_MS if "ts" in frame else None
        topics: tuple[str, ...] = (topic,)
        ids: tuple[tuple[str, int], ...] = ()
        if "rep" in frame:
            topics = ()  # an answer to the recorder alone: it tells what the book was
        elif channel == "trade.detail":
            rows = frame["tick"]["data"]
            ids = tuple((f"{symbol} trade", int(row.get("tradeId", row["id"]))) for row in rows)
        elif channel == "depth.step0":
            topics = tuple(f"market.{symbol}.{form}" for form in RecordedBook.FORMS)
        elif channel == "bbo":
            self._quoted.add(symbol)
        return Reading(topics, symbol, channel, ts_event, ids, 0, size)

    def add_body(self, resource: str, symbol: str, url: str, data: bytes) -> tuple[tuple[str, int], ...]:
        name = next((name for path, name in _LISTS.items() if path in url), None)
        if name is not None:
            self._lists[name] = data
        return ()

    def attach(self, symbols: Sequence[str], timeline: Timeline) -> None:
        self._tracks.update(dict.fromkeys(symbols, timeline))

    def begin(self, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            if symbol in self._books:
                self._books[symbol].reset()

    # topics

    def play(self, item: Item, lap: Lap) -> list[bytes]:
        self.told = {}
        try:
            text = unpacked(item.payload)
            frame = _decode(text)
            if not lap.exact:
                _move(frame, item.reading.symbol, lap)
                text = _encode(frame)
            self._note(frame, item.reading)
        except _UNREADABLE:
            return [item.data]  # recorded garbage stays what it was
        return [text]

    def _note(self, frame: dict[str, Any], reading: Reading) -> None:
        symbol, channel = reading.symbol, reading.kind
        if channel == "trade.detail":
            candles = self._candles.setdefault(symbol, Klines())
            for row in frame["tick"]["data"]:
                number = int(row.get("tradeId", row["id"]))
                amount = row["amount"] if "tradeId" in row else row.get("quantity", row["amount"])
                size, price = f"{amount:.10f}", f"{row['price']:.10f}"
                candles.add(row["ts"], price, size, row["direction"] == "buy", (number, number))
        elif channel == "depth.step0" or channel.startswith("mbp.") or channel.endswith(".high_freq"):
            book = self._books.setdefault(symbol, RecordedBook(symbol))
            self.told = book.play(channel, frame, quotes=symbol not in self._quoted)

    def book(self, symbol: str) -> RecordedBook | None:
        """Return the book of `symbol` as it stands; None where none was played yet."""
        found = self._books.get(symbol)
        return found if found is not None and found.known else None

    def known(self, symbol: str) -> bool:
        if self._names is None:
            bodies = [*self._lists.values(), *([self.instruments] if self.instruments is not None else [])]
            rows = [row for body in bodies for row in _decode(body)["data"]]
            self._names = frozenset(row.get("contract_code") or row.get("sc") or row["symbol"] for row in rows)
        return symbol in self._tracks or symbol in self._names

    def conversation(self, path: str, query: Mapping[str, str]) -> Conversation:
        if path not in PATHS:
            raise Refused("no such path", 404)
        return HtxConversation(self, path)

    def now_ms(self) -> int:
        return self.clock() // _NS_PER_MS

    # REST

    def rest(self, path: str, query: Mapping[str, str]) -> Answer:
        if path in _LISTS:
            return Answer(self._listing(_LISTS[path]))
        if path.endswith("/market/history/kline"):
            return Answer(self._klines(query))
        if path == "/v1/common/timestamp":
            return Answer(_encode({"status": "ok", "data": self.now_ms()}))
        return Answer(_error("invalid-parameter", "unknown path"), 404)

    def weight(self, path: str, query: Mapping[str, str]) -> int:
        return 1

    def limited(self, status: int, retry_after_s: int) -> Answer:
        # The venue names no time to wait.
        return Answer(_error("too-many-request", "exceeded the rate limit"), 429)

    def _listing(self, name: str) -> bytes:
        if name in self._lists:
            return self._lists[name]
        if self.instruments is not None and self.instruments not in self._lists.values():
            contracts = b'"contract_code"' in self.instruments
            if (name == "spot") is not contracts:
                return self.instruments
        return _encode({"status": "ok", "data": [], "ts": self.now_ms()})

    def _klines(self, query: Mapping[str, str]) -> bytes:
        symbol = query.get("symbol") or query.get("contract_code") or ""
        interval, size = _PERIODS.get(query.get("period", "")), query.get("size", "150")
        if not self.known(symbol):
            return _error("invalid-parameter", "invalid symbol")
        if interval is None or not size.isdecimal() or not 1 <= int(size) <= 2000:
            return _error("invalid-parameter", "invalid period or size")
        candles, track = self._candles.get(symbol), self._tracks.get(symbol)
        now = track.now() // _NS_PER_MS if track is not None else 0
        rows = candles.rows(interval, now - int(size) * INTERVALS_MS[interval], None, int(size), now) if candles else []
        told = [
            {
                "id": row.start // 1000, "open": float(row.open), "close": float(row.close), "low": float(row.low),
                "high": float(row.high), "amount": float(row.volume), "vol": float(row.notional), "count": row.trades,
                "trade_turnover": float(row.notional),
            }
            for row in reversed(rows)
        ]  # fmt: skip
        topic = f"market.{symbol}.kline.{query['period']}"
        return _encode({"ch": topic, "status": "ok", "ts": self.now_ms(), "data": told})


def unpacked(payload: bytes) -> bytes:
    return gzip.decompress(payload) if payload[:2] == b"\x1f\x8b" else payload


def parts(topic: str) -> tuple[str, str]:
    """Return symbol and channel of a topic."""
    symbol, _, channel = topic.partition(".")[2].partition(".")
    return symbol, channel


def _move(frame: dict[str, Any], symbol: str, lap: Lap) -> None:
    """Tell a frame's times and trade ids as in `lap`."""
    tick = frame.get("tick")
    rows = tick.get("data", []) if isinstance(tick, dict) else []
    for row in rows:
        name = "tradeId" if "tradeId" in row else "id"
        row[name] = lap.id(f"{symbol} trade", int(row[name]))
    for part in (frame, tick, *rows):
        if isinstance(part, dict) and isinstance(part.get("ts"), int):
            part["ts"] = lap.time(part["ts"] * _NS_PER_MS) // _NS_PER_MS


def _error(code: str, text: str) -> bytes:
    return _encode({"status": "error", "err-code": code, "err-msg": text, "data": None})
