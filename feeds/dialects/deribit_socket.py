"""Deribit's JSON-RPC on a socket: what a client may ask, and how it is answered or refused."""

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from feeds.dialects.base import Conversation, Item, Refused
from feeds.dialects.deribit_wire import frame_of

if TYPE_CHECKING:
    from feeds.dialects.deribit import DeribitDialect

__all__ = ["DeribitConversation", "VenueError"]

HEARTBEAT_LEAST_S: Final = 10
#: <kind>.<instrument>.<interval>, the grouped book, and what has no interval
_CHANNEL = re.compile(
    r"(?P<kind>book|trades|ticker|perpetual)\.(?P<symbol>[A-Za-z0-9_-]{1,40})\.(?P<interval>raw|100ms|agg2)"
    r"|quote\.(?P<quoted>[A-Za-z0-9_-]{1,40})"
    r"|book\.(?P<grouped>[A-Za-z0-9_-]{1,40})\.(none|\d+)\.(1|10|20)\.(100ms|agg2)"
)

_encode = msgspec.json.encode


class VenueError(Exception):
    """What the venue answers to a request that it cannot carry out."""

    def __init__(self, code: int, text: str, data: object = None) -> None:
        super().__init__(text)
        self.body = {"code": code, "message": text} | ({"data": data} if data is not None else {})


class DeribitConversation(Conversation):
    """One socket. Once it asked for heartbeats, it must answer each test request before the next one."""

    def __init__(self, dialect: "DeribitDialect", limit: int) -> None:
        super().__init__()
        self._dialect, self._limit = dialect, limit
        self._heartbeats = False
        self._untested = 0

    def receive(self, message: bytes, binary: bool) -> list[bytes]:
        number: object = None
        added: list[str] = []
        try:
            request = msgspec.json.decode(message)
            number = request.get("id")
            result = self._carry_out(request.get("method"), request.get("params") or {}, added)
            answer = {"result": result}
        except (msgspec.MsgspecError, UnicodeDecodeError, AttributeError):
            answer = {"error": VenueError(-32700, "Parse error").body}
        except VenueError as error:
            answer = {"error": error.body}
        head = {"jsonrpc": "2.0"} | ({"id": number} if number is not None else {})
        frames = [_encode({**head, **answer, **self._dialect.stamps()})]
        books = (name for name in added if name.startswith("book.") and name.count(".") == 2)
        return frames + [frame for name in books if (frame := self._dialect.snapshot(name)) is not None]

    def _carry_out(self, method: object, params: Any, added: list[str]) -> object:  # Any: whatever a client sent
        if not isinstance(method, str) or not isinstance(params, dict):
            raise VenueError(-32600, "Invalid Request")
        name = method.removeprefix("public/")
        if name in ("subscribe", "unsubscribe"):
            channels = params.get("channels")
            if not isinstance(channels, list) or not all(isinstance(each, str) for each in channels):
                raise VenueError(-32602, "Invalid params", {"reason": "must be an array", "param": "channels"})
            return self._subscribe(channels, added) if name == "subscribe" else self._unsubscribe(channels)
        if name == "unsubscribe_all":
            self.topics.clear()
            return "ok"
        if name == "set_heartbeat":
            return self._set_heartbeat(params.get("interval"))
        if name == "disable_heartbeat":
            self._heartbeats = False
            return "ok"
        if name == "test":
            self._untested = 0
        return self._dialect.call(name, params)

    def _subscribe(self, channels: list[str], added: list[str]) -> list[str]:
        """An instrument that does not exist is no error: it is missing in the answer."""
        known = []
        for name in channels:
            match = _CHANNEL.fullmatch(name)
            if match is None:
                continue
            if match["interval"] == "raw":
                raise VenueError(13778, "raw_subscriptions_not_available_for_unauthorized")
            if self._dialect.known(match["symbol"] or match["quoted"] or match["grouped"]):
                known.append(name)
        if len(self.topics.keys() | set(known)) > self._limit:
            raise VenueError(10040, "max_subscriptions_exceeded")
        added += [name for name in known if name not in self.topics]
        self.topics.update(dict.fromkeys(known))
        return sorted(known, reverse=True)

    def _unsubscribe(self, channels: list[str]) -> list[str]:
        gone = [name for name in channels if name in self.topics]
        for name in gone:
            del self.topics[name]
        return sorted(gone, reverse=True)

    def _set_heartbeat(self, interval: object) -> str:
        if not isinstance(interval, int) or interval < HEARTBEAT_LEAST_S:
            raise VenueError(-32602, "Invalid params", {"reason": "value too small", "param": "interval"})
        self._heartbeats = True
        return "ok"

    def tick(self) -> list[bytes]:
        if not self._heartbeats:
            return []
        if self._untested > 1:
            raise Refused("heartbeat: no answer to test_request", code=1000)
        self._untested += 1
        kinds = ("heartbeat", "test_request")
        return [_encode({"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": kind}}) for kind in kinds]

    def render(self, topic: str, item: Item, data: bytes) -> bytes:
        return frame_of(topic, data)
