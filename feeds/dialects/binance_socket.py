"""Binance's requests on a socket: what a client may ask, and how it is answered or refused."""

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from feeds.dialects.base import Conversation, Item, Refused

__all__ = ["BinanceConversation", "VenueError"]

METHODS: Final = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_STREAM = re.compile(r"[^\s\"\\/,]{1,100}")
_NS_PER_MS: Final = 1_000_000

_encode = msgspec.json.encode


class VenueError(Exception):
    """What the venue answers to a request that it cannot carry out; `status` for REST."""

    def __init__(self, code: int, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.code, self.text, self.status = code, text, status


class BinanceConversation(Conversation):
    """One socket. `/ws` gives bare payloads, `/stream` wraps them; a request may switch that."""

    def __init__(self, streams: Iterable[str], combined: bool, limit: int) -> None:
        super().__init__()
        self.topics = dict.fromkeys(streams)
        self.combined = combined
        self._limit = limit
        if len(self.topics) > limit:
            raise Refused(f"more than {limit} streams")

    def receive(self, message: bytes, binary: bool) -> list[bytes]:
        try:
            request = msgspec.json.decode(message)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return [_encode({"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"})]
        if not isinstance(request, dict):
            return [_encode({"code": 2, "msg": "Invalid request: expected an object"})]
        number = request.get("id")
        try:
            if not _is_id(number):
                number = None
                raise VenueError(2, "Invalid request: request ID must be an integer, a short string or null")
            return [_encode({"result": self._carry_out(request), "id": number})]
        except VenueError as error:
            return [_encode({"error": {"code": error.code, "msg": error.text}, "id": number})]

    def _carry_out(self, request: dict[str, Any]) -> object:  # Any: whatever a client sent
        method, params = request.get("method"), request.get("params", [])
        if "method" not in request:
            raise VenueError(2, "Invalid request: missing field `method`")
        if method not in METHODS:
            allowed = ", ".join(f"`{name}`" for name in METHODS)
            raise VenueError(2, f"Invalid request: unknown variant `{str(method)[:40]}`, expected one of {allowed}")
        if not isinstance(params, list):
            raise VenueError(2, "Invalid request: streams must be an array")
        if method == "LIST_SUBSCRIPTIONS":
            return list(self.topics)
        if method.endswith("PROPERTY"):
            return self._property(method, params)
        if not all(isinstance(name, str) and _STREAM.fullmatch(name) for name in params):
            raise VenueError(2, "Invalid request: invalid stream name")
        if method == "UNSUBSCRIBE":
            for name in params:
                self.topics.pop(name, None)
        elif len(self.topics.keys() | set(params)) > self._limit:
            raise VenueError(2, f"Invalid request: more than {self._limit} streams on one connection")
        else:
            self.topics.update(dict.fromkeys(params))
        return None

    def _property(self, method: str, params: list[Any]) -> object:
        if len(params) > 2:
            raise VenueError(2, "Invalid request: too many parameters")
        if not params or not isinstance(params[0], str):
            raise VenueError(2, "Invalid request: property name must be a string")
        if params[0] != "combined":
            raise VenueError(0, "Unknown property")
        if method == "GET_PROPERTY":
            return self.combined
        if len(params) < 2 or not isinstance(params[1], bool):
            raise VenueError(1, "Invalid value type: expected Boolean")
        self.combined = params[1]
        return None

    def render(self, topic: str, item: Item, data: bytes) -> bytes:
        if not self.combined:
            return data
        reading = item.reading
        if reading.end - reading.start == len(item.payload):
            return b'{"stream":' + _encode(topic) + b',"data":' + data + b"}"
        return item.payload[: reading.start] + data + item.payload[reading.end :]

    def shutdown(self, ts: int) -> list[bytes]:
        event = {"e": "serverShutdown", "E": ts // _NS_PER_MS}
        return [_encode({"stream": "!serverShutdown", "data": event} if self.combined else event)]


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= 36
    return value is None or (type(value) is int and -(2**63) <= value < 2**63)
