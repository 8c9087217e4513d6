"""OKX, the venue's side: channels, acknowledgements, books with their snapshots in the stream, lists over REST.

Documentation: https://www.okx.com/docs-v5/en/

A subscription to a book is answered by a snapshot of it as it stands, unless the recorded one is still to come. The
400 levels every 10 ms, which want a login by now and are what was recorded, are told as `books` too: their form is the
same. Candles of REST are built from the trades; recorded candle pushes are told only in a lap told as recorded.
"""

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Raw, Struct, field

from feeds.dialects.base import Answer, Conversation, Dialect, Item, Lap, Reading, Refused, Rules, Timeline, noise
from feeds.dialects.klines import INTERVALS_MS, Klines
from feeds.dialects.okx_socket import OkxConversation

__all__ = ["OkxDialect"]

#: channel -> names under which clients may have subscribed to it
_ALIASES: Final = {"books-l2-tbt": ("books-l2-tbt", "books")}
#: channels whose `seqId` counts the messages of the book
_SEQUENCED: Final = ("books", "books-l2-tbt", "books50-l2-tbt", "bbo-tbt")
_FULL: Final = _SEQUENCED[:3]
_TIMES: Final = re.compile(rb'("(?:ts|fundingTime|nextFundingTime)":")(\d+)')
_TRADES: Final = re.compile(rb'("tradeId":")(\d+)')
_SEQUENCES: Final = re.compile(rb'("(?:seqId|prevSeqId)":)(\d+)')
_BARS: Final = {"1H": "1h", "2H": "2h", "4H": "4h", "6Hutc": "6h", "12Hutc": "12h", "1Dutc": "1d"}
_NS_PER_MS: Final = 1_000_000

_encode = msgspec.json.encode


class _Arg(Struct):
    channel: str = ""
    instId: str = ""


class _Frame(Struct):
    arg: _Arg = field(default_factory=_Arg)
    data: Raw = field(default_factory=Raw)
    event: str = ""
    action: str = ""


class _Item(Struct):
    ts: str = ""
    tradeId: str = ""
    px: str = ""
    sz: str = ""
    side: str = ""
    bids: list[list[str]] = []
    asks: list[list[str]] = []
    checksum: int = 0
    seqId: int = 0
    prevSeqId: int = 0


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_items = msgspec.json.Decoder(list[_Item]).decode


class _Book:
    """A book in the venue's rows, by price."""

    def __init__(self) -> None:
        self.bids: dict[str, list[str]] = {}
        self.asks: dict[str, list[str]] = {}
        self.last = 0
        self.checked = False

    def apply(self, item: _Item) -> None:
        for side, rows in ((self.bids, item.bids), (self.asks, item.asks)):
            for row in rows:
                if float(row[1]):
                    side[row[0]] = row
                else:
                    side.pop(row[0], None)
        self.last, self.checked = item.seqId, item.checksum != 0

    def told(self, ts: int, seq: int) -> bytes:
        """Return a snapshot (`ts` unix ms)."""
        bids = sorted(self.bids.values(), key=lambda row: -float(row[0]))
        asks = sorted(self.asks.values(), key=lambda row: float(row[0]))
        levels = [row for pair in zip_longest(bids[:25], asks[:25]) for row in pair if row is not None]
        crc = zlib.crc32(":".join(f"{row[0]}:{row[1]}" for row in levels).encode())
        sums = {"checksum": (crc - (1 << 32) if crc >> 31 else crc) if self.checked else 0}
        numbers = {"seqId": seq, "prevSeqId": -1} if self.last else {}
        return _encode({"asks": asks, "bids": bids, "ts": str(ts), **sums, **numbers})


class OkxDialect(Dialect):
    """See feeds/dialects/base.py."""

    venue = "okx"
    rules = Rules(messages_per_s=10, streams=10_000, ping_s=20, rest_weight=1200)
    #: The book at the start of a lap does not follow from the one at its end.
    holes: ClassVar[dict[str, int]] = {"book": 1000}

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self._tracks: dict[str, Timeline] = {}
        self._books: dict[str, _Book] = {}
        self._candles: dict[str, Klines] = {}
        self._rows: dict[str, Mapping[str, Any]] = {}
        self._given = b""

    # recordings

    def read(self, payload: bytes, binary: bool) -> Reading | None:
        if binary:
            return noise(payload)
        if payload == b"pong":
            return None
        try:
            frame = _decode_frame(payload)
            data = bytes(frame.data)
            channel, name = frame.arg.channel, frame.arg.instId
            if frame.event or not data or not channel or not name:
                return None
            start = payload.rindex(data)
            items = [] if "candle" in channel else _decode_items(data)
            times = [int(item.ts) for item in items if item.ts]
            ids = [number for item in items for number in _ids(channel, name, item)]
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError):
            return noise(payload)
        topics = tuple(f"{alias}:{name}" for alias in _ALIASES.get(channel, (channel,)))
        symbol = "" if channel.startswith("index-") else name
        ts_event = max(times) * _NS_PER_MS if times else None
        return Reading(topics, symbol, frame.action or channel, ts_event, tuple(ids), start, start + len(data))

    def add_body(self, resource: str, symbol: str, url: str, data: bytes) -> tuple[tuple[str, int], ...]:
        if resource == "instruments":
            self._list(data)
        return ()

    def _list(self, body: bytes) -> None:
        self._rows.update((row["instId"], row) for row in msgspec.json.decode(body)["data"])

    def attach(self, symbols: Sequence[str], timeline: Timeline) -> None:
        self._tracks.update(dict.fromkeys(symbols, timeline))

    def begin(self, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            self._books.pop(symbol, None)

    # stream

    def play(self, item: Item, lap: Lap) -> list[bytes]:
        channel, _, name = item.reading.topics[0].partition(":")
        if "candle" in channel and not lap.exact:
            return []
        try:
            self._note(channel, name, item, lap)
            return [item.data if lap.exact else _moved(item.data, channel, name, lap)]
        except (msgspec.MsgspecError, ValueError, IndexError, ArithmeticError):
            return [item.data]  # recorded garbage stays what it was

    def _note(self, channel: str, name: str, item: Item, lap: Lap) -> None:
        if channel in _FULL:
            if item.reading.kind == "snapshot":
                self._books[name] = _Book()
            if name in self._books:
                for each in _decode_items(item.data):
                    self._books[name].apply(each)
        elif channel == "trades":
            candles = self._candles.setdefault(name, Klines())
            for each in _decode_items(item.data):
                at = lap.time(int(each.ts) * _NS_PER_MS) // _NS_PER_MS
                candles.add(at, each.px, each.sz, each.side == "buy", (int(each.tradeId), int(each.tradeId)))

    def snapshot(self, name: str) -> bytes | None:
        """Return the book of `name` as it stands; None where it is not known yet."""
        book, track = self._books.get(name), self._tracks.get(name)
        if book is None or track is None:
            return None
        return book.told(track.now() // _NS_PER_MS, track.lap.id(f"{name} book", book.last))

    def conversation(self, path: str, query: Mapping[str, str]) -> Conversation:
        if path not in ("/ws/v5/public", "/ws/v5/business"):
            raise Refused("no such path", 404)
        return OkxConversation(path.endswith("business"), self._known, self.snapshot)

    def _known(self, name: str) -> bool:
        return name in self._tracks or name in self._listing()

    # REST

    def rest(self, path: str, query: Mapping[str, str]) -> Answer:
        if path == "/api/v5/public/time":
            return _answer([{"ts": str(self.clock() // _NS_PER_MS)}])
        if path == "/api/v5/public/instruments":
            return self._instruments(query)
        if path == "/api/v5/market/candles":
            return self._bars(query)
        return Answer(_encode({"code": "404", "msg": "Not Found", "data": []}), 404)

    def weight(self, path: str, query: Mapping[str, str]) -> int:
        return 2 if path.endswith("/instruments") else 1

    def limited(self, status: int, retry_after_s: int) -> Answer:
        # The venue names no time to wait.
        return Answer(_encode({"code": "50011", "msg": "Too Many Requests", "data": []}), 429)

    def _listing(self) -> Mapping[str, Mapping[str, Any]]:
        if self.instruments is not None and self.instruments is not self._given:
            self._given = self.instruments
            self._list(self.instruments)
        return self._rows

    def _instruments(self, query: Mapping[str, str]) -> Answer:
        kind, family = query.get("instType", ""), query.get("instFamily", query.get("uly", ""))
        if kind not in ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION"):
            return _error("51000", "Parameter instType error")
        if kind == "OPTION" and not family:
            return _error("50015", "Either parameter uly or instFamily is required.")
        rows = [row for row in self._listing().values() if row["instType"] == kind]
        return _answer([row for row in rows if not family or family in (row.get("instFamily"), row.get("uly"))])

    def _bars(self, query: Mapping[str, str]) -> Answer:
        name, bar = query.get("instId", ""), query.get("bar", "1m")
        interval = _BARS.get(bar, bar)
        if not self._known(name):
            return _error("51001", "Instrument ID doesn't exist.")
        if interval not in INTERVALS_MS or (bar not in _BARS and bar[-1] not in "sm"):
            return _error("51000", "Parameter bar error")
        try:
            after, before = (int(query[key]) if key in query else None for key in ("after", "before"))
            limit = min(int(query.get("limit", "100")), 300)
        except ValueError:
            return _error("51000", "Parameter error")
        track, candles = self._tracks.get(name), self._candles.get(name)
        if track is None or candles is None:
            return _answer([])
        now = track.now() // _NS_PER_MS
        # `after`: older than; `before`: newer than.
        since, until = (before + 1 if before is not None else None), (after - 1 if after is not None else None)
        rows = candles.rows(interval, since, until, limit, now)
        spot = name.count("-") == 1
        return _answer(
            [
                [
                    str(row.start), row.open, row.high, row.low, row.close, f"{row.volume:f}",
                    f"{row.notional:f}" if spot else "", f"{row.notional:f}" if spot else "",
                    "1" if row.start + INTERVALS_MS[interval] <= now else "0",
                ]
                for row in reversed(rows)
            ]
        )  # fmt: skip


def _ids(channel: str, name: str, item: _Item) -> list[tuple[str, int]]:
    if channel in _SEQUENCED:
        return [(f"{name} book", number) for number in (item.seqId, item.prevSeqId) if number > 0]
    return [(f"{name} trade", int(item.tradeId))] if item.tradeId.isdecimal() else []


def _moved(data: bytes, channel: str, name: str, lap: Lap) -> bytes:
    """Return `data` with its ids and times as told in `lap`, all other bytes as they were."""

    def numbered(space: str) -> Callable[[re.Match[bytes]], bytes]:
        return lambda match: match[1] + b"%d" % lap.id(f"{name} {space}", int(match[2]))

    data = _TIMES.sub(lambda match: match[1] + b"%d" % (lap.time(int(match[2]) * _NS_PER_MS) // _NS_PER_MS), data)
    data = _TRADES.sub(numbered("trade"), data)
    return _SEQUENCES.sub(numbered("book"), data) if channel in _SEQUENCED else data


def _answer(data: list[Any]) -> Answer:
    return Answer(_encode({"code": "0", "msg": "", "data": data}))


def _error(code: str, text: str) -> Answer:
    return Answer(_encode({"code": code, "msg": text, "data": []}))
