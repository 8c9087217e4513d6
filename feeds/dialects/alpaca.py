"""Alpaca, the venue's side: log in, subscribe, arrays of items; the list of assets over REST.

Documentation: https://docs.alpaca.markets/docs/streaming-market-data

Frames are told in JSON, or in msgpack where the client's Content-Type says so; recorded msgpack frames are not played.
Any key and secret that are not empty are accepted, once a path at a time: a second connection is refused with 406. A
client gets of each array what it subscribed to. In a lap that is not told as recorded, times and ids of trades move.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from feeds.dialects.base import Answer, Conversation, Dialect, Item, Lap, Reading, Refused, Rules, Timeline, noise
from feeds.rfc3339 import parse_ns

__all__ = ["AlpacaDialect"]

_encode = msgspec.json.encode
_Json = dict[str, Any]  # whatever a client or a recording holds

_CHANNELS: Final = {"t": "trades", "q": "quotes", "o": "orderbooks", "c": "trades", "x": "trades"}
_STOCKS: Final = ("trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses", "lulds")
_CRYPTO: Final = ("trades", "quotes", "orderbooks", "bars", "updatedBars", "dailyBars")
_PATH: Final = re.compile(r"/v2/(iex|sip|delayed_sip|test)|/v1beta3/crypto/(us|us-1|eu-1)")


class AlpacaDialect(Dialect):
    """See feeds/dialects/base.py."""

    venue = "alpaca"
    rules = Rules(messages_per_s=20, streams=10_000, ping_s=10, rest_weight=200)

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self.rows: dict[tuple[str, str], Any] = {}
        """(path, symbol) -> what REST answers of it"""
        self.books: dict[str, tuple[dict[float, float], dict[float, float]]] = {}
        self.places: dict[tuple[str, str], AlpacaConversation] = {}
        """(path, key) -> the one connection that the venue allows it"""

    # recordings

    def read(self, payload: bytes, binary: bool) -> Reading | None:
        if binary:
            return None
        try:
            items = msgspec.json.decode(payload, type=list[_Json])
        except (ValueError, RecursionError):
            return noise(payload)
        data = [item for item in items if item.get("T") in _CHANNELS and isinstance(item.get("S"), str)]
        if not data:
            return None
        topics = tuple(dict.fromkeys(f"{_CHANNELS[item['T']]}:{item['S']}" for item in data))
        times = [ts for item in data if (ts := _time(item)) is not None]
        trades = [item for item in data if item["T"] == "t" and type(item.get("i")) is int]
        ids = tuple((f"{item['S']} trade", item["i"]) for item in trades)
        return Reading(topics, data[0]["S"], "items", max(times, default=None), ids, 0, len(payload))

    def add_body(self, resource: str, symbol: str, url: str, data: bytes) -> tuple[tuple[str, int], ...]:
        if resource in ("snapshots", "bars"):
            answer = msgspec.json.decode(data, type=_Json)
            path = urlsplit(url).path
            self.rows.update({(path, name): said for name, said in answer.get(resource, answer).items()})
        return ()

    def attach(self, symbols: Sequence[str], timeline: Timeline) -> None:
        """Nothing: no answer depends on it."""

    def begin(self, symbols: Sequence[str]) -> None:
        self.books.clear()

    def play(self, item: Item, lap: Lap) -> list[bytes]:
        try:
            items = msgspec.json.decode(item.data, type=list[_Json])
            for each in items:
                if each.get("T") == "o":
                    self._note(each)
            return [item.data if lap.exact else _encode([_moved(each, lap) for each in items])]
        except (ValueError, KeyError, TypeError, RecursionError):
            return [item.data]  # recorded garbage stays what it was

    def _note(self, item: _Json) -> None:
        if item.get("r"):
            self.books[item["S"]] = ({}, {})
        book = self.books.get(item["S"])
        if book is None:
            return
        for side, name in zip(book, "ba", strict=True):
            for level in item[name]:
                if level["s"]:
                    side[level["p"]] = level["s"]
                else:
                    side.pop(level["p"], None)

    def conversation(self, path: str, query: Mapping[str, str]) -> Conversation:
        match = _PATH.fullmatch(path)
        if match is None:
            raise Refused("no such feed", 404)
        return AlpacaConversation(self, path, crypto=match[2] is not None)

    # REST

    def rest(self, path: str, query: Mapping[str, str]) -> Answer:
        resource = path.rpartition("/")[2]
        if resource in ("snapshots", "bars"):
            names = query.get("symbols", "").split(",")
            found = {name: self.rows[path, name] for name in names if (path, name) in self.rows}
            if resource == "bars":
                return Answer(_encode({"bars": found, "next_page_token": None}))
            return Answer(_encode({"snapshots": found} if "crypto" in path else found))
        if path != "/v2/assets":
            return Answer(_encode({"message": "endpoint not found."}), 404)
        if self.instruments is None:
            return Answer(_encode({"message": "no list of assets is recorded"}), 503)
        wanted = query.get("asset_class", "us_equity")
        rows = msgspec.json.decode(self.instruments, type=list[_Json])
        return Answer(_encode([row for row in rows if row.get("class", "us_equity") == wanted]))

    def weight(self, path: str, query: Mapping[str, str]) -> int:
        return 1

    def limited(self, status: int, retry_after_s: int) -> Answer:
        headers = {"Retry-After": str(retry_after_s), "X-RateLimit-Remaining": "0"}
        return Answer(_encode({"message": "too many requests."}), status, headers)


class AlpacaConversation(Conversation):
    """One socket. Topics are `<channel>:<symbol>`; nothing is sent before the login."""

    def __init__(self, dialect: AlpacaDialect, path: str, *, crypto: bool) -> None:
        super().__init__()
        self._dialect, self._path = dialect, path
        self._channels = _CRYPTO if crypto else _STOCKS
        self._place: tuple[str, str] | None = None
        self._refused = ""

    def asked(self, headers: Mapping[str, str]) -> None:
        self.binary = headers.get("content-type") == "application/msgpack"

    def opened(self) -> list[bytes]:
        return [self._control("success", msg="connected")]

    def closed(self) -> None:
        if self._place is not None:
            del self._dialect.places[self._place]

    def tick(self) -> list[bytes]:
        if self._refused:
            raise Refused(self._refused)
        return []

    def receive(self, message: bytes, binary: bool) -> list[bytes]:
        try:
            decode = msgspec.msgpack.decode if self.binary else msgspec.json.decode
            request = decode(message, type=_Json)
        except (ValueError, RecursionError):
            return [self._failure(400, "invalid syntax")]
        action = request.get("action")
        if action == "auth":
            return [self._login(request)]
        if self._place is None:
            return [self._failure(401, "not authenticated")]
        if action not in ("subscribe", "unsubscribe"):
            return [self._failure(400, "invalid syntax")]
        return self._change(request, adds=action == "subscribe")

    def _login(self, request: _Json) -> bytes:
        if self._place is not None:
            return self._failure(403, "already authenticated")
        if not request.get("key") or not request.get("secret"):
            self._refused = "auth failed"
            return self._failure(402, self._refused)
        place = (self._path, str(request["key"]))
        if place in self._dialect.places:
            self._refused = "connection limit exceeded"
            return self._failure(406, self._refused)
        self._place = place
        self._dialect.places[place] = self
        return self._control("success", msg="authenticated")

    def _change(self, request: _Json, *, adds: bool) -> list[bytes]:
        lists = {name: symbols for name, symbols in request.items() if name != "action"}
        if not all(isinstance(names, list) and {*map(type, names)} <= {str} for names in lists.values()):
            return [self._failure(400, "invalid syntax")]
        if not lists.keys() <= set(self._channels):
            return [self._failure(410, "invalid subscribe action for this feed")]
        frames: list[bytes] = []
        for channel, symbols in lists.items():
            for symbol in symbols:
                topic = f"{channel}:{symbol}"
                if not adds:
                    self.topics.pop(topic, None)
                elif topic not in self.topics:
                    self.topics[topic] = None
                    frames += self._book(channel, symbol)
        return [self._state(), *frames]

    def _state(self) -> bytes:
        current: dict[str, list[str]] = defaultdict(list)
        for topic in self.topics:
            channel, _, symbol = topic.partition(":")
            current[channel].append(symbol)
        lists = {channel: current[channel] for channel in self._channels}
        if self._channels is _STOCKS:
            lists |= {"corrections": current["trades"], "cancelErrors": current["trades"]}
        return self._control("subscription", **lists)

    def _book(self, channel: str, symbol: str) -> list[bytes]:
        """Return the full book, where the recording has told one already."""
        book = self._dialect.books.get(symbol) if channel == "orderbooks" else None
        if book is None:
            return []
        sides = {name: [{"p": p, "s": s} for p, s in side.items()] for name, side in zip("ba", book, strict=True)}
        return [self._frame([{"T": "o", "S": symbol, "t": _text(self._dialect.clock()), **sides, "r": True}])]

    def render(self, topic: str, item: Item, data: bytes) -> bytes:
        if len(item.reading.topics) == 1 and not self.binary:
            return data
        items = msgspec.json.decode(data, type=list[_Json])
        return self._frame([each for each in items if f"{_CHANNELS.get(each.get('T', ''))}:{each.get('S')}" == topic])

    def _control(self, kind: str, **fields: Any) -> bytes:
        return self._frame([{"T": kind, **fields}])

    def _failure(self, code: int, text: str) -> bytes:
        return self._control("error", code=code, msg=text)

    def _frame(self, items: list[_Json]) -> bytes:
        return msgspec.msgpack.encode([_stamped(item) for item in items]) if self.binary else _encode(items)


def _stamped(item: _Json) -> _Json:
    """Return an item as msgpack has it: its time is an extension of that format."""
    ts = _time(item)
    if ts is None:
        return item
    seconds, ns = divmod(ts, 1_000_000_000)
    return {**item, "t": msgspec.msgpack.Ext(-1, (ns << 34 | seconds).to_bytes(8, "big"))}


def _time(item: _Json) -> int | None:
    try:
        return parse_ns(item["t"])
    except (KeyError, TypeError, ValueError):
        return None


def _text(ns: int) -> str:
    seconds, rest = divmod(ns, 1_000_000_000)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return whole + (f".{rest:09d}".rstrip("0") if rest else "") + "Z"


def _moved(item: _Json, lap: Lap) -> _Json:
    ts = _time(item)
    told = {**item, "t": _text(lap.time(ts))} if ts is not None else item
    if item.get("T") == "t" and type(item.get("i")) is int:
        told = {**told, "i": lap.id(f"{item['S']} trade", item["i"])}
    return told
