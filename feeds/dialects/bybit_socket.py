"""Bybit's requests on a socket: what a client may ask, and how it is answered or refused."""

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from feeds.dialects.base import Conversation, Item

__all__ = ["BybitConversation"]

_TOPIC: Final = re.compile(r"(publicTrade|tickers|allLiquidation|orderbook\.(1|50|200|1000)|kline\.\w+)\.([\w-]+)")

_encode = msgspec.json.encode


class BybitConversation(Conversation):
    """One socket of one category; `known` tells whether a symbol exists, `snapshot` gives a topic's frame."""

    ARGS_MAX, CHARACTERS_MAX = 10, 21_000

    def __init__(
        self, category: str, known: Callable[[str], bool], snapshot: Callable[[str, str], bytes | None]
    ) -> None:
        super().__init__()
        self._category, self._known, self._snapshot = category, known, snapshot

    def receive(self, message: bytes, binary: bool) -> list[bytes]:
        try:
            request: Any = msgspec.json.decode(message)
            operation, args, name = request["op"], request.get("args", []), request.get("req_id", "")
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
            return [_said(False, "", "", "error:json invalid")]
        if operation == "ping":
            return [_said(True, name, "ping", "pong")]
        if operation not in ("subscribe", "unsubscribe") or not isinstance(args, list):
            return [_said(False, name, str(operation), f"error:unknown op {operation}")]
        bad = self._problem(args)
        if bad is not None:
            return [_said(False, name, operation, bad)]
        topics = {f"{self._category}/{topic}": topic for topic in args}
        if operation == "unsubscribe":
            for topic in topics:
                self.topics.pop(topic, None)
            return [_said(True, name, operation, "")]
        self.topics.update(dict.fromkeys(topics))
        books = (self._snapshot(self._category, topic) for topic in topics.values())
        answer = _said(True, name, operation, "subscribe" if self._category == "spot" else "")
        return [answer, *(book for book in books if book is not None)]

    def _problem(self, args: list[Any]) -> str | None:
        if self._category == "spot" and len(args) > self.ARGS_MAX:
            return f"args size >{self.ARGS_MAX}"
        if sum(map(len, self.topics)) + sum(len(str(topic)) for topic in args) > self.CHARACTERS_MAX:
            return "error:too many args"
        for topic in args:
            match = _TOPIC.fullmatch(str(topic))
            if match is None or not self._known(f"{self._category}/{match[3]}"):
                return f"error:handler not found,topic:{topic}"
        return None

    def render(self, topic: str, item: Item, data: bytes) -> bytes:
        recorded, told = (name.partition("/")[2].encode() for name in (item.reading.topics[0], topic))
        return data if recorded == told else data.replace(b'"%s"' % recorded, b'"%s"' % told, 1)


def _said(success: bool, name: object, operation: str, text: str) -> bytes:
    answer = {"success": success, "ret_msg": text, "conn_id": "2324d924-aa4d-45b0-a858-7b8be29ab52b"}
    return _encode({**answer, **({"req_id": name} if name else {}), "op": operation})
