"""Hyperliquid, the venue's side: subscriptions one coin at a time, what they begin with, `/info`.

Documentation: https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api

A subscription is answered by what is newest: the book, the best prices, the context, or the last trades, which come
again after each reconnect. Recorded books serve `fast` subscriptions and others alike, with the levels recorded.
"""

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from feeds.dialects.base import Answer, Conversation, Dialect, Item, Lap, Reading, Refused, Rules, Timeline, noise
from feeds.dialects.klines import INTERVALS_MS, Klines

__all__ = ["HyperliquidDialect"]

_STATES: Final = ("l2Book", "bbo", "activeAssetCtx", "activeSpotAssetCtx")
_CHANNELS: Final = (*_STATES, "trades")
_RECENT: Final = 30
_NS_PER_MS: Final = 1_000_000
_MOVED: Final = re.compile(rb'("(time|tid)"\s*:\s*)(\d+)')
_NOT_JSON: Final = Answer(b"Failed to deserialize the JSON body into the target type", 422)

_encode = msgspec.json.encode


class _Frame(Struct):
    channel: str = ""
    data: Raw = Raw()


class _Trade(Struct):
    coin: str
    side: str
    px: str
    sz: str
    time: int
    tid: int


class _State(Struct):
    coin: str
    time: int | None = None


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_trades = msgspec.json.Decoder(list[_Trade]).decode
_decode_rows = msgspec.json.Decoder(list[Raw]).decode
_decode_state = msgspec.json.Decoder(_State).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode  # Any: whatever a client sent


class HyperliquidDialect(Dialect):
    """See feeds/dialects/base.py."""

    venue = "hyperliquid"
    rules = Rules(messages_per_s=33, streams=1000, ping_s=20, rest_weight=1200)

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self._lists: dict[str, bytes] = {}
        self._tracks: dict[str, Timeline] = {}
        self._newest: dict[str, bytes] = {}
        self._trades: dict[str, deque[Raw]] = {}
        self._candles: dict[str, Klines] = {}

    # recordings

    def read(self, payload: bytes, binary: bool) -> Reading | None:
        try:
            frame = _decode_frame(payload)
            if frame.channel not in _CHANNELS:
                return None
            if frame.channel != "trades":
                state = _decode_state(frame.data)
                return _reading(payload, frame.channel, [state.coin], state.time, [])
            rows = _decode_trades(frame.data)
            coins = list(dict.fromkeys(row.coin for row in rows))
            # The first frame of a connection is history: its newest trade is when it came.
            ts = max((row.time for row in rows), default=None)
            return _reading(payload, "trades", coins, ts, [row.tid for row in rows])
        except (ValueError, RecursionError):
            return noise(payload)

    def add_body(self, resource: str, symbol: str, url: str, data: bytes) -> tuple[tuple[str, int], ...]:
        if resource in ("meta", "spotMeta"):
            self._lists[resource] = bytes(_decode_rows(data)[0]) if data.lstrip()[:1] == b"[" else data
        return ()

    def attach(self, symbols: Sequence[str], timeline: Timeline) -> None:
        self._tracks.update(dict.fromkeys(symbols, timeline))

    def begin(self, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            for channel in _STATES:
                self._newest.pop(f"{channel} {symbol}", None)

    # streams

    def play(self, item: Item, lap: Lap) -> list[bytes]:
        data = item.data if lap.exact else _moved(item.data, lap)
        if item.reading.kind == "trades":
            frame = _decode_frame(data)
            for row, raw in zip(_decode_trades(frame.data), _decode_rows(frame.data), strict=True):
                self._trades.setdefault(row.coin, deque(maxlen=_RECENT)).append(raw.copy())
                candles = self._candles.setdefault(row.coin, Klines())
                candles.add(row.time, row.px, row.sz, row.side == "B", (row.tid, row.tid))
        else:
            self._newest.update(dict.fromkeys(item.reading.topics, data))
        return [data]

    def begins_with(self, topic: str) -> list[bytes]:
        """Return what a new subscription to `topic` is told at once."""
        channel, _, coin = topic.partition(" ")
        if channel == "trades" and coin in self._trades:
            return [_encode({"channel": "trades", "data": list(self._trades[coin])})]
        spot = f"activeSpotAssetCtx {coin}" if channel == "activeAssetCtx" else topic
        return [self._newest[name] for name in dict.fromkeys((topic, spot)) if name in self._newest]

    def conversation(self, path: str, query: Mapping[str, str]) -> Conversation:
        if path != "/ws":
            raise Refused("Not Found", 404)
        return _Conversation(self.begins_with, self.rules.streams)

    # REST

    def rest(self, path: str, query: Mapping[str, str]) -> Answer:
        return Answer(b"", 405)

    def post(self, path: str, body: bytes) -> Answer:
        if path != "/info":
            return Answer(b"", 404)
        try:
            asked = _decode_object(body)
        except ValueError:
            return _NOT_JSON
        kind, coin = asked.get("type"), str(asked.get("coin", ""))
        if kind in ("meta", "spotMeta"):
            return self._listing(kind)
        if kind == "l2Book":
            newest = self._newest.get(f"l2Book {coin}")
            return Answer(bytes(_decode_frame(newest).data)) if newest is not None else Answer(b"null", 500)
        if kind == "recentTrades":
            return Answer(_encode(list(self._trades.get(coin, ()))[::-1]))
        if kind == "candleSnapshot" and isinstance(asked.get("req"), dict):
            return self._candle_snapshot(asked["req"])
        return _NOT_JSON

    def weight(self, path: str, query: Mapping[str, str]) -> int:
        return 20

    def limited(self, status: int, retry_after_s: int) -> Answer:
        return Answer(b"null", 429)

    def _listing(self, kind: str) -> Answer:
        given = self.instruments or b""
        if given and (b'"tokens"' in given) == (kind == "spotMeta"):
            self._lists.setdefault(kind, given)
        # Without a list of spot there is nothing of spot here, and a feed wants both.
        nothing = {"meta": b"", "spotMeta": b'{"universe":[],"tokens":[]}'}
        body = self._lists.get(kind, nothing[kind])
        return Answer(body) if body else Answer(b"null", 500)

    def _candle_snapshot(self, asked: dict[str, Any]) -> Answer:
        coin, interval, since, until = (asked.get(key) for key in ("coin", "interval", "startTime", "endTime"))
        if interval not in INTERVALS_MS or not isinstance(since, int) or not isinstance(until, int | None):
            return _NOT_JSON
        if coin not in self._candles or coin not in self._tracks:
            return Answer(b"[]")
        now = self._tracks[coin].now() // _NS_PER_MS
        rows = self._candles[coin].rows(interval, since, until, 5000, now)
        return Answer(
            _encode(
                [
                    {
                        "t": row.start, "T": row.start + INTERVALS_MS[interval] - 1, "s": coin, "i": interval,
                        "o": row.open, "c": row.close, "h": row.high, "l": row.low,
                        "v": str(row.volume), "n": row.trades,
                    }
                    for row in rows
                ]
            )
        )  # fmt: skip


class _Conversation(Conversation):
    """One socket."""

    def __init__(self, begins_with: Callable[[str], list[bytes]], limit: int) -> None:
        super().__init__()
        self._begins_with, self._limit = begins_with, limit

    def receive(self, message: bytes, binary: bool) -> list[bytes]:
        try:
            request = _decode_object(message)
        except ValueError:
            return [_error("Error parsing JSON into valid websocket request", message)]
        method, wanted = request.get("method"), request.get("subscription")
        if method == "ping":
            return [b'{"channel":"pong"}']
        if method not in ("subscribe", "unsubscribe") or not isinstance(wanted, dict):
            return [_error("Error parsing JSON into valid websocket request", message)]
        channel, coin = wanted.get("type"), wanted.get("coin")
        if channel not in _CHANNELS or not isinstance(coin, str):
            return [_error("Error parsing JSON into valid websocket request", message)]
        return self._carry_out(method, f"{channel} {coin}", wanted)

    def _carry_out(self, method: str, topic: str, wanted: dict[str, Any]) -> list[bytes]:
        if topic.startswith("l2Book"):
            wanted = {"nSigFigs": None, "mantissa": None, **wanted}
        ack = _encode({"channel": "subscriptionResponse", "data": {"method": method, "subscription": wanted}})
        names = _topics(topic)
        if method == "unsubscribe":
            if topic not in self.topics:
                return [_error("Already unsubscribed", _encode(wanted))]
            for name in names:
                self.topics.pop(name, None)
            return [ack]
        if topic in self.topics:
            return [_error("Already subscribed", _encode(wanted))]
        if len(self.topics) >= self._limit:
            return [_error("Cannot track more subscriptions", _encode(wanted))]
        self.topics.update(dict.fromkeys(names))
        return [ack, *self._begins_with(topic)]

    def render(self, topic: str, item: Item, data: bytes) -> bytes:
        return data


def _topics(topic: str) -> list[str]:
    """Return the names of a subscription's frames: contexts of spot come on a channel of their own."""
    channel, _, coin = topic.partition(" ")
    return [topic, f"activeSpotAssetCtx {coin}"] if channel == "activeAssetCtx" else [topic]


def _error(text: str, message: bytes) -> bytes:
    return _encode({"channel": "error", "data": f"{text}: {message.decode(errors='replace')}"})


def _reading(payload: bytes, kind: str, coins: list[str], ms: int | None, tids: list[int]) -> Reading | None:
    if not coins:
        return None
    ids = tuple(("trade", tid) for tid in tids)
    ts_event = ms * _NS_PER_MS if ms is not None else None
    symbol = coins[0] if len(coins) == 1 else ""
    return Reading(tuple(f"{kind} {coin}" for coin in coins), symbol, kind, ts_event, ids, 0, len(payload))


def _moved(data: bytes, lap: Lap) -> bytes:
    """Return `data` with its times and trade ids as told in `lap`, all other bytes as they were."""

    def told(match: re.Match[bytes]) -> bytes:
        number = int(match[3])
        new = lap.id("trade", number) if match[2] == b"tid" else lap.time(number * _NS_PER_MS) // _NS_PER_MS
        return match[1] + b"%d" % new

    return _MOVED.sub(told, data)
