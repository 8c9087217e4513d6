"""Coinbase, the venue's side: Advanced Trade and the Exchange feed on one port, and REST.

Documentation: https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis, https://docs.cdp.coinbase.com/exchange

Both protocols are spoken on the path `/`; a client's requests tell which one it wants. Frames of Advanced Trade get the
number they have on its connection. Who asks for a book that is being played already is sent the whole of it.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from feeds.dialects.base import Answer, Conversation, Dialect, Item, Lap, Reading, Refused, Rules, Timeline, noise
from feeds.dialects.coinbase_wire import ADVANCED, EXCHANGE, ns_of, read_frame, rewrite, text_of, with_number
from feeds.dialects.klines import Klines

__all__ = ["CoinbaseDialect"]

_encode = msgspec.json.encode
_Json = dict[str, Any]  # whatever a client or a recording holds

_ADVANCED_CHANNELS: Final = frozenset(
    {"level2", "market_trades", "ticker", "ticker_batch", "heartbeats", "candles", "status"}
)
_EXCHANGE_CHANNELS: Final = frozenset(
    {"level2", "level2_batch", "matches", "ticker", "ticker_batch", "heartbeat", "status"}
)
#: Granularity, in the words of either API -> interval.
_INTERVALS: Final = {
    "ONE_MINUTE": "1m", "FIVE_MINUTE": "5m", "FIFTEEN_MINUTE": "15m", "THIRTY_MINUTE": "30m", "ONE_HOUR": "1h",
    "TWO_HOUR": "2h", "SIX_HOUR": "6h", "ONE_DAY": "1d",
    "60": "1m", "300": "5m", "900": "15m", "3600": "1h", "21600": "6h", "86400": "1d",
}  # fmt: skip
TRADES_TOLD: Final = 100


class CoinbaseDialect(Dialect):
    """See feeds/dialects/base.py."""

    venue = "coinbase"
    rules = Rules(messages_per_s=8, streams=10_000, ping_s=20, rest_weight=600)

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self.books: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
        self.trades: dict[str, deque[_Json]] = defaultdict(lambda: deque(maxlen=TRADES_TOLD))
        self._tracks: dict[str, Timeline] = {}
        self._candles: dict[str, Klines] = {}
        self._listed: dict[str, _Json] | None = None

    # recordings

    def read(self, payload: bytes, binary: bool) -> Reading | None:
        return noise(payload) if binary else read_frame(payload)

    def add_body(self, resource: str, symbol: str, url: str, data: bytes) -> tuple[tuple[str, int], ...]:
        return ()

    def attach(self, symbols: Sequence[str], timeline: Timeline) -> None:
        self._tracks.update(dict.fromkeys(symbols, timeline))

    def begin(self, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            self.books.pop(symbol, None)

    def play(self, item: Item, lap: Lap) -> list[bytes]:
        reading = item.reading
        data = item.data
        if not reading.kind:
            return [data]
        try:
            data = data if lap.exact else rewrite(data, reading.symbol, lap)
            self._note(reading.kind, msgspec.json.decode(data))
        except (ValueError, KeyError, TypeError, ArithmeticError):
            return [item.data]  # recorded garbage stays what it was
        return [data]

    def _note(self, kind: str, frame: _Json) -> None:
        if kind == "l2_data":
            for event in frame["events"]:
                levels = ((row["side"], row["price_level"], row["new_quantity"]) for row in event["updates"])
                self._set(event["product_id"], event["type"] == "snapshot", levels)
        elif kind == "l2update":
            self._set(frame["product_id"], False, frame["changes"])
        elif kind == "snapshot":
            levels = ((side, *level) for side, name in (("bid", "bids"), ("ask", "asks")) for level in frame[name])
            self._set(frame["product_id"], True, levels)
        elif kind == "market_trades":
            for trade in reversed([trade for event in frame["events"] for trade in event["trades"]]):
                self._traded(trade)
        elif kind == "match":
            self._traded(frame)

    def _set(self, product: str, snapshot: bool, levels: Any) -> None:
        if snapshot:
            self.books[product] = ({}, {})
        book = self.books.get(product)
        if book is None:
            return
        for side, price, size in levels:
            rows = book[0] if side in ("bid", "buy") else book[1]
            if float(size):
                rows[price] = size
            else:
                rows.pop(price, None)

    def _traded(self, trade: _Json) -> None:
        self.trades[trade["product_id"]].append(trade)
        ms = ns_of(trade["time"]) // 1_000_000
        number = int(trade["trade_id"])
        bought = trade["side"].lower() == "sell"  # the maker sold
        candles = self._candles.setdefault(trade["product_id"], Klines())
        candles.add(ms, trade["price"], trade["size"], bought, (number, number))

    def conversation(self, path: str, query: Mapping[str, str]) -> Conversation:
        if path not in ("", "/"):
            raise Refused("no such path", 404)
        return CoinbaseConversation(self)

    def product(self, name: str) -> str | None:
        """Return the product that `name` is sent as, None where there is none."""
        row = self._rows().get(name)
        if row is not None:
            return row.get("alias") or name
        return name if name in self._tracks or not self._rows() else None

    def _rows(self) -> dict[str, _Json]:
        if self._listed is None:
            body = msgspec.json.decode(self.instruments) if self.instruments else []
            rows = body["products"] if isinstance(body, dict) else body
            self._listed = {row.get("product_id") or row["id"]: row for row in rows}
        return self._listed

    # REST

    def rest(self, path: str, query: Mapping[str, str]) -> Answer:
        below = path.removeprefix("/api/v3/brokerage/market").split("/")[1:]
        if below == ["products"]:
            return self._products(query.get("product_type", ""))
        if len(below) == 3 and below[0] == "products" and below[2] == "candles":
            return self._candle_rows(below[1], query, advanced=path.startswith("/api/"))
        return Answer(_encode({"message": "NotFound"}), 404)

    def _products(self, kind: str) -> Answer:
        if self.instruments is None:
            return Answer(_encode({"message": "no list of products is recorded"}), 503)
        if not kind or self.instruments.lstrip()[:1] == b"[":
            return Answer(self.instruments if kind in ("", "SPOT") else _encode({"products": []}))
        rows = [row for row in self._rows().values() if row.get("product_type", "SPOT") == kind]
        return Answer(_encode({"products": rows, "num_products": len(rows)}))

    def _candle_rows(self, product: str, query: Mapping[str, str], *, advanced: bool) -> Answer:
        interval = _INTERVALS.get(query.get("granularity", ""))
        times = [query.get(name, "") for name in ("start", "end")]
        if interval is None or not all(text.isdecimal() for text in times):
            return Answer(_encode({"message": "Unsupported granularity or times"}), 400)
        since, until = (int(text) * 1000 for text in times)
        candles, track = self._candles.get(product), self._tracks.get(product)
        if candles is None or track is None:
            return Answer(_encode({"candles": []} if advanced else []))
        rows = [row for row in candles.rows(interval, since, until, 350, track.now() // 1_000_000) if row.trades]
        rows.reverse()  # newest first, and none where nothing was traded
        if not advanced:
            prices = [(float(row.low), float(row.high), float(row.open), float(row.close)) for row in rows]
            told = [[row.start // 1000, *four, float(row.volume)] for row, four in zip(rows, prices, strict=True)]
            return Answer(_encode(told))
        named = [
            {
                "start": str(row.start // 1000), "low": row.low, "high": row.high, "open": row.open,
                "close": row.close, "volume": str(row.volume),
            }
            for row in rows
        ]  # fmt: skip
        return Answer(_encode({"candles": named}))

    def weight(self, path: str, query: Mapping[str, str]) -> int:
        return 1

    def limited(self, status: int, retry_after_s: int) -> Answer:
        return Answer(_encode({"message": "Public rate limit exceeded"}), status, {"Retry-After": str(retry_after_s)})


class CoinbaseConversation(Conversation):
    """One socket. Topics are `<protocol> <channel> <product>`."""

    def __init__(self, dialect: CoinbaseDialect) -> None:
        super().__init__()
        self._dialect = dialect
        self._number = 0

    def receive(self, message: bytes, binary: bool) -> list[bytes]:
        try:
            request = msgspec.json.decode(message)
        except (ValueError, RecursionError):
            return [_error("Malformed JSON")]
        if not isinstance(request, dict) or request.get("type") not in ("subscribe", "unsubscribe"):
            return [_error("Type has to be either subscribe or unsubscribe")]
        adds = request["type"] == "subscribe"
        products = request.get("product_ids") or []
        if not isinstance(products, list) or not all(isinstance(name, str) for name in products):
            return [_error("product_ids has to be a list of strings")]
        if "channel" in request:
            return self._advanced(request["channel"], products, adds)
        return self._exchange(request.get("channels"), products, adds)

    # Advanced Trade

    def _advanced(self, channel: object, products: list[str], adds: bool) -> list[bytes]:
        if not isinstance(channel, str) or channel not in _ADVANCED_CHANNELS:
            return [_error("authentication failure")]  # what the venue says to an unknown channel
        names = ["heartbeats"] if channel == "heartbeats" else self._known(products)
        if names is None or not names:
            return [_error("invalid product_ids")]
        frames: list[bytes] = []
        for name in names:
            topic = f"{ADVANCED} {channel} {name}"
            if not adds:
                self.topics.pop(topic, None)
            elif topic not in self.topics:
                self.topics[topic] = None
                frames += self._first(channel, name)
        current: dict[str, list[str]] = defaultdict(list)
        for topic in self.topics:
            _, name, product = topic.split(" ")
            current[name].append(product)
        # As the venue does it: the answer comes after the first data.
        return [*frames, self._told("subscriptions", {"subscriptions": current})]

    def _first(self, channel: str, product: str) -> list[bytes]:
        dialect = self._dialect
        if channel == "market_trades" and dialect.trades[product]:
            return [self._told(channel, {"type": "snapshot", "trades": list(reversed(dialect.trades[product]))})]
        book = dialect.books.get(product)
        if channel != "level2" or book is None:
            return []
        at = text_of(dialect.clock(), 6)
        updates = [
            {"side": side, "event_time": at, "price_level": price, "new_quantity": size}
            for side, levels in zip(("bid", "offer"), book, strict=True)
            for price, size in levels.items()
        ]
        return [self._told("l2_data", {"type": "snapshot", "product_id": product, "updates": updates})]

    def _told(self, channel: str, event: _Json) -> bytes:
        number, self._number = self._number, self._number + 1
        at = text_of(self._dialect.clock())
        return _encode({"channel": channel, "timestamp": at, "sequence_num": number, "events": [event]})

    def render(self, topic: str, item: Item, data: bytes) -> bytes:
        if not topic.startswith(ADVANCED):
            return data
        number, self._number = self._number, self._number + 1
        return with_number(data, number)

    # the Exchange feed

    def _exchange(self, channels: object, products: list[str], adds: bool) -> list[bytes]:
        if not isinstance(channels, list) or not channels:
            return [_error("Failed to subscribe", "channels has to be a list")]
        frames: list[bytes] = []
        for channel in channels:
            name, own = (
                (channel.get("name"), channel.get("product_ids")) if isinstance(channel, dict) else (channel, None)
            )
            if not isinstance(name, str) or name not in _EXCHANGE_CHANNELS:
                return [_error("Failed to subscribe", f"{name} is not a valid channel")]
            asked = own or products
            known = self._known(asked)
            if known is None:
                wrong = next(product for product in asked if self._dialect.product(product) is None)
                return [_error("Failed to subscribe", f"{wrong} is not a valid product")]
            for product in known:
                topic = f"{EXCHANGE} {name.removesuffix('_batch')} {product}"
                if not adds:
                    self.topics.pop(topic, None)
                elif topic not in self.topics:
                    self.topics[topic] = None
                    frames += self._snapshot(name, product)
        return [self._subscribed(), *frames]

    def _subscribed(self) -> bytes:
        current: dict[str, list[str]] = defaultdict(list)
        for topic in self.topics:
            _, name, product = topic.split(" ")
            current["level2_50" if name == "level2" else name].append(product)
        rows = [{"name": name, "product_ids": products} for name, products in current.items()]
        return _encode({"type": "subscriptions", "channels": rows})

    def _snapshot(self, channel: str, product: str) -> list[bytes]:
        book = self._dialect.books.get(product)
        if not channel.startswith("level2") or book is None:
            return []
        bids, asks = (list(levels.items()) for levels in book)
        return [_encode({"type": "snapshot", "product_id": product, "bids": bids, "asks": asks})]

    def _known(self, products: list[str]) -> list[str] | None:
        """Return what the venue sends these products as; None where one is unknown to it."""
        found = [self._dialect.product(name) for name in products]
        return None if None in found else [name for name in dict.fromkeys(found) if name is not None]


def _error(message: str, reason: str = "") -> bytes:
    return _encode({"type": "error", "message": message, **({"reason": reason} if reason else {})})
