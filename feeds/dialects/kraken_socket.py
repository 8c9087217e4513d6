"""Kraken's requests on a socket: what a client may ask, and how it is answered or refused."""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from feeds.dialects.base import Conversation, Item

if TYPE_CHECKING:
    from feeds.dialects.kraken import KrakenDialect

__all__ = ["DEPTHS", "KrakenConversation"]

DEPTHS: Final = (10, 25, 100, 500, 1000)
_CHANNELS: Final = ("book", "trade", "ticker")
_encode = msgspec.json.encode


class KrakenConversation(Conversation):
    """One socket: each symbol of a request is answered on its own, and a refusal closes nothing."""

    def __init__(self, dialect: "KrakenDialect") -> None:
        super().__init__()
        self._dialect = dialect

    def opened(self) -> list[bytes]:
        # A number beyond 2^53, as the venue's are.
        status = {"version": "2.0.10", "system": "online", "api_version": "v2", "connection_id": 15413894943188002760}
        return [_encode({"channel": "status", "type": "update", "data": [status]})]

    def tick(self) -> list[bytes]:
        return [b'{"channel":"heartbeat"}'] if self.topics else []

    def receive(self, message: bytes, binary: bool) -> list[bytes]:
        try:
            request = msgspec.json.decode(message)
            method, params, number = request.get("method"), request.get("params") or {}, request.get("req_id")
            if method == "ping":
                return [self._answer("pong", number, {})]
            if method not in ("subscribe", "unsubscribe"):
                return [self._answer(str(method), number, {"error": "Method not found", "success": False})]
            return self._change(method, params, number)
        except (msgspec.MsgspecError, UnicodeDecodeError, AttributeError, TypeError):
            return [_encode({"error": "Malformed request", "success": False})]

    def _change(self, method: str, params: dict[str, Any], number: object) -> list[bytes]:
        channel, symbols, depth = params.get("channel"), params.get("symbol"), params.get("depth", 10)
        error = None
        if channel not in _CHANNELS:
            error = "Unsupported channel"
        elif not isinstance(symbols, list) or not symbols:
            error = "Malformed request"
        elif channel == "book" and depth not in DEPTHS:
            error = "Subscription depth not supported"
        if error is not None or not isinstance(symbols, list) or not isinstance(channel, str):
            return [self._answer(method, number, {"error": error, "success": False})]
        asked = {"depth": depth} if channel == "book" else {}
        frames: list[bytes] = []
        for symbol in symbols:
            if not self._dialect.known(symbol):
                refusal = {"error": f"Currency pair not supported {symbol}", "success": False, "symbol": symbol}
                frames.append(self._answer(method, number, refusal))
            elif method == "subscribe":
                frames += self._subscribe(channel, symbol, asked, number)
            else:
                frames.append(self._unsubscribe(channel, symbol, asked, number))
        return frames

    def _subscribe(self, channel: str, symbol: str, asked: dict[str, int], number: object) -> list[bytes]:
        self.topics[f"{channel}:{symbol}"] = None
        told = {"depth": self._dialect.depth(symbol, asked["depth"])} if asked else {}
        result = {"channel": channel, **told, "snapshot": channel != "trade", "symbol": symbol}
        frames = [self._answer("subscribe", number, {"result": result, "success": True})]
        snapshot = self._dialect.snapshot(symbol) if channel == "book" else None
        return [*frames, snapshot] if snapshot is not None else frames

    def _unsubscribe(self, channel: str, symbol: str, asked: dict[str, int], number: object) -> bytes:
        if self.topics.pop(f"{channel}:{symbol}", self) is self:
            return self._answer("unsubscribe", number, {"error": "Subscription Not Found", "success": False})
        result = {"channel": channel, **asked, "symbol": symbol}
        return self._answer("unsubscribe", number, {"result": result, "success": True})

    def _answer(self, method: str, number: object, parts: dict[str, object]) -> bytes:
        now = self._dialect.now()
        req_id = {"req_id": number} if number is not None else {}
        return _encode({"method": method, **parts, "time_in": now, "time_out": now, **req_id})

    def render(self, topic: str, item: Item, data: bytes) -> bytes:
        return data
