"""Binance spot, the venue's side: streams, requests and their answers, REST.

Documentation: https://developers.binance.com/docs/binance-spot-api-docs (web-socket-streams, rest-api)

In a lap that is not told as recorded, ids and times move in the text; candles (stream and REST) are built anew from the
trades, because a recorded one that is moved would not begin on its minute. REST has only what is recorded or follows
from it: a book that nobody recorded is answered by 503 and code -1001, the venue's internal error.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Raw, Struct

from feeds.dialects.base import Answer, Conversation, Dialect, Item, Lap, Reading, Refused, Rules, Timeline, noise
from feeds.dialects.binance_socket import BinanceConversation, VenueError
from feeds.dialects.binance_wire import HOLES, kline_event, kline_row, read_frame, rewrite, stream_names, told_ms
from feeds.dialects.books import RecordedBook, RecordedSnapshot
from feeds.dialects.klines import INTERVALS_MS, Klines, floor_ms

__all__ = ["BinanceDialect"]

PAGES: Final = frozenset({5, 10, 20, 50, 100, 500, 1000, 5000})
_SERVER_TIME = re.compile(rb'("serverTime"\s*:\s*)\d+')
_NS_PER_MS: Final = 1_000_000

_encode = msgspec.json.encode


class _Depth(Struct):
    lastUpdateId: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class _Diff(Struct):
    U: int
    u: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    pu: int | None = None


class _Trade(Struct):
    T: int
    p: str
    q: str
    m: bool
    f: int | None = None
    l: int | None = None  # noqa: E741 - the venue's name
    t: int = 0


class _Listed(Struct):
    symbol: str


_decode_depth = msgspec.json.Decoder(_Depth).decode
_decode_diff = msgspec.json.Decoder(_Diff).decode
_decode_trade = msgspec.json.Decoder(_Trade).decode
_decode_listed = msgspec.json.Decoder(_Listed).decode
_decode_rows = msgspec.json.Decoder(list[list[Any]]).decode  # rows of texts and numbers, passed on as they are


class BinanceDialect(Dialect):
    """See feeds/dialects/base.py."""

    venue = "binance"
    rules = Rules(messages_per_s=5, streams=1024, ping_s=20, rest_weight=6000)
    holes = HOLES
    pages: ClassVar[frozenset[int]] = PAGES
    _path: ClassVar[str] = r"/api/v[13]/(\w+)"
    _resources: ClassVar[dict[str, str]] = {
        "ping": "_ping", "time": "_time", "exchangeInfo": "_exchange_info", "depth": "_depth", "klines": "_klines",
    }  # fmt: skip

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self._named: set[str] = set()
        self._aggregated: set[str] = set()
        self._tracks: dict[str, Timeline] = {}
        self._books: dict[str, RecordedBook] = {}
        self._candles: dict[str, Klines] = {}
        self._history: dict[tuple[str, str], dict[int, list[Any]]] = {}
        self._announced: dict[tuple[str, str], int] = {}
        self._listed: dict[str, Raw] | None = None

    # recordings

    def sent(self, payload: bytes) -> None:
        self._named.update(stream_names(payload))

    def read(self, payload: bytes, binary: bool) -> Reading | None:
        reading = noise(payload) if binary else read_frame(payload, self._named)
        if reading is not None and reading.kind == "aggTrade":
            self._aggregated.add(reading.symbol)
        return reading

    def add_body(self, resource: str, symbol: str, url: str, data: bytes) -> tuple[tuple[str, int], ...]:
        query = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
        if resource == "depth":
            depth = _decode_depth(data)
            asked = query.get("limit", "")
            limit = int(asked) if asked.isdecimal() else 0
            book = self._books.setdefault(symbol, RecordedBook(self.pages))
            book.add(RecordedSnapshot(depth.lastUpdateId, depth.bids, depth.asks, limit, data))
            return ((f"{symbol} book", depth.lastUpdateId),)
        if resource == "klines" and query.get("interval") in INTERVALS_MS:
            rows = self._history.setdefault((symbol, query["interval"]), {})
            rows.update((int(row[0]), row) for row in _decode_rows(data))
        return ()

    def attach(self, symbols: Sequence[str], timeline: Timeline) -> None:
        self._tracks.update(dict.fromkeys(symbols, timeline))

    def begin(self, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            if symbol in self._books:
                self._books[symbol].reset()

    # streams

    def play(self, item: Item, lap: Lap) -> list[bytes]:
        reading = item.reading
        try:
            if reading.kind == "kline" and not lap.exact:
                return self._kline_events(item, lap)
            data = item.data if lap.exact else rewrite(item.data, reading.kind, reading.symbol, lap)
            self._note(reading, item.data, data)
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError, ArithmeticError):
            return [item.data]  # recorded garbage stays what it was
        return [data]

    def _note(self, reading: Reading, recorded: bytes, told: bytes) -> None:
        symbol, kind = reading.symbol, reading.kind
        if kind == "depthUpdate" and symbol in self._books:
            diff = _decode_diff(recorded)
            first = diff.U if diff.pu is None else diff.pu + 1
            self._books[symbol].apply(first, diff.u, diff.b, diff.a)
        elif kind == "aggTrade" or (kind == "trade" and symbol not in self._aggregated):
            trade = _decode_trade(told)
            first, last = (trade.t, trade.t) if trade.f is None or trade.l is None else (trade.f, trade.l)
            candles = self._candles.setdefault(symbol, Klines())
            candles.add(trade.T, trade.p, trade.q, not trade.m, (first, last))

    def _kline_events(self, item: Item, lap: Lap) -> list[bytes]:
        """Tell the open candle anew, and before it the last one told, closed, where a new one began."""
        recorded = msgspec.json.decode(item.data)
        symbol, interval = item.reading.symbol, recorded["k"]["i"]
        now = told_ms(recorded["E"], lap)
        candles = self._candles.get(symbol)
        row = candles.at(interval, now) if candles is not None else None
        if candles is None or row is None:
            return []
        rows = [row]
        told = self._announced.get((symbol, interval), row.start)
        if told < row.start and (closed := candles.at(interval, told)) is not None:
            rows.insert(0, closed)
        self._announced[symbol, interval] = row.start
        return [kline_event(symbol, interval, now, each, closed=each is not row) for each in rows]

    def conversation(self, path: str, query: Mapping[str, str]) -> Conversation:
        if path == "/stream":
            names, combined = query.get("streams", ""), True
        elif path == "/ws" or path.startswith("/ws/"):
            names, combined = path[4:], False
        else:
            raise Refused("no such path", 404)
        return BinanceConversation([name for name in names.split("/") if name], combined, self.rules.streams)

    # REST

    def rest(self, path: str, query: Mapping[str, str]) -> Answer:
        match = re.fullmatch(self._path, path)
        name = self._resources.get(match[1]) if match else None
        if name is None:
            return Answer(b"<html><body><h2>404 Not found</h2></body></html>", 404, {"Content-Type": "text/html"})
        try:
            return Answer(getattr(self, name)(query))
        except VenueError as error:
            return Answer(_encode({"code": error.code, "msg": error.text}), error.status)

    def weight(self, path: str, query: Mapping[str, str]) -> int:
        resource = path.rpartition("/")[2]
        if resource == "depth":
            asked = query.get("limit", "")
            limit = int(asked) if asked.isdecimal() else 100
            return 5 if limit <= 100 else 25 if limit <= 500 else 50 if limit <= 1000 else 250
        return {"exchangeInfo": 20, "klines": 2}.get(resource, 1)

    def limited(self, status: int, retry_after_s: int) -> Answer:
        text = "Way too much request weight used; IP banned until later" if status == 418 else "Too many requests"
        return Answer(_encode({"code": -1003, "msg": text}), status, {"Retry-After": str(retry_after_s)})

    def used(self, weight: int) -> dict[str, str]:
        return {"X-MBX-USED-WEIGHT": str(weight), "X-MBX-USED-WEIGHT-1M": str(weight)}

    def _ping(self, query: Mapping[str, str]) -> bytes:
        return b"{}"

    def _time(self, query: Mapping[str, str]) -> bytes:
        return _encode({"serverTime": self.clock() // _NS_PER_MS})

    def _exchange_info(self, query: Mapping[str, str]) -> bytes:
        if self.instruments is None:
            raise VenueError(-1001, "Internal error; no exchangeInfo is recorded.", 503)
        body = self.instruments
        if "symbol" in query or "symbols" in query:
            names = [query["symbol"]] if "symbol" in query else _names(query["symbols"])
            rows = [self._row(name) for name in names]
            parts = msgspec.json.decode(body, type=dict[str, Raw])
            parts["symbols"] = Raw(_encode(rows))
            body = _encode(parts)
        if any(not track.lap.exact for track in self._tracks.values()):
            body = _SERVER_TIME.sub(rb"\g<1>%d" % (self.clock() // _NS_PER_MS), body)
        return body

    def _rows(self) -> dict[str, Raw]:
        if self._listed is None:
            parts = msgspec.json.decode(self.instruments, type=dict[str, Raw]) if self.instruments else {}
            rows = msgspec.json.decode(parts["symbols"], type=list[Raw]) if "symbols" in parts else []
            self._listed = {_decode_listed(row).symbol: row for row in rows}
        return self._listed

    def _row(self, symbol: str) -> Raw:
        try:
            return self._rows()[symbol]
        except KeyError:
            raise VenueError(-1121, "Invalid symbol.") from None

    def _symbol(self, query: Mapping[str, str]) -> str:
        symbol = query.get("symbol", "")
        if not symbol:
            raise VenueError(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        if symbol not in self._tracks and symbol not in self._books and symbol not in self._rows():
            if not any(symbol == known for known, _ in self._history):
                raise VenueError(-1121, "Invalid symbol.")
        return symbol

    def _depth(self, query: Mapping[str, str]) -> bytes:
        symbol = self._symbol(query)
        limit = min(_number(query, "limit", 100) or 100, 5000)
        book = self._books[symbol].current(limit) if symbol in self._books else None
        if book is None:
            raise VenueError(-1001, "Internal error; this book is not recorded.", 503)
        lap = self._tracks[symbol].lap if symbol in self._tracks else None
        exact = lap is None or lap.exact
        if book.body is not None and exact:
            return book.body
        last = book.last if lap is None else lap.id(f"{symbol} book", book.last)
        return _encode(_Depth(last, list(book.bids), list(book.asks)))

    def _klines(self, query: Mapping[str, str]) -> bytes:
        symbol = self._symbol(query)
        interval = query.get("interval", "")
        if interval not in INTERVALS_MS:
            raise VenueError(-1120, "Invalid interval.")
        limit = min(_number(query, "limit", 500) or 500, 1000)
        since, until = (_number(query, key, None) for key in ("startTime", "endTime"))
        track = self._tracks.get(symbol)
        rows = self._recorded_rows(symbol, interval, since, until)
        if symbol in self._candles and track is not None:
            now = track.now() // _NS_PER_MS
            built = self._candles[symbol].rows(interval, since, until, limit, now)
            rows.update((row.start, kline_row(row, interval)) for row in built)
        ordered = [rows[start] for start in sorted(rows)]
        return _encode(ordered[-limit:] if since is None else ordered[:limit])

    def _recorded_rows(self, symbol: str, interval: str, since: int | None, until: int | None) -> dict[int, list[Any]]:
        """Return recorded candles by their start; a lap that is moved moves them by whole intervals."""
        track = self._tracks.get(symbol)
        rows: dict[int, list[Any]] = {}
        for start, row in self._history.get((symbol, interval), {}).items():
            told = start if track is None or track.lap.exact else floor_ms(told_ms(start, track.lap), interval)
            if (since is None or told >= since) and (until is None or told <= until):
                rows[told] = [told, *row[1:6], row[6] + told - start, *row[7:]]
        return rows


def _number(query: Mapping[str, str], key: str, default: int | None) -> int | None:
    text = query.get(key)
    if text is None or text == "":
        return default
    if not re.fullmatch(r"[0-9]{1,20}", text):
        raise VenueError(-1100, f"Illegal characters found in parameter '{key}'; legal range is '^[0-9]{{1,20}}$'.")
    return int(text)


def _names(text: str) -> list[str]:
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.MsgspecError:
        raise VenueError(-1100, "Illegal characters found in parameter 'symbols'.") from None
